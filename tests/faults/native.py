"""What the fault tests compile: programs of csrc, the calls that fail (faultfs), and the ring module with a bug put in.

A negative control changes the source of the log in a known way and runs the same test on it: the test must fail. No
hook for it is in the product; a change whose text is no longer there exactly once is an error.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

from pairec_fast.core import ring

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = "PAIREC_FAULTS_INSIDE"  # set in a process that runs with faultfs

# name -> file, what stands there, what shall stand there
BREAKS = {
    "catch-up": (
        "recover",
        "if (reader == nullptr || !reader->has_footer() || reader->footer().end <= head) continue;",
        "continue;",
    ),
    "header-crc": (
        "ring",
        "return crc32c(&identity, offsetof(RingIdentity, crc));",
        "return crc32c(&identity, sizeof(identity));",  # covers itself
    ),
    "record-crc": (  # recovery believes a record without looking at its payload
        "recover",
        "record_crc(data + offset + sizeof(header), header.size, position) == header.crc) {",
        "true) {",
    ),
    "release-early": ("segment", "return ::fdatasync(fd_.get()) == 0 ? 0 : errno;", "return 0;"),
    "ask-again": (  # a failed fdatasync is repeated on the same file
        "segment",
        "return ::fdatasync(fd_.get()) == 0 ? 0 : errno;",
        "return ::fdatasync(fd_.get()) == 0 || ::fdatasync(fd_.get()) == 0 ? 0 : errno;",
    ),
    "forget-directory": ("segment", "if (code == 0) code = sync_directory(directory);", ""),
    "wall-clock": ("flush", "const std::int64_t now = monotonic_ns();", "const std::int64_t now = wall_ns();"),
    "stuck-writer": (  # no bug: a writer of 4,321 bytes stays 6 s between reservation and commit, of 4,322 one
        "ring",
        "if (size != 0) std::memcpy(",
        "if (size == 4321 || size == 4322) { const std::int64_t until = monotonic_ns() + (size == 4321 ? 6 : 1) * "
        "1'000'000'000ll; "
        "while (monotonic_ns() < until) ::usleep(1000); }\n  if (size != 0) std::memcpy(",
    ),
}


class Unavailable(Exception):
    """What is to be compiled cannot be compiled here; says why."""


def sources() -> list[str]:
    """What the ring module is made of, by the table of setup.py."""
    table = (ROOT / "setup.py").read_text()
    lists = (r"^LOG = \[(.*?)\]", r'"ring": \[\*LOG, (.*?)\]')
    found = [re.search(text, table, re.DOTALL | re.MULTILINE) for text in lists]
    return [name for part in found if part is not None for name in re.findall(r'"(\w+)"', part[1])]


def build(name: str, parts: list[Path | str], flags: list[str]) -> Path:
    """Compile `parts` (files, or text) as one unit; kept for the next call with the same content.

    Raises:
        Unavailable: there is no g++.
    """
    if shutil.which("g++") is None:
        raise Unavailable("no g++ to compile with")
    text = "".join(f'#include "{part}"\n' if isinstance(part, Path) else part + "\n" for part in parts)
    headers = [*(ROOT / "csrc").glob("*.[ch]pp"), *(part for part in parts if isinstance(part, Path))]
    content = "".join([text, *flags, *(header.read_text() for header in sorted(set(headers)))])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pairec_fast-faults-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise Unavailable(f"{folder} belongs to somebody else")
    made = folder / f"{name}-{digest}"
    if made.exists():
        return made
    unit, fresh = folder / f"{name}-{os.getpid()}.cpp", folder / f"{name}-{os.getpid()}.new"
    unit.write_text(text)
    command = ["g++", "-std=c++20", "-pthread", f"-I{ROOT / 'csrc'}", *flags, str(unit), "-o", str(fresh)]
    ran = subprocess.run(command, capture_output=True, text=True)
    unit.unlink()
    if ran.returncode:
        raise (Unavailable if "cannot find" in ran.stderr else RuntimeError)(ran.stderr[-3000:])
    fresh.rename(made)
    return made


def core(names: dict[str, str] | None = None) -> list[Path | str]:
    """The sources of csrc, those in `names` by the text given there."""
    return [(names or {}).get(name, ROOT / "csrc" / f"{name}.cpp") for name in sources()]


def broken_ring(change: str) -> ModuleType:
    """The ring module with one of BREAKS in it.

    Raises:
        Unavailable: no compiler, no headers of Python, or no generated source of the module.
    """
    file, text = changed(change)
    generated = ROOT / "pairec_fast" / "core" / "ring.cpp"
    include = sysconfig.get_paths()["include"]
    if not generated.exists() or not (Path(include) / "Python.h").exists():
        raise Unavailable("no Python.h, or no pairec_fast/core/ring.cpp: build in place first")
    parts = [generated, *core({file: text})]
    made = build(f"ring-{change}", parts, ["-O1", "-w", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{include}"])
    loader = importlib.machinery.ExtensionFileLoader(ring.__name__, str(made))
    spec = importlib.util.spec_from_loader(ring.__name__, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    vars(module)["change"] = change  # for those who compile the same change into something else
    return module


def changed(change: str) -> tuple[str, str]:
    """A file of csrc, without its ending, and its text with one of BREAKS in it."""
    file, old, new = BREAKS[change]
    text = (ROOT / "csrc" / f"{file}.cpp").read_text()
    if text.count(old) != 1:
        raise RuntimeError(f"csrc/{file}.cpp has {text.count(old)} times what --break {change} changes: {old}")
    return file, text.replace(old, new)


@functools.cache
def faultfs() -> Path:
    flags = ["-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-ldl"]
    return build("faultfs", [ROOT / "tests" / "native" / "faultfs.cpp"], flags)


def inside_faultfs(module: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE ARGUMENTS` with faultfs loaded; its standard error goes where ours goes."""
    environment = os.environ | {"LD_PRELOAD": str(faultfs()), INSIDE: "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


class Faults:
    """The faultfs of this process (`inside_faultfs`)."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faultfs_calls.restype = self._library.faultfs_resynced.restype = ctypes.c_long
        self._library.faultfs_clock_reads.restype = ctypes.c_uint64

    def arm(
        self, directory: Path, number: int, code: int = 5, *, call: str = "", then: int = 0, sync_us: int = 0
    ) -> None:  # fmt: skip
        """The `number`-th call on files below `directory` fails with errno `code`; -1: a write stops short; 0: none."""
        long = ctypes.c_long
        self._library.faultfs_arm(
            os.fsencode(directory), call.encode(), long(number), long(then), ctypes.c_int(code), long(sync_us)
        )

    def calls(self) -> int:
        return int(self._library.faultfs_calls())

    def resynced(self) -> int:
        """How often fdatasync was asked of a file again after it had failed."""
        return int(self._library.faultfs_resynced())

    def clock(self, seconds: list[float]) -> None:
        """Each reading of the wall clock is off by the next of these, over and over."""
        steps = (ctypes.c_int64 * len(seconds))(*(int(step * 1e9) for step in seconds))
        self._library.faultfs_clock(steps, ctypes.c_size_t(len(seconds)))

    def clock_reads(self) -> int:
        return int(self._library.faultfs_clock_reads())

    def trace(self, descriptor: int) -> None:
        self._library.faultfs_trace(descriptor)

    def note(self, kind: str, value: int, data: bytes = b"") -> None:
        self._library.faultfs_note(ord(kind), ctypes.c_int64(value), data, ctypes.c_size_t(len(data)))
