"""What stands under a key of a store: PAI-Rec's texts of several features, and a process's cache of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pairec_fast.expression.convert import to_float

Values = Mapping[str, Any]


def user_csv(text: str, delimiter: str) -> dict[str, Any]:
    """`a:1,b:x`, each pair parted at its first colon; all values stay text."""
    pairs = (pair.split(":", 1) for pair in text.split(delimiter) if ":" in pair)
    return {name: value for name, value in pairs}


def item_csv(text: str, delimiter: str) -> dict[str, Any]:
    """`a:1,b:x`, pairs of exactly one colon; numeric text becomes a number."""
    pairs = (pair.split(":") for pair in text.split(delimiter) if pair.count(":") == 1)
    return {name: numeric(value) for name, value in pairs}


def numeric(text: str) -> Any:
    """The double a text stands for, or the text."""
    number = to_float(text, 0.0)
    return number if number != 0.0 or to_float(text, 1.0) == 0.0 else text


def from_json(text: str | bytes) -> dict[str, Any]:
    """A JSON object; anything else is no features.

    Raises:
        ValueError: no JSON.
    """
    value = msgspec.json.decode(text)
    return value if isinstance(value, dict) else {}


class Cache:
    """Values by key for `seconds` since they were written, at most `size` of them: the oldest go first.

    A key without values is remembered as well.
    """

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._seconds, self._clock = size, seconds, clock
        self._entries: OrderedDict[str, tuple[float, Values | None]] = OrderedDict()

    def get(self, key: str) -> tuple[bool, Values | None]:
        """Whether the key is known, and its values."""
        entry = self._entries.get(key)
        if entry is None or entry[0] < self._clock():
            return False, None
        return True, entry[1]

    def put(self, key: str, values: Values | None) -> None:
        self._entries.pop(key, None)
        self._entries[key] = self._clock() + self._seconds, values
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
