"""What a file holds of a vector, in blocks and planes, and what searches make of it: the same as their slow twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests import reference
from tests.indexes import METRICS, header_of, made, recalls, sections_of, truth

DIMS = (1, 7, 8, 9, 31, 32, 33, 64, 65, 130)


def built(path, metric, kind, dim, count=600, k=10):
    """An index of vectors of uneven length, its vectors, and what is in the file."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(dim)
    vectors = (rng.standard_normal((count, dim)) * np.exp(0.5 * rng.standard_normal((count, 1)))).astype(np.float32)
    index = made(path, vectors, metric=metric, kind=kind, k=k, queries=vectors[:5], recall=0.8)
    data = bytearray(Path(index.path).read_bytes())
    stored = reference.prepared(vectors, metric)
    return index, stored, header_of(data), sections_of(data)


def queries_of(dim, metric):
    return reference.prepared(np.random.default_rng(dim + 1).standard_normal((4, dim)).astype(np.float32), metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
def test_blocks_of_a_flat_file_hold_the_nearest_codes(tmp_path, metric, dim):
    _, stored, header, parts = built(tmp_path / "index", metric, "flat", dim)
    codes = reference.block_codes(parts["codes"], 8)
    assert codes.shape == (608, header.quads * 4)
    assert (codes[:600, dim:] == 0).all() and (codes[600:] == 0).all()
    scale = parts["scale"][:600, None].astype(np.float64)
    np.testing.assert_array_equal(scale[:, 0].astype(np.float32), np.abs(stored).max(axis=1) / np.float32(127))
    np.testing.assert_array_equal(codes[:600, :dim], np.clip(np.rint(stored / scale), -127, 127))
    off = np.linalg.norm(stored / scale - codes[:600, :dim], axis=1)
    assert off.max() <= header.error * (1 + 1e-6) and header.error <= off.max() * (1 + 1e-6)
    span = np.linalg.norm(stored / scale, axis=1).max()
    assert span <= header.span * (1 + 1e-6) and header.span <= span * (1 + 1e-6)
    assert np.linalg.norm(stored.astype(np.float64), axis=1).max() <= header.longest * (1 + 1e-7)
    if metric == "l2":
        square = (stored.astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_array_equal(parts["bias"][:600], -square.astype(np.float32))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
def test_places_of_a_partition_hold_what_is_left_of_a_centroid(tmp_path, metric, dim):
    _, stored, header, parts = built(tmp_path / "index", metric, "partition", dim)
    place, row, of = parts["place"], parts["row"], np.repeat(parts["list"], 16)
    assert (np.diff(row.reshape(-1, 16), axis=1)[(row.reshape(-1, 16) >= 0)[:, 1:]] > 0).all(), "rows of a list ascend"
    rest = stored - parts["centroids"][of[place], :dim]
    gap = ((stored[:, None].astype(np.float64) - parts["centroids"][:, :dim]) ** 2).sum(axis=2)
    np.testing.assert_allclose(gap[np.arange(600), of[place]], gap.min(axis=1), rtol=1e-4, atol=1e-6)
    scale8, scale4 = parts["scale8"][of[place], None], parts["scale4"][of[place], None]
    words = reference.plane_words(parts["rows"][:, 0], parts["rows"][:, 1])[place]
    assert (words[:, dim:] == 0).all()
    assert (np.abs(words[:, :dim] * np.float64(scale8) / 256 - rest) <= scale8 / 256 * 0.501 + 1e-12).all()
    nibbles = reference.block_codes(parts["codes"], 4)[place]
    assert (nibbles[:, dim:] == 0).all()
    exact = np.clip(rest / np.float64(scale4) + 7.5, 0, 15)
    assert (np.abs(nibbles[:, :dim] - exact) <= 0.501).all()
    centroids = reference.block_codes(parts["centroid_codes"], 8)[: len(parts["size"]), :dim]
    assert (
        np.abs(centroids * header.centroid_scale - parts["centroids"][:, :dim]) <= header.centroid_scale * 0.501
    ).all()
    if metric == "l2":
        square = (stored.astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_allclose(parts["bias"][place], -square, rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
def test_scores_of_a_graph_have_the_bits_of_the_twin(tmp_path, metric, dim):
    index, stored, header, parts = built(tmp_path / "index", metric, "hnsw", dim)
    words = reference.plane_words(parts["high"], parts["low"])
    assert (np.abs(words[:, :dim] * header.scale / 256 - stored) <= header.scale / 256 * 0.501).all()
    rows_all = np.arange(600, dtype=np.int32)
    for query in queries_of(dim, metric):
        score = reference.nearest_by_planes(query, words, header.scale, None, parts.get("square"))
        for k, effort, allow in ((600, None, None), (30, 3, None), (600, None, rows_all % 7 == 0)):
            rows, scores = index.search(query, k, effort, allow)
            np.testing.assert_array_equal(scores, score[rows])
            np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(len(rows)))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
def test_three_passes_of_a_partition_keep_what_their_twins_keep(tmp_path, metric, dim):
    """Of the rows that are among the best of every pass, none is missing; none is there that 4 bits left out."""
    k = 20
    index, _, header, parts = built(tmp_path / "index", metric, "partition", dim, 600, k)
    place, of = parts["place"], np.repeat(parts["list"], 16)[parts["place"]]
    words = reference.plane_words(parts["rows"][:, 0], parts["rows"][:, 1])[place]
    nibbles = reference.block_codes(parts["codes"], 4)[place]
    l2 = metric == "l2"
    twice, bias = np.float32(2 if l2 else 1), parts["bias"][place] if l2 else np.float32(0)
    keep = int(header.keep * k) + 64
    assert keep < 400, "the first pass leaves something out"
    for query in queries_of(dim, metric):
        codes, unit = reference.query_codes(query)
        wide = np.zeros(header.width, np.float32)
        wide[:dim] = query
        base = (twice * reference.folded(wide * parts["centroids"]))[of]
        step4, step8 = twice * unit * parts["scale4"][of], twice * unit * parts["scale8"][of]
        middle = np.float32(7.5) * np.float32(codes.sum())
        by4 = ((nibbles[:, :dim] @ codes).astype(np.float32) - middle) * step4 + base + bias
        high = parts["rows"][place, 0, :dim].astype(np.int64)
        by8 = (high @ codes).astype(np.float32) * step8 + base + bias
        by16 = reference.nearest_by_planes(query, words, parts["scale8"][of], base, -bias if l2 else None)
        rows, scores = index.search(query, k, 10 * 600)
        np.testing.assert_array_equal(scores, by16[rows])
        np.testing.assert_array_equal(np.lexsort((rows, -scores)), np.arange(k))
        rank4, rank8, rank16 = (np.argsort(np.argsort(-score, kind="stable")) for score in (by4, by8, by16))
        assert (rank4[rows] < keep + keep // 16 + 1).all()
        certain = np.flatnonzero((rank4 < keep) & (rank8 < k + k // 8 + 16) & (rank16 < k))
        assert np.isin(certain, rows).all()
        few = np.isin(np.arange(600), rows)
        looked_up, same = index.search(query, k, 600, few)
        assert index.strategy(query, k, 600, few) == "list"
        np.testing.assert_array_equal(looked_up, rows)
        np.testing.assert_array_equal(same, scores)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", DIMS)
def test_blocks_lie_around_their_centres_and_those_that_promise_most_are_scanned(tmp_path, metric, dim):
    """All lists are looked at; no row of a block comes back that its centre should have left out."""
    index, stored, header, parts = built(tmp_path / "index", metric, "partition", dim, 600, 20)
    held = parts["row"].reshape(-1, 16) >= 0
    rest = np.where(held[..., None], stored[parts["row"]].reshape(*held.shape, dim), np.float32(0))
    rest = np.where(held[..., None], rest - parts["centroids"][parts["list"], None, :dim], 0).astype(np.float64)
    count = held.sum(axis=1)
    mean = rest.sum(axis=1) / count[:, None]
    off = np.where(held[..., None], rest - mean[:, None], 0)
    spread = np.sqrt((off**2).sum(axis=(1, 2)) / count / dim)
    np.testing.assert_allclose(parts["block_spread"], spread, rtol=1e-4, atol=1e-6)
    within = np.concatenate([np.arange(size) for size in parts["size"]])
    at = parts["centre"][parts["list"]] * 16 + within
    nibbles = reference.block_codes(parts["centre_codes"], 4)[at]
    step = parts["centre_scale"][parts["list"]][:, None]
    inside = np.abs(mean) < 7 * step
    assert (np.abs(mean - step * (nibbles[:, :dim] - 7.5))[inside] <= (0.51 * step * np.ones_like(mean))[inside]).all()
    l2, reach = metric == "l2", np.float32(header.reach)
    twice = np.float32(2 if l2 else 1)
    for query in queries_of(dim, metric):
        codes, unit = reference.query_codes(query)
        wide = np.zeros(header.width, np.float32)
        wide[:dim] = query
        base = twice * reference.folded(wide * parts["centroids"])
        scale = (twice * unit * parts["centre_scale"])[parts["list"]]
        middle = np.float32(7.5) * np.float32(codes.sum())
        deviations = reach * twice * np.float32(np.linalg.norm(query))
        key = ((nibbles[:, :dim] @ codes).astype(np.float32) - middle) * scale + base[parts["list"]]
        key = key + (deviations * parts["block_spread"] - parts["block_square"])
        rank = np.argsort(np.argsort(-key, kind="stable"))
        for effort in (64, 160):
            rows, _, _ = index._search(query, 20, effort, None, None, breadth=1024.0)
            wanted = effort // 16 + 1
            assert rank[parts["place"][rows] // 16].max() <= wanted + wanted // 32 + 1
            best = np.flatnonzero(rank[parts["place"] // 16] < wanted)
            few = index.search(query, 20, 600, np.isin(np.arange(600), best))[0]
            assert np.isin(few, rows).mean() >= 0.8, "4 bits may leave out one or another of the best in them"


@pytest.mark.parametrize("breadth", [1.0, 3.0])
def test_a_few_far_vectors_do_not_coarsen_the_others(tmp_path, breadth):
    """Codes of centroids share one scale: rows of several lists are told apart by the centroids themselves."""
    k, rng = 50, np.random.default_rng(5)
    centres = rng.standard_normal((150, 32))
    vectors, queries = (
        (centres[rng.integers(0, 150, count)] + 0.4 * rng.standard_normal((count, 32))).astype(np.float32)
        for count in (6_000, 40)
    )
    vectors[::600] *= np.float32(300)
    index = made(tmp_path / "index", vectors, metric="l2", kind="partition", k=k, queries=queries)
    knobs = {"breadth": breadth, "keep": 2.0}
    allowed, fewer = rng.random(6_000) < 0.1, rng.random(6_000) < 0.07
    for strategy, allow, mask in (
        ("partitions", None, None),
        ("excerpt", index.filter(allowed), allowed),
        ("list", fewer, fewer),
    ):
        found = [index._search(query, k, 6_000, allow, None, **knobs) for query in queries]
        assert {how for _, _, how in found} == {strategy}
        assert recalls([rows for rows, _, _ in found], truth(vectors, queries, k, "l2", mask)).mean() > 0.92, strategy


def test_a_block_by_hand():
    """Two dims of one row: code 1 is byte 129; halves of a byte are of dims four apart."""
    blocks = np.zeros((1, 2, 16, 4), np.uint8)
    blocks[0, 1, 3, 2] = 129
    assert reference.block_codes(blocks, 8)[3].tolist() == [-128] * 6 + [1, -128]
    blocks[0, 1, 3, 2] = 0x5A
    assert reference.block_codes(blocks, 4)[3].tolist() == [0] * 10 + [10, 0, 0, 0, 5, 0]
    assert reference.plane_words(np.int8([[1, -1]]), np.int8([[-128, 127]])).tolist() == [[128, -129]]
    assert reference.query_codes(np.float32([254, -1, 0]))[0].tolist() == [127, 0, 0]
