"""Best score first."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pairec_fast.core import Arena, top_k
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot


class ItemRankScore(msgspec.Struct, frozen=True, rename="pascal"):
    """Score descending, equal scores by row. *Source*: PAI-Rec, `ItemRankScore`, built in under that name."""

    name: str = "ItemRankScore"

    def bind(self, snapshot: Snapshot, sources: list[str], last: bool) -> Callable[[Query, Arena], None]:
        """A sort that is `last` orders only what will be shown."""
        if last:
            return lambda query, arena: top_k(arena, query.size)
        return lambda query, arena: top_k(arena, arena.candidates_max)
