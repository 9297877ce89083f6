"""Records to segment files in a directory, through rings that outlive the process: one ring a worker."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pairec_fast.core import Log, recover
from pairec_fast.core.ring import ring_has_owner
from pairec_fast.errors import PairecError

T = TypeVar("T")

SLOTS_MAX = 256  # rings of one directory
RING_PAGE = 4096  # bytes, csrc/ring.hpp


def ring_directory(segments: Path) -> Path:
    """Where the rings of a log lie unless configured: in memory (a tmpfs) where there is one, else beside the segments.

    A file-backed ring on a real disk stalls when the kernel writes it back; on a tmpfs it survives the process too.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        return segments
    digest = hashlib.sha256(os.fsencode(segments.resolve())).hexdigest()[:16]
    return memory / f"pairec_fast-{os.getuid()}-{digest}"


def open_log(
    segments: Path,
    rings: Path | None,
    *,
    ring_bytes: int,
    segment_bytes: int,
    segment_seconds: float,
    sync_seconds: float,
    retain_bytes: int = 0,
    retain_seconds: float = 0,
    free_bytes_min: int | None = None,
) -> Log:
    """A log on the first ring that no living worker owns; what its last owner left is written out first.

    Without `rings` it is in memory, and what was not flushed dies with the worker.

    Raises:
        PairecError: no ring is free.
        OSError: a file or directory cannot be made.
    """
    options: dict[str, Any] = {
        "capacity": ring_bytes, "rotate_bytes": segment_bytes, "rotate_seconds": segment_seconds,
        "sync_seconds": sync_seconds, "retain_bytes": retain_bytes, "retain_seconds": retain_seconds,
        "free_bytes_min": free_bytes_min,
    }  # fmt: skip
    if rings is None:
        return Log(segments, None, **options)
    return on_free_ring(rings, lambda ring, slot: Log(segments, ring, slot=slot, **options))


def on_free_ring(rings: Path, open_on: Callable[[Path, int], T]) -> T:
    """What `open_on(ring, slot)` answers for the first ring of a directory that no living worker owns.

    A ring whose records cannot be written out, because the disk is full, is left as it is for a later start, an
    `Adopter` or `recover_all`, and the next one is taken: a full disk must not keep a worker from serving.

    Raises:
        PairecError: no ring is free.
        OSError: a file or directory cannot be made.
    """
    rings.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(SLOTS_MAX):
        ring = rings / f"{slot}.ring"
        try:
            return open_on(ring, slot)
        except PairecError:  # a living worker's
            continue
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _holds_records(ring):
                raise
    raise PairecError(f"{rings}: all {SLOTS_MAX} rings are in use")


class Adopter:
    """Writes out the rings of workers that died and were not followed by another.

    A ring that holds something and has had no living owner for `seconds` is adopted: so long a worker that is started
    anew has the time to take it itself. Any number of adopters may look at once; the ring's lock decides.
    """

    def __init__(self, segments: Path, rings: Path, seconds: float, sink: str = "log") -> None:
        self.segments, self.rings, self.seconds, self.sink = segments, rings, seconds, sink
        self._since: dict[Path, float] = {}  # when each was first seen without an owner

    def look(self, now: float) -> int:
        """Adopt what is due at `now`, a monotonic time. Answers how many records were written.

        Raises:
            OSError: of one ring; it keeps what it holds, and is tried again after as long a time.
        """
        orphans = {path: self._since.get(path, now) for path in self.rings.glob("*.ring") if _is_orphan(path)}
        records, self._since = 0, orphans
        for path, since in sorted(orphans.items()):
            if now - since >= self.seconds:
                self._since[path] = now
                records += int(recover(self.segments, path, sink=self.sink, slot=int(path.stem))["records"])
        return records


def _is_orphan(path: Path) -> bool:
    try:
        # A ring that was closed, or written out, is its header page.
        return path.stem.isdigit() and _holds_records(path) and not ring_has_owner(path)
    except OSError:  # replaced meanwhile: by somebody who lives
        return False


def _holds_records(ring: Path) -> bool:
    return ring.exists() and ring.stat().st_size > RING_PAGE


def recover_all(segments: Path, rings: Path, sink: str = "log") -> int:
    """Write out what dead workers left in their rings. Returns how many records; rings of the living are left alone.

    Raises:
        OSError: of one ring, when all have had their turn; it keeps what it holds.
    """
    records, failed = 0, list[OSError]()
    for path in sorted(rings.glob("*.ring")):
        try:
            slot = int(path.stem) if path.stem.isdecimal() else 0
            records += int(recover(segments, path, sink=sink, slot=slot)["records"])
        except OSError as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return records
