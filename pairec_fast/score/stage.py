"""The score stage: all algorithms of a scene, then the formula."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pairec_fast.config import RankConfig
from pairec_fast.core import Arena, Cross, Crosses
from pairec_fast.errors import ConfigError
from pairec_fast.features import ALL
from pairec_fast.query import Query
from pairec_fast.score.algorithms import Algorithm
from pairec_fast.score.easyrec import EasyRec
from pairec_fast.score.forest import Model
from pairec_fast.score.formula import Formula
from pairec_fast.score.lookup import Lookup
from pairec_fast.score.outputs import Outputs
from pairec_fast.snapshot import Snapshot


class Score:
    """The two middle stages of the line for the algorithms of a scene: `features`, then `score`.

    What user and item have together is computed once for all forests, into the columns of `arena.features`; what is
    known of an item alone lies in each model's `lines`. `remotes` are to be awaited before `score`.
    Without a RankScore the score stays what it was. *Source*: PAI-Rec, rank (PAIREC 6).

    Raises:
        ConfigError: two outputs of one name, or an expression that does not parse.
    """

    def __init__(
        self,
        algorithms: Sequence[Algorithm],
        rank: RankConfig,
        outputs: Outputs,
        snapshot: Snapshot,
        where: str,
        *,
        with_params: bool = True,
    ) -> None:
        names = [output for algorithm in algorithms for output in (algorithm.outputs or [algorithm.name])]
        if len(set(names)) != len(names):
            raise ConfigError(f"{where}.RankAlgoList: two outputs have one name: {', '.join(names)}")
        self.outputs = outputs
        columns: dict[str, int] = {}  # of a cross feature's source
        crosses: list[tuple[int, Cross]] = []
        self._models: list[tuple[Model, NDArray[np.int32]]] = []
        self._firsts: list[int] = []  # the column of each model's first output
        for model in algorithms:
            if not isinstance(model, Model):
                continue
            place = np.arange(model.plan.width, dtype=np.int32)
            for feature, cross in model.plan.cross:
                source = model.plan.features[feature].source
                if source not in columns:
                    columns[source] = len(columns)
                    crosses.append((columns[source], cross))
                place[feature] = columns[source]
            self._models.append((model, place))
            self._firsts.append(outputs.reserve(model.outputs))
        self._crosses = Crosses(crosses)
        self.width = max(1, len(columns))
        self._others = [one for one in algorithms if isinstance(one, Lookup | EasyRec)]
        for one in self._others:
            for name in one.outputs:
                outputs.reserve([name])
        self.remotes = [one for one in self._others if isinstance(one, EasyRec)]
        self._formula = Formula(rank, outputs, where, with_params=with_params)
        self._formula.bind(snapshot)

    @property
    def models(self) -> list[Model]:
        """The forests."""
        return [model for model, _ in self._models]

    def features(self, query: Query, arena: Arena) -> None:
        """Reads `row`; writes the cross features' columns of `features`."""
        self._crosses.fill(arena, query.user, query.history)

    def score(self, query: Query, arena: Arena) -> None:
        """Reads `features`, `recall_score`, and `score` where it lives; writes `algo_score` and `score`."""
        count, fresh = arena.count, not arena.scored
        if fresh:
            arena.begin_scores()
        for (model, place), column in zip(self._models, self._firsts, strict=True):
            model.request.score(arena, model.plan.shared(query), model.lines, place, column)
        for one in self._others:
            for name, values in one.columns(query, arena).items():
                column = self.outputs.column(name)
                if column >= 0:
                    arena.algo_score[column, :count] = values
                else:
                    query.degraded.append(f"{one.name}: more than {len(self.outputs)} outputs")
        self._formula.apply(query, arena, fresh=fresh)

    def matrices(
        self, query: Query, arena: Arena, slots: NDArray[np.int32] | slice = ALL
    ) -> Iterator[tuple[Model, NDArray[np.float32]]]:
        """Each forest, and what it read of the candidates in `slots`: float32 [slots, width]."""
        rows = arena.row[: arena.count][slots]
        features = arena.features[: arena.count][slots]
        for model, place in self._models:
            columns = [place[feature] for feature, _ in model.plan.cross]
            yield model, model.plan.matrix(query, rows, features[:, columns])

    def measure(self, query: Query, arena: Arena) -> None:
        """Let each forest find out from how many candidates on folding pays, with those of the arena."""
        self.features(query, arena)
        for model, place in self._models:
            model.request.measure(arena, model.plan.shared(query), model.lines, place)
