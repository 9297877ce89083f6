"""Not more than so many."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import adjust_count, completely_fair
from pairec_fast.filter.kind import Count, scores, seed
from pairec_fast.query import Query


class AdjustCountFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """The first `retain_num`; with `shuffle_item`, of all in another order. *Source*: PAI-Rec, `AdjustCountFilter`."""

    name: str
    retain_num: Count = 0
    shuffle_item: bool = False

    counts: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        def adjust(query: Query, arena: Arena) -> None:
            if arena.count > self.retain_num:
                drawn = seed(query, self.name) if self.shuffle_item else 0
                select(arena, adjust_count(arena.count, self.retain_num, shuffled=self.shuffle_item, seed=drawn))

        return adjust


class CompletelyFairFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """One of each recall in turn, each recall's best first, up to `retain_num`.

    *Source*: PAI-Rec, `CompletelyFairFilter`.
    """

    name: str
    retain_num: Count = 0

    counts: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        def take_turns(query: Query, arena: Arena) -> None:
            select(arena, completely_fair(arena.source[: arena.count], scores(arena), self.retain_num))

        return take_turns
