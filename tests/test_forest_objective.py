"""`predict(X, raw_score=False)` is `Booster.predict(X)` to the last bit; an objective that is not known is refused."""

from __future__ import annotations

import re

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests.test_forest import TINY, adversarial, bits, table, trained

ONE_CLASS = ["regression", "regression sqrt", "regression_l1", "regression_l1 sqrt", "huber", "fair", "fair sqrt"]
ONE_CLASS += ["poisson", "quantile", "quantile sqrt", "mape", "mape sqrt", "gamma", "tweedie", "cross_entropy"]
ONE_CLASS += ["cross_entropy_lambda", "xentropy", "xentlambda", "lambdarank", "rank_xendcg", "custom", ""]
ONE_CLASS += ["quantile alpha:0.9", "huber alpha:0.9", "tweedie tweedie_variance_power:1.5"]
SIGMOIDS = ["1", "0.5", "2", "0.333333", "1e-05", "1.5e+06", "123.457", "7.7063e-05", "1e300", "1.00001e-300", "7e25"]

HEADER = """tree
version=v4
num_class={classes}
num_tree_per_iteration={classes}
label_index=0
max_feature_idx={last}
{objective}
feature_names={names}
feature_infos={infos}

"""


def scores(rng: np.random.Generator) -> np.ndarray:
    """Where exp overflows, vanishes or becomes denormal, and a thousand ordinary ones of every size."""
    edges = [0.0, 5e-324, 1e-300, 1e-17, 1.2e-16, 36.7, 37.5, 88.7, 700.0, 709.78, 709.79, 744.4, 745.2, 1e4, 1e154]
    edges += [1e155, 1.7e308, np.inf]
    sizes = rng.normal(size=400) * 10.0 ** rng.integers(-20, 20, 400)
    positive = np.concatenate(
        [edges, np.nextafter(edges, 0), rng.normal(size=600) * rng.choice([1, 9, 300], 600), sizes]
    )
    return np.concatenate([positive, -positive, [np.nan]])


def of_leaves(objective: str, leaves: np.ndarray, iterations: int = 1, average: bool = False) -> str:
    """A model's text: tree i is a staircase over feature i, so that row value k falls into leaf k."""
    classes, trees = len(leaves) // iterations, len(leaves)
    lines = [f"objective={objective}"] if objective else []
    lines += ["average_output"] if average else []
    names = {"names": " ".join(f"f{i}" for i in range(trees)), "infos": " ".join(["[0:9]"] * trees)}
    text = HEADER.format(classes=classes, last=trees - 1, objective="\n".join(lines), **names)
    for i, values in enumerate(leaves):
        splits = np.arange(len(values) - 1)
        tree = {
            "num_leaves": [len(values)],
            "num_cat": [0],
            "split_feature": [i] * len(splits),
            "split_gain": splits,
            "threshold": splits + 0.5,
            "decision_type": [2] * len(splits),
            "left_child": ~splits,
            "right_child": [*splits[1:], -len(values)],
            "leaf_value": map(repr, values.tolist()),
        }
        text += (
            f"Tree={i}\n" + "".join(f"{name}={' '.join(map(str, words))}\n" for name, words in tree.items()) + "\n\n"
        )
    return text + "end of trees\n"


def differing(text: str, X: np.ndarray) -> int:
    """Cells whose bits are not LightGBM's, of raw scores and of transformed ones."""
    booster, forest = lgb.Booster(model_str=text), Forest.parse(text)
    count = 0
    for raw_score in (True, False):
        with np.errstate(all="ignore"):
            expected = booster.predict(X, raw_score=raw_score, num_threads=1)
        found = forest.predict(X, raw_score=raw_score)
        assert found.shape == expected.shape
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        count += np.count_nonzero((bits(found) != bits(expected)) & ~np.isnan(found).reshape(expected.shape))
    return count


