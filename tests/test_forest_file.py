"""A compiled forest in a file: what was saved is what is loaded, and nothing damaged is."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core import Arena, Forest, RequestForest, crc32c
from pairec_fast.errors import SnapshotError

HEADER = 16  # magic, version, checksum; what follows is summed


@pytest.fixture(scope="module")
def forest():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(2000, 6))
    X[:, 0] = rng.integers(0, 90, 2000)
    X[rng.random(X.shape) < 0.1] = np.nan
    y = np.nan_to_num(X[:, 0] % 3 + X[:, 1] * X[:, 2])
    params = {"num_leaves": 70, "verbose": -1, "num_threads": 1, "min_data_per_group": 5, "min_data_in_leaf": 3}
    return Forest.parse(lgb.train(params, lgb.Dataset(X, y, categorical_feature=[0]), 4).model_to_string())


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(80, 6))
    X[:, 0] = rng.integers(-2, 95, 80)
    return X


def test_a_saved_forest_is_the_same(forest, rows, tmp_path):
    forest.save(tmp_path / "a.forest")
    loaded = Forest.load(tmp_path / "a.forest")
    assert loaded.predict(rows).tobytes() == forest.predict(rows).tobytes()
    assert loaded.predict_leaf(rows).tobytes() == forest.predict_leaf(rows).tobytes()
    assert (loaded.feature_names, loaded.categorical) == (forest.feature_names, forest.categorical)
    assert (loaded.objective, loaded.trees, loaded.width) == (forest.objective, forest.trees, forest.width)
    assert bytes(loaded.bytes) == bytes(forest.bytes)
    assert [path.name for path in tmp_path.iterdir()] == ["a.forest"], "nothing partial is left"


def test_a_forest_that_cannot_be_written_says_so(forest, tmp_path):
    with pytest.raises(SnapshotError, match="cannot be written: No such file or directory"):
        forest.save(tmp_path / "nowhere" / "a.forest")


def test_a_file_cut_short_is_refused(forest, tmp_path):
    whole, path = bytes(forest.bytes), tmp_path / "cut.forest"
    for size in [8, 9, 15, 16, 17, 64, 200, 499, 500, len(whole) // 2, len(whole) - 64, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(SnapshotError, match=r"cut\.forest: the compiled forest has"):
            Forest.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(SnapshotError, match="its header says"):
        Forest.load(path)


def test_a_flipped_bit_is_refused_wherever_it_is(forest, tmp_path):
    whole, path = bytearray(forest.bytes), tmp_path / "flipped.forest"
    rng = np.random.default_rng(6)
    for place in [*range(HEADER, 700, 13), *rng.integers(HEADER, len(whole), 200).tolist()]:
        whole[place] ^= 4
        path.write_bytes(whole)
        with pytest.raises(SnapshotError, match="the compiled forest"):
            Forest.load(path)
        whole[place] ^= 4


def test_another_version_says_which(forest, tmp_path):
    whole, path = bytearray(forest.bytes), tmp_path / "old.forest"
    whole[8] = 77
    path.write_bytes(whole)
    with pytest.raises(SnapshotError, match="has version 77; this one reads 2: compile the model again"):
        Forest.load(path)


def use(forest: Forest, rows: np.ndarray) -> None:
    """Every way to score."""
    forest.predict(rows)
    forest.predict(rows[:1])
    forest.predict_leaf(rows)
    if forest.width > 50:
        return
    sides = [("shared", "item", "cross")[place % 3] for place in range(forest.width)]
    request = RequestForest(forest, sides)
    values = np.zeros((2, sides.count("item")), np.float32)
    arena = Arena(100, items_max=2, width=forest.width, algos=forest.classes)
    arena.count = 100
    place = np.arange(forest.width, dtype=np.int32)
    for fold in (False, True):
        request.score(arena, np.zeros(forest.width, np.float32), request.lines(values), place, 0, fold)


def test_a_forged_checksum_does_not_make_a_forest(forest, rows, tmp_path):
    """Damage, summed anew: refused, or scored as whatever it says, but never read beyond its bytes."""
    sound, path = bytearray(forest.bytes), tmp_path / "forged.forest"
    rng, loaded = np.random.default_rng(7), 0
    for _ in range(400):
        whole = bytearray(sound)
        near_header = rng.random() < 0.5
        for place in rng.integers(HEADER, 600 if near_header else len(whole), rng.integers(1, 4)).tolist():
            whole[place] = rng.integers(256)
        whole[12:16] = crc32c(bytes(whole[HEADER:])).to_bytes(4, "little")
        path.write_bytes(whole)
        try:
            forged = Forest.load(path)
        except SnapshotError:
            continue
        loaded += 1
        if forged.width == forest.width and forged.classes < 10:
            use(forged, rows)
    assert loaded > 20


SECTIONS = 40  # place of the table of sections: where each begins, how many bytes it has
NUMBERS, COLUMN, STEPS, LEAVES, TREES = 3, 12, 18, 19, 24


def forged(forest: Forest, path, number: int, dtype, change) -> None:
    """Writes `forest`, one of its sections changed and summed anew."""
    whole = bytearray(forest.bytes)
    begin, size = np.frombuffer(whole, "<u8", 2, SECTIONS + 16 * number).tolist()
    change(np.frombuffer(whole, dtype, size // np.dtype(dtype).itemsize, begin))
    whole[12:16] = crc32c(bytes(whole[HEADER:])).to_bytes(4, "little")
    path.write_bytes(whole)


TREE = [(name, "<u4") for name in ("split", "step", "leaf", "plane", "leaves")] + [("flags", "<u4")]
STEP = [("column", "<u2"), ("mask", "u1"), ("rank", "i1"), ("left", "<i4"), ("right", "<i4")]
NUMBER = [("begin", "<u8"), ("feature", "<i4"), ("depth", "<i4"), ("column", "<u4"), ("columns", "<u4")]


def one_for_all(trees: np.ndarray) -> None:
    """Folding has room for the leaves there are: so many trees of the first one's would need more."""
    trees[:] = trees[0]


@pytest.mark.parametrize(
    ("number", "dtype", "change", "says"),
    [
        (TREES, TREE, one_for_all, "a tree's place"),
        (STEPS, STEP, lambda steps: steps["column"].fill(0), "a split"),
        (STEPS, STEP, lambda steps: steps["mask"].fill(1), "a split"),
        (COLUMN, "<u2", lambda column: column.fill(1), "a split"),
        (NUMBERS, NUMBER, lambda numbers: numbers["columns"].fill(0), "a number's columns"),
    ],
)
def test_sections_that_say_different_things_are_refused(forest, tmp_path, number, dtype, change, says):
    """Labels, folding and walking each read their own: memory is sized by one and filled by another."""
    path = tmp_path / "forged.forest"
    forged(forest, path, number, dtype, change)
    with pytest.raises(SnapshotError, match=f"the compiled forest is damaged: {says}$"):
        Forest.load(path)
