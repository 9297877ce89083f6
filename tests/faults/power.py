"""Cut the power at any moment of a log's life: nothing it called synced is missing, and no record is invented.

    python -m tests.faults.power [memory] [disk] [--times 3000] [--seed 7] [--break CHANGE]

faultfs records what a log does to its files, over lives that are killed, until the last one closes. A disk after a
power loss is then made up: of what was not covered by an fdatasync or an fsync of its directory, any pieces of 512
bytes, in any order, and any creations, renames and removals are there or are not. The ring was in memory and is gone,
or on the disk, each of its pages from any moment since the ring was made, or never written.
"""

from __future__ import annotations

import bisect
import mmap
import os
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from pairec_fast.core.ring import Log, read_segments, recover, verify_segments
from tests.faults import kill, native
from tests.faults.command import Row, main

EVENT = struct.Struct("<IiqII")  # of faultfs: kind, descriptor, value, bytes that follow, and more of them
PAGE, PIECE = 4096, 512
SMALL = 64 << 10
LIVES = 6


def record(life: int, number: int) -> bytes:
    return kill.record(life, 0, number, (0, 17, 200, 900, 1, 2500, 16)[number % 7])


# The life that is recorded


def live(log: ModuleType, place: Path, life: int, seed: int, faults: native.Faults, pushed: mmap.mmap) -> None:
    """Push, flush and rotate at random, and die or close; each flush that answered True is noted with its extent."""
    rng = random.Random(seed)
    told = memoryview(pushed).cast("q")
    ring = place / "ring"
    faults.note("X", life)
    victim = log.Log(
        place / "deep" / "segments", ring, capacity=SMALL, rotate_bytes=rng.choice((1 << 13, 1 << 16)),
        sync_seconds=rng.choice((0.0, 0.001, 1e6)),
    )  # fmt: skip
    for _ in range(rng.randrange(4, 16)):
        for _ in range(rng.randrange(1, 30)):
            if not victim.push(record(life, told[life])):
                time.sleep(0.001)
                continue
            told[life] += 1
            if rng.random() < 0.1:
                faults.note("G", ring.stat().st_ino, ring.read_bytes())
        count = told[life]
        kind = rng.randrange(3)
        if (kind == 0 and victim.flush(30)) or (kind == 1 and victim.rotate(30)):
            faults.note("M", life << 32 | count)
        if rng.random() < 0.3:
            faults.note("G", ring.stat().st_ino, ring.read_bytes())
    if life + 1 < LIVES:
        os.kill(os.getpid(), 9)
    assert victim.close(30)
    faults.note("M", life << 32 | told[life])


def trace(log: ModuleType, place: Path, seed: int) -> tuple[list[tuple[str, int, int, bytes, bytes]], list[int]]:
    """The events of LIVES lives, and how many records each pushed. In a process with faultfs."""
    faults, pushed = native.Faults(), mmap.mmap(-1, 8 * LIVES)
    victim_place = place / "life"
    victim_place.mkdir()
    with (place / "trace").open("wb", buffering=0) as file:
        faults.arm(victim_place, 0)
        faults.trace(file.fileno())
        for life in range(LIVES):
            pid = kill.in_child(lambda life=life: live(log, victim_place, life, seed * LIVES + life, faults, pushed))
            _, status = os.waitpid(pid, 0)
            if os.WIFEXITED(status) and (status or life + 1 < LIVES):
                raise RuntimeError(f"life {life} of seed {seed} ended by itself with {status}")
        faults.trace(-1)
        faults.arm(Path("/nowhere"), 0)
    data, events, at = (place / "trace").read_bytes(), [], 0
    while at < len(data):
        kind, descriptor, value, first, second = EVENT.unpack_from(data, at)
        at += EVENT.size + first + second
        middle = at - second
        events.append((chr(kind), descriptor, value, data[middle - first : middle], data[middle:at]))
    shutil.rmtree(victim_place)
    return events, list(memoryview(pushed).cast("q"))


