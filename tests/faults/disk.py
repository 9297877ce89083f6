"""A disk that is full, slow, failing or on a machine whose clock jumps; what was acknowledged is there afterwards.

    python -m tests.faults.disk [ROW ...] [--times N] [--seed S] [--break CHANGE]

`calls`: the N-th system call of the log fails, for N up to a quarter of the times, with ENOSPC, EIO, EINTR and by
stopping short. `sync`: the N-th fdatasync fails. `slow`: each fdatasync takes a second. `clock`: each reading of the
wall clock is an hour or ten years off. `full`: a small file system is filled while the log is killed, then grown.
`start`: it is full when the log opens on a ring with records. `space`: the ring does not fit.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pairec_fast.core.ring import read_segments, verify_segments
from pairec_fast.sink import disk as sink
from tests.faults import kill, native
from tests.faults.command import Row, main

SMALL = 64 << 10  # bytes, the smallest ring
LEFT, BATCHES, BATCH = 20, 70, 2  # records of a dead predecessor; pushes of the life under test
CODES = (errno.ENOSPC, errno.EIO, errno.EINTR, -1)
YEARS = 10 * 365 * 86400.0


def record(life: int, number: int) -> bytes:
    return kill.record(life, 0, number, (0, 1, 15, 16, 17, 200, 900)[number % 7])


@contextlib.contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of `size` at `place`.

    Raises:
        Unavailable: mounting is not permitted.
    """
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", place], capture_output=True).returncode:
        raise native.Unavailable("mounting a tmpfs is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def resize(place: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def fill(place: Path) -> Path:
    """Take all that is left of a file system."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    return filler


def look(segments: Path, told: dict[int, int]) -> Counter[str]:
    """Compare the segments with how many records of each life were acknowledged."""
    totals: Counter[str] = Counter()
    found: dict[int, list[int]] = {life: [] for life in told}
    for payload, _, _ in read_segments(segments):
        parsed = kill.parse(payload)
        if parsed is None or parsed[0] not in found or payload != record(parsed[0], parsed[2]):
            totals["corrupt"] += 1
        else:
            found[parsed[0]].append(parsed[2])
    for life, numbers in found.items():
        totals["acknowledged"] += told[life]
        totals["lost"] += len(set(range(told[life])) - set(numbers))
        totals["duplicated"] += len(numbers) - len(set(numbers))
        totals["out_of_order"] += numbers != sorted(numbers)
    for report in verify_segments(segments):
        totals["open"] += not report["closed"]
        totals["damaged"] += any("no footer" not in error for error in report["errors"])
        totals["abandoned"] += any("no footer" in error for error in report["errors"])
    return totals


def leave_dead(log: ModuleType, place: Path) -> None:
    """A ring and an open segment as a killed process leaves them: LEFT records, half of them flushed."""

    def live() -> None:
        victim = log.Log(place / "segments", place / "ring", capacity=SMALL, sync_seconds=1e6)
        for number in range(LEFT):
            assert victim.push(record(0, number))
            if number == LEFT // 2:
                assert victim.flush(30)
        os.kill(os.getpid(), 9)

    os.waitpid(kill.in_child(live), 0)


def one_life(log: ModuleType, place: Path, answer: mmap.mmap, faults: native.Faults, arm: dict[str, Any]) -> None:
    """In a child: recover, push in many small flushed batches, close, all with a fault on the way."""
    told = memoryview(answer).cast("q")
    before = len(os.listdir("/proc/self/fd"))
    faults.arm(place, **arm)
    options = {"capacity": SMALL, "sync_seconds": 0.0, "rotate_bytes": 4096}
    try:
        victim = log.Log(place / "segments", place / "ring", **options)
    except OSError as error:
        told[1] = error.errno
        assert str(error).count("/") > 1, f"names no file: {error}"
        victim = log.Log(place / "segments", place / "ring", **options)
    for batch in range(BATCHES):
        for number in range(batch * BATCH, (batch + 1) * BATCH):
            while not victim.push(record(1, number)):
                time.sleep(0.001)
            told[0] = number + 1
        told[2] += not victim.flush(30)
        if batch % 8 == 7:
            told[2] += not victim.rotate(30)
    told[2] += not victim.close(30)
    told[3], told[4] = faults.calls(), faults.resynced()
    told[6] = sum(victim.counters()["errors"].values())
    faults.arm(place, 0)
    del victim
    gc.collect()
    told[5] = len(os.listdir("/proc/self/fd")) - before


def cases(arms: list[dict[str, Any]], place: Path, log: ModuleType) -> Counter[str]:
    """One life with each of `arms`, beside the same dead predecessor."""
    faults, totals = native.Faults(), Counter[str]()
    memory = kill.memory_directory()
    scratch = Path(tempfile.mkdtemp(prefix="disk-", dir=memory or place))
    (scratch / "dead").mkdir()
    leave_dead(log, scratch / "dead")
    for arm in arms:
        case = scratch / "case"
        shutil.copytree(scratch / "dead", case)
        answer = mmap.mmap(-1, 4096)
        pid = kill.in_child(lambda case=case, answer=answer, arm=arm: one_life(log, case, answer, faults, arm))
        _, status = os.waitpid(pid, 0)
        told = memoryview(answer).cast("q")
        seen = Counter(
            cases=1, crashed=status != 0, refused_at_start=told[1] != 0, timed_out=told[2], resynced=told[4],
            leaked_fds=told[5], errors_counted=told[6], hit=told[3] >= arm["number"],
        )  # fmt: skip
        log.recover(case / "segments", case / "ring")
        seen += look(case / "segments", {0: LEFT, 1: told[0]})
        totals["calls_max"] = max(totals["calls_max"], told[3])
        if any(seen[name] for name in NEVER):
            print(f"{arm}: {dict(seen)}", file=sys.stderr)
        most = totals["calls_max"]
        totals += seen
        totals["calls_max"] = most
        shutil.rmtree(case)
    shutil.rmtree(scratch)
    return totals


NEVER = ("lost", "duplicated", "corrupt", "out_of_order", "open", "damaged", "crashed", "timed_out", "leaked_fds")
NEVER += ("resynced",)


def calls(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    chosen = [{"number": number, "code": code} for number in range(1, times // 4 + 1) for code in CODES]
    if times < 1200:  # a small dose looks at a sample of the same cases
        full = [{"number": number, "code": code} for number in range(1, 301) for code in CODES]
        chosen = random.Random(seed).sample(full, times)
    return cases(chosen, place, log)


def sync(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    chosen = [{"number": number, "call": "fdatasync"} for number in range(1, times + 1)]
    return cases([*chosen, {"number": 2, "call": "fdatasync", "then": 5}], place, log)


def timed_pushes(victim: Any, life: int, first: int, count: int, rate: float) -> tuple[int, list[float]]:
    """Offer `count` records at `rate` a second. Answers how many were accepted, and how long each push took."""
    accepted, took, began = 0, [], time.perf_counter()
    for number in range(count):
        payload = record(life, first + accepted)
        while time.perf_counter() < began + number / rate:
            time.sleep(0.0005)
        start = time.perf_counter()
        taken = victim.push(payload)
        took.append(time.perf_counter() - start)
        accepted += taken
    return accepted, took


def slow(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """`times` seconds of load that the ring can absorb, without the fault and with it; then more than it can hold."""
    faults, totals = native.Faults(), Counter[str]()
    told: dict[int, int] = {}
    p99 = {}
    for life, delay in ((0, 0), (1, 1_000_000)):
        faults.arm(place, 0, sync_us=delay)
        victim = log.Log(place / "segments", place / "ring", capacity=1 << 20, sync_seconds=0.05)
        count = 500 * times
        told[life], took = timed_pushes(victim, life, 0, count, 500.0)
        p99[life] = sorted(took)[count * 99 // 100] * 1e6
        totals["dropped_early"] += count - told[life]
        if life == 1:
            dropped, offered = victim.counters()["dropped_full"], 20_000
            more, _ = timed_pushes(victim, life, told[life], offered, 1e9)
            told[life] += more
            totals["dropped_full"] = offered - more
            totals["uncounted"] += victim.counters()["dropped_full"] - dropped != offered - more
            totals["oldest_ms"] = round(1e3 * victim.counters()["oldest_unsynced_seconds"])
        faults.arm(place, 0)
        totals["timed_out"] += not victim.close(60)
    totals["push_us_p99_before"], totals["push_us_p99"] = round(p99[0]), round(p99[1])
    # Both are some microseconds, of the interpreter and a busy machine: one that waited for the disk takes a million.
    totals["held_up"] += p99[1] > p99[0] * 1.05 + 5_000
    return totals + look(place / "segments", told)


def clock(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """`times` tenths of a second of load, a segment each 0.1 s; twice, the first time killed."""
    faults, totals, rng = native.Faults(), Counter[str](), random.Random(seed)
    told, seconds = {}, times / 10
    steps = [rng.choice((0.0, 3600.0, -3600.0, YEARS, -YEARS)) for _ in range(1009)]
    for life in range(2):
        answer = mmap.mmap(-1, 4096)

        def live(life: int = life, answer: mmap.mmap = answer) -> None:
            shared = memoryview(answer).cast("q")
            faults.clock(steps)
            options = {"capacity": 1 << 20, "rotate_seconds": 0.1, "sync_seconds": 0.01}
            victim = log.Log(place / "segments", place / "ring", **options)
            deadline, flush_ms = time.monotonic() + seconds, 0.0
            while time.monotonic() < deadline:
                if victim.push(record(life, shared[0])):
                    shared[0] += 1
                start = time.monotonic()
                if shared[0] % 50 == 0:
                    shared[1] += not victim.flush(5)
                    flush_ms = max(flush_ms, 1e3 * (time.monotonic() - start))
                time.sleep(0.001)
            start = time.monotonic()
            shared[2] = victim.counters()["segments_closed"]
            shared[3], shared[4] = faults.clock_reads(), round(flush_ms)
            if life == 0:
                os.kill(os.getpid(), 9)
            shared[1] += not victim.close(5)

        _, status = os.waitpid(kill.in_child(live), 0)
        totals["crashed"] += life == 1 and status != 0
        shared = memoryview(answer).cast("q")
        told[life] = shared[0]
        totals["timed_out"] += shared[1]
        totals["clock_reads"] += shared[3]
        totals["flush_ms_max"] = max(totals["flush_ms_max"], shared[4])
        totals["segments"] += shared[2]
        # One each 0.1 s and a fdatasync later. A busy machine makes it fewer, a clock that is believed many or none.
        totals["wrong_rotation"] += not times * 0.15 <= shared[2] <= times * 1.1 + 1
    return totals + look(place / "segments", told)


def full(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """Kill `times` lives on a file system of 4 MB; every few of them it grows and everything must be there."""
    rng, totals, first = random.Random(seed), Counter[str](), 0
    oracle, saw_full = mmap.mmap(-1, 8 * kill.THREADS * times), mmap.mmap(-1, times)
    ring = Path(tempfile.mkdtemp(prefix="full-", dir=kill.memory_directory() or place)) / "ring"
    with mounted(place / "mount", "4m") as mount:
        (mount / "segments").mkdir()
        for life in range(times):
            options = kill.settings(rng, "small")

            def live(life: int = life, options: dict[str, Any] = options) -> None:
                while True:
                    try:
                        victim = log.Log(mount / "segments", ring, **options)
                        break
                    except OSError as error:  # what was left cannot be written yet, and stays where it is
                        if error.errno != errno.ENOSPC:
                            raise
                        saw_full[life] = 1
                        time.sleep(0.01)
                for thread in range(kill.THREADS):
                    arguments = (victim, oracle, life, thread, life * 2 + thread)
                    threading.Thread(target=kill.push_for_ever, args=arguments, daemon=True).start()
                while True:
                    time.sleep(0.005)
                    saw_full[life] |= victim.counters()["errors"].get("ENOSPC", 0) > 0

            kill.kill_after(kill.in_child(live), rng.uniform(0.05, 0.4))
            totals["kills"] += 1
            if rng.random() < 0.2 or life + 1 == times:
                resize(mount, "512m")
                log.recover(mount / "segments", ring)
                totals += kill.check(mount / "segments", oracle, range(first, life + 1))
                first = life + 1
                resize(mount, "4m")
    shutil.rmtree(ring.parent)
    totals["lives_that_met_a_full_disk"] = sum(saw_full[:])
    return totals


def start(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """Open on a full disk beside a ring with records: it serves on another ring, and the records stay in theirs."""
    totals: Counter[str] = Counter()
    with mounted(place / "mount", "1m") as mount:
        rings = mounted_rings = place / "rings"
        rings.mkdir()
        leave_dead(log, place)
        (place / "ring").rename(mounted_rings / "0.ring")
        shutil.copytree(place / "segments", mount / "segments")
        before = (rings / "0.ring").read_bytes()
        filler = fill(mount)
        options = {"ring_bytes": SMALL, "segment_bytes": 1 << 20, "segment_seconds": 60.0, "sync_seconds": 0.0}
        victim = sink.open_log(mount / "segments", rings, free_bytes_min=0, **options)
        totals["truncated"] += (rings / "0.ring").read_bytes() != before
        accepted = 0
        while accepted < 50 and victim.push(record(1, accepted)):
            accepted += 1
        totals["flushed_on_a_full_disk"] += victim.flush(0.3)
        totals["errors_counted"] = victim.counters()["errors"].get("ENOSPC", 0)
        filler.unlink()
        totals["timed_out"] += not victim.close(30)
        sink.recover_all(mount / "segments", rings)
        totals += look(mount / "segments", {0: LEFT, 1: accepted})
        totals["served"] = accepted
    return totals


def space(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """A ring of 64 MiB on 16 MB says what it needs and what there is, and leaves nothing behind."""
    totals: Counter[str] = Counter()
    with mounted(place / "mount", "16m") as mount:
        for _ in range(times):
            try:
                log.Log(place / "segments", mount / "ring", capacity=64 << 20)
            except OSError as error:
                totals["refused"] += 1
                text = str(error)
                totals["unclear"] += "needs 67112960 bytes, " not in text or " available" not in text
                totals["unclear"] += error.errno != errno.ENOSPC
            totals["left_behind"] += sum(file.stat().st_size for file in mount.iterdir())
        with log.Log(place / "segments", mount / "ring", capacity=8 << 20) as victim:
            totals["served"] += victim.push(b"fits")
    return totals


ROWS = {
    "calls": Row(calls, 1200, NEVER, ("acknowledged", "hit", "refused_at_start"), inside=True),
    "sync": Row(sync, 50, NEVER, ("acknowledged", "hit", "abandoned", "errors_counted"), inside=True),
    "slow": Row(
        slow, 10, (*NEVER, "held_up", "uncounted", "dropped_early"), ("acknowledged", "dropped_full"), inside=True
    ),
    "clock": Row(clock, 30, (*NEVER, "wrong_rotation"), ("acknowledged", "clock_reads", "segments"), inside=True),
    "full": Row(
        full,
        60,
        ("lost", "duplicated", "corrupt", "out_of_order", "quarantined"),
        ("acknowledged", "lives_that_met_a_full_disk"),
    ),
    "start": Row(start, 1, (*NEVER, "truncated", "flushed_on_a_full_disk"), ("served", "errors_counted")),
    "space": Row(space, 10, ("unclear", "left_behind"), ("refused", "served")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.disk", __doc__ or "", ROWS))
