"""LightGBM scores: a forest of the snapshot, fed by a plan."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Forest, RequestForest
from pairec_fast.core.forest_request import NEVER, SIDES
from pairec_fast.errors import SnapshotError
from pairec_fast.features import FeaturePlan
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
