"""Kill a process that pushes, many times, and compare what it was told with what the segments hold.

    python -m tests.faults.kill --times 1000 [--seed 7] [--directory /var/tmp] [--break catch-up]

In four equal parts: a small ring of changing size in memory (it wraps); one of 16 MiB; one on the disk of the segments;
and one whose segments never see fdatasync but for their size. With `--break` the log has a bug: this must exit 1.

A child pushes from two threads. After `push` has answered True it writes the record's number into memory shared with
the parent. The parent kills it at a random time, also while it recovers, and now and then kills a process that runs
`recover`; then the next child, or `recover`, takes the ring over. Every few kills all segments are read.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import ModuleType

from pairec_fast.core import ring as sound
from pairec_fast.core.checksum import crc32c
from pairec_fast.core.ring import Log, read_segments, verify_segments
from tests.faults import native

THREADS = 2
VARIANTS = ("small", "large", "disk", "unsynced")
HEAD = struct.Struct("<IIIII")  # life, thread, number, bytes that follow, their checksum
FILLER = random.Random(0).randbytes(1 << 16)


def record(life: int, thread: int, number: int, size: int) -> bytes:
    start = (life * 31 + thread * 17 + number * 7) % (len(FILLER) - size)
    body = FILLER[start : start + size]
    return HEAD.pack(life, thread, number, size, crc32c(body, number)) + body


def parse(payload: bytes) -> tuple[int, int, int] | None:
    if len(payload) < HEAD.size:
        return None
    life, thread, number, size, crc = HEAD.unpack_from(payload)
    body = payload[HEAD.size :]
    return (life, thread, number) if len(body) == size and crc32c(body, number) == crc else None


def push_for_ever(log: Log, oracle: mmap.mmap, life: int, thread: int, seed: int) -> None:
    rng = random.Random(seed)
    acknowledged = memoryview(oracle).cast("Q")
    number = 0
    while True:
        size = rng.choice((0, 1, 15, 16, 17, 200, 200, 1000, rng.randrange(4000)))
        if log.push(record(life, thread, number, size)):
            number += 1
            acknowledged[life * THREADS + thread] = number
        else:
            time.sleep(0.001)


def in_child(action) -> int:
    """Run `action` in a forked child that never returns here. Answers its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    finally:
        os._exit(code)


def kill_after(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"the child ended by itself with {os.WEXITSTATUS(status)}")


def settings(rng: random.Random, variant: str) -> dict:
    chosen = {
        "capacity": rng.choice((1 << 16, 1 << 18, 1 << 20, 1 << 22)),
        "rotate_bytes": rng.choice((1 << 16, 1 << 20, 1 << 27)),
        "sync_seconds": rng.choice((0.0, 0.005, 0.05)),
    }
    if variant == "large":
        chosen["capacity"] = 1 << 24
    if variant == "unsynced":
        chosen["sync_seconds"] = 1e6
    return chosen


