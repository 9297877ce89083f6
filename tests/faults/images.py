"""Damage rings and segments: reading them ends, says so, costs what was hit, and never yields what was not pushed.

    python -m tests.faults.images [ring] [flips] [cuts] [spoiled] [--times N] [--seed S] [--break CHANGE]

`ring`: the image of a killed process's ring gets flipped bits, zeroed sectors, overwritten pages, copied or shifted
pieces, another head or tail, or an end, and is recovered. `flips`: one bit of a segment. `cuts`: a segment ends early,
closed or still open. `spoiled`: a segment gets the damage of `ring`, and is also repaired.
"""

from __future__ import annotations

import random
import shutil
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType

from pairec_fast.core.ring import read_segments, verify_segments
from tests.faults import kill
from tests.faults.command import Row, main
from tests.logs import die_after

SMALL = 64 << 10
PAGE, ALIGN, HEADER = 4096, 16, 16  # of a ring: its first page, a record's places and header
TAIL, HEAD = 64, 128  # where the first page has them
PUSHED = 460


def record(number: int) -> bytes:
    return kill.record(1, 0, number, number * 7 % 900)


def damaged(rng: random.Random, image: bytes) -> tuple[bytes, list[tuple[int, int]]]:
    """The image with one to four wounds, and the ranges they may have changed."""
    data, ranges = bytearray(image), []

    def put(at: int, piece: bytes) -> None:
        piece = piece[: len(data) - at]
        data[at : at + len(piece)] = piece
        ranges.append((at, at + len(piece)))

    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data))
        if rng.random() < 0.2:
            at = rng.randrange(min(512, len(data)))
        sector = at // 512 * 512
        match rng.randrange(8):
            case 0 | 1:
                put(at, bytes([data[at] ^ 1 << rng.randrange(8)]))
            case 2:
                put(sector, bytes(512))
            case 3:
                put(at // PAGE * PAGE, rng.randbytes(PAGE))
            case 4:
                put(at, rng.randbytes(rng.choice((1, 8, 16, 100))))
            case 5:
                source, size = rng.randrange(len(data)), rng.choice((16, 80, 512, 4096))
                put(at, bytes(data[source : source + size]))
            case 6:
                where, moved = rng.choice((TAIL, HEAD)), rng.choice((16, -16, 160, 4096, -4096, SMALL, 7, 1 << 40))
                value = struct.unpack_from("<Q", data, where)[0] if len(data) >= where + 8 else 0
                put(where, struct.pack("<Q", (value + moved) % (1 << 64)))
            case 7 if rng.random() < 0.3:
                ranges.append((at, len(data)))
                del data[at:]
                data = data or bytearray(1)
    return bytes(data), ranges


def touched(ranges: list[tuple[int, int]], begin: int, end: int) -> bool:
    return any(low < end and begin < high for low, high in ranges)


def numbers(segments: Path, totals: Counter[str]) -> list[int]:
    """Of the records that can be read; what was never pushed is counted."""
    found = []
    for payload, _, _ in read_segments(segments):
        parsed = kill.parse(payload)
        if parsed is None or parsed[2] >= PUSHED or payload != record(parsed[2]):
            totals["wrong"] += 1
        else:
            found.append(parsed[2])
    totals["duplicated"] += len(found) - len(set(found))
    return found


def ring(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    scratch = Path(tempfile.mkdtemp(prefix="images-", dir=kill.memory_directory() or place))
    path, segments = scratch / "ring", scratch / "segments"

    def live() -> object:
        victim = log.Log(segments, path, capacity=SMALL, sync_seconds=1e6)
        for number in range(PUSHED):
            while not victim.push(record(number)):
                assert victim.flush(30)
            if number == 400:
                assert victim.flush(30)
        return victim

    die_after(live)
    image, held = path.read_bytes(), []  # what the ring holds: number -> its bytes in the file
    positions = {position: payload for payload, _, position in read_segments(segments)}
    assert log.recover(segments, path)["state"] == "recovered"
    for payload, _, position in read_segments(segments):
        if position not in positions or position >= struct.unpack_from("<Q", image, HEAD)[0]:
            at = PAGE + position % SMALL
            held.append((kill.HEAD.unpack_from(payload)[2], at, at + HEADER + len(payload)))
    shutil.rmtree(segments)  # the ring alone must answer
    totals: Counter[str] = Counter(held=len(held))
    for case in range(times):
        rng = random.Random(seed * 1_000_003 + case)
        data, ranges = damaged(rng, image)
        path.write_bytes(data)
        before = totals["wrong"] + totals["duplicated"] + totals["collateral"] + totals["unsound"]
        answer = log.recover(segments, path)
        totals["images"] += 1
        totals["quarantined"] += answer["state"] == "quarantined"
        found = numbers(segments, totals) if segments.is_dir() else []
        totals["out_of_order"] += found != sorted(found)
        totals["recovered"] += len(found)
        totals["harmed"] += len(found) < len(held)
        if not touched(ranges, 0, PAGE):  # whatever is not hit must be there
            spared = {number for number, begin, end in held if not touched(ranges, begin, end)}
            totals["spared"] += len(spared)
            totals["collateral"] += len(spared - set(found))
        if segments.is_dir():
            reports = verify_segments(segments)
            totals["unsound"] += any(report["errors"] or not report["closed"] for report in reports)
            shutil.rmtree(segments)
        path.with_suffix(".corrupt").unlink(missing_ok=True)
        path.with_suffix(".ring.corrupt").unlink(missing_ok=True)
        if totals["wrong"] + totals["duplicated"] + totals["collateral"] + totals["unsound"] > before:
            print(f"case {case} of seed {seed}: {ranges}, {answer}", file=sys.stderr)
    shutil.rmtree(scratch)
    return totals


class Segment:
    """A sound segment of eight blocks, in a folder of its own."""

    def __init__(self, log: ModuleType, place: Path) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="images-", dir=kill.memory_directory() or place))
        self.folder = self.scratch / "segments"
        with log.Log(self.folder, self.scratch / "ring", capacity=1 << 20) as victim:
            for number in range(PUSHED):
                assert victim.push(record(number))
                if number % 60 == 59:
                    assert victim.flush(30)
        (self.path,) = self.folder.iterdir()
        self.image = self.path.read_bytes()
        self.spans = []  # begin and end of each record in the file, by number
        for number in range(PUSHED):
            at = self.image.index(record(number))
            self.spans.append((at - HEADER, at + len(record(number))))
        self.path.unlink()


