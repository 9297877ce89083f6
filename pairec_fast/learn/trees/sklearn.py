"""scikit-learn: a fitted ensemble of trees, read from the object itself. A pickle of one is not opened: it runs code.

Forests, gradient boosting and single trees round a value to float32 and go left if it is at most the float64
threshold; histogram gradient boosting compares in float64. All add in float64, in the order of the trees.

Source: scikit-learn's `tree/_tree.pyx`, `ensemble/_gradient_boosting.pyx`, `ensemble/_forest.py` and
`ensemble/_hist_gradient_boosting/_predictor.pyx`.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.trees import Ensemble, Ints, Tree, grown, last_rounding_to, link_of, names_or, rounded_down

FORESTS = {"RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor"}
TREES = {"DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"}
BOOSTED = {"GradientBoostingClassifier", "GradientBoostingRegressor"}
HISTOGRAM = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}
FITTED = {"estimators_": FORESTS | BOOSTED, "tree_": TREES, "_predictors": HISTOGRAM}


def read_sklearn(model: Any) -> Ensemble:
    """The fitted `model`: a forest, a boosted ensemble or a single tree.

    A classifier of two classes gives one score, of `classes_[1]`; one of more gives one a class.

    Raises:
        SnapshotError: another estimator, one that is not fitted, or one of several outputs.
    """
    kinds = [kind.__name__ for kind in type(model).__mro__ if kind.__module__.partition(".")[0] == "sklearn"]
    known = FORESTS | TREES | BOOSTED | HISTOGRAM
    kind = next((kind for kind in kinds if kind in known), "")
    where = f"scikit-learn's {kind or kinds[0]}"
    if not kind:
        raise SnapshotError(
            f"{where} is none of the ensembles that are read; one of {', '.join(sorted(known))} is right"
        )
    if not hasattr(model, next(name for name, kinds in FITTED.items() if kind in kinds)):
        raise SnapshotError(f"{where} is not fitted; call its fit first")
    if getattr(model, "n_outputs_", 1) != 1:
        raise SnapshotError(f"{where} has {model.n_outputs_} outputs; a model for each is right")
    names = [str(name) for name in getattr(model, "feature_names_in_", [])]
    names = names_or("Column_", names, int(model.n_features_in_), where)
    read = _boosted if kind in BOOSTED else _histogram if kind in HISTOGRAM else _averaged
    return read(model, names, where, kind)


def _maker(kind: str) -> str:
    return f"scikit-learn {getattr(sys.modules.get('sklearn'), '__version__', '')} {kind}"


def _link(model: Any, kind: str, classes: int) -> str:
    if kind.endswith("Classifier"):
        if model.loss == "exponential":
            return "binary sigmoid:2"
        return link_of("binary" if classes == 1 else "multiclass", classes)
    return model.loss if model.loss in ("poisson", "gamma") else "regression"


def _tree(tree: Any, value: npt.NDArray[np.float64], width: int, where: str) -> Tree:
    """`tree` is what scikit-learn calls `tree_`; `value` [nodes] stands for its own."""
    return grown(
        tree.children_left, tree.children_right, tree.children_left == -1, where=where, width=width,
        feature=tree.feature, threshold=last_rounding_to(rounded_down(tree.threshold)),
        nan_right=np.asarray(tree.missing_go_to_left) == 0, value=value, cover=tree.weighted_n_node_samples,
    )  # fmt: skip


def _boosted(model: Any, names: list[str], where: str, kind: str) -> Ensemble:
    """Each stage's trees, a class after the other; a leaf is multiplied by the learning rate before it is added."""
    start = model.init_
    if not isinstance(start, str) and (
        type(start).__name__ not in ("DummyClassifier", "DummyRegressor") or start.strategy == "stratified"
    ):
        raise SnapshotError(
            f"{where} begins with {start}, which says another thing for every row; init='zero' or None is right"
        )
    base = model._raw_predict_init(np.zeros((1, len(names)), np.float32))[0]
    return Ensemble(
        maker=_maker(kind),
        trees=[
            _tree(each.tree_, model.learning_rate * each.tree_.value[:, 0, 0], len(names), f"{where}: tree {place}")
            for place, each in enumerate(model.estimators_.ravel())
        ],
        feature_names=names,
        input_dtype="float32",
        accumulation="float64",
        base=[float(each) for each in base],
        classes=model.estimators_.shape[1],
        objective=str(model.loss),
        link=_link(model, kind, model.estimators_.shape[1]),
    )