def memory_directory() -> Path | None:
    """A tmpfs for rings, where there is one."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def check(directory: Path, oracle: mmap.mmap, lives: range) -> Counter:
    """Totals over these lives, and the segments are removed."""
    totals: Counter = Counter()
    numbers: dict[tuple[int, int], list[int]] = {(life, thread): [] for life in lives for thread in range(THREADS)}
    for payload, _, _ in read_segments(directory):
        parsed = parse(payload)
        if parsed is None or parsed[:2] not in numbers:
            totals["corrupt"] += 1
        else:
            numbers[parsed[:2]].append(parsed[2])
    acknowledged = memoryview(oracle).cast("Q")
    for (life, thread), found in numbers.items():
        told = acknowledged[life * THREADS + thread]
        distinct = set(found)
        totals["acknowledged"] += told
        totals["lost"] += len(set(range(told)) - distinct)
        totals["duplicated"] += len(found) - len(distinct)
        totals["out_of_order"] += sum(later < earlier for earlier, later in pairwise(found))
        totals["beyond_acknowledged"] += len(distinct) - len(distinct & set(range(told)))
    del acknowledged
    # What readers drop as repeats: catching up with the segments must leave none.
    totals["repeated_on_disk"] -= sum(map(len, numbers.values())) + totals["corrupt"]
    for report in verify_segments(directory):
        totals["repeated_on_disk"] += report["records"]
        totals["segments"] += 1
        totals["segments_in_error"] += bool(report["errors"]) or not report["closed"]
        os.unlink(report["file"])
    return totals


def run(
    times: int, seed: int, directory: Path, variant: str = "small", log: ModuleType = sound, rings: Path | None = None
) -> Counter:
    """Kill `times` lives on one ring in `rings` (or `directory`) with segments in `directory`, by the module `log`."""
    rng = random.Random(seed)
    oracle = mmap.mmap(-1, 8 * THREADS * max(times, 1))
    ring = (rings or directory) / "ring"
    (directory / "segments").mkdir()
    totals: Counter = Counter()
    first = 0
    for life in range(times):
        chosen, child_seed = settings(rng, variant), rng.random()

        def live(life=life, chosen=chosen, child_seed=child_seed) -> None:
            victim = log.Log(directory / "segments", ring, **chosen)
            for thread in range(THREADS):
                arguments = (victim, oracle, life, thread, hash((child_seed, thread)))
                threading.Thread(target=push_for_ever, args=arguments, daemon=True).start()
            time.sleep(60)

        kill_after(in_child(live), rng.choice((rng.uniform(0, 0.01), rng.uniform(0.01, 0.1), rng.uniform(0.05, 0.3))))
        totals["kills"] += 1
        if rng.random() < 0.3:
            kill_after(in_child(lambda: log.recover(directory / "segments", ring)), rng.uniform(0, 0.02))
            totals["kills_of_recover"] += 1
        if rng.random() < 0.3 or life + 1 == times:
            started = time.perf_counter()
            answer = log.recover(directory / "segments", ring)
            worst = max(totals["recover_ms_max"], round(1e3 * (time.perf_counter() - started)))
            totals["quarantined"] += answer["quarantined"]
            totals += check(directory / "segments", oracle, range(first, life + 1))
            totals["recover_ms_max"] = worst
            first = life + 1
            if sys.stderr.isatty():
                print(f"\r{variant} {life + 1}/{times}", end="", file=sys.stderr)
    return totals


def run_all(times: int, seed: int, directory: Path, log: ModuleType = sound) -> Counter:
    """`times` kills, in equal parts for the VARIANTS; the counts together."""
    totals: Counter = Counter()
    for number, variant in enumerate(VARIANTS):
        place, memory = directory / variant, memory_directory() if variant != "disk" else None
        place.mkdir()
        rings = Path(tempfile.mkdtemp(prefix="kill-", dir=memory)) if memory else None
        part = run(times // 4 + (number < times % 4), seed + number, place, variant, log, rings)
        if rings is not None and not failed(part):
            shutil.rmtree(rings)
        worst = max(totals["recover_ms_max"], part["recover_ms_max"])
        totals += part
        totals[f"kills_{variant}"] = part["kills"]
        totals["recover_ms_max"] = worst
    return totals


def failed(totals: Counter) -> bool:
    faults = ("lost", "duplicated", "corrupt", "out_of_order", "repeated_on_disk", "quarantined", "segments_in_error")
    return any(totals[name] for name in faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="for the segments, and the ring on disk")
    changes = ("catch-up", "header-crc")
    parser.add_argument("--break", dest="change", default=None, choices=changes, help="a negative control")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    log = native.broken_ring(arguments.change) if arguments.change else sound
    place = Path(tempfile.mkdtemp(prefix="kill-", dir=arguments.directory))
    totals = run_all(arguments.times, seed, place, log)
    names = ("lost", "duplicated", "corrupt", "out_of_order", "repeated_on_disk", "acknowledged")
    print(json.dumps({name: totals[name] for name in names} | dict(totals) | {"seed": seed}))
    if failed(totals):
        print(f"failed with --seed {seed}; see {place}", file=sys.stderr)
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
