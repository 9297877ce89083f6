"""What is no sound model, or does what a forest does not, is refused by name; nothing is written, nothing half read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pairec_fast.errors import SnapshotError
from pairec_fast.learn import import_model
from tests.makers import CATBOOST, CATEGORICAL, LEAF, document, table, tree, write


def assert_refused(tmp_path, model, *words):
    target = tmp_path / "refused.forest"
    with pytest.raises(SnapshotError) as raised:
        import_model(model, target)
    assert all(word in str(raised.value) for word in words), raised.value
    assert not target.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(left_children=[1, -1, 0, -1, -1]), ["trees[0]", "child of two"]),
        (dict(left_children=[1, -1, 9, -1, -1]), ["child 9", "0 to 4"]),
        (dict(left_children=[1, -1, 2**80, -1, -1]), []),
        (dict(left_children=[1, -1, 3]), ["lists"]),
        (dict(split_indices=[7, 0, 1, 0, 0]), ["feature 7 of 2"]),
        (dict(split_conditions=[float("nan"), -1, 0, 0.25, 8]), ["threshold"]),
        (dict(split_conditions=[0.5, float("inf"), 0, 0.25, 8]), ["a leaf is inf"]),
        (dict(sum_hessian=[9, 4, 5, 2, float("inf")]), ["cover"]),
        (dict(categories=[2, -4]), ["categories"]),
        (dict(categories_sizes=[3]), ["node 2", "categories"]),
        (dict(categories_nodes=[9]), ["node 9", "categories"]),
        (dict(categories_nodes=[], categories_segments=[], categories_sizes=[]), ["node 2"]),
        (dict(tree_param={"size_leaf_vector": "3"}), ["size_leaf_vector 3", "one_output_per_tree"]),
        (dict(default_left="x"), ["default_left"]),
        ({name: [] for name in LEAF} | {"split_type": [], "categories_nodes": []}, ["trees[0]"]),
    ],
)
def test_unsound_trees_are_refused(tmp_path, changes, words):
    assert_refused(tmp_path, write(tmp_path, document([tree(**changes)])), "model.json", *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (document(objective="my:own"), ["objective my:own", "reg:squarederror"]),
        (document(base="x"), ["base_score", "'x'"]),
        (document(base="[1,2,3]"), ["base_score"]),
        (document(base="2", objective="binary:logistic"), ["probability"]),
        (document(base="0", objective="count:poisson"), ["positive"]),
        (document(num_feature="1000000000000"), ["features"]),
        (document(num_class="1000000000"), ["of 1000000000 classes"]),
        (document(trees=[]), ["0 trees"]),
        (document(info=[4]), ["classes"]),
        (document() | {"learner": {}}, ["gradient_booster"]),
        ({"tree_info": []}, ["dump_model"]),
        ({"neither": 1}, ["neither learner nor features_info"]),
        ({"features_info": {}, "scale_and_bias": [1, [0]]}, ["features"]),
    ],
)
def test_other_documents_are_refused(tmp_path, given, words):
    assert_refused(tmp_path, write(tmp_path, given), "model.json", *words)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [float("inf")], [float("nan")]])
def test_weights_that_do_not_fit_the_trees_are_refused(tmp_path, weights):
    given = document()
    inner = given["learner"]["gradient_booster"]
    given["learner"]["gradient_booster"] = {"name": "dart", "gbtree": inner, "weight_drop": weights}
    assert_refused(tmp_path, write(tmp_path, given), "weight_drop")


def test_gblinear_is_refused(tmp_path):
    given = document()
    given["learner"]["gradient_booster"] = {"name": "gblinear", "model": {"weights": [1.0]}}
    assert_refused(tmp_path, write(tmp_path, given), "gblinear", "gbtree")


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04pickle", b"binf\x00\x00", b"{", b"{L\x00", b'{"learner": {', b"[" * 99999]
)
def test_foreign_files_are_refused(tmp_path, data):
    (tmp_path / "model.bin").write_bytes(data)
    assert_refused(tmp_path, tmp_path / "model.bin", "model.bin", "right")


def test_truncated_files_are_refused(tmp_path):
    data = json.dumps(document()).encode()
    for end in range(0, len(data), 13):
        (tmp_path / "cut.json").write_bytes(data[:end])
        assert_refused(tmp_path, tmp_path / "cut.json", "cut.json")


def test_what_is_no_model_is_refused(tmp_path):
    assert_refused(tmp_path, tmp_path / "absent.json", "absent.json", "No such file")
    with pytest.raises(TypeError, match="dict"):
        import_model({}, tmp_path / "x.forest")
    with pytest.raises(SnapshotError, match="2 different"):
        import_model(write(tmp_path, document()), tmp_path / "x.forest", feature_names=["a", "a"])
    with pytest.raises(SnapshotError, match="UTF-8"):
        import_model(write(tmp_path, document()), tmp_path / "x.forest", feature_names=["a", "\ud800"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(oblivious_trees=[{"leaf_values": [1, 2, 4], "splits": []}]), ["0 splits, 3 leaf_values"]),
        (
            dict(oblivious_trees=[{"leaf_values": [1, 2], "splits": [{"split_type": "OneHotFeature"}]}]),
            ["OneHotFeature"],
        ),
        (dict(scale_and_bias=[2, [0]]), ["scale"]),
        (dict(oblivious_trees=[]), ["one tree"]),
        (
            dict(oblivious_trees=[], trees=[{"split": {"split_type": "FloatFeature", "float_feature_index": 0}}]),
            ["left"],
        ),
        (dict(features_info={"float_features": []}), ["features"]),
    ],
)
def test_unsound_catboost_models_are_refused(tmp_path, changes, words):
    assert_refused(tmp_path, write(tmp_path, CATBOOST | changes), "model.json", *words)


def test_sklearn_estimators_that_are_refused(tmp_path):
    ensemble = pytest.importorskip("sklearn.ensemble")
    X, y = table(np.random.default_rng(9))
    X = np.nan_to_num(X)
    assert_refused(tmp_path, ensemble.RandomForestRegressor(), "RandomForestRegressor", "fit")
    assert_refused(
        tmp_path, ensemble.IsolationForest(n_estimators=2).fit(X), "IsolationForest", "RandomForestRegressor"
    )
    two = ensemble.RandomForestRegressor(n_estimators=2).fit(X, np.stack([y, y], axis=1))
    assert_refused(tmp_path, two, "2 outputs")
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression()
    model = ensemble.GradientBoostingRegressor(n_estimators=5, init=linear).fit(X, y)
    assert_refused(tmp_path, model, "LinearRegression", "init='zero'")


def test_catboost_models_that_are_refused(tmp_path):
    catboost = pytest.importorskip("catboost")
    X, y = table(np.random.default_rng(11))
    given = X.astype(object)
    given[:, CATEGORICAL] = np.nan_to_num(X[:, CATEGORICAL]).astype(int)
    model = catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False)
    assert_refused(tmp_path, model, "CatBoostRegressor")
    model.fit(given, y, cat_features=[CATEGORICAL])
    assert_refused(tmp_path, model, "categorical_features")
    model = catboost.CatBoostRegressor(iterations=3, verbose=0, allow_writing_files=False).fit(X, y)
    model.set_scale_and_bias(0.3, 1.0)
    assert_refused(tmp_path, model, "scale_and_bias is 0.3")