# The disk that forgets


@dataclass
class File:
    """What fdatasync covered, and what came after."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, bytes), or (length, None): cut
    pages: list[bytes] = field(default_factory=list)  # of a ring: what its mapping held at some moments

    def sync(self) -> None:
        for offset, data in self.pending:
            self.apply(self.durable, offset, data)
        self.pending.clear()

    @staticmethod
    def apply(content: bytearray, offset: int, data: bytes | None) -> None:
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
            return
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def after_loss(self, rng: random.Random) -> bytes:
        content = bytearray(self.durable)
        if self.pages:
            content = bytearray(rng.choice((0, PAGE, PAGE + SMALL)))
            share = rng.choice((0.0, 0.1, 0.5, 1.0))
            newest = rng.random() < 0.5  # most pages as they were last
            for at in range(0, len(content), PAGE):
                if rng.random() < share or at == 0:
                    version = self.pages[-1] if newest and rng.random() < 0.9 else rng.choice(self.pages)
                    content[at : at + PAGE] = version[at : at + PAGE].ljust(PAGE, b"\0")
        share, pieces = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)), []
        for offset, data in self.pending:
            if data is None:
                pieces.append((offset, data))
                continue
            at = offset
            while at < offset + len(data):
                end = min(at // PIECE * PIECE + PIECE, offset + len(data))
                pieces.append((at, data[at - offset : end - offset]))
                at = end
        # Order only matters between a cut and what was written before or after it.
        if rng.random() < 0.5:
            rng.shuffle(pieces)
        for offset, data in pieces:
            if rng.random() < share:
                self.apply(content, offset, data)
        return bytes(content)


class Disk:
    """Directories and files as the events make them; directories keep what they were at their last fsync."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.now: dict[bytes, File | None] = {root: None}  # None: a directory
        self.durable: dict[bytes, File | None] = {root: None}
        self.pending: list[list[tuple[bytes, bool, File | None]]] = []  # an operation: names that come or go, at once
        self.open: dict[int, bytes | File] = {}
        self.synced: dict[int, int] = {}  # life -> records it was told are on the disk

    def do(self, event: tuple[str, int, int, bytes, bytes]) -> None:
        kind, descriptor, value, first, second = event
        match kind:
            case "X":
                self.open.clear()
            case "O":
                if first not in self.now:
                    self.change([(first, True, File())])
                file = self.now[first]
                self.open[descriptor] = first if file is None else file
            case "C":
                self.open.pop(descriptor, None)
            case "W" | "T":
                file = self.open[descriptor]
                assert isinstance(file, File)
                file.pending.append((value, first if kind == "W" else None))
            case "S":
                file = self.open[descriptor]
                if isinstance(file, File):
                    file.sync()
                else:
                    self.sync_directory(file)
            case "R":
                self.change([(first, False, None), (second, True, self.now[first])])
            case "L":
                self.change([(second, True, self.now[first])])
            case "U":
                self.change([(first, False, None)])
            case "K":
                self.change([(first, True, None)])
            case "M":
                self.synced[value >> 32] = value & 0xFFFFFFFF
            case "G":
                ring = self.now[self.root + b"/ring"]
                assert ring is not None
                ring.pages.append(first)

    def change(self, operation: list[tuple[bytes, bool, File | None]]) -> None:
        self.apply(self.now, operation)
        self.pending.append(operation)

    @staticmethod
    def apply(names: dict[bytes, File | None], operation: list[tuple[bytes, bool, File | None]]) -> None:
        for path, comes, file in operation:
            if comes:
                names[path] = file
            else:
                names.pop(path, None)

    def sync_directory(self, directory: bytes) -> None:
        mine = [operation for operation in self.pending if os.path.dirname(operation[0][0]) == directory]
        for operation in mine:
            self.apply(self.durable, operation)
        self.pending = [operation for operation in self.pending if operation not in mine]

    def after_loss(self, rng: random.Random, place: Path, with_ring: bool) -> None:
        """Write what is left into `place`, which is the root."""
        names, share = dict(self.durable), rng.choice((0.0, 0.5, 1.0))
        for operation in self.pending:
            if rng.random() < share:
                self.apply(names, operation)
        for path in sorted(names):
            file, target = names[path], place / os.fsdecode(path[len(self.root) :].lstrip(b"/"))
            if not target.parent.is_dir() or (not with_ring and target.name.startswith("ring")):
                continue  # its directory is gone
            if file is None:
                target.mkdir(exist_ok=True)
            else:
                target.write_bytes(file.after_loss(rng))


