"""What is compared: a library's index over a set, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.recall.sets import Say, Set

Search = Callable[[Any], Any]  # of one of a contender's queries: rows, best first


class Contender(NamedTuple):
    """An index with all its settings but one, its effort; more of it finds more and takes longer.

    `at(k, effort)` is a search made ready, so that setting it up is not timed. `queries` are the set's, in the form
    the library takes one in: that is not timed either. Contenders of one name and different settings stand for each
    other: of a name only the fastest is shown.
    """

    name: str
    setting: str
    at: Callable[[int, int], Search]
    queries: Sequence[Any]
    least: Callable[[int], int]  # effort, of k
    most: Callable[[int], int]

    def __str__(self) -> str:
        return f"{self.name}, {self.setting}" if self.setting else self.name


Make = Callable[[Set, Say], list[Contender]]


def kept(path: Path, build: Callable[[Path], object], say: Say) -> Path:
    """The file or directory `path`; `build` writes it unless it is there, and never half of it."""
    if not path.exists():
        say(f"building {path.name}")
        partial = path.with_name(path.name + ".partial")
        build(partial)
        partial.replace(path)
    return path
