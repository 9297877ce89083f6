"""Push of one record beside `queue.SimpleQueue.put`, which stores a pointer and loses all with the process.

Single calls carry the timer's own cost (about 0.1 us): the `nothing` row says how much to subtract.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from queue import SimpleQueue

import pytest

from pairec_fast.core.ring import Log

SIZES = [200, 1000, 4000]  # bytes


@pytest.fixture
def log():
    """A log whose ring is on tmpfs where there is one, as in service."""
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as ring, tempfile.TemporaryDirectory() as segments:
        opened = Log(segments, Path(ring) / "ring")
        yield opened
        dropped = opened.counters()["dropped_full"]
        opened.close()
        assert not dropped, "the figures would be of refusals"


def bench_nothing(timed):
    timed(len, b"", rounds=20_000)


@pytest.mark.parametrize("size", SIZES)
def bench_push(timed, log, size):
    timed(log.push, bytes(size), rounds=10_000)


@pytest.mark.parametrize("size", SIZES)
def bench_simple_queue_put(timed, size):
    timed(SimpleQueue().put, bytes(size), rounds=10_000)