def test_transforms_by_hand():
    X = np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]])  # raw: 2, 5 and 3
    text = TINY.replace("leaf_value=1 2 4", "leaf_value=1.75 2.75 -5.25")
    raw = Forest.parse(text).predict(X)
    assert raw.tolist() == [2.0, 2.0, 3.0]
    for objective, expected in (
        ("regression", raw),
        ("regression sqrt", [4, 4, 9]),
        ("poisson", np.exp(raw)),
        ("binary sigmoid:2", 1 / (1 + np.exp(-2 * raw))),
        ("cross_entropy", 1 / (1 + np.exp(-raw))),
        ("cross_entropy_lambda", np.log1p(np.exp(raw))),
    ):
        forest = Forest.parse(text.replace("objective=regression", f"objective={objective}"))
        assert forest.objective == objective
        np.testing.assert_allclose(forest.predict(X, raw_score=False), expected, rtol=1e-15)
        assert forest.predict(X).tolist() == raw.tolist(), "raw is the default"


@pytest.mark.parametrize("objective", ONE_CLASS)
@pytest.mark.parametrize("average", [False, True])
def test_objectives_of_one_class_over_extreme_scores(objective, average):
    rng = np.random.default_rng(1)
    values = scores(rng)
    trees = np.stack([values, rng.permutation(values), np.full(len(values), 0.1)])[: 3 if average else 1]
    X = np.repeat(np.arange(len(values))[:, None], len(trees), axis=1).astype(float)
    assert differing(of_leaves(objective, trees, len(trees), average), X) == 0


@pytest.mark.parametrize("sigmoid", SIGMOIDS)
def test_sigmoids_are_read_as_lightgbm_reads_them(sigmoid):
    values = scores(np.random.default_rng(3))
    with np.errstate(over="ignore"):
        values = np.concatenate([values, values / float(sigmoid)])
    X = np.arange(len(values), dtype=float)[:, None]
    assert differing(of_leaves(f"binary sigmoid:{sigmoid}", values[None]), X) == 0


def test_300_random_sigmoids_of_six_digits():
    """LightGBM reads digits before and after the point apart: 34 of these get another double than the nearest."""
    rng = np.random.default_rng(4)
    X = np.arange(40, dtype=float)[:, None]
    for sigmoid in rng.random(300) * 10.0 ** rng.integers(-9, 9, 300):
        text = of_leaves(f"binary sigmoid:{sigmoid:g}", (rng.normal(size=40) * 3 / sigmoid)[None])
        assert differing(text, X) == 0, f"{sigmoid:g}"


@pytest.mark.parametrize("objective", ["multiclass num_class:{}", "multiclassova num_class:{} sigmoid:0.7"])
@pytest.mark.parametrize(("classes", "iterations"), [(2, 1), (3, 1), (5, 1), (17, 1), (3, 4)])
def test_objectives_of_many_classes_over_extreme_scores(objective, classes, iterations):
    rng = np.random.default_rng(classes)
    values = scores(rng)
    leaves = np.stack([rng.permutation(values) for _ in range(classes * iterations)])
    leaves[:, ::2] = rng.normal(size=leaves[:, ::2].shape) * 5
    text = of_leaves(objective.format(classes), leaves, iterations, average=iterations > 1)
    assert differing(text, rng.integers(0, len(values), (4000, len(leaves))).astype(float)) == 0


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "binary", "sigmoid": 1 / 3},
        {"objective": "regression", "reg_sqrt": True},
        {"objective": "multiclass", "num_class": 4},
        {"objective": "multiclassova", "num_class": 3, "sigmoid": 0.7},
        {"objective": "lambdarank"},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1, "objective": "binary"},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1, "objective": "multiclass", "num_class": 3},
    ],
    ids=lambda params: " ".join(str(value) for value in params.values()),
)
def test_trained_models(params):
    rng = np.random.default_rng(7)
    text = trained(rng, categories=2, **params).model_to_string()
    X = adversarial(rng, text, 600, 9, 2)
    with np.errstate(over="ignore"):
        narrow = X.astype(np.float32)
    assert differing(text, X) == differing(text, narrow) == 0


