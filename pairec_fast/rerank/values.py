"""What sorts compare: texts as numbers, numbers by name, who meets conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.expression import Column, Condition, mask
from pairec_fast.expression.convert import to_float, to_int
from pairec_fast.query import Query
from pairec_fast.snapshot import Column as Stored
from pairec_fast.snapshot import Snapshot

Numbers = Callable[[Query, Arena], NDArray[np.float64]]


def holds(conditions: Sequence[Condition], query: Query, arena: Arena) -> NDArray[np.uint8]:
    """Which candidates meet all conditions: uint8 [count], by slot. A condition that errs is not met."""
    return mask(conditions, query.properties(arena), arena.count, query.user_features)


def numbers_of(name: str, outputs: Sequence[str]) -> Numbers:
    """Reads a number of every candidate by name, float64 [count]: `current_score`, an algorithm's output, a property.

    A text that is no number is 0; without the property it is the score. *Source*: PAIREC 0.4.
    """

    def score(query: Query, arena: Arena) -> NDArray[np.float64]:
        return arena.score[: arena.count]

    if name in ("", "current_score"):
        return score
    if name in outputs:
        at = list(outputs).index(name)
        return lambda query, arena: arena.algo_score[at, : arena.count]

    def read(query: Query, arena: Arena) -> NDArray[np.float64]:
        column = query.properties(arena).get(name)
        given = score(query, arena)
        return given if column is None else as_numbers(column, given)

    return read


def settled(key: NDArray[np.float64], descending: bool) -> NDArray[np.float64]:
    """`key` with what is no number at the end of the order."""
    return np.where(key == key, key, -np.inf if descending else np.inf)


def as_numbers(column: Column, default: NDArray[np.float64]) -> NDArray[np.float64]:
    """A column as doubles; where it is missing, `default` [count]."""
    if not isinstance(column, tuple):
        if column.dtype.kind == "b":
            return np.zeros(len(column))
        wide = column.astype(np.float64)
        return np.where(wide == wide, wide, default)
    codes, texts = column
    present, which = np.unique(np.maximum(codes, -1), return_inverse=True)
    values = np.array([to_float(texts[code], 0.0) if code >= 0 else 0.0 for code in present.tolist()])
    return np.where(codes >= 0, values[which], default)


def item_text(value: Any) -> str:
    """PAI-Rec's text of a property: texts, whole numbers, doubles without what is behind the point; else empty."""
    if isinstance(value, str):
        return value
    return str(to_int(value, 0)) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def coded(column: Column | None, count: int) -> tuple[NDArray[np.int32], list[str]]:
    """The texts of a column, and which of them each slot has: int32 [count]. Missing is the empty text."""
    if column is None:
        return np.zeros(count, np.int32), [""]
    if isinstance(column, tuple):
        present, which = np.unique(np.maximum(column[0], -1), return_inverse=True)
        texts = [item_text(column[1][code]) if code >= 0 else "" for code in present.tolist()]
    else:
        distinct, which = np.unique(column, return_inverse=True)
        texts = ["" if value != value else item_text(value) for value in distinct.tolist()]
    return _merged(texts, which)


def joined(columns: Sequence[tuple[NDArray[np.int32], list[str]]]) -> tuple[NDArray[np.int32], list[str]]:
    """The texts of several columns with `_` between them, as `coded` gives those of one. At least one column."""
    codes, texts = columns[0]
    for other, more in columns[1:]:
        pairs, which = np.unique(codes.astype(np.int64) * len(more) + other, return_inverse=True)
        both = [f"{texts[pair // len(more)]}_{more[pair % len(more)]}" for pair in pairs.tolist()]
        codes, texts = _merged(both, which)
    return codes, texts


def _merged(texts: list[str], which: NDArray[np.intp]) -> tuple[NDArray[np.int32], list[str]]:
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(text, len(known)) for text in texts], np.int32)
    return codes[which], list(known)


class Kept:
    """A number for each row of the item table, equal where its columns, joined, have the same text; and kept so.

    `values` int32 [capacity]; `known` has the numbers by text, empty where the text column's own codes are the numbers.
    """

    def __init__(self, columns: Sequence[Stored], snapshot: Snapshot, named: bool = False) -> None:
        """`named`: the texts are wanted, whatever it costs."""
        self._columns, self._guests = columns, snapshot.guests
        self.known: dict[str, int] = {}
        count, capacity = len(snapshot.items), snapshot.overlay.capacity
        self.values = np.full(capacity, -1, np.int32)
        self._plain = len(columns) == 1 and columns[0].kind == "text" and not named
        rows = np.arange(count, dtype=np.int32)
        if self._plain:
            self._extend(rows)
        else:
            self.values[:count] = self._numbered(count)
            self.values[count:] = self._number("_".join("" for _ in columns))
        snapshot.follow(self._extend)

    def _extend(self, rows: NDArray[np.int32]) -> None:
        if len(self._guests):  # they have nothing, which columns of whole numbers cannot say
            rows = rows[(rows < self._guests.start) | (rows >= self._guests.stop)]
        if not self._plain:
            texts = ("_".join(_text(column, row) for column in self._columns) for row in rows.tolist())
            self.values[rows] = [self._number(text) for text in texts]
            return
        column = self._columns[0]
        assert column.texts is not None
        codes = np.array(column.values[rows], np.int32)
        codes[codes == column.texts.codes.find("")] = -1  # an empty text is as a missing one
        self.values[rows] = np.maximum(codes, -1)

    def _number(self, text: str) -> int:
        return self.known.setdefault(text, len(self.known))

    def _numbered(self, count: int) -> NDArray[np.int32]:
        number, first = np.zeros(count, np.int64), np.zeros(1, np.int64)
        for column in self._columns:
            if column.kind == "vector":
                continue  # has no text
            values = column.values[:count]
            which = np.unique(values if column.kind == "text" else _cut(values), return_inverse=True, equal_nan=True)[1]
            pairs = number * (int(which.max(initial=0)) + 1) + which
            number = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
        first = np.unique(number, return_index=True)[1]
        texts = ("_".join(_text(column, row) for column in self._columns) for row in first.tolist())
        codes = np.array([self._number(text) for text in texts], np.int32)
        return codes[number] if count else np.empty(0, np.int32)


def _cut(values: NDArray[Any]) -> NDArray[Any]:
    return np.trunc(values) if values.dtype.kind == "f" else values


def _text(column: Stored, row: int) -> str:
    return item_text(column.value(row)) if column.kind != "vector" else ""


def seed_of(query: Query, purpose: str) -> int:
    """What is drawn for a request is drawn from this: the same for the same request id, uint64."""
    id = query.request_id.encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(id, digest_size=8, person=purpose.encode()[:16]).digest(), "little")
