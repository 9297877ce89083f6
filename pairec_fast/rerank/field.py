"""By a number the candidates have."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, order_by
from pairec_fast.query import Query
from pairec_fast.rerank.values import numbers_of, settled


class CustomFieldSort(msgspec.Struct, frozen=True, rename="pascal"):
    """By `sort_by_field`, `current_score` where empty; a candidate without it by its score. `sort_order` "asc" in any
    case ascends, everything else descends. *Source*: PAI-Rec, `CustomFieldSort` (PAIREC 7)."""

    name: str
    sort_by_field: str = ""
    sort_order: str = ""

    def bind(self, at: Binding) -> Stage:
        read, descending = numbers_of(self.sort_by_field, at.outputs), self.sort_order.lower() != "asc"

        def sort(query: Query, arena: Arena) -> None:
            order_by(arena, settled(read(query, arena), descending), descending=descending)

        return sort
