"""The request's own candidates: the engine as a pure re-ranker."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.core import Arena, add
from pairec_fast.expression.convert import to_string
from pairec_fast.query import Query
from pairec_fast.recall.kind import Recall
from pairec_fast.snapshot import Snapshot

FLOAT32_MAX = float(np.finfo(np.float32).max)


class ContextItemRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """`item_list` of the request, in its order, with each entry's `score`; ids the snapshot lacks are left out.

    *Source*: PAI-Rec, `ContextItemRecall`, built in under that name.
    """

    name: str = "ContextItemRecall"

    def bind(self, snapshot: Snapshot, source: int) -> Recall:
        find = snapshot.items.ids.find

        def recall(query: Query, arena: Arena) -> None:
            rows, scores = [], []
            for entry in query.item_list:
                row = find(to_string(entry.get("item_id"), ""))
                if row >= 0:
                    score = entry.get("score", 0.0)
                    rows.append(row)
                    scores.append(score if isinstance(score, int | float) else 0.0)
            if rows:
                within = np.array(scores, np.float64).clip(-FLOAT32_MAX, FLOAT32_MAX)
                add(arena, np.array(rows, np.int32), within.astype(np.float32), source)

        return recall
