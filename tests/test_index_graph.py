"""A graph that hnswlib saved becomes an index, if it is one of these vectors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pairec_fast.core.index import VectorIndex
from pairec_fast.core.index_graph import HEAD, Grown
from tests.indexes import DIM, METRICS, clustered, made, recall

hnswlib = pytest.importorskip("hnswlib")

COUNT = 3_000


@pytest.fixture(scope="module")
def data():
    vectors = clustered(np.random.default_rng(1), COUNT + 60, skew=0.2)
    return vectors[:COUNT], vectors[COUNT:]


def grown(path, vectors, space="l2", rows=None, capacity=None, m=16, delete=()):
    """A file saved by hnswlib, of vectors inserted in the order of `rows`."""
    rows = np.arange(len(vectors)) if rows is None else rows
    graph = hnswlib.Index(space=space, dim=vectors.shape[1])
    graph.init_index(capacity or len(vectors), M=m, ef_construction=100, random_seed=1)
    graph.add_items(vectors[rows], rows, num_threads=1)
    for row in delete:
        graph.mark_deleted(row)
    graph.save_index(str(path))
    return path


def test_three_vectors_by_hand(tmp_path):
    vectors = np.float32([[1, 0], [0, 2], [3, 1]])
    file = grown(tmp_path / "graph", vectors, rows=np.array([2, 0, 1]))
    links = Grown(str(file), 3, (2,)).links(0, 3)
    assert [set(row.tolist()) - {-1} for row in links] == [{1, 2}, {0, 2}, {0, 1}]
    index = made(tmp_path / "index", vectors, kind="hnsw", graph=file)
    assert index.search(np.float32([1, 1]))[0].tolist() == [2, 1, 0]
    assert (index.kind, index.count) == ("hnsw", 3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("order", ["as they are", "permuted"])
@pytest.mark.parametrize("capacity", [COUNT, COUNT + 777])
def test_an_imported_graph_finds_what_one_grown_here_does(tmp_path, data, metric, order, capacity):
    """hnswlib numbers nodes as they were inserted; a file holds `capacity` only in its head."""
    vectors, queries = data
    rows = np.random.default_rng(2).permutation(COUNT) if order == "permuted" else None
    file = grown(tmp_path / "graph", vectors, metric, rows, capacity)
    before = file.read_bytes()
    options = {"metric": metric, "kind": "hnsw", "k": 10, "recall": 0.9, "queries": queries[:30]}
    index = made(tmp_path / "index", vectors, graph=str(file), **options)
    assert index.strategy(queries[40], 10) == "walk"
    assert recall(index, vectors, queries[30:], 10) > 0.82
    assert recall(index, vectors, queries[30:], 10, 200) > (0.9 if metric == "ip" else 0.97), "links were renamed"
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph", "index"]
    norms = np.linalg.norm(vectors, axis=1, keepdims=True) if metric == "cosine" else 1
    np.testing.assert_allclose(index.vector(77), (vectors / norms)[77], atol=np.abs(vectors).max() / 127 / 256)


def test_a_graph_of_vectors_made_equally_long(tmp_path, data):
    """For inner products, with one more dim: as the ones that are grown here."""
    vectors, queries = data
    square = (vectors.astype(np.float64) ** 2).sum(axis=1)
    longer = np.column_stack([vectors, np.sqrt(square.max() - square)]).astype(np.float32)
    file = grown(tmp_path / "graph", longer)
    index = made(tmp_path / "index", vectors, kind="hnsw", k=10, queries=queries[:30], graph=file)
    assert recall(index, vectors, queries[30:], 10) > 0.88


@pytest.mark.parametrize("m", [2, 5, 32])
def test_graphs_of_other_degrees(tmp_path, data, m):
    vectors, queries = data
    file = grown(tmp_path / "graph", vectors[:700], m=m)
    index = made(
        tmp_path / "index", vectors[:700], metric="l2", kind="hnsw", k=10, queries=queries[:20], graph=file, recall=0.8
    )
    assert len(index.search(queries[0], 700)[0]) == 700
    assert recall(index, vectors[:700], queries[20:], 10, 300) > 0.8


def refused(tmp_path, file, vectors, message):
    target = tmp_path / "index"
    with pytest.raises((ValueError, OSError), match=message):
        VectorIndex.build(vectors, target, metric="l2", kind="hnsw", k=10, graph=file)
    assert not [path for path in tmp_path.iterdir() if path.name not in ("graph", "bad")], "files stay behind"


def test_other_vectors_counts_and_dims_are_named(tmp_path, data):
    vectors, _ = data
    file = grown(tmp_path / "graph", vectors[:500])
    refused(tmp_path, file, vectors[:499], "graph: holds 500 vectors, not the 499 given")
    refused(tmp_path, file, vectors[:501], "graph: holds 500 vectors, not the 501 given")
    refused(tmp_path, file, vectors[:500, :15].copy(), "graph: vectors of 16 dims; 15 would be right")
    with pytest.raises(ValueError, match="graph: vectors of 16 dims; 14 or 15 would be right"):
        VectorIndex.build(vectors[:500, :14].copy(), tmp_path / "index", kind="hnsw", graph=file)
    refused(tmp_path, file, vectors[500:1_000], "graph: row 0 is another vector there than the one given")
    other = vectors[:500].copy()
    other[433, 15] += 1
    refused(tmp_path, file, other, "graph: row 433 is another vector")
    refused(tmp_path, file, vectors[499::-1].copy(), "is another vector")


def test_labels_that_are_not_rows_and_deleted_nodes_are_refused(tmp_path, data):
    vectors, _ = data
    file = grown(tmp_path / "graph", vectors[:500], delete=[3, 400])
    refused(tmp_path, file, vectors[:500], "graph: node 3 is marked as deleted; build it anew")
    graph = hnswlib.Index(space="l2", dim=DIM)
    graph.init_index(500)
    graph.add_items(vectors[:500], np.arange(500) * 2)
    graph.save_index(str(file))
    refused(tmp_path, file, vectors[:500], "graph: labels are not the rows 0 to 499, each once")


def test_more_links_than_a_node_may_have_are_refused(tmp_path, data):
    file = grown(tmp_path / "graph", data[0][:200], m=33)
    refused(tmp_path, file, data[0][:200], "more than 64 links a node")


def test_garbage_is_named(tmp_path, data):
    bad = tmp_path / "bad"
    rng = np.random.default_rng(3)
    for content in (b"", b"\0" * 95, b"\0" * 5_000, b"\xff" * 5_000, b"PAIRECVI" * 900, rng.bytes(200_000)):
        bad.write_bytes(content)
        refused(tmp_path, bad, data[0][:500], "bad: ")
    refused(tmp_path, tmp_path / "missing", data[0][:500], "missing")


def test_a_file_cut_short_grown_or_altered_is_refused_or_harmless(tmp_path, data):
    """There is no checksum in such a file: what passes must still make an index that loads and searches."""
    vectors = data[0][:500]
    file, bad = grown(tmp_path / "graph", vectors), tmp_path / "bad"
    whole = file.read_bytes()
    for size in (0, 50, HEAD.itemsize, HEAD.itemsize + 1, len(whole) // 2, len(whole) - 2_500, len(whole) - 4):
        bad.write_bytes(whole[:size])
        refused(tmp_path, bad, vectors, "bad: ")
    bad.write_bytes(whole + bytes(4))
    refused(tmp_path, bad, vectors, "bad: 1 words after the last node")
    rng = np.random.default_rng(4)
    opened = 0
    for turn in range(80):
        data_ = bytearray(whole)
        # Of the head, of a node's links, of the upper levels.
        at = [rng.integers(HEAD.itemsize), HEAD.itemsize + rng.integers(130), len(whole) - 1 - rng.integers(2_000)][
            turn % 3
        ]
        data_[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(data_)
        target = tmp_path / "index"
        try:
            VectorIndex.build(vectors, target, metric="l2", kind="hnsw", k=10, graph=bad, queries=vectors[:3])
        except ValueError as error:
            assert "bad: " in str(error)
            continue
        opened += 1
        assert len(VectorIndex.load(target).search(vectors[0], 500)[0]) == 500
    assert opened


def test_links_that_lead_nowhere_are_refused(tmp_path, data):
    vectors = data[0][:500]
    whole = grown(tmp_path / "graph", vectors).read_bytes()
    bad = tmp_path / "bad"
    for offset, value in ((4, 500), (4, 2**32 - 1), (0, 33), (0, 0xFFFF)):
        data_ = bytearray(whole)
        size = 4 if offset else 2
        data_[HEAD.itemsize + offset : HEAD.itemsize + offset + size] = value.to_bytes(size, "little")
        bad.write_bytes(data_)
        refused(tmp_path, bad, vectors, "bad: a neighbour list leads nowhere")


def test_a_graph_is_imported_without_hnswlib(tmp_path, data, monkeypatch):
    vectors, queries = data
    file = grown(tmp_path / "graph", vectors[:500])
    monkeypatch.setitem(sys.modules, "hnswlib", None)
    with pytest.raises(ImportError, match=r"pip install 'pairec_fast\[learn\]'"):
        VectorIndex.build(vectors[:500], tmp_path / "index", kind="hnsw")
    index = made(tmp_path / "index", vectors[:500], kind="hnsw", k=10, queries=queries[:5], graph=file, metric="l2")
    assert len(index.search(queries[0], 10)[0]) == 10
