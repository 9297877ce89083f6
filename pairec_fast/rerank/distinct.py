"""A number that says which candidates belong together, for whoever reads it later."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.expression import Condition, check
from pairec_fast.query import Query
from pairec_fast.rerank.values import holds


class DistinctIdCondition(msgspec.Struct, frozen=True, rename="pascal"):
    """Who meets `conditions` gets `distinct_id` as property `distinct_id_name`."""

    distinct_id: int = 0
    conditions: list[Condition] = []
    distinct_id_name: str = ""


class DistinctIdSort(msgspec.Struct, frozen=True, rename="pascal"):
    """Moves nobody. The first condition that holds gives the id; until then a candidate has its position, from 1 on,
    under the name of each condition tried. *Source*: PAI-Rec, `DistinctIdSort` (PAIREC 7)."""

    name: str
    distinct_id_conditions: list[DistinctIdCondition] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a condition that cannot be evaluated."""
        for place, one in enumerate(self.distinct_id_conditions):
            check(one.conditions, f"SortConfs.{self.name}.DistinctIdConditions[{place}].Conditions")
        given = [
            (one.distinct_id_name or "__distinct_id__", float(one.distinct_id), one.conditions)
            for one in self.distinct_id_conditions
        ]

        def mark(query: Query, arena: Arena) -> None:
            open_slots = np.array(arena.order[: arena.order_count])
            positions = np.arange(1.0, len(open_slots) + 1)
            for name, id, conditions in given:
                met = holds(conditions, query, arena)[open_slots] != 0
                query.given.put(name, arena.place[open_slots], np.where(met, id, positions))
                open_slots, positions = open_slots[~met], positions[~met]

        return mark
