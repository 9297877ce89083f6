"""A model's text that is not sound is refused by line and field, whatever it claims, and never crashes."""

from __future__ import annotations

import gzip
import json
import pickle
import resource
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests.faults import forest as faults
from tests.test_forest import TINY

CLASSES = "num_class=1\nnum_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\nobjective=regression\n"
THREE = "num_class=3\nnum_tree_per_iteration=3\nlabel_index=0\nmax_feature_idx=1\n"

WRONG = [  # what is replaced, by what, and the error
    ("tree\nversion", "trees\nversion", 'line 1: the file begins with "trees"'),
    ("version=v4", "version=v1", 'line 2: version is "v1"; v2, v3 or v4'),
    ("max_feature_idx=1\n", "", "line 1: the header has no field max_feature_idx"),
    ("max_feature_idx=1", "max_feature_idx=2000000000", "line 6: max_feature_idx is 2000000000; 0 to 8388607 is right"),
    ("max_feature_idx=1", "max_feature_idx=2000000", "line 8: feature_names has 2 entries.* asks for 2000001"),
    ("feature_names=age city", "feature_names=age", "line 8: feature_names has 1 entries; max_feature_idx=1 asks"),
    ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "line 7: objective=regression is for num_class=1"),
    (CLASSES, THREE, "line 4: num_tree_per_iteration is 3; a divisor of 2 trees"),
    ("label_index=0", "tree_sizes=1 2", "line 11: Tree=0 has 213 bytes; tree_sizes says 1"),
    ("num_leaves=3", "num_leaves=2000000000", "line 12: num_leaves is 2000000000; 1 to 1073741824"),
    ("num_leaves=3", "num_leaves=1000000000", "line 20: leaf_value has 3 entries; num_leaves=1000000000 asks for"),
    ("num_leaves=3", "num_leaves=three", 'line 12: num_leaves is "three"; a whole number'),
    ("num_leaves=3", "num_leaves=3\nnum_leaves=3", 'line 13: "num_leaves" is given again, first on line 12'),
    ("num_cat=1", "num_cat=3", "line 13: num_cat is 3; 0 to 2 is right"),
    ("num_cat=1", "num_cat=0", r"line 16: threshold\[1\] is 0.0+; a set's number below num_cat=0"),
    ("split_feature=0 1", "split_feature=0 2", r"line 14: split_feature\[1\] is 2; 0 to max_feature_idx=1"),
    ("split_feature=0 1", "split_feature=0", "line 14: split_feature has 1 entries; num_leaves=3 asks for 2"),
    ("threshold=0.5 0", "threshold=nan 0", r"line 16: threshold\[0\] is NaN; a number"),
    ("threshold=0.5 0", "threshold=0.5 0.5", r"line 16: threshold\[1\] is 0.50*; a set's number"),
    ("threshold=0.5 0", "threshold=0,5 0", r'line 16: threshold\[0\] is "0,5"; a number'),
    ("threshold=0.5 0", "threshold=1e999 0", r'line 16: threshold\[0\] is "1e999", too big'),
    ("decision_type=2 1", "decision_type=12 1", r"line 17: decision_type\[0\] is 12; 0 to 11"),
    ("left_child=1 -1", "left_child=2 -1", r"line 18: left_child\[0\] is 2; -3 to 1 is right"),
    ("left_child=1 -1", "left_child=0 -1", r"line 18: left_child\[0\] is 0, which has a parent already or is the root"),
    ("right_child=-2 -3", "right_child=-2 -2", r"line 19: right_child\[1\] is -2, which has a parent"),
    ("left_child=1 -1", "left_child=-1 -3", "line 18: left_child and right_child reach 3 of 5 nodes"),
    ("cat_boundaries=0 2", "cat_boundaries=1 2", r"line 21: cat_boundaries\[0\] is 1; 0 is right"),
    ("cat_boundaries=0 2", "cat_boundaries=0 -2", r"line 21: cat_boundaries\[1\] is -2; not below"),
    ("cat_threshold=5 256", "cat_threshold=5", "line 22: cat_threshold has 1 entries; the last of cat_boundaries"),
    ("cat_threshold=5 256", "cat_threshold=5 -1", r'line 22: cat_threshold\[1\] is "-1"; a whole number'),
    ("is_linear=0", "is_linear=1", "line 23: is_linear is 1; 0 is right"),
    ("Tree=1", "Tree=2", 'line 27: "Tree=2" found; Tree=1 is right'),
    ("num_leaves=1\n", "num_leaves=1\nrubbish\n", 'line 29: "rubbish" found in Tree=1'),
    ("end of trees", "end of tree", 'line 35: "end of tree" found in Tree=1'),
    ("\nend of trees\n\nfeature_importances:\n", "", "line 33: the file ends after 1 whole trees"),
    ("city", "cit\udcff", "codec"),
    ("num_class=1", "num_class=2", 'line 3: num_class is "2"; num_tree_per_iteration=1 is right'),
    ("objective=regression", "objective=regresion", 'line 7: objective is "regresion", which is unknown; one of reg'),
    ("feature_names=age city", "feature_names=age city zip", "line 8: feature_names has 3 entries; max_feature_idx=1"),
    (
        "feature_names=age city",
        "feature_names=age age",
        r'line 8: feature_names\[1\] is "age", as feature_names\[0\] is',
    ),
    (
        "feature_names=age city",
        "feature_names=age ",
        "line 8: feature_names has 1 entries; max_feature_idx=1 asks for 2",
    ),
    ("feature_names=age city", "feature_names=", "line 8: feature_names has 0 entries; max_feature_idx=1 asks for 2"),
    ("feature_names=age city\n", "", "line 1: the header has no field feature_names"),
    ("feature_infos=[0:9] 0:2:40", "feature_infos=[0:9]", "line 9: feature_infos has 1 entries; max_feature_idx=1"),
    ("max_feature_idx=1", "max_feature_idx=-1", "line 6: max_feature_idx is -1; 0 to 8388607 is right"),
    ("max_feature_idx=1", "max_feature_idx=0", "line 8: feature_names has 2 entries; max_feature_idx=0 asks for 1"),
    ("threshold=0.5 0", "threshold=-inf 0", r"line 16: threshold\[0\] is -inf; a number or inf is right"),
    ("threshold=0.5 0", "threshold=0.5 inf", r"line 16: threshold\[1\] is inf; a set's number"),
    ("threshold=0.5 0", "threshold=0.5 -nan", r"line 16: threshold\[1\] is -?nan; a set's number"),
    ("threshold=0.5 0", "threshold=0.5 -1", r"line 16: threshold\[1\] is -1\.0*; a set's number"),
    ("split_feature=0 1", "split_feature=-1 1", r"line 14: split_feature\[0\] is -1; 0 to max_feature_idx=1"),
    ("split_feature=0 1", "split_feature=0 4294967297", r'line 14: split_feature\[1\] is "4294967297", too big'),
    ("decision_type=2 1", "decision_type=-2 1", r"line 17: decision_type\[0\] is -2; 0 to 11"),
    ("left_child=1 -1", "left_child=1 0", r"line 18: left_child\[1\] is 0, which has a parent already or is the root"),
    ("left_child=1 -1", "left_child=1 1", r"line 18: left_child\[1\] is 1, which has a parent already"),
    ("left_child=1 -1", "left_child=1 -2147483648", r"line 18: left_child\[1\] is -2147483648; -3 to 1 is right"),
    ("left_child=1 -1", "left_child=1", "line 18: left_child has 1 entries; num_leaves=3 asks for 2"),
    ("right_child=-2 -3\n", "", "line 11: Tree=0 has no field right_child"),
    ("leaf_value=1 2 4", "leaf_value=1 2", "line 20: leaf_value has 2 entries; num_leaves=3 asks for 3"),
    ("num_leaves=3", "num_leaves=0", "line 12: num_leaves is 0; 1 to"),
    ("num_leaves=3", "num_leaves=-2147483649", 'line 12: num_leaves is "-2147483649", too big'),
    ("label_index=0", "tree_sizes=213", "line 27: Tree=1 has .* bytes; tree_sizes says no such tree"),
    ("label_index=0", "tree_sizes=213 72 5", "line 5: tree_sizes has 3 entries; a file of 2 trees asks for 2"),
    ("label_index=0", "tree_sizes=10000000000 72", "line 11: Tree=0 has 213 bytes; tree_sizes says 10000000000"),
    ("label_index=0", "tree_sizes=1" + "0" * 20, r'line 5: tree_sizes\[0\] is "10+", too big'),
    ("label_index=0", "tree_sizes=-1", r'line 5: tree_sizes\[0\] is "-1"; a whole number'),
    (
        "cat_boundaries=0 2",
        "cat_boundaries=0 2147483647",
        "line 22: cat_threshold has 2 entries; .* asks for 2147483647",
    ),
    ("cat_boundaries=0 2", "cat_boundaries=0 10000000000", r'line 21: cat_boundaries\[1\] is "10000000000", too big'),
    ("cat_boundaries=0 2", "cat_boundaries=0 1 2", "line 21: cat_boundaries has 3 entries; num_cat=1 asks for 2"),
    ("cat_threshold=5 256", "cat_threshold=5 4294967296", r'line 22: cat_threshold\[1\] is "4294967296", too big'),
    ("cat_threshold=5 256\n", "", "line 11: Tree=0 has no field cat_threshold"),
    ("is_linear=0", "is_linear=2", "line 23: is_linear is 2; 0 to 1 is right"),
]


