"""Push of one record beside what else a user could pick, and how fast the flush thread empties the ring.

`python -m bench.bench_ring` prints three tables, all in turns: from Python beside `queue.SimpleQueue.put`, which stores
a pointer and loses all with the process; in C++ beside a mutex with a deque and moodycamel's queue (its header from
Debian's libconcurrentqueue-dev; left out where it is not); and records a second from push to fdatasync. Single calls
carry the timer's own cost: the `nothing` rows say how much to subtract.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from pairec_fast.core.ring import Log

ROOT = Path(__file__).resolve().parent.parent
SIZES = [200, 1000, 4000]  # bytes
ROUND_BYTES = 32 << 20  # half a ring: a disk busy with something else must not turn a round into refusals
PARTS = {"p50": 50, "p99": 99, "p99.9": 99.9}


@contextmanager
def opened() -> Iterator[Log]:
    """A log whose ring is on tmpfs where there is one, as in service, and whose segments are not."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with (
        tempfile.TemporaryDirectory(dir=shared) as ring,
        tempfile.TemporaryDirectory() as segments,
        Log(segments, Path(ring) / "ring") as log,
    ):
        yield log


@pytest.fixture
def log():
    with opened() as log:
        yield log
        dropped = log.counters()["dropped_full"]
    assert not dropped, "the figures would be of refusals"


def bench_nothing(timed):
    timed(len, b"", rounds=20_000)


@pytest.mark.parametrize("size", SIZES)
def bench_push(timed, log, size):
    timed(log.push, bytes(size), rounds=10_000)


@pytest.mark.parametrize("size", SIZES)
def bench_simple_queue_put(timed, size):
    timed(SimpleQueue().put, bytes(size), rounds=10_000)


def each_call(function: Callable[[bytes], object], record: bytes, count: int) -> list[int]:
    """Nanoseconds of `count` single calls, one every 2 us at most."""
    clock, taken = time.perf_counter_ns, []
    for _ in range(count):
        begin = clock()
        function(record)
        end = clock()
        taken.append(end - begin)
        while clock() < end + 2000:
            pass
    return taken


def from_python(size: int, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Percentiles in nanoseconds of one call from Python."""
    record, taken = os.urandom(size), dict[str, list[int]]()
    count = min(count, ROUND_BYTES // size)
    with opened() as log:
        for _ in range(rounds):
            log.flush(60)
            queue = SimpleQueue[bytes]()
            for name, call in (("nothing", len), ("Log.push", log.push), ("SimpleQueue.put", queue.put)):
                taken.setdefault(name, []).extend(each_call(call, record, count))
        if log.counters()["dropped_full"]:
            raise RuntimeError(f"{size} bytes: the ring was full, the figures would be of refusals")
    return {name: percentiles(each) for name, each in taken.items()}


def percentiles(taken: list[int]) -> dict[str, float]:
    return {name: float(np.percentile(taken, part)) for name, part in PARTS.items()}


def in_cpp(scratch: Path, producers: int, count: int, rounds: int) -> list[dict[str, object]]:
    """The lines of `ring_peers.cpp`; none where it cannot be compiled."""
    program, sources = scratch / "ring_peers", [ROOT / "bench" / "ring_peers.cpp"]
    sources += [ROOT / "csrc" / f"{name}.cpp" for name in ("ring", "file")]
    flags = ["-std=c++20", "-O3", "-pthread", f"-I{ROOT / 'csrc'}"]
    try:
        subprocess.run(["g++", *flags, *map(str, sources), "-o", str(program)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"in C++: left out, {error}", file=sys.stderr)
        return []
    shared = Path("/dev/shm") if Path("/dev/shm").is_dir() else scratch
    ring = shared / f"ring-{os.getpid()}"
    try:
        command = [str(program), str(ring), str(count), str(rounds), str(producers), *map(str, SIZES)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    finally:
        ring.unlink(missing_ok=True)
    figures = [json.loads(line) for line in lines]
    if not any(each["queue"] == "moodycamel" for each in figures):
        print("moodycamel: left out, no header; apt-get install libconcurrentqueue-dev", file=sys.stderr)
    return figures


def flushed(size: int, count: int) -> tuple[float, float]:
    """Records and megabytes a second from the first push until all are on disk by fdatasync."""
    record = os.urandom(size)
    with opened() as log:
        begin = time.perf_counter()
        for _ in range(count):
            while not log.push(record):
                time.sleep(0.0002)
        if not log.flush(120):
            raise RuntimeError("the flush thread did not come to the end")
        seconds = time.perf_counter() - begin
    return count / seconds, count * size / seconds / 1e6


def print_row(*cells: object) -> None:
    print(" ".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=20_000, help="calls of each kind in a round")
    parser.add_argument("--flush-megabytes", type=int, default=300, help="written for each size")
    arguments = parser.parse_args()
    print("One call, nanoseconds")
    print_row("from Python", "bytes", *PARTS)
    for size in SIZES:
        for name, figures in from_python(size, arguments.count, arguments.rounds).items():
            print_row(name, size, *(f"{figures[part]:.0f}" for part in PARTS))
    print_row("in C++", "bytes", *PARTS, "producers", "refused")
    with tempfile.TemporaryDirectory() as scratch:
        for producers in (1, 2):
            for line in in_cpp(Path(scratch), producers, arguments.count, arguments.rounds):
                print_row(line["queue"], line["bytes"], *(line[part] for part in PARTS), producers, line["refused"])
    print("From push to fdatasync, one thread pushing from Python")
    print_row("", "bytes", "records/s", "MB/s")
    for size in SIZES:
        records, megabytes = flushed(size, arguments.flush_megabytes * 1_000_000 // size)
        print_row("", size, f"{records:,.0f}", f"{megabytes:.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
