"""Universal Binary JSON, as far as XGBoost writes it: objects, arrays, typed arrays, text and numbers.

Source: the UBJSON draft 12 specification (big-endian numbers; `$` type and `#` count of a container).
"""

from __future__ import annotations

from typing import Any

import numpy as np

DEPTH_MAX = 64  # XGBoost nests eight deep
NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
CONSTANTS = {b"T": True, b"F": False, b"Z": None}


def decode(data: bytes) -> Any:
    """What `data` holds, all of it: dict, list, str, int, float, bool, None.

    Raises:
        ValueError: with the byte where it ceases to be UBJSON. Nothing is allocated that `data` does not fill.
    """
    reader = _Reader(data)
    value = reader.value(reader.take(1), 0)
    if reader.at != len(data):
        raise ValueError(f"byte {reader.at}: {len(data) - reader.at} bytes after the end of the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"byte {self.at}: {size} bytes wanted, {len(self.data) - self.at} left: it is cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def count(self) -> int:
        kind = self.take(1)
        if kind not in (b"i", b"U", b"I", b"l", b"L"):
            raise ValueError(f"byte {self.at - 1}: {kind!r} begins a length; an integer is right")
        number: int = self.value(kind, 0)
        return number

    def text(self) -> str:
        return self.take(self.count()).decode()  # UnicodeDecodeError is a ValueError

    def value(self, kind: bytes, depth: int) -> Any:
        if kind in NUMBERS:
            return np.frombuffer(self.take(int(NUMBERS[kind][2])), NUMBERS[kind])[0].item()
        if kind in CONSTANTS:
            return CONSTANTS[kind]
        if kind == b"S":
            return self.text()
        if kind not in (b"[", b"{") or depth == DEPTH_MAX:
            raise ValueError(f"byte {self.at - 1}: {kind!r} {depth} deep begins no value")
        is_array, each, count = kind == b"[", None, None
        if self.data[self.at : self.at + 1] == b"$":
            each = self.take(2)[1:]
            if not is_array or each not in NUMBERS or self.data[self.at : self.at + 1] != b"#":
                raise ValueError(f"byte {self.at}: {each!r} is no type of a counted array of numbers")
        if self.data[self.at : self.at + 1] == b"#":
            self.take(1)
            count = self.count()
        if each is not None and count is not None:
            return np.frombuffer(self.take(count * int(NUMBERS[each][2])), NUMBERS[each]).tolist()
        items: list[Any] = []
        keys: list[str] = []
        while len(items) != count:
            if count is None and self.data[self.at : self.at + 1] == (b"]" if is_array else b"}"):
                self.take(1)
                break
            if not is_array:
                keys.append(self.text())
            items.append(self.value(self.take(1), depth + 1))
        return items if is_array else dict(zip(keys, items, strict=True))
