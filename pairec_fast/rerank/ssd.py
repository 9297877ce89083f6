"""Worth much and together spanning much: sliding spectrum decomposition."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Ssd
from pairec_fast.expression import Condition, check
from pairec_fast.query import Query
from pairec_fast.rerank.likeness import (
    Found,
    LikenessConf,
    Params,
    Rules,
    Slots,
    by_score,
    cut,
    sort_of,
    vectors_of,
    worth,
)
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

        def takes(query: Query, arena: Arena, slots: Slots, params: Params) -> Slots:
            slots = by_score(arena, slots)
            if params.float("gamma", configured) == 0:
                return slots
            return cut(arena, slots, query.size, conf, params, ordered=True)

        def choose(query: Query, arena: Arena, slots: Slots, found: Found, params: Params) -> Slots | None:
            gamma, norm = params.float("gamma", configured), params.int("norm_quality_score", 0)
            quality = worth(arena.score[slots], norm)
            if gamma == 0 or quality is None:
                return None
            if norm in (1, 2):
                query.given.put("ssd_quality_score", arena.place[slots], quality)
            window = params.int("window_size", conf.window_size)
            chosen = kernel.choose(
                found.table, found.rows, quality, gamma=gamma, size=query.size, window=window if window > 1 else WINDOW,
                missing_max=conf.missing_max, seed=seed_of(query, "ssd"),
            )  # fmt: skip
            return None if chosen is None else slots[chosen]

        return sort_of(self.name, conf, "ssd_", at, vectors, Rules(takes, choose, conditions))
