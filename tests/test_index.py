"""A vector index returns the nearest rows, the same ones on every machine, and refuses what it cannot search."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from pairec_fast.core import Filter, VectorIndex, index_build, index_graph
from pairec_fast.core.index_scratch import SearchScratch
from pairec_fast.core.simd import isas
from tests import reference
from tests.indexes import DIM, KINDS, METRICS, clustered, made, recall, recalls, truth

WALKED = ("hnsw", "partition")


def graph_needs_hnswlib(kind):
    if kind == "hnsw":
        pytest.importorskip("hnswlib")


@pytest.fixture(scope="module")
def data():
    """12,000 clustered vectors of uneven length, 100 queries to tune on and 100 others."""
    vectors = clustered(np.random.default_rng(3), 12_200, skew=0.3)
    return vectors[:12_000], vectors[12_000:12_100], vectors[12_100:]


@pytest.fixture(scope="module", params=WALKED)
def walked(request, data, tmp_path_factory):
    """An index that does not look at every row, tuned for k = 50; its vectors, and queries it was not tuned on."""
    graph_needs_hnswlib(request.param)
    vectors, tuning, queries = data
    path = tmp_path_factory.mktemp("walked") / "items.index"
    return made(path, vectors, kind=request.param, k=50, recall=0.9, queries=tuning), vectors, queries


@pytest.fixture(scope="module", params=KINDS)
def small(request, tmp_path_factory):
    """A small index of each kind."""
    graph_needs_hnswlib(request.param)
    path = tmp_path_factory.mktemp("small") / request.param
    VectorIndex.build(clustered(np.random.default_rng(4), 600), path, kind=request.param, k=10)
    return path


def test_the_nearest_of_four_by_hand(tmp_path):
    vectors = np.array([[1, 0], [0, 2], [3, 0], [1, 1]], np.float32)
    query = np.array([1, 1], np.float32)
    expected = {
        "ip": ([2, 1, 3, 0], [3, 2, 2, 1]),
        "cosine": ([3, 0, 1, 2], np.float32([1, 0.5**0.5, 0.5**0.5, 0.5**0.5])),
        "l2": ([3, 0, 1, 2], [0, -1, -2, -5]),
    }
    for metric, (rows, scores) in expected.items():
        found_rows, found = made(tmp_path / metric, vectors, metric=metric).search(query, 4)
        assert (found_rows.dtype, found.dtype) == (np.int32, np.float32)
        assert found_rows.tolist() == rows
        np.testing.assert_allclose(found, scores, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 15, 16, 17, 64])
def test_flat_has_the_bits_of_the_twin(tmp_path, metric, dim):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((700, dim)).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric)
    for k in (1, 699, 700, 701):
        query = rng.standard_normal(dim).astype(np.float32)
        for found, expected in zip(index.search(query, k), reference.nearest(vectors, query, k, metric), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", WALKED)
@pytest.mark.parametrize("dim", [1, 31, 33, 200])
def test_scores_of_16_bits_are_off_by_half_a_step_a_dim_at_most(tmp_path, metric, kind, dim):
    """Against float64, of every row: of kind hnsw a step is the file's, of kind partition the list's."""
    graph_needs_hnswlib(kind)
    rng = np.random.default_rng(dim)
    vectors = (rng.standard_normal((500, dim)) * np.exp(rng.standard_normal((500, 1)))).astype(np.float32)
    queries = rng.standard_normal((5, dim)).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind=kind, k=10, queries=queries)
    stored, asked = (reference.prepared(array, metric).astype(np.float64) for array in (vectors, queries))
    held = np.array([index.vector(row) for row in range(500)])
    step = np.abs(held - stored).max(axis=1) * 1.01 + 1e-7
    if kind == "hnsw":
        assert step.max() <= np.abs(stored if metric != "cosine" else 1).max() / 127 / 256 * 0.51 + 1e-6
    else:
        assert (step <= np.abs(stored).max() / 127 / 256 + 1e-6).all(), "residuals are shorter than twice the longest"
    for query, wide in zip(queries, asked, strict=True):
        rows, scores = index.search(query, 500)
        exact = -((wide - stored) ** 2).sum(axis=1) if metric == "l2" else stored @ wide
        bound = step * np.abs(wide).sum() * (2 if metric == "l2" else 1)
        bound += 1e-6 * ((wide**2).sum() + (stored**2).sum(axis=1))
        assert (np.abs(scores - exact[rows]) <= bound[rows]).all()
        assert np.array_equal(np.lexsort((rows, -scores)), np.arange(500)), "best first, equal scores by row"
        assert np.array_equal(np.sort(rows), np.arange(500))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_smaller_row_whatever_the_kind(tmp_path, metric, kind):
    """Few distinct vectors, so nearly every comparison is decided by row; zeros of both signs are equal."""
    graph_needs_hnswlib(kind)
    rng = np.random.default_rng(5)
    vectors = rng.integers(-1, 2, (400, 3)).astype(np.float32)
    vectors[vectors.any(axis=1) == 0] = 1
    index = made(tmp_path / "index", vectors, metric=metric, kind=kind, k=20)
    for query in np.float32([[1, 0, 0], [-1, 1, -0.0], [1, 1, 1]]):
        rows, scores = index.search(query, 50, 400)
        expected, exact = reference.nearest(vectors, query, 50, metric)
        np.testing.assert_allclose(scores, exact, atol=1e-3)
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(50))
        if kind != "partition":  # of equal vectors in two lists, 16 bits may tell one from the other
            np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_one_vector_and_identical_vectors_are_an_index(tmp_path, kind):
    graph_needs_hnswlib(kind)
    for count in (1, 2, 15, 16, 17, 300):
        index = made(tmp_path / "index", np.ones((count, 5), np.float32), kind=kind)
        for effort in (1, 1000):
            rows, scores = index.search(np.ones(5, np.float32), 40, effort)
            np.testing.assert_array_equal(rows, np.arange(min(40, count)))
            np.testing.assert_allclose(scores, 5, rtol=1e-4)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("kind", KINDS)
def test_zero_vectors_and_zero_queries_have_scores(tmp_path, metric, kind):
    """Codes have no scale then."""
    graph_needs_hnswlib(kind)
    vectors = np.zeros((900, 9), np.float32)
    index = made(tmp_path / "zeros", vectors, metric=metric, kind=kind, k=5, queries=vectors[:5])
    for query in np.float32([[0] * 9, [2] * 9]):
        rows, scores = index.search(query, 900)
        np.testing.assert_array_equal(rows, np.arange(900))
        assert (scores == (0 if metric == "ip" else -4 * 9 * query[0] / 2)).all()
    vectors[450] = 1
    index = made(tmp_path / "one", vectors, metric=metric, kind=kind, k=5, queries=vectors[:5])
    for effort in (1, 900):
        rows, scores = index.search(vectors[0], 900, effort)
        assert sorted(rows) == list(range(900)) and np.isfinite(scores).all()
        assert index.search(vectors[450], 3, 900)[0][0] == 450


def test_it_reaches_its_recall_on_queries_it_was_not_tuned_on(walked):
    index, vectors, queries = walked
    assert index.recall_reached >= 0.9
    assert index.strategy(queries[0], 50) in ("walk", "partitions"), "the scan answered: this data no longer tests it"
    assert recall(index, vectors, queries, 50) >= 0.88


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_it_finds_what_its_file_says(tmp_path, spread):
    """Where lengths differ much, a search of few rows begins again with a wide one and finds more than a longer one."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((4_000, 16)) * rng.lognormal(0, spread, (4_000, 1))
    queries = rng.standard_normal((100, 16)).astype(np.float32)
    options = {"kind": "partition", "k": 100, "recall": 0.9, "queries": queries}
    index = made(tmp_path / "lengths", vectors.astype(np.float32), metric="ip", **options)
    assert index.recall_reached >= 0.9
    assert recall(index, vectors.astype(np.float32), queries, 100) == pytest.approx(index.recall_reached, abs=0.005)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", WALKED)
