"""Graphs of neighbours, offline: hnswlib grows them; its file is read here, in rows instead of its internal numbers."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.index_file import DEGREE_MAX, ENTRIES_MAX

Rows = Callable[[NDArray[np.int64]], NDArray[np.float32]]

THREADLESS_MAX = 20_000  # one thread up to here: seconds, and the same graph every time
NEIGHBOURS = 16  # hnswlib's M: level 0 has twice as many
CONSTRUCTION = 200  # hnswlib's ef_construction
CHUNK = 16_384
ENTRIES_MIN = 64
UNEVEN = 0.05  # deviation of lengths, of their mean
HEAD = np.dtype([
    ("level0", "<u8"), ("capacity", "<u8"), ("count", "<u8"), ("stride", "<u8"), ("label", "<u8"), ("vector", "<u8"),
    ("top", "<i4"), ("entry", "<u4"), ("upper", "<u8"), ("degree", "<u8"), ("m", "<u8"), ("mult", "<f8"), ("ef", "<u8"),
])  # fmt: skip


def grow(
    rows: Rows, count: int, dim: int, ip: bool, longest: float, seed: int, progress: Callable[[int], None], path: str
) -> None:
    """Have hnswlib build its graph and save it at `path`.

    The graph is always of squared distances. For inner products a dim is added so that all vectors are equally long:
    nearest to (query, 0) is then highest by inner product (Bachrach et al. 2014; hnswlib's own `ip` space plateaus on
    vectors of uneven length). The search keeps to the inner product, the same order.
    """
    try:
        # Not an import statement: nothing on the request path may name an offline package (test_layers.py).
        hnswlib = importlib.import_module("hnswlib")
    except ImportError as error:
        raise ImportError("kind hnsw is built with hnswlib: pip install 'pairec_fast[learn]'") from error
    index = hnswlib.Index(space="l2", dim=dim + ip)
    index.init_index(count, M=NEIGHBOURS, ef_construction=CONSTRUCTION, random_seed=seed)
    threads = 1 if count <= THREADLESS_MAX else os.cpu_count() or 1
    for first in range(0, count, CHUNK):
        at = np.arange(first, min(first + CHUNK, count))
        chunk = rows(at)
        if ip:
            square = longest**2 - np.einsum("rd,rd->r", chunk, chunk, dtype=np.float64)
            chunk = np.column_stack([chunk, np.sqrt(np.maximum(square, 0.0)).astype(np.float32)])
        index.add_items(chunk, at, num_threads=threads)
        progress(int(at[-1]) + 1)
    index.save_index(path)


class Grown:
    """The graph in a file that hnswlib 0.8 saved.

    The file, without padding (hnswalg.h, saveIndex): `HEAD`; then `count` nodes of level 0: uint32 link count (in its
    low half; the third byte marks a deleted node), uint32 links [degree], float32 vector, uint64 label. Then for every
    node uint32 bytes, and so many: for each of its upper levels, uint32 link count, uint32 links [upper].

    Raises:
        ValueError: not such a file, of another number of vectors or dims, with labels that are not their rows, or with
            deleted nodes. The message names the file.
    """

    def __init__(self, path: str, count: int, dims: tuple[int, ...]) -> None:
        self.path, self.count = path, count
        if os.path.getsize(path) < HEAD.itemsize:
            raise ValueError(f"{path}: {os.path.getsize(path)} bytes; a file saved by hnswlib has more")
        head = np.fromfile(path, HEAD, 1)[0]
        if head["level0"] != 0 or not 0 < head["degree"] <= DEGREE_MAX or not 0 < head["upper"] <= head["degree"]:
            raise ValueError(
                f"{path}: not a file that hnswlib 0.8 saved, or with more than {DEGREE_MAX} links a node: offset of "
                f"level 0 is {head['level0']}, links {head['degree']}, upper links {head['upper']}"
            )
        self.degree, self.upper = int(head["degree"]), int(head["upper"])
        if head["count"] != count:
            raise ValueError(f"{path}: holds {head['count']:,} vectors, not the {count:,} given")
        lists = 4 + 4 * self.degree
        held = (int(head["label"]) - lists) // 4
        layout = [lists, lists + 4 * held, lists + 4 * held + 8]
        if [head["vector"], head["label"], head["stride"]] != layout or held not in dims:
            raise ValueError(f"{path}: vectors of {held} dims; {' or '.join(map(str, dims))} would be right")
        links = np.dtype(
            [("count", "<u2"), ("mark", "<u2"), ("links", "<u4", self.degree), ("vector", "<f4", held), ("row", "<u8")]
        )
        end = HEAD.itemsize + count * links.itemsize
        if os.path.getsize(path) < end + 4 * count:
            raise ValueError(
                f"{path}: cut short: {os.path.getsize(path):,} bytes, at least {end + 4 * count:,} expected"
            )
        self.nodes: NDArray[Any] = np.memmap(path, links, mode="r", offset=HEAD.itemsize, shape=(count,))
        if self.nodes["mark"].any():
            raise ValueError(
                f"{path}: node {int(np.argmax(self.nodes['mark'] != 0))} is marked as deleted; build it anew"
            )
        labels = self.nodes["row"]
        if labels.max() >= count or len(np.unique(labels)) != count:
            raise ValueError(f"{path}: labels are not the rows 0 to {count - 1}, each once")
        self.row_of = labels.astype(np.int32)
        self.node_of = np.empty(count, np.int32)
        self.node_of[self.row_of] = np.arange(count, dtype=np.int32)
        self.levels = self._levels(np.fromfile(path, "<u4", offset=end))

    def check_vectors(self, rows: Rows) -> None:
        """Raises ValueError: it is a graph of other vectors."""
        at = np.linspace(0, self.count - 1, min(self.count, 1000)).astype(np.int64)
        given = rows(at)
        held = self.nodes["vector"][self.node_of[at]][:, : given.shape[1]]
        other = ~np.isclose(held, given, rtol=1e-4, atol=1e-6).all(axis=1)
        if other.any():
            raise ValueError(f"{self.path}: row {at[np.argmax(other)]} is another vector there than the one given")

    def links(self, first: int, end: int) -> NDArray[np.int32]:
        """The neighbours of rows first to end, [end - first, degree] int32, -1 beyond their count."""
        nodes = self.nodes[self.node_of[first:end]]
        live = np.arange(self.degree) < nodes["count"][:, None]
        if nodes["count"].max() > self.degree or nodes["links"][live].max(initial=0) >= self.count:
            raise ValueError(f"{self.path}: a neighbour list leads nowhere")
        return np.where(live, self.row_of[np.where(live, nodes["links"], 0)], np.int32(-1)).astype("<i4")

    def entries(self, lengths: NDArray[np.float64] | None) -> NDArray[np.int32]:
        """Rows a walk may start from: those of level 2 and above; of level 1, or all, where that is too few.

        With `lengths` [count], of vectors compared by inner product: the longest. They are near to most queries, and
        the graph, which is one of distances, is slow to lead to them.
        """
        if lengths is not None and lengths.std() > UNEVEN * lengths.mean():
            return np.sort(np.argsort(-lengths, kind="stable")[:ENTRIES_MAX]).astype("<i4")
        for level in (2, 1, 0):
            rows = np.sort(self.row_of[self.levels >= level])
            if len(rows) >= ENTRIES_MIN:
                break
        if len(rows) > ENTRIES_MAX:
            rows = rows[np.linspace(0, len(rows) - 1, ENTRIES_MAX).astype(np.int64)]
        return rows.astype("<i4")

    def _levels(self, words: NDArray[np.uint32]) -> NDArray[np.int32]:
        """The level of each node. Of their upper links nothing is kept."""
        levels = np.zeros(self.count, np.int32)
        stride = 1 + self.upper
        at = 0
        for node in range(self.count):
            size = int(words[at]) // 4 if at < len(words) else -1
            if size < 0 or size % stride or at + 1 + size > len(words):
                raise ValueError(f"{self.path}: {size} words of upper links for node {node}, not lists of {stride}")
            levels[node] = size // stride
            at += 1 + size
        if at != len(words):
            raise ValueError(f"{self.path}: {len(words) - at} words after the last node")
        return levels
