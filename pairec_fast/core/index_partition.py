"""Partitions of vectors, offline: centroids by k-means, the vectors in the order of their lists, and their codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.index_file import LANES, LISTS_MAX, Header, aligned, lanes_of

Floats = NDArray[np.float32]
Rows = Callable[[NDArray[np.int64]], Floats]  # prepared vectors [rows, dim]

SAMPLE_A_LIST = 48  # vectors k-means sees of each list; 256 scan 1 % less
TURNS = 8  # of k-means; 20 scan 1 % less
CHUNK = 8_192
CLIP = 2.6  # deviations that 4 bits reach to either side


def lists_for(count: int) -> int:
    """How many: few enough that finding the best of them costs little, with a hundred vectors or more in each."""
    return int(min(max(aligned(round(2.5 * count**0.5), LANES), LANES), max(count // 64, 1), LISTS_MAX))


def centroids_of(rows: Rows, count: int, lists: int, rng: np.random.Generator) -> Floats:
    """Lloyd's algorithm on a sample; a list that runs empty begins anew at a vector. Neighbours follow each other."""
    sample = rows(np.sort(rng.choice(count, min(count, SAMPLE_A_LIST * lists), replace=False)))
    centroids = sample[np.sort(rng.choice(len(sample), lists, replace=False))].copy()
    for _ in range(TURNS):
        nearest = assigned(sample, centroids)
        size = np.bincount(nearest, minlength=lists)
        for dim in range(sample.shape[1]):
            centroids[:, dim] = np.bincount(nearest, sample[:, dim], lists) / np.maximum(size, 1)
        empty = np.flatnonzero(size == 0)
        centroids[empty] = sample[rng.choice(len(sample), len(empty), replace=False)]
    return centroids[_chain(centroids)]


def assigned(vectors: Floats, centroids: Floats) -> NDArray[np.int32]:
    """Of each vector, the nearest centroid by Euclid."""
    nearest = np.empty(len(vectors), np.int32)
    across, half = np.ascontiguousarray(centroids.T), (centroids * centroids).sum(axis=1) / 2
    for first in range(0, len(vectors), CHUNK):
        product = vectors[first : first + CHUNK] @ across
        nearest[first : first + CHUNK] = np.argmax(np.subtract(product, half, out=product), axis=1)
    return nearest


def _chain(centroids: Floats) -> NDArray[np.int64]:
    """An order in which each is followed by the nearest that is left: a query's lists then lie close together."""
    unit = centroids / np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-30)
    left = np.zeros(len(unit), np.float32)
    order = np.zeros(len(unit), np.int64)
    for at in range(1, len(unit)):
        left[order[at - 1]] = -np.inf
        order[at] = np.argmax(unit @ unit[order[at - 1]] + left)
    return order


