"""So many of what meets one expression, so many of what meets another."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import diversity_adjust
from pairec_fast.errors import ConfigError
from pairec_fast.expression import govaluate
from pairec_fast.filter.kind import AdjustCountConf, scores, seed, shares, typed
from pairec_fast.query import Query


class DiversityAdjustCountFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """The best candidates that each `Expression` of `adjust_count_confs` is true of, up to its `Count`, or for an
    `accumulator` up to the `Count` of all accumulators so far; each candidate once. Where an expression has no value,
    as of a property that is missing, it is not true. Equal scores are decided by the request id.

    *Source*: PAI-Rec, `DiversityAdjustCountFilter`.
    """

    name: str
    adjust_count_confs: list[AdjustCountConf] = []

    counts: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no expression of the language, or accumulators whose Count falls."""
        where, confs = f"FilterConfs.{self.name}.AdjustCountConfs", self.adjust_count_confs
        typed(confs, where)
        expressions = []
        for place, conf in enumerate(confs):
            try:
                expressions.append(govaluate(conf.expression))
            except ConfigError as error:
                raise ConfigError(f"{where}[{place}].Expression: {error}") from error
        for place, (one, next_one) in enumerate(pairwise(confs)):
            if one.type == next_one.type == "accumulator" and next_one.count < one.count:
                raise ConfigError(
                    f"{where}[{place + 1}].Count: {next_one.count} is less than {one.count} before it; "
                    "accumulators count together"
                )
        asked = shares(confs, at.sources)

        def adjust(query: Query, arena: Arena) -> None:
            properties, count = query.properties(arena), arena.count
            matches = np.zeros((len(expressions), count), np.uint8)
            for matched, expression in zip(matches, expressions, strict=True):
                holds, failed = expression.holds(properties, count)
                matched[:] = holds & ~failed
            select(arena, diversity_adjust(matches, scores(arena), asked, seed=seed(query, self.name)))

        return adjust
