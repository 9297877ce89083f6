"""The request's own candidates: the engine as a pure re-ranker."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add
from pairec_fast.expression.convert import to_string
from pairec_fast.properties import MISSING, column_of
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
            rows, scores, entries = [], [], dict[int, dict[str, Any]]()
            for entry in query.item_list:
                row = query.row(to_string(entry.get("item_id"), ""))
                if row >= 0:
                    score = entry.get("score", 0.0)
                    rows.append(row)
                    entries.setdefault(row, entry)
                    scores.append(score if isinstance(score, int | float) else 0.0)
            if rows:
                first = arena.count
                add(arena, np.array(rows, np.int32), np.array(scores, np.float64), source)
                _put(query, arena, first, entries)

        return recall


def _put(query: Query, arena: Arena, first: int, entries: dict[int, dict[str, Any]]) -> None:
    """The properties of the candidates from slot `first` on. Numbers are doubles, as JSON has them."""
    new = slice(first, arena.count)
    here = [entries[row] for row in arena.row[new].tolist()]
    for name in dict.fromkeys(key for entry in here for key in entry):
        if name not in ("item_id", "score"):
            values = [entry.get(name, MISSING) for entry in here]
            column = column_of([float(value) if type(value) is int else value for value in values])
            query.given.put(name, arena.place[new], column)
