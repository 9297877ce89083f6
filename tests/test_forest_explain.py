"""A forest explains its raw scores as LightGBM does, and as Shapley's definition says."""

from __future__ import annotations

import decimal
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from types import SimpleNamespace

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.checksum import crc32c
from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests import reference
from tests.test_forest import TINY, adversarial, table, trained

COUNTED = TINY.replace("leaf_value=1 2 4", "leaf_value=1 2 4\nleaf_count=3 2 3\ninternal_count=8 6")


def lightgbm_contributions(booster: lgb.Booster, X: np.ndarray, classes: int) -> np.ndarray:
    parts = booster.predict(X, pred_contrib=True, num_threads=1)
    return parts.reshape(len(X), classes, -1) if classes > 1 else parts


def assert_explained(forest: Forest, X: np.ndarray, expected: np.ndarray) -> None:
    """As expected, and together the raw score."""
    parts = forest.explain(X)
    assert parts.dtype == np.float64 and parts.shape == expected.shape
    np.testing.assert_allclose(parts, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(parts.sum(-1), forest.predict(X), rtol=0, atol=1e-11)


def branch(feature, cover) -> SimpleNamespace:
    """A tree that is one branch: split k asks whether feature[k] <= k and sends to leaf k, of value k + 1, who is not.

    `cover` is of the splits; the last of the leaves that leave the branch take the rest.
    """
    feature, cover = np.asarray(feature), np.asarray(cover, float)
    splits = np.arange(len(feature))
    leaf = [*(cover[:-1] - cover[1:]), cover[-1] / 4, cover[-1] * 3 / 4]
    return SimpleNamespace(
        feature=feature, threshold=splits, nan_right=splits % 2 == 0, left=[*splits[1:], ~len(splits)], right=~splits,
        sets={}, value=np.arange(len(splits) + 1) + 1.0, cover=[*cover, *leaf],
    )  # fmt: skip


def forest_of(*trees, width: int, **options) -> Forest:
    return Forest.of_trees(trees, feature_names=[f"f{i}" for i in range(width)], **options)


def test_tiny_forest_by_hand():
    """Of 8 rows 6 are young, and 3 of those in leaf 0. Nothing known: 19/8; age: 5/2; city: 5/4; both: 1.

    The tree of one leaf adds 1/4, whatever is known.
    """
    parts = Forest.parse(COUNTED).explain(np.array([[0.5, 0.0]]))
    np.testing.assert_allclose(parts, [[(1 / 8 - 1 / 4) / 2, (-9 / 8 - 3 / 2) / 2, 19 / 8 + 1 / 4]], rtol=1e-15)


@pytest.mark.parametrize("seed", range(6))
def test_twin_agrees_on_missing_values_and_categories(seed):
    """Every second model treats zero as missing, every third has three classes; nasty rows meet every kind of split."""
    rng = np.random.default_rng(seed)
    kind = {"objective": "multiclass", "num_class": 3} if seed % 3 == 2 else {}
    booster = trained(rng, trees=2, categories=2, num_leaves=6 + seed, zero_as_missing=seed % 2 == 1, **kind)
    text = booster.model_to_string()
    X = adversarial(rng, text, 12, 9, 2)
    expected = reference.forest_explain(text, X)
    assert_explained(Forest.parse(text), X, expected if kind else expected[:, 0])


@pytest.mark.parametrize("seed", range(30))
def test_thirty_random_models_agree_with_lightgbm(seed):
    rng = np.random.default_rng(seed)
    categories = 3 if seed % 3 == 0 else 0
    leaves, bins = [2, 7, 31, 60, 300][seed % 5], [15, 63, 255, 1023][seed % 4]
    missing = {"zero_as_missing": seed % 2 == 1, "use_missing": seed % 5 != 4}
    booster = trained(rng, 8, categories, num_leaves=leaves, max_bin=bins, min_data_in_bin=1, **missing)
    text = booster.model_to_string()
    X = adversarial(rng, text, 25, 9, categories)
    assert_explained(Forest.parse(text), X, lightgbm_contributions(booster, X, 1))


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "binary"},
        {"objective": "lambdarank"},
        {"objective": "multiclass", "num_class": 3},
        {"objective": "multiclassova", "num_class": 3},
        {"boosting": "dart"},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"data_sample_strategy": "goss"},
        {"min_data_in_leaf": 10_000},
    ],
    ids=lambda params: " ".join(str(value) for value in params.values()),
)
def test_objectives_and_boosting_kinds(params):
    """The last trains single leaves only; a random forest's raw scores are sums, and so are their parts."""
    rng = np.random.default_rng(7)
    booster = trained(rng, categories=2, **params)
    X = adversarial(rng, booster.model_to_string(), 30, 9, 2)
    forest = Forest.parse(booster.model_to_string())
    assert_explained(forest, X, lightgbm_contributions(booster, X, forest.classes))


