"""Rows are scored by labels over ranks: the bits of LightGBM at every level of SIMD and every edge of a byte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
from pairec_fast.core.simd import isas
from tests.test_forest import TINY, adversarial, bits, table, trained

ROWS = 1100
COUNTS = [1, 15, 16, 17, 63, 64, 65, 128, 129, 320, 384, 447, 511, 512, 513, 600, 1024, ROWS]


def many_categories() -> tuple[str, np.ndarray]:
    """Two features of a thousand categories each and hundreds of different sets, most splits by them."""
    rng = np.random.default_rng(11)
    X = table(rng, 12_000, 9, 2)
    X[:, 0] = rng.integers(0, 1000, len(X))
    X[:, 1] = rng.integers(0, 1500, len(X)) * 7
    y = rng.normal(size=1000)[X[:, 0].astype(int)] + rng.normal(size=10_500)[X[:, 1].astype(int)]
    params = {"min_data_per_group": 1, "cat_smooth": 1, "max_cat_threshold": 200, "max_bin": 2000, "num_leaves": 63}
    params |= {"verbose": -1, "num_threads": 1, "min_data_in_bin": 1, "seed": 1}
    text = lgb.train(params, lgb.Dataset(X, y, categorical_feature=[0, 1]), 20).model_to_string()
    sets = sum(map(int, re.findall(r"^num_cat=(\d+)", text, re.M)))
    assert sets > 500 and max(int(word) for word in re.findall(r"^cat_boundaries=.* (\d+)$", text, re.M)) > 1000
    rows = adversarial(rng, text, ROWS, 9, 2)
    usual = rng.random((ROWS, 2)) < 0.5
    rows[:, :2][usual] = X[:ROWS, :2][usual]
    return text, rows


def leaves(count: int) -> tuple[str, np.ndarray]:
    rng = np.random.default_rng(count)
    booster = trained(rng, trees=4, categories=count % 2, num_leaves=count, min_data_in_leaf=1)
    assert f"num_leaves={count}\n" in booster.model_to_string()
    return booster.model_to_string(), adversarial(rng, booster.model_to_string(), ROWS, 9, count % 2)


def thresholds() -> tuple[str, np.ndarray]:
    """More than 510 of a feature: three columns of ranks."""
    rng = np.random.default_rng(12)
    text = trained(rng, trees=60, num_leaves=200, max_bin=1023, min_data_in_bin=1, min_data_in_leaf=1).model_to_string()
    of_feature = {}
    for features, limits in re.findall(r"^split_feature=(.+)$[\s\S]+?^threshold=(.+)$", text, re.M):
        for feature, limit in zip(features.split(), limits.split(), strict=True):
            of_feature.setdefault(feature, set()).add(limit)
    assert max(map(len, of_feature.values())) > 510
    return text, adversarial(rng, text, ROWS, 9, 0)


def one_feature() -> tuple[str, np.ndarray]:
    rng = np.random.default_rng(13)
    X = rng.normal(size=(900, 1))
    X[::5] = np.nan
    params = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "num_leaves": 40}
    text = lgb.train(params, lgb.Dataset(X, np.sin(np.nan_to_num(X[:, 0]) * 9)), 7).model_to_string()
    return text, adversarial(rng, text, ROWS, 1, 0)


def of_params(categories: int, **params) -> tuple[str, np.ndarray]:
    rng = np.random.default_rng(14)
    text = trained(rng, categories=categories, **params).model_to_string()
    return text, adversarial(rng, text, ROWS, 9, categories)


CASES = {
    "many_categories": many_categories,
    **{f"leaves_{count}": lambda count=count: leaves(count) for count in (2, 32, 33, 64, 65, 255, 256, 257)},
    "thresholds": thresholds,
    "one_feature": one_feature,
    "no_split": lambda: of_params(1, min_data_in_leaf=10_000),
    "three_classes": lambda: of_params(2, objective="multiclass", num_class=3),
    "zero_as_missing": lambda: of_params(1, zero_as_missing=True),
    "nothing_missing": lambda: of_params(0, use_missing=False),
}

CHILD = """
import sys
import numpy as np
from pathlib import Path
from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
for path in sorted(Path(sys.argv[1]).glob("*.txt")):
    forest, saved = Forest.load(path), np.load(path.with_suffix(".npz"))
    cells = differing = 0
    for n in saved["counts"]:
        for X, expected in ((saved["X64"], saved["scores64"]), (saved["X32"], saved["scores32"])):
            found = forest.predict(X[:n])
            cells += found.size
            differing += np.count_nonzero(found.view(np.uint64) != expected[:n].view(np.uint64))
        arena = Arena(n + 3, width=forest.width, algos=forest.classes + 1)
        arena.features[:n] = saved["X32"][:n]
        arena.count = n
        forest.score(arena, 1)
        found = arena.algo_score[1:, :n].T.reshape(saved["scores32"][:n].shape).copy()
        differing += np.count_nonzero(found.view(np.uint64) != saved["scores32"][:n].view(np.uint64))
    print(path.stem, cells, differing)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("forests")
    for name, make in CASES.items():
        text, X = make()
        X[:70, -1] = X[0, -1]  # a group of rows that share a value
        with np.errstate(over="ignore"):
            narrow = X.astype(np.float32)
        booster = lgb.Booster(model_str=text)
        scores64, scores32 = (booster.predict(rows, raw_score=True, num_threads=1) for rows in (X, narrow))
        (directory / f"{name}.txt").write_text(text)
        arrays = {"X64": X, "X32": narrow, "scores64": scores64, "scores32": scores32}
        np.savez(directory / f"{name}.npz", counts=COUNTS, **arrays)
    return directory


