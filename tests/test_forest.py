"""A forest scores as LightGBM does, to the last bit. How its text is read: test_forest_text.py."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
from tests import reference

TINY = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=regression
feature_names=age city
feature_infos=[0:9] 0:2:40

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
split_gain=2 1
threshold=0.5 0
decision_type=2 1
left_child=1 -1
right_child=-2 -3
leaf_value=1 2 4
cat_boundaries=0 2
cat_threshold=5 256
is_linear=0
shrinkage=1


Tree=1
num_leaves=1
num_cat=0
leaf_value=0.25
is_linear=0
shrinkage=1


end of trees

feature_importances:
"""

NEAR_ZERO = float(np.float32(1e-35))
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-40, 1e300, -1.7e308, 3.5e38, 1.0]
AROUND_ZERO = [NEAR_ZERO, np.nextafter(NEAR_ZERO, 0), np.nextafter(NEAR_ZERO, 1), 1e-35]
NUMBERS += [*AROUND_ZERO, *np.negative(AROUND_ZERO)]
CATEGORIES = [np.nan, -1, -0.5, -0.999, 0.5, 0.999, 31, 32, 63.9, 255, 256, 1e6, 2**31 - 1, 2**31, 2**32 + 1, 1e18]
CATEGORIES += [np.inf, -np.inf, -7, -0.0, 1e-40]


