"""What is known of the candidates by name, as columns: PAI-Rec's item properties."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.core.columns import MISSING
from pairec_fast.expression import Column
from pairec_fast.snapshot import Column as Stored
from pairec_fast.snapshot import Snapshot


class Given(dict[str, Column]):
    """Properties that one request has beside what the snapshot knows: its own, of live stores, of transforms.

    They lie by `arena.place`, which a candidate keeps whatever filters do. A dict, so that who asks whether there are
    any pays for no call: most requests have none.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._dropped: Collection[str] = ()

    def put(self, name: str, places: NDArray[np.int32], values: Column) -> None:
        """Set property `name` of the candidates at `places` [n] to `values` [n]; what is missing there goes missing."""
        column = self.get(name)
        if column is None and isinstance(values, tuple):
            codes = np.full(self.places, -1, np.int32)
            codes[places] = values[0]
            self[name] = codes, values[1]  # as it is: it may be made of what is read of it
        elif isinstance(values, tuple):
            assert column is not None
            codes, texts = _coded(column)
            shifted = np.where(values[0] >= 0, values[0] + len(texts), -1)
            codes[places] = shifted
            self[name] = codes, [*texts, *values[1]]
        elif isinstance(column, tuple):
            self.put(name, places, _coded(values))
        else:
            if column is None:
                column = self[name] = np.full(self.places, np.nan)
            column[places] = values

    def clear_at(self, places: NDArray[np.int32]) -> None:
        """Forget what is given of the candidates at `places`: others take them."""
        for column in self.values():
            if isinstance(column, tuple):
                column[0][places] = -1
            else:
                column[places] = np.nan

    def take(self, other: Given, theirs: NDArray[np.int32], places: NDArray[np.int32]) -> None:
        """Give the candidates at `places` [n] what `other` has given those at `theirs` [n], where that is something."""
        for name in other:
            column = other.of(name, theirs)
            if isinstance(column, tuple):
                here = column[0] >= 0
                self.put(name, places[here], (column[0][here], column[1]))
            elif column is not None:
                here = column == column
                self.put(name, places[here], column[here])

    def drop(self, name: str) -> None:
        """Forget a property, the snapshot's too."""
        self.pop(name, None)
        self._dropped = {*self._dropped, name}

    @property
    def drops(self) -> bool:
        """Whether anything was dropped."""
        return bool(self._dropped)

    def hides(self, name: str) -> bool:
        """Whether what the snapshot says under `name` was dropped."""
        return name in self._dropped

    def of(self, name: str, places: NDArray[np.int32]) -> Column | None:
        column = self.get(name)
        if isinstance(column, tuple):
            return column[0][places], column[1]
        return None if column is None else column[places]


class Labels:
    """Names of recalls that lists of live stores give their entries, and that the scene does not have.

    They lie by `arena.place`, beside the recall that brought the list: what has come to count as another recall's, as
    filters may have it, is no longer of that name.
    """

    def __init__(self, places: int) -> None:
        self._codes, self._sources = np.full(places, -1, np.int32), np.zeros(places, np.uint8)
        self._names: list[str] = []

    def put(self, arena: Arena, slots: slice, name: str) -> None:
        """The candidates in `slots` are of `name`."""
        if name not in self._names:
            self._names.append(name)
        places = arena.place[slots]
        self._codes[places], self._sources[places] = self._names.index(name), arena.source[slots]

    def take(self, other: Labels | None, theirs: NDArray[np.int32], places: NDArray[np.int32]) -> None:
        """The candidates at `places` [n] are of the names that those at `theirs` [n] are of in `other`."""
        self._codes[places] = -1
        if other is None:
            return
        self._names += [name for name in other._names if name not in self._names]
        own = np.array([*(self._names.index(name) for name in other._names), -1], np.int32)  # the last is for -1
        self._codes[places], self._sources[places] = own[other._codes[theirs]], other._sources[theirs]

    def over(
        self, arena: Arena, slots: NDArray[np.int32] | slice, sources: Sequence[str]
    ) -> tuple[NDArray[np.int32], list[str]]:
        """Codes [slots] int32 into the names of all recalls: `sources`, and behind them those that were put."""
        place, source = arena.place[slots], arena.source[slots]
        said = self._codes[place]
        of = np.where((said >= 0) & (self._sources[place] == source), said + len(sources), source)
        return of.astype(np.int32), [*sources, *self._names]


