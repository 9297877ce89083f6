"""A model of another maker scores as its maker scores it, to the last bit. What is refused: test_import_refused.py."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pairec_fast.core.forest import Forest
from pairec_fast.learn import import_model
from pairec_fast.learn.import_model import read_model
from pairec_fast.learn.trees import below, last_rounding_to, rounded_down, ubjson
from tests import reference
from tests.makers import CATBOOST, CATEGORICAL, LEAF, NUMBERS, ROWS, document, nasty, table, tree, write

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in reduce")  # makers' own, of infinities

HALF = np.float32(0.5)


def bits(scores: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(scores, np.float64).view(np.uint64)


def assert_same_bits(tmp_path, model, X, raw, nan=True, numbers=NUMBERS):
    """The imported file against the maker's `raw`, on float64 and float32 rows; the first against the slow twin."""
    rng = np.random.default_rng(7)
    read = read_model(model)
    made = import_model(model, tmp_path / "model.forest")
    forest = Forest.load(tmp_path / "model.forest")
    assert (forest.single, forest.average) == (read.accumulation == "float32", read.average)
    np.testing.assert_array_equal(forest.base, made.base)
    rows = nasty(rng, read.trees, X, nan, numbers)
    for each in (rows, rows.astype(np.float32), rows[:1], X):
        scores = forest.predict(each)
        twin = reference.score_trees(
            read.trees, each[:25], classes=read.classes, base=read.base, single=read.accumulation == "float32"
        )
        np.testing.assert_array_equal(bits(scores[:25]), bits(twin))
        if forest.average:
            scores = forest.predict(each, raw_score=False)
        expected = np.asarray(raw(each), np.float64)
        assert scores.shape == expected.shape
        assert np.count_nonzero(bits(scores) != bits(expected)) == 0
    return made


