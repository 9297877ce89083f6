"""What items.log says, taken into the item table that a snapshot is built from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import IdMap, build_slots
from pairec_fast.items.change import Change, Shape, values_of
from pairec_fast.learn.frame import id_arrays
from pairec_fast.snapshot import Column, Table


class Folded:
    """An item table with changes taken in: rows stay in order, those removed left out, new ones behind.

    origin: int32 [items], the row of the file whose columns and vectors an item keeps, -1 for one that starts anew.
    file_count: rows of the file. removed: ids that are gone.
    """

    def __init__(self, table: Table, changes: Sequence[Change]) -> None:
        last = {change.id: change for change in changes}
        self.removed = {change.id for change in changes if change.removed}
        self.file_count = len(table)
        before = [id for row in range(len(table)) if (id := table.ids.id(row)) not in self.removed]
        ids = before + [id for id, change in last.items() if not change.removed and table.ids.find(id) < 0]
        self.origin: NDArray[np.int32] = np.array([table.ids.find(id) for id in ids], np.int32)
        self._given = {row: last[id] for row, id in enumerate(ids) if id in last}
        for row, change in self._given.items():
            if change.anew:
                self.origin[row] = -1
        shape = Shape({name: (one.kind, one.values.dtype, _width(one)) for name, one in table.columns.items()}, {})
        fitting = {row: shape.fitting(change).columns for row, change in self._given.items()}
        columns = {}
        for name, column in table.columns.items():
            given = {row: values[name] for row, values in fitting.items() if name in values}
            columns[name] = Column(column.kind, values_of(column, given, self.origin), column.texts)
        text, offset = id_arrays(ids)
        self.table = Table(table.name, IdMap(text, offset, build_slots(text, offset)), columns)

    def vectors(self, name: str, vectors: NDArray[np.float32], trained: NDArray[np.bool_]) -> NDArray[np.float32]:
        """`vectors` [items, dim] with those that the log gives, except for rows that `trained` [items] says have some.

        What was trained again lies in a space of its own: a vector given for the old one is the better guess only for
        items that nobody has chosen yet.
        """
        vectors = vectors.copy()
        for row, change in self._given.items():
            given = change.vectors.get(name)
            if given is not None and len(given) == 4 * vectors.shape[1] and not trained[row]:
                vectors[row] = np.frombuffer(given, np.float32)
        return vectors


def _width(column: Column) -> int:
    return column.values.shape[1] if column.kind == "vector" else 0