def bits(scores: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(scores).view(np.uint64)


def table(rng: np.random.Generator, rows: int, features: int, categories: int) -> np.ndarray:
    """Ordinary training data: the first `categories` columns hold categories, some columns zeros, some NaN."""
    X = rng.normal(size=(rows, features))
    X[:, ::3] *= rng.random((rows, len(X[0, ::3]))) < 0.5
    X[:, 1::3][rng.random((rows, len(X[0, 1::3]))) < 0.2] = np.nan
    X[:, :categories] = rng.integers(0, 90, (rows, categories))
    return X


def trained(rng: np.random.Generator, trees: int = 15, categories: int = 0, **params) -> lgb.Booster:
    """A booster of 9 features whose labels depend on every column."""
    rows, features = 1500, 9
    X = table(rng, rows, features, categories)
    y = np.nan_to_num(X) @ rng.normal(size=features) + (X[:, 0] % 3 == 1) + rng.normal(size=rows)
    objective, group = params.get("objective", "regression"), None
    if objective in ("binary", "lambdarank"):
        y = y > np.median(y)
        group = np.full(rows // 50, 50) if objective == "lambdarank" else None
    elif objective.startswith("multiclass"):
        y = np.digitize(y, np.quantile(y, [0.4, 0.99]))
    params |= {"verbose": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1, "seed": 1}
    data = lgb.Dataset(X, y, group=group, categorical_feature=list(range(categories)))
    return lgb.train({"min_data_in_leaf": 3, **params}, data, trees)


def adversarial(rng: np.random.Generator, text: str, rows: int, features: int, categories: int) -> np.ndarray:
    """Data where a third of the cells is nasty: thresholds, their neighbours, and values where casts go wrong."""
    X = table(rng, rows, features, categories)
    limits = np.array([float(word) for line in re.findall(r"^threshold=(.+)$", text, re.M) for word in line.split()])
    exact = rng.choice(limits, X.shape) if len(limits) else X
    toward = rng.choice([-np.inf, np.inf], X.shape)
    near32 = np.nextafter(exact.astype(np.float32), toward.astype(np.float32)).astype(np.float64)
    choice = rng.integers(0, 12, X.shape)
    nasty = [rng.choice(NUMBERS, X.shape), exact, np.nextafter(exact, toward), near32, exact.astype(np.float32)]
    X = np.select([choice == i for i in range(5)], nasty, X)
    wild = rng.random((rows, categories)) < 0.4
    X[:, :categories][wild] = rng.choice(CATEGORIES, wild.sum())
    return X


def assert_same_bits(booster: lgb.Booster, X: np.ndarray, text: str | None = None) -> Forest:
    forest = Forest.parse(text or booster.model_to_string())
    with np.errstate(over="ignore"):
        narrow = X.astype(np.float32)
    for rows in (X, narrow, np.asfortranarray(X), np.asfortranarray(narrow)):
        expected = booster.predict(rows, raw_score=True, num_threads=1)
        assert forest.predict(rows).shape == expected.shape
        assert np.count_nonzero(bits(forest.predict(rows)) != bits(expected)) == 0
    return forest


def test_tiny_forest_by_hand():
    forest = Forest.parse(TINY)
    assert (forest.width, forest.classes, forest.trees, forest.objective) == (2, 1, 2, "regression")
    assert (forest.feature_names, forest.categorical) == (["age", "city"], [False, True])
    X = np.array([[0.5, 0], [0.5, 2.9], [-3, 40], [0, 1], [0, 41], [0, 64], [0, np.nan], [0.6, 0], [np.nan, 0]])
    assert forest.predict(X).tolist() == [1.25, 1.25, 1.25, 4.25, 4.25, 4.25, 4.25, 2.25, 1.25]
    assert_same_bits(lgb.Booster(model_str=TINY), X, TINY)


@pytest.mark.parametrize("seed", range(10))
def test_ten_random_models_differ_in_0_bits(seed):
    """Every third model has categories, every second treats zero as missing, every fifth nothing as missing."""
    rng = np.random.default_rng(seed)
    categories = 3 if seed % 3 == 0 else 0
    leaves, bins = [2, 7, 31, 100, 300][seed % 5], [15, 63, 255, 1023][seed % 4]
    missing = {"zero_as_missing": seed % 2 == 1, "use_missing": seed % 5 != 4}
    booster = trained(rng, categories=categories, num_leaves=leaves, max_bin=bins, min_data_in_bin=1, **missing)
    text = booster.model_to_string()
    X = adversarial(rng, text, 1500, 9, categories)
    forest = assert_same_bits(booster, X)
    np.testing.assert_array_equal(forest.predict(X[:40]), reference.forest_predict(text, X[:40]))


@pytest.mark.parametrize("default", ["left", "right"])
@pytest.mark.parametrize("missing", ["none", "zero", "nan"])
@pytest.mark.parametrize("limit", [-1.0, -NEAR_ZERO, -1e-40, -0.0, 0.0, 1e-40, NEAR_ZERO, 1.0, np.inf])
def test_missing_values_and_thresholds_around_zero(default, missing, limit):
    """LightGBM seldom trains such thresholds, but it scores them: all values within 1e-35f of zero are zero first."""
    kind = 2 * (default == "left") + 4 * ["none", "zero", "nan"].index(missing)
    text = TINY.replace("decision_type=2 1", f"decision_type={kind} 1").replace("=0.5 0\n", f"={limit!r} 0\n")
    X = np.zeros((len(NUMBERS), 2))
    X[:, 0] = NUMBERS
    forest = assert_same_bits(lgb.Booster(model_str=text), X, text)
    np.testing.assert_array_equal(forest.predict(X), reference.forest_predict(text, X))


def test_twin_agrees_on_adversarial_rows_of_three_classes():
    rng = np.random.default_rng(2)
    booster = trained(rng, trees=4, categories=2, objective="multiclass", num_class=3, num_leaves=12)
    text = booster.model_to_string()
    X = adversarial(rng, text, 150, 9, 2)
    assert np.array_equal(bits(Forest.parse(text).predict(X)), bits(reference.forest_predict(text, X)))


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "binary"},
        {"objective": "lambdarank"},
        {"objective": "multiclass", "num_class": 3},
        {"objective": "multiclassova", "num_class": 3},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"min_data_in_leaf": 10_000},
    ],
    ids=lambda params: " ".join(str(value) for value in params.values()),
)
def test_objectives_and_boosting_kinds(params):
    """The last trains single leaves only; of a random forest, raw scores are sums, as LightGBM's are."""
    rng = np.random.default_rng(7)
    booster = trained(rng, categories=2, **params)
    forest = assert_same_bits(booster, adversarial(rng, booster.model_to_string(), 300, 9, 2))
    assert forest.classes == params.get("num_class", 1)
    assert forest.trees == booster.num_trees()
    assert forest.average == (params.get("boosting") == "rf")
    if forest.average:
        X = table(rng, 9, 9, 2)
        np.testing.assert_array_equal(forest.predict(X) / forest.trees, booster.predict(X))


