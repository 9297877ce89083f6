"""Under a filter, min(k, allowed) rows come back, all of them allowed, and the best of them are among them."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pairec_fast.core import Filter, Lists, VectorIndex
from tests import reference
from tests.indexes import DIM, KINDS, METRICS, clustered, made, recalls, truth

COUNT = 12_000
SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.01, 0.001)


@pytest.fixture(scope="module")
def data():
    vectors = clustered(np.random.default_rng(3), COUNT + 160, skew=0.3)
    return vectors[:COUNT], vectors[COUNT : COUNT + 100], vectors[COUNT + 100 :]


@pytest.fixture(scope="module", params=KINDS)
def index(request, data, tmp_path_factory):
    if request.param == "hnsw":
        pytest.importorskip("hnswlib")
    path = tmp_path_factory.mktemp("filter") / request.param
    return made(path, data[0], kind=request.param, k=50, recall=0.9, queries=data[1])


def assert_sound(rows, scores, k, allow):
    assert rows.dtype == np.int32 and scores.dtype == np.float32
    assert len(np.unique(rows)) == len(rows) == len(scores) == min(k, allow.sum())
    assert allow[rows].all()
    np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(len(rows)))


@pytest.mark.parametrize("share", SHARES)
def test_a_share_of_all_rows(index, data, share):
    vectors, _, queries = data
    allow = np.random.default_rng(7).random(COUNT) < share
    prepared = index.filter(allow)
    assert len(prepared) == allow.sum()
    found = []
    for query in queries:
        rows, scores = index.search(query, 50, None, prepared)
        assert_sound(rows, scores, 50, allow)
        mask = allow.view(np.uint8) * np.uint8(200)
        if index.strategy(query, 50, None, prepared) != "excerpt":
            np.testing.assert_array_equal(index.search(query, 50, None, mask)[0], rows)
        found.append(rows)
    got = recalls(found, truth(vectors, queries, 50, "ip", allow)).mean()
    assert got == 1 if index.kind == "flat" else got > 0.83, got


@pytest.mark.parametrize("k", [1, 50, 1_000, COUNT])
@pytest.mark.parametrize("effort", [None, 1, COUNT, 10 * COUNT])
def test_as_many_rows_as_there_are_at_any_effort(index, data, k, effort):
    """The far half is what a walk from the query never comes by, and lists that promise little: none must be missed."""
    vectors, _, queries = data
    rng = np.random.default_rng(8)
    for query in queries[:2]:
        near = vectors @ query
        for allow in (
            near < np.median(near), near > np.median(near), near < np.sort(near)[20], np.arange(COUNT) == 77,
            np.arange(COUNT) < 16, np.zeros(COUNT, bool), np.ones(COUNT, bool), rng.random(COUNT) < 0.3,
            np.isin(np.arange(COUNT), np.argsort(-near)[:60]),
        ):  # fmt: skip
            for mode in ("budget", "recall"):
                assert_sound(*index.search(query, k, effort, allow, None, mode), k, allow)
                assert_sound(*index.search(query, k, effort, index.filter(allow), None, mode), k, allow)


def test_a_correlated_half_is_found_as_well(index, data):
    """A walk spends its budget on what is near and not allowed; in recall mode it goes on until k rows are."""
    vectors, _, queries = data
    side = vectors @ np.random.default_rng(9).standard_normal(DIM).astype(np.float32)
    for allow in (side > np.median(side), side < np.median(side)):
        exact = truth(vectors, queries, 50, "ip", allow)
        got = {
            mode: recalls([index.search(query, 50, None, allow, None, mode)[0] for query in queries], exact).mean()
            for mode in ("budget", "recall")
        }
        assert got["budget"] > (0.4 if index.kind == "hnsw" else 0.85), got
        assert got["recall"] > (0.55 if index.kind == "hnsw" else 0.85), got


@pytest.mark.parametrize("denied", [1, 49, 100])
def test_denied_rows_do_not_come_back_and_the_next_best_do(index, data, denied):
    """Of the best it takes as many away as a search looks for: recall mode makes up for them."""
    vectors, _, queries = data
    got = {"budget": [], "recall": []}
    for query in queries:
        best = reference.nearest(vectors, query, 400, "ip")[0]
        deny = np.concatenate([best[:denied], best[: denied // 2]])
        counts = np.ones(COUNT, bool)
        counts[deny] = False
        for mode, shares in got.items():
            rows, scores = index.search(query, 50, None, None, deny, mode)
            assert_sound(rows, scores, 50, counts)
            shares.append(np.isin(best[denied : denied + 50], rows).mean())
        np.testing.assert_array_equal(index.search(query, 50)[0], index.search(query, 50, None, None, best[:0])[0])
    if index.kind == "flat":
        assert min(got["budget"]) == 1
    assert np.mean(got["budget"]) > (0.85 if denied == 1 else 0.4)
    assert np.mean(got["recall"]) > 0.85


def test_all_rows_denied_leaves_none(index, data):
    deny = np.arange(COUNT, dtype=np.int32)
    rows, scores = index.search(data[2][0], 50, None, None, deny)
    assert len(rows) == len(scores) == 0
    allow = np.arange(COUNT) < 30
    assert index.search(data[2][0], 50, None, allow, deny[1:])[0].tolist() == [0]
    assert len(index.search(data[2][0], 50)[0]) == 50


def test_strategies_by_how_many_are_allowed(index, data):
    query, rng = data[2][0], np.random.default_rng(10)
    usual = {"flat": "scan", "partition": "partitions", "hnsw": "walk"}[index.kind]
    assert index.strategy(query, 50) == usual
    assert index.strategy(query, 50, None, rng.random(COUNT) < 0.9) == usual
    assert index.strategy(query, 50, None, np.arange(COUNT) == 5) == "list"
    assert index.strategy(query, 50, None, np.zeros(COUNT, bool)) == "none"


@pytest.mark.parametrize("metric", METRICS)
def test_flat_under_filters_has_the_bits_of_the_twin(tmp_path, metric):
    rng = np.random.default_rng(11)
    vectors = rng.standard_normal((5_003, 20)).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind="flat")
    for share in (1.0, 0.5, 0.24, 0.19, 0.1, 0.001):
        allow, deny = rng.random(5_003) < share, rng.integers(0, 5_003, 200).astype(np.int32)
        counts = allow.copy()
        counts[deny] = False
        for query in rng.standard_normal((3, 20)).astype(np.float32):
            for k in (1, 33, 5_003):
                expected = reference.nearest(vectors, query, k, metric, counts)
                for found, wanted in zip(index.search(query, k, None, allow, deny), expected, strict=True):
                    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["hnsw", "partition"])
def test_a_row_scores_the_same_however_it_is_found(tmp_path, metric, kind):
    """By a walk or from lists, or looked up: 16 bits either way, and no squared distance below 0."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    vectors = clustered(np.random.default_rng(12), 4_000)
    index = made(tmp_path / "index", vectors, metric=metric, kind=kind, k=10, recall=0.5, queries=vectors[:20])
    for query in vectors[:20]:
        rows, scores = index.search(query, 20, 3)
        few = np.isin(np.arange(4_000), rows)
        assert (index.strategy(query, 20, 3), index.strategy(query, 20, 3, few)) != ("scan", "list")
        looked_up, same = index.search(query, 20, 3, few)
        assert metric != "l2" or (scores <= 0).all()
        if kind == "hnsw":
            np.testing.assert_array_equal(same, scores)
            np.testing.assert_array_equal(looked_up, rows)
        else:
            np.testing.assert_allclose(same, scores, rtol=1e-5, atol=1e-5)


