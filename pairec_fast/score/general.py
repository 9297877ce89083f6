"""General rank: a first, coarse score of all candidates, and the sorts and filters that act on it.

*Source*: PAIREC 6.8, `GeneralRankConfs` and `ColdStartGeneralRankConfs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.config import ColdStartGeneralRankConfig, GeneralRankConfig, SceneFeatureConfig
from pairec_fast.core import Arena, in_order, select
from pairec_fast.errors import ConfigError
from pairec_fast.load import Load, loads
from pairec_fast.query import Query
from pairec_fast.score.algorithms import Algorithms
from pairec_fast.score.outputs import Outputs
from pairec_fast.score.stage import Score


class General(NamedTuple):
    """Attributes:

    loads: features that are loaded for it.
    score: None without algorithms.
    actions: sorts and filters, in order. Around a sort stand what it begins with and what makes its order that of the
        candidates.
    takes: bool [sources], of a cold-start one the recalls whose candidates are its own; otherwise None.
    """

    loads: list[Load]
    score: Score | None
    actions: Sequence[Stage]
    takes: NDArray[np.bool_] | None


def general_of(conf: GeneralRankConfig, at: Binding, algorithms: Algorithms, outputs: Outputs, where: str) -> General:
    """The general rank at `where` in the file, bound.

    Raises:
        ConfigError: an action, a recall or an algorithm that there is not, or one that cannot run here.
    """
    rank = conf.rank_conf
    section, _, key = where.partition(".")
    own_loads = loads({key: SceneFeatureConfig(conf.feature_load_confs)}, key, section, at)
    score = None
    if rank.rank_algo_list:
        if rank.score_rewrite:
            raise ConfigError(f"{where}.RankConf.ScoreRewrite: a general rank has none; leave it out")
        chosen = [algorithms.of(name, rank, f"{where}.RankConf") for name in rank.rank_algo_list]
        score = Score(chosen, rank, outputs, at.snapshot, f"{where}.RankConf", with_params=False)
    actions: list[Stage] = []
    for place, action in enumerate(conf.action_confs):
        if action.action_type == "sort":
            actions += [as_they_are, at.sort(action.action_name), arrange]
        elif action.action_type == "filter":
            actions.append(at.filter(action.action_name))
        else:
            given = action.action_type
            raise ConfigError(f'{where}.ActionConfs[{place}].ActionType: expected "sort" or "filter", got "{given}"')
    takes = None
    if isinstance(conf, ColdStartGeneralRankConfig):
        takes = np.array([source in conf.recall_names for source in at.sources] or [False])
    return General(own_loads, score, actions, takes)


def as_they_are(query: Query, arena: Arena) -> None:
    """A sort changes the order there is; until now there is none."""
    in_order(arena)


def arrange(query: Query, arena: Arena) -> None:
    """The order that a sort found becomes that of the candidates; those it left out go."""
    select(arena, arena.order[: arena.order_count].copy())


class Split:
    """The candidates of a cold-start general rank stand aside while the others are ranked, and then take their turn.

    What stands aside lies behind `arena.count`, where no stage looks. The result is the others, then these.
    """

    def __init__(self, arena: Arena, takes: NDArray[np.bool_]) -> None:
        cold = takes[arena.source[: arena.count]]
        others, own = (np.flatnonzero(mask).astype(np.int32) for mask in (~cold, cold))
        select(arena, np.concatenate([others, own]))
        self._arena, self._own = arena, len(own)
        self._kept = arena.count = len(others)

    def turn(self) -> None:
        """The others are ranked: now for these."""
        arena, before = self._arena, self._kept
        self._kept = arena.count
        arena.count = before + self._own
        select(arena, _ranges((before, before + self._own), (0, self._kept)))
        arena.count = self._own

    def join(self) -> None:
        """Both are ranked."""
        arena, kept = self._arena, self._arena.count
        arena.count = self._own + self._kept
        select(arena, _ranges((self._own, self._own + self._kept), (0, kept)))


def _ranges(*parts: tuple[int, int]) -> NDArray[np.int32]:
    return np.concatenate([np.arange(begin, end, dtype=np.int32) for begin, end in parts])