def test_a_class_without_samples_gets_trees_of_one_leaf_between_the_others():
    rng = np.random.default_rng(3)
    X = table(rng, 500, 4, 0)
    params = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lgb.train(params, lgb.Dataset(X, rng.integers(0, 2, 500)), 5)
    assert "num_leaves=1\n" in booster.model_to_string()
    assert_same_bits(booster, X)


def test_1000_leaves():
    rng = np.random.default_rng(4)
    booster = trained(rng, trees=3, num_leaves=1000, min_data_in_leaf=1, max_bin=1023)
    assert "num_leaves=1000" in booster.model_to_string()
    assert_same_bits(booster, adversarial(rng, booster.model_to_string(), 500, 9, 0))


def test_a_tree_that_is_one_branch_of_600_splits():
    splits = np.arange(600)
    tree = {
        "num_leaves": [601],
        "num_cat": [0],
        "split_feature": splits % 2,
        "split_gain": splits,
        "threshold": splits // 2,
        "decision_type": splits * 0 + 2,
        "left_child": ~splits,
        "right_child": [*splits[1:], -601],
        "leaf_value": np.arange(601) / 7,
    }
    fields = "\n".join(f"{name}={' '.join(map(str, values))}" for name, values in tree.items())
    text = re.sub("num_leaves=3.*?\n\n", lambda _: fields + "\n\n", TINY, flags=re.S)
    X = np.random.default_rng(0).integers(0, 700, (1000, 2)) / 2.0
    assert_same_bits(lgb.Booster(model_str=text), X, text)


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 511, 512, 513, 1000])
def test_every_remainder_of_lanes_and_blocks_in_any_layout(n):
    rng = np.random.default_rng(n)
    booster = trained(rng, trees=3, objective="multiclass", num_class=3, categories=1)
    forest = Forest.parse(booster.model_to_string())
    X = adversarial(rng, booster.model_to_string(), 1000, 9, 1)
    expected = booster.predict(X, raw_score=True)[:n]
    for dtype in (np.float64, np.float32):
        wide = np.zeros((2000, 20), dtype)
        with np.errstate(over="ignore"):
            wide[::2, 3:12] = wide_rows = X.astype(dtype)
        want = expected if dtype == np.float64 else booster.predict(wide_rows, raw_score=True)[:n]
        unaligned = np.frombuffer(b"x" + wide_rows.tobytes(), np.uint8)[1:].view(dtype).reshape(X.shape)
        mirrored = wide_rows[:, ::-1].copy()[:, ::-1]
        for view in (wide_rows, wide[::2, 3:12], mirrored, wide_rows.T.copy().T, unaligned):
            assert np.array_equal(bits(forest.predict(view[:n])), bits(want))
    backwards = forest.predict(X[:n][::-1])
    assert np.array_equal(bits(backwards[::-1]), bits(expected))


def test_out_is_filled_and_returned_or_refused():
    forest = Forest.parse(TINY)
    X = np.zeros((3, 2))
    out = np.full(3, np.nan)
    assert forest.predict(X, out) is out
    assert out.tolist() == [1.25] * 3
    frozen = np.empty(3)
    frozen.flags.writeable = False
    for wrong in (np.empty(2), np.empty((3, 1)), np.empty(3, np.float32), np.empty(6)[::2], frozen, X.reshape(-1)[:3]):
        with pytest.raises(ValueError, match="out"):
            forest.predict(X, out=wrong)
    with pytest.raises(TypeError, match="out is list"):
        forest.predict(X, out=[0.0] * 3)


