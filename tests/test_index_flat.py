"""A flat index is exact to the last bit, also where its codes of 8 bits tell nothing."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.index import VectorIndex
from tests import reference
from tests.indexes import KINDS, METRICS, made


def assert_exact(index, vectors, queries, ks=(1, 10, 100), allow=None, deny=None):
    for query in queries:
        for k in ks:
            counts = np.ones(len(vectors), bool) if allow is None else allow.copy()
            if deny is not None:
                counts[deny] = False
            expected = reference.nearest(vectors, query, k, index.metric, counts)
            for found, wanted in zip(index.search(query, k, None, allow, deny), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


def outlier_lane(rng, count, dim):
    """One lane a million times the others: their codes are 0."""
    vectors = rng.standard_normal((count, dim))
    vectors[:, rng.integers(dim)] = rng.integers(0, 2, count) * 1e6
    return vectors


def outlier_row(rng, count, dim):
    """One row so long that the codes of all others are 0: all pass the scan, more than its pool holds."""
    vectors = rng.standard_normal((count, dim))
    vectors[rng.integers(count)] *= 1e5
    return vectors


def equal_rows(rng, count, dim):
    return np.broadcast_to(rng.standard_normal(dim), (count, dim))


def few_rows(rng, count, dim):
    return rng.standard_normal((7, dim))[rng.integers(0, 7, count)]


def nearly_equal(rng, count, dim):
    """Apart by less than a step of the codes, and by about the rounding of float32."""
    return 1 + rng.standard_normal((count, dim)) * 10.0 ** rng.integers(-8, -4, (count, 1))


def every_length(rng, count, dim):
    return rng.standard_normal((count, dim)) * 10.0 ** rng.uniform(-18, 17, (count, 1))


def short(rng, count, dim):
    return rng.standard_normal((count, dim)) * 1e-18


def shortest(rng, count, dim):
    """Their squares have few bits left, if any."""
    return rng.standard_normal((count, dim)) * 10.0 ** rng.uniform(-24, -21)


def long(rng, count, dim):
    return rng.standard_normal((count, dim)) / dim**0.5 * 2e17


def alternating(rng, count, dim):
    """Half of the codes are clipped to 127, half to -127."""
    return rng.choice([-1.0, 1.0], (count, dim))


def zeros(rng, count, dim):
    return np.zeros((count, dim))


NASTY = [
    outlier_lane, outlier_row, equal_rows, few_rows, nearly_equal, every_length, short, shortest, long, alternating,
    zeros,
]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: nasty.__name__)
@pytest.mark.parametrize(("count", "dim"), [(17, 1), (3_000, 7), (6_000, 33)])
def test_vectors_whose_codes_tell_little(tmp_path, metric, nasty, count, dim):
    if nasty is zeros and metric == "cosine":
        pytest.skip("refused")
    rng = np.random.default_rng(count)
    vectors = nasty(rng, count, dim).astype(np.float32)
    if metric == "cosine":
        vectors[~vectors.any(axis=1)] = 1
    index = made(tmp_path / "index", vectors, metric=metric, kind="flat", queries=vectors[:2])
    normal = rng.standard_normal((2, dim))
    size = np.median(np.linalg.norm(vectors, axis=1)) or 1.0
    queries = np.concatenate([vectors[-1:], normal * size, normal * 1e-6 * size, nasty(rng, 1, dim)]).astype(np.float32)
    queries = queries[queries.any(axis=1)] if metric == "cosine" else queries
    assert_exact(index, vectors, queries, (1, 16, count - 1, count))
    assert_exact(index, vectors, queries[:2], (1, 16), rng.random(count) < 0.5, rng.choice(count, 9).astype(np.int32))
    assert_exact(index, vectors, queries[:2], (1, 16, count), rng.random(count) < 0.02)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("inner", [1, 100, 2_047, 2_048, 2_049, 5_000])
def test_as_many_within_the_bound_as_the_pool_keeps_and_one_more(tmp_path, metric, inner):
    """So many rows tie with the k-th by their codes and differ in float; the rest are far."""
    rng = np.random.default_rng(inner)
    vectors = -rng.random((9_000, 8)) - 1
    vectors[rng.choice(9_000, inner, replace=False)] = 1 + 1e-5 * rng.standard_normal((inner, 8))
    vectors = vectors.astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind="flat", queries=vectors[:2])
    assert_exact(index, vectors, np.ones((1, 8), np.float32), (1, 2, 99, 1_000))


@pytest.mark.parametrize("metric", METRICS)
def test_rows_that_get_better_and_better_fill_the_pool_again_and_again(tmp_path, metric):
    vectors = np.linspace(-1, 1, 20_000, dtype=np.float32)[:, None] * np.ones(3, np.float32) + np.float32(0.01)
    index = made(tmp_path / "index", vectors, metric=metric, kind="flat", queries=vectors[:2])
    for turned in (1, -1):
        assert_exact(index, vectors, turned * np.ones((1, 3), np.float32), (1, 500, 20_000))


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_numbers_at_the_bounds_of_what_is_taken(tmp_path, metric):
    """The longest vectors and the longest query, of the same and of opposite directions: no infinity, no NaN."""
    vectors = np.float32([[1e18, 0], [-1e18, 0], [0, 1e-45], [7e17, 7e17], [0, 1]])
    for kind in KINDS:
        if kind == "hnsw":
            pytest.importorskip("hnswlib")
        index = made(tmp_path / kind, vectors, metric=metric, kind=kind, queries=vectors)
        for query in np.float32([[1e19, 0], [-1e19, 0], [0, 1e-45], [7e18, -7e18]]):
            rows, scores = index.search(query, 5)
            assert sorted(rows) == list(range(5)) and np.isfinite(scores).all()
            if kind == "flat":
                assert_exact(index, vectors, [query], (1, 5))


@pytest.mark.parametrize("metric", METRICS)
def test_zero_queries_and_queries_of_zeros_but_one(tmp_path, metric):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((3_000, 20)).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind="flat", queries=vectors[:2])
    assert_exact(index, vectors, np.eye(20, dtype=np.float32)[[0, 19]] * np.float32(1e-30 if metric != "l2" else 1))
    if metric != "cosine":
        assert_exact(index, vectors, np.zeros((1, 20), np.float32), (1, 2_999, 3_000))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_vectors_of_many_dims(tmp_path, metric):
    """65,536 dims of the largest codes: their sums just fit int32."""
    vectors = np.ones((20, 65_536), np.float32)
    vectors[10:] *= -1
    vectors[:, 0] += np.linspace(0, 1, 20, dtype=np.float32)
    for kind in ("flat", "partition"):
        index = made(tmp_path / kind, vectors, metric=metric, kind=kind, k=5, queries=vectors[:1])
        rows, scores = index.search(vectors[0], 20)
        exact = reference.nearest(vectors, vectors[0], 20, metric)
        np.testing.assert_allclose(scores, exact[1], rtol=1e-3, atol=70)
        if kind == "flat":
            np.testing.assert_array_equal(rows, exact[0])
    with pytest.raises(ValueError, match="65536 dims"):
        VectorIndex.build(np.ones((2, 65_537), np.float32), tmp_path / "more")
