"""The request's own candidates: the engine as a pure re-ranker."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add
from pairec_fast.core.columns import columns_of, values_of
from pairec_fast.expression import Column
from pairec_fast.expression.convert import to_float, to_string
from pairec_fast.query import Query


class ContextItemRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """`item_list` of the request, in its order, with each entry's `score`; those of items the snapshot lacks too.

    Every other key of an entry is a property of the item.

    *Source*: PAI-Rec, `ContextItemRecall`, built in under that name.
    """

    brings_guests: ClassVar[bool] = True

    name: str = "ContextItemRecall"

    def bind(self, at: Binding) -> Stage:
        source = at.source

        def recall(query: Query, arena: Arena) -> None:
            entries = query.item_list
            rows = query.rows(_ids(entries))
            known = rows >= 0
            if known.any():
                first, (columns, _) = arena.count, columns_of(entries, doubles=True)
                add(arena, rows[known], _scores(entries, columns)[known], source)
                _put(query, arena, first, columns, rows)

        return recall


def _ids(entries: list[dict[str, Any]]) -> list[str]:
    ids = values_of(entries, "item_id")
    return ids if set(map(type, ids)) <= {str} else [to_string(id, "") for id in ids]


def _scores(entries: list[dict[str, Any]], columns: dict[str, Column]) -> NDArray[np.float64]:
    """0 where there is none."""
    scores = columns.get("score")
    if scores is None:
        return np.zeros(len(entries))
    if isinstance(scores, tuple):
        return np.array([to_float(score, 0.0) for score in values_of(entries, "score")])
    return np.where(scores == scores, scores, 0.0)


def _put(query: Query, arena: Arena, first: int, columns: dict[str, Column], rows: NDArray[np.int32]) -> None:
    """The properties of the candidates from slot `first` on, of each item's first entry. Numbers are doubles, as JSON
    has them. An item that was changed just now has none: its row is no longer the entry's."""
    brought, entry_of = np.unique(rows, return_index=True)
    here = arena.row[first : arena.count]
    at = np.minimum(np.searchsorted(brought, here), len(brought) - 1)
    own = brought[at] == here
    of, places = entry_of[at][own], arena.place[first : arena.count][own]
    for name, column in columns.items():
        if name in ("item_id", "score"):
            continue
        query.given.put(name, places, (column[0][of], column[1]) if isinstance(column, tuple) else column[of])
