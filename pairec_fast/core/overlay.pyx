"""Items added, changed and removed since a snapshot was built, as rows beside those of its tables."""

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport calloc, free

import numpy as np

cdef extern from * nogil:
    """
    static inline void pairec_publish(std::int32_t* current, std::int32_t to, std::uint64_t* word, int bit) {
      __atomic_store_n(current, to, __ATOMIC_RELAXED);
      __atomic_fetch_or(word, std::uint64_t{1} << bit, __ATOMIC_RELEASE);
    }
    """
    void publish "pairec_publish"(int32_t* current, int32_t to, uint64_t* word, int bit) noexcept


cdef class Overlay:
    """Which rows stand for which items now. One writer at a time; readers need no lock.

    A changed item gets a row of its own, and its old rows lead there; so a request sees it as it was or as it is.

    Args:
        base: rows of the snapshot's item table, at least 1.
        spare: how many rows may be added.

    Attributes:
        capacity: base + spare. end: rows that items may have, without what is reserved. count: rows so far.
        changed: whether anything was added or moved.

    Raises:
        ValueError: `base` is not positive, `spare` negative, or both are too many.
        MemoryError: the tables cannot be had.
    """

    def __cinit__(self, int32_t base, int32_t spare=0):
        if base <= 0 or spare < 0 or spare > 0x7FFFFFFF - base:
            raise ValueError(f"base must be positive and spare not negative, 2147483647 at most; got {base}, {spare}")
        self.base = self.count = base
        self.capacity = self.end = base + spare
        # Not written to before they are needed, so pages of an item table that nobody changes stay unclaimed.
        self._moved = <uint64_t*> calloc(self.capacity // 64 + 1, 8)
        self._current = <int32_t*> calloc(self.capacity, 4)
        self._first = <int32_t*> calloc(max(1, spare), 4)
        if self._moved == NULL or self._current == NULL or self._first == NULL:
            raise MemoryError(f"an overlay over {self.capacity} rows")
        self.c.moved, self.c.current, self.c.first, self.c.base = self._moved, self._current, self._first, base
        self.c.rows = self.capacity

    def __dealloc__(self):
        free(self._moved)
        free(self._current)
        free(self._first)

    def add(self, int32_t first=-1) -> int:
        """Take the next row. `first` is the first row its item ever had, or -1: this is the first.

        Raises:
            ValueError: all spare rows are taken, or `first` is no row, or not the first of its item.
        """
        if self.count == self.end:
            raise ValueError(f"all {self.end - self.base} spare rows are taken")
        if first == -1:
            first = self.count
        elif not 0 <= first < self.count or self.c.item_of(first) != first:
            raise ValueError(f"first is {first}; -1, or the first row of an item, 0 to {self.count - 1}, is right")
        self._first[self.count - self.base] = first
        self.count += 1
        self.changed = True
        return self.count - 1

    def reserve(self, int32_t count) -> int:
        """Keep the last `count` spare rows for what is no item of the table. Returns the first of them.

        Raises:
            ValueError: there are not so many that are free.
        """
        if not 0 <= count <= self.end - self.count:
            raise ValueError(f"{count} rows of {self.end - self.count} free ones cannot be reserved")
        self.end -= count
        cdef int32_t row
        for row in range(self.end, self.end + count):
            self._first[row - self.base] = row
        return self.end

    def move(self, int32_t row, int32_t to) -> None:
        """From now on `to` stands for the item of `row`; -1: it is gone.

        Raises:
            ValueError: no such rows, or `to` is not the later one.
        """
        if not 0 <= row < self.count or not (to == -1 or row < to < self.count):
            raise ValueError(f"row {row} cannot move to {to}: rows are 0 to {self.count - 1}, to later ones or -1")
        self.changed = True
        publish(self._current + row, to, self._moved + (row >> 6), row & 63)

    def resolve(self, int32_t row) -> int:
        """The row that stands for the item of `row` now, or -1. Raises IndexError: no such row."""
        if not 0 <= row < self.count:
            raise IndexError(f"row {row} of {self.count}")
        return self.c.resolve(row)

    def base_of(self, int32_t row) -> int:
        """The base row of the item of `row`, or -1: the base has none. Raises IndexError: no such row."""
        if not (0 <= row < self.count or self.end <= row < self.capacity):
            raise IndexError(f"row {row} of {self.count}")
        return self.c.item_of(row) if self.c.item_of(row) < self.base else -1

    def bases(self, const int32_t[::1] rows not None):
        """The base rows of `rows` [n] int32, in order; those of items that are gone or have none are left out.

        Raises:
            ValueError: a row is not below `count`.
        """
        out = np.empty(rows.shape[0], np.int32)
        cdef int32_t[::1] view = out
        cdef Py_ssize_t place
        cdef int32_t kept = 0, row
        for place in range(rows.shape[0]):
            row = rows[place]
            if not 0 <= row < self.count:
                raise ValueError(f"rows[{place}] is {row}; rows here are 0 to {self.count - 1}")
            if self.c.resolve(row) >= 0 and self.c.item_of(row) < self.base:
                view[kept] = self.c.item_of(row)
                kept += 1
        return out[:kept]
