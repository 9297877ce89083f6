"""CatBoost: its JSON export as trees. Oblivious trees, of one split a level, are written out in full.

CatBoost rounds a value to float32, goes right if it is above the border, adds leaves in float64 in the order of the
trees, and the bias at the end: `CatBoost.predict(prediction_type="RawFormulaVal")`. The bias is a last leaf.

Source: CatBoost's `libs/model/model_export/json_model_helpers.cpp` for the file, `libs/model/cpu/evaluator_impl.cpp`
for the sum.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.trees import Ensemble, Tree, grown, last_rounding_to, leaf, link_of, names_or

LINKS = {
    "Logloss": "binary", "CrossEntropy": "binary", "MultiClassOneVsAll": "binary", "MultiClass": "multiclass",
    "Poisson": "poisson", "Tweedie": "tweedie", "RMSE": "regression",
}  # fmt: skip
DEPTH_MAX = 16  # CatBoost's own bound; 2**depth leaves are written out


class _Split(msgspec.Struct):
    split_type: str
    border: float = 0.0
    float_feature_index: int = -1


class _Oblivious(msgspec.Struct):
    leaf_values: list[float]
    splits: list[_Split] | None = None
    leaf_weights: list[float] = []


class _Branch(msgspec.Struct):
    left: _Branch | None = None
    right: _Branch | None = None
    split: _Split | None = None
    value: float | list[float] | None = None
    weight: float = 0.0


class _FloatFeature(msgspec.Struct):
    feature_index: int
    flat_feature_index: int
    feature_id: str = ""
    nan_value_treatment: str = "AsIs"


class _Features(msgspec.Struct):
    float_features: list[_FloatFeature] = []
    categorical_features: list[dict[str, Any]] = []
    text_features: list[dict[str, Any]] = []
    embedding_features: list[dict[str, Any]] = []


class _File(msgspec.Struct):
    features_info: _Features
    scale_and_bias: tuple[float, float | list[float]]
    model_info: dict[str, Any] = {}
    oblivious_trees: list[_Oblivious] = []
    trees: list[_Branch] = []


def read_catboost(document: Any, where: str) -> Ensemble:
    """The model that `CatBoost.save_model(path, format="json")` wrote, its JSON decoded.

    Raises:
        SnapshotError: no sound model, or one that reads categories, text or embeddings, or has a scale.
    """
    try:
        file = msgspec.convert(document, _File)
    except msgspec.ValidationError as error:
        raise SnapshotError(f"{where}: {error}; CatBoost's save_model(path, format='json') is right") from None
    info = file.features_info
    for kind in ("categorical", "text", "embedding"):
        if getattr(info, f"{kind}_features"):
            raise SnapshotError(
                f"{where}: features_info.{kind}_features: CatBoost hashes or embeds them within the model; a model of "
                "numbers only is right, categories as LightGBM or XGBoost take them or as statistics made beforehand"
            )
    scale, bias = file.scale_and_bias
    biases = bias if isinstance(bias, list) else [bias]
    if scale != 1 or not np.isfinite(biases).all():
        raise SnapshotError(
            f"{where}: scale_and_bias is {scale}, {bias}; a scale of 1 is right: another rounds every score anew"
        )
    columns = {feature.feature_index: feature for feature in info.float_features}
    width = max((feature.flat_feature_index for feature in info.float_features), default=-1) + 1
    if len({feature.flat_feature_index for feature in info.float_features}) != width:
        raise SnapshotError(
            f"{where}: features_info.float_features: a place each from 0 is right for flat_feature_index"
        )
    by_place = sorted(info.float_features, key=lambda feature: feature.flat_feature_index)
    names = [feature.feature_id for feature in by_place]
    names = names_or("Column_", names if all(names) else [], width, where)
    classes, trees = len(biases), []
    every: list[_Oblivious | _Branch] = [*file.oblivious_trees, *file.trees]
    for place, given in enumerate(every):
        spot = f"{where}: tree {place}"
        nodes = _Nodes(columns, spot)
        if isinstance(given, _Oblivious):
            nodes.fill_oblivious(given, classes)
        else:
            nodes.fill(given, classes)
        trees += nodes.trees(classes, width)
    if not trees:
        raise SnapshotError(f"{where}: no oblivious_trees and no trees; one tree at least is right")
    if any(biases):
        trees += [leaf(each) for each in biases]
    loss = file.model_info.get("params", {})
    loss = loss.get("loss_function", {}) if isinstance(loss, dict) else {}
    objective = str(loss.get("type", "")) if isinstance(loss, dict) else ""
    return Ensemble(
        maker="CatBoost",
        trees=trees,
        feature_names=names,
        input_dtype="float32",
        accumulation="float64",
        base=[0.0] * classes,
        classes=classes,
        objective=objective,
        link=link_of(LINKS.get(objective, ""), classes),
    )


class _Nodes:
    """A tree's nodes as they are read: a row each, numbered as they come."""

    def __init__(self, columns: dict[int, _FloatFeature], where: str) -> None:
        self.columns, self.where = columns, where
        self.rows: list[tuple[int, int, int, float, bool]] = []  # left, right, feature, border, nan_right
        self.values: list[list[float]] = []
        self.cover: list[float] = []

    def add(self, split: _Split | None, value: list[float], weight: float) -> int:
        if split is None:
            self.rows.append((-1, -1, 0, 0.0, False))
        else:
            feature = self.columns.get(split.float_feature_index)
            if split.split_type != "FloatFeature" or feature is None:
                raise SnapshotError(
                    f"{self.where}: a split of type {split.split_type}, feature {split.float_feature_index}; "
                    "FloatFeature of one of features_info.float_features is right"
                )
            if feature.nan_value_treatment not in ("AsIs", "AsTrue", "AsFalse"):
                raise SnapshotError(
                    f"{self.where}: nan_value_treatment {feature.nan_value_treatment}; AsTrue, AsFalse or AsIs is right"
                )
            nan_right = feature.nan_value_treatment == "AsTrue"
            self.rows.append((-1, -1, feature.flat_feature_index, split.border, nan_right))
        self.values.append(value)
        self.cover.append(weight)
        return len(self.rows) - 1

    def link(self, node: int, left: int, right: int) -> None:
        self.rows[node] = (left, right, *self.rows[node][2:])

    def fill_oblivious(self, tree: _Oblivious, classes: int) -> None:
        """Split d decides bit d of the leaf's number; the last split becomes the root, so leaves lie in order."""
        splits = tree.splits or []
        leaves = 2 ** min(len(splits), DEPTH_MAX + 1)
        weights = tree.leaf_weights or [0.0] * leaves
        if len(splits) > DEPTH_MAX or len(tree.leaf_values) != leaves * classes or len(weights) != leaves:
            raise SnapshotError(
                f"{self.where}: {len(splits)} splits, {len(tree.leaf_values)} leaf_values, {len(weights)} leaf_weights"
                f"; at most {DEPTH_MAX} splits, 2**splits leaves of {classes} values are right"
            )
        level = np.array(weights, np.float64)
        covers = [level]
        for _ in splits:
            covers.append(level := level.reshape(-1, 2).sum(axis=1))
        for depth, split in enumerate(reversed(splits)):
            for cover in covers[len(splits) - depth].tolist():
                self.add(split, [0.0] * classes, cover)
        for place in range(leaves):
            self.add(None, tree.leaf_values[place * classes : (place + 1) * classes], weights[place])
        for node in range(leaves - 1):
            self.link(node, 2 * node + 1, 2 * node + 2)

    def fill(self, branch: _Branch, classes: int, depth: int = 0) -> tuple[int, float]:
        if branch.split is None:
            value = (
                branch.value if isinstance(branch.value, list) else [branch.value] if branch.value is not None else []
            )
            if len(value) != classes:
                raise SnapshotError(f"{self.where}: a leaf of value {branch.value}; {classes} numbers are right")
            return self.add(None, value, branch.weight), branch.weight
        if branch.left is None or branch.right is None or depth == DEPTH_MAX:
            raise SnapshotError(f"{self.where}: a split {depth} deep; below {DEPTH_MAX}, with left and right, is right")
        node = self.add(branch.split, [0.0] * classes, 0.0)
        left, left_cover = self.fill(branch.left, classes, depth + 1)
        right, right_cover = self.fill(branch.right, classes, depth + 1)
        self.link(node, left, right)
        self.cover[node] = left_cover + right_cover
        return node, self.cover[node]

    def trees(self, classes: int, width: int) -> list[Tree]:
        """A tree a class, all of one shape."""
        left, right, feature, border, nan_right = (np.array(each) for each in zip(*self.rows, strict=True))
        values = np.array(self.values, np.float64)
        with np.errstate(over="ignore"):
            threshold = last_rounding_to(border.astype(np.float32))
        return [
            grown(
                left, right, left == -1, where=self.where, width=width, feature=feature, threshold=threshold,
                nan_right=nan_right, value=values[:, each], cover=np.array(self.cover),
            )
            for each in range(classes)
        ]  # fmt: skip
