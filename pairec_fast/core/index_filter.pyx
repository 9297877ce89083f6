"""Which rows of an index a search may find: a filter of them, and lists of them by value to make filters of."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t

import operator

import numpy as np
cimport numpy as cnp

from pairec_fast.core import index_file
from pairec_fast.core.arena cimport Block
from pairec_fast.core.index_scratch cimport line
from pairec_fast.core.index_types cimport Kind, block_lanes, extract

cnp.import_array()

LISTED_SHARE = 5  # a filter that allows fewer than a fifth lists them, for a search to choose
ALWAYS_LISTED = 256  # and one that allows fewer than this part has nothing but the list


cdef class Filter:
    """Which rows of an index may be found, prepared once: `index.filter(mask)`. Safe to share between threads."""

    def __init__(self):
        raise TypeError("made by VectorIndex.filter(mask)")

    @staticmethod
    cdef Filter make(object index, const c_Index* c, object live, object places, bint lasting):
        cdef Filter one = Filter.__new__(Filter)
        one.index, one.first, one.spare = index, c.count, c.fresh.capacity
        one.c.count = len(places)
        if one.c.count * <int64_t> ALWAYS_LISTED >= c.count:
            one._lanes = index_file.lanes_of(places, len(live))
            one.c.lanes = <const uint16_t*> cnp.PyArray_DATA(one._lanes)
        if one.c.lanes == NULL or one.c.count * <int64_t> LISTED_SHARE <= c.count:
            one._listed = places
            one.c.listed = <const int32_t*> cnp.PyArray_DATA(one._listed)
        if lasting and c.kind == Kind.partition and one.c.lanes != NULL and one.c.listed != NULL:
            one._extract(c)
        return one

    cdef void _extract(self, const c_Index* c):
        cdef size_t rows = (self.c.count + block_lanes - 1) // block_lanes * block_lanes
        cdef size_t floats = line(4 * rows), codes = 2 * rows * c.partition.quads
        cdef size_t lists = line(4 * <size_t> (c.partition.lists + 1))
        self._memory = Block(codes + (3 if c.partition.bias != NULL else 2) * floats + 2 * lists + line(2 * rows) + line(rows // 8))
        cdef char* at = <char*> self._memory.data
        cdef Excerpt* one = &self._excerpt
        one.count = self.c.count
        one.codes = <const uint8_t*> at
        at += codes
        one.scale = <const float*> at
        at += floats
        one.place = <const int32_t*> at
        at += floats
        one.first = <const int32_t*> at
        at += lists
        one.size = <const int32_t*> at
        at += lists
        one.list = <const uint16_t*> at
        at += line(2 * rows)
        one.lanes = <const uint16_t*> at
        at += line(rows // 8)
        if c.partition.bias != NULL:
            one.bias = <const float*> at
        with nogil:
            extract(c.partition, self.c.listed, self._excerpt)
        self.c.excerpt = one

    cdef void allow_fresh(self, object rows):
        self._fresh = index_file.lanes_of(rows, (<int64_t> self.spare + 15) // 16)
        self.c.fresh = <const uint16_t*> cnp.PyArray_DATA(self._fresh)

    def __len__(self) -> int:
        return self.c.count

    @property
    def places(self):
        """Where the index holds the rows it was built with, int32, ascending; None where they are too many to list."""
        return self._listed

    def add(self, row) -> None:
        """Allow a row that is or will be appended to the index. Searches in other threads see it from some moment on.

        Raises:
            IndexError: it is none.
        """
        if self.index is None:
            raise TypeError("made by VectorIndex.filter(mask)")
        cdef int64_t at = operator.index(row) - self.first
        if not 0 <= at < self.spare:
            last = self.first + self.spare - 1
            raise IndexError(f"row must be one appended since, {self.first} to {last}, got {row}")
        if self._fresh is None:  # most filters never get one
            self.allow_fresh(np.empty(0, np.int32))
        self._fresh[at // 16] |= np.uint16(1 << (at % 16))


cdef class Lists:
    """Rows of an index by a value that each of them has: `index.lists(...)` of arrays that a snapshot stores, which it
    keeps and does not copy, or `index.grouped(...)`. Immutable; safe to share between threads.

    Attributes:
        values: what rows have, ascending.
        first: int64 [values + 1]; the rows of a value are listed from `first[at]` to `first[at + 1]`,
        places: int32: by where the index holds them, ascending.
    """

    def __init__(self):
        raise TypeError("made by VectorIndex.lists(values, first, places)")

    @staticmethod
    cdef Lists make(
        object index, const c_Index* c, object live, object values, object first, object places,
    ):
        if values.ndim != 1 or not (values[1:] > values[:len(values) - 1]).all() or not (values == values).all():
            raise ValueError("values must ascend")
        if first.shape != (len(values) + 1,) or first[0] != 0 or first[len(values)] != len(places):
            raise ValueError(f"first must run from 0 to the {len(places)} places, one entry a value and one more")
        if not (np.diff(first) > 0).all():
            raise ValueError("first must ascend: each value has a row")
        wrong = misplaced(live, first, places)
        if wrong >= 0:
            raise ValueError(f"places[{wrong}] is {places[wrong]}, which holds no row or does not ascend in its list")
        cdef Lists one = Lists.__new__(Lists)
        one._index, one._c, one._live = index, c, live
        one.values, one.first, one.places = values, first, places
        return one

    def __len__(self) -> int:
        return len(self.values)

    def find(self, value) -> int:
        """Where a value stands in `values`, or -1: compared exactly, as Python compares numbers."""
        cdef Py_ssize_t low = 0, high = len(self.values), middle
        while low < high:
            middle = (low + high) // 2
            if self.values.item(middle) < value:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self.values) and self.values.item(low) == value else -1

    def common(self):
        """Where values stand that so many rows have that a filter of them takes memory of this process: bits, and, of a
        partition index, up to a fifth of the rows, a packed copy as `VectorIndex.filter` says."""
        return np.flatnonzero(np.diff(self.first) * ALWAYS_LISTED >= self._c.count)

    def filter(self, at) -> Filter:
        """A new filter of the rows of the value that stands at `at`. Quick, but for common values.

        Raises:
            IndexError: there is none.
        """
        cdef int64_t place = operator.index(at)
        if not 0 <= place < len(self.values):
            raise IndexError(f"at must be 0 to {len(self.values) - 1}, got {place}")
        listed = self.places[self.first[place]:self.first[place + 1]]
        return Filter.make(self._index, self._c, self._live, listed, True)


cdef int64_t misplaced(
    const uint16_t[::1] live, const int64_t[::1] first, const int32_t[::1] places,
) except -2:
    """The first of `places` that holds no row, or does not ascend within its list; -1: none. `first` fits them."""
    cdef int64_t end = 16 * live.shape[0], value, i
    cdef int32_t place, before
    with nogil:
        for value in range(first.shape[0] - 1):
            before = -1
            for i in range(first[value], first[value + 1]):
                place = places[i]
                if place <= before or place >= end or not live[place // 16] >> (place % 16) & 1:
                    return i
                before = place
    return -1
