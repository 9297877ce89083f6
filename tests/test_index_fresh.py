"""Rows appended to an index in memory, and rows removed from it, are found or not found from then on."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pairec_fast.core.index import VectorIndex
from tests import reference
from tests.indexes import DIM, KINDS, METRICS, clustered, made


def index_of(path, kind, vectors, spare, **options):
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    return made(path, vectors, spare, kind=kind, k=10, queries=vectors[:20], **options)


def allowed_nearest(vectors, query, k, metric, gone=(), allow=None):
    """The twin, of rows that are not gone."""
    counts = np.ones(len(vectors), bool) if allow is None else allow.copy()
    counts[list(gone)] = False
    return reference.nearest(vectors, query, k, metric, counts)


def test_a_row_appended_and_a_row_removed_by_hand(tmp_path):
    index = made(tmp_path / "index", np.float32([[1, 0], [0, 1]]), spare=2)
    query = np.float32([1, 2])
    assert index.append(np.float32([3, 3])) == 2
    assert (len(index), index.count) == (3, 2)
    rows, scores = index.search(query)
    assert (rows.tolist(), scores.tolist()) == ([2, 1, 0], [9, 2, 1])
    index.remove(1)
    assert index.search(query)[0].tolist() == [2, 0]
    index.remove(2)
    assert index.search(query)[0].tolist() == [0]
    assert index.append(np.float32([0, 3])) == 3
    assert index.search(query)[0].tolist() == [3, 0]
    assert index.vector(3).tolist() == [0, 3]
    for row in range(4):
        index.remove(row)
    assert index.search(query)[0].tolist() == []
    assert VectorIndex.load(index.path).search(query)[0].tolist() == [1, 0], "the file is as it was"


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("spare", [1, 15, 16, 17, 300])
def test_flat_with_appended_and_removed_rows_has_the_bits_of_the_twin(tmp_path, metric, spare):
    """Appended vectors may be far longer than those the codes were scaled for, and far shorter."""
    rng = np.random.default_rng(spare)
    lengths = 10.0 ** rng.integers(-6, 7, (spare, 1))
    vectors = np.concatenate([clustered(rng, 100), rng.standard_normal((spare, DIM)) * lengths]).astype(np.float32)
    index = index_of(tmp_path / "index", "flat", vectors[:100], spare, metric=metric)
    gone: list[int] = []
    for row in range(100, 100 + spare):
        assert index.append(vectors[row]) == row
        if row % 7 == 0:
            gone.append(int(rng.integers(row + 1)))
            index.remove(gone[-1])
        if row % 29 == 0 or row == 99 + spare:
            for k in (1, 10, 1000):
                query = rng.standard_normal(DIM).astype(np.float32)
                expected = allowed_nearest(vectors[: row + 1], query, k, metric, gone)
                for found, wanted in zip(index.search(query, k), expected, strict=True):
                    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_far_more_rows_appended_than_the_index_was_built_of(tmp_path, kind):
    """A search's memory must be for the larger of the two. Ties by the thousand: all of them pass the scan."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(-1, 2, (20_016, 4)).astype(np.float32)
    vectors[:16] = 0.5
    index = index_of(tmp_path / "index", kind, vectors[:16], 20_000)
    for vector in vectors[16:]:
        index.append(vector)
    query = np.float32([1, 1, 1, 0.25])
    for k in (1, 100, 513, 5_000, 20_016, 30_000):
        rows, scores = index.search(query, k)
        expected, exact = reference.nearest(vectors, query, k, "ip")
        np.testing.assert_allclose(scores, exact, atol=1e-3)
        if kind == "flat":
            np.testing.assert_array_equal(rows, expected)
        assert len(np.unique(rows)) == min(k, 20_016)