def flips(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """Every bit is worth a word, and costs at most the record it lies in."""
    segment, totals, rng = Segment(log, place), Counter[str](), random.Random(seed)
    for _ in range(times):
        data, bit = bytearray(segment.image), rng.randrange(8 * len(segment.image))
        if rng.random() < 0.2:  # headers and footer are a small part of the file and the greater danger
            edges = [*range(64 + 80), *range(len(data) - 64, len(data))]
            bit = 8 * rng.choice(edges) + rng.randrange(8)
        data[bit // 8] ^= 1 << bit % 8
        segment.path.write_bytes(data)
        found = numbers(segment.folder, totals)
        (report,) = verify_segments(segment.folder)
        lost = set(range(PUSHED)) - set(found)
        hit = {number for number, (begin, end) in enumerate(segment.spans) if begin <= bit // 8 < end}
        totals["flips"] += 1
        totals["unnoticed"] += not report["errors"]
        totals["collateral"] += len(lost - hit)
        totals["lost_by_the_flip"] += len(lost & hit)
        totals["out_of_order"] += found != sorted(found)
        if not report["errors"] or lost - hit:
            print(f"bit {bit} of {len(data)} bytes: lost {sorted(lost)}, {report['errors']}", file=sys.stderr)
    shutil.rmtree(segment.scratch)
    return totals


def cuts(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """All before the cut is read; a closed segment says it is cut, an open one is closed by the next owner."""
    segment, totals, rng = Segment(log, place), Counter[str](), random.Random(seed)
    for case in range(times):
        length = rng.randrange(len(segment.image))
        path = segment.path.with_suffix(".open") if case % 3 == 0 else segment.path
        path.write_bytes(segment.image[:length])
        found = numbers(segment.folder, totals)
        whole = [number for number, (_, end) in enumerate(segment.spans) if end <= length]
        (report,) = verify_segments(segment.folder)
        totals["cuts"] += 1
        totals["lost_before_the_cut"] += found != whole
        totals["read"] += len(found)
        if path.suffix == ".seg":
            totals["unnoticed"] += not report["errors"]
        else:
            with log.Log(segment.folder, segment.scratch / "other", capacity=SMALL):
                totals["left_open"] += len(list(segment.folder.glob("*.open")))
            # A repair keeps whole blocks; what lay behind them is in the ring, or was never called synced.
            kept = numbers(segment.folder, totals)
            blocks = [number for number in whole if number < len(whole) // 60 * 60]
            totals["lost_by_repair"] += not set(blocks) <= set(kept) <= set(found)
            totals["unsound"] += any(report["errors"] for report in verify_segments(segment.folder))
        for left in segment.folder.iterdir():
            left.unlink()
    shutil.rmtree(segment.scratch)
    return totals


def spoiled(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    segment, totals = Segment(log, place), Counter[str]()
    for case in range(times):
        data, ranges = damaged(random.Random(seed * 1_000_003 + case), segment.image)
        path = segment.path.with_suffix(".open") if case % 3 == 0 else segment.path
        path.write_bytes(data)
        found = numbers(segment.folder, totals)
        spared = {number for number, (begin, end) in enumerate(segment.spans) if not touched(ranges, begin, end)}
        (report,) = verify_segments(segment.folder)
        totals["images"] += 1
        totals["recovered"] += len(found)
        totals["harmed"] += len(found) < PUSHED
        quiet = not report["errors"] and not report["torn_bytes"]
        totals["unnoticed"] += quiet and len(found) < PUSHED
        if len(spared - set(found)) and not touched(ranges, 0, 64):
            totals["collateral_images"] += 1
            totals["collateral"] += len(spared - set(found))
            print(f"case {case} of seed {seed}: {ranges}, {sorted(spared - set(found))[:9]}", file=sys.stderr)
        if path.suffix == ".open":
            with log.Log(segment.folder, segment.scratch / "other", capacity=SMALL):
                totals["left_open"] += len(list(segment.folder.glob("*.open")))
            totals["grown_by_repair"] += not set(numbers(segment.folder, totals)) <= set(found)
        for left in segment.folder.iterdir():
            left.unlink()
    shutil.rmtree(segment.scratch)
    return totals


ROWS = {
    "ring": Row(
        ring,
        3000,
        ("wrong", "duplicated", "out_of_order", "collateral", "unsound"),
        ("images", "held", "recovered", "harmed", "spared", "quarantined"),
    ),
    "flips": Row(
        flips, 2000, ("wrong", "duplicated", "out_of_order", "unnoticed", "collateral"), ("flips", "lost_by_the_flip")
    ),
    "cuts": Row(
        cuts,
        1000,
        ("wrong", "duplicated", "lost_before_the_cut", "unnoticed", "left_open", "lost_by_repair", "unsound"),
        ("cuts", "read"),
    ),
    "spoiled": Row(
        spoiled,
        1000,
        ("wrong", "duplicated", "unnoticed", "left_open", "grown_by_repair", "collateral"),
        ("images", "recovered", "harmed"),
    ),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.images", __doc__ or "", ROWS))