def test_limits_in_float64_decide_as_float32_does():
    """The largest float64 that rounds to a float32 or below it: its ties, subnormals, both infinities, the largest."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([values[~np.isnan(values)], np.array([0.0, -0.0, 1e-45, -1e-45], np.float32)])
    values = np.concatenate([values, [np.finfo(np.float32).max, np.finfo(np.float32).min, np.inf, -np.inf]])
    values = values.astype(np.float32)
    limits = last_rounding_to(values)
    with np.errstate(over="ignore"):
        assert (limits.astype(np.float32) <= values).all()
        beyond = np.nextafter(limits, np.inf)
        assert (beyond.astype(np.float32) > values)[values < np.inf].all()
        assert (limits[values == np.inf] == np.inf).all()
        assert (below(values).astype(np.float32) < values)[values > -np.inf].all()
        wide = rng.normal(size=1000) * 10.0 ** rng.integers(-50, 50, 1000)
        down = rounded_down(wide)
        assert ((down <= wide) & (np.nextafter(down, np.float32(np.inf)) > wide)).all()


def test_tiny_xgboost_by_hand(tmp_path):
    made = import_model(write(tmp_path, document()), tmp_path / "tiny.forest")
    assert (made.maker, made.input_dtype, made.accumulation, made.base) == (
        "XGBoost 3.2.0",
        "float32",
        "float32",
        (0.5,),
    )
    assert made.forest.feature_names == ["f0", "f1"] and made.forest.categorical == [False, True]
    just_below, far_below = np.nextafter(HALF, np.float32(0)), np.nextafter(0.5, 0)
    rows = [[0.4, 2], [0.5, 2], [0.5, 4], [0.5, 3], [1, 1e9], [1, -3], [np.nan, 2], [1, np.nan], [-np.inf, 2]]
    rows += [[just_below, 2], [far_below, 2]]  # the latter rounds to 0.5, which is not below it
    expected = [-0.5, 8.5, 8.5, 0.75, 0.75, 0.75, 8.5, 0.75, -0.5, -0.5, 8.5]
    np.testing.assert_array_equal(Forest.load(tmp_path / "tiny.forest").predict(np.array(rows)), expected)


def test_covers_are_those_of_the_nodes(tmp_path):
    (read,) = read_model(write(tmp_path, document())).trees
    np.testing.assert_array_equal(read.cover, [9, 5, 4, 3, 2])  # splits, then leaves; by category, left holds the set
    np.testing.assert_array_equal(read.value, [-1, 8, 0.25])


def test_a_single_leaf_adds_its_value(tmp_path):
    made = import_model(write(tmp_path, document([LEAF, LEAF])), tmp_path / "leaf.forest")
    np.testing.assert_array_equal(made.forest.predict(np.zeros((3, 2))), [1.0, 1.0, 1.0])


def test_trees_of_a_class_in_a_row_are_interleaved(tmp_path):
    """num_parallel_tree: two trees of class 0, then two of class 1."""
    leaves = [{**LEAF, "split_conditions": [value]} for value in (1, 2, 10, 20)]
    given = document(leaves, [0, 0, 1, 1], "multi:softprob", "[1E0,2E0]", num_class="2")
    made = import_model(write(tmp_path, given), tmp_path / "k.forest")
    np.testing.assert_array_equal(made.forest.predict(np.zeros((1, 2))), [[4.0, 32.0]])


def test_sums_are_rounded_to_float32_after_each_tree(tmp_path):
    leaves = [{**LEAF, "split_conditions": [value]} for value in (2.0**25, 1, 1)]
    made = import_model(write(tmp_path, document(leaves, base="0")), tmp_path / "single.forest")
    assert made.forest.predict(np.zeros((1, 2)))[0] == 2.0**25


def test_dart_multiplies_each_tree(tmp_path):
    given = document([LEAF, LEAF], base="0")
    inner = given["learner"]["gradient_booster"]
    given["learner"]["gradient_booster"] = {"name": "dart", "gbtree": inner, "weight_drop": [2.0, 0.5]}
    made = import_model(write(tmp_path, given), tmp_path / "dart.forest")
    assert made.forest.predict(np.zeros((1, 2)))[0] == 0.625


@pytest.mark.parametrize(
    ("objective", "base", "margin"),
    [
        ("binary:logistic", "5E-1", 0.0),
        ("binary:logistic", "[5E-1]", 0.0),
        ("binary:logistic", "1", np.float32(13.74516)),  # kept 1e-6 from 1
        ("binary:logitraw", "2.5E-1", 0.25),
        ("count:poisson", "1", 0.0),
        ("rank:ndcg", "2.5E-1", 0.25),
    ],
)
def test_base_score_is_turned_into_a_margin(tmp_path, objective, base, margin):
    assert read_model(write(tmp_path, document(objective=objective, base=base))).base == [margin]


def test_json_with_nan_thresholds_is_read(tmp_path):
    """XGBoost before 3 wrote NaN as the threshold of a split by category."""
    path = write(tmp_path, document([tree(split_conditions=[0.5, -1, float("nan"), 0.25, 8])]))
    assert b"NaN" in path.read_bytes()
    assert len(read_model(path).trees) == 1


def test_category_names_of_a_data_frame_are_told(tmp_path):
    given = document()
    enc = [{"offsets": [], "values": []}, {"offsets": [0, 1, 3], "values": [120, -61, -87]}]
    given["learner"]["gradient_booster"]["model"]["cats"] = {"enc": enc}
    made = import_model(write(tmp_path, given), tmp_path / "m.forest", feature_names=["price", "city"])
    assert made.categories == {"city": ["x", "é"]}
    assert made.forest.feature_names == ["price", "city"]


def test_ubjson_by_hand():
    data = b"{i\x01a[$d#i\x02" + struct.pack(">2f", 0.5, -2) + b"i\x01b[#U\x03SU\x01xTZi\x01c{}i\x01dl\xff\xff\xff\xfe}"
    assert ubjson.decode(data) == {"a": [0.5, -2.0], "b": ["x", True, None], "c": {}, "d": -2}
    for end in range(len(data)):
        with pytest.raises(ValueError, match="byte"):
            ubjson.decode(data[:end])
    for wrong in (data + b"N", b"[" * 999, b"[$S#i\x01", b"[$d#l\xff\xff\xff\xff", b"[#L" + b"\x7f" * 8, b"SL\x80"):
        with pytest.raises(ValueError):
            ubjson.decode(wrong)


def test_lightgbm_passes_through_its_text(tmp_path):
    lgb = pytest.importorskip("lightgbm")
    X, y = table(np.random.default_rng(1))
    booster = lgb.train({"verbose": -1, "num_threads": 1}, lgb.Dataset(X, y, categorical_feature=[CATEGORICAL]), 5)
    booster.save_model(tmp_path / "model.txt")
    for model in (booster, tmp_path / "model.txt"):
        made = import_model(model, tmp_path / "model.forest")
        assert (made.maker, made.input_dtype, made.accumulation, made.base) == (
            "LightGBM",
            "float64",
            "float64",
            (0.0,),
        )
        scores = Forest.load(tmp_path / "model.forest").predict(X)
        np.testing.assert_array_equal(bits(scores), bits(booster.predict(X, raw_score=True)))


XGBOOST = {
    "logistic": dict(objective="binary:logistic"),
    "logistic, base given": dict(objective="binary:logistic", base_score=0.1),
    "logitraw": dict(objective="binary:logitraw"),
    "squared error": dict(objective="reg:squarederror"),
    "poisson": dict(objective="count:poisson"),
    "ranking": dict(objective="rank:ndcg"),
    "softprob": dict(objective="multi:softprob", num_class=3),
    "softmax of forests": dict(objective="multi:softmax", num_class=3, num_parallel_tree=3, subsample=0.5),
    "dart": dict(objective="reg:squarederror", booster="dart", rate_drop=0.3),
    "one category against others": dict(objective="reg:squarederror", max_cat_to_onehot=99),
    "single leaves": dict(objective="reg:squarederror", gamma=1e9),
    "many leaves": dict(objective="reg:squarederror", max_depth=12, min_child_weight=0),
}


@pytest.mark.parametrize("name", XGBOOST)
def test_xgboost_same_bits(tmp_path, name):
    xgb = pytest.importorskip("xgboost")
    X, y = table(np.random.default_rng(2))
    params, kinds = XGBOOST[name], ["float"] * CATEGORICAL + ["c"]
    objective = params["objective"]
    if objective.startswith("multi"):
        y = np.digitize(y, [-1, 1])
    elif objective.startswith(("binary", "rank")):
        y = y > 0.3
    elif objective.startswith("count"):
        y = np.abs(y)
    data = xgb.DMatrix(X, y, feature_types=kinds)
    if objective.startswith("rank"):
        data.set_group([30] * (ROWS // 30))
    booster = xgb.train({"max_depth": 5, "nthread": 1, **params}, data, 12)

    def raw(rows):
        return booster.predict(xgb.DMatrix(rows, feature_types=kinds), output_margin=True)

    for model in (booster, tmp_path / "model.json", tmp_path / "model.ubj"):
        if model is not booster:
            booster.save_model(model)
        assert_same_bits(tmp_path, model, X, raw)


def test_xgboost_estimator_stops_at_its_best_iteration(tmp_path):
    xgb = pytest.importorskip("xgboost")
    pytest.importorskip("sklearn")
    X, y = table(np.random.default_rng(3))
    model = xgb.XGBRegressor(n_estimators=200, early_stopping_rounds=3, n_jobs=1)
    model.fit(X[:600], y[:600], eval_set=[(X[600:], y[600:])], verbose=False)
    made = assert_same_bits(tmp_path, model, X, lambda rows: model.predict(rows, output_margin=True))
    assert made.forest.trees == model.best_iteration + 1 < model.get_booster().num_boosted_rounds()


def sklearn_raw(model):
    """What scikit-learn says without a link: of two classes, the second's."""
    if hasattr(model, "decision_function"):
        return model.decision_function
    if not hasattr(model, "predict_proba"):
        return model.predict
    return lambda rows: model.predict_proba(rows) if len(model.classes_) > 2 else model.predict_proba(rows)[:, 1]


