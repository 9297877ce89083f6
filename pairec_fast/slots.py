"""The memory that a service counts in: a file of one slot for each worker, or a process's own.

`pairec-fast serve` makes the file and names it in the environment; each worker takes a slot for as long as it lives.
The slot of one that died is kept with its counts, and the worker that comes in its place counts on in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pairec_fast.core.meter import SLOT_BYTES, Slot

ENVIRONMENT = "PAIREC_METRICS"
FOLDERS = ("/dev/shm", tempfile.gettempdir())  # memory first; a folder of a disk does, where that is full or missing
PREFIX = "pairec-metrics-"

_PAGE = 4096  # the head has it to itself, so that slots begin at pages
_HEAD = struct.Struct("<8sIIQ")  # magic, slots, workers, bytes of a slot
_MAGIC = b"PAIRECm1"
_LOCK = struct.Struct("hhqqi")  # struct flock

log = logging.getLogger("pairec_fast")


class Place:
    """Where one process counts. `index` is its slot; `labelled` whether there may be others to be told apart from."""

    def __init__(self, slot: Slot, file: SlotFile | None = None, index: int = 0) -> None:
        self.slot, self.index, self._file, self._pid = slot, index, file, os.getpid()
        self.labelled = file is not None and file.workers > 1

    @property
    def shared(self) -> bool:
        """Whether others read what is counted here, and this process is the one that took the place."""
        return self._file is not None and os.getpid() == self._pid

    def others(self) -> list[tuple[int, Slot, bool]]:
        """The other slots: their number, and whether somebody holds them now."""
        file = self._file
        if file is None:
            return []
        return [(at, slot, file.held(at)) for at, slot in enumerate(file.slots) if at != self.index]

    def release(self) -> None:
        """Whoever comes may have the slot; what is counted until then still counts."""
        if self._file is not None:
            self._file.release(self.index)


class SlotFile:
    """A file that `created` made, mapped. Locks of the open file hold the slots, so that a process leaves them when it
    dies, however it does."""

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError: no such file, or no file of slots of this version."""
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            magic, count, self.workers, slot_bytes = _HEAD.unpack(os.pread(self._fd, _HEAD.size, 0).ljust(_HEAD.size))
            size = _PAGE + count * SLOT_BYTES
            if magic != _MAGIC or slot_bytes != SLOT_BYTES or os.fstat(self._fd).st_size != size:
                raise ValueError(f"{path} is no file of slots, or one of another version")
            memory = memoryview(mmap.mmap(self._fd, size))
        except BaseException:
            os.close(self._fd)
            raise
        begins = range(_PAGE, size, SLOT_BYTES)
        self.slots = [Slot(memory[begin : begin + SLOT_BYTES]) for begin in begins]

    def take(self) -> Place | None:
        """The first slot that nobody holds; None if all are held."""
        for index, slot in enumerate(self.slots):
            try:
                self._lock(fcntl.F_OFD_SETLK, fcntl.F_WRLCK, index)
            except (BlockingIOError, PermissionError):
                continue
            slot.settle()
            return Place(slot, self, index)
        return None

    def held(self, index: int) -> bool:
        """Whether another open file holds the slot."""
        kind: int = _LOCK.unpack(self._lock(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, index))[0]
        return kind != fcntl.F_UNLCK

    def release(self, index: int) -> None:
        self._lock(fcntl.F_OFD_SETLK, fcntl.F_UNLCK, index)

    def _lock(self, what: int, kind: int, index: int) -> bytes:
        # Byte 0 is the maker's. Nothing is read or written there by these locks: they only count.
        return fcntl.fcntl(self._fd, what, _LOCK.pack(kind, os.SEEK_SET, 1 + index, 1, 0))

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            os.close(self._fd)


@contextlib.contextmanager
def created(workers: int) -> Iterator[Path | None]:
    """A file for so many workers, named in the environment meanwhile; None where none can be had, and each worker then
    shows what it counted itself."""
    count = 2 * workers  # one that is on its way out holds its slot while the next one starts
    with contextlib.ExitStack() as stack:
        path = None
        for folder in dict.fromkeys(FOLDERS):
            _sweep(Path(folder))
            try:
                path = _make(Path(folder), count, workers, stack)
                break
            except OSError as error:
                log.warning("no room for metrics of all workers in %s: %s", folder, error)
        if path is not None:
            before = os.environ.get(ENVIRONMENT)
            os.environ[ENVIRONMENT] = str(path)
            stack.callback(_put_back, before)
        yield path


def _make(folder: Path, count: int, workers: int, stack: contextlib.ExitStack) -> Path:
    fd, name = tempfile.mkstemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder)  # mode 0600
    path = Path(name)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        # All of it now: a page that a full file system cannot give later kills who touches it.
        os.posix_fallocate(fd, 0, _PAGE + count * SLOT_BYTES)
        os.pwrite(fd, _HEAD.pack(_MAGIC, count, workers, SLOT_BYTES), 0)
    except BaseException:
        os.close(fd)
        path.unlink()
        raise
    stack.callback(os.close, fd)
    stack.callback(path.unlink, missing_ok=True)
    return path


def _put_back(before: str | None) -> None:
    os.environ.pop(ENVIRONMENT, None)
    if before is not None:
        os.environ[ENVIRONMENT] = before


def _sweep(folder: Path) -> None:
    """Remove files whose makers were killed: their process is gone, and nobody holds their lock."""
    for path in folder.glob(f"{PREFIX}*"):
        pid = path.name.removeprefix(PREFIX).partition("-")[0]
        if not pid.isdigit() or Path(f"/proc/{pid}").exists():
            continue
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


def private() -> Place:
    """Memory of this process alone; pages are had when they are used."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return Place(Slot(memoryview(mmap.mmap(-1, SLOT_BYTES, flags=flags))))


def place() -> Place:
    """A slot of the service's file, if this process is a worker of one; else memory of its own."""
    path = os.environ.get(ENVIRONMENT)
    if not path:
        return private()
    try:
        taken = SlotFile(Path(path)).take()
    except (OSError, ValueError) as error:
        log.warning("metrics of this process are its own: %s", error)
        return private()
    if taken is None:
        log.warning("metrics of this process are its own: all slots of %s are held", path)
    return taken or private()