@pytest.mark.parametrize("level", isas())
def test_every_level_gives_the_bits_of_lightgbm(directory, level):
    """Other processes, because the level is chosen at load."""
    environment = {**os.environ, "PAIREC_ISA": level}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, directory], env=environment, capture_output=True, text=True, check=True
    )
    found = {name: (int(cells), int(differing)) for name, cells, differing in map(str.split, done.stdout.splitlines())}
    assert found.keys() == CASES.keys()
    assert {name: differing for name, (_, differing) in found.items() if differing} == {}
    assert all(cells >= 2 * sum(COUNTS) for cells, _ in found.values())


@pytest.mark.parametrize("apart", [1, 33])
def test_nine_sets_of_one_feature_and_a_category_that_is_in_one_of_them(apart):
    """By hand: tree i sends category i * apart left, so a row's score tells which; the ninth set begins another byte.

    Near together, all sets are looked up at once; 33 apart, the longest would waste too much, and it is eight and one.
    """
    tree = TINY[TINY.index("Tree=0") : TINY.index("Tree=1")]
    tree = tree.replace("num_leaves=3", "num_leaves=2").replace("split_feature=0 1", "split_feature=1")
    tree = tree.replace("split_gain=2 1", "split_gain=2").replace("threshold=0.5 0", "threshold=0")
    tree = tree.replace("decision_type=2 1", "decision_type=1").replace("left_child=1 -1", "left_child=-1")
    tree = tree.replace("right_child=-2 -3", "right_child=-2")
    text = TINY[: TINY.index("Tree=0")]
    for i in range(9):
        word, bit = divmod(i * apart, 32)
        words = f"cat_boundaries=0 {word + 1}\ncat_threshold={' '.join(['0'] * word + [str(1 << bit)])}"
        one = tree.replace("leaf_value=1 2 4", f"leaf_value={2**i} 0").replace("Tree=0", f"Tree={i}")
        text += one.replace("cat_boundaries=0 2\ncat_threshold=5 256", words)
    text += "end of trees\n"
    X = np.zeros((40, 2))
    X[:9, 1] = [i * apart for i in range(9)]
    X[9:14, 1] = [np.nan, -1.0, 1e12, 32 * 9, 9]
    expected = np.zeros(40)
    expected[:9] = 2.0 ** np.arange(9)
    expected[14:] = 1.0
    assert Forest.parse(text).predict(X).tolist() == expected.tolist()


def test_a_column_of_the_arena_is_left_alone_beyond_count():
    text, X = of_params(1)
    forest = Forest.parse(text)
    arena = Arena(600, width=9, algos=2)
    with np.errstate(over="ignore"):
        arena.features[:] = X[:600]
    for count in (599, 65, 0):
        arena.algo_score[:] = -1.0
        arena.count = count
        forest.score(arena)
        assert np.array_equal(bits(arena.algo_score[0, :count]), bits(forest.predict(arena.features[:count])))
        assert (arena.algo_score[0, count:] == -1).all() and (arena.algo_score[1] == -1).all()
