"""LightGBM scores, and the expression that makes one number of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Cross, Crosses, Forest, RequestForest
from pairec_fast.core.forest_request import NEVER, SIDES
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.expression import RankScore
from pairec_fast.features import ALL, FeaturePlan
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot, pick


class Model:
    """A forest of the snapshot and the plan that feeds it. `outputs` names the `algo_score` columns it fills."""

    def __init__(self, name: str, snapshot: Snapshot, model: str) -> None:
        self.name, self.model = name, model
        self.forest: Forest = pick(snapshot.models, model, f"AlgoConfs.{name}.LightGBMConf.Model")
        self.plan = FeaturePlan.of_model(snapshot, model)
        if self.forest.width != self.plan.width:
            raise SnapshotError(
                f"{snapshot.directory / model}.forest reads {self.forest.width} features; "
                f"manifest.json names {self.plan.width}"
            )
        self.request = RequestForest(self.forest, self.plan.sides)
        self.lines = snapshot.item_array(f"{model}.lines")
        if self.lines.shape != (snapshot.overlay.capacity, self.request.line_bytes):
            raise SnapshotError(
                f"{snapshot.directory}: {model}.lines has {self.lines.shape[1]} bytes an item; "
                f"{self.request.line_bytes} are right: build the snapshot again"
            )
        tail, base = snapshot.tails[f"{model}.lines"], snapshot.overlay.base

        def extend(rows: NDArray[np.int32]) -> None:
            tail[rows - base] = self.request.lines(self.plan.item_values(rows))

        snapshot.follow(extend)
        # One output takes the algorithm's name; several are numbered, as PAI-Rec does.
        classes = self.forest.classes
        self.outputs = [name] if classes == 1 else [f"{name}_{label}" for label in range(classes)]

    def __str__(self) -> str:
        """Which features are told apart how, and from how many candidates on the shared ones are folded."""
        names = [feature.name for feature in self.plan.features]
        sides = [
            f"{side} {' '.join(chosen)}"
            for side in SIDES
            if (chosen := [name for name, one in zip(names, self.plan.sides, strict=True) if one == side])
        ]
        fold_from = self.request.fold_from
        folds = f"folds from {fold_from} candidates on" if fold_from < NEVER else "does not fold"
        return (
            f"{self.name}: {self.model}, {self.forest.trees} trees, {self.request.line_bytes} bytes an item, {folds}; "
            + "; ".join(sides)
        )

    def explained(self, matrix: NDArray[np.float32]) -> list[dict[str, Any]]:
        """For each row of feature values: the value, and what it adds to the first output's raw score.

        Beside the features, "" has what the score begins with. A model that does not say how much of the training data
        its splits saw gives values alone.
        """
        try:
            parts = self.forest.explain(matrix).reshape(len(matrix), -1, self.plan.width + 1)[:, 0]
        except ValueError:
            parts = None
        items = []
        for line, values in enumerate(matrix.tolist()):
            shown: dict[str, Any] = {}
            for place, (feature, value) in enumerate(zip(self.plan.features, values, strict=True)):
                text = feature.categories[int(value)] if feature.categories and value >= 0 else value
                shown[feature.name] = text if parts is None else [text, parts[line, place].item()]
            if parts is not None:
                shown[""] = parts[line, -1].item()
            items.append(shown)
        return items


class Score:
    """The two middle stages of the line for the algorithms of a scene: `features`, then `score`.

    What user and item have together is computed once for all models, into the columns of `arena.features`; what is
    known of an item alone lies in each model's `lines`.
    Without a `rank_score` the score stays what recall gave. *Source*: PAI-Rec, rank (PAIREC RankConfig.RankScore).
    """

    def __init__(self, models: list[Model], rank_score: str, snapshot: Snapshot, where: str) -> None:
        self.outputs = [output for model in models for output in model.outputs]
        if len(set(self.outputs)) != len(self.outputs):
            raise ConfigError(f"{where}.RankAlgoList: two outputs have one name: {', '.join(self.outputs)}")
        columns: dict[str, int] = {}  # of a cross feature's source
        crosses: list[tuple[int, Cross]] = []
        self._models: list[tuple[Model, NDArray[np.int32]]] = []
        for model in models:
            place = np.arange(model.plan.width, dtype=np.int32)
            for feature, cross in model.plan.cross:
                source = model.plan.features[feature].source
                if source not in columns:
                    columns[source] = len(columns)
                    crosses.append((columns[source], cross))
                place[feature] = columns[source]
            self._models.append((model, place))
        self._crosses = Crosses(crosses)
        self.width = max(1, len(columns))
        self._program = None
        if rank_score:  # the configuration has seen that it parses
            self._program = RankScore.compile(rank_score).bind(lambda name: self._resolve(name, snapshot))

    @property
    def models(self) -> list[Model]:
        return [model for model, _ in self._models]

    def _resolve(self, name: str, snapshot: Snapshot) -> Any:
        """Where a name of the expression lives: an algorithm's output, else an item column; a missing one is 0."""
        if name in ("current_score", "recall_score"):
            return ("current_score",)
        if name in self.outputs:
            return ("algo", self.outputs.index(name))
        column = snapshot.items.columns.get(name)
        return ("column", column.values) if column is not None and column.kind == "number" else None

    def features(self, query: Query, arena: Arena) -> None:
        """Reads `row`; writes the cross features' columns of `features`."""
        self._crosses.fill(arena, query.user, query.history)

    def score(self, query: Query, arena: Arena) -> None:
        """Reads `features`, `recall_score`; writes `algo_score` and `score`."""
        column = 0
        for model, place in self._models:
            model.request.score(arena, model.plan.shared(query), model.lines, place, column)
            column += len(model.outputs)
        arena.score[: arena.count] = arena.recall_score[: arena.count]
        arena.scored = True
        if self._program is not None:
            self._program.evaluate(arena)

    def matrices(
        self, query: Query, arena: Arena, slots: NDArray[np.int32] | slice = ALL
    ) -> Iterator[tuple[Model, NDArray[np.float32]]]:
        """Each model, and what it read of the candidates in `slots`: float32 [slots, width]."""
        rows = arena.row[: arena.count][slots]
        features = arena.features[: arena.count][slots]
        for model, place in self._models:
            columns = [place[feature] for feature, _ in model.plan.cross]
            yield model, model.plan.matrix(query, rows, features[:, columns])

    def measure(self, query: Query, arena: Arena) -> None:
        """Let each model find out from how many candidates on folding pays, with those of the arena."""
        self.features(query, arena)
        for model, place in self._models:
            model.request.measure(arena, model.plan.shared(query), model.lines, place)
