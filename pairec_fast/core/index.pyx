"""Vector search over one mapped file: the nearest items to a query, by a scan, by partitions or by a walk over a graph."""

from libc.math cimport isfinite, pow as c_pow
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t
from libc.string cimport memset

import operator
import os

import numpy as np
cimport numpy as cnp

from pairec_fast.core import index_file
from pairec_fast.core.arena cimport check_rows
from pairec_fast.core.index_filter cimport Filter, Lists
from pairec_fast.core.index_scratch cimport SearchScratch
from pairec_fast.core.index_types cimport (
    Flat, Graph, Kind, Metric, Partition, block_kernels, c_append, c_prepare, c_search, expansions, row_kernels, scorer,
)

cnp.import_array()

# Longer vectors, or queries ten times as long, may score beyond float32 (3.4e38), and infinities have no order.
LENGTH_MAX = 1e18
STRATEGIES = ("none", "scan", "list", "partitions", "walk", "excerpt")
MODES = ("budget", "recall")
FLOAT32 = np.dtype(np.float32)


cdef class VectorIndex:
    """Item vectors in one read-only mapped file, searched for the nearest to a query. Safe to search from many threads.

    Made by `VectorIndex.build`, opened by `VectorIndex.load`. Rows are the rows of the array it was built from.
    The file must not be written to while it is mapped; replace it by renaming another over it.

    Attributes:
        recall_reached: measured at `effort` when that was chosen; below what was asked for if no effort reached it.
    """

    def __init__(self):
        raise TypeError("open an index with VectorIndex.load(path), or make one with VectorIndex.build(vectors, path)")

    @staticmethod
    def build(vectors, path, metric="ip", kind="auto", k=500, recall=0.95, queries=None, seed=0, *, progress=None,
              graph=None):
        """Write an index file, and choose the effort a search needs. Offline: a minute for a million vectors.

        Args:
            vectors: [n, dim] float32, finite; a memory map is read in pieces.
            path: the file; written beside it and renamed, so readers see the old one or the new one.
            metric: `ip` (inner product), `cosine` or `l2` (squared distance, negated).
            kind: `flat` scans every vector by 8 bits a dim and is exact; `partition` scans those lists around centroids
                that promise most, by 4 bits, and what is best of them by 8 and 16; `hnsw` walks a graph (built by
                hnswlib) by 8 bits. `auto` is flat up to 10,000 vectors, beyond the fastest on the tuning queries of
                flat, partition and, for k up to 50 and where hnswlib is installed, hnsw.
            k, recall: effort is the smallest that finds this share of the k nearest (all of them if there are fewer).
            queries: [q, dim] float32, what will be asked; 200 of them are used. Without, it tunes on vectors and
                mixtures of two and three of them, perturbed by noise of half the data's deviation, for a recall
                nearer to 1 by 30 % of the gap: live queries lie off the data.
            seed: for centroids, the graph and the choice of tuning queries. The same file for the same input and kind,
                of a graph up to 20,000 vectors; beyond, all processors insert at once, and links depend on who came
                first.
            progress: called with (vectors done, n) while the file is made.
            graph: kind hnsw: a file that hnswlib saved, of these vectors with their rows as labels (or, for inner
                products, with the dim added that makes them equally long); instead of growing one.

        Returns:
            What was tried: kind -> median of a search on the tuning queries at that recall, in us of CPU time.

        Raises:
            ValueError: an argument is not as above; a vector that is not finite, longer than 1e18, or zero under
                cosine is named by its row; what is wrong with `graph`.
            ImportError: kind hnsw without hnswlib.
            OSError: the file cannot be written.
        """
        from pairec_fast.core.index_build import build
        return build(vectors, path, metric, kind, k, recall, queries, seed, progress, graph)

    @staticmethod
    def load(path, verify=True, *, spare=0) -> VectorIndex:
        """Map an index file. Costs address space, not memory: processes on one machine share its pages.

        Args:
            verify: read every byte. Without, only the header and the size of the file are checked; a file whose numbers
                were altered is then undefined behaviour when searched.
            spare: how many vectors may be appended in memory.

        Raises:
            SnapshotError: not an index, another version, altered, cut short.
            ValueError: `spare` is negative.
        """
        cdef VectorIndex index = VectorIndex.__new__(VectorIndex)
        index.path = os.fsdecode(path)
        data = index_file.map_file(index.path)
        header, payload_crc = index_file.read_header(index.path, data)
        if verify:
            index_file.verify(index.path, data, header, payload_crc)
        if not 0 <= spare < 2**31 - header.count:
            raise ValueError(f"spare must be 0 to {2**31 - 1 - header.count}, got {spare}")
        parts = index_file.arrays(data, header)
        index._map, index._header, index._parts, index._free, index._live = data, header, parts, [], None
        index.count, index.dim, index.width, index.effort = header.count, header.dim, header.width, header.effort
        index.metric, index.kind, index.is_l2 = header.metric, header.kind, header.metric == "l2"
        index.tuned_k, index.growth = header.k, header.growth
        index.recall_reached = header.recall_reached
        index.c.kind = <Kind> <int> index_file.KINDS.index(header.kind)
        index.c.count, index.c.dim, index.c.width = header.count, header.dim, header.width
        index.c.normalise = header.metric == "cosine"
        index.c.live, index.c.is_whole = <const uint16_t*> address(parts, "live"), True
        index.c.place = <const int32_t*> address(parts, "place")
        {"flat": index._open_flat, "partition": index._open_partition, "hnsw": index._open_graph}[header.kind](parts)
        index._open_fresh(spare)
        return index

    def _open_flat(self, dict parts):
        self._point(&self.c.flat, self.count, parts)
        self.c.flat.error, self.c.flat.span, self.c.flat.longest = (
            self._header.error, self._header.span, self._header.longest)

    cdef void _point(self, Flat* flat, int32_t count, dict parts):
        flat.count, flat.width, flat.quads, flat.l2 = count, self.width, self._header.quads, self.is_l2
        flat.error = flat.span = flat.longest = 0.0
        flat.vectors = <const float*> address(parts, "vectors")
        flat.codes = <const uint8_t*> address(parts, "codes")
        flat.bias = <const float*> address(parts, "bias")
        flat.scale = <const float*> address(parts, "scale")
        flat.blocks = block_kernels()
        flat.scorer = scorer(Metric.l2 if self.is_l2 else Metric.ip)

    def _open_partition(self, dict parts):
        cdef Partition* one = &self.c.partition
        header = self._header
        one.lists, one.width, one.quads = len(parts["size"]), self.width, header.quads
        one.row_bytes, one.l2 = header.row_bytes, self.is_l2
        one.keep, one.breadth, one.reach, one.stop = header.keep, header.breadth, header.reach, header.stop
        one.centroid_scale = header.centroid_scale
        one.centroids, one.spread = <const float*> address(parts, "centroids"), <const float*> address(parts, "spread")
        one.square = <const float*> address(parts, "square")
        one.centroid_codes = <const uint8_t*> address(parts, "centroid_codes")
        one.block, one.size = <const int32_t*> address(parts, "block"), <const int32_t*> address(parts, "size")
        one.centre, one.row = <const int32_t*> address(parts, "centre"), <const int32_t*> address(parts, "row")
        one.centre_codes = <const uint8_t*> address(parts, "centre_codes")
        one.centre_scale = <const float*> address(parts, "centre_scale")
        one.block_spread = <const float*> address(parts, "block_spread")
        one.block_square = <const float*> address(parts, "block_square")
        one.scale4, one.scale8 = <const float*> address(parts, "scale4"), <const float*> address(parts, "scale8")
        one.codes, one.rows = <const uint8_t*> address(parts, "codes"), <const int8_t*> address(parts, "rows")
        one.list = <const uint16_t*> address(parts, "list")
        one.bias = <const float*> address(parts, "bias")
        one.blocks = block_kernels()
        one.kernels = row_kernels()
        one.scorer = scorer(Metric.ip)

    def _open_graph(self, dict parts):
        cdef Graph* graph = &self.c.graph
        graph.kernels = row_kernels()
        graph.high = <const int8_t*> address(parts, "high")
        graph.low = <const int8_t*> address(parts, "low")
        graph.links = <const int32_t*> address(parts, "links")
        graph.entry_rows = <const int32_t*> address(parts, "entry_rows")
        graph.entry_high = <const int8_t*> address(parts, "entry_high")
        graph.square = <const float*> address(parts, "square")
        graph.entry_square = <const float*> address(parts, "entry_square")
        graph.square_max = self._header.longest ** 2
        graph.scale = self._header.scale
        if graph.scale == 0:  # of vectors that are all zero
            graph.scale = 1.0
        graph.count, graph.width = self.count, self._header.row_bytes
        graph.degree, graph.entries = parts["links"].shape[1], len(parts["entry_rows"])

    def _open_fresh(self, int32_t spare):
        cdef int32_t blocks = (<int64_t> spare + 15) // 16, quads = self._header.quads
        self.c.fresh.first, self.c.fresh.capacity = self.count, spare
        self._fresh = {}
        if spare == 0:
            return
        # Zero pages cost nothing until a vector is written to them.
        parts = {
            "vectors": np.zeros((spare, self.width), np.float32),
            "codes": np.zeros((blocks, quads, 16, 4), np.uint8),
            "scale": np.zeros(blocks * 16, np.float32),
            "live": np.zeros(blocks, np.uint16),
        }
        if self.is_l2:
            parts["bias"] = np.zeros(blocks * 16, np.float32)
        self._fresh = parts
        self._point(&self.c.fresh.flat, 0, parts)
        self.c.fresh.live = <uint16_t*> address(parts, "live")

    def search(self, query, k=500, effort=None, allow=None, deny=None, mode="budget"):
        """The nearest rows to a query, best first; of equal scores, the smaller row.

        Args:
            query: [dim] float32, finite, not zero under cosine.
            k: how many; all of them if there are fewer.
            effort: kind partition: how many vectors to scan; kind hnsw: how many nodes of the graph to expand. None is
                what `build` found sufficient, for another k by its growth; twice as much is twice the work. Where looking
                at every allowed row costs less (few are allowed), that is done. Kind flat needs none.
            allow: the only rows that are returned: a mask or rows as `filter` takes them, or, prepared, a `Filter` of
                this index; or None. The work grows as the filter's share of all rows needs it.
            deny: rows that are not returned, int32, some hundreds: what the user was shown; or None.
            mode: `budget` does the work it is given; `recall` does half of it and then as much as the query needs (up
                to four times as much; of a filter's packed copy, all of that at once): fewer bad answers, a longer tail.

        Returns:
            rows int32 [<= k], scores float32 [<= k]: inner product, cosine, or negated squared distance; min(k, allowed)
            of them. Kind flat computes scores in float32, the others to 16 bits a dim. Both are owned by the caller.

        Raises:
            TypeError: `query` is not float32, `allow` not as for `filter`, `deny` not int32.
            ValueError: another shape, not finite, zero under cosine; `k` or `effort` not positive; a filter of another
                index; a denied row that is none; an unknown mode.
        """
        return self._search(query, k, effort, allow, deny, mode)[:2]

    def strategy(self, query, k=500, effort=None, allow=None, deny=None, mode="budget") -> str:
        """How such a search comes by its rows: `scan` of all, `list` of the few allowed, `partitions`, those of an
        `excerpt` of what a prepared filter allows, `walk`, `none`."""
        return self._search(query, k, effort, allow, deny, mode)[2]

    def _search(self, query, k, effort, allow, deny, mode="budget", **knobs):
        """Rows, scores, strategy. `knobs`: `keep`, `breadth`, `reach`, `stop` instead of those of the file, to tune it."""
        cdef cnp.ndarray vector = self._query(query)
        k = operator.index(k)
        if k <= 0:
            raise ValueError(f"k must be positive, got {k}")
        cdef cnp.npy_intp size = min(k, len(self))
        if effort is not None and operator.index(effort) <= 0:
            raise ValueError(f"effort must be positive, got {effort}")
        if mode not in MODES:
            raise ValueError(f"mode must be {' or '.join(MODES)}, got {mode!r}")
        cdef Partition* one = &self.c.partition
        if knobs:
            one.keep, one.breadth = knobs.get("keep", one.keep), knobs.get("breadth", one.breadth)
            one.reach, one.stop = knobs.get("reach", one.reach), knobs.get("stop", one.stop)
        cdef Filter filter_ = self._filter(allow)
        cdef c_Allow allowed = filter_.c if filter_ is not None else nothing(self.count)
        denied = self._denied(deny)
        cdef int32_t deny_count = len(denied)
        cdef int64_t given = 0 if effort is None else min(operator.index(effort), self.count)
        cdef c_Work work = self._work(min(size + deny_count, self.count), given)
        work.adaptive = mode == "recall"
        allowed.deny_count = deny_count
        if deny_count:
            allowed.deny = <const int32_t*> cnp.PyArray_DATA(denied)
        cdef SearchScratch scratch = self._take(size, work, allowed)
        cdef cnp.ndarray rows = cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT32, 0)
        cdef cnp.ndarray scores = cnp.PyArray_EMPTY(1, &size, cnp.NPY_FLOAT32, 0)
        cdef int32_t found
        cdef Strategy strategy
        with nogil:
            self.prepare(<const float*> cnp.PyArray_DATA(vector), scratch.query)
            found = self.search_into(
                scratch.query, size, work, allowed, scratch, <int32_t*> cnp.PyArray_DATA(rows),
                <float*> cnp.PyArray_DATA(scores), &strategy)
        self._free.append(scratch)
        if found < size:
            rows, scores = rows[:found].copy(), scores[:found].copy()
        return rows, scores, STRATEGIES[<int> strategy]

    cdef SearchScratch _take(self, int32_t k, const c_Work& work, const c_Allow& allow):
        # A list is a stack under the GIL: a thread takes one or makes one. There are as many as ever searched at once.
        cdef int64_t effort = expansions(self.c, work, allow)
        cdef SearchScratch scratch
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = None
        if scratch is None or not scratch.fits(&self.c, k, effort):
            scratch = SearchScratch.make(&self.c, max(k, 512), effort)
        return scratch

    cdef c_Work _work(self, int32_t k, int64_t effort) noexcept nogil:
        # What a graph finds within an effort is about the same share of fewer; at least it must come by k rows.
        cdef double times = <double> k / self.tuned_k, growth
        cdef c_Work work
        if effort == 0:
            # The fewer, the more it counts where a list or a block ends: less work is not so much less.
            growth = self.growth if times > 1 else min(self.growth, 0.5)
            times = c_pow(times, growth) if self.c.kind == Kind.partition else max(times, 1.0)
            effort = <int64_t> (self.effort * times + 0.5)
        if self.c.kind == Kind.hnsw:
            effort = max(effort, <int64_t> k // 2 + 8)
        work.growth, work.adaptive = self.growth, False
        work.effort = max(<int64_t> 1, min(effort, <int64_t> self.count))
        return work

    cdef void prepare(self, const float* query, float* padded) noexcept nogil:
        c_prepare(query, self.dim, self.width, self.c.normalise, padded)

    cdef int32_t search_into(
        self, const float* query, int32_t k, const c_Work& work, const c_Allow& allow, SearchScratch scratch,
        int32_t* rows, float* scores, Strategy* strategy,
    ) noexcept nogil:
        return c_search(self.c, query, k, work, allow, scratch.c, rows, scores, strategy)

    def _query(self, query):
        cdef cnp.ndarray array = np.asarray(query)
        if array.dtype != FLOAT32:
            raise TypeError(f"query must be float32, got {array.dtype}")
        if cnp.PyArray_NDIM(array) != 1 or cnp.PyArray_DIM(array, 0) != self.dim:
            raise ValueError(f"query must have shape ({self.dim},), got {(<object> array).shape}")
        cdef cnp.ndarray vector = array if cnp.PyArray_ISCARRAY_RO(array) else np.ascontiguousarray(array)
        cdef const float* lane = <const float*> cnp.PyArray_DATA(vector)
        cdef double square = 0
        cdef int32_t i
        for i in range(self.dim):
            square += <double> lane[i] * lane[i]
        if not isfinite(square):
            first = np.flatnonzero(~np.isfinite(vector))[0]
            raise ValueError(f"query must be finite, got {vector[first]} at {first}")
        if self.c.normalise and square == 0:
            raise ValueError("query is zero; cosine is not defined for it")
        if not self.c.normalise and square > 100 * LENGTH_MAX * LENGTH_MAX:
            raise ValueError(f"query is {square ** 0.5:.3g} long; at most {10 * LENGTH_MAX:g} is searched for")
        return vector

    def filter(self, allow) -> Filter:
        """Prepare a filter for many searches: of kind partition, if it allows between 1 in 256 and a fifth of the rows,
        with a copy of what a scan reads of them, dim / 2 + 10 bytes a row (14 for l2).

        Args:
            allow: a mask, bool or uint8 [count] or longer, with appended rows: those that hold True may be found; or
                the rows themselves, int32. An appended row that it does not tell of may be found once `Filter.add`
                allows it.

        Raises:
            TypeError: another dtype.
            ValueError: another shape, or a row that is none.
        """
        return self._made(allow, True)

    def _made(self, allow, bint lasting) -> Filter:
        if not isinstance(allow, np.ndarray) or allow.dtype not in (np.bool_, np.uint8, np.int32) or allow.ndim != 1:
            given = getattr(allow, "dtype", type(allow).__name__)
            raise TypeError(f"allow must be an array of bool or uint8, or of rows, int32, or a Filter; got {given}")
        if allow.dtype == np.int32:
            rows = np.unique(allow)
            if len(rows):
                check_rows("allow", <const int32_t*> cnp.PyArray_DATA(rows), len(rows), len(self))
        elif not self.count <= allow.shape[0] <= len(self):
            raise ValueError(f"allow must have shape ({self.count},), got {allow.shape}")
        else:
            rows = np.flatnonzero(allow)
        places = self._places(rows[rows < self.count])
        cdef Filter filter_ = Filter.make(self, &self.c, self._parts["live"], places, lasting)
        if len(fresh := rows[rows >= self.count]):
            filter_.allow_fresh(fresh - self.count)
        return filter_

    def lists(self, values, first, places) -> Lists:
        """Lists of rows as `grouped` makes them, of arrays that were stored. Keeps the arrays and copies none.

        Args:
            values: [n], ascending.
            first: int64 [n + 1]; the rows of a value are those at `places[first[i]:first[i + 1]]`.
            places: int32, ascending within each value.

        Raises:
            ValueError: the arrays do not fit together, or one of `places` holds no row.
        """
        return Lists.make(self, &self.c, self._parts["live"], values, first, places)

    def grouped(self, rows, values) -> Lists:
        """Lists of `rows` [n] int32, each once and one the index was built with, by `values` [n], none of them NaN.

        Raises:
            ValueError: another shape, or a row that is none.
        """
        if rows.shape != values.shape or rows.ndim != 1:
            raise ValueError(f"values must have shape {rows.shape}, got {values.shape}")
        cdef const int32_t[::1] checked = rows
        if len(rows):
            check_rows("rows", &checked[0], len(rows), self.count)
        places = self._parts["place"][rows] if "place" in self._parts else rows
        order = np.lexsort((places, values))
        found, first = np.unique(values[order], return_index=True)
        return self.lists(found, np.append(first, len(rows)).astype(np.int64), places[order])

    def _places(self, rows):
        """Where it holds rows it was built with: int32, ascending."""
        return np.sort(self._parts["place"][rows]) if "place" in self._parts else np.sort(rows).astype(np.int32)

    def _filter(self, allow):
        if allow is None or isinstance(allow, Filter):
            if allow is not None and (<Filter> allow).index is not self:
                raise ValueError("allow is a Filter of another index")
            return allow
        return self._made(allow, False)

    def _denied(self, deny):
        if deny is None:
            return ()
        if not isinstance(deny, np.ndarray) or deny.dtype != np.int32 or deny.ndim != 1:
            raise TypeError(f"deny must be an array [rows] of int32, got {getattr(deny, 'dtype', type(deny).__name__)}")
        rows = np.array(deny)  # its rows are checked; the caller may change his meanwhile
        if len(rows):
            check_rows("deny", <const int32_t*> cnp.PyArray_DATA(rows), len(rows), len(self))
        return rows

    def append(self, vector) -> int:
        """Add a vector, in memory of this process; its row: `len(index)` before. One thread at a time.

        Searches in other threads find it, or do not yet; none waits.

        Args:
            vector: [dim] float32, as for `build`.

        Raises:
            TypeError, ValueError: as a query; longer than 1e18; or `spare` are appended already.
        """
        cdef cnp.ndarray checked = self._query(vector)
        if self.c.fresh.flat.count == self.c.fresh.capacity:
            raise ValueError(f"{self.c.fresh.capacity} vectors were appended; load with a larger spare")
        if not self.c.normalise and np.linalg.norm(checked.astype(np.float64)) > LENGTH_MAX:
            raise ValueError(f"vector is longer than {LENGTH_MAX:g}")
        cdef cnp.ndarray padded = np.empty(self.width, np.float32)
        self.prepare(<const float*> cnp.PyArray_DATA(checked), <float*> cnp.PyArray_DATA(padded))
        c_append(self.c, <const float*> cnp.PyArray_DATA(padded))
        return len(self) - 1

    def remove(self, row) -> None:
        """Let a row be found no more. One thread at a time; searches in others see it, or do not yet; none waits.

        Raises:
            IndexError: there is no such row.
        """
        cdef int64_t at = self._row(row)
        if at >= self.count:
            live, at = self._fresh["live"], at - self.count
        else:
            if self._live is None:
                self._live = self._parts["live"].copy()
                self.c.is_whole = False
                self.c.live = <const uint16_t*> cnp.PyArray_DATA(self._live)
            live = self._live
            if self.c.place != NULL:
                at = self.c.place[at]
        live[at // 16] &= np.uint16(~(1 << (at % 16)) & 0xFFFF)

    def _row(self, row) -> int:
        at = operator.index(row)
        if not 0 <= at < len(self):
            raise IndexError(f"row must be 0 to {len(self) - 1}, got {at}")
        return at

    def vector(self, row):
        """A copy of a row's vector, [dim] float32, under cosine of length 1; of kinds partition and hnsw to 16 bits.

        With it as a query, `search` finds the rows most like a row.

        Raises:
            IndexError: there is no such row.
        """
        cdef int64_t at = self._row(row)
        parts = self._parts
        if at >= self.count:
            return self._fresh["vectors"][at - self.count, :self.dim].copy()
        if self.kind == "flat":
            return parts["vectors"][at, :self.dim].copy()
        if self.kind == "hnsw":
            high, low, scale, centre = parts["high"][at], parts["low"][at], self._header.scale, np.float32(0)
        else:
            place = parts["place"][at]
            (high, low), list_ = parts["rows"][place], parts["list"][place // 16]
            scale, centre = parts["scale8"][list_], parts["centroids"][list_, :self.dim]
        words = high[:self.dim] * np.float32(256) + low[:self.dim]
        return (centre + words * np.float32(scale / 256)).astype(np.float32)

    def __len__(self) -> int:
        return self.count + self.c.fresh.flat.count

    def __repr__(self) -> str:
        shape = f"{self.count:,} x {self.dim}"
        return f"<VectorIndex {self.path!r}: {shape}, {self.metric}, {self.kind}, effort {self.effort}>"


cdef c_Allow nothing(int32_t count) noexcept nogil:
    """All rows."""
    cdef c_Allow allow
    memset(&allow, 0, sizeof(allow))
    allow.is_all = True
    allow.count = count
    return allow


cdef const void* address(dict parts, str name):
    """Of an array, or NULL."""
    return cnp.PyArray_DATA(parts[name]) if name in parts else NULL


def prepared(const float[:, ::1] vectors not None, bint normalise, int32_t width):
    """Rows as a search wants them: [n, width] float32, zeros beyond dim, of length 1 if `normalise`."""
    cdef cnp.ndarray out = np.empty((vectors.shape[0], width), np.float32)
    cdef float* padded = <float*> cnp.PyArray_DATA(out)
    cdef Py_ssize_t i
    with nogil:
        for i in range(vectors.shape[0]):
            c_prepare(&vectors[i, 0], <int32_t> vectors.shape[1], width, normalise, padded + i * width)
    return out