class Properties(Mapping[str, Column]):
    """The properties of the live candidates of `arena`, each [arena.count], in slot order.

    Numbers are an array in which NaN is missing; anything else is codes into a list of values, -1 missing. A name leads
    to what the request has `given`, where it has, over the item column of that name; else to what PAI-Rec implies:
    `recall_name`, and the score as `recall_score` and under the name of the recall. Source: PAIREC.md 0.4.
    """

    def __init__(
        self, snapshot: Snapshot, given: Given, arena: Arena, sources: Sequence[str], labels: Labels | None = None
    ) -> None:
        self._columns, self._given, self._arena, self._sources = snapshot.items.columns, given, arena, sources
        self._labels = labels
        self._guests = snapshot.guests

    def __getitem__(self, name: str) -> Column:
        arena = self._arena
        count = arena.count
        stored = self._columns.get(name) if not self._given.hides(name) else None
        known = self._stored(stored, arena.row[:count]) if stored is not None else None
        given = self._given.of(name, arena.place[:count])
        if known is None:
            known = self._implied(name)
        if given is not None:
            return given if known is None else _over(given, known)
        if known is None:
            raise KeyError(name)
        return known

    def _implied(self, name: str) -> Column | None:
        """What PAI-Rec adds to an item that has no property of that name."""
        arena = self._arena
        if name == "recall_name":
            if self._labels is not None:
                return self._labels.over(arena, slice(arena.count), self._sources)
            return arena.source[: arena.count].astype(np.int32), self._sources
        if name == "recall_score":
            return self.scores()
        if name in self._sources:
            return np.where(arena.source[: arena.count] == self._sources.index(name), self.scores(), np.nan)
        return None

    def __iter__(self) -> Iterator[str]:
        stored = [name for name in self._columns if not self._given.hides(name)]
        yield from dict.fromkeys([*stored, *self._given, *self._sources, "recall_name", "recall_score"])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def simple(self) -> list[str]:
        """All names but those of vectors that the snapshot stores."""
        columns = self._columns
        return [name for name in self if name not in columns or columns[name].kind != "vector"]

    def scores(self) -> NDArray[np.float64]:
        """The score of each: of recall, until rank gives another."""
        arena = self._arena
        return (arena.score if arena.scored else arena.recall_score)[: arena.count]

    def of_each(self, name: str, slots: NDArray[np.int32]) -> list[Any]:
        """The property of the candidates in `slots` as Python values; `MISSING` where it is."""
        column = self.get(name)
        if column is None:
            return [MISSING] * len(slots)
        if isinstance(column, tuple):
            codes, texts = column
            return [texts[code] if code >= 0 else MISSING for code in codes[slots].tolist()]
        return [MISSING if value != value else value for value in column[slots].tolist()]

    def _stored(self, column: Stored, rows: NDArray[np.int32]) -> Column:
        values = column.values[rows]
        if column.kind == "text":
            assert column.texts is not None
            return values, column.texts  # type: ignore[return-value]
        if column.kind == "vector":
            return np.arange(len(rows), dtype=np.int32), values.tolist()
        if len(self._guests) and values.dtype.kind != "f":  # a guest has nothing, and whole numbers know no nothing
            strange = (rows >= self._guests.start) & (rows < self._guests.stop)
            if strange.any():
                return np.where(strange, np.nan, values.astype(np.float64))
        return values


def loaded(given: dict[str, Any], columns: Mapping[str, Stored], row: int) -> dict[str, Any]:
    """`given`, overlaid with the values of `columns` at `row`; a missing value, or row -1, changes nothing."""
    if row < 0 or not columns:
        return given
    values = ((name, column.value(row)) for name, column in columns.items())
    return given | {name: value for name, value in values if value is not None}


def loaded_each(columns: Mapping[str, Stored], rows: NDArray[np.int32]) -> list[dict[str, Any]]:
    """`loaded` of nothing, for each of `rows`, none of which is -1."""
    given: list[dict[str, Any]] = [{} for _ in rows]
    for name, column in columns.items():
        for entry, value in zip(given, column.value_of_each(rows), strict=True):
            if value is not None:
                entry[name] = value
    return given


def _coded(column: Column) -> tuple[NDArray[np.int32], list[Any]]:
    if isinstance(column, tuple):
        return column[0], list(column[1])
    here = column == column
    texts, codes = np.unique(column[here], return_inverse=True)
    out = np.full(len(column), -1, np.int32)
    out[here] = codes
    return out, texts.tolist()


def _over(upper: Column, lower: Column) -> Column:
    """`upper`, and `lower` where it is missing."""
    if not isinstance(upper, tuple) and not isinstance(lower, tuple):
        return np.where(upper == upper, upper, lower)
    codes, texts = _coded(upper)
    below, more = (lower[0], list(lower[1])) if isinstance(lower, tuple) else _coded(lower)
    return np.where(codes >= 0, codes, np.where(below >= 0, below + len(texts), -1)), [*texts, *more]
