"""Records to segment files in a directory, through rings that outlive the process: one ring a worker."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from pairec_fast.core import Log, recover
from pairec_fast.errors import PairecError

SLOTS_MAX = 256  # rings of one directory
HEADER_BYTES = 4096  # of a ring's file; one that was closed empty has nothing more


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
    segments: Path, rings: Path, *, ring_bytes: int, segment_bytes: int, segment_seconds: float, sync_seconds: float
) -> Log:
    """A log on the first ring that no living worker owns; what its last owner left is written out first.

    A ring whose records cannot be written out, because the disk is full, is left as it is for a later start or
    `recover_all`, and the next one is taken: a full disk must not keep a worker from serving.

    Raises:
        PairecError: no ring is free.
        OSError: a file or directory cannot be made.
    """
    rings.mkdir(mode=0o700, parents=True, exist_ok=True)
    for slot in range(SLOTS_MAX):
        ring = rings / f"{slot}.ring"
        try:
            return Log(
                segments, ring, capacity=ring_bytes, slot=slot, rotate_bytes=segment_bytes,
                rotate_seconds=segment_seconds, sync_seconds=sync_seconds,
            )  # fmt: skip
        except PairecError:  # a living worker's
            continue
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _holds_records(ring):
                raise
    raise PairecError(f"{rings}: all {SLOTS_MAX} rings are in use")


def _holds_records(ring: Path) -> bool:
    return ring.exists() and ring.stat().st_size > HEADER_BYTES


def recover_all(segments: Path, rings: Path) -> int:
    """Write out what dead workers left in their rings. Returns how many records; rings of the living are left alone."""
    return sum(int(recover(segments, path)["records"]) for path in sorted(rings.glob("*.ring")))
