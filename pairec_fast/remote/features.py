"""One feature value as EasyRec reads it: a one-of of thirty kinds. Whole columns are written at once.

The number of a kind is its field: scalars 1 to 5, maps 6 to 20 (by the kind of their keys, then of their values), lists
21 to 25, lists of lists 26 to 30; within each group the order of the value kinds is the same but for scalars and maps,
where texts stand elsewhere. *Source*: PAIREC 6.4; `com.alibaba.pairec.processor.PBFeature`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.messages import go_json
from pairec_fast.remote import wire

# Numbers [count], NaN being a missing value; or codes [count] int32 into a vocabulary, -1 being a missing one.
Column = NDArray[Any] | tuple[NDArray[np.int32], Sequence[Any]]

_SCALARS = {"int": 1, "int64": 2, "string": 3, "float": 4, "double": 5}
_KEYS = {"int64": 6, "string": 11, "int": 16}
_VALUES = ("string", "int", "int64", "float", "double")
_ELEMENTS = ("int", "int64", "string", "float", "double")
_WORDS = {"int": "Int", "int64": "Long", "string": "String", "float": "Float", "double": "Double"}

# field -> what it holds: (container, key kind, value kind)
_KINDS: dict[int, tuple[str, str, str]] = {field: ("scalar", "", kind) for kind, field in _SCALARS.items()}
_KINDS |= {first + at: ("map", key, kind) for key, first in _KEYS.items() for at, kind in enumerate(_VALUES)}
_KINDS |= {21 + at: ("list", "", kind) for at, kind in enumerate(_ELEMENTS)}
_KINDS |= {26 + at: ("lists", "", kind) for at, kind in enumerate(_ELEMENTS)}
_FIELDS = {told: field for field, told in _KINDS.items()}

_INT32 = range(-(1 << 31), 1 << 31)
_INT64 = range(-(1 << 63), 1 << 63)
_DTYPES = {"float": "<f4", "double": "<f8"}
_TYPED = re.compile(r"(?:(list<list|list|map)<)?(?:(string|int|int64),)?(string|int|int64|float|double)>*")

NOTHING = wire.block(_SCALARS["string"], b"")  # what a missing or unsupported value of an item is: the empty text


def feature(value: Any, kind: str = "") -> bytes | None:
    """The body of a feature, or None for a value EasyRec has no kind for: a bool, null, or a mixture.

    `kind` is the type that `complex_type_features` named, and decides where it fits; otherwise the value does: integers
    within 32 bits are int, wider ones int64; real numbers are double.
    """
    if not kind and type(value) is str:  # most are
        return wire.text(_SCALARS["string"], value)
    container, key, element = _kind_of(value, kind)
    if element == "int" and not _all_in(_INT32, value, container):
        element = "int64"
    if key == "int" and not _all_in(_INT32, list(value), "list"):
        key = "int64"
    field = _FIELDS.get((container, key, element))
    if field is None:
        return None
    if (element == "int64" and not _all_in(_INT64, value, container)) or (
        key == "int64" and not _all_in(_INT64, list(value), "list")
    ):
        return None
    if container == "scalar":
        return _one(field, element, value)
    if container == "map":
        entries = (wire.entry(1, _one(1, key, one), _one(2, element, part)) for one, part in value.items())
        return wire.block(field, b"".join(entries))
    if container == "list":
        return wire.block(field, _many(element, value))
    return wire.block(field, b"".join(wire.block(1, _many(element, row)) for row in value))


def _kind_of(value: Any, kind: str) -> tuple[str, str, str]:
    """(container, kind of the keys, kind of the values), each "" where there is none or nothing fits."""
    if kind and (told := _TYPED.fullmatch(kind)):
        named = {None: "scalar", "list": "list", "list<list": "lists", "map": "map"}[told[1]], told[2] or "", told[3]
        if _fits(value, *named):  # a load may have put another value in its place
            return named
    if isinstance(value, list):
        nested = bool(value) and all(isinstance(row, list) for row in value)
        return (
            ("lists" if nested else "list"),
            "",
            _common([part for row in value for part in row] if nested else value),
        )
    if isinstance(value, dict):
        return "map", _common(list(value)), _common(list(value.values()))
    return "scalar", "", _common([value])


def _fits(value: Any, container: str, key: str, element: str) -> bool:
    if container == "scalar":
        return type(value) in _TYPES[element]
    if container == "map":
        return (
            isinstance(value, dict)
            and {type(one) for one in value} <= _TYPES[key]
            and {type(part) for part in value.values()} <= _TYPES[element]
        )
    if not isinstance(value, list):
        return False
    if container == "lists":
        return all(_fits(row, "list", "", element) for row in value)
    return {type(part) for part in value} <= _TYPES[element]


_TYPES: dict[str, set[type]] = {
    "string": {str}, "int": {int}, "int64": {int}, "float": {int, float}, "double": {int, float}
}  # fmt: skip


def _common(values: list[Any]) -> str:
    """The kind of all `values`; "" when they have none in common or there are none."""
    kinds = {type(value) for value in values}
    return {str: "string", int: "int", float: "double"}.get(kinds.pop(), "") if len(kinds) == 1 else ""


def _all_in(bounds: range, value: Any, container: str) -> bool:
    if container == "scalar":
        return value in bounds
    if container == "lists":
        return all(part in bounds for row in value for part in row)
    return all(part in bounds for part in (value.values() if isinstance(value, dict) else value))


def _one(field: int, kind: str, value: Any) -> bytes:
    return _WRITE[kind](field, value)


_WRITE: dict[str, Callable[[int, Any], bytes]] = {
    "int": wire.number, "int64": wire.number, "string": wire.text, "float": wire.single, "double": wire.double
}  # fmt: skip


def _many(kind: str, values: list[Any]) -> bytes:
    """A repeated field 1: numbers packed, as proto3 has them; nothing at all when empty."""
    if kind == "string":
        return b"".join(wire.text(1, value) for value in values)
    if not values:
        return b""
    if kind in _DTYPES:
        with np.errstate(over="ignore"):
            return wire.block(1, np.array(values, np.float64).astype(_DTYPES[kind]).tobytes())
    return wire.block(1, b"".join(map(wire.varint, values)))


def of_items(column: Column, count: int, missing: bytes = NOTHING) -> bytes:
    """The values of one name for `count` items, as a repeated field 1: one value each, `missing` where there is none.

    Costs passes over the column, and Python once per distinct value of a vocabulary.
    """
    if isinstance(column, tuple):
        codes, vocabulary = column
        distinct, order = np.unique(codes[:count], return_inverse=True)
        pieces = [
            wire.block(1, missing if code < 0 else feature(vocabulary[code]) or NOTHING) for code in distinct.tolist()
        ]
        return wire.gathered(pieces, order)
    values = column[:count]
    if values.dtype.kind == "b":  # PAI-Rec has no kind for it
        return wire.block(1, NOTHING) * len(values)
    if values.dtype.kind == "f":
        return _doubles(values.astype("<f8"), missing)
    digits, lengths = wire.packed_varints(values.astype(np.int64))
    rows = np.empty((len(values), 3 + digits.shape[1]), np.uint8)
    narrow = (values >= _INT32.start) & (values < _INT32.stop)
    rows[:, 0], rows[:, 1] = 1 << 3 | wire.BYTES, 1 + lengths
    rows[:, 2] = np.where(narrow, _SCALARS["int"] << 3, _SCALARS["int64"] << 3) | wire.VARINT
    rows[:, 3:] = digits
    return wire.ragged(rows, 3 + lengths)


def _doubles(values: NDArray[np.float64], missing: bytes) -> bytes:
    rows = np.empty((len(values), 11), np.uint8)
    rows[:, :3] = (1 << 3 | wire.BYTES, 9, _SCALARS["double"] << 3 | wire.FIXED64)
    rows[:, 3:] = values.view(np.uint8).reshape(-1, 8)
    absent = np.isnan(values)
    if not absent.any():
        return rows.tobytes()
    filler = np.frombuffer(wire.block(1, missing), np.uint8)
    rows[absent, : len(filler)] = filler
    return wire.ragged(rows, np.where(absent, len(filler), 11))


def of_one(value: Any, kind: str = "") -> bytes:
    """The value of one name for a single item, as a repeated field 1."""
    return wire.block(1, feature(value, kind) or NOTHING)


def default_of(column: Column) -> bytes:
    """What stands for a missing value where a column is sent because items have it, not because it was asked for: the
    zero of the type its first item has."""
    if isinstance(column, tuple):
        codes, vocabulary = column
        first = next((vocabulary[code] for code in codes[codes >= 0][:1].tolist()), None)
        zero: Any = {int: 0, float: 0.0}.get(type(first), "")
    else:
        zero = {"f": 0.0, "b": ""}.get(column.dtype.kind, 0)
    return feature(zero) or NOTHING


def go_text(features: Sequence[bytes]) -> str:
    """Features as Go prints its structs: `[{"Value":{"StringFeature":"x"}}]`; "" when a number is NaN or infinite.

    Raises:
        WireError: bytes that are no feature.
    """
    return go_json([{"Value": _go_value(body)} for body in features] if features else None)


def _go_value(body: bytes) -> dict[str, Any] | None:
    found: tuple[int, int, int | bytes] | None = None
    for field, kind, value in wire.fields(body):
        if field in _KINDS:
            found = field, kind, value  # of a one-of the last counts
    if found is None:
        return None
    field, kind, value = found
    container, key, element = _KINDS[field]
    if container == "scalar":
        return {f"{_WORDS[element]}Feature": _read(element, kind, value)}
    if not isinstance(value, bytes):
        raise wire.WireError(f"wire type {kind} where feature {field} should be")
    if container == "map":
        entries = dict(_entry(key, element, part) for part in _blocks(value))
        return {f"{_WORDS[key]}{_WORDS[element]}Map": {"map_field": entries} if entries else {}}
    if container == "list":
        return {f"{_WORDS[element]}List": _go_list(element, value)}
    lists = [_go_list(element, part) for part in _blocks(value)]
    return {f"{_WORDS[element]}Lists": {"lists": lists} if lists else {}}


def _go_list(kind: str, body: bytes) -> dict[str, Any]:
    parts = [(how, value) for field, how, value in wire.fields(body) if field == 1]
    values: list[Any]
    if kind == "string":
        values = [_read(kind, how, value) for how, value in parts]
    elif kind in _DTYPES:
        values = wire.floats(parts, _DTYPES[kind]).tolist()
        values = [short(value) for value in values] if kind == "float" else values
    else:
        values = wire.integers(parts)
    return {"features": values} if values else {}


def _blocks(body: bytes) -> list[bytes]:
    """The messages in field 1."""
    return [value for field, _, value in wire.fields(body) if field == 1 and isinstance(value, bytes)]


def _entry(key: str, kind: str, body: bytes) -> tuple[Any, Any]:
    parts: dict[int, Any] = {1: _ZEROS[key], 2: _ZEROS[kind]}
    for field, how, value in wire.fields(body):
        if field in parts:
            parts[field] = _read(key if field == 1 else kind, how, value)
    return parts[1], parts[2]


_ZEROS: dict[str, Any] = {"int": 0, "int64": 0, "string": "", "float": 0.0, "double": 0.0}
_WIRE = {"int": wire.VARINT, "int64": wire.VARINT, "string": wire.BYTES, "float": wire.FIXED32, "double": wire.FIXED64}


def _read(kind: str, how: int, value: int | bytes) -> Any:
    if how != _WIRE[kind]:
        raise wire.WireError(f"wire type {how} where a feature of kind {kind} should be")
    if isinstance(value, int):
        return wire.signed(value)
    if kind == "string":
        return value.decode("utf-8", "replace")
    number = struct.unpack("<f" if kind == "float" else "<d", value)[0]
    return short(number) if kind == "float" else number


def short(value: float) -> float:
    """The double with the fewest digits that rounds to this float32: what Go prints of one."""
    return float(str(np.float32(value)))
