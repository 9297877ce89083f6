"""A prepared filter of a partition index scans an excerpt: the codes of what it allows, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pairec_fast.core import VectorIndex
from tests import reference
from tests.indexes import METRICS, clustered, header_of, made, recalls, sections_of, truth

COUNT = 4_000


@pytest.fixture(scope="module")
def data():
    vectors = clustered(np.random.default_rng(31), COUNT + 60, skew=0.3)
    return vectors[:COUNT], vectors[COUNT:]


@pytest.fixture(scope="module")
def path(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("excerpt") / "index"
    made(path, data[0], kind="partition", k=20, recall=0.9, queries=data[1][:30])
    return path


@pytest.fixture
def index(path):
    return VectorIndex.load(path, spare=32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 8, 9, 50, 64, 65, 130])
def test_its_passes_keep_what_their_twins_keep(tmp_path, metric, dim):
    """Of all lists. A base of 8 bits leads the first two passes, that of the last is in float."""
    k, count = 20, 1_200
    rng = np.random.default_rng(dim)
    vectors = (rng.standard_normal((count, dim)) * np.exp(0.5 * rng.standard_normal((count, 1)))).astype(np.float32)
    index = made(tmp_path / "index", vectors, metric=metric, kind="partition", k=k, queries=vectors[:5], recall=0.8)
    whole = bytearray(Path(index.path).read_bytes())
    header, parts = header_of(whole), sections_of(whole)
    place, of = parts["place"], np.repeat(parts["list"], 16)[parts["place"]]
    words = reference.plane_words(parts["rows"][:, 0], parts["rows"][:, 1])[place]
    nibbles = reference.block_codes(parts["codes"], 4)[place]
    centres = reference.block_codes(parts["centroid_codes"], 8)[: len(parts["size"])]
    l2 = metric == "l2"
    twice, bias = np.float32(2 if l2 else 1), parts["bias"][place] if l2 else np.zeros(count, np.float32)
    keep = int(header.keep * k) + 64
    allowed = np.flatnonzero(rng.random(count) < 0.18).astype(np.int32)
    assert keep < len(allowed) <= count // 5, "the first pass leaves something out"
    filter_ = index.filter(allowed)
    for query in reference.prepared(rng.standard_normal((4, dim)).astype(np.float32), metric):
        codes, unit = reference.query_codes(query)
        wide = np.zeros(header.width, np.float32)
        wide[:dim] = query
        near = ((centres[:, :dim] @ codes).astype(np.float32) * (twice * unit * np.float32(header.centroid_scale)))[of]
        base = (twice * reference.folded(wide * parts["centroids"]))[of]
        dots = (nibbles[:, :dim] @ codes).astype(np.float32) - np.float32(7.5) * np.float32(codes.sum())
        by4 = dots * (twice * unit * parts["scale4"][of]) + near + bias
        high = parts["rows"][place, 0, :dim].astype(np.int64) @ codes
        by8 = high.astype(np.float32) * (twice * unit * parts["scale8"][of]) + base + bias
        by16 = reference.nearest_by_planes(query, words, parts["scale8"][of], base, -bias if l2 else None)
        rows, scores = index.search(query, k, count, filter_)
        assert index.strategy(query, k, count, filter_) == "excerpt"
        np.testing.assert_array_equal(scores, by16[rows])
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(k))
        assert np.isin(rows, allowed).all()
        rank4, rank8, rank16 = (np.argsort(np.argsort(-score[allowed], kind="stable")) for score in (by4, by8, by16))
        found = np.searchsorted(allowed, rows)
        assert (rank4[found] < keep + keep // 16 + 1).all()
        certain = np.flatnonzero((rank4 < keep) & (rank8 < k + k // 8 + 16) & (rank16 < k))
        assert np.isin(certain, found).all()


def test_who_gets_one(index, data):
    """Between 1 in 256 and a fifth; and it is scanned where it holds more rows than the first pass would keep."""
    query, rng = data[1][0], np.random.default_rng(1)

    def strategy(count, k=20):
        return index.strategy(query, k, None, index.filter(rng.permutation(COUNT)[:count].astype(np.int32)))

    assert [strategy(count) for count in (10, 40, 801, 2_000)] == ["list", "list", "partitions", "partitions"]
    assert [strategy(count) for count in (300, 800)] == ["excerpt", "excerpt"]
    assert strategy(300, k=250) == "list", "all of it would be kept"
    assert index.strategy(query, 20, None, np.arange(COUNT) % 8 == 0) == "partitions", "a mask is used once"


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2])
def test_it_finds_as_much_as_a_search_of_all_lists_would(index, data, share):
    vectors, queries = data
    mask = np.random.default_rng(2).random(COUNT) < share
    mask[np.flatnonzero(mask)[COUNT // 5 :]] = False
    filter_ = index.filter(mask)
    exact = truth(vectors, queries, 20, "ip", mask)
    found = {
        mode: recalls([index.search(query, 20, None, filter_, None, mode)[0] for query in queries], exact).mean()
        for mode in ("budget", "recall")
    }
    assert found["budget"] > 0.9 and found["recall"] >= found["budget"], found
    assert recalls([index.search(query, 20, COUNT, filter_)[0] for query in queries], exact).mean() > 0.97


def test_rows_far_from_the_query_are_searched_as_well(index, data):
    """The lists that promise most hold nothing that is allowed: those do not use up the work."""
    vectors, queries = data
    found, by_mask = [], []
    for query in queries:
        far = np.argsort(vectors @ query, kind="stable")[:200].astype(np.int32)
        filter_, mask = index.filter(far), np.isin(np.arange(COUNT), far)
        exact = reference.nearest(vectors, query, 20, "ip", mask)[0]
        assert index.strategy(query, 20, None, filter_) == index.strategy(query, 20, 1, filter_) == "excerpt"
        found.append(np.isin(exact, index.search(query, 20, None, filter_)[0]).mean())
        by_mask.append(np.isin(exact, index.search(query, 20, None, mask)[0]).mean())
        rows, scores = index.search(query, 20, 1, filter_)
        assert len(rows) == 20 and np.isin(rows, far).all() and (np.diff(scores) <= 0).all()
    assert np.mean(found) > 0.7 and np.mean(found) > np.mean(by_mask) - 0.05, (np.mean(found), np.mean(by_mask))


def test_denied_and_removed_rows_take_no_place_in_a_pass(index, data):
    """More of the best are denied, and then removed, than the first pass keeps."""
    vectors, queries = data
    mask = np.random.default_rng(3).random(COUNT) < 0.15
    filter_ = index.filter(mask)
    best = reference.nearest(vectors, queries[0], 200, "ip", mask)[0]
    exact = reference.nearest(vectors, queries[0], 220, "ip", mask)[0][200:]
    rows = index.search(queries[0], 20, COUNT, filter_, best)[0]
    assert not np.isin(rows, best).any() and np.isin(exact, rows).mean() > 0.9
    for row in best:
        index.remove(int(row))
    again = index.search(queries[0], 20, COUNT, filter_)[0]
    assert not np.isin(again, best).any() and np.isin(exact, again).mean() > 0.9
    np.testing.assert_array_equal(index.search(queries[0], 20, COUNT, index.filter(mask))[0], again)


def test_appended_rows_come_beside_it(index, data):
    queries = data[1]
    filter_ = index.filter(np.arange(0, COUNT, 6).astype(np.int32))
    row = index.append(4 * queries[0])
    assert row not in index.search(queries[0], 20, None, filter_)[0]
    filter_.add(row)
    assert index.search(queries[0], 20, None, filter_)[0][0] == row


def test_values_of_a_column_that_are_common_get_one(index, data):
    values = (np.arange(COUNT) % 7).astype(np.float32)
    lists = index.grouped(np.arange(COUNT, dtype=np.int32), values)
    for at in lists.common():
        assert index.strategy(data[1][0], 20, None, lists.filter(at)) == "excerpt"
        rows, _ = index.search(data[1][0], 20, COUNT, lists.filter(at))
        assert (values[rows] == lists.values[at]).all()
