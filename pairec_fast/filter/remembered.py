"""What a live store said of a key, remembered for a while: what it does not have, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")
NOTHING = object()


class Remembered(Generic[Value]):
    """At most `size` keys, each for `seconds` since it was put; the oldest goes first. Used by one thread at a time."""

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._seconds, self._clock = size, seconds, clock
        self._values: dict[Hashable, tuple[float, Value]] = {}  # in the order they were put, which is that they end in

    def get(self, key: Hashable) -> Value | object:
        """What was put, or `NOTHING`."""
        until, value = self._values.get(key, (0.0, NOTHING))
        return value if self._clock() < until else NOTHING

    def put(self, key: Hashable, value: Value) -> None:
        if self._size <= 0:
            return
        self._values.pop(key, None)
        while len(self._values) >= self._size:
            del self._values[next(iter(self._values))]
        self._values[key] = self._clock() + self._seconds, value

    def __len__(self) -> int:
        return len(self._values)
