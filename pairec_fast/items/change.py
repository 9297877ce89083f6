"""A change of one item, and whether it fits the item table: checked before it is logged, and again where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.errors import RequestError
from pairec_fast.manifest import Manifest
from pairec_fast.snapshot import Column

ID_BYTES_MAX, TEXT_BYTES_MAX = 1024, 1 << 16
LENGTH_MAX = 1e18  # of a vector: longer ones score beyond float32
SHOWN = 20  # mistakes named at once

Where = Callable[[int], str]


class Change(msgspec.Struct, omit_defaults=True):
    """What is said of one item: values of `columns` (null: missing) and `vectors`; the others stay as they are.

    A vector is the bytes of float32, in JSON as base64: a quarter of its numbers as text, and nothing is rounded.

    `removed`: it is gone, and whatever comes under its id later starts anew, as `anew` says of such a change.
    """

    id: str
    columns: dict[str, Any] = {}
    vectors: dict[str, bytes] = {}
    removed: bool = False
    anew: bool = False


_decode = msgspec.json.Decoder(Change).decode
_encode = msgspec.json.Encoder().encode


def encoded(changes: Iterable[Change]) -> bytes:
    """A record's payload."""
    return b"\n".join(_encode(change) for change in changes)


def merged(payloads: Iterable[bytes]) -> list[Change]:
    """One change for each item that the records name: what all of them come to, in order of the last of each."""
    last: dict[str, Change] = {}
    for payload in payloads:
        for line in payload.split(b"\n"):
            change = _decode(line)
            before = last.pop(change.id, None)
            if before is not None and not change.removed:
                change.anew = before.removed or before.anew
                if not before.removed:
                    change.columns = before.columns | change.columns
                    change.vectors = before.vectors | change.vectors
            last[change.id] = change
    return list(last.values())


class Shape:
    """What an item may have: `columns` name -> (kind, dtype, width of a vector), `vectors` name -> dimensions."""

    def __init__(self, columns: Mapping[str, tuple[str, np.dtype[Any], int]], vectors: Mapping[str, int]) -> None:
        self.columns, self.vectors = columns, vectors
        # Whole numbers and vectors have no value that says "missing".
        self.needed = [
            name
            for name, (kind, dtype, _) in columns.items()
            if kind == "vector" or (kind == "number" and dtype.kind in "biu")
        ]

    @classmethod
    def of(cls, manifest: Manifest) -> Shape:
        """The shape of a snapshot's items."""
        columns = {}
        for name, kind in manifest.items.columns.items():
            info = manifest.arrays[f"items.{name}"]
            columns[name] = kind, np.dtype(info.dtype), info.shape[1] if kind == "vector" else 0
        return cls(columns, {name: manifest.arrays[f"{name}.items"].shape[1] for name in manifest.vectors})

    def value(self, name: str, value: Any) -> Any:
        """A column's value as the log holds it: a number, a text, a list of numbers, or None.

        Raises:
            ValueError: it does not fit; the message says what was given and what would be right.
        """
        kind, dtype, width = self.columns[name]
        if kind == "vector":
            return numbers(value, width)
        if value is None:
            if name in self.needed:
                raise ValueError("null; the column holds whole numbers, none of them missing")
            return None
        if kind == "text":
            return _text(value, TEXT_BYTES_MAX)
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, str | bytes) or not isinstance(value, int | float):
            raise ValueError(f"{_shown(value)}; a number would be right")
        if dtype.kind == "f":
            if not abs(value) <= np.finfo(dtype).max:
                raise ValueError(f"{_shown(value)}; a finite number within {dtype} would be right")
            return float(value)
        limits = np.iinfo(dtype if dtype.kind != "b" else np.uint8)
        if value != int(value if abs(value) <= 1 << 64 else 0) or not limits.min <= value <= limits.max:
            raise ValueError(f"{_shown(value)}; a whole number from {limits.min} to {limits.max} would be right")
        return int(value)

    def fitting(self, change: Change) -> Change:
        """The part of a logged change that still fits: the table may have got other columns since."""
        columns = {name: value for name, value in change.columns.items() if self._fits(name, value)}
        vectors = {name: one for name, one in change.vectors.items() if len(one) == 4 * self.vectors.get(name, -1)}
        return msgspec.structs.replace(change, columns=columns, vectors=vectors)

    def _fits(self, name: str, value: Any) -> bool:
        if name not in self.columns:
            return False
        try:
            self.value(name, value)
        except ValueError:
            return False
        return True

    def checked(self, items: list[Any], where: Where) -> list[Change]:
        """The changes that `items` ask for, each {"item_id": ..., column: value, ..., "vectors": {name: [...]}}.

        Raises:
            RequestError: all that is wrong with them, up to 20 things; `where(place)` begins each line.
        """
        changes, ids, wrong = list[Change](), list[tuple[int, Any]](), list[str]()
        for place, item in enumerate(items):
            columns: dict[str, Any] = {}
            vectors: dict[str, bytes] = {}
            given = dict(item) if isinstance(item, Mapping) else None
            if given is None:
                wrong.append(f'{where(place)}: {_shown(item)}; an object such as {{"item_id": "i1"}} would be right')
                continue
            id, parts = given.pop("item_id", None), given.pop("vectors", {})
            for name, value in given.items():
                try:
                    if name not in self.columns:
                        raise ValueError(f"no such column; the item table has {_list(self.columns)}")
                    columns[name] = self.value(name, value)
                except ValueError as error:
                    wrong.append(f"{where(place)}: {name}: {error}")
            if not isinstance(parts, Mapping):
                wrong.append(f'{where(place)}: vectors: {_shown(parts)}; {{"name": [numbers]}} would be right')
                parts = {}
            for name, vector in parts.items():
                try:
                    if name not in self.vectors:
                        raise ValueError(f"no such vectors; the snapshot has {_list(self.vectors)}")
                    vectors[name] = np.array(numbers(vector, self.vectors[name]), np.float32).tobytes()
                except ValueError as error:
                    wrong.append(f"{where(place)}: vectors.{name}: {error}")
            ids.append((place, id))
            changes.append(Change(id, columns, vectors))
        _refuse(wrong + _wrong_ids(ids, where))
        return changes


