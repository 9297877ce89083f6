"""LightGBM scores, and the expression that makes one number of them."""

from __future__ import annotations

from typing import Any

from pairec_fast.core import Arena, Forest
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.expression import RankScore
from pairec_fast.features import FeaturePlan
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot, pick


class Model:
    """A forest of the snapshot and the plan that feeds it. `outputs` names the `algo_score` columns it fills."""

    def __init__(self, name: str, snapshot: Snapshot, model: str) -> None:
        self.forest: Forest = pick(snapshot.models, model, f"AlgoConfs.{name}.LightGBMConf.Model")
        self.plan = FeaturePlan.of_model(snapshot, model)
        if self.forest.width != self.plan.width:
            raise SnapshotError(
                f"{snapshot.directory / model}.txt reads {self.forest.width} features; "
                f"manifest.json names {self.plan.width}"
            )
        # One output takes the algorithm's name; several are numbered, as PAI-Rec does.
        classes = self.forest.classes
        self.outputs = [name] if classes == 1 else [f"{name}_{label}" for label in range(classes)]


class Score:
    """The two middle stages of the line for the algorithms of a scene: `features`, then `score`.

    The models share the arena's feature matrix: the first is assembled by `features`, the others between scores.
    Without a `rank_score` the score stays what recall gave. *Source*: PAI-Rec, rank (PAIREC RankConfig.RankScore).
    """

    def __init__(self, models: list[Model], rank_score: str, snapshot: Snapshot, where: str) -> None:
        self._models = models
        self.outputs = [output for model in models for output in model.outputs]
        if len(set(self.outputs)) != len(self.outputs):
            raise ConfigError(f"{where}.RankAlgoList: two outputs have one name: {', '.join(self.outputs)}")
        self.width = max((model.plan.width for model in models), default=1)
        self._program = None
        if rank_score:  # the configuration has seen that it parses
            self._program = RankScore.compile(rank_score).bind(lambda name: self._resolve(name, snapshot))

    def _resolve(self, name: str, snapshot: Snapshot) -> Any:
        """Where a name of the expression lives: an algorithm's output, else an item column; a missing one is 0."""
        if name in ("current_score", "recall_score"):
            return ("current_score",)
        if name in self.outputs:
            return ("algo", self.outputs.index(name))
        column = snapshot.items.columns.get(name)
        return ("column", column.values) if column is not None and column.kind == "number" else None

    def features(self, query: Query, arena: Arena) -> None:
        """Reads `row`; writes `features` for the first model."""
        if self._models:
            self._models[0].plan.assemble(query, arena)

    def score(self, query: Query, arena: Arena) -> None:
        """Reads `features`, `recall_score`; writes `algo_score` and `score`."""
        column = 0
        for model in self._models:
            if column:
                model.plan.assemble(query, arena)
            model.forest.score(arena, column)
            column += len(model.outputs)
        arena.score[: arena.count] = arena.recall_score[: arena.count]
        if self._program is not None:
            self._program.evaluate(arena)
