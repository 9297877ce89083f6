"""items.log, beside CURRENT: what was added, changed and removed since the snapshots were built.

    head    "PRITEMS1" | 8 random bytes that tell one log from the next | after u64 | acknowledged u64
    record  bytes of payload u32 | CRC-32C u32 | sequence u64 | payload: a line of JSON for each item

One call is one record, so it counts as a whole or not at all. Numbers run on without a gap: the first is `after` + 1.
Writers hold the file's lock; a record is acknowledged when fsync has returned, and then the head says so. Readers take
no lock: they stop before a record that is not whole. What a crash leaves torn was never acknowledged: the next writer
cuts it off. A bad record that was acknowledged is damage, which nobody repairs silently.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pairec_fast.core import crc32c
from pairec_fast.errors import SnapshotError

NAME = "items.log"
MAGIC = b"PRITEMS1"
HEAD = struct.Struct("<8s8sQQ")
ACKNOWLEDGED = struct.Struct("<Q")  # the last of them: aligned, so it is never half written
RECORD = struct.Struct("<IIQ")
PAYLOAD_MAX = 1 << 30


class Head(NamedTuple):
    magic: bytes
    log: bytes
    after: int
    acknowledged: int


class Record(NamedTuple):
    sequence: int
    payload: bytes


def read_head(path: Path, data: bytes) -> Head | None:
    """The head at the beginning of a log; None while it is being made. Raises SnapshotError: no log."""
    if len(data) < HEAD.size:
        return None
    head = Head(*HEAD.unpack_from(data))
    if head.magic != MAGIC:
        raise SnapshotError(f"{path}: no log of items: it begins with {head.magic!r}; {MAGIC!r} is right")
    return head


def records(path: Path, data: bytes, last: int, acknowledged: int) -> Iterator[Record]:
    """The whole records of `data`, which follow record `last`.

    Raises:
        SnapshotError: one that was acknowledged is not among them.
    """
    at = 0
    while at + RECORD.size <= len(data):
        size, crc, sequence = RECORD.unpack_from(data, at)
        payload = data[at + RECORD.size : at + RECORD.size + size]
        if sequence != last + 1 or len(payload) != size or crc != _crc(sequence, payload):
            break
        yield Record(sequence, payload)
        last, at = sequence, at + RECORD.size + size
    if last < acknowledged:
        raise SnapshotError(
            f"{path}: record {last + 1} is damaged, and {acknowledged} were acknowledged. Build a snapshot from "
            "sources that have its items, and remove the log"
        )


def _crc(sequence: int, payload: bytes) -> int:
    return crc32c(payload, crc32c(RECORD.pack(len(payload), 0, sequence)))


class Reader:
    """Follows the log of a folder from record `after` (which it leaves out) on; -1: all of it. Holds nothing open."""

    def __init__(self, folder: Path, after: int) -> None:
        self.path, self.sequence = folder / NAME, after
        self._log, self._at, self._last = b"", HEAD.size, 0

    def read(self) -> list[Record]:
        """The records that were not read before.

        Raises:
            SnapshotError: the log is damaged, or records are missing.
            OSError: it cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                head = read_head(self.path, file.read(HEAD.size))
                if head is None:
                    return []
                if head.log != self._log:
                    if self._log:  # another one than before: what it holds came later
                        self.sequence = min(self.sequence, head.after)
                    self._log, self._at, self._last = head.log, HEAD.size, head.after
                if self.sequence < 0:
                    self.sequence = head.after
                if head.after > self.sequence:
                    raise SnapshotError(
                        f"{self.path}: begins after record {head.after}; those from {self.sequence + 1} on are "
                        "missing. Use the newest snapshot"
                    )
                size = os.fstat(file.fileno()).st_size
                if size < self._at:
                    raise SnapshotError(f"{self.path}: {size} bytes; {self._at} were read before. It was cut short")
                if head.acknowledged == self._last and size == self._at:
                    return []
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            return []
        found = list(records(self.path, data, self._last, head.acknowledged))
        for record in found:
            self._last, self._at = record.sequence, self._at + RECORD.size + len(record.payload)
        found = [record for record in found if record.sequence > self.sequence]
        self.sequence = max(self.sequence, self._last)
        return found


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """The log, open for one writer at a time; made if there is none. Raises OSError: it cannot be opened."""
    path = folder / NAME
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever waited may hold a file that was removed meanwhile.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                yield handle
                return
        finally:
            os.close(handle)


def append(folder: Path, handle: int, payload: bytes, after: int) -> int:
    """Append one record to the locked log, and return its sequence number: it is on the disk then.

    A torn tail is cut off first. `after` is the last record of the newest snapshot: a new log begins behind it.

    Raises:
        SnapshotError: the log is damaged, or `payload` too long.
        OSError: it cannot be written. If fsync failed the record may count all the same, else it does not.
    """
    path = folder / NAME
    if len(payload) > PAYLOAD_MAX:
        raise SnapshotError(f"{path}: {len(payload):,} bytes in one call; at most {PAYLOAD_MAX:,}")
    with open(handle, "rb", closefd=False) as file:
        data = file.read()
    head = read_head(path, data)
    if head is None:
        head = Head(MAGIC, os.urandom(8), after, after)
        os.ftruncate(handle, 0)
        _write(handle, HEAD.pack(*head), 0)
        os.fsync(handle)
        _sync(folder)
    last, end = head.after, HEAD.size
    for record in records(path, data[HEAD.size :], last, head.acknowledged):
        last, end = record.sequence, end + RECORD.size + len(record.payload)
    if last < after:
        raise SnapshotError(f"{path}: ends with record {last}, an old copy: the newest snapshot holds up to {after}")
    os.ftruncate(handle, end)
    try:
        _write(handle, RECORD.pack(len(payload), _crc(last + 1, payload), last + 1) + payload, end)
    except OSError:
        os.ftruncate(handle, end)
        raise
    os.fsync(handle)
    _write(handle, ACKNOWLEDGED.pack(last + 1), HEAD.size - ACKNOWLEDGED.size)
    return last + 1


def _write(handle: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(handle, data, at)
        data, at = data[written:], at + written


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
