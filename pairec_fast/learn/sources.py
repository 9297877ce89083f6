"""The tables of a world, read: ids, columns as a snapshot holds them, and the events as rows of both tables."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import IdMap, build_slots
from pairec_fast.errors import SnapshotError
from pairec_fast.items.change import Change
from pairec_fast.learn.changes import Folded
from pairec_fast.learn.frame import Frame, TextColumn, id_arrays
from pairec_fast.learn.spec import InteractionsSpec, TableSpec, World
from pairec_fast.learn.table import read_table
from pairec_fast.snapshot import Column, Table, Texts


class Events:
    """One an interaction, in the order of the file.

    user, item: int32 rows of the tables. time: float64 unix seconds. positive: bool. frame: all columns, for contexts.
    group: int64, equal within a request; without groups each event is its own.
    """

    def __init__(
        self, user: NDArray[np.int32], item: NDArray[np.int32], time: NDArray[np.float64],
        positive: NDArray[np.bool_], group: NDArray[np.int64], frame: Frame,
    ) -> None:  # fmt: skip
        self.user, self.item, self.time, self.positive, self.group, self.frame = (
            user,
            item,
            time,
            positive,
            group,
            frame,
        )

    def __len__(self) -> int:
        return len(self.user)

    def taken(self, part: NDArray[np.int64]) -> Events:
        """The events of `part` [n], in its order."""
        frame = Frame(
            self.frame.path, {name: column for name, column in self.columns(part).items() if column is not None}
        )
        return Events(self.user[part], self.item[part], self.time[part], self.positive[part], self.group[part], frame)

    def columns(self, part: NDArray[np.int64]) -> dict[str, Any]:
        """The columns of `part`, name -> array or TextColumn; None for lists of text, which nothing reads."""
        return {name: _taken(self.frame.column(name), part) for name in self.frame.names}


class Sources:
    """Everything a world is built from. `now` is the clock of the snapshot: one second after the last event.

    `folded`: what items.log changed in the item table, if anything.
    """

    def __init__(self, items: Table, users: Table, events: Events, folded: Folded | None = None) -> None:
        self.items, self.users, self.events, self.folded = items, users, events, folded
        self.now = float(events.time.max()) + 1.0 if len(events) else 0.0


def read_sources(world: World, folder: Path, changes: Sequence[Change] = ()) -> Sources:
    """Read the tables of a world, and take `changes` of its items in. Events of removed items are left out.

    Raises:
        SnapshotError: a file, column or id that is missing or does not fit; the message names file and place.
    """
    conf = world.interactions
    frame = read_table(folder / conf.file, text=[conf.user, conf.item, *([conf.group] if conf.group else [])])
    frame.require([conf.user, conf.item, conf.time, *filter(None, (conf.label, conf.group))])
    items = _table("items", world.items, folder)
    folded = Folded(items, changes) if changes else None
    items, removed = (folded.table, folded.removed) if folded else (items, frozenset())
    if len(items) == 0:
        raise SnapshotError(f"{folder / world.items.file}: items.log removes every item; one at least would be right")
    users = _table("users", world.users, folder) if world.users else _known_users(frame, conf)
    user, item = _rows(frame, conf.user, users), _rows(frame, conf.item, items, removed)
    time = _finite(frame, conf.time)
    positive = np.ones(len(frame), bool)
    if conf.label:
        label = _finite(frame, conf.label)
        positive = label > 0
    group = _groups(frame, conf.group)
    events = Events(user, item, time, positive, group, frame)
    return Sources(items, users, events.taken(np.flatnonzero(item >= 0)) if removed else events, folded)


def _id_map(frame: Frame, column: str, ids: list[str]) -> IdMap:
    text, offset = id_arrays(ids)
    try:
        return IdMap(text, offset, build_slots(text, offset))
    except ValueError as error:
        raise SnapshotError(f"{frame.path}: {frame.place(error.args[1])}: {column}: {error.args[0]}") from error


def _table(name: str, spec: TableSpec, folder: Path) -> Table:
    frame = read_table(folder / spec.file, text=[spec.id])
    ids = frame.text(spec.id)
    _no_nulls(frame, spec.id, ids)
    columns = {}
    for column in frame.names:
        value = frame.column(column)
        if column == spec.id:
            continue
        if "/" in column or "\0" in column:
            raise SnapshotError(f"{frame.path}: column {column!r} becomes a file of that name; one without / is right")
        if isinstance(value, TextColumn):
            columns[column] = Column("text", value.codes, Texts(*id_arrays(value.vocabulary)))
        elif isinstance(value, np.ndarray):
            if value.dtype == np.bool_:
                value = value.astype(np.uint8)  # conditions compare numbers; PAI-Rec has no bool to compare with
            columns[column] = Column("vector" if value.ndim == 2 else "number", value, None)
        # Lists of text have no use at serving time and are left out.
    return Table(name, _id_map(frame, spec.id, [ids.vocabulary[code] for code in ids.codes]), columns)


def _known_users(frame: Frame, conf: InteractionsSpec) -> Table:
    """Without a user table, the users are those of the interactions, in order of appearance."""
    users = frame.text(conf.user)
    _no_nulls(frame, conf.user, users)
    return Table("users", _id_map(frame, conf.user, users.vocabulary), {})


def _rows(frame: Frame, name: str, table: Table, removed: Set[str] = frozenset()) -> NDArray[np.int32]:
    """The row of each event; -1 where it is `removed`."""
    texts = frame.text(name)
    _no_nulls(frame, name, texts)
    row_of = np.array([table.ids.find(text) for text in texts.vocabulary], np.int32)
    rows = row_of[texts.codes]
    known = np.array([text in removed for text in texts.vocabulary], bool)[texts.codes]
    if (lost := np.flatnonzero((rows < 0) & ~known)).size:
        first = int(lost[0])
        raise SnapshotError(
            f"{frame.path}: {frame.place(first)}: {name} {texts.value(first)!r} is not in the {table.name} table "
            f"({lost.size:,} of {len(frame):,} rows name unknown {table.name})"
        )
    return rows


def _no_nulls(frame: Frame, name: str, texts: TextColumn) -> None:
    if (empty := np.flatnonzero(texts.codes < 0)).size:
        raise SnapshotError(f"{frame.path}: {frame.place(int(empty[0]))}: {name} is empty; every row needs one")


def _taken(column: Any, part: NDArray[np.int64]) -> Any:
    if isinstance(column, TextColumn):
        return TextColumn(column.codes[part], column.vocabulary)
    return column[part] if isinstance(column, np.ndarray) else None


def _finite(frame: Frame, name: str) -> NDArray[np.float64]:
    values: NDArray[Any] = frame.numbers(name).astype(np.float64)
    if (bad := np.flatnonzero(~np.isfinite(values))).size:
        first = int(bad[0])
        raise SnapshotError(
            f"{frame.path}: {frame.place(first)}: {name} is {values[first]}; a finite number would be right"
        )
    return values


def _groups(frame: Frame, name: str) -> NDArray[np.int64]:
    if not name:
        return np.arange(len(frame), dtype=np.int64)
    texts = frame.text(name)
    _no_nulls(frame, name, texts)
    return texts.codes.astype(np.int64)
