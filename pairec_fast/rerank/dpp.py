"""Worth much and unlike each other: a determinantal point process."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Dpp
from pairec_fast.query import Query
from pairec_fast.rerank.likeness import (
    Found,
    LikenessConf,
    Params,
    Rules,
    Slots,
    Vectors,
    cut,
    sort_of,
    vectors_of,
    worth,
)
from pairec_fast.rerank.values import seed_of

WINDOW = 10  # PAI-Rec's default


class DPPSortConfig(LikenessConf, frozen=True, rename="pascal"):
    """*Source*: PAI-Rec, `DPPSortConfig` (PAIREC 2.7)."""

    alpha: float = 0.0
    embedding_hook_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.embedding_hook_names:
            raise ValueError(
                "EmbeddingHookNames: hooks are functions compiled into PAI-Rec; write what they compute into a vector "
                "column of the items and name it in EmbeddingColumn"
            )


class DPPSort(msgspec.Struct, frozen=True, rename="pascal"):
    """The request's size of candidates by greedy choice, then those set aside.

    With a vector column of the items `EnsurePositiveSim` "false" lets likeness be the cosine; with a table it is always
    (1 + cosine) / 2, as upstream. *Source*: PAI-Rec, `DPPSort` (PAIREC 7.4).
    """

    name: str
    dpp_conf: DPPSortConfig = msgspec.field(name="DPPConf", default_factory=DPPSortConfig)

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: vectors that are not there."""
        conf = self.dpp_conf
        vectors = vectors_of(conf, at, f"SortConfs.{self.name}.DPPConf")
        window = conf.window_size if conf.window_size > 0 else WINDOW
        of_items = isinstance(vectors, Vectors) and vectors.of_items
        kernel = Dpp(normalise=conf.normalises, positive=conf.positive or not of_items)

        def takes(query: Query, arena: Arena, slots: Slots, params: Params) -> Slots:
            return cut(arena, slots, query.size, conf, params, ordered=False)

        def choose(query: Query, arena: Arena, slots: Slots, found: Found, params: Params) -> Slots | None:
            relevance = worth(arena.score[slots], params.int("norm_relevance_score", 0))
            if relevance is None:
                return None
            query.given.put("dpp_relevance_score", arena.place[slots], relevance)
            asked = params.int("window_size", window)
            chosen = kernel.choose(
                found.table, found.rows, relevance, alpha=params.float("alpha", conf.alpha), size=query.size,
                window=asked if asked > 0 else WINDOW, missing_max=conf.missing_max, seed=seed_of(query, "dpp"),
            )  # fmt: skip
            return None if chosen is None else slots[chosen]

        return sort_of(self.name, conf, "dpp_", at, vectors, Rules(takes, choose))
