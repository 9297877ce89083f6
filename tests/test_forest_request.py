"""A request's candidates: items as bytes, cross features as columns, shared features folded. The bits of LightGBM."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core import Arena, Forest, RequestForest
from pairec_fast.core.forest_request import NEVER

ITEMS = 700


def values(rng, rows, width, categories):
    """A third of the columns with NaN, a third with zeros, the first `categories` of them categories."""
    X = rng.normal(size=(rows, width)).astype(np.float32)
    X[:, ::3][rng.random(X[:, ::3].shape) < 0.3] = np.nan
    X[:, 1::3][rng.random(X[:, 1::3].shape) < 0.3] = 0
    for column, count in enumerate(categories):
        X[:, column] = rng.integers(-1, count, rows)
    return X


def trained(rng, X, categories, objective="binary", **params):
    y = np.nan_to_num(X) @ rng.normal(size=X.shape[1]) + 2 * (X[:, 0] % 3 == 1) + rng.normal(size=len(X))
    if objective == "binary":
        y = y > np.median(y)
    if objective == "poisson":
        y = np.abs(y)
    if objective == "multiclass":
        y = np.digitize(y, np.quantile(y, [0.3, 0.7]))
        params["num_class"] = 3
    params |= {"objective": objective, "verbose": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    params |= {"min_data_in_leaf": 3, "max_cat_threshold": 64}
    data = lgb.Dataset(X, y, categorical_feature=list(range(len(categories))))
    return lgb.train(params, data, params.pop("rounds", 12))


class Case:
    """A forest, its features told apart at random, and requests."""

    def __init__(self, seed, sides=None, categories=(40, 9, 300), rounds=12, width=24, **params):
        self.rng = rng = np.random.default_rng(seed)
        X = values(rng, 3000, width, categories)
        self.booster = trained(rng, X, categories, rounds=rounds, **params)
        self.forest = Forest.parse(self.booster.model_to_string())
        self.sides = sides or rng.choice(["shared", "item", "cross"], width).tolist()
        self.request = RequestForest(self.forest, self.sides)
        self.items = values(rng, ITEMS, width, categories)
        self.lines = self.request.lines(self.items[:, self.of("item")])
        self.place = np.arange(width, dtype=np.int32)
        self.categories, self.width = categories, width

    def of(self, side):
        return [place for place, one in enumerate(self.sides) if one == side]

    def check(self, count, fold):
        """One user, `count` items."""
        rng = self.rng
        arena = Arena(max(count, 1), items_max=ITEMS, width=self.width, algos=self.forest.classes + 1)
        arena.count = count
        arena.row[:count] = rng.integers(0, ITEMS, count)
        user, cross = values(rng, 1, self.width, self.categories)[0], values(rng, count, self.width, self.categories)
        X = np.empty((count, self.width), np.float32)
        X[:] = user
        X[:, self.of("item")] = self.items[arena.row[:count]][:, self.of("item")]
        X[:, self.of("cross")] = cross[:, self.of("cross")]
        arena.features[...] = -7  # what other features' columns hold does not matter
        arena.features[:count, self.of("cross")] = cross[:, self.of("cross")]
        self.request.score(arena, user, self.lines, self.place, 1, fold)
        if count:
            expected = self.booster.predict(X, raw_score=True).reshape(count, -1)
            given = arena.algo_score[1:, :count].T
            assert np.array_equal(given.copy().view(np.uint64), expected.view(np.uint64))
        assert not arena.algo_score[0].any(), "the other algorithm's column is left alone"


@pytest.mark.parametrize("leaves", [2, 7, 31, 33, 64, 65, 128, 129, 256, 257, 400])
@pytest.mark.parametrize("fold", [False, True])
def test_a_request_has_the_bits_of_lightgbm(leaves, fold):
    case = Case(leaves, num_leaves=leaves)
    for count in (0, 1, 63, 64, 65, 511, 513, 1030):
        case.check(count, fold)


@pytest.mark.parametrize("sides", [["shared"] * 24, ["item"] * 24, ["cross"] * 24, ["shared", "item"] * 12])
def test_features_all_of_one_side(sides):
    case = Case(5, sides, num_leaves=40)
    for fold in (False, True):
        case.check(100, fold)
        case.check(600, fold)


@pytest.mark.parametrize("objective", ["regression", "multiclass", "poisson"])
def test_classes_and_objectives(objective):
    case = Case(7, objective=objective, num_leaves=70)
    assert case.forest.objective.split()[0] == objective
    for fold in (False, True):
        case.check(300, fold)


def test_sets_beyond_what_registers_hold_are_looked_up():
    """Eighteen shared features of many sets: more than the 128 columns that folding keeps in registers."""
    case = Case(11, ["shared"] * 18 + ["item", "cross"] * 3, categories=(300,) * 18, rounds=500, num_leaves=60)
    columns = int.from_bytes(bytes(case.forest.bytes[36:40]), "little")  # of all features, in the file's header
    assert columns > 128 + 6 * 4, "so many are of shared features, whatever the six others have"
    for count in (64, 500):
        case.check(count, True)


def test_lines_are_whole_cache_lines_and_say_all_the_model_reads():
    case = Case(3)
    assert case.request.line_bytes % 64 == 0 and case.lines.shape == (ITEMS, case.request.line_bytes)
    none = RequestForest(case.forest, ["shared"] * 24)
    assert none.line_bytes == 0 and none.lines(np.empty((3, 0), np.float32)).shape == (3, 0)


def test_more_categories_than_a_byte_numbers():
    case = Case(13, ["item"] * 12 + ["shared"] * 12, categories=(2000, 600), rounds=40, num_leaves=60)
    for fold in (False, True):
        case.check(200, fold)


def test_what_does_not_fit_is_refused():
    case = Case(1)
    arena = Arena(4, items_max=ITEMS, width=24)
    arena.count = 1
    shared = np.zeros(24, np.float32)
    with pytest.raises(ValueError, match="24 of shared, item, cross are right"):
        RequestForest(case.forest, ["shared"] * 23)
    with pytest.raises(ValueError, match="bytes an item is right"):
        case.request.score(arena, shared, None, case.place)
    with pytest.raises(ValueError, match=r"arena\.row\[0\] is 700; rows here are 0 to 699"):
        arena.row[0] = ITEMS
        case.request.score(arena, shared, case.lines, case.place)
    arena.row[0] = 0
    with pytest.raises(ValueError, match="place has 23 entries"):
        case.request.score(arena, shared, case.lines, case.place[:23])
    with pytest.raises(ValueError, match="is right for side"):
        case.request.score(arena, shared[:5], case.lines, case.place)
    with pytest.raises(ValueError, match="algo is 1 with 1 classes"):
        case.request.score(arena, shared, case.lines, case.place, 1)
    with pytest.raises(ValueError, match="features are of the item"):
        case.request.lines(np.zeros((2, 1), np.float32))
    packed = np.zeros(2, np.dtype([("pad", "u1"), ("values", "<f4", len(case.of("item")))]))
    assert case.request.lines(packed["values"]).shape == (2, case.request.line_bytes), "rows may lie anywhere"
    apart = np.ndarray(packed["values"].shape, np.float32, bytes(600), strides=(300, 6))
    with pytest.raises(ValueError, match="columns 6 bytes apart; a multiple of 4 is right"):
        case.request.lines(apart)
    for none in ([], ()):
        with pytest.raises(ValueError, match="are right"):
            RequestForest(Forest.__new__(Forest), none)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("byte", [100, 255])
def test_lines_of_another_forest_are_scored_as_whatever_they_say(byte, fold):
    """A line numbers its item's category, and what is beyond all categories is not looked up beyond the table."""
    rng = np.random.default_rng(1)
    X = np.stack([rng.integers(0, 900, 20_000), rng.integers(0, 2, 20_000)], axis=1).astype(float)
    params = {"num_leaves": 200, "verbose": -1, "min_data_per_group": 1, "cat_smooth": 0, "cat_l2": 0}
    params |= {"min_data_in_leaf": 1, "max_cat_threshold": 900, "max_bin": 1000, "num_threads": 1}
    y = rng.normal(size=900)[X[:, 0].astype(int)]
    forest = Forest.parse(lgb.train(params, lgb.Dataset(X, y, categorical_feature=[0]), 5).model_to_string())
    request = RequestForest(forest, ["item", "shared"])
    lines = np.full((1, request.line_bytes), byte, np.uint8)
    arena = Arena(64, items_max=1)
    arena.count = 64
    request.score(arena, np.zeros(1, np.float32), lines, np.zeros(2, np.int32), 0, fold)
    every = np.zeros((902, 2))
    every[:, 0] = np.arange(-1, 901)
    every[0, 0] = np.nan
    assert set(arena.algo_score[0].tolist()) <= set(forest.predict(every).tolist())


def test_measure_decides_from_how_many_candidates_on_to_fold():
    case = Case(2, num_leaves=31)
    arena = Arena(512, items_max=ITEMS, width=24)
    arena.count = 512
    case.request.measure(arena, np.zeros(24, np.float32), case.lines, case.place)
    assert case.request.fold_from in (64, 128, 256, 512, NEVER)
    assert arena.count == 512


def test_a_measurement_that_fails_changes_nothing():
    case = Case(2, num_leaves=31)
    case.request.fold_from = 77
    arena = Arena(700, items_max=ITEMS, width=24)
    arena.count = 700
    arena.row[10] = ITEMS
    for rounds, says in ((5, r"arena\.row\[10\] is 700"), (0, "rounds must be positive, got 0")):
        with pytest.raises(ValueError, match=says):
            case.request.measure(arena, np.zeros(24, np.float32), case.lines, case.place, rounds)
        assert (arena.count, case.request.fold_from) == (700, 77)
