"""FeaturePlan: which value feeds which model input. The same plan builds training rows (learn/dataset.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Cross
from pairec_fast.errors import SnapshotError
from pairec_fast.manifest import Feature
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, Snapshot

KINDS = ("user", "item", "context", "aggregate", "dot", "similarity")
MISSING = np.float32("nan")
ALL = slice(None)
Rows = slice | NDArray[np.int32] | NDArray[np.intp]
Reader = Callable[[Rows], NDArray[np.float32]]


class FeaturePlan:
    """The inputs of one model, resolved against one snapshot.

    `source` of a feature is one of

        user:column  item:column  context:name         a value of the user, the item or the request
        aggregate:name                                 an aggregate, by user, by item, or by both
        dot:vectors                                    user vector . item vector
        similarity:table                               sum of item-to-item weights over the user's history
        similarity:table:N                             their mean over the newest N of the history

    or a bare name: the item column, else the user column, else the context value of that name.
    All values are float32; text becomes its place in the feature's `categories`; what is missing or unseen is NaN.

    `sides` tells the features apart: "shared" is the same for all candidates of a request, "item" depends on the item
    alone, "cross" on user and item.

    Raises:
        SnapshotError: a source names nothing, or text meets a feature without categories. All of them at once.
    """

    def __init__(self, features: Sequence[Feature], snapshot: Snapshot) -> None:
        self.features, self.width = list(features), len(features)
        self._snapshot = snapshot
        self._item: list[tuple[int, Reader]] = []
        self._user: list[tuple[int, Reader]] = []
        self._asked: list[tuple[int, str, dict[str, int] | None]] = []  # context values
        self._cold: list[tuple[int, str, dict[str, int] | None]] = []  # user columns, for a user without a row
        self.cross: list[tuple[int, Cross]] = []
        wrong = []
        for place, feature in enumerate(self.features):
            try:
                self._resolve(place, feature)
            except SnapshotError as error:
                wrong.append(f"feature {feature.name!r}: {error}")
        if wrong:
            raise SnapshotError("\n".join(wrong))
        self.sides = ["shared"] * self.width
        for side, places in (("item", self._item), ("cross", self.cross)):
            for place, _ in places:
                self.sides[place] = side
        self._user_columns = np.array([place for place, _ in self._user], np.intp)
        self._user_values: NDArray[np.float32] | None = None
        self._nothing = np.full(self.width, MISSING)

    @classmethod
    def of_model(cls, snapshot: Snapshot, model: str) -> FeaturePlan:
        """The plan of a model of the snapshot: the values of its users are mapped, not computed."""
        plan = cls(snapshot.manifest.models[model].features, snapshot)
        plan._user_values = snapshot.array(f"{model}.user_values")
        return plan

    def item_values(self, rows: Rows | None = None) -> NDArray[np.float32]:
        """[rows, item features] float32, in the order of the model's inputs. `rows` None: those of the item table."""
        count, guests = len(self._snapshot.items), self._snapshot.guests
        values = _stack(self._item, slice(count) if rows is None else rows, count)
        if rows is not None and not isinstance(rows, slice) and len(guests):
            values[(rows >= guests.start) & (rows < guests.stop)] = MISSING
        return values

    def user_values(self, rows: Rows = ALL) -> NDArray[np.float32]:
        """[rows, user features] float32."""
        return _stack(self._user, rows, len(self._snapshot.users))

    def shared(self, query: Query) -> NDArray[np.float32]:
        """[width] float32: what all candidates of a request share; NaN in the places of other features."""
        values = self._nothing.copy()
        if query.user >= 0:
            known = self._user_values
            row = known[query.user] if known is not None else self.user_values(np.array([query.user]))[0]
            values[self._user_columns] = row
        else:
            for place, name, codes in self._cold:
                values[place] = number(query.context.get(name), codes)
        for place, name, codes in self._asked:
            values[place] = number(query.context.get(name), codes)
        return values

    def matrix(self, query: Query, rows: NDArray[np.int32], cross: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model reads for items at `rows`: float32 [n, width]. For looking at, not for scoring.

        `cross` [n, cross features] has the values of those, as `Crosses` computes them.
        """
        out = np.tile(self.shared(query), (len(rows), 1))
        out[:, [place for place, _ in self._item]] = self.item_values(rows)
        out[:, [place for place, _ in self.cross]] = cross
        return out

    def _resolve(self, place: int, feature: Feature) -> None:
        snapshot, codes = self._snapshot, _codes(feature)
        kind, name = split(feature.source)
        if not kind:
            tables = {"item": snapshot.items.columns, "user": snapshot.users.columns}
            kind = next((side for side, columns in tables.items() if name in columns), "context")
        if kind == "item":
            column = _known(snapshot.items.columns, name, "item column")
            self._item.append((place, _reader(column, codes)))
        elif kind == "user":
            column = _known(snapshot.users.columns, name, "user column")
            self._user.append((place, _reader(column, codes)))
            self._cold.append((place, name, codes))
        elif kind == "context":
            self._asked.append((place, name, codes))
        elif kind == "aggregate":
            self._aggregate(place, name)
        elif kind == "dot":
            vectors = _known(snapshot.vectors, name, "vectors")
            self.cross.append((place, Cross.dot(vectors.users, vectors.items)))
        else:
            name, newest = table_and_newest(name)
            table = _known(snapshot.neighbours, name, "item-to-item table")
            self.cross.append((place, Cross.similarity(table, newest)))

    def _aggregate(self, place: int, name: str) -> None:
        snapshot = self._snapshot
        info = _known(snapshot.manifest.aggregates, name, "aggregate")
        values = snapshot.array(name)
        if info.user is None:
            group = self._item_groups(info.item)
            self._item.append((place, lambda rows: grouped(values, group, rows)))
        elif info.item is None:
            group = group_of(snapshot.users.columns, info.user)
            self._user.append((place, lambda rows: grouped(values, group, rows)))
        else:
            user = group_of(snapshot.users.columns, info.user)
            self.cross.append((place, Cross.cell(values, user, self._item_groups(info.item))))

    def _item_groups(self, group: str) -> NDArray[np.int32] | None:
        """As `group_of`; where items may be added later, a row's own group is its base row, or the last: no events."""
        overlay = self._snapshot.overlay
        if group or overlay.capacity == overlay.base:
            return group_of(self._snapshot.items.columns, group)
        return self._snapshot.base_rows


def split(source: str) -> tuple[str, str]:
    """`kind:name` apart; a bare name has kind "". Raises SnapshotError for another kind."""
    kind, colon, name = source.partition(":")
    if not colon:
        return "", source
    if kind not in KINDS or not name:
        raise SnapshotError(f"source {source!r}: the part before the colon is one of {', '.join(KINDS)}")
    return kind, name


def table_and_newest(name: str) -> tuple[str, int]:
    """`table:N` apart; a bare table has 0. Raises SnapshotError when N is no positive whole number."""
    table, colon, newest = name.partition(":")
    if colon and not (newest.isascii() and newest.isdigit() and 0 < int(newest) < 1 << 31):
        raise SnapshotError(f'"{name}": after the colon is how much of the history is used, such as "{table}:10"')
    return table, int(newest or 0)


def number(value: Any, codes: dict[str, int] | None) -> Any:
    """A value of a request as the model reads it: a number, a text's code, or NaN."""
    if codes is not None:
        text = as_text(value)
        return MISSING if text is None else codes.get(text, MISSING)
    if isinstance(value, float | int) and -3.4e38 < value < 3.4e38:
        return value
    return MISSING


def as_text(value: Any) -> str | None:
    """The category a value is: text as it is, a number as a table of text would spell it; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def group_of(columns: Any, group: str) -> NDArray[np.int32] | None:
    """Group of each row: codes of the text column `group`, or None for "", the row itself."""
    return columns[group].values if group else None


def grouped(values: NDArray[np.float32], group: NDArray[np.int32] | None, rows: Rows = ALL) -> NDArray[np.float32]:
    """`values` by group, one for each row; NaN where the group is missing."""
    if group is None:
        return values[rows]
    chosen = group[rows]
    last = len(values) - 1  # beyond is a text that came after the values were made
    taken: NDArray[np.float32] = np.where(chosen >= 0, values[np.clip(chosen, 0, last)], MISSING)
    return taken


def model_values(column: Column, codes: dict[str, int] | None, rows: Rows = ALL) -> NDArray[np.float32]:
    """A column as the model reads it: float32, one for each of `rows`."""
    chosen = column.values[rows]
    if column.kind == "number" and codes is not None:
        distinct, place = np.unique(chosen, return_inverse=True)
        return np.array([number(value, codes) for value in distinct.tolist()], np.float32)[place]
    if column.kind == "number":
        return chosen.astype(np.float32)
    assert column.texts is not None and codes is not None
    if not isinstance(rows, slice):
        texts = column.texts
        known = [codes.get(texts[code], MISSING) if code >= 0 else MISSING for code in chosen.tolist()]
        return np.array(known, np.float32)
    remap = np.array(
        [codes.get(column.texts[code], MISSING) for code in range(len(column.texts))] + [MISSING], np.float32
    )
    values: NDArray[np.float32] = remap[chosen]  # -1, missing, reads the last entry
    return values


def _reader(column: Column, codes: dict[str, int] | None) -> Reader:
    if column.kind == "vector":
        raise SnapshotError("a vector is no number; use dot: for two of them")
    if column.kind == "text" and codes is None:
        raise SnapshotError("the column is text, so the feature needs categories")
    return lambda rows: model_values(column, codes, rows)


def _codes(feature: Feature) -> dict[str, int] | None:
    return None if feature.categories is None else {text: code for code, text in enumerate(feature.categories)}


def _known(mapping: Any, name: str, what: str) -> Any:
    if name not in mapping:
        raise SnapshotError(f"the snapshot has no {what} {name!r}; it has {', '.join(sorted(mapping)) or 'none'}")
    return mapping[name]


def _stack(columns: list[tuple[int, Reader]], rows: Rows, count: int) -> NDArray[np.float32]:
    out = np.empty((count if isinstance(rows, slice) else len(rows), len(columns)), np.float32)
    for place, (_, values) in enumerate(columns):
        out[:, place] = values(rows)
    return out


class FeatureSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`features.json`: the inputs of a model, in the model's order, and what it was trained for."""

    features: list[Feature]
    label: str = ""
    objective: str = ""
    format: int = 1

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FeatureSchema:
        """Read `features.json`.

        Raises:
            SnapshotError: no such file, not this format, no features, a name or a category twice.
        """
        path = Path(path)
        try:
            schema = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError as error:
            raise SnapshotError(f"{path}: no such file; training writes it beside model.txt") from error
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise SnapshotError(f"{path} is not a feature schema: {error}") from error
        if schema.format != 1:
            raise SnapshotError(f"{path} has format {schema.format}; this version reads format 1")
        if not schema.features:
            raise SnapshotError(f"{path} has no features; at least one would be right")
        _refuse_twice(path, "feature", [feature.name for feature in schema.features])
        for feature in schema.features:
            _refuse_twice(path, f'category of "{feature.name}"', feature.categories or [])
        return schema

    def save(self, path: str | PathLike[str]) -> None:
        """Write `features.json`, whole or not at all.

        Raises:
            SnapshotError: it cannot be written.
        """
        path = Path(path)
        content = {"format": self.format, "label": self.label, "objective": self.objective, "features": self.features}
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
            partial.replace(path)
        except OSError as error:
            raise SnapshotError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)


def _refuse_twice(path: Path, what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SnapshotError(f'{path}: the {what} "{twice}" stands twice; once would be right')
