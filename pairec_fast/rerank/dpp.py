"""Worth much and unlike each other: a determinantal point process."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Dpp
from pairec_fast.query import Query
from pairec_fast.rerank.likeness import LikenessConf, Params, Slots, cut, run, vectors_of, worth
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
        kernel = Dpp(normalise=conf.normalises, positive=conf.positive or vectors is None or not vectors.of_items)

        def choose(query: Query, arena: Arena, slots: Slots, params: Params) -> Slots:
            slots = cut(arena, slots, query.size, conf, params, ordered=False)
            if vectors is None:
                return slots
            relevance = worth(arena.score[slots], params.int("norm_relevance_score", 0))
            if relevance is None:
                return slots
            query.given.put("dpp_relevance_score", arena.place[slots], relevance)
            asked = params.int("window_size", window)
            chosen = kernel.choose(
                vectors.table, np.array(arena.row[slots]), relevance, alpha=params.float("alpha", conf.alpha),
                size=query.size, window=asked if asked > 0 else WINDOW, missing_max=conf.missing_max,
                seed=seed_of(query, "dpp"),
            )  # fmt: skip
            return slots if chosen is None else slots[chosen]

        return run(conf, "dpp_", at, choose)
