"""XGBoost: its model file, JSON or UBJSON, as trees.

XGBoost rounds a value to float32, goes left if it is below the threshold, and adds leaves to the base margin in
float32, in the order of the trees: `Booster.predict(output_margin=True)`. Categories of a split go right, NaN as each
split says.

Source: XGBoost's `src/tree/tree_model.cc` and `src/gbm/gbtree_model.cc` for the file, `src/common/categorical.h` for
categories, `src/predictor/cpu_predictor.cc` for the sum, `src/objective` for what a base score means.
"""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.trees import Ensemble, Ints, Tree, below, grown, interleaved, link_of, names_or

LOGIT = {"binary:logistic", "reg:logistic"}
LOG = {"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"}
SAME = {
    "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror",
    "reg:linear", "binary:logitraw", "binary:hinge", "multi:softmax", "multi:softprob",
    "rank:ndcg", "rank:map", "rank:pairwise",
}  # fmt: skip
LINKS = {
    "binary:logistic": "binary", "reg:logistic": "binary", "multi:softprob": "multiclass",
    "multi:softmax": "multiclass", "count:poisson": "poisson", "reg:gamma": "gamma", "reg:tweedie": "tweedie",
    "reg:squarederror": "regression", "rank:ndcg": "lambdarank", "rank:map": "lambdarank",
    "rank:pairwise": "lambdarank",
}  # fmt: skip
NEAR_ONE = 1e-6  # XGBoost's kRtEps: a base score of logistic objectives is kept this far from 0 and 1


class _TreeParam(msgspec.Struct):
    size_leaf_vector: int = 0


class _Tree(msgspec.Struct):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[bool]
    sum_hessian: list[float]
    tree_param: _TreeParam = msgspec.field(default_factory=_TreeParam)
    split_type: list[int] = []  # 1 by category; from XGBoost 1.3 on, as what follows
    categories: list[int] = []
    categories_nodes: list[int] = []
    categories_segments: list[int] = []
    categories_sizes: list[int] = []


class _Model(msgspec.Struct):
    tree_info: list[int]
    trees: list[_Tree]
    weight_drop: list[float] = []
    cats: _Cats = msgspec.field(default_factory=lambda: _Cats())


class _Encoding(msgspec.Struct):
    values: list[int | float] = []
    offsets: list[int] = []  # of text: a category's UTF-8 is values[offsets[i] : offsets[i + 1]]


class _Cats(msgspec.Struct):
    enc: list[_Encoding] = []


class _GbTree(msgspec.Struct, tag_field="name", tag="gbtree"):
    model: _Model


class _Dart(msgspec.Struct, tag_field="name", tag="dart"):
    gbtree: _GbTree
    weight_drop: list[float]


class _GbLinear(msgspec.Struct, tag_field="name", tag="gblinear"):
    pass


class _LearnerParam(msgspec.Struct):
    base_score: str
    num_feature: int
    num_class: int = 0
    num_target: int = 1


class _Objective(msgspec.Struct):
    name: str


class _Learner(msgspec.Struct):
    gradient_booster: _GbTree | _Dart | _GbLinear
    learner_model_param: _LearnerParam
    objective: _Objective
    feature_names: list[str] = []


class _File(msgspec.Struct):
    learner: _Learner
    version: list[int] = []


def read_xgboost(document: Any, where: str) -> Ensemble:
    """The model that `Booster.save_model` wrote, its JSON or UBJSON decoded. All its trees: as `Booster.predict`.

    Raises:
        SnapshotError: what is no sound model, or none of trees that give a number.
    """
    try:
        file = msgspec.convert(document, _File, strict=False)  # not strict: it writes numbers as text, too
    except msgspec.ValidationError as error:
        raise SnapshotError(f"{where}: {error}; a model file of XGBoost 1.0 or later is right") from None
    learner, param = file.learner, file.learner.learner_model_param
    booster, drop = learner.gradient_booster, []
    if isinstance(booster, _Dart):
        drop, booster = booster.weight_drop, booster.gbtree
    if isinstance(booster, _GbLinear):
        raise SnapshotError(
            f"{where}: learner.gradient_booster.name is gblinear, which has no trees; gbtree or dart is right"
        )
    model, classes = booster.model, max(1, param.num_class, param.num_target)
    names = names_or("f", learner.feature_names, param.num_feature, where)
    trees = [_tree(tree, f"{where}: trees[{place}]", len(names)) for place, tree in enumerate(model.trees)]
    if drop := drop or model.weight_drop:
        if len(drop) != len(trees):
            raise SnapshotError(f"{where}: {len(drop)} weights in weight_drop, {len(trees)} trees; one each is right")
        trees = [_weighted(tree, weight, where) for tree, weight in zip(trees, drop, strict=True)]
    return Ensemble(
        maker=" ".join(["XGBoost", ".".join(map(str, file.version))]).strip(),
        trees=interleaved(trees, model.tree_info, classes, where),
        feature_names=names,
        input_dtype="float32",
        accumulation="float32",
        base=_base(param.base_score, learner.objective.name, classes, where),
        classes=classes,
        objective=learner.objective.name,
        link=link_of(LINKS.get(learner.objective.name, ""), classes),
        categories=_categories(model, names, where),
    )


