"""A model's text that is not sound is refused by line and field, whatever it claims, and never crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests.faults import forest as faults
from tests.test_forest import TINY

CLASSES = "num_tree_per_iteration=1\nlabel_index=0\nmax_feature_idx=1\nobjective=regression\n"

WRONG = [  # what is replaced, by what, and the error
    ("tree\nversion", "trees\nversion", 'line 1: the file begins with "trees"'),
    ("version=v4", "version=v1", 'line 2: version is "v1"; v2, v3 or v4'),
    ("max_feature_idx=1\n", "", "line 1: the header has no field max_feature_idx"),
    ("max_feature_idx=1", "max_feature_idx=2000000000", "line 6: max_feature_idx is 2000000000; 0 to 8388607 is right"),
    ("max_feature_idx=1", "max_feature_idx=2000000", "line 8: feature_names has 2 entries.* asks for 2000001"),
    ("feature_names=age city", "feature_names=age", "line 8: feature_names has 1 entries; max_feature_idx=1 asks"),
    ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "line 7: objective=regression is for num_class=1"),
    (CLASSES, CLASSES.replace("=1", "=3", 1)[:-21], "line 4: num_tree_per_iteration is 3; a divisor of 2 trees"),
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
