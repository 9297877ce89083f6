"""Other scores for some: an expression where conditions hold."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Column, Condition, Expression, check, govaluate
from pairec_fast.query import Query
from pairec_fast.rerank.values import holds


class BoostScoreCondition(msgspec.Struct, frozen=True, rename="pascal"):
    """Who meets `conditions` gets what `expression`, a govaluate one over `score` and the item's properties, says."""

    expression: str = ""
    conditions: list[Condition] = []


class BoostScoreSort(msgspec.Struct, frozen=True, rename="pascal"):
    """Moves nobody: put `ItemRankScore` behind it. The first condition that holds applies, or all that hold, one after
    the other. What is no number changes nothing. *Source*: PAI-Rec, `BoostScoreSort` (PAIREC 7.1)."""

    name: str
    boost_score_conditions: list[BoostScoreCondition] = []
    boost_score_conditions_filter_all: bool = False
    debug: bool = False

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: an expression or a condition that cannot be evaluated."""
        boosts = [
            (one.conditions, _parsed(one, f"SortConfs.{self.name}.BoostScoreConditions[{place}]"))
            for place, one in enumerate(self.boost_score_conditions)
        ]

        def boost(query: Query, arena: Arena) -> None:
            count = arena.count
            score, properties = arena.score[:count], query.properties(arena)
            open_slots = np.ones(count, np.bool_)
            for conditions, expression in boosts:
                met = holds(conditions, query, arena).view(np.bool_) & open_slots
                if not met.any():
                    continue
                if not self.boost_score_conditions_filter_all:
                    open_slots &= ~met
                columns: Mapping[str, Column] = ChainMap({"score": score.copy()}, properties)  # type: ignore[arg-type]
                value, known = doubles(expression, columns, count)
                met &= known
                if self.debug:
                    query.given.put("org_score", arena.place[:count][met], score[met])
                score[met] = value[met]

        return boost


def _parsed(one: BoostScoreCondition, where: str) -> Expression:
    check(one.conditions, f"{where}.Conditions")
    try:
        return govaluate(one.expression)
    except ConfigError as error:
        raise ConfigError(f"{where}.Expression: {error}") from error


def doubles(
    expression: Expression, columns: Mapping[str, Column], count: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What an expression gives for each row, and for which it is a double: a whole number, as of `hash`, is none."""
    vector = expression.vector(columns, count)
    known = np.ones(count, np.bool_)
    for missing in (vector.nil, vector.failed):
        if missing is not None:
            known &= ~missing
    if vector.vocabulary is None:
        return vector.data.astype(np.float64), known & (vector.kind == "f")
    values: list[Any] = [value if type(value) is float else None for value in vector.vocabulary]
    table = np.array([*(0.0 if value is None else value for value in values), 0.0])
    double = np.array([*(value is not None for value in values), False])
    codes = np.where(vector.data < 0, len(values), vector.data)
    return table[codes], known & double[codes]
