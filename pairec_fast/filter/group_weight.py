"""So many of each group, by what its candidates score together."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import group_weight
from pairec_fast.filter.kind import Count, Whole, scores, text_codes
from pairec_fast.query import Query


class GroupWeightCountFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Shares `retain_num` places among the values of property `dimension` (csrc/groups.hpp). A number counts by its
    integer part, and what has no text is of the group "DEFAULT".

    `group_weight_dimension_limit`: first at most so many of each value of a property. Groups come in the order of their
    first candidates. *Source*: PAI-Rec, `GroupWeightCountFilter` (PAIREC 5.4), which has no order of its own.
    """

    name: str
    dimension: str = ""
    retain_num: Count = 0
    score_weight: float = 0.0
    group_min_num: Whole = 0
    group_max_num: Whole = 0
    group_weight_strategy: str = ""
    group_weight_dimension_limit: dict[str, Whole] = {}

    counts: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        def share(query: Query, arena: Arena) -> None:
            count = arena.count
            if count <= self.retain_num:
                return
            properties = query.properties(arena)
            limits = [
                (text_codes(properties.get(name), count, "__DEFAULT__"), most)
                for name, most in self.group_weight_dimension_limit.items()
            ]
            slots = group_weight(
                text_codes(properties.get(self.dimension), count, "DEFAULT"), scores(arena), self.retain_num,
                weight=self.score_weight, least=self.group_min_num, most=self.group_max_num,
                softmax=self.group_weight_strategy != "avg", limits=limits,
            )  # fmt: skip
            select(arena, slots)

        return share
