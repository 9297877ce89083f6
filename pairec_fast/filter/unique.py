"""Each item once."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import item_numbers, merge
from pairec_fast.filter.kind import scores
from pairec_fast.query import Query


class UniqueFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """The first candidate of each item stays in its place and stands for all; the query keeps the others' scores.

    Where no filter counts candidates before or asks for those scores, recall brings each item once, and this does
    nothing. *Source*: PAI-Rec, `UniqueFilter`, built in under that name.
    """

    name: str = "UniqueFilter"

    merges: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        return unique


def unique(query: Query, arena: Arena) -> None:
    if arena.repeats and query.merged is None:
        count = arena.count
        slots, query.merged = merge(item_numbers(arena), arena.place[:count], arena.source[:count], scores(arena))
        select(arena, slots)
