"""Segments that wait for delivery, of one slot: who may deliver them, how far that has come, and what was refused.

Beside the segments `log-SLOT-….seg` lie `log-SLOT.lock`, held by the process that delivers the slot; `log-SLOT.cursor`,
written after each batch, so that a crash repeats one batch at most; and `dead-SLOT.jsonl`, a line for each row that was
refused for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pairec_fast.core import Segment, list_segments

SINK = "log"  # the first part of segment names, so that `pairec-fast log` reads a spill as it reads any log

_held: weakref.WeakSet[Slot] = weakref.WeakSet()


class Cursor(msgspec.Struct, frozen=True):
    """All before row `row` of the record at `position` is delivered."""

    ring_id: int
    sequence: int
    position: int
    row: int


class Waiting(NamedTuple):
    """A record to be delivered, from its row `first_row` on."""

    payload: bytes
    ring_id: int
    position: int
    end: int
    first_row: int


class Slot:
    """The spill of one slot. Everything but `lock` and `count` is for the holder of the lock."""

    def __init__(self, directory: Path, slot: int) -> None:
        self.directory, self.number = directory, slot
        self.damaged_segments = 0
        self._lock = -1
        self._seen: dict[int, list[list[int]]] = {}
        self._damaged = False  # the segment that was read last

    def lock(self) -> bool:
        """Become the one who delivers. False while somebody else, in this process or another, is."""
        if self._lock >= 0:
            return True
        path = self.directory / f"{SINK}-{self.number}.lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._lock = lock
        self._seen.clear()  # somebody else may have delivered meanwhile; the cursor knows
        _held.add(self)
        return True

    def unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def segments(self) -> list[Segment]:
        """The closed ones, in the order of delivery."""
        return [segment for segment in list_segments(self.directory, SINK) if self._is_ours(segment)]

    def count(self) -> int:
        """How many records wait in closed segments, by their footers."""
        total = 0
        for segment in self.segments():
            with contextlib.suppress(FileNotFoundError):
                total += segment.record_count()
        return total

    def records(self, segment: Segment) -> Iterator[Waiting]:
        """What of a segment has not been delivered yet; nothing if somebody has removed it.

        Raises:
            OSError: it cannot be read. That is not damage.
        """
        cursor = self._cursor()
        resumed = (
            cursor if cursor and (cursor.ring_id, cursor.sequence) == (segment.ring_id, segment.sequence) else None
        )
        self._damaged = False
        try:
            reader = segment.read()
        except FileNotFoundError:
            return
        begin = None
        for payload, position, end in reader:
            if begin is None:
                begin = position
                self._forget(segment.ring_id, begin)
            if (resumed and position < resumed.position) or self._is_seen(segment.ring_id, position):
                continue
            row = resumed.row if resumed and position == resumed.position else 0
            yield Waiting(payload, segment.ring_id, position, end, row)
        self._damaged = any(not error.startswith("no footer") for error in reader.errors)

    def acknowledge(self, record: Waiting) -> None:
        """Note for this process that a record is delivered: after a failed fdatasync a later segment repeats it."""
        runs = self._seen.setdefault(record.ring_id, [])
        if runs and runs[-1][1] == record.position:
            runs[-1][1] = record.end
        else:
            runs.append([record.position, record.end])

    def save(self, segment: Segment, position: int, row: int) -> None:
        """Note that all before `row` of the record at `position` is delivered."""
        data = msgspec.json.encode(Cursor(segment.ring_id, segment.sequence, position, row))
        path = self._cursor_path()
        temporary = path.with_suffix(".tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)

    def remove(self, segment: Segment) -> None:
        """Remove a segment all of whose records are delivered. A damaged one is set aside, as `.corrupt`."""
        with contextlib.suppress(FileNotFoundError):
            if self._damaged:
                os.rename(segment.file, segment.file.removesuffix(".seg") + ".corrupt")
                self.damaged_segments += 1
            else:
                os.unlink(segment.file)
        self._sync_directory()

    def bury(self, row: dict[str, Any]) -> None:
        """Keep a row that was refused for good: on the disk when it returns."""
        path = self.directory / f"dead-{self.number}.jsonl"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND, 0o600)
        try:
            data = msgspec.json.encode(row) + b"\n"
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # torn by a crash: the torn line stays apart
                data = b"\n" + data
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)
        finally:
            os.close(file)
        self._sync_directory()

    def _is_ours(self, segment: Segment) -> bool:
        return segment.closed and segment.slot == self.number

    def _cursor_path(self) -> Path:
        return self.directory / f"{SINK}-{self.number}.cursor"

    def _cursor(self) -> Cursor | None:
        """Where delivery had come to; None without one. A damaged one repeats a segment, and loses nothing."""
        try:
            return msgspec.json.decode(self._cursor_path().read_bytes(), type=Cursor)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _is_seen(self, ring_id: int, position: int) -> bool:
        return any(begin <= position < end for begin, end in self._seen.get(ring_id, ()))

    def _forget(self, ring_id: int, begin: int) -> None:
        """Segments of a ring begin at rising positions, so what lies before this one's begin is not met again."""
        self._seen = {ring_id: [run for run in self._seen.get(ring_id, []) if run[1] > begin]}

    def _sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _close_in_child() -> None:
    """A forked child would keep its parent's slots locked after the parent's death."""
    for slot in list(_held):
        slot.unlock()


os.register_at_fork(after_in_child=_close_in_child)
