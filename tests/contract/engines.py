"""The demo world for cases that need an engine: made once, while each engine logs into a folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.worlds import World, make_world


@cache
def _demo() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="contract-")
    make_world(Path(folder.name) / "demo")
    return folder


def demo() -> Path:
    """The folder of the demo world: engine.json, snapshots/. Read-only."""
    return Path(_demo().name) / "demo"


@contextmanager
def fresh_world() -> Iterator[World]:
    """A configuration to change, with a log that is empty."""
    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        yield World(demo() / "engine.json", Path(folder))