class Lists:
    """Where each vector lies. `place` [count] of a row, `row` [16 blocks] of a place, -1 where there is none."""

    def __init__(self, nearest: NDArray[np.int32], lists: int) -> None:
        held = np.bincount(nearest, minlength=lists)
        self.held = held
        self.size = (-(-held // LANES)).astype(np.int32)
        self.block = np.concatenate([[0], np.cumsum(self.size)]).astype(np.int32)
        self.blocks = int(self.block[-1])
        self.centre = np.concatenate([[0], np.cumsum(-(-self.size // LANES))]).astype(np.int32)
        order = np.argsort(nearest, kind="stable")
        within = np.arange(len(nearest)) - np.repeat(np.cumsum(held) - held, held)
        self.place = np.empty(len(nearest), np.int32)
        self.place[order] = self.block[nearest[order]] * LANES + within
        self.row = np.full(self.blocks * LANES, -1, np.int32)
        self.row[self.place] = np.arange(len(nearest), dtype=np.int32)

    def sections(self, header: Header) -> dict[str, tuple[str, list[int]]]:
        """Names and shapes that the file will have."""
        lists, blocks, width, quads = len(self.size), self.blocks, header.width, header.quads
        bias = {"bias": ("<f4", [blocks * LANES])} if header.metric == "l2" else {}
        return {
            "centroids": ("<f4", [lists, width]),
            "centroid_codes": ("|u1", [aligned(lists, LANES) // LANES, quads, LANES, 4]),
            **{name: ("<f4", [lists]) for name in ("spread", "square")},
            "block": ("<i4", [lists + 1]),
            "size": ("<i4", [lists]),
            **{name: ("<f4", [lists]) for name in ("scale4", "scale8")},
            "list": ("<u2", [blocks]),
            "live": ("<u2", [blocks]),
            "centre": ("<i4", [lists + 1]),
            "centre_scale": ("<f4", [lists]),
            "centre_codes": ("|u1", [int(self.centre[-1]), quads // 2, LANES, 4]),
            "block_spread": ("<f4", [blocks]),
            "block_square": ("<f4", [blocks]),
            "codes": ("|u1", [blocks, quads // 2, LANES, 4]),
            "rows": ("|i1", [blocks * LANES, 2, header.row_bytes]),
            "row": ("<i4", [blocks * LANES]),
            "place": ("<i4", [len(self.place)]),
            **bias,
        }


def fill(
    out: dict[str, NDArray[Any]], lists: Lists, centroids: Floats, rows: Rows, progress: Callable[[int], None]
) -> float:
    """Write all sections. Returns the scale of the centroids' codes."""
    dim = centroids.shape[1]
    out["block"][:], out["size"][:], out["centre"][:] = lists.block, lists.size, lists.centre
    out["list"][:] = np.repeat(np.arange(len(lists.size)), lists.size)
    out["live"][:] = lanes_of(np.flatnonzero(lists.row >= 0), lists.blocks)
    out["centroids"][:, :dim] = centroids
    scale = float(np.abs(centroids).max()) / 127
    codes = np.clip(np.rint(centroids / scale), -127, 127) if scale > 0 else np.zeros_like(centroids)
    out["centroid_codes"][:] = blocks_of(codes, 128, out["centroid_codes"].shape)
    first = 0
    while first < len(lists.size):
        # Whole lists, some CHUNK vectors of them.
        end = int(np.searchsorted(lists.block, lists.block[first] + CHUNK // LANES, side="right")) - 1
        end = max(end, first + 1)
        _fill_lists(out, lists, centroids, rows, first, end)
        progress(int(lists.held[:end].sum()))
        first = end
    held = np.flatnonzero(lists.row >= 0)
    out["row"][:] = lists.row
    out["place"][lists.row[held]] = held
    return scale


def _fill_lists(
    out: dict[str, NDArray[Any]], lists: Lists, centroids: Floats, rows: Rows, first: int, end: int
) -> None:
    begin, stop = int(lists.block[first]) * LANES, int(lists.block[end]) * LANES
    row = lists.row[begin:stop]
    held = row >= 0
    vectors = np.zeros((len(row), centroids.shape[1]), np.float32)
    vectors[held] = rows(row[held].astype(np.int64))
    for list_ in range(first, end):
        at = (int(lists.block[list_]) - int(lists.block[first])) * LANES
        part = slice(at, at + int(lists.held[list_]))
        order = _near_ones_together(vectors[part])
        row[part], vectors[part] = row[part][order], vectors[part][order]
    of = np.repeat(np.arange(first, end), lists.size[first:end] * LANES) - first
    rest = np.where(held[:, None], vectors - centroids[first:end][of], np.float32(0))
    count, dim = np.maximum(lists.held[first:end], 1), rest.shape[1]
    spread = np.sqrt(np.bincount(of, (rest.astype(np.float64) ** 2).sum(axis=1), end - first) / count / dim)
    most = np.zeros(end - first, np.float32)
    np.maximum.at(most, of, np.abs(rest).max(axis=1))
    # A list of equal vectors has residuals of 0; any scale will do for them.
    scale8 = np.maximum(most / 127 * np.float32(1.0001), np.float32(1e-30))
    scale4 = np.maximum(np.minimum(2 * CLIP * spread, 2 * most) / 15, 1e-30).astype(np.float32)
    square = np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64)
    out["spread"][first:end], out["scale4"][first:end], out["scale8"][first:end] = spread, scale4, scale8
    if "bias" in out:
        out["bias"][begin:stop] = -square
        out["square"][first:end] = np.bincount(of, square, end - first) / count
    nibbles = np.clip(np.floor(rest / scale4[of][:, None] + 8), 0, 15)
    blocks = blocks_of(nibbles, 0, (len(row) // LANES, 2 * out["codes"].shape[1], LANES, 4))
    out["codes"][begin // LANES : stop // LANES] = blocks[:, 0::2] | blocks[:, 1::2] << 4
    _fill_centres(out, lists, rest, vectors, held, first, end)
    words = np.rint(rest / scale8[of][:, None] * 256).astype(np.int32)
    high = np.clip((words + 128) >> 8, -127, 127)
    out["rows"][begin:stop, 0, :dim] = high
    out["rows"][begin:stop, 1, :dim] = np.clip(words - 256 * high, -128, 127)


def _near_ones_together(vectors: Floats) -> NDArray[np.int64]:
    """An order in which each sixteen lie near each other: cut in half across the longest axis, and so on. In a block
    they ascend."""
    whole = [np.arange(len(vectors))]
    done = []
    while whole:
        part = whole.pop()
        if len(part) <= LANES:
            done.append(np.sort(part))
            continue
        rest = vectors[part] - vectors[part].mean(axis=0)
        axis = rest[np.argmax(np.einsum("rd,rd->r", rest, rest))]
        for _ in range(TURNS):
            axis = (rest @ axis) @ rest
            axis /= max(float(np.linalg.norm(axis)), 1e-30)
        order = part[np.argsort(rest @ axis, kind="stable")]
        half = aligned(len(part) // 2, LANES)
        whole += [order[half:], order[:half]]
    return np.concatenate(done) if done else np.zeros(0, np.int64)


def _fill_centres(
    out: dict[str, NDArray[Any]], lists: Lists, rest: Floats, vectors: Floats, held: NDArray[np.bool_], first: int,
    end: int,
) -> None:  # fmt: skip
    """`rest`: of vectors, 0 where there is none."""
    begin, stop = int(lists.block[first]), int(lists.block[end])
    dim, blocks = rest.shape[1], stop - begin
    count = np.maximum(held.reshape(blocks, LANES).sum(axis=1), 1)
    centres = rest.reshape(blocks, LANES, dim).sum(axis=1, dtype=np.float64) / count[:, None]
    off = np.where(held[:, None], rest - np.repeat(centres, LANES, axis=0), 0)
    out["block_spread"][begin:stop] = np.sqrt((off * off).reshape(blocks, -1).sum(axis=1) / count / dim)
    if "bias" in out:
        square = np.einsum("rd,rd->r", vectors, vectors, dtype=np.float64).reshape(blocks, LANES)
        out["block_square"][begin:stop] = square.sum(axis=1) / count
    size = lists.size[first:end]
    of = np.repeat(np.arange(end - first), size)
    most, deviation = np.zeros(end - first), np.zeros(end - first)
    np.maximum.at(most, of, np.abs(centres).max(axis=1))
    np.add.at(deviation, of, (centres**2).mean(axis=1))
    deviation = np.sqrt(deviation / np.maximum(size, 1))
    scale = np.maximum(np.minimum(2 * CLIP * deviation, 2 * most) / 15, 1e-30).astype(np.float32)
    out["centre_scale"][first:end] = scale
    nibbles = np.clip(np.floor(centres / scale[of][:, None] + 8), 0, 15)
    wide = np.zeros((int(lists.centre[end] - lists.centre[first]) * LANES, dim))
    gap = (lists.centre[first:end] - lists.centre[first]) * LANES - (np.cumsum(size) - size)  # each list begins a block
    wide[np.arange(blocks) + np.repeat(gap, size)] = nibbles
    codes = blocks_of(wide, 0, (len(wide) // LANES, 2 * out["centre_codes"].shape[1], LANES, 4))
    out["centre_codes"][lists.centre[first] : lists.centre[end]] = codes[:, 0::2] | codes[:, 1::2] << 4


def blocks_of(codes: NDArray[Any], zero: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Codes [rows, dim] plus `zero` as blocks [blocks, quads, 16, 4]; what is beyond holds `zero`."""
    blocks, quads = shape[:2]
    wide = np.full((blocks * LANES, quads * 4), zero, np.uint8)
    wide[: len(codes), : codes.shape[1]] = codes.astype(np.int16) + zero
    return np.ascontiguousarray(wide.reshape(blocks, LANES, quads, 4).transpose(0, 2, 1, 3))
