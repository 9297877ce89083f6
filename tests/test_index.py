"""A vector index returns the nearest rows, the same ones on every machine, and refuses what it cannot search."""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from pairec_fast.core import index_build, index_file
from pairec_fast.core.index import SearchScratch, VectorIndex
from pairec_fast.core.simd import isas
from pairec_fast.errors import SnapshotError
from tests import reference

METRICS = ("ip", "cosine", "l2")
DIM = 16


def made(path, vectors, **options):
    VectorIndex.build(vectors, path, **options)
    return VectorIndex.load(path)


def clustered(rng, count, skew=0.0):
    """Clusters of uneven size around 40 centres; norms log-normal if skewed, as two-tower models make them."""
    centres = rng.standard_normal((40, DIM))
    vectors = centres[np.minimum(rng.zipf(1.3, count), 40) - 1] + 0.5 * rng.standard_normal((count, DIM))
    return (vectors * np.exp(skew * rng.standard_normal((count, 1)))).astype(np.float32)


def recall(index, queries, k, effort=None, allow=None):
    found = [index.search(query, k, effort, allow)[0] for query in queries]
    exact = [index.search(query, k, index.count, allow)[0] for query in queries]
    return np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)])


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A graph of 12,000 clustered vectors of uneven length, tuned for k = 50, and 100 queries it was not tuned on."""
    pytest.importorskip("hnswlib")
    rng = np.random.default_rng(3)
    vectors = clustered(rng, 12_200, skew=0.3)
    path = tmp_path_factory.mktemp("graph") / "items.index"
    index = made(path, vectors[:12_000], kind="hnsw", k=50, recall=0.9, queries=vectors[12_000:12_100])
    return index, vectors[:12_000], vectors[12_100:]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file of each kind, for the tests that damage or share it."""
    pytest.importorskip("hnswlib")
    directory = tmp_path_factory.mktemp("small")
    vectors = clustered(np.random.default_rng(4), 600)
    for kind in index_file.KINDS:
        VectorIndex.build(vectors, directory / kind, kind=kind, k=10)
    return directory


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
@pytest.mark.parametrize("kind", index_file.KINDS)
def test_ties_go_to_the_smaller_row_whatever_the_kind(tmp_path, metric, kind):
    """Few distinct vectors, so nearly every comparison is decided by row; zeros of both signs are equal."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(5)
    vectors = rng.integers(-1, 2, (400, 3)).astype(np.float32)
    vectors[vectors.any(axis=1) == 0] = 1
    index = made(tmp_path / "index", vectors, metric=metric, kind=kind, k=20)
    for query in np.float32([[1, 0, 0], [-1, 1, -0.0], [1, 1, 1]]):
        expected, _ = reference.nearest(vectors, query, 50, metric)
        np.testing.assert_array_equal(index.search(query, 50, 400)[0], expected)


@pytest.mark.parametrize("kind", index_file.KINDS)
def test_one_vector_and_identical_vectors_are_an_index(tmp_path, kind):
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    for count in (1, 300):
        index = made(tmp_path / "index", np.ones((count, 5), np.float32), kind=kind)
        for effort in (1, 1000):
            rows, scores = index.search(np.ones(5, np.float32), 40, effort)
            assert len(set(rows.tolist())) == min(40, count)
            assert (scores == 5).all()


def test_graph_reaches_its_recall_on_queries_it_was_not_tuned_on(graph):
    index, _, queries = graph
    assert index.kind == "hnsw"
    assert index.recall_reached >= 0.9
    assert 48 * index.effort < index.count, "the scan answered: this data no longer tests the walk"
    assert recall(index, queries, 50) >= 0.88


@pytest.mark.parametrize("metric", METRICS)
def test_effort_tuned_without_queries_holds_for_the_data(tmp_path, metric):
    pytest.importorskip("hnswlib")
    vectors = clustered(np.random.default_rng(6), 3_100, skew=0.3)
    index = made(tmp_path / "index", vectors[:3_000], metric=metric, kind="hnsw", k=10, recall=0.9)
    assert recall(index, vectors[3_000:], 10) >= 0.9


def test_twice_the_effort_finds_no_less_and_less_effort_finds_something(graph):
    index, _, queries = graph
    found = [recall(index, queries, 50, effort) for effort in (4, 8, 16, 32, 64, 128)]
    assert all(after >= before - 0.002 for before, after in itertools.pairwise(found)), found
    assert found[0] > 0.1
    assert found[-1] > 0.95


def test_graph_scores_have_the_bits_of_the_twin_and_are_sorted(graph):
    index, vectors, queries = graph
    for query in queries[:5]:
        rows, scores = index.search(query, 300, 50)
        every, score_of = reference.nearest(vectors, query, len(vectors), "ip")
        exact = np.empty(len(vectors), np.float32)
        exact[every] = score_of
        np.testing.assert_array_equal(scores, exact[rows])
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(300))


def test_more_than_a_walk_can_find_is_found_all_the_same(graph):
    index, vectors, queries = graph
    for k in (index.count - 1, index.count, index.count + 1, 2**40):
        rows, _ = index.search(queries[0], k, 1)
        assert len(set(rows.tolist())) == len(rows) == min(k, index.count)
        np.testing.assert_array_equal(rows, reference.nearest(vectors, queries[0], k, "ip")[0])


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.0, "one row", "all", "far half"])
def test_only_allowed_rows_and_as_many_as_there_are(graph, share):
    """The far half is what a walk from the query never comes by: it must not come short."""
    index, vectors, queries = graph
    rng = np.random.default_rng(7)
    for query in queries[:10]:
        if share == "one row":
            allow = np.arange(index.count) == rng.integers(index.count)
        elif share == "far half":
            allow = vectors @ query < np.median(vectors @ query)
        else:
            allow = rng.random(index.count) < (1.0 if share == "all" else share)
        expected, _ = reference.nearest(vectors, query, 50, "ip", allow)
        rows, _ = index.search(query, 50, None, allow)
        assert allow[rows].all()
        assert len(set(rows.tolist())) == len(rows) == min(50, allow.sum())
        assert np.isin(rows, expected).mean() > 0.6 if len(rows) else True
        exact, _ = index.search(query, 50, index.count, allow.view(np.uint8) * np.uint8(200))
        np.testing.assert_array_equal(exact, expected)
    if share in (0.5, 0.1):
        assert recall(index, queries, 50, None, allow) > 0.85


def test_many_threads_get_the_answers_of_one(graph):
    index, _, queries = graph
    allow = np.arange(index.count) % 2 == 0
    expected = [[index.search(query, k, 40, allow) for query in queries] for k in (5, 700, 50, 2000)]
    wrong = []

    def ask(number):
        k = (5, 700, 50, 2000)[number]
        for query, (rows, scores) in zip(queries, expected[number], strict=True):
            found, found_scores = index.search(query, k, 40, allow)
            if not (np.array_equal(found, rows) and np.array_equal(found_scores, scores)):
                wrong.append((k, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_level_gives_the_same_bits(graph):
    """Other processes, because the level is chosen at load; they also map the file this one has mapped."""
    index, _, queries = graph
    code = (
        "import sys, hashlib, numpy as np\n"
        "from pairec_fast.core.index import VectorIndex\n"
        "index = VectorIndex.load(sys.argv[1])\n"
        "digest = hashlib.sha256()\n"
        "for query in np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, index.dim):\n"
        "    for effort in (20, index.count):\n"
        "        for part in index.search(query, 200, effort): digest.update(part.tobytes())\n"
        "print(digest.hexdigest())\n"
    )
    digests = {
        level: subprocess.run(
            [sys.executable, "-c", code, index.path], input=queries[:40].tobytes(), capture_output=True, check=True,
            env={**os.environ, "PAIREC_ISA": level},
        ).stdout
        for level in isas()
    }  # fmt: skip
    assert len(set(digests.values())) == 1, digests


def test_small_input_builds_the_same_file_twice(small, tmp_path):
    vectors = clustered(np.random.default_rng(4), 600)
    for kind in index_file.KINDS:
        VectorIndex.build(vectors, tmp_path / kind, kind=kind, k=10)
        assert (tmp_path / kind).read_bytes() == (small / kind).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat", "hnsw"], "temporary files stay behind"


def test_threads_building_a_larger_graph_reach_the_recall_too(tmp_path, monkeypatch):
    """Inserted by several threads, nodes are not numbered like rows: every link must be renamed."""
    pytest.importorskip("hnswlib")
    monkeypatch.setattr(index_build, "THREADLESS_MAX", 10)
    monkeypatch.setattr(index_build, "CHUNK", 512)
    vectors = clustered(np.random.default_rng(8), 4_050)
    seen = []
    index_path = tmp_path / "index"
    VectorIndex.build(
        vectors[:4_000], index_path, metric="l2", kind="hnsw", k=10, queries=vectors[4_000:],
        progress=lambda *done: seen.append(done),
    )  # fmt: skip
    index = VectorIndex.load(index_path)
    assert seen[-1] == (4_000, 4_000)
    assert index.effort * 48 < 4_000
    assert recall(index, vectors[4_000:], 10) >= 0.95
    np.testing.assert_array_equal(index.vector(17), vectors[17])


@pytest.mark.parametrize("kind", index_file.KINDS)
def test_a_file_cut_short_or_grown_is_refused(small, tmp_path, kind):
    whole = (small / kind).read_bytes()
    bad = tmp_path / "bad"
    cuts = {*range(0, 600, 37), *range(0, len(whole), len(whole) // 20), len(whole) - 1}
    for data in [*(whole[:cut] for cut in sorted(cuts)), whole + b"\0"]:
        bad.write_bytes(data)
        for verify in (True, False):
            with pytest.raises(SnapshotError, match=r"bad.*bytes"):
                VectorIndex.load(bad, verify)


@pytest.mark.parametrize("kind", index_file.KINDS)
def test_a_flipped_byte_is_refused(small, tmp_path, kind):
    whole = (small / kind).read_bytes()
    bad = tmp_path / "bad"
    for at in [*range(index_file.HEADER_BYTES), *range(index_file.HEADER_BYTES, len(whole), 997), len(whole) - 1]:
        data = bytearray(whole)
        data[at] ^= 0x10
        bad.write_bytes(data)
        with pytest.raises(SnapshotError, match="bad"):
            VectorIndex.load(bad)
        if at < index_file.HEADER_BYTES:
            with pytest.raises(SnapshotError, match="bad"):
                VectorIndex.load(bad, verify=False)


def test_a_link_beyond_the_end_is_refused_though_the_checksums_hold(small, tmp_path):
    whole = bytearray((small / "hnsw").read_bytes())
    bad = tmp_path / "bad"
    _, (links, _), (upper, upper_bytes) = header_of(whole).sections
    assert upper_bytes > 0
    for offset, value in ((links, 600), (links + 4, -2), (upper, -1), (upper + 4, 600), (upper + 8, 600)):
        data = whole.copy()
        data[offset : offset + 4] = int(value).to_bytes(4, "little", signed=True)
        bad.write_bytes(data)
        index_build._seal(str(bad), dataclasses.replace(header_of(data), payload_crc=0))
        with pytest.raises(SnapshotError, match=f"bad: level .* links to {value}"):
            VectorIndex.load(bad)


def test_a_header_that_does_not_add_up_is_refused_though_its_checksum_holds(small, tmp_path):
    whole = (small / "hnsw").read_bytes()
    bad = tmp_path / "bad"
    header = header_of(whole)
    for change in (
        {"count": 10**9}, {"dim": 400}, {"degree": 65}, {"degree": 0}, {"entry": 10**6}, {"entry": -1},
        {"effort": 0}, {"level_nodes": (601,)}, {"level_nodes": (1,)}, {"upper_degree": -1}, {"kind": "flat"},
    ):  # fmt: skip
        bad.write_bytes(dataclasses.replace(header, **change).pack() + whole[index_file.HEADER_BYTES :])
        with pytest.raises(SnapshotError, match="bad"):
            VectorIndex.load(bad)


def test_foreign_files_other_versions_and_missing_files_are_named(small, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x93NUMPY" + bytes(1000))
    with pytest.raises(SnapshotError, match="bad is not a vector index"):
        VectorIndex.load(bad)
    data = bytearray((small / "flat").read_bytes())
    data[8] = 9
    bad.write_bytes(data)
    with pytest.raises(SnapshotError, match=r"version 9 .* reads version 1"):
        VectorIndex.load(bad)
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(SnapshotError, match=str(path)):
            VectorIndex.load(path)


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
        (good, {"kind": "partition"}, "flat or hnsw; got 'partition'"),
        (good, {"k": 0}, "k must be positive"),
        (good, {"recall": 1.5}, "recall must be"),
        (good, {"seed": -1}, "seed"),
        (good, {"queries": np.ones((2, 4), np.float32)}, "dim 4, vectors 3"),
        (good, {"queries": with_row(1, np.nan)}, "queries: row 1"),
    ):
        with pytest.raises(ValueError, match=message):
            VectorIndex.build(vectors, tmp_path / "index", **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_asked_is_refused(small, tmp_path):
    index = VectorIndex.load(small / "hnsw")
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
        ((query, 5, None, [True] * 600), TypeError, "bool or uint8, got list"),
        ((query, 5, None, np.ones(600)), TypeError, "got float64"),
        ((query, 5, None, np.ones(599, bool)), ValueError, r"\(600,\), got \(599,\)"),
    ):
        with pytest.raises(error, match=message):
            index.search(*arguments)
    cosine = made(tmp_path / "cosine", np.ones((2, 3), np.float32), metric="cosine")
    with pytest.raises(ValueError, match="query is zero"):
        cosine.search(np.zeros(3, np.float32))
    np.testing.assert_allclose(np.linalg.norm(cosine.vector(0)), 1, rtol=1e-6)
    with pytest.raises(IndexError, match="0 to 1, got 2"):
        cosine.vector(2)
    with pytest.raises(TypeError, match=r"VectorIndex\.load"):
        VectorIndex()
    with pytest.raises(ValueError, match="pool_max"):
        SearchScratch(5, 0)


def test_strided_input_is_read_as_it_looks(tmp_path):
    vectors = clustered(np.random.default_rng(9), 50)
    wide = np.repeat(np.repeat(vectors, 2, axis=0), 2, axis=1)
    index = made(tmp_path / "index", wide[::2, ::2])
    query = wide[20, ::2]
    allow = np.zeros(100, bool)
    allow[:60] = True
    expected, _ = reference.nearest(vectors, vectors[10], 5, "ip", allow[::2])
    np.testing.assert_array_equal(index.search(query, 5, None, allow[::2])[0], expected)


def test_results_outlive_the_index_and_properties_tell_what_was_built(small):
    index = VectorIndex.load(str(small / "flat"))
    query = np.ones(DIM, np.float32)
    rows, scores = index.search(query, 7)
    kept = rows.copy(), scores.copy()
    assert (len(index), index.count, index.dim, index.metric, index.kind) == (600, 600, DIM, "ip", "flat")
    assert (index.effort, index.recall_reached, index.path) == (600, 1.0, str(small / "flat"))
    index.search(-query, 7)
    del index
    np.testing.assert_array_equal(rows, kept[0])
    np.testing.assert_array_equal(scores, kept[1])


def header_of(data):
    with mmap.mmap(-1, len(data)) as memory:
        memory.write(bytes(data))
        return index_file.read_header("whole", memory)
