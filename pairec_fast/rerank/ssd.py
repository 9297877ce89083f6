"""Worth much and together spanning much: sliding spectrum decomposition."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Ssd, order_by_score
from pairec_fast.expression import Condition
from pairec_fast.expression.condition import check, matches
from pairec_fast.query import Query
from pairec_fast.rerank.likeness import LikenessConf, Params, Slots, by_score, cut, run, vectors_of, worth
from pairec_fast.rerank.values import seed_of

WINDOW, GAMMA = 5, 0.25  # PAI-Rec's defaults


class SSDCondition(msgspec.Struct, frozen=True, rename="pascal"):
    """For which users it runs. PAI-Rec parses an expression here, and has no use for it."""

    expression: str = ""
    conditions: list[Condition] = []


class SSDSortConfig(LikenessConf, frozen=True, rename="pascal"):
    """*Source*: PAI-Rec, `SSDSortConfig` (PAIREC 2.7)."""

    gamma: float = 0.0
    use_ssd_star: bool = msgspec.field(name="UseSSDStar", default=False)
    condition: SSDCondition | None = None


class SSDSort(msgspec.Struct, frozen=True, rename="pascal"):
    """The request's size of candidates, then those set aside; for users who do not meet the condition by score.

    *Source*: PAI-Rec, `SSDSort` (PAIREC 7.5).
    """

    name: str
    ssd_conf: SSDSortConfig = msgspec.field(name="SSDConf", default_factory=SSDSortConfig)

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: vectors that are not there, or a condition that cannot be evaluated."""
        conf = self.ssd_conf
        where = f"SortConfs.{self.name}.SSDConf"
        vectors = vectors_of(conf, at, where)
        conditions = conf.condition.conditions if conf.condition else []
        check(conditions, f"{where}.Condition.Conditions")
        configured = conf.gamma if conf.gamma > 0 else GAMMA
        kernel = Ssd(normalise=conf.normalises, positive=conf.positive, star=conf.use_ssd_star)

        def choose(query: Query, arena: Arena, slots: Slots, params: Params) -> Slots:
            slots = by_score(arena, slots)
            gamma = params.float("gamma", configured)
            if gamma == 0:
                return slots
            slots = cut(arena, slots, query.size, conf, params, ordered=True)
            if vectors is None:
                return slots
            norm = params.int("norm_quality_score", 0)
            quality = worth(arena.score[slots], norm)
            if quality is None:
                return slots
            if norm in (1, 2):
                query.given.put("ssd_quality_score", arena.place[slots], quality)
            window = params.int("window_size", conf.window_size)
            chosen = kernel.choose(
                vectors.table, np.array(arena.row[slots]), quality, gamma=gamma, size=query.size,
                window=window if window > 1 else WINDOW, missing_max=conf.missing_max, seed=seed_of(query, "ssd"),
            )  # fmt: skip
            return slots if chosen is None else slots[chosen]

        sort = run(conf, "ssd_", at, choose)

        def sort_some(query: Query, arena: Arena) -> None:
            if matches(conditions, query.user_features, {}):
                sort(query, arena)
            else:
                order_by_score(arena)

        return sort_some if conditions else sort
