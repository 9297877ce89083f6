"""Damage a snapshot: it is refused by name, and one that is loaded goes on as it was.

    python -m tests.faults.snapshots [flips] [cuts] [swaps] [--times 500] [--seed 7]

`flips`: one bit of one file, the manifest among them. `cuts`: a file ends early, is longer, empty or gone. `swaps`: a
file has the content of another, or of another snapshot.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np

from pairec_fast import Snapshot, SnapshotError
from tests.faults.command import Row, main
from tests.worlds import make_world


class Victim:
    """A snapshot that is loaded, another of other items, and a place for its damaged twin."""

    def __init__(self, place: Path) -> None:
        self.folder = make_world(place / "world", items=200).parent / "snapshots"
        self.loaded = Snapshot.load(self.folder)
        self.directory = self.loaded.directory
        self.place = place
        self.names = sorted(path.name for path in self.directory.iterdir() if path.is_file())
        self.twin = place / "twin"
        self.arrays = [name for name in self.names if name.endswith(".npy")]
        self.before = self.content()

    def other(self) -> Path:
        """A snapshot of other items."""
        return Snapshot.load(make_world(self.place / "other", items=201).parent / "snapshots").directory

    def content(self) -> list[bytes]:
        return [np.asarray(np.load(self.directory / name, mmap_mode="r")).tobytes() for name in self.arrays]

    def load_with(self, name: str, data: bytes | None, totals: Counter[str]) -> None:
        """Load the snapshot with one file replaced, or left out."""
        self.twin.mkdir()
        for one in self.names:
            if one != name:
                os.link(self.directory / one, self.twin / one)
        if data is not None:
            (self.twin / name).write_bytes(data)
        totals["cases"] += 1
        try:
            Snapshot.load(self.twin)
            totals["unnoticed"] += 1
            print(f"{name} was altered and loaded", file=sys.stderr)
        except SnapshotError as error:
            totals["refused"] += 1
            # A manifest may be damaged so that it accuses another file; any other file is named itself.
            if name != "manifest.json" and name not in str(error):
                totals["unclear"] += 1
                print(f"{name}: {error}", file=sys.stderr)
        except Exception as error:
            totals["crashed"] += 1
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        for path in self.twin.iterdir():
            path.unlink()
        self.twin.rmdir()

    def end(self, totals: Counter[str]) -> Counter[str]:
        totals["changed"] += self.content() != self.before
        totals["unloadable"] += Snapshot.load(self.folder).directory != self.directory
        totals["files"] = len(self.names)
        return totals


def flips(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    victim, rng, totals = Victim(place), random.Random(seed), Counter[str]()
    for _ in range(times):
        name = "manifest.json" if rng.random() < 0.2 else rng.choice(victim.names)
        data = bytearray((victim.directory / name).read_bytes())
        if not data:
            continue
        at = rng.randrange(len(data)) if rng.random() < 0.7 else rng.randrange(min(128, len(data)))
        data[at] ^= 1 << rng.randrange(8)
        victim.load_with(name, bytes(data), totals)
    return victim.end(totals)


def cuts(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    victim, rng, totals = Victim(place), random.Random(seed), Counter[str]()
    for _ in range(times):
        name = rng.choice(victim.names)
        data = (victim.directory / name).read_bytes()
        kind = rng.randrange(4)
        altered = [data[: rng.randrange(max(len(data), 1))], data + b"\0", b"", None][kind]
        if altered != data:
            victim.load_with(name, altered, totals)
    return victim.end(totals)


def swaps(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    victim, rng, totals = Victim(place), random.Random(seed), Counter[str]()
    other = victim.other()
    for _ in range(times):
        name, source = rng.choice(victim.names), rng.choice(victim.names)
        folder = victim.directory if rng.random() < 0.5 else other
        path = folder / (name if folder is other else source)
        data = path.read_bytes() if path.exists() else b""
        if name != "manifest.json" and data != (victim.directory / name).read_bytes():
            victim.load_with(name, data, totals)
    return victim.end(totals)


NEVER = ("unnoticed", "unclear", "crashed", "changed", "unloadable")
ROWS = {
    "flips": Row(flips, 500, NEVER, ("cases", "refused")),
    "cuts": Row(cuts, 500, NEVER, ("cases", "refused")),
    "swaps": Row(swaps, 500, NEVER, ("cases", "refused")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.snapshots", __doc__ or "", ROWS))
