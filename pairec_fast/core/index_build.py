"""Building a vector index, offline: check the vectors, have hnswlib grow a graph, write the file, choose the effort."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import index_file
from pairec_fast.core.checksum import crc32c
from pairec_fast.core.index import LENGTH_MAX, VectorIndex, prepared
from pairec_fast.core.index_file import Header

Progress = Callable[[int, int], object]

AUTO_FLAT_MAX = 100_000  # a scan of so many costs what a walk for 500 neighbours does
THREADLESS_MAX = 20_000  # one thread up to here: seconds, and the same graph every time
NEIGHBOURS = 16  # hnswlib's M: level 0 has twice as many
CONSTRUCTION = 200  # hnswlib's ef_construction
CHUNK = 16_384  # rows converted, added, written at a time
QUERIES_MAX = 200  # tuning queries; recall at k = 500 is then known to about 0.003
EFFORT_STEP = 1.02  # the bisection stops at 2 %
GAP_KEPT = 0.7  # of the gap to recall 1 when tuned on made-up queries


def build(
    vectors: Any, path: Any, metric: str, kind: str, k: int, recall: float, queries: Any, seed: int,
    progress: Progress | None,
) -> None:  # fmt: skip
    """See `VectorIndex.build`."""
    if metric not in index_file.METRICS:
        raise ValueError(f"metric must be one of {', '.join(index_file.METRICS)}; got {metric!r}")
    if kind != "auto" and kind not in index_file.KINDS:
        raise ValueError(f"kind must be auto, {' or '.join(index_file.KINDS)}; got {kind!r}")
    if k <= 0:
        raise ValueError(f"k must be positive, got {k}")
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1, got {recall}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    longest = _check(vectors, "vectors", metric)
    if queries is not None:
        _check(queries, "queries", metric)
        if queries.shape[1] != vectors.shape[1]:
            raise ValueError(f"queries have dim {queries.shape[1]}, vectors {vectors.shape[1]}")
    count = len(vectors)
    if kind == "auto":
        kind = "flat" if count <= AUTO_FLAT_MAX else "hnsw"
    target = os.path.abspath(os.fsdecode(path))
    beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    header = Header(kind, metric, vectors.shape[1], count, effort=count, recall=recall, k=min(k, count))
    with _removed(f"{beside}.tmp") as written, _removed(f"{beside}.graph") as grown:
        graph = None
        if kind == "hnsw":
            _grow(vectors, header, longest, seed, progress, grown)
            graph = _Grown(grown, header)
            header = graph.header
        _write(written, header, vectors, graph)
        header = _seal(written, header)
        if kind == "hnsw":
            _seal(written, _tuned(header, written, vectors, queries, seed))
        os.replace(written, target)
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextlib.contextmanager
def _removed(path: str) -> Iterator[str]:
    """A file that is gone afterwards, unless it was renamed."""
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _check(vectors: Any, name: str, metric: str) -> float:
    """The length of the longest row."""
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
        given = f"shape {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise ValueError(f"{name} must be an array [n, dim], got {given}")
    if vectors.dtype != np.float32:
        raise ValueError(f"{name} must be float32, got {vectors.dtype}")
    count, dim = vectors.shape
    if not 0 < count < 2**31 or not 0 < dim <= index_file.DIM_MAX:
        raise ValueError(f"{name} must have 1 to 2^31 - 1 rows of 1 to {index_file.DIM_MAX} dims, got {vectors.shape}")
    longest = 0.0
    for first in range(0, count, CHUNK):
        chunk = vectors[first : first + CHUNK].astype(np.float64)
        finite = np.isfinite(chunk).all(axis=1)
        if not finite.all():
            raise ValueError(f"{name}: row {first + int(np.argmin(finite))} is not finite")
        length = np.sqrt(np.einsum("rd,rd->r", chunk, chunk))
        if metric == "cosine" and not length.all():
            raise ValueError(f"{name}: row {first + int(np.argmin(length))} is zero; cosine is not defined for it")
        if metric != "cosine" and length.max() > LENGTH_MAX:
            row = int(np.argmax(length))
            raise ValueError(f"{name}: row {first + row} is {length[row]:.3g} long; at most {LENGTH_MAX:g} is searched")
        longest = max(longest, float(length.max()))
    return longest


def _grow(
    vectors: NDArray[np.float32], header: Header, longest: float, seed: int, progress: Progress | None, path: str
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
    ip = header.metric == "ip"
    count = header.count
    index = hnswlib.Index(space="l2", dim=header.dim + ip)
    index.init_index(count, M=NEIGHBOURS, ef_construction=CONSTRUCTION, random_seed=seed)
    threads = 1 if count <= THREADLESS_MAX else os.cpu_count() or 1
    for first in range(0, count, CHUNK):
        chunk = np.ascontiguousarray(vectors[first : first + CHUNK])
        if header.metric == "cosine":
            chunk = prepared(chunk, True, header.width)[:, : header.dim]
        if ip:
            square = longest**2 - np.einsum("rd,rd->r", chunk, chunk, dtype=np.float64)
            chunk = np.column_stack([chunk, np.sqrt(np.maximum(square, 0.0)).astype(np.float32)])
        index.add_items(chunk, np.arange(first, first + len(chunk)), num_threads=threads)
        if progress is not None:
            progress(first + len(chunk), count)
    index.save_index(path)


class _Grown:
    """The graph in a file hnswlib 0.8 saved, in rows and slots instead of its internal numbers.

    The file, without padding (hnswalg.h, saveIndex): uint64 offset of level 0, capacity, count, bytes a node, offset of
    the label, offset of the vector; int32 highest level; uint32 entry; uint64 maxM, maxM0, M; float64 mult; uint64
    ef_construction. Then `count` nodes of level 0: uint32 link count (its low half), uint32 links [maxM0], float32
    vector, uint64 label. Then for every node uint32 bytes, and so many: for each of its upper levels, level 1 first,
    uint32 link count, uint32 links [maxM].
    """

    def __init__(self, path: str, header: Header) -> None:
        self.path = path
        head_bytes = 96
        head = np.fromfile(path, dtype="<u8", count=6)
        tail = np.fromfile(path, dtype="<u8", count=5, offset=56)
        top, entry = np.fromfile(path, dtype="<i4", count=2, offset=48).tolist()
        dim = header.dim + (header.metric == "ip")
        self.degree = int(tail[1])
        stride = 4 + 4 * self.degree + 4 * dim + 8
        expected = [0, header.count, header.count, stride, stride - 8, 4 + 4 * self.degree]
        if head.tolist() != expected or self.degree != 2 * NEIGHBOURS or tail[0] != NEIGHBOURS or top < 0:
            raise RuntimeError(f"hnswlib saved a layout this was not written for: {head.tolist()}, not {expected}")
        nodes = np.dtype(
            [("count", "<u2"), ("", "<u2"), ("links", "<u4", self.degree), ("", "V", 4 * dim), ("row", "<u8")]
        )
        self.nodes = np.memmap(path, dtype=nodes, mode="r", offset=head_bytes, shape=(header.count,))
        self.row_of = self.nodes["row"].astype(np.int32)
        self.node_of = np.empty(header.count, np.int32)
        self.node_of[self.row_of] = np.arange(header.count, dtype=np.int32)
        words = np.fromfile(path, dtype="<u4", offset=head_bytes + header.count * stride)
        self.levels = self._levels(words, header.count)
        if len(self.levels) != top:
            raise RuntimeError(f"hnswlib saved {len(self.levels)} upper levels and says {top}")
        self.header = dataclasses.replace(
            header,
            degree=self.degree,
            upper_degree=NEIGHBOURS,
            level_nodes=tuple(len(level) for level in self.levels),
            entry=int(self.slots[-1][entry]) if top else int(self.row_of[entry]),
        )

    def links(self, first: int, end: int) -> NDArray[np.int32]:
        """The neighbours of rows first to end, [end - first, degree] int32, -1 beyond their count."""
        nodes = self.nodes[self.node_of[first:end]]
        return _linked(nodes["links"], nodes["count"], self.row_of)

    def _levels(self, words: NDArray[np.uint32], count: int) -> list[NDArray[np.int32]]:
        stride = 1 + NEIGHBOURS
        starts: list[list[int]] = []  # of the lists of each level, and whose they are
        owners: list[list[int]] = []
        at = 0
        for node in range(count):
            size = int(words[at]) if at < len(words) else -1
            if size < 0 or size % (4 * stride) or at + 1 + size // 4 > len(words):
                raise RuntimeError(f"hnswlib saved {size} bytes of upper links for node {node}, not lists of {stride}")
            for level in range(size // (4 * stride)):
                if level == len(starts):
                    starts.append([])
                    owners.append([])
                starts[level].append(at + 1 + level * stride)
                owners[level].append(node)
            at += 1 + size // 4
        if at != len(words) or len(starts) > index_file.LEVELS_MAX:
            raise RuntimeError(f"hnswlib saved {len(words) - at} words and {len(starts)} levels nobody asked for")
        self.slots: list[NDArray[np.int32]] = []  # node -> slot, a level each; kept for the one below
        levels = []
        below = self.row_of
        for starts_, owners_ in zip(starts, owners, strict=True):
            nodes = np.array(owners_)
            slot = np.full(count, -1, np.int32)
            slot[nodes] = np.arange(len(nodes), dtype=np.int32)
            lists = words[np.array(starts_)[:, None] + np.arange(stride)]
            links = _linked(lists[:, 1:], lists[:, 0] & 0xFFFF, slot)
            levels.append(np.column_stack([self.row_of[nodes], below[nodes], links]).astype("<i4"))
            self.slots = [slot]
            below = slot
        return levels


def _linked(links: NDArray[Any], counts: NDArray[Any], name: NDArray[np.int32]) -> NDArray[np.int32]:
    """hnswlib's lists under our names, -1 beyond each one's count."""
    live = np.arange(links.shape[1]) < counts[:, None]
    if counts.size and (counts.max() > links.shape[1] or links[live].max(initial=0) >= len(name)):
        raise RuntimeError("hnswlib saved a neighbour list that leads nowhere")
    return np.where(live, name[np.where(live, links, 0)], np.int32(-1)).astype("<i4")


def _write(path: str, header: Header, vectors: NDArray[np.float32], graph: _Grown | None) -> None:
    """Everything but the header, which `_seal` puts in front."""
    _, links, upper = header.sections
    with open(path, "wb") as file:
        file.seek(index_file.HEADER_BYTES)
        for first in range(0, header.count, CHUNK):
            chunk = np.ascontiguousarray(vectors[first : first + CHUNK])
            file.write(prepared(chunk, header.metric == "cosine", header.width).astype("<f4", copy=False).data)
        if graph is not None:
            file.seek(links[0])
            for first in range(0, header.count, CHUNK):
                file.write(graph.links(first, min(first + CHUNK, header.count)).data)
            file.seek(upper[0])
            for level in graph.levels:
                file.write(level.data)
        file.truncate(header.file_bytes)


def _seal(path: str, header: Header) -> Header:
    """Write the header with the checksum of what follows it, through to the disk."""
    with open(path, "r+b") as file:
        if not header.payload_crc:
            file.seek(index_file.HEADER_BYTES)
            crc = 0
            while piece := file.read(1 << 22):
                crc = crc32c(piece, crc)
            header = dataclasses.replace(header, payload_crc=crc)
        file.seek(0)
        file.write(header.pack())
        file.flush()
        os.fsync(file.fileno())
    return header


def _tuned(header: Header, path: str, vectors: NDArray[np.float32], queries: Any, seed: int) -> Header:
    """The header with the smallest effort that reaches the recall asked for, and what it measured."""
    rng = np.random.default_rng(seed)
    wanted = header.recall
    if queries is None:
        queries = _made_up(vectors, rng)
        wanted = 1 - GAP_KEPT * (1 - wanted)
    elif len(queries) > QUERIES_MAX:
        queries = queries[np.sort(rng.choice(len(queries), QUERIES_MAX, replace=False))]
    index = VectorIndex.load(path, verify=False)
    # Effort `count` is answered by the scan.
    exact = [index.search(query, header.k, header.count)[0] for query in queries]

    def measured(effort: int) -> float:
        found = (index.search(query, header.k, effort)[0] for query in queries)
        return float(np.mean([np.isin(a, b, assume_unique=True).mean() for a, b in zip(found, exact, strict=True)]))

    low, high = 0, min(max(16, header.k // 16), header.count)
    reached = measured(high)
    while reached < wanted and high < header.count:
        low, high = high, min(2 * high, header.count)
        reached = measured(high)
    while high - low > 1 and high > low * EFFORT_STEP:
        middle = math.isqrt(low * high) if low else high // 2
        middle = min(max(middle, low + 1), high - 1)
        recall = measured(middle)
        if recall >= wanted:
            high, reached = middle, recall
        else:
            low = middle
    return dataclasses.replace(header, effort=high, recall_reached=reached)


def _made_up(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Queries near the data, not of it: one, two or three vectors averaged, and noise of half the data's deviation."""
    sample = vectors[np.sort(rng.choice(len(vectors), min(len(vectors), 10_000), replace=False))]
    noise = 0.5 * sample.std(axis=0, dtype=np.float64)
    queries = [
        sample[rng.integers(0, len(sample), 1 + number % 3)].mean(axis=0, dtype=np.float64)
        + noise * rng.standard_normal(vectors.shape[1])
        for number in range(QUERIES_MAX)
    ]
    return np.array(queries).astype(np.float32)
