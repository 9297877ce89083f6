"""Best score first."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import top_k


class ItemRankScore(msgspec.Struct, frozen=True, rename="pascal"):
    """Score descending, equal scores by row. *Source*: PAI-Rec, `ItemRankScore`, built in under that name."""

    name: str = "ItemRankScore"

    def bind(self, at: Binding) -> Stage:
        """A sort that is `last` orders only what will be shown."""
        if at.last:
            return lambda query, arena: top_k(arena, query.size)
        return lambda query, arena: top_k(arena, arena.candidates_max)
