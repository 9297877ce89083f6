"""The table of candidates, allocated once. Python sees NumPy views, C++ raw pointers, the same bytes."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import sys

import numpy as np
cimport numpy as cnp

from pairec_fast.core.overlay cimport Overlay

cnp.import_array()

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** block, size_t alignment, size_t size)

cdef extern from "large_pages.hpp" namespace "pairec" nogil:
    size_t large_page
    void use_large_pages(void* data, size_t size)


cdef class Block:
    """Zeroed memory on a 64-byte line, or in large pages; arena and views share it, and the last of them frees it."""

    def __cinit__(self, size_t size):
        cdef bint large = size >= large_page
        if posix_memalign(&self.data, large_page if large else 64, size) != 0:
            self.data = NULL
            raise MemoryError(f"arena of {size} bytes")
        if large:
            use_large_pages(self.data, size)
        memset(self.data, 0, size)

    def __dealloc__(self):
        free(self.data)


cdef int32_t check_rows(str name, const int32_t* rows, Py_ssize_t count, int32_t end) except -1:
    """Raise ValueError unless `count` fits int32 and all `rows` lie in [0, end).

    Keeps the GIL: a request's rows take less than a microsecond, and each release may cost a turn of another thread.
    """
    cdef Py_ssize_t place = 0
    if count > 0x7FFFFFFF:
        raise ValueError(f"{name} has {count} rows; at most 2147483647")
    if not rows_within(rows, count, end):
        while 0 <= rows[place] < end:
            place += 1
        raise ValueError(f"{name}[{place}] is {rows[place]}; rows here are 0 to {end - 1}")
    return 0


cdef int32_t check_candidates(Arena arena, int32_t items) except -1:
    """Raise ValueError unless every candidate is a row of a table of `items`: Python can write `arena.row` too."""
    return check_rows("arena.row", arena.c.row, arena.c.count, items)


cdef uint8_t check_source(int32_t source) except? 0:
    if not 0 <= source <= 255:
        raise ValueError(f"source must be 0 to 255, got {source}")
    return <uint8_t> source


cdef class Arena:
    """Columns of one request's candidates, sized at construction; nothing is allocated afterwards.

    Args:
        candidates_max: slots, at least 1.
        items_max: rows of the largest item table it will walk.
        width: features per candidate.
        algos: algorithm outputs per candidate.

    Views, each [candidates_max]: `row` int32, `source` uint8, `place` int32, `recall_score` float64, `keep` uint8, `score`
    float64, `order` int32; and `features` [candidates_max, width] float32, column-major, `algo_score` [algos, candidates_max]
    float64.
    Slots at and beyond `count` are garbage. One thread at a time.

    Raises:
        ValueError: a size is not positive.
        MemoryError: the block cannot be had.
    """

    def __cinit__(self, int32_t candidates_max, *, int32_t items_max=1, int32_t width=1, int32_t algos=1):
        cdef int32_t value
        for name, value in (("candidates_max", candidates_max), ("items_max", items_max), ("width", width), ("algos", algos)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        # Python integers, so that a size beyond the address space is seen as one instead of wrapping around.
        n, items = int(candidates_max), int(items_max)
        # An overlay's bits are all zero: without another one every row is itself.
        sizes = [4 * n, n, 8 * n, n, 4 * n * width, 8 * n * algos, 8 * n, 4 * n, 4 * n, 4 * items, 4 * items, 8 * items,
                 4 * items, 8 * (items // 64 + 1), 4 * n, 8 * n]
        offsets = []
        total = 0
        for size in sizes:
            offsets.append(total)
            total += (size + 63) // 64 * 64
        if total > sys.maxsize:
            raise MemoryError(f"arena of {total} bytes")
        self._block = Block(total)
        self.bytes = total
        cdef char* base = <char*> self._block.data
        self.c.candidates_max = candidates_max
        self.c.items_max = items_max
        self.c.width = width
        self.c.algos = algos
        self.c.row = <int32_t*> (base + <size_t> offsets[0])
        self.c.source = <uint8_t*> (base + <size_t> offsets[1])
        self.c.recall_score = <double*> (base + <size_t> offsets[2])
        self.c.keep = <uint8_t*> (base + <size_t> offsets[3])
        self.c.features = <float*> (base + <size_t> offsets[4])
        self.c.algo_score = <double*> (base + <size_t> offsets[5])
        self.c.score = <double*> (base + <size_t> offsets[6])
        self.c.order = <int32_t*> (base + <size_t> offsets[7])
        self.c.spare = <int32_t*> (base + <size_t> offsets[8])
        self.c.seen.stamp = <uint32_t*> (base + <size_t> offsets[9])
        self.c.seen.size = items_max
        self.c.mark.stamp = <uint32_t*> (base + <size_t> offsets[10])
        self.c.mark.size = items_max
        self.c.sum = <double*> (base + <size_t> offsets[11])
        self.c.touched = <int32_t*> (base + <size_t> offsets[12])
        self.c.place = <int32_t*> (base + <size_t> offsets[14])
        self.c.scratch = <double*> (base + <size_t> offsets[15])
        self.c.overlay.moved = <uint64_t*> (base + <size_t> offsets[13])
        self.c.overlay.base = self.c.overlay.rows = items_max
        self.row = self._view(self.c.row, cnp.NPY_INT32, n, 0)
        self.source = self._view(self.c.source, cnp.NPY_UINT8, n, 0)
        self.place = self._view(self.c.place, cnp.NPY_INT32, n, 0)
        self.recall_score = self._view(self.c.recall_score, cnp.NPY_FLOAT64, n, 0)
        self.keep = self._view(self.c.keep, cnp.NPY_UINT8, n, 0)
        self.features = self._view(self.c.features, cnp.NPY_FLOAT32, width, n).T
        self.algo_score = self._view(self.c.algo_score, cnp.NPY_FLOAT64, algos, n)
        self.score = self._view(self.c.score, cnp.NPY_FLOAT64, n, 0)
        self.order = self._view(self.c.order, cnp.NPY_INT32, n, 0)
        self.reset()

    cdef object _view(self, void* data, int dtype, size_t rows, size_t columns):
        cdef cnp.npy_intp[2] shape
        shape[0] = rows
        shape[1] = columns
        array = cnp.PyArray_SimpleNewFromData(2 if columns else 1, shape, dtype, data)
        cnp.set_array_base(array, self._block)
        return array

    def reset(self, bint repeats=False) -> None:
        """Forget every candidate. Costs two increments.

        `repeats`: recall keeps an item once for each recall that brings it, until a filter says otherwise.
        """
        self.c.repeats, self.c.scored = repeats, False
        self.c.count = 0
        self.c.order_count = 0
        self.c.seen.clear()
        self.c.mark.clear()

    def count_sources(self, int32_t sources) -> list:
        """How many candidates each of the first `sources` recalls has brought."""
        cdef int32_t counts[256]
        cdef int32_t slot
        if not 0 <= sources <= 256:
            raise ValueError(f"sources must be 0 to 256, got {sources}")
        memset(counts, 0, sizeof(counts))
        for slot in range(self.c.count):
            counts[self.c.source[slot]] += 1
        return [counts[slot] for slot in range(sources)]

    def begin_scores(self) -> None:
        """From here on scores live: the score is recall's until something gives another, every output 0."""
        cdef size_t count = self.c.count, algo
        if self.c.scored:
            return
        for algo in range(<size_t> self.c.algos):
            memset(self.c.algo_score + algo * <size_t> self.c.candidates_max, 0, 8 * count)
        memcpy(self.c.score, self.c.recall_score, 8 * count)
        self.c.scored = True

    def follow(self, Overlay overlay not None) -> None:
        """Candidates are rows of the table that `overlay` is about, from the next recall on.

        Raises:
            ValueError: it has more rows than the arena has room for.
        """
        if overlay.capacity > self.c.items_max:
            raise ValueError(f"an overlay of {overlay.capacity} rows, an arena for {self.c.items_max}")
        self.c.overlay = overlay.c
        self._overlay = overlay

    @property
    def candidates_max(self) -> int:
        return self.c.candidates_max

    @property
    def items_max(self) -> int:
        return self.c.items_max

    @property
    def width(self) -> int:
        return self.c.width

    @property
    def algos(self) -> int:
        return self.c.algos

    @property
    def count(self) -> int:
        """Live slots."""
        return self.c.count

    @count.setter
    def count(self, int32_t value):
        if not 0 <= value <= self.c.candidates_max:
            raise ValueError(f"count must be 0 to candidates_max ({self.c.candidates_max}), got {value}")
        self.c.count = value

    @property
    def repeats(self) -> bool:
        """Whether recall keeps an item once for each recall that brings it, not once for all."""
        return self.c.repeats

    @property
    def scored(self) -> bool:
        """Whether `score` and `algo_score` live: then they go with their slots when filters drop candidates."""
        return self.c.scored

    @scored.setter
    def scored(self, bint value):
        self.c.scored = value

    @property
    def order_count(self) -> int:
        """Live entries of `order`."""
        return self.c.order_count
