"""Runs on disk: raw samples as numbers in JSON, by machine, so that a later run can be held against them."""

from __future__ import annotations

import base64
import json
import os
import platform
import re
import subprocess
import sys
import time
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pairec_fast.latency.measure import Samples

FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NUMBERED = re.compile(r"(\d{4,})_(.+)\.json")


class StoreError(ValueError):
    """A saved run that is not there or cannot be read."""


@dataclass
class Run:
    """What one session measured, and on what."""

    tests: dict[str, Samples] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    name: str = ""


def machine(where: Path | None = None) -> dict[str, Any]:
    """What a comparison must know of where a run was made, and of which commit of the folder `where`."""
    return {
        "id": machine_id(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(where),
    }


def machine_id() -> str:
    """As pytest-benchmark's folders are named."""
    version = ".".join(platform.python_version_tuple()[:2])
    bits = platform.architecture()[0]
    return f"{platform.system()}-{platform.python_implementation()}-{version}-{bits}"


def cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def commit(where: Path | None = None) -> str | None:
    """The commit of this folder, with `-dirty` where files differ from it; nothing where git knows none."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=where, capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def pack(times: array[int]) -> str:
    """Little-endian 64-bit numbers, deflated, as text."""
    copy = array("Q", times)
    if sys.byteorder == "big":
        copy.byteswap()
    return base64.b64encode(zlib.compress(copy.tobytes(), 6)).decode()


def unpack(text: str) -> array[int]:
    times = array("Q")
    times.frombytes(zlib.decompress(base64.b64decode(text, validate=True)))
    if sys.byteorder == "big":
        times.byteswap()
    return times


def save(folder: Path, name: str, run: Run) -> Path:
    """Write `folder/<machine>/<number>_<name>.json`, whole or not at all, numbered after the last."""
    if not NAME.fullmatch(name):
        raise StoreError(f"{name!r} names no run; letters, digits, dots, dashes and underscores would")
    place = folder / machine_id()
    place.mkdir(parents=True, exist_ok=True)
    number = max((number for number, _, _ in saved(folder)), default=0) + 1
    path = place / f"{number:04}_{name}.json"
    tests = {
        test: {"kind": samples.kind, "n": len(samples), "cpu_ns": pack(samples.cpu), "wall_ns": pack(samples.wall)}
        for test, samples in run.tests.items()
    }
    written = path.with_suffix(".part")
    written.write_text(json.dumps({"format": FORMAT, "name": name, "machine": run.machine, "tests": tests}, indent=1))
    written.replace(path)
    return path


def saved(folder: Path) -> list[tuple[int, str, Path]]:
    """Number, name and path of this machine's runs, oldest first."""
    found = []
    for path in (folder / machine_id()).glob("*.json"):
        read = NUMBERED.fullmatch(path.name)
        if read:
            found.append((int(read[1]), read[2], path))
    return sorted(found)


def find(folder: Path, ref: str | None) -> Path | None:
    """The run meant: a file; a name or number of a saved one, the newest if several; the newest of all for none."""
    runs = saved(folder)
    if ref is None:
        return runs[-1][2] if runs else None
    if Path(ref).is_file():
        return Path(ref)
    named = [path for number, name, path in runs if ref in (name, str(number), f"{number:04}", path.stem)]
    return named[-1] if named else None


def load(path: Path) -> Run:
    """A run as it was saved.

    Raises:
        StoreError: the file is none, or of a format this version does not read.
    """
    try:
        read = json.loads(path.read_text())
        if read["format"] != FORMAT:
            raise StoreError(f"{path} is of format {read['format']!r}; this version reads {FORMAT}")
        run = Run({}, dict(read["machine"]), str(read["name"]))
        for test, of in read["tests"].items():
            samples = Samples(str(of["kind"]))
            samples.cpu, samples.wall = unpack(of["cpu_ns"]), unpack(of["wall_ns"])
            if not len(samples.cpu) == len(samples.wall) == of["n"]:
                raise StoreError(
                    f"{path}: {test} has {len(samples.cpu)} and {len(samples.wall)} samples, its n is {of['n']}"
                )
            run.tests[test] = samples
    except (OSError, KeyError, TypeError, AttributeError, ValueError, zlib.error) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} is no saved latency run: {error!r}") from error
    return run
