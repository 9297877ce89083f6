"""A side pipeline: a line of its own beside the main one of a scene, whose result joins it after rank.

*Source*: PAIREC 3.1 (3, 8), 3.2; `PipelineConfs`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from pairec_fast.binding import Binding, Fetching, Loading, Stage
from pairec_fast.config import PipelineConfig, RankConfig, SceneFeatureConfig
from pairec_fast.core import in_order
from pairec_fast.load import Load, loads
from pairec_fast.score import Algorithms, General, Outputs, Score, general_of

Bind = Callable[[str, str, Binding], Stage]
"""A stage by its kind and the name it has in the configuration."""


class Pipeline:
    """One of a scene's, bound: recall (if nothing comes, that is all), filter, general rank, loads, rank, sort; no cut.

    It shares the scene's numbers of recalls and its columns of outputs, so that candidates can go from its arena to the
    main line's. What refuses goes into `refusals`. It is whole when `sort` has been called.
    """

    def __init__(
        self, conf: PipelineConfig, where: str, at: Binding, bind: Bind, repeats: bool,
        refusals: AbstractContextManager[None], algorithms: Algorithms, outputs: Outputs,
    ) -> None:  # fmt: skip
        """`where` is its place in the file, `repeats` whether its filters see an item once for each recall."""
        self._sort_names, self._bind, self.repeats = conf.sort_names, bind, repeats
        self.recalls = [bind("recall", one, replace(at, source=at.sources.index(one))) for one in conf.recall_names]
        self.filters = [bind("filter", one, at) for one in conf.filter_names]
        self.reranks, self.fetching, self.awaits = list[Stage](), list[Fetching](), False
        self.general, self.loads = list[General](), list[Load]()
        self.score = Score([], RankConfig(), Outputs(), at.snapshot, where)
        if conf.general_rank_conf is not None:
            with refusals:
                general = general_of(conf.general_rank_conf, at, algorithms, outputs, f"{where}.GeneralRankConf")
                self.general.append(general)
        section, _, key = where.partition(".")
        with refusals:
            self.loads = loads({key: SceneFeatureConfig(conf.feature_load_confs)}, key, section, at)
        rank = conf.rank_conf
        with refusals:
            algos = [algorithms.of(algo, rank, f"{where}.RankConf") for algo in rank.rank_algo_list]
            self.score = Score(algos, rank, outputs, at.snapshot, f"{where}.RankConf")

    @property
    def scores(self) -> list[Score]:
        """All that rank here."""
        return [self.score, *(one.score for one in self.general if one.score is not None)]

    def sort(self, at: Binding) -> None:
        """Bind the sorts, once all outputs have their columns. None is the last of the chain: it continues in the main
        line, where what is shown is chosen."""
        self.reranks = [lambda query, arena: in_order(arena)]
        self.reranks += [self._bind("sort", one, replace(at, last=False)) for one in self._sort_names]
        del self._bind  # it leads back to the scene
        actions = [action for one in self.general for action in one.actions]
        stages: list[Any] = [*self.recalls, *self.filters, *actions, *self.reranks]
        every = [*self.loads, *(load for one in self.general for load in one.loads)]
        self.fetching = [one for one in stages if isinstance(one, Fetching)]
        self.awaits = bool(self.fetching) or any(isinstance(one, Loading) for one in stages)
        self.awaits |= any(load.awaits for load in every) or any(bool(score.remotes) for score in self.scores)
