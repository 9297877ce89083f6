"""Kill a process that pushes, many times, and compare what it was told with what the segments hold.

    python -m tests.faults.kill --times 1000 [--seed 7] [--directory /dev/shm]

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

from pairec_fast.core.checksum import crc32c
from pairec_fast.core.ring import Log, read_segments, recover, verify_segments

THREADS = 2
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


def settings(rng: random.Random) -> dict:
    return {
        "capacity": rng.choice((1 << 16, 1 << 18, 1 << 20, 1 << 22)),
        "rotate_bytes": rng.choice((1 << 16, 1 << 20, 1 << 27)),
        "sync_seconds": rng.choice((0.0, 0.005, 0.05)),
    }


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


def run(times: int, seed: int, directory: Path) -> Counter:
    rng = random.Random(seed)
    oracle = mmap.mmap(-1, 8 * THREADS * times)
    ring = directory / "ring"
    totals: Counter = Counter()
    first = 0
    for life in range(times):
        chosen, child_seed = settings(rng), rng.random()

        def live(life=life, chosen=chosen, child_seed=child_seed) -> None:
            log = Log(directory / "segments", ring, **chosen)
            for thread in range(THREADS):
                arguments = (log, oracle, life, thread, hash((child_seed, thread)))
                threading.Thread(target=push_for_ever, args=arguments, daemon=True).start()
            time.sleep(60)

        kill_after(in_child(live), rng.choice((rng.uniform(0, 0.01), rng.uniform(0.01, 0.1), rng.uniform(0.05, 0.3))))
        totals["kills"] += 1
        if rng.random() < 0.3:
            kill_after(in_child(lambda: recover(directory / "segments", ring)), rng.uniform(0, 0.02))
            totals["kills_of_recover"] += 1
        if rng.random() < 0.3 or life + 1 == times:
            started = time.perf_counter()
            answer = recover(directory / "segments", ring)
            totals["recover_ms_max"] = max(totals["recover_ms_max"], round(1e3 * (time.perf_counter() - started)))
            totals["quarantined"] += answer["quarantined"]
            worst = totals["recover_ms_max"]
            totals += check(directory / "segments", oracle, range(first, life + 1))
            totals["recover_ms_max"] = worst
            first = life + 1
            if sys.stderr.isatty():
                print(f"\r{life + 1}/{times}", end="", file=sys.stderr)
    return totals


def failed(totals: Counter) -> bool:
    faults = ("lost", "duplicated", "corrupt", "out_of_order", "repeated_on_disk", "quarantined", "segments_in_error")
    return any(totals[name] for name in faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="for ring and segments")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    place = Path(tempfile.mkdtemp(prefix="kill-", dir=arguments.directory))
    print(f"seed {seed}, {place}", file=sys.stderr)
    totals = run(arguments.times, seed, place)
    names = ("lost", "duplicated", "corrupt", "out_of_order", "repeated_on_disk")
    print(json.dumps({name: totals[name] for name in names} | dict(totals)))
    if failed(totals):
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