def test_effort_tuned_without_queries_holds_for_the_data(tmp_path, metric, kind):
    graph_needs_hnswlib(kind)
    vectors = clustered(np.random.default_rng(6), 3_100, skew=0.3)
    index = made(tmp_path / "index", vectors[:3_000], metric=metric, kind=kind, k=10, recall=0.9)
    assert recall(index, vectors[:3_000], vectors[3_000:], 10) >= 0.9


def test_effort_grows_with_k_so_that_recall_holds(walked):
    index, vectors, queries = walked
    for k in (5, 20, 200, 400):
        assert recall(index, vectors, queries[:50], k) >= 0.82, k


def test_twice_the_effort_finds_no_less_and_less_effort_finds_something(walked):
    index, vectors, queries = walked
    first = 4 if index.kind == "hnsw" else 100  # of fewer, it comes by fewer than k and scans more
    found = [recall(index, vectors, queries, 50, first << turn) for turn in range(6)]
    assert all(after >= before - 0.002 for before, after in itertools.pairwise(found)), found
    assert found[0] > 0.1
    assert found[-1] > 0.9


def test_recall_mode_is_no_worse_on_the_worst_queries(walked):
    index, vectors, queries = walked
    exact = truth(vectors, queries, 50)
    worst = {
        mode: np.sort(recalls([index.search(query, 50, mode=mode)[0] for query in queries], exact))[:10].mean()
        for mode in ("budget", "recall")
    }
    assert worst["recall"] >= worst["budget"] - 0.01, worst
    assert worst["recall"] > 0.7, worst