@pytest.mark.parametrize("classes", [0, 2, 3], ids=["regression", "two classes", "three classes"])
@pytest.mark.parametrize(
    "kind", ["RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting", "DecisionTree"]
)
def test_sklearn_same_bits(tmp_path, kind, classes):
    """NaN where the estimator takes it, float64 beyond float32 where it does not round."""
    pytest.importorskip("sklearn")
    from sklearn import ensemble
    from sklearn import tree as single

    X, y = table(np.random.default_rng(4))
    made_of = getattr(single if kind == "DecisionTree" else ensemble, kind + ("Classifier" if classes else "Regressor"))
    params = {"random_state": 1}
    if kind.startswith("Hist"):
        params |= {"max_iter": 8}
    elif kind != "DecisionTree":
        params |= {"n_estimators": 8}
    nan = kind != "GradientBoosting"
    X = X if nan else np.nan_to_num(X)
    if classes:
        y = np.digitize(y, [0.3] if classes == 2 else [-1, 1])
    model = made_of(**params).fit(X, y)
    numbers = [*NUMBERS, 1e300, -1e300, np.inf, -np.inf] if kind.startswith("Hist") else NUMBERS
    with np.errstate(over="ignore"):
        made = import_model(model, tmp_path / "x.forest")
        assert made.input_dtype == ("float64" if kind.startswith("Hist") else "float32")
        rows = assert_same_bits if not kind.startswith("Hist") else assert_same_float64_bits
        rows(tmp_path, model, X, sklearn_raw(model), nan, numbers)