def _averaged(model: Any, names: list[str], where: str, kind: str) -> Ensemble:
    """A forest, or a tree as a forest of one. Each estimator of K > 2 classes is K trees of one shape."""
    estimators = getattr(model, "estimators_", [model])
    trees, classes = [], 1
    for place, estimator in enumerate(estimators):
        value = estimator.tree_.value[:, 0, :]
        if kind.endswith("Classifier"):
            if not np.allclose(value.sum(axis=1), 1):
                raise SnapshotError(
                    f"{where}: leaves that count samples; a model of scikit-learn 1.3 or later is right"
                )
            value = value[:, 1:] if value.shape[1] == 2 else value
        classes = value.shape[1]
        for column in value.T:
            trees.append(_tree(estimator.tree_, column, len(names), f"{where}: estimator {place}"))
    return Ensemble(
        maker=_maker(kind),
        trees=trees,
        feature_names=names,
        input_dtype="float32",
        accumulation="float64",
        base=[0.0] * classes,
        classes=classes,
        objective="probability" if kind.endswith("Classifier") else "mean",
        average=kind in FORESTS,
    )


def _histogram(model: Any, names: list[str], where: str, kind: str) -> Ensemble:
    """Trees on encoded columns, those by category first, written in terms of the columns as they are given."""
    is_categorical = np.zeros(len(names), bool) if model.is_categorical_ is None else np.asarray(model.is_categorical_)
    column = np.concatenate([np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)])
    encoder = model._preprocessor.named_transformers_["encoder"] if is_categorical.any() else None
    numbers, categories = [], {}
    for place, known in zip(column, encoder.categories_ if encoder else [], strict=False):
        labels = [label for label in known if label is not None and label == label]  # NaN is missing, not a category
        if known.dtype.kind in "biuf" and all(label % 1 == 0 and 0 <= label < 2**24 for label in labels):
            numbers.append(np.array(labels, np.int64))
        else:
            numbers.append(np.arange(len(labels)))
            categories[names[place]] = [label.item() if isinstance(label, np.generic) else label for label in labels]
    return Ensemble(
        maker=_maker(kind),
        trees=[
            _histogram_tree(each, column, numbers, f"{where}: tree {place}")
            for place, each in enumerate(each for stage in model._predictors for each in stage)
        ],
        feature_names=names,
        input_dtype="float64",
        accumulation="float64",
        base=[float(each) for each in np.ravel(model._baseline_prediction)],
        classes=len(model._predictors[0]),
        objective=str(model.loss),
        link=_link(model, kind, len(model._predictors[0])),
        categories=categories,
    )


def _histogram_tree(
    predictor: Any, column: npt.NDArray[np.int64], numbers: list[npt.NDArray[np.int64]], where: str
) -> Tree:
    """Unknown categories go where NaN goes: where that is left, children are mirrored, for `sets` sends them right."""
    nodes = predictor.nodes
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    nan_right = nodes["missing_go_to_left"] == 0
    sets: dict[int, Ints] = {}
    for node in np.flatnonzero((nodes["is_categorical"] != 0) & (nodes["is_leaf"] == 0)).tolist():
        number = numbers[nodes["feature_idx"][node]]
        bits = np.unpackbits(
            predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]].view(np.uint8), bitorder="little"
        )
        goes_left = bits[: len(number)] != 0
        sets[node] = np.sort(number[goes_left if nan_right[node] else ~goes_left]).astype(np.int32)
        if not nan_right[node]:
            left[node], right[node], nan_right[node] = right[node], left[node], True
    return grown(
        left, right, nodes["is_leaf"] != 0, where=where, width=len(column), feature=column[nodes["feature_idx"]],
        threshold=nodes["num_threshold"], nan_right=nan_right, value=nodes["value"], cover=nodes["count"], sets=sets,
    )  # fmt: skip
