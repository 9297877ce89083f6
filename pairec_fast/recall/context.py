"""The request's own candidates: the engine as a pure re-ranker."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add
from pairec_fast.expression.convert import to_string
from pairec_fast.query import Query


class ContextItemRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """`item_list` of the request, in its order, with each entry's `score`; those of items the snapshot lacks too.

    *Source*: PAI-Rec, `ContextItemRecall`, built in under that name.
    """

    brings_guests: ClassVar[bool] = True

    name: str = "ContextItemRecall"

    def bind(self, at: Binding) -> Stage:
        source = at.source

        def recall(query: Query, arena: Arena) -> None:
            rows, scores = [], []
            for entry in query.item_list:
                row = query.row(to_string(entry.get("item_id"), ""))
                if row >= 0:
                    score = entry.get("score", 0.0)
                    rows.append(row)
                    scores.append(score if isinstance(score, int | float) else 0.0)
            if rows:
                add(arena, np.array(rows, np.int32), np.array(scores, np.float64), source)

        return recall