@pytest.mark.parametrize(("good", "bad", "message"), WRONG, ids=[f"{bad[:40]!r}" for _, bad, _ in WRONG])
def test_unsound_text_is_refused_by_line_and_field(good, bad, message):
    assert good in TINY
    with pytest.raises(SnapshotError, match=f"^model text: .*{message}"):
        Forest.parse(TINY.replace(good, bad, 1))


def test_every_truncation_before_the_end_of_trees_is_refused():
    end = TINY.index("end of trees") + len("end of trees")
    for size in range(end):
        with pytest.raises(SnapshotError):
            Forest.parse(TINY[:size])
    assert Forest.parse(TINY[:end]).trees == 2


XGBOOST = {"learner": {"learner_model_param": {"num_feature": "2"}, "objective": {"name": "binary:logistic"}}}
FOREIGN = {
    "empty": b"",
    "one line end": b"\n",
    "XGBoost's JSON": json.dumps(XGBOOST).encode(),
    "LightGBM's JSON": json.dumps(lgb.Booster(model_str=TINY).dump_model()).encode(),
    "ONNX": b"\x08\x08\x12\x08skl2onnx\x1a\x061.16.0\x22\x07ai.onnx(\x002\x00:\xd3\x02\n\xff\xfe\x00",
    "gzip": gzip.compress(TINY.encode()),
    "pickle": pickle.dumps({"tree": TINY}),
    "UTF-16": TINY.encode("utf-16"),
    "UTF-16 without its mark": TINY.encode("utf-16-le"),
    "UTF-8 with a mark": TINY.encode("utf-8-sig"),
    "zeros": bytes(4096),
    "a blank before": b" " + TINY.encode(),
    "if-else code": b'#include "gbdt.h"\nnamespace LightGBM {\n',
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_file_is_refused_by_its_first_line(content, tmp_path):
    path = tmp_path / "model.txt"
    path.write_bytes(content)
    message = r'line 1: the file begins with ".*"; "tree" is right for LightGBM\'s model text$'
    with pytest.raises(SnapshotError, match=rf"model\.txt: {message}"):
        Forest.load(path)
    with pytest.raises(SnapshotError, match=f"^model text: {message}"):
        Forest.parse(content)


def test_names_that_are_not_utf_8_are_refused_and_others_are_kept():
    for name in ("é", "年龄", "\U0001f600", "\x7f\x80\u07ff\u0800\uffff\U0010ffff", "a=b", "#"):
        assert Forest.parse(TINY.replace("city", name)).feature_names == ["age", name]
    bad = [b"\xff", b"\x80", b"\xc3", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf"]
    for name in [*bad, b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe2\x82x", b"a\xe2\x82"]:
        with pytest.raises(UnicodeDecodeError):
            name.decode()
        with pytest.raises(SnapshotError, match=r"^model text: line 8: feature_names\[1\] is \".*\"; UTF-8 is right"):
            Forest.parse(TINY.encode().replace(b"city", name))


def test_a_linear_tree_is_refused_by_name():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    text = lgb.train({"linear_tree": True, "verbose": -1}, lgb.Dataset(X, X @ [1, 2]), 2).model_to_string()
    with pytest.raises(SnapshotError, match=r"line \d+: is_linear is 1; 0 is right: trees with linear leaves are not"):
        Forest.parse(text)


def test_a_threshold_of_infinity_is_lightgbms_own_and_is_read():
    """It sends all numbers left and what is missing right, where a split is by nothing else."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1))
    X[::3] = np.nan
    booster = lgb.train({"verbose": -1, "num_leaves": 2}, lgb.Dataset(X, np.isnan(X[:, 0])), 2)
    assert "threshold=inf\n" in booster.model_to_string()
    scores = Forest.parse(booster.model_to_string()).predict(X)
    assert scores.tolist() == booster.predict(X, raw_score=True).tolist() and len(set(scores)) == 2


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("num_leaves=3", "num_leaves=1073741824"),
        ("max_feature_idx=1", "max_feature_idx=8388607"),
        ("num_class=1\nnum_tree_per_iteration=1", "num_class=2147483647\nnum_tree_per_iteration=2147483647"),
        ("cat_boundaries=0 2", "cat_boundaries=0 2147483647"),
        ("label_index=0", "tree_sizes=10000000000 10000000000"),
    ],
)
def test_a_claim_of_gigabytes_allocates_nothing_of_the_kind(good, bad):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SnapshotError):
        Forest.parse(TINY.replace("objective=regression\n", "").replace(good, bad))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "KiB"


def test_load_names_the_path(tmp_path: Path):
    path = tmp_path / "model.txt"
    with pytest.raises(SnapshotError, match=r"model\.txt: No such file"):
        Forest.load(path)
    path.write_text(TINY.replace("num_leaves=3", "num_leaves=4"))
    with pytest.raises(SnapshotError, match=r"model\.txt: line 20: leaf_value"):
        Forest.load(path)
    path.write_text(TINY)
    assert Forest.load(path).trees == Forest.load(str(path)).trees == 2


def test_damaged_text_is_refused_or_scored_as_its_twin_scores_it():
    seen = faults.run(600)
    assert seen["refused"] > 100 and seen["scored"] > 20