def test_a_search_does_not_depend_on_the_memory_of_those_before(index, data, tmp_path):
    """Of its own search's size or a larger one's; a filter asks for far more of it than its effort says."""
    queries, rng = data[2], np.random.default_rng(13)
    filters = [rng.random(COUNT) < share for share in (0.04, 0.13, 0.3, 0.7)]
    for allow in filters:
        for mode in ("budget", "recall"):
            for effort in (1, 3):
                new, used = VectorIndex.load(index.path), VectorIndex.load(index.path)
                used.search(queries[0], COUNT, COUNT, np.arange(COUNT) % 2 == 0)
                for query in queries[:3]:
                    one = new.search(query, 5, effort, allow, None, mode)
                    other = used.search(query, 5, effort, allow, None, mode)
                    np.testing.assert_array_equal(one[0], other[0])
                    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33, 100])
def test_small_indexes_and_one_row_of_them(tmp_path, kind, count):
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    vectors = np.random.default_rng(count).standard_normal((count, 5)).astype(np.float32)
    index = made(tmp_path / "index", vectors, kind=kind, k=3, queries=vectors[:3])
    for row in {0, count // 2, count - 1}:
        for k in (1, count, 10 * count):
            assert index.search(vectors[0], k, None, np.arange(count) == row)[0].tolist() == [row]
            everything, _ = index.search(vectors[0], count, None, None, np.int32([row]))
            assert sorted([*everything.tolist(), row]) == list(range(count))


def one_huge_list(rng):
    """All but a few rows around one centroid."""
    vectors = rng.standard_normal((4_000, DIM)) * 0.01
    vectors[:60] = rng.standard_normal((60, DIM)) * 100
    return vectors


def twins_in_several_lists(rng):
    """Each vector many times, and others between."""
    return np.repeat(rng.standard_normal((40, DIM)), 100, axis=0)


def one_point(rng):
    """All lists but one are empty, or hold what another could."""
    return np.ones((4_000, DIM))


def on_a_line(rng):
    return np.linspace(-1, 1, 4_000)[:, None] * rng.standard_normal(DIM)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [one_huge_list, twins_in_several_lists, one_point, on_a_line])