def test_a_feature_on_every_split_of_a_way_gets_all_there_is():
    """Each split of the branch narrows the same feature: known or not is asked of it once, not at every split."""
    forest = forest_of(branch([1] * 9, [256, 128, 64, 32, 20, 10, 9, 8, 7]), width=3)
    X = np.full((12, 3), np.nan)
    X[:, 1] = [*np.arange(-1.5, 9), np.nan]
    parts = forest.explain(X)
    assert (parts[:, [0, 2]] == 0).all() and (parts[:, 3] == parts[0, 3]).all()
    np.testing.assert_allclose(parts[:, 1], forest.predict(X) - parts[:, 3], rtol=0, atol=1e-13)


def exact(feature, cover, value, stays, width) -> list[Decimal]:
    """Contributions to a row of `branch`, which `stays` on it at split k or leaves it, in more digits than are lost."""
    out = [Decimal(0)] * width
    for leaf in range(len(feature) + 1):
        z, o = {}, {}
        for split in range(min(leaf + 1, len(feature))):
            inner = split < leaf
            goes = Decimal(cover[split + 1] if inner or leaf == len(feature) else cover[split] - cover[split + 1])
            z[feature[split]] = z.get(feature[split], 1) * goes / Decimal(cover[split])
            o[feature[split]] = o.get(feature[split], 1) * int(stays[split] == inner)
        for it in z:
            integrand = [Decimal(1)]  # the coefficients of 1, t, t^2, ...
            for other in z.keys() - {it}:
                low, high = z[other], o[other] - z[other]
                integrand = [a * low + b * high for a, b in zip([*integrand, 0], [0, *integrand], strict=True)]
            integral = sum(part / (power + 1) for power, part in enumerate(integrand))
            out[it] += value[leaf] * (o[it] - z[it]) * integral
    return out


def test_a_way_of_40_features_is_explained_to_the_last_digits():
    """Where products are extended and unwound, every feature of a way costs digits; some come twice here."""
    rng = np.random.default_rng(0)
    feature = np.concatenate([rng.permutation(40), rng.integers(0, 40, 5)])
    cover = np.sort(rng.choice(4096, len(feature) + 1, replace=False) + 1)[::-1]
    tree = branch(feature, cover[:-1])
    tree.cover[-2:] = [cover[-2] - cover[-1], cover[-1]]
    X = np.where(rng.random((2, 40)) < [[0.9], [0.2]], -1.0, 100.0)
    parts = forest_of(tree, width=40).explain(X)
    for row, x in zip(parts, X, strict=True):
        stays = [x[it] <= split for split, it in enumerate(feature)]
        with decimal.localcontext(prec=80):
            expected = [float(it) for it in exact(feature.tolist(), cover.tolist(), range(1, 47), stays, 40)]
        np.testing.assert_allclose(row[:-1], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [1, 2, 8, 9, 600])
def test_a_branch_of_600_splits_adds_up(width):
    """No recursion overflows, and no digit is lost, where LightGBM has 6 left of 40 features and none of 100."""
    rng = np.random.default_rng(width)
    forest = forest_of(branch(np.arange(600) % width, np.arange(6000, 5400, -1)), width=width)
    X = rng.integers(0, 700, (40, width)) - 0.5
    X[::2] *= -1
    parts = forest.explain(X)
    np.testing.assert_allclose(parts.sum(1), forest.predict(X), rtol=0, atol=1e-9)


def test_a_leaf_that_no_row_reached_is_explained():
    """Rows of another day may reach it: nothing is divided by its cover."""
    tree = branch([0, 1], [8, 8])
    tree.cover = [8, 8, 0, 8, 0]
    forest = forest_of(tree, width=2)
    X = np.array([[9.0, 0], [-1, 9], [-1, -1]])
    assert forest.predict(X).tolist() == [1, 2, 3]
    np.testing.assert_allclose(forest.explain(X), [[-1.5, 0.5, 2], [0, 0, 2], [0, 1, 2]], rtol=0, atol=1e-15)


def test_base_belongs_to_what_is_expected_and_average_divides_nothing():
    trees = [branch([0, 1], [8, 5]) for _ in range(4)]
    X = np.array([[0.5, 3.0], [np.nan, -1]])
    plain = forest_of(*trees, width=2, classes=2).explain(X)
    moved = forest_of(*trees, width=2, classes=2, base=[10.0, -0.5], average=True, single=True).explain(X)
    np.testing.assert_allclose(moved - plain, [[[0, 0, 10], [0, 0, -0.5]]] * 2, rtol=0, atol=1e-14)
    once = forest_of(trees[0], width=2).explain(X)
    np.testing.assert_allclose(plain, np.stack([once * 2, once * 2], axis=1), rtol=0, atol=1e-14)


def test_a_model_without_counts_is_refused():
    """Texts may lack them, and other makers do not count: what is expected of an unknown row is not known then."""
    with pytest.raises(ValueError, match=r"^tree 0 of the model says nothing of how many rows .* with its counts"):
        Forest.parse(TINY).explain(np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"^tree 0 of the model says nothing"):
        Forest.parse(TINY).explain(np.zeros((0, 2)))
    only_leaves = re.sub("num_leaves=3.*?\n\n", "num_leaves=1\nleaf_value=3\n\n", TINY, flags=re.S)
    assert Forest.parse(only_leaves).explain(np.zeros((1, 2))).tolist() == [[0, 0, 3.25]]


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(5))
def test_covers_that_cannot_be_divided_by_are_refused(place, wrong):
    tree = branch([0, 1], [8, 5])
    tree.cover[place] = wrong
    forest = forest_of(branch([0, 1], [8, 5]), tree, width=2)
    if place > 1 and wrong == 0:
        assert np.isfinite(forest.explain(np.zeros((1, 2)))).all()  # a leaf may have none
        return
    with pytest.raises(ValueError, match=r"^tree 1 of the model says nothing"):
        forest.explain(np.zeros((1, 2)))


