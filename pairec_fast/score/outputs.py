"""Which column of `arena.algo_score` has which output: one table for all that scores in a scene."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

SPARE = 32  # outputs that a model server may name and no expression does: 32 KiB an arena each


class Outputs(Sequence[str]):
    """Names in the order of their columns. It only grows: model servers name their outputs when they answer.

    `capacity` is how many columns an arena needs.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._making = threading.Lock()
        self._spare = 0

    @property
    def names(self) -> tuple[str, ...]:
        """All so far."""
        return self._names

    @property
    def capacity(self) -> int:
        return max(1, len(self._names) if not self._spare else self._spare)

    def reserve(self, names: Sequence[str]) -> int:
        """The first of the neighbouring columns of `names`, at load."""
        known = self._names
        for first in range(len(known) - len(names) + 1):
            if known[first : first + len(names)] == tuple(names):
                return first
        self._names = (*known, *names)
        return len(known)

    def leave_room(self) -> None:
        """Let model servers name `SPARE` more. Nothing is reserved afterwards."""
        self._spare = len(self._names) + SPARE

    def column(self, name: str) -> int:
        """The column of an output, new ones included; -1 when there is no room for another."""
        try:
            return self._names.index(name)
        except ValueError:
            pass
        with self._making:
            if name not in self._names:
                if len(self._names) >= self._spare:
                    return -1
                self._names = (*self._names, name)
            return self._names.index(name)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]
        return self._names[place]

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)