def assert_same_float64_bits(tmp_path, model, X, raw, nan, numbers):
    assert_same_bits(tmp_path, model, X, lambda rows: raw(rows.astype(np.float64)), nan, numbers)


def test_sklearn_initial_scores(tmp_path):
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(5))
    X = np.nan_to_num(X)
    for init in ("zero", None):
        model = ensemble.GradientBoostingRegressor(n_estimators=5, init=init, loss="huber").fit(X, y)
        made = assert_same_bits(tmp_path, model, X, model.predict, nan=False)
        assert (made.base == (0.0,)) == (init == "zero")


def test_probabilities_come_near_the_makers(tmp_path):
    """What is made of the raw score is float64 with C's exp: as near as the maker's own float32 or exp is."""
    xgb, ensemble = pytest.importorskip("xgboost"), pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(14))
    X = np.nan_to_num(X)
    for target, kind in ((y > 0.3, "binary"), (np.digitize(y, [-1, 1]), "multiclass")):
        for model in (
            xgb.XGBClassifier(n_estimators=5, n_jobs=1),
            ensemble.GradientBoostingClassifier(n_estimators=5),
            ensemble.HistGradientBoostingClassifier(max_iter=5),
        ):
            model.fit(X, target)
            made = import_model(model, tmp_path / "p.forest")
            assert made.forest.objective.split()[0] == kind
            expected = model.predict_proba(X) if kind == "multiclass" else model.predict_proba(X)[:, 1]
            close = 1e-6 if made.input_dtype == made.accumulation == "float32" else 1e-14
            np.testing.assert_allclose(made.forest.predict(X, raw_score=False), expected, rtol=close)
    for loss, link in (("poisson", "poisson"), ("absolute_error", "regression")):
        model = ensemble.HistGradientBoostingRegressor(max_iter=5, loss=loss).fit(X, np.abs(y))
        made = import_model(model, tmp_path / "p.forest")
        assert (made.objective, made.forest.objective) == (loss, link)
        np.testing.assert_allclose(made.forest.predict(X, raw_score=False), model.predict(X), rtol=1e-14)


@pytest.mark.parametrize("numbers", [np.arange(40), np.arange(40) * 7 + 3], ids=["codes", "other numbers"])
def test_sklearn_histogram_categories(tmp_path, numbers):
    """Unknown categories go where NaN goes, which is left in some splits and right in others."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(6))
    known = ~np.isnan(X[:, CATEGORICAL])
    X[known, CATEGORICAL] = numbers[X[known, CATEGORICAL].astype(int)]
    model = ensemble.HistGradientBoostingRegressor(max_iter=8, categorical_features=[CATEGORICAL, 3])
    X[:, 3] = np.abs(np.round(X[:, 3]))
    model.fit(X, y)
    made = assert_same_bits(tmp_path, model, X, lambda rows: model.predict(rows.astype(np.float64)))
    assert made.forest.categorical[CATEGORICAL] and made.categories == {}


def test_sklearn_histogram_numbers_beyond_float32_become_codes(tmp_path):
    """And tables of categories stay small: they have an entry for every number up to the last."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(7))
    numbers = 2**24 - 39 + np.arange(40)
    codes = np.nan_to_num(X[:, CATEGORICAL]).astype(int)
    X[:, CATEGORICAL] = numbers[codes]
    model = ensemble.HistGradientBoostingRegressor(max_iter=4, categorical_features=[CATEGORICAL]).fit(X, y)
    made = import_model(model, tmp_path / "m.forest")
    assert made.categories == {"Column_5": numbers.tolist()}
    expected = model.predict(X)
    X[:, CATEGORICAL] = codes
    np.testing.assert_array_equal(bits(made.forest.predict(X)), bits(expected))