STEPS, STEP_COVER = 18, 22  # sections of a compiled forest


def sections(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Begin and bytes of each."""
    return [struct.unpack_from("<QQ", data, 40 + 16 * number) for number in range(24)]


def reloaded(data: bytearray, path) -> Forest:
    """The compiled forest in `data`, whose checksum is made to fit."""
    struct.pack_into("<I", data, 12, crc32c(bytes(data[16:])))
    path.write_bytes(data)
    return Forest.load(path)


def test_a_mapped_forest_whose_branches_meet_again_is_refused(tmp_path):
    """As a tree, 60 splits whose children are both the next split would have 2^60 ways."""
    forest = forest_of(branch([0] * 60, np.arange(100, 40, -1)), width=1)
    data = bytearray(forest.bytes)
    begin, size = sections(data)[STEPS]
    for step in range(size // 12 - 1):
        struct.pack_into("<ii", data, begin + 12 * step + 4, step + 1, step + 1)
    with pytest.raises(ValueError, match="tree 0 of the model is damaged: a split has two parents"):
        reloaded(data, tmp_path / "forest").explain(np.zeros((1, 1)))


def test_damaged_bytes_that_load_are_explained_or_refused(tmp_path):
    """Whatever the numbers are then; worth the most under the address sanitizer."""
    rng = np.random.default_rng(8)
    booster = trained(rng, trees=3, categories=2, num_leaves=20)
    forest = Forest.parse(booster.model_to_string())
    whole = bytes(forest.bytes)
    X = adversarial(rng, booster.model_to_string(), 3, 9, 2)
    wounded = [*sections(whole)[STEPS:], *sections(whole)[2:6]]
    explained = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            begin, size = wounded[rng.integers(len(wounded))]
            data[begin + rng.integers(size)] = rng.integers(256) if rng.random() < 0.7 else 0
        try:
            forest = reloaded(data, tmp_path / "forest")
            assert forest.explain(X).shape == (3, 10)
            explained += 1
        except (SnapshotError, ValueError):
            continue
    assert explained > 50


def test_saved_and_mapped_forests_explain_alike(tmp_path):
    rng = np.random.default_rng(3)
    forest = Forest.parse(trained(rng, categories=2).model_to_string())
    forest.save(tmp_path / "forest")
    X = table(rng, 20, 9, 2)
    np.testing.assert_array_equal(Forest.load(tmp_path / "forest").explain(X), forest.explain(X))


@pytest.mark.parametrize("n", [0, 1, 2, 511, 512, 513, 1030])
def test_a_row_is_explained_alike_in_any_company_and_layout(n):
    rng = np.random.default_rng(n)
    booster = trained(rng, trees=2, objective="multiclass", num_class=3, categories=1, num_leaves=7)
    forest = Forest.parse(booster.model_to_string())
    with np.errstate(over="ignore"):
        narrow = adversarial(rng, booster.model_to_string(), 1030, 9, 1)[:n].astype(np.float32)
    X = narrow.astype(np.float64)
    expected = forest.explain(X)
    assert expected.shape == (n, 3, 10)
    unaligned = np.frombuffer(b"x" + narrow.tobytes(), np.uint8)[1:].view(np.float32).reshape(X.shape)
    for rows in (narrow, unaligned, np.asfortranarray(X), X[:, ::-1].copy()[:, ::-1]):
        np.testing.assert_array_equal(forest.explain(rows), expected)
    for row in {0, n // 2, n - 1} if n else ():
        np.testing.assert_array_equal(forest.explain(X[row : row + 1]), expected[row : row + 1])
    np.testing.assert_array_equal(forest.explain(X[::-1])[::-1], expected)


def test_what_is_no_matrix_of_floats_is_refused():
    forest = Forest.parse(COUNTED)
    for wrong in ([[0.0, 1.0]], np.zeros((1, 2), int), np.zeros((1, 2), np.float16)):
        with pytest.raises(TypeError, match="float64 or float32"):
            forest.explain(wrong)
    for wrong in (np.zeros((1, 3)), np.zeros(2)):
        with pytest.raises(ValueError, match=rf"shape {re.escape(str(wrong.shape))}.*\[n, 2\]"):
            forest.explain(wrong)


def test_threads_share_a_forest():
    rng = np.random.default_rng(6)
    booster = trained(rng, categories=2)
    forest = Forest.parse(booster.model_to_string())
    X = adversarial(rng, booster.model_to_string(), 60, 9, 2)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: forest.explain(X), range(12)))
    assert all(np.array_equal(result, results[0]) for result in results)