# The comparison


def look(place: Path, synced: dict[int, int], pushed: list[int]) -> Counter[str]:
    """Recover what is left, by opening a log or without one, and compare."""
    totals: Counter[str] = Counter(images=1)
    segments, ring = place / "deep" / "segments", place / "ring"
    if sum(synced.values()) % 2 or not ring.exists():
        with Log(segments, ring, capacity=SMALL) as log:
            answer = log.recovered
    else:
        answer = recover(segments, ring)
    totals["recovered"] += answer["records"]
    totals["quarantined"] += answer["quarantined"]
    totals["not_clean"] += ring.exists() and recover(segments, ring)["state"] not in ("clean", "absent")
    found: list[list[int]] = [[] for _ in pushed]
    for payload, _, _ in read_segments(segments):
        parsed = kill.parse(payload)
        if parsed is None or parsed[2] >= pushed[parsed[0]] or payload != record(parsed[0], parsed[2]):
            totals["wrong"] += 1
        else:
            found[parsed[0]].append(parsed[2])
    for life, numbers in enumerate(found):
        told = synced.get(life, 0)
        totals["synced"] += told
        totals["lost"] += len(set(range(told)) - set(numbers))
        totals["duplicated"] += len(numbers) - len(set(numbers))
        # What was not synced may have a hole in a segment that the ring fills later: that is no promise.
        kept = [number for number in numbers if number < told]
        totals["out_of_order"] += kept != sorted(kept)
        totals["late"] += numbers != sorted(numbers)
        totals["beyond_synced"] += len(set(numbers) - set(range(told)))
    totals["open"] += sum(not report["closed"] for report in verify_segments(segments))
    return totals


def run(times: int, seed: int, place: Path, log: ModuleType, with_ring: bool) -> Counter[str]:
    totals: Counter[str] = Counter()
    scratch = Path(tempfile.mkdtemp(prefix="power-", dir=kill.memory_directory() or place))
    each = 150  # images of one recorded history
    for number in range(0, times, each):
        history_seed = seed + number
        events, pushed = trace(log, scratch, history_seed)
        rng = random.Random(history_seed)
        cuts = sorted(rng.randrange(1, len(events) + 1) for _ in range(min(each, times - number)))
        disk = Disk(os.fsencode(scratch / "life"))
        totals["events"] += len(events)
        for done, event in enumerate(events, 1):
            disk.do(event)
            for _ in range(bisect.bisect_right(cuts, done) - bisect.bisect_left(cuts, done)):
                image = scratch / "image"
                image.mkdir()
                disk.after_loss(rng, image, with_ring)
                seen = look(image, disk.synced, pushed)
                if any(seen[name] for name in NEVER):
                    print(f"seed {history_seed}, event {done} {event[:3]}: {dict(seen)}", file=sys.stderr)
                totals += seen
                shutil.rmtree(image)
    shutil.rmtree(scratch)
    return totals


def memory(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    return run(times, seed, place, log, with_ring=False)


def disk(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    return run(times, seed, place, log, with_ring=True)


NEVER = ("lost", "wrong", "duplicated", "out_of_order", "open", "not_clean")
ROWS = {
    "memory": Row(memory, 1500, NEVER, ("images", "synced", "beyond_synced"), inside=True),
    "disk": Row(disk, 1500, NEVER, ("images", "synced", "recovered", "beyond_synced"), inside=True),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.power", __doc__ or "", ROWS))