def test_what_is_no_matrix_of_floats_is_refused():
    forest = Forest.parse(TINY)
    for wrong in ([[0.0, 1.0]], np.zeros((1, 2), int), np.zeros((1, 2), np.float16), np.zeros((1, 2), ">f8")):
        with pytest.raises(TypeError, match="float64 or float32"):
            forest.predict(wrong)
    for wrong in (np.zeros((1, 3)), np.zeros(2), np.zeros((1, 1, 2))):
        with pytest.raises(ValueError, match=rf"shape {re.escape(str(wrong.shape))}.*\[n, 2\]"):
            forest.predict(wrong)


def test_arena_rows_are_scored_in_place_a_column_a_class():
    rng = np.random.default_rng(1)
    booster = trained(rng, objective="multiclass", num_class=3)
    forest = Forest.parse(booster.model_to_string())
    arena = Arena(20, width=9, algos=5)
    arena.features[:] = table(rng, 20, 9, 0)
    arena.algo_score[:] = -1
    arena.count = 13
    forest.score(arena, 2)
    expected = booster.predict(arena.features[:13], raw_score=True)
    assert np.array_equal(bits(arena.algo_score[2:5, :13]), bits(expected.T))
    assert (arena.algo_score[:2] == -1).all() and (arena.algo_score[:, 13:] == -1).all()
    for algo in (-1, 3):
        with pytest.raises(ValueError, match="0 to algos - classes = 2"):
            forest.score(arena, algo)
    with pytest.raises(ValueError, match="4 wide; 9 or more is right"):
        forest.score(Arena(20, width=4, algos=5))


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 300])
def test_an_arena_wide_enough_for_another_forest_is_scored_all_the_same(count):
    rng = np.random.default_rng(count)
    booster = trained(rng, categories=2)
    arena = Arena(300, width=14)
    arena.features[:] = np.nan
    arena.features[:, :9] = table(rng, 300, 9, 2)
    arena.count = count
    Forest.parse(booster.model_to_string()).score(arena)
    expected = booster.predict(arena.features[:, :9], raw_score=True)
    assert np.array_equal(bits(arena.algo_score[0, :count]), bits(expected[:count]))


def test_threads_share_a_forest():
    rng = np.random.default_rng(6)
    booster = trained(rng, categories=2)
    forest = Forest.parse(booster.model_to_string())
    X = adversarial(rng, booster.model_to_string(), 700, 9, 2)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: forest.predict(X), range(40)))
    assert all(np.array_equal(result, results[0]) for result in results)


def test_only_text_makes_a_forest():
    for make in (Forest, lambda: Forest.parse(3), lambda: pickle.dumps(Forest.parse(TINY))):
        with pytest.raises(TypeError):
            make()


def test_the_bytes_of_a_forest_outlive_it():
    forest = Forest.parse(TINY)
    view, expected = forest.bytes, bytes(forest.bytes)
    del forest
    others = [Forest.parse(TINY.replace("leaf_value=1 2 4", "leaf_value=8 8 8")) for _ in range(50)]
    assert bytes(view) == expected and view.readonly and others


def test_trees_of_4096_leaves_are_walked():
    rng = np.random.default_rng(12)
    X = rng.normal(size=(20_000, 3))
    y = np.sin(5 * X).sum(axis=1) + rng.normal(size=len(X))
    params = {"num_leaves": 4096, "min_data_in_leaf": 1, "max_bin": 63, "verbose": -1, "num_threads": 1}
    booster = lgb.train(params | {"min_sum_hessian_in_leaf": 0}, lgb.Dataset(X, y), 2)
    forest = Forest.parse(booster.model_to_string())
    assert max(tree["num_leaves"] for tree in booster.dump_model()["tree_info"]) == 4096
    for rows in (X[:1], X[:100], X[:600]):
        assert np.array_equal(forest.predict(rows), booster.predict(rows, raw_score=True))
        assert np.array_equal(forest.predict_leaf(rows), booster.predict(rows, pred_leaf=True))