def test_sklearn_histogram_text_categories_become_codes(tmp_path):
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(8))
    words = np.array([f"city {code:02}" for code in range(40)], object)
    codes = np.nan_to_num(X[:, CATEGORICAL]).astype(int)
    given = X.astype(object)
    given[:, CATEGORICAL] = words[codes]
    model = ensemble.HistGradientBoostingRegressor(max_iter=8, categorical_features=[CATEGORICAL]).fit(given, y)
    made = import_model(model, tmp_path / "m.forest")
    assert made.categories == {"Column_5": words.tolist()}
    X[:, CATEGORICAL] = codes
    np.testing.assert_array_equal(bits(made.forest.predict(X)), bits(model.predict(given)))


@pytest.mark.parametrize("policy", ["SymmetricTree", "Depthwise", "Lossguide"])
@pytest.mark.parametrize("loss", ["RMSE", "Logloss", "MultiClass"])
@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
def test_catboost_same_bits(tmp_path, policy, loss, nan_mode):
    """Leaves in order, then the bias: RMSE has one."""
    catboost = pytest.importorskip("catboost")
    X, y = table(np.random.default_rng(10))
    y = np.digitize(y, {"RMSE": [], "Logloss": [0.3], "MultiClass": [-1, 1]}[loss]) if loss != "RMSE" else y
    model = catboost.CatBoost(
        dict(iterations=9, depth=5, loss_function=loss, grow_policy=policy, nan_mode=nan_mode, thread_count=1,
             verbose=0, allow_writing_files=False)
    )  # fmt: skip
    model.fit(X, y)
    model.save_model(str(tmp_path / "model.json"), format="json")
    for given in (model, tmp_path / "model.json"):
        assert_same_bits(tmp_path, given, X, lambda rows: model.predict(rows, prediction_type="RawFormulaVal"))


def test_tiny_catboost_by_hand(tmp_path):
    """Bit 0 is x > 0, bit 1 is x > 1, so leaf 2 is out of reach."""
    made = import_model(write(tmp_path, CATBOOST), tmp_path / "c.forest")
    rows = np.array([[-1], [0], [1e-45], [1], [1.5], [np.nan], [np.inf]])
    np.testing.assert_array_equal(made.forest.predict(rows), [1.5, 1.5, 2.5, 2.5, 8.5, 1.5, 8.5])
    np.testing.assert_array_equal(read_model(tmp_path / "model.json").trees[0].cover, [10, 3, 7, 1, 2, 3, 4])


def treelite_raw(treelite, model):
    def raw(rows):
        scores = treelite.gtil.predict(model, rows.astype(model.input_type), pred_margin=True)[:, 0, :]
        return scores if scores.shape[1] > 2 else scores[:, -1]

    return raw


@pytest.mark.parametrize("kind", ["RandomForestClassifier", "RandomForestRegressor", "GradientBoostingRegressor"])
@pytest.mark.parametrize("classes", [2, 3])
def test_treelite_same_bits_as_gtil(tmp_path, kind, classes):
    treelite = pytest.importorskip("treelite")
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(12))
    X = np.nan_to_num(X)
    y = np.digitize(y, [0.3] if classes == 2 else [-1, 1])
    model = treelite.sklearn.import_model(getattr(ensemble, kind)(n_estimators=6, max_depth=6).fit(X, y))
    assert assert_same_bits(tmp_path, model, X, treelite_raw(treelite, model), nan=False).deviation == ""


def test_treelite_base_score_of_float32_models_is_near(tmp_path):
    """treelite adds a float64 base to a float32 sum; a forest, the base's float32: apart by one float32 at most."""
    treelite = pytest.importorskip("treelite")
    xgb = pytest.importorskip("xgboost")
    X, y = table(np.random.default_rng(13))
    booster = xgb.train({"objective": "binary:logistic"}, xgb.DMatrix(X, y > 0), 12)
    booster.save_model(tmp_path / "model.json")
    model = treelite.frontend.load_xgboost_model(tmp_path / "model.json")
    made = import_model(model, tmp_path / "t.forest")
    assert "one float32" in made.deviation
    near, exact = made.forest.predict(X).astype(np.float32), treelite_raw(treelite, model)(X)
    size = np.maximum(np.abs(near), np.abs(np.float32(model.get_header_accessor().get_field("base_scores")[0])))
    assert (np.abs(near - exact) <= np.spacing(size)).all()
