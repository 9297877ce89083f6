"""What the tests of the record log share."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from pairec_fast.core.ring import Log, read_segments, verify_segments
from tests.faults import kill


def payloads(directory: Path) -> list[bytes]:
    return [payload for payload, _, _ in read_segments(directory)]


def push_all(log: Log, records: list[bytes]) -> None:
    deadline = time.monotonic() + 60
    for record in records:
        while not log.push(record):
            assert time.monotonic() < deadline, log.counters()
            time.sleep(0.0005)


def assert_sound(directory: Path) -> None:
    for report in verify_segments(directory):
        assert report["closed"] and not report["errors"], report


def die_after(action) -> None:
    """Run `action` in a child and kill it there, while what the action answers is still alive."""

    def child() -> None:
        alive = action()
        assert alive is not None
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(kill.in_child(child), 0)
    assert os.WIFSIGNALED(status)