def test_a_custom_objective_leaves_no_line_and_scores_as_they_are():
    rng = np.random.default_rng(8)
    X = table(rng, 500, 9, 2)
    params = {"objective": lambda scores, data: (scores - data.get_label(), np.ones(500)), "verbose": -1}
    text = lgb.train(params, lgb.Dataset(X, X[:, 0]), 5).model_to_string()
    assert "\nobjective=" not in text and Forest.parse(text).objective == ""
    assert differing(text, X) == 0


def test_transformed_scores_are_written_to_out():
    forest = Forest.parse(TINY.replace("objective=regression", "objective=poisson"))
    X, out = np.zeros((4, 2)), np.empty(4)
    assert forest.predict(X, out, raw_score=False) is out
    assert out.tolist() == np.exp(forest.predict(X)).tolist()
    assert forest.predict(X[:0], raw_score=False).shape == (0,)
    with pytest.raises(TypeError):
        forest.predict(X, out, False)


REFUSED = [
    ("binry sigmoid:1", 'objective is "binry", which is unknown; one of regression, .*, custom is right'),
    ("Binary sigmoid:1", 'objective is "Binary", which is unknown'),
    ("mse", 'objective is "mse", which is unknown'),
    ("binary", "objective=binary has no sigmoid; sigmoid:<number> is right"),
    ("binary sigma:1", 'objective=binary is followed by "sigma:1"; sigmoid:<number> is right'),
    ("binary sigmoid", 'objective=binary is followed by "sigmoid"; sigmoid:<number> is right'),
    ("binary :1", 'objective=binary is followed by ":1"'),
    ("binary sigmoid:1 sigmoid:2", "objective=binary has sigmoid twice; once is right"),
    *(
        (f"binary sigmoid:{bad}", f'objective has sigmoid:"{re.escape(bad)}"; a number above 0 is right')
        for bad in ("", "0", "-1", "+1", "x", "1x", ".5", "nan", "inf", "1e", "1e309", "9e308", "1e-400", "1:2", "0x1")
    ),
    ("binary sigmoid:" + "1" * 23, ".*a number above 0 is right"),
    ("regression sqrt:1", 'objective=regression is followed by "sqrt:1"; sqrt is right'),
    ("poisson sqrt", 'objective=poisson is followed by "sqrt"; nothing is right'),
    ("quantile alpha:x", 'objective has alpha:"x"; a number above 0'),
    ("multiclass", "objective=multiclass has no num_class; num_class:<whole number> is right"),
    ("multiclass num_class:3", "objective=multiclass is for num_class=3; num_tree_per_iteration=1 is right"),
    ("multiclass num_class:99999999999", 'objective has num_class:"99999999999"; a whole number'),
    ("multiclassova num_class:1", "objective=multiclassova has no sigmoid; num_class:<whole number> or sigmoid:<nu"),
    ("\x01" * 50, 'objective is "' + "[?]" * 40 + '..."'),
]


@pytest.mark.parametrize(("objective", "message"), REFUSED, ids=[objective[:40] for objective, _ in REFUSED])
def test_an_objective_that_is_not_known_is_refused_by_line(objective, message):
    with pytest.raises(SnapshotError, match=f"^model text: line 7: {message}"):
        Forest.parse(TINY.replace("objective=regression", f"objective={objective}"))


def test_one_output_does_not_fit_three_classes():
    text = of_leaves("binary sigmoid:1", np.zeros((3, 2)))
    with pytest.raises(SnapshotError, match="line 7: objective=binary is for num_class=1; num_tree_per_iteration=3 is"):
        Forest.parse(text)
    assert Forest.parse(text.replace("objective=binary sigmoid:1\n", "")).predict(np.zeros((1, 3))).shape == (1, 3)
