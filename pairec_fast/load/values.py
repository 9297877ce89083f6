"""What stands under a key of a store: PAI-Rec's texts of several features, and a process's cache of them."""

from __future__ import annotations

import datetime
import decimal
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pairec_fast.expression.convert import to_float

Values = Mapping[str, Any]

_PLAIN = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")
EXACT = 2**53  # beyond it not every integer is a double


def user_csv(text: str, delimiter: str) -> dict[str, Any]:
    """`a:1,b:x`, each pair parted at its first colon, and a name before it; all values stay text."""
    pairs = (pair.partition(":") for pair in text.split(delimiter))
    return {name: value for name, colon, value in pairs if name and colon}


def item_csv(text: str, delimiter: str) -> dict[str, Any]:
    """`a:1,b:x`, pairs of exactly one colon; numeric text becomes a number."""
    pairs = (pair.split(":") for pair in text.split(delimiter) if pair.count(":") == 1)
    return {name: numeric(value) for name, value in pairs}


def numeric(text: str) -> Any:
    """The double a text stands for, or the text."""
    if _PLAIN.fullmatch(text):  # nearly all; the rest is Go's grammar, at ten times the price
        return float(text)
    number = to_float(text, 0.0)
    return number if number != 0.0 or to_float(text, 1.0) == 0.0 else text


def from_json(text: str) -> dict[str, Any]:
    """A JSON object, `null` as an empty one. Numbers are doubles, but integers that no double holds stay themselves.

    Raises:
        ValueError: anything else.
    """
    try:
        value = msgspec.json.decode(text)
        if value is None:
            return {}
        if isinstance(value, dict):
            for name, part in value.items():
                if type(part) is not float and type(part) is not str:
                    value[name] = _doubles(part)
            return value
    except RecursionError:
        raise ValueError("nested too deep") from None
    raise ValueError(f"expected a JSON object, got {text!r:.40}")


def _doubles(value: Any) -> Any:
    if type(value) is int:
        return float(value) if -EXACT <= value <= EXACT else value
    if isinstance(value, list):
        return [_doubles(part) for part in value]
    return {name: _doubles(part) for name, part in value.items()} if isinstance(value, dict) else value


def from_sql(value: Any) -> Any:
    """A value of a row as PAI-Rec's properties have it: a number, a bool, a text, or a list of texts."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return [str(part) for part in value]
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)


class Cache:
    """Values by key for `seconds` since they were written, at most `size` of them: the oldest go first.

    Used on the stores' loop alone, so nothing is locked. What it holds belongs to all requests: nobody changes it.
    """

    def __init__(self, size: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._seconds, self._clock = size, seconds, clock
        self._entries: dict[str, tuple[float, Values | None]] = {}  # in the order they were written, and expire in

    def get(self, key: str) -> tuple[bool, Values | None]:
        """Whether the key is known, and its values; None of a key that is known to have none."""
        entry = self._entries.get(key)
        if entry is None:
            return False, None
        if entry[0] <= self._clock():
            del self._entries[key]
            return False, None
        return True, entry[1]

    def put(self, key: str, values: Values | None) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = self._clock() + self._seconds, values

    def __len__(self) -> int:
        return len(self._entries)
