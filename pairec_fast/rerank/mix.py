"""Candidates of certain recalls, or of certain properties, at certain places."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, mix
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Condition, check
from pairec_fast.expression.convert import to_int
from pairec_fast.query import Query
from pairec_fast.rerank.values import holds, seed_of

NO_PLACE = np.empty(0, np.int32)
INT32_MAX = 2**31 - 1


class MixSortRule(msgspec.Struct, frozen=True, rename="pascal"):
    """Whose places these are: candidates of `recall_names`, or such that meet `conditions`."""

    mix_strategy: Literal["fix_position", "random_position"]
    positions: list[int] = []
    position_field: str = ""
    number: int = 0
    number_rate: float = 0.0
    recall_names: list[str] = []
    conditions: list[Condition] = []

    def capacity(self, size: int) -> int:
        if self.mix_strategy == "fix_position":
            return len(self.positions) or max(0, self.number)
        number = int(size * self.number_rate) if self.number_rate > 0 else self.number
        return min(max(0, number), INT32_MAX)


class MultiRecallMixSort(msgspec.Struct, frozen=True, rename="pascal"):
    """Fixed and random places for some, the gaps for the others. *Source*: PAI-Rec, `MultiRecallMixSort` (PAIREC 7.3).

    What is random is drawn from the request id.
    """

    name: str
    size: int = 0
    remain_item: bool = False
    mix_sort_rules: list[MixSortRule] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a position below 1, or a condition that cannot be evaluated."""
        rules = []
        for place, rule in enumerate(self.mix_sort_rules):
            where = f"SortConfs.{self.name}.MixSortRules[{place}]"
            check(rule.conditions, f"{where}.Conditions")
            below = [position for position in rule.positions if not 1 <= position <= INT32_MAX]
            if below and rule.mix_strategy == "fix_position":
                raise ConfigError(f"{where}.Positions: {below[0]}; positions count from 1")
            fixed = np.array(rule.positions, np.int32) if rule.mix_strategy == "fix_position" else NO_PLACE
            of_source = np.array([name in rule.recall_names for name in at.sources] or [False], np.uint8)
            rules.append((rule, of_source, fixed))

        def sort(query: Query, arena: Arena) -> None:
            size = max(query.size, self.size)
            if arena.order_count < size:
                return
            source = arena.source[: arena.count]
            given = []
            for rule, of_source, fixed in rules:
                match = of_source[source]
                if rule.conditions:
                    match |= holds(rule.conditions, query, arena)
                own = None
                if rule.mix_strategy == "fix_position" and not len(fixed) and rule.position_field:
                    own = _positions(rule.position_field, query, arena)
                given.append((match, rule.capacity(size), rule.mix_strategy == "random_position", fixed, own))
            mix(arena, given, size, remain=self.remain_item, seed=seed_of(query, "mix"))

        return sort


def _positions(name: str, query: Query, arena: Arena) -> NDArray[np.int32]:
    """A property as places, -1 where it is none."""
    column = query.properties(arena).get(name)
    if column is None:
        return np.full(arena.count, -1, np.int32)
    if isinstance(column, tuple):
        codes, values = column
        present, which = np.unique(np.maximum(codes, -1), return_inverse=True)
        places = [to_int(values[code], -1) if code >= 0 else -1 for code in present.tolist()]
        return np.array([place if 0 < place <= INT32_MAX else -1 for place in places], np.int32)[which]
    if column.dtype.kind == "b":
        return np.full(arena.count, -1, np.int32)
    wide = np.trunc(column.astype(np.float64))
    return np.where((wide > 0) & (wide <= INT32_MAX), wide, -1).astype(np.int32)
