"""Vector search over one mapped file: the nearest items to a query, by an exact scan or a walk over a graph."""

from libc.math cimport isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

import operator
import os

import numpy as np
cimport numpy as cnp

from pairec_fast.core import index_file
from pairec_fast.core.arena cimport Block, Stamps

cnp.import_array()

# Longer vectors, or queries ten times as long, may score beyond float32 (3.4e38), and infinities have no order.
LENGTH_MAX = 1e18


cdef size_t line(size_t size) noexcept:
    return (size + 63) // 64 * 64


cdef int32_t count_allowed(const uint8_t* allow, int32_t count) noexcept nogil:
    cdef int32_t row, allowed = 0
    for row in range(count):
        allowed += allow[row] != 0
    return allowed


cdef class SearchScratch:
    """All memory a search needs; with one, a search allocates nothing. One search at a time.

    Args:
        count_max: vectors of the largest index it will search.
        pool_max: the largest `k`, and the largest effort of a walk (`effort` of the index).
        dim_max: the longest query; for `query`, room for a prepared one.

    Raises:
        ValueError: a size is not positive.
        MemoryError: the block cannot be had.
    """

    def __cinit__(self, int32_t count_max, int32_t pool_max, int32_t dim_max=1):
        for name, value in (("count_max", count_max), ("pool_max", pool_max), ("dim_max", dim_max)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        cdef size_t stamps = line(4 * <size_t> count_max), keys = line(8 * <size_t> best_capacity(pool_max))
        cdef size_t block = line(4 * block_rows), query = line(4 * (<size_t> dim_max + 15))
        cdef size_t results = line(4 * <size_t> pool_max)
        self._block = Block(stamps + 2 * keys + 2 * block + query + 2 * results)
        cdef char* at = <char*> self._block.data
        self.c.pool_max = pool_max
        self.c.visited.stamp = <uint32_t*> at
        self.c.visited.size = count_max
        at += stamps
        self.c.pool = <uint64_t*> at
        at += keys
        self.c.frontier = <uint64_t*> at
        at += keys
        self.c.rows = <int32_t*> at
        at += block
        self.c.scores = <float*> at
        at += block
        self.query = <float*> at
        at += query
        self.rows = <int32_t*> at
        at += results
        self.scores = <float*> at
        self.count_max = count_max
        self.pool_max = pool_max
        self.dim_max = dim_max


cdef class VectorIndex:
    """Item vectors in one read-only mapped file, searched for the nearest to a query. Safe to search from many threads.

    Made by `VectorIndex.build`, opened by `VectorIndex.load`. Rows are the rows of the array it was built from.
    The file must not be written to while it is mapped; replace it by renaming another over it.
    """

    def __init__(self):
        raise TypeError("open an index with VectorIndex.load(path), or make one with VectorIndex.build(vectors, path)")

    @staticmethod
    def build(vectors, path, metric="ip", kind="auto", k=500, recall=0.95, queries=None, seed=0, *, progress=None):
        """Write an index file, and choose the effort a search needs. Offline: minutes for a million vectors.

        Args:
            vectors: [n, dim] float32, finite; a memory map is read in pieces.
            path: the file; written beside it and renamed, so readers see the old one or the new one.
            metric: `ip` (inner product), `cosine` or `l2` (squared distance, negated).
            kind: `flat` scans every vector, exact; `hnsw` walks a graph (needs hnswlib). `auto` is flat up to 100,000
                vectors: a scan of those costs no more than a walk for hundreds of neighbours.
            k, recall: effort is the smallest that finds this share of the k nearest (all of them if there are fewer).
            queries: [q, dim] float32, what will be asked; 200 of them are used. Without, it tunes on vectors and
                mixtures of two and three of them, perturbed by noise of half the data's deviation, for a recall
                nearer to 1 by 30 % of the gap: live queries lie off the data.
            seed: for the graph and the choice of tuning queries. The same file for the same input up to 20,000
                vectors; beyond, all processors insert at once, and links depend on who came first.
            progress: called with (vectors inserted, n) while the graph grows.

        Raises:
            ValueError: an argument is not as above; a vector that is not finite, longer than 1e18, or zero under
                cosine is named by its row.
            ImportError: kind hnsw without hnswlib.
            OSError: the file cannot be written.
        """
        from pairec_fast.core.index_build import build
        build(vectors, path, metric, kind, k, recall, queries, seed, progress)

    @staticmethod
    def load(path, verify=True) -> VectorIndex:
        """Map an index file. Costs address space, not memory: processes on one machine share its pages.

        Without `verify`, only the header and the size of the file are checked; a file whose links were altered is then
        undefined behaviour when searched.

        Raises:
            SnapshotError: not an index, another version, altered, cut short.
        """
        cdef VectorIndex index = VectorIndex.__new__(VectorIndex)
        index.path = os.fsdecode(path)
        data = index_file.map_file(index.path)
        header = index_file.read_header(index.path, data)
        if verify:
            index_file.verify(index.path, data, header)
        cdef const unsigned char[::1] view = data
        cdef const char* base = <const char*> &view[0]
        vectors, links, upper = header.sections
        index._map = data
        index._header = header
        index._free = []
        index.count = header.count
        index.dim = header.dim
        index.width = header.width
        index.effort = header.effort
        index.normalise = header.metric == "cosine"
        index.graph.vectors.data = <const float*> (base + <size_t> vectors[0])
        index.graph.vectors.count = header.count
        index.graph.vectors.width = header.width
        index.graph.vectors.scorer = scorer(<Metric> <int> index_file.METRICS.index(header.metric))
        index.graph.links = NULL
        if header.kind == "hnsw":
            index.graph.links = <const int32_t*> (base + <size_t> links[0])
        index.graph.degree = header.degree
        index.graph.upper_degree = header.upper_degree
        index.graph.levels = len(header.level_nodes)
        index.graph.entry = header.entry
        cdef const int32_t* nodes = <const int32_t*> (base + <size_t> upper[0])
        cdef int level
        for level in range(index.graph.levels):
            index.graph.upper[level] = nodes
            nodes += <size_t> header.level_nodes[level] * (2 + index.graph.upper_degree)
        return index

    def search(self, query, k=500, effort=None, allow=None):
        """The nearest rows to a query, best first; of equal scores, the smaller row.

        Args:
            query: [dim] float32, finite, not zero under cosine.
            k: how many; all of them if there are fewer.
            effort: how many nodes of the graph to expand, rounded up to a multiple of 4; None is `self.effort`, twice
                as much is twice the work. Where a scan costs no more than the walk would (hundreds of expansions for
                tens of thousands of vectors, or few allowed rows), and for kind flat, it is taken: exact.
            allow: [count] bool or uint8: only rows that hold True are returned; or None. min(k, allowed) rows always.

        Returns:
            rows int32 [<= k], scores float32 [<= k]: inner product, cosine, or negated squared distance. Both are owned
            by the caller.

        Raises:
            TypeError: `query` is not float32, `allow` not bool or uint8.
            ValueError: another shape, not finite, zero under cosine; `k` or `effort` not positive.
        """
        cdef cnp.ndarray vector = self._query(query)
        cdef int64_t budget = self.effort
        k = operator.index(k)
        if k <= 0:
            raise ValueError(f"k must be positive, got {k}")
        if effort is not None:
            effort = operator.index(effort)
            if effort <= 0:
                raise ValueError(f"effort must be positive, got {effort}")
            budget = min(effort, self.count)
        cdef const uint8_t* allow_ = NULL
        cdef int32_t allowed = self.count
        cdef cnp.ndarray mask
        if allow is not None:
            mask = self._allow(allow)
            allow_ = <const uint8_t*> cnp.PyArray_DATA(mask)
            allowed = count_allowed(allow_, self.count)
        cdef int32_t size = min(k, allowed)
        if size == 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        cdef SearchScratch scratch = self._take(max(size, min(budget, self.effort_max())))
        cdef cnp.ndarray rows = np.empty(size, np.int32), scores = np.empty(size, np.float32)
        cdef const float* vector_ = <const float*> cnp.PyArray_DATA(vector)
        cdef int32_t* rows_ = <int32_t*> cnp.PyArray_DATA(rows)
        cdef float* scores_ = <float*> cnp.PyArray_DATA(scores)
        cdef int32_t found
        with nogil:
            self.prepare(vector_, scratch.query)
            found = self.search_into(scratch.query, size, budget, allow_, allowed, scratch, rows_, scores_)
        self._free.append(scratch)
        assert found == size, "the scan returns every allowed row"
        return rows, scores

    cdef SearchScratch _take(self, int32_t pool_max):
        # A list is a stack under the GIL: a thread takes one or makes one. There are as many as ever searched at once.
        cdef SearchScratch scratch
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = None
        if scratch is None or scratch.pool_max < pool_max:
            scratch = SearchScratch(self.count, max(1024, pool_max), self.dim)
        return scratch

    cdef int64_t effort_max(self) noexcept nogil:
        return c_effort_max(self.graph)

    cdef void prepare(self, const float* query, float* padded) noexcept nogil:
        c_prepare(query, self.dim, self.width, self.normalise, padded)

    cdef int32_t search_into(
        self, const float* query, int32_t k, int64_t effort, const uint8_t* allow, int32_t allowed,
        SearchScratch scratch, int32_t* rows, float* scores,
    ) noexcept nogil:
        return c_search(self.graph, query, k, effort, allow, allowed, scratch.c, rows, scores)

    def _query(self, query):
        array = np.asarray(query)
        if array.dtype != np.float32:
            raise TypeError(f"query must be float32, got {array.dtype}")
        if array.ndim != 1 or array.shape[0] != self.dim:
            raise ValueError(f"query must have shape ({self.dim},), got {array.shape}")
        cdef cnp.ndarray vector = np.ascontiguousarray(array)
        cdef const float* lane = <const float*> cnp.PyArray_DATA(vector)
        cdef double square = 0
        cdef int32_t i
        for i in range(self.dim):
            square += <double> lane[i] * lane[i]
        if not isfinite(square):
            first = np.flatnonzero(~np.isfinite(vector))[0]
            raise ValueError(f"query must be finite, got {vector[first]} at {first}")
        if self.normalise and square == 0:
            raise ValueError("query is zero; cosine is not defined for it")
        if not self.normalise and square > 100 * LENGTH_MAX * LENGTH_MAX:
            raise ValueError(f"query is {square ** 0.5:.3g} long; at most {10 * LENGTH_MAX:g} is searched for")
        return vector

    def _allow(self, allow):
        if not isinstance(allow, np.ndarray) or allow.dtype not in (np.bool_, np.uint8):
            given = getattr(allow, "dtype", type(allow).__name__)
            raise TypeError(f"allow must be an array of bool or uint8, got {given}")
        if allow.shape != (self.count,):
            raise ValueError(f"allow must have shape ({self.count},), got {allow.shape}")
        return np.ascontiguousarray(allow).view(np.uint8)

    def vector(self, row):
        """A copy of a row's vector, [dim] float32; under cosine as stored, of length 1.

        Raises:
            IndexError: there is no such row.
        """
        cdef int64_t at = operator.index(row)
        if not 0 <= at < self.count:
            raise IndexError(f"row must be 0 to {self.count - 1}, got {at}")
        cdef cnp.ndarray copy = np.empty(self.dim, np.float32)
        memcpy(cnp.PyArray_DATA(copy), self.graph.vectors.data + <size_t> at * self.width, 4 * <size_t> self.dim)
        return copy

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        shape = f"{self.count:,} x {self.dim}"
        return f"<VectorIndex {self.path!r}: {shape}, {self.metric}, {self.kind}, effort {self.effort}>"

    @property
    def metric(self) -> str:
        """`ip`, `cosine` or `l2`."""
        return self._header.metric

    @property
    def kind(self) -> str:
        """`flat` or `hnsw`."""
        return self._header.kind

    @property
    def recall_reached(self) -> float:
        """The recall measured at `effort` when it was chosen; below what was asked for if no effort reached that."""
        return self._header.recall_reached


def prepared(const float[:, ::1] vectors not None, bint normalise, int32_t width):
    """Rows as the file holds them: [n, width] float32, zeros beyond dim, of length 1 if `normalise`."""
    cdef cnp.ndarray out = np.empty((vectors.shape[0], width), np.float32)
    cdef float* padded = <float*> cnp.PyArray_DATA(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(vectors.shape[0]):
            c_prepare(&vectors[i, 0], <int32_t> vectors.shape[1], width, normalise, padded + i * width)
    return out