def test_partitions_of_uneven_lists(tmp_path, metric, shape):
    rng = np.random.default_rng(14)
    vectors = shape(rng).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind="partition", k=50, queries=vectors[::100])
    filters = [None, *(rng.random(4_000) < share for share in (0.5, 0.1, 0.001))]
    for query in vectors[[0, 59, 2_000, 3_999]]:
        for allow in filters:
            for k, effort, mode in ((1, 1, "budget"), (50, None, "budget"), (50, None, "recall"), (4_000, 1, "recall")):
                rows, scores = index.search(query, k, effort, allow, None, mode)
                assert_sound(rows, scores, k, np.ones(4_000, bool) if allow is None else allow)
            rows, scores = index.search(query, 50, 4_000, allow)
            exact = reference.nearest(vectors, query, 50, metric, allow)[1]
            near = 2e-4 * np.abs(reference.nearest(vectors, query, 4_000, metric)[1]).max()
            # Of vectors a hundred times each, 4 bits take a hundred for better than they are, or none.
            assert (scores >= exact[-1] - near).mean() > (0.3 if shape is twins_in_several_lists else 0.9)
            assert scores[0] >= exact[0] - near


def test_a_filter_keeps_its_index_and_its_index_keeps_its_file(tmp_path):
    vectors = clustered(np.random.default_rng(15), 3_000)
    for kind in ("flat", "partition"):
        index = made(tmp_path / kind, vectors, kind=kind, k=10, queries=vectors[:10])
        mask = np.arange(3_000) % 2 == 0
        allow = index.filter(mask)
        expected = index.search(vectors[0], 30, None, allow)[0].tolist()
        mask[:] = False
        (tmp_path / kind).unlink()
        gc.collect()
        assert index.search(vectors[0], 30, None, allow)[0].tolist() == expected, "a filter is a copy"
        search = index.search
        del index
        gc.collect()
        assert search(vectors[0], 30, None, allow)[0].tolist() == expected
        assert len(allow) == 1_500
        del search
        gc.collect()
        with pytest.raises(IndexError, match="row must be one appended since"):
            allow.add(3_000)