def _wrong_ids(ids: Iterable[tuple[int, Any]], where: Where) -> list[str]:
    """What is wrong with the ids of one call, a line each."""
    wrong, places = [], dict[Any, int]()
    for place, id in ids:
        try:
            _text(id, ID_BYTES_MAX)
            if not id:
                raise ValueError("empty; a text would be right")
            if id in places:
                raise ValueError(f"{_shown(id)} stands in {where(places[id])} already; once would be right")
            places[id] = place
        except ValueError as error:
            wrong.append(f"{where(place)}: item_id: {error}")
    return wrong


def removals(ids: list[Any], where: Where) -> list[Change]:
    """The changes that remove items. Raises RequestError: as `Shape.checked`."""
    _refuse(_wrong_ids(enumerate(ids), where))
    return [Change(id, removed=True) for id in ids]


def lacking(changes: list[Change], needed: list[str], known: Callable[[str], bool], where: Where) -> None:
    """Raise RequestError when an item that is not `known` lacks a value that nothing can stand for."""
    wrong = []
    for place, change in enumerate(changes):
        absent = [name for name in needed if name not in change.columns]
        if absent and not known(change.id):
            wrong.append(f"{where(place)}: {_list(absent)}: not given; a new item, {_shown(change.id)}, needs each")
    _refuse(wrong)


def values_of(column: Column, given: Mapping[int, Any], before: NDArray[np.int32]) -> NDArray[Any]:
    """A column of rows: what is `given` for a place, else what the row `before` [n] has, else, where -1, missing.

    Texts that `column` lacks are added to it. Whole numbers become float64 where one is missing.
    """
    values: NDArray[Any] = column.values[np.maximum(before, 0)]
    new = before < 0
    if column.kind == "number" and values.dtype.kind != "f" and new.sum() > sum(new[place] for place in given):
        values = values.astype(np.float64)
    missing = {"text": -1, "number": np.nan, "vector": 0}[column.kind]
    if values.dtype.kind not in "biu" or column.kind == "text":  # else each is given
        values[new] = missing
    for place, value in given.items():
        if value is not None and column.texts is not None:
            value = column.texts.put(value)
        values[place] = missing if value is None else value
    return values


def numbers(value: Any, width: int) -> list[float]:
    """A vector of `width` finite float32. Raises ValueError: it is none."""
    plain = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(plain, list | tuple) or not all(isinstance(part, int | float | np.number) for part in plain):
        raise ValueError(f"{_shown(value)}; a list of {width} numbers would be right")
    if len(plain) != width:
        raise ValueError(f"{len(plain)} numbers; {width} would be right")
    array: NDArray[np.float64] = np.array([float(part) if abs(part) <= LENGTH_MAX else np.nan for part in plain])
    if not np.isfinite(array).all() or np.linalg.norm(array) > LENGTH_MAX:
        raise ValueError(f"{_shown(value)}; finite numbers would be right, together no longer than {LENGTH_MAX:g}")
    return [float(part) for part in array.astype(np.float32)]


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{'not given' if value is None else _shown(value)}; a text would be right")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(value)}; it has no UTF-8") from None
    if size > most:
        raise ValueError(f"{size:,} bytes of text; at most {most:,}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"


def _refuse(wrong: list[str]) -> None:
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise RequestError("\n".join([*wrong[:SHOWN], *more]))
