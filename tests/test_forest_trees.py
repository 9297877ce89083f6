"""Forests of trees given node by node: what is no tree, or cannot be held, is refused by tree and field."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pairec_fast.core import Forest
from pairec_fast.errors import SnapshotError


@dataclass
class Tree:
    """x0 <= 0.5 gives 1, more gives 2, NaN too."""

    feature: Any = (0,)
    threshold: Any = (0.5,)
    left: Any = (-1,)
    right: Any = (-2,)
    nan_right: Any = (True,)
    sets: Any = field(default_factory=dict)
    value: Any = (1.0, 2.0)
    cover: Any = (0.0, 0.0, 0.0)


def test_a_tree_by_hand():
    forest = Forest.of_trees([Tree()], feature_names=["a"], base=[0.25])
    assert forest.predict(np.array([[0.5], [0.75], [np.nan]])).tolist() == [1.25, 2.25, 2.25]
    by_category = Forest.of_trees([replace(Tree(), sets={0: [3, 2**24 - 1]})], feature_names=["a"])
    assert by_category.predict(np.array([[3.0], [4.0], [2**24 - 1], [np.nan]])).tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"feature": [1]}, r"feature\[0\] is 1; 0 to 0 is right"),
        ({"feature": [0.7]}, r"feature\[0\] is 0\.7; what int32 can hold is right"),
        ({"feature": [np.nan]}, r"feature\[0\] is nan; what int32 can hold is right"),
        ({"feature": [2**32]}, r"feature\[0\] is 4294967296; what int32 can hold is right"),
        ({"left": [2**32 - 1]}, r"left\[0\] is 4294967295; what int32 can hold is right"),
        ({"right": [0]}, "the children of split 0 are -1 and 0"),
        ({"right": [-1]}, "do not reach every one"),
        ({"nan_right": [2]}, r"nan_right\[0\] is 2; what bool can hold is right"),
        ({"threshold": [np.nan]}, r"threshold\[0\] is NaN"),
        ({"threshold": ["x"]}, "could not convert"),
        ({"value": [1.0]}, r"value has shape \(1,\); \(2,\) is right"),
        ({"sets": {1: [3]}}, "sets has split 1; 0 to 0 is right"),
        ({"sets": {0: [-1]}}, "sets has categories -1 to -1; 0 to 16777215 is right"),
        ({"sets": {0: [2**24]}}, "sets has categories 16777216 to 16777216"),
        ({"sets": {0: np.array([2**63 + 1], np.uint64)}}, "sets has categories 9223372036854775809"),
        ({"sets": {0: [0.5]}}, r"sets has categories float64 \(1,\); whole numbers \[n\] are right"),
        ({"sets": {0: [[1, 2]]}}, r"sets has categories int64 \(1, 2\)"),
    ],
)
def test_what_is_no_tree_is_refused(changes, says):
    with pytest.raises(SnapshotError, match=f"^tree 1: .*{says}"):
        Forest.of_trees([Tree(), replace(Tree(), **changes)], feature_names=["a"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trees": []}, "0 trees for 1 classes"),
        ({"classes": 0}, "1 trees for 0 classes"),
        ({"classes": -1}, "1 trees for -1 classes"),
        ({"classes": 2}, "1 trees for 2 classes"),
        ({"base": [1, 2]}, r"base has shape \(2,\); \(1,\) is right"),
        ({"feature_names": []}, "feature_names are"),
        ({"feature_names": ["a", "a"]}, "all different"),
        ({"feature_names": ["a\nb"]}, "one line"),
        ({"feature_names": ["\ud800"]}, "UTF-8"),
        ({"objective": "a\nb"}, "one line"),
        ({"objective": "hope"}, "unknown"),
    ],
)
def test_what_does_not_fit_the_trees_is_refused(changes, says):
    with pytest.raises(SnapshotError, match=says):
        Forest.of_trees(**{"trees": [Tree()], "feature_names": ["a"]} | changes)


def test_a_path_may_be_bytes(tmp_path):
    forest = Forest.of_trees([Tree()], feature_names=["a"])
    forest.save(os.fsencode(tmp_path / "a.forest"))
    assert bytes(Forest.load(os.fsencode(tmp_path / "a.forest")).bytes) == bytes(forest.bytes)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(SnapshotError, match=r": Is a directory; .* is right$"):
        Forest.load(tmp_path)
    with pytest.raises(SnapshotError, match=r"gone: No such file or directory; .* is right$"):
        Forest.load(tmp_path / "gone")
    (tmp_path / "empty").touch()
    with pytest.raises(SnapshotError, match='line 1: the file begins with ""'):
        Forest.load(tmp_path / "empty")