def test_scores_are_near_the_exact_ones_and_sorted(walked):
    index, vectors, queries = walked
    for query in queries[:5]:
        rows, scores = index.search(query, 300)
        np.testing.assert_allclose(scores, vectors[rows].astype(np.float64) @ query, atol=2e-3 * np.abs(scores).max())
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(300))


def test_more_than_a_walk_can_find_is_found_all_the_same(walked):
    index, _, queries = walked
    for k in (index.count - 1, index.count, index.count + 1, 2**40):
        for effort in (1, 3000):
            rows, _ = index.search(queries[0], k, effort)
            assert len(set(rows.tolist())) == len(rows) == min(k, index.count)


def test_many_threads_get_the_answers_of_one(walked):
    index, _, queries = walked
    allow = np.arange(index.count) % 2 == 0
    prepared = index.filter(allow)
    expected = [[index.search(query, k, 40, allow) for query in queries] for k in (5, 700, 50, 2000)]
    wrong = []

    def ask(number):
        k = (5, 700, 50, 2000)[number]
        for query, (rows, scores) in zip(queries, expected[number], strict=True):
            found, found_scores = index.search(query, k, 40, prepared)
            if not (np.array_equal(found, rows) and np.array_equal(found_scores, scores)):
                wrong.append((k, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


DIGEST = """
import hashlib, sys
import numpy as np
from pairec_fast.core.index import VectorIndex

for path in sys.argv[1:]:
    index = VectorIndex.load(path, spare=40)
    rng = np.random.default_rng(index.dim)
    for vector in rng.standard_normal((40, index.dim)).astype(np.float32):
        index.append(vector)
    masks = [rng.random(index.count) < share for share in (0.6, 0.15, 0.1, 0.01)]
    filters = [None, *masks, *map(index.filter, masks)]
    deny = rng.choice(index.count, 30).astype(np.int32)
    digest = hashlib.sha256()
    for query in rng.standard_normal((6, index.dim)).astype(np.float32):
        for allow in filters:
            for k, effort, mode in ((1, 2, "budget"), (20, None, "recall"), (300, index.count, "budget")):
                for breadth in (1.0, 3.0):
                    for part in index._search(query, k, effort, allow, deny, mode, breadth=breadth)[:2]:
                        digest.update(part.tobytes())
    print(path, digest.hexdigest())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_gives_the_same_bits(tmp_path, kind):
    """Other processes, because the level is chosen at load; they also map the file this one has mapped."""
    graph_needs_hnswlib(kind)
    paths = []
    for dim in (1, 7, 16, 31, 50, 64, 65, 100, 200):
        rng = np.random.default_rng(dim)
        vectors = rng.standard_normal((1_235, dim)).astype(np.float32)
        for metric in METRICS:
            paths.append(str(tmp_path / f"{metric}.{dim}"))
            VectorIndex.build(vectors, paths[-1], metric=metric, kind=kind, k=10, recall=0.7, queries=vectors[:4])
    answers = {
        level: subprocess.run(
            [sys.executable, "-c", DIGEST, *paths], capture_output=True, check=True, text=True,
            env={**os.environ, "PAIREC_ISA": level},
        ).stdout.splitlines()
        for level in isas()
    }  # fmt: skip
    for level, lines in answers.items():
        assert lines == answers["baseline"], level
    assert len(answers["baseline"]) == len(paths)


@pytest.mark.parametrize("kind", KINDS)
def test_small_input_builds_the_same_file_twice(tmp_path, kind):
    graph_needs_hnswlib(kind)
    vectors = clustered(np.random.default_rng(4), 600)
    for name in "ab":
        VectorIndex.build(vectors, tmp_path / name, kind=kind, k=10, metric="l2")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "temporary files stay behind"


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_leave_no_trace_in_the_file(tmp_path, monkeypatch, kind):
    """A memory map that does not fit into memory is read in pieces, the last of them odd."""
    graph_needs_hnswlib(kind)
    vectors = clustered(np.random.default_rng(8), 1_000)
    VectorIndex.build(vectors, tmp_path / "whole", kind=kind, k=10, metric="l2", queries=vectors[:20])
    monkeypatch.setattr(index_build, "CHUNK", 48)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    seen = []
    VectorIndex.build(
        mapped, tmp_path / "pieces", kind=kind, k=10, metric="l2", queries=vectors[:20],
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    assert seen[-1] == (1_000, 1_000)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_threads_building_a_larger_graph_reach_the_recall_too(tmp_path, monkeypatch):
    """Inserted by several threads, nodes are not numbered like rows: every link must be renamed."""
    pytest.importorskip("hnswlib")
    monkeypatch.setattr(index_graph, "THREADLESS_MAX", 10)
    monkeypatch.setattr(index_graph, "CHUNK", 512)
    vectors = clustered(np.random.default_rng(8), 4_050)
    queries = vectors[4_000:]
    index = made(tmp_path / "index", vectors[:4_000], metric="l2", kind="hnsw", k=10, queries=queries)
    assert index.strategy(queries[0], 10) == "walk"
    assert recall(index, vectors[:4_000], queries, 10) >= 0.95
    np.testing.assert_allclose(index.vector(17), vectors[17], atol=np.abs(vectors).max() / 127 / 256)


def test_auto_is_the_kind_that_was_fastest(tmp_path, monkeypatch):
    monkeypatch.setattr(index_build, "FLAT_MAX", 1_000)
    vectors = clustered(np.random.default_rng(9), 1_001)
    assert set(VectorIndex.build(vectors[:1_000], tmp_path / "few", k=10)) == {"flat"}
    measured = VectorIndex.build(vectors, tmp_path / "more", k=10, queries=vectors[:20])
    assert {"flat", "partition"} <= set(measured) <= set(KINDS)
    assert VectorIndex.load(tmp_path / "more").kind == min(measured, key=lambda kind: measured[kind])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few", "more"], "temporary files stay behind"


def test_what_cannot_be_indexed_is_refused_and_leaves_no_file(tmp_path):
    good = np.ones((4, 3), np.float32)

    def with_row(row, value):
        vectors = good.copy()
        vectors[row] = value
        return vectors

    for vectors, options, message in (
        (good[0], {}, r"shape \(3,\)"),
        (good.tolist(), {}, "got list"),
        (good.astype(np.float64), {}, "float32, got float64"),
        (good[:0], {}, r"\(0, 3\)"),
        (good[:, :0], {}, r"\(4, 0\)"),
        (with_row(2, np.nan), {}, "row 2 is not finite"),
        (with_row(3, np.inf), {}, "row 3 is not finite"),
        (with_row(1, 1e30), {}, "row 1 is .* long"),
        (with_row(1, 0), {"metric": "cosine"}, "row 1 is zero"),
        (good, {"metric": "dot"}, "ip, cosine, l2; got 'dot'"),
        (good, {"kind": "tree"}, "auto, flat, hnsw, partition; got 'tree'"),
        (good, {"k": 0}, "k must be positive"),
        (good, {"recall": 1.5}, "recall must be"),
        (good, {"recall": 0}, "recall must be"),
        (good, {"seed": -1}, "seed"),
        (good, {"queries": np.ones((2, 4), np.float32)}, "dim 4, vectors 3"),
        (good, {"queries": with_row(1, np.nan)}, "queries: row 1"),
        (good, {"graph": "items.hnsw"}, "graph is a file of kind \"hnsw\", not of kind 'auto'"),
    ):
        with pytest.raises(ValueError, match=message):
            VectorIndex.build(vectors, tmp_path / "index", **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_asked_is_refused(small, tmp_path):
    index = VectorIndex.load(small)
    query = np.ones(DIM, np.float32)
    for arguments, error, message in (
        ((query.astype(np.float64),), TypeError, "float32, got float64"),
        ((query[:5],), ValueError, r"\(16,\), got \(5,\)"),
        ((query[None],), ValueError, r"\(1, 16\)"),
        ((query * np.float32(np.nan),), ValueError, "finite, got nan at 0"),
        ((query * np.float32(1e20),), ValueError, "long"),
        ((query, 0), ValueError, "k must be positive, got 0"),
        ((query, 2.5), TypeError, "float"),
        ((query, 5, 0), ValueError, "effort must be positive, got 0"),
        ((query, 5, None, [True] * 600), TypeError, "or a Filter; got list"),
        ((query, 5, None, np.ones(600)), TypeError, "got float64"),
        ((query, 5, None, np.ones(599, bool)), ValueError, r"\(600,\), got \(599,\)"),
        ((query, 5, None, np.ones(601, bool)), ValueError, r"\(600,\), got \(601,\)"),
        ((query, 5, None, None, [1]), TypeError, "int32, got list"),
        ((query, 5, None, None, np.array([1])), TypeError, "int32, got int64"),
        ((query, 5, None, None, np.int32([[1]])), TypeError, "deny"),
        ((query, 5, None, None, np.int32([1, 600])), ValueError, r"deny\[1\] is 600; rows here are 0 to 599"),
        ((query, 5, None, None, np.int32([-1])), ValueError, r"deny\[0\] is -1"),
        ((query, 5, None, None, None, "best"), ValueError, "mode must be budget or recall, got 'best'"),
    ):
        with pytest.raises(error, match=message):
            index.search(*arguments)
        with pytest.raises(error, match=message):
            index.strategy(*arguments)
    other = VectorIndex.load(small)
    with pytest.raises(ValueError, match="Filter of another index"):
        index.search(query, 5, None, other.filter(np.ones(600, bool)))
    cosine = made(tmp_path / "cosine", np.ones((2, 3), np.float32), metric="cosine")
    with pytest.raises(ValueError, match="query is zero"):
        cosine.search(np.zeros(3, np.float32))
    np.testing.assert_allclose(np.linalg.norm(cosine.vector(0)), 1, rtol=1e-6)
    with pytest.raises(IndexError, match="0 to 1, got 2"):
        cosine.vector(2)
    for made_elsewhere, message in (
        (VectorIndex, r"VectorIndex\.load"),
        (Filter, r"VectorIndex\.filter"),
        (SearchScratch, "an index makes its own"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            made_elsewhere()


def test_strided_input_is_read_as_it_looks(tmp_path):
    vectors = clustered(np.random.default_rng(9), 50)
    wide = np.repeat(np.repeat(vectors, 2, axis=0), 2, axis=1)
    index = made(tmp_path / "index", wide[::2, ::2])
    query = wide[20, ::2]
    allow = np.zeros(100, bool)
    allow[:60] = True
    expected, _ = reference.nearest(vectors, vectors[10], 5, "ip", allow[::2])
    np.testing.assert_array_equal(index.search(query, 5, None, allow[::2])[0], expected)
    deny = np.repeat(expected[:2], 2)
    np.testing.assert_array_equal(index.search(query, 3, None, allow[::2], deny[::2])[0], expected[2:])


def test_results_outlive_the_index_and_properties_tell_what_was_built(small):
    index = VectorIndex.load(str(small))
    query = np.ones(DIM, np.float32)
    rows, scores = index.search(query, 7)
    kept = rows.copy(), scores.copy()
    assert (len(index), index.count, index.dim, index.metric, index.kind) == (600, 600, DIM, "ip", small.name)
    assert index.path == str(small) and 0 < index.recall_reached <= 1 <= index.effort <= 600
    index.search(-query, 7)
    allowed = index.filter(np.ones(600, bool))
    del index
    np.testing.assert_array_equal(rows, kept[0])
    np.testing.assert_array_equal(scores, kept[1])
    assert len(allowed) == 600