def test_filters_that_no_index_made_are_refused(tmp_path):
    vectors = clustered(np.random.default_rng(16), 300)
    index = made(tmp_path / "index", vectors)
    nothing = Filter.__new__(Filter)
    with pytest.raises(ValueError, match="another index"):
        index.search(vectors[0], 5, None, nothing)
    with pytest.raises(TypeError, match=r"VectorIndex\.filter"):
        nothing.add(0)
    for mask in (None, [True] * 300, np.ones(300, np.int64), np.ones(300, object), "all", np.ones((300, 1), bool)):
        with pytest.raises((TypeError, ValueError), match="allow must"):
            index.filter(mask)
    for row in (-1, 300):
        with pytest.raises(ValueError, match=rf"allow\[.\] is {row}; rows here are 0 to 299"):
            index.filter(np.array([5, row], np.int32))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_a_filter_like_their_mask(tmp_path, kind):
    """Few rows are only ever listed; many are bits."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(17)
    vectors = clustered(rng, 3_000)
    index = made(tmp_path / "index", vectors, kind=kind, k=10)
    for count in (0, 1, 5, 11, 12, 300, 599, 601, 3_000):
        rows = rng.permutation(3_000)[:count].astype(np.int32)
        mask = np.zeros(3_000, bool)
        mask[rows] = True
        for query in vectors[:3]:
            by_rows, by_mask = index.search(query, 20, None, np.repeat(rows, 2)), index.search(query, 20, None, mask)
            for one, other in zip(by_rows, by_mask, strict=True):
                np.testing.assert_array_equal(one, other)
            assert mask[by_rows[0]].all() and len(by_rows[0]) == min(20, count)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_by_value_are_filters_like_the_masks_of_their_rows(tmp_path, kind):
    """A value of one row and one of half of them; two rows in five have none; and what is appended comes beside."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(18)
    vectors = clustered(rng, 3_000)
    index = made(tmp_path / "index", vectors, kind=kind, k=10, spare=40)
    rows = rng.permutation(3_000)[:1_800].astype(np.int32)
    values = np.concatenate([[2.5], np.full(900, -1e9), rng.integers(0, 60, 899).astype(float)]).astype(np.float32)
    grouped = index.grouped(rows, values)
    stored = index.lists(*(part.copy() for part in (grouped.values, grouped.first, grouped.places)))
    assert len(stored) == len(np.unique(values)) == len(stored.first) - 1 and len(stored.places) == 1_800
    index.remove(int(rows[5]))
    appended = [index.append(vectors[0]) for _ in range(20)]
    common = set(stored.common().tolist())
    for value in np.unique(values).tolist():
        at = stored.find(value)
        filter_, mask = stored.filter(at), np.zeros(3_000, bool)
        mask[rows[values == value]] = True
        few = len(filter_) <= 600
        assert len(filter_) == mask.sum() and (filter_.places is not None) == few
        assert not few or np.shares_memory(filter_.places, stored.places)
        assert (at in common) == (len(filter_) * 256 >= 3_000)
        for query in vectors[:2]:
            for one, other in zip(
                index.search(query, 20, None, filter_), index.search(query, 20, None, mask), strict=True
            ):
                np.testing.assert_array_equal(one, other)
        filter_.add(appended[-1])
        assert appended[-1] in index.search(vectors[0], 3_000, None, filter_)[0]
        assert appended[-1] not in index.search(vectors[0], 3_000, None, stored.filter(at))[0], "each filter is its own"


def test_values_are_found_as_python_compares_numbers(tmp_path):
    index = made(tmp_path / "index", clustered(np.random.default_rng(19), 300))
    rows = np.arange(4, dtype=np.int32)
    near = index.grouped(rows, np.array([2**53 + 3, 2**53 + 4, -(2**63), 7]))
    assert [near.find(value) for value in (-(2**63), 7, 7.0, 2**53 + 3, float(2**53 + 4))] == [0, 1, 1, 2, 3]
    assert [near.find(value) for value in (6.5, 2**53, 2**70, float("inf"), float("nan"))] == [-1] * 5
    tenth = index.grouped(rows[:1], np.array([0.1], np.float32))
    assert (tenth.find(0.1), tenth.find(float(np.float32(0.1)))) == (-1, 0)
    none = index.grouped(rows[:0], np.zeros(0))
    assert (len(none), none.find(0), none.common().tolist()) == (0, -1, [])
    for lists, at in ((none, 0), (near, 4), (near, -1)):
        with pytest.raises(IndexError, match=f"at must be 0 to {len(lists) - 1}, got {at}"):
            lists.filter(at)


def test_lists_keep_their_index_and_those_that_do_not_fit_are_refused(tmp_path):
    vectors = clustered(np.random.default_rng(20), 300)
    index = made(tmp_path / "index", vectors)
    rows = np.arange(300, dtype=np.int32)
    for few, values in ((rows[:5], np.zeros(4)), (rows[:4].reshape(2, 2), np.zeros((2, 2)))):
        with pytest.raises(ValueError, match="values must have shape"):
            index.grouped(few, values)
    with pytest.raises(ValueError, match=r"rows\[0\] is 300; rows here are 0 to 299"):
        index.grouped(np.array([300], np.int32), np.zeros(1))
    with pytest.raises(ValueError, match="holds no row or does not ascend"):
        index.grouped(np.array([5, 5], np.int32), np.zeros(2))
    with pytest.raises(ValueError, match="values must ascend"):
        index.grouped(rows[:2], np.array([np.nan, 1]))
    with pytest.raises(ValueError, match="values must ascend"):
        index.lists(np.array([np.nan]), np.array([0, 1]), rows[:1])
    with pytest.raises(TypeError, match=r"VectorIndex\.lists"):
        Lists()
    lists = index.grouped(rows, rows % 2)
    search = index.search
    odd = lists.filter(1)
    del index, lists
    gc.collect()
    assert (search(vectors[0], 300, None, odd)[0] % 2 == 1).all()
    other = made(tmp_path / "other", vectors)
    with pytest.raises(ValueError, match="another index"):
        other.search(vectors[0], 5, None, odd)
