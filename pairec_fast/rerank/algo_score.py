"""By one algorithm's score, unless the scores are good enough as they are."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, order_by, order_by_score
from pairec_fast.query import Query
from pairec_fast.rerank.values import numbers_of, settled


class AlgoScoreSort(msgspec.Struct, frozen=True, rename="pascal"):
    """By `sort_by_field`, descending; where the largest score is above `switch_threshold`, by score.

    A candidate without the field counts by its score. *Source*: PAI-Rec, `AlgoScoreSort` (PAIREC 7).
    """

    name: str
    sort_by_field: str = ""
    switch_threshold: float = 0.0

    def bind(self, at: Binding) -> Stage:
        read, threshold = numbers_of(self.sort_by_field, at.outputs), self.switch_threshold

        def sort(query: Query, arena: Arena) -> None:
            order = arena.order[: arena.order_count]
            if len(order) and arena.score[order].max() > threshold:
                order_by_score(arena)
            else:
                order_by(arena, settled(read(query, arena), True))

        return sort