@pytest.mark.parametrize("kind", KINDS)
def test_filters_and_denied_rows_hold_for_appended_rows(tmp_path, kind):
    rng = np.random.default_rng(2)
    vectors = clustered(rng, 700)
    index = index_of(tmp_path / "index", kind, vectors[:600], 100)
    for vector in vectors[600:650]:
        index.append(vector)
    for length in (600, 613, 650):
        allow = rng.random(length) < 0.5
        prepared = index.filter(allow)
        assert len(prepared) == allow[:600].sum()
        whole = np.zeros(650, bool)
        whole[:length] = allow
        for query in vectors[650:655]:
            for allowed in (allow, prepared):
                rows, _ = index.search(query, 650, None, allowed)
                np.testing.assert_array_equal(np.sort(rows), np.flatnonzero(whole))
    deny = np.int32([0, 649, 649, 600, 0, 599])
    for query in vectors[650:655]:
        assert sorted(index.search(query, 650, None, None, deny)[0]) == sorted(set(range(650)) - set(deny.tolist()))
        assert len(index.search(query, 650)[0]) == 650, "denied once, not for good"
    with pytest.raises(ValueError, match=r"deny\[0\] is 650"):
        index.search(vectors[0], 5, None, None, np.int32([650]))
    with pytest.raises(ValueError, match=r"\(600,\), got \(651,\)"):
        index.filter(np.ones(651, bool))


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_allows_an_appended_row_once_told_so(tmp_path, kind):
    vectors = clustered(np.random.default_rng(3), 640)
    index = index_of(tmp_path / "index", kind, vectors[:600], 40)
    none = index.filter(np.zeros(600, bool))
    first = index.filter(np.arange(600) == 7)
    for row in range(600, 640):
        index.append(vectors[row])
        if (row - 600) % 13 == 0:
            none.add(row)
            first.add(row)
    assert sorted(index.search(vectors[0], 50, None, none)[0]) == [600, 613, 626, 639]
    assert sorted(index.search(vectors[0], 50, None, first)[0]) == [7, 600, 613, 626, 639]
    for row in (-1, 599, 640, 2**40):
        with pytest.raises(IndexError, match=f"row must be one appended since, 600 to 639, got {row}"):
            none.add(row)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_appended_rows_compete_with_those_of_the_file(tmp_path, metric, kind):
    vectors = clustered(np.random.default_rng(4), 1_200)
    index = index_of(tmp_path / "index", kind, vectors[:1_000], 200, metric=metric)
    for vector in vectors[1_000:]:
        index.append(vector)
    for query in vectors[:20]:
        rows, scores = index.search(query, 30, index.count)
        expected, exact = reference.nearest(vectors, query, 30, metric)
        np.testing.assert_allclose(scores, exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max() + 0.01)
        assert np.isin(expected, rows).mean() > 0.9
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(30))


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_rows_removed_make_room_for_the_next(tmp_path, kind):
    """Also of many: a walk must come by others, and a list may be empty."""
    vectors = clustered(np.random.default_rng(5), 2_000)
    index = index_of(tmp_path / "index", kind, vectors, 0)
    query = vectors[11]
    order, _ = reference.nearest(vectors, query, 2_000, "ip")
    for row in order[:300].tolist():
        index.remove(row)
    index.remove(int(order[0]))  # once more, to no effect
    rows, _ = index.search(query, 50)
    assert len(rows) == 50 and not np.isin(rows, order[:300]).any()
    assert np.isin(index.search(query, 50, 1_000)[0], order[300:350]).mean() > 0.9
    for row in order[300:].tolist():
        index.remove(row)
    assert len(index.search(query, 50)[0]) == 0
    assert len(index) == 2_000


def test_what_cannot_be_appended_or_removed_is_refused(tmp_path):
    vectors = np.ones((4, 3), np.float32)
    index = made(tmp_path / "index", vectors, spare=1)
    good = np.ones(3, np.float32)
    for vector, error, message in (
        (good.astype(np.float64), TypeError, "float32, got float64"),
        (good[:2], ValueError, r"\(3,\), got \(2,\)"),
        (good * np.float32(np.nan), ValueError, "finite"),
        (good * np.float32(np.inf), ValueError, "finite"),
        (good * np.float32(2e18), ValueError, "longer than 1e\\+18"),
    ):
        with pytest.raises(error, match=message):
            index.append(vector)
    assert len(index) == 4
    index.append(good)
    with pytest.raises(ValueError, match="1 vectors were appended; load with a larger spare"):
        index.append(good)
    with pytest.raises(ValueError, match="0 vectors were appended"):
        VectorIndex.load(index.path).append(good)
    for row in (-1, 5, 2**31):
        with pytest.raises(IndexError, match=f"0 to 4, got {row}"):
            index.remove(row)
    for spare in (-1, 2**31 - 4, 2**40):
        with pytest.raises(ValueError, match="spare must be 0 to 2147483643"):
            VectorIndex.load(index.path, spare=spare)
    cosine = made(tmp_path / "cosine", vectors, spare=1, metric="cosine")
    with pytest.raises(ValueError, match="zero"):
        cosine.append(np.zeros(3, np.float32))
    cosine.append(good * np.float32(1e30))
    np.testing.assert_allclose(cosine.vector(4), 3**-0.5, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_searches_go_on_while_rows_come_and_go(tmp_path, kind):
    """A search sees a row that came before it began, and none that left before; half-written rows never.

    Every row appended is nearer than all before it, so a search's best tells how far it saw.
    """
    count, more = 2_000, 6_000
    vectors = clustered(np.random.default_rng(6), count)
    vectors[:, 0] = -1
    index = index_of(tmp_path / "index", kind, vectors, more)
    query = np.zeros(DIM, np.float32)
    query[0] = 1
    prepared = index.filter(np.arange(count) % 3 == 0)
    done, wrong = threading.Event(), []

    def ask(allow):
        seen = -1
        while not done.is_set():
            appended = len(index) - count
            rows, scores = index.search(query, 20, None, allow)
            best = max(int(rows[0]) - count, -1)
            if allow is None and (best < seen or best < appended - 1):
                wrong.append((best, seen, appended))
            if allow is not None and not ((rows >= count) | (rows % 3 == 0)).all():
                wrong.append(rows)
            fresh = rows >= count
            if not np.array_equal(scores[fresh], (rows[fresh] - count).astype(np.float32)):
                wrong.append((rows, scores))
            if len(np.unique(rows)) != len(rows):
                wrong.append(rows)
            seen = max(seen, best)

    threads = [threading.Thread(target=ask, args=(allow,)) for allow in (None, None, prepared)]
    for thread in threads:
        thread.start()
    try:
        for number in range(more):
            vector = np.zeros(DIM, np.float32)
            vector[0] = number
            row = index.append(vector)
            prepared.add(row)
            if number % 5 == 0:
                index.remove(number // 5)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    rows, _ = index.search(query, count + more)
    assert len(rows) == count + more - more // 5
