"""Models of other makers: written by hand, and the rows on which they are hard to score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

ROWS, WIDTH, CATEGORICAL = 1200, 6, 5
AROUND_ZERO = [0.0, -0.0, 1e-45, -1e-45, 7e-46, -7e-46, 7.1e-46, 1e-40, -1e-40, 5e-324, 1e-35, -1e-35]
NUMBERS = [*AROUND_ZERO, 1e30, -1e30, 3.4e38, -3.4e38]  # beyond float32 XGBoost and scikit-learn refuse a value
CATEGORIES = [0, 1, 31, 32, 39, 40, 255, 256, 1e6, 2**24]


def table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows with NaN, a column smaller than LightGBM's zero, one of repeated values, one of 40 categories; a target."""
    X = rng.normal(size=(ROWS, WIDTH))
    X[:, CATEGORICAL] = rng.integers(0, 40, ROWS)
    X[:, 2] = np.round(X[:, 2], 1) * 1e-38
    X[:, 3] = np.round(X[:, 3], 1)
    X[rng.random(ROWS) < 0.1, 1] = np.nan
    X[rng.random(ROWS) < 0.05, CATEGORICAL] = np.nan
    effect = (np.nan_to_num(X[:, CATEGORICAL]) % 3 == 1) + rng.normal(size=ROWS)
    return X, X[:, 0] + np.nan_to_num(X[:, 1]) + 1e38 * X[:, 2] + np.sign(X[:, 3]) + effect


def nasty(rng: np.random.Generator, trees, X: np.ndarray, nan: bool, numbers=NUMBERS) -> np.ndarray:
    """X with half of its numbers moved to a threshold, its neighbours in float64 and float32, or around zero; NaN."""
    X = np.concatenate([X, X])
    limits: list[list[float]] = [[0.5] for _ in range(WIDTH)]
    by_category = set()
    for tree in trees:
        for split, feature in enumerate(tree.feature):
            if split in tree.sets:
                by_category.add(feature)
            elif abs(tree.threshold[split]) < 3e38:
                limits[feature].append(tree.threshold[split])
    for feature in range(WIDTH):
        exact = rng.choice(limits[feature], len(X))
        narrow = exact.astype(np.float32)
        toward = rng.choice([-np.inf, np.inf], len(X))
        near = np.nextafter(narrow, toward.astype(np.float32)).astype(float)
        cases = [exact, np.nextafter(exact, toward), narrow.astype(float), near, (narrow + near) / 2]
        cases.append(rng.choice(numbers, len(X)))
        if feature in by_category:
            cases = [rng.choice(CATEGORIES, len(X))]
        choice = rng.integers(0, 2 * len(cases), len(X))
        X[:, feature] = np.select([choice == place for place in range(len(cases))], cases, X[:, feature])
    if nan:
        X[rng.random(X.shape) < 0.1] = np.nan
    return X


def tree(**changes) -> dict:
    """x0 < 0.5 goes to -1; the rest by x1: 2 and 4 to 8, any other to 0.25; NaN of x0 right, of x1 left."""
    return {
        "left_children": [1, -1, 3, -1, -1], "right_children": [2, -1, 4, -1, -1], "split_indices": [0, 0, 1, 0, 0],
        "split_conditions": [0.5, -1, 1e-45, 0.25, 8], "default_left": [0, 0, 1, 0, 0], "sum_hessian": [9, 4, 5, 2, 3],
        "split_type": [0, 0, 1, 0, 0], "categories": [2, 4], "categories_nodes": [2], "categories_segments": [0],
        "categories_sizes": [2], "tree_param": {"num_nodes": "5", "size_leaf_vector": "1"}, **changes,
    }  # fmt: skip


def document(trees=None, info=None, objective="reg:squarederror", base="5E-1", **param) -> dict:
    trees = [tree()] if trees is None else trees
    model = {"tree_info": info or [0] * len(trees), "trees": trees}
    param = {"base_score": base, "num_class": "0", "num_feature": "2", "num_target": "1", **param}
    booster = {"model": model, "name": "gbtree"}
    learner = {"gradient_booster": booster, "learner_model_param": param, "objective": {"name": objective}}
    return {"learner": learner, "version": [3, 2, 0]}


def write(tmp_path, value, name="model.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(value))
    return path


LEAF = {"left_children": [-1], "right_children": [-1], "split_indices": [0], "split_conditions": [0.25],
        "default_left": [False], "sum_hessian": [7]}  # fmt: skip

CATBOOST = {
    "features_info": {"float_features": [{"feature_index": 0, "flat_feature_index": 0}]},
    "scale_and_bias": [1, [0.5]],
    "oblivious_trees": [{
        "leaf_values": [1, 2, 4, 8], "leaf_weights": [1, 2, 3, 4],
        "splits": [{"split_type": "FloatFeature", "float_feature_index": 0, "border": border} for border in (0, 1)],
    }],
}  # fmt: skip
