"""Rows as DataHub's typed tuples: which value a field's type can hold, and how it is written.

A value is converted where nothing is lost, and refused where something would be. Missing, null and, but for text, empty
values are null.

    string                              text as it is; anything else as JSON text
    tinyint smallint integer bigint     integers of 8, 16, 32 and 64 bits; whole doubles; both also as text
    double                              numbers that a double holds; also as text
    float                               numbers, rounded to 32 bits; also as text
    decimal                             numbers; also as text
    boolean                             true and false; also as text in any case
    timestamp                           integers, microseconds since 1970; also as text, or an RFC 3339 time as text
"""

from __future__ import annotations

import datetime
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from pairec_fast.messages import go_json

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
# Year 1 to year 9999, as DataHub bounds it.
_TIMES = range(-62_135_798_400_000_000, 253_402_271_999_000_000 + 1)


class Column(NamedTuple):
    """A field of a topic: `type` is one of `TYPES`."""

    name: str
    type: str
    allow_null: bool = True


class Unfit(Exception):
    """A value that its field's type cannot hold; no retry will change that."""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = go_json(value)
    if not text:
        raise Unfit("has no JSON text: a number in it is not finite, or it is nested too deep")
    return text


def _whole(value: Any) -> int:
    """An integer that loses nothing."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = Decimal(value)
        if number == number.to_integral_value():
            return int(number)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unfit("is no integer")


def _integer(bits: int) -> Callable[[Any], int]:
    bound = 1 << (bits - 1)

    def convert(value: Any) -> int:
        number = _whole(value)
        if not -bound <= number < bound:
            raise Unfit(f"is beyond {bits} bits")
        return number

    return convert


def _double(value: Any) -> float:
    if (isinstance(value, str) and _NUMBER.fullmatch(value)) or (
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 1000 and int(float(value)) == value
    ):
        number = float(value)
    elif isinstance(value, float):
        number = value
    else:
        raise Unfit("is no number that a double holds")
    if not math.isfinite(number):
        raise Unfit("is not finite")
    return number


def _float(value: Any) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", _double(value)))[0]
    except OverflowError:
        raise Unfit("is beyond 32 bits") from None
    return rounded


def _decimal(value: Any) -> Decimal:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    raise Unfit("is no number")


def _boolean(value: Any) -> bool:
    word = value.lower() if isinstance(value, str) else value
    if word is True or word is False:
        return bool(word)
    if word in ("true", "false"):
        return bool(word == "true")
    raise Unfit("is neither true nor false")


def _timestamp(value: Any) -> int:
    if isinstance(value, str) and _RFC_3339.fullmatch(value):
        try:
            time = datetime.datetime.fromisoformat(value.upper())
        except ValueError:
            raise Unfit("is no time") from None
        number = (time - _EPOCH) // _MICROSECOND
    else:
        number = _whole(value)
    if number not in _TIMES:
        raise Unfit("is beyond the years 1 to 9999 in microseconds")
    return number


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "string": _text,
    "tinyint": _integer(8),
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "double": _double,
    "float": _float,
    "decimal": _decimal,
    "boolean": _boolean,
    "timestamp": _timestamp,
}

TYPES = tuple(_CONVERT)

# Of PAI-Rec's public schema: the fields of user rows and of item rows. *Source*: PAIREC 9.4.
_PUBLIC = (
    *("request_id", "scene", "request_time", "user_id", "user_features", "request_info", "module", "item_id"),
    *("raw_features", "generate_features", "context_features", "item_features"),
)
PUBLIC = tuple(Column(name, "integer" if name == "request_time" else "string") for name in _PUBLIC)


class Tuples:
    """Makes tuples for one schema. `columns` decide which fields of a row are taken, and in which order."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.columns = tuple(columns)
        self._plan = [(column, _CONVERT[column.type]) for column in self.columns]

    def values(self, row: Mapping[str, Any]) -> list[Any]:
        """The values of `row` in the order of the columns; None is null.

        Raises:
            Unfit: a value its type cannot hold, or none where there must be one. The message names field and rule.
        """
        values: list[Any] = []
        for column, convert in self._plan:
            value = row.get(column.name)
            if value is None or (value == "" and column.type != "string"):
                if not column.allow_null:
                    raise Unfit(f"{column.name}: is missing, and the topic allows no null")
                values.append(None)
                continue
            try:
                values.append(convert(value))
            except Unfit as reason:
                raise Unfit(f"{column.name}: {value!r:.80} {reason} ({column.type})") from None
        return values