def _tree(tree: _Tree, where: str, width: int) -> Tree:
    if tree.tree_param.size_leaf_vector > 1:
        raise SnapshotError(
            f"{where}: size_leaf_vector {tree.tree_param.size_leaf_vector}; multi_strategy one_output_per_tree is right"
        )
    left, right = np.array(tree.left_children, np.int64), np.array(tree.right_children, np.int64)
    nodes = len(left)
    by_category = np.array(tree.split_type or [0] * nodes, np.int64) != 0
    arrays = (right, tree.split_indices, tree.split_conditions, tree.default_left, tree.sum_hessian, by_category)
    if any(len(array) != nodes for array in arrays):
        raise SnapshotError(
            f"{where}: its lists are of {sorted({nodes, *map(len, arrays)})} nodes; one length is right"
        )
    is_leaf = left == -1
    sets = _sets(tree, where)
    if (bare := np.setdiff1d(np.flatnonzero(by_category & ~is_leaf), list(sets))).size:
        raise SnapshotError(f"{where}: node {bare[0]} splits by category; its categories in categories_nodes are right")
    mirrored = np.zeros(nodes, bool)
    mirrored[list(sets)] = True  # categories go right in XGBoost, left in Tree
    default_left = np.array(tree.default_left, bool)
    with np.errstate(over="ignore"):
        numbers, cover = np.array(tree.split_conditions, np.float32), np.array(tree.sum_hessian, np.float32)
    return grown(
        np.where(mirrored, right, left), np.where(mirrored, left, right), is_leaf, where=where, width=width,
        feature=np.array(tree.split_indices, np.int64), threshold=below(numbers), nan_right=default_left == mirrored,
        value=numbers, cover=cover, sets=sets,
    )  # fmt: skip


def _sets(tree: _Tree, where: str) -> dict[int, Ints]:
    """By node, the categories that XGBoost sends right."""
    categories = np.array(tree.categories, np.int64)
    sets: dict[int, Ints] = {}
    segments = tree.categories_nodes, tree.categories_segments, tree.categories_sizes
    if len({len(each) for each in segments}) != 1 or ((categories < 0) | (categories >= 2**24)).any():
        raise SnapshotError(f"{where}: its categories do not fit their nodes, or are not all below 16777216")
    for node, begin, size in zip(*segments, strict=True):
        kind = tree.split_type[node] if 0 <= node < len(tree.split_type) else 0
        if kind == 0 or begin < 0 or size < 0 or begin + size > len(categories):
            raise SnapshotError(
                f"{where}: node {node} has categories that are not there, or does not split by category"
            )
        sets[node] = np.unique(categories[begin : begin + size]).astype(np.int32)
    return sets


def _weighted(tree: Tree, weight: float, where: str) -> Tree:
    """XGBoost multiplies a leaf by the tree's weight in float32 before it adds it."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = tree.value.astype(np.float32) * np.float32(weight)
    if not np.isfinite(value).all():
        raise SnapshotError(f"{where}: {weight} in weight_drop; a weight that leaves its tree's leaves finite is right")
    return replace(tree, value=value.astype(np.float64))


def _base(text: str, objective: str, classes: int, where: str) -> list[float]:
    """The base margin [classes]: `base_score` is of the prediction's kind, a number or one a class."""
    try:
        words = text.strip().removeprefix("[").removesuffix("]").split(",")
        with np.errstate(over="ignore"):
            score = np.array([float(word) for word in words], np.float32)
    except ValueError:
        raise SnapshotError(f"{where}: base_score is {text!r}; a number, or [one a class], is right") from None
    if len(score) not in (1, classes) or not np.isfinite(score).all():
        raise SnapshotError(f"{where}: base_score is {text!r}; one finite number or {classes} are right")
    if objective in LOGIT:
        if ((score < 0) | (score > 1)).any():
            raise SnapshotError(f"{where}: base_score is {text!r}; a probability is right for {objective}")
        one = np.float32(1)
        score = -_log(one / np.clip(score, np.float32(NEAR_ONE), one - np.float32(NEAR_ONE)) - one)
    elif objective in LOG:
        if (score <= 0).any():
            raise SnapshotError(f"{where}: base_score is {text!r}; a positive number is right for {objective}")
        score = _log(score)
    elif objective not in SAME:
        raise SnapshotError(
            f"{where}: objective {objective}, whose base_score means what is not known here; one of "
            f"{', '.join(sorted(LOGIT | LOG | SAME))} is right"
        )
    return [float(each) for each in np.broadcast_to(score, classes)]


def _log(score: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """C's logf of this machine, which XGBoost asks as well: NumPy's, or a rounded log, differs in the last bit."""
    logf = ctypes.CDLL(None).logf
    logf.argtypes, logf.restype = [ctypes.c_float], ctypes.c_float
    return np.array([logf(float(each)) for each in score], np.float32)


def _categories(model: _Model, names: list[str], where: str) -> dict[str, list[str | int | float]]:
    """The categories of a data frame that XGBoost 3.1 and later keep; their places are the codes that trees compare."""
    known: dict[str, list[str | int | float]] = {}
    for name, encoding in zip(names, model.cats.enc, strict=False):
        if not encoding.offsets:
            known |= {name: list(encoding.values)} if encoding.values else {}
            continue
        try:
            data = bytes(int(each) & 0xFF for each in encoding.values)
            known[name] = [data[begin:end].decode() for begin, end in itertools.pairwise(encoding.offsets)]
        except ValueError as error:
            raise SnapshotError(f"{where}: categories of {name}: {error}; text in UTF-8 is right") from None
    return known
