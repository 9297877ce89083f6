"""Best score first."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, order_by_score
from pairec_fast.query import Query


class ItemRankScore(msgspec.Struct, frozen=True, rename="pascal"):
    """Score descending, equal scores as they came. *Source*: PAI-Rec, `ItemRankScore`, built in under that name."""

    name: str = "ItemRankScore"

    def bind(self, at: Binding) -> Stage:
        """A sort that is `last` orders only what will be shown."""
        if at.last:
            return _shown
        return lambda query, arena: order_by_score(arena)


def _shown(query: Query, arena: Arena) -> None:
    order_by_score(arena, query.size)
