"""Item id -> row and back, over mapped arrays."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint64_t

import numpy as np

cdef extern from "idmap.hpp" namespace "pairec" nogil:
    ctypedef struct c_IdMap "pairec::IdMap":
        const char* text
        const uint64_t* offset
        const uint64_t* slots
        uint64_t mask
        int32_t count
    int32_t c_find "pairec::find"(const c_IdMap&, const char*, size_t) noexcept
    int32_t c_build_slots "pairec::build_slots"(const char*, const uint64_t*, int32_t, uint64_t*, uint64_t) noexcept


def build_slots(const unsigned char[::1] text not None, const uint64_t[::1] offset not None):
    """The hash table of ids `text[offset[row]:offset[row + 1]]`: uint64 [power of two].

    Raises:
        ValueError: two rows have the same id; `args[1]` is the later row.
    """
    cdef int32_t count = offset.shape[0] - 1
    cdef uint64_t size = 2
    while size < 2 * <uint64_t> count:
        size *= 2
    slots = np.zeros(size, np.uint64)
    cdef uint64_t[::1] view = slots
    cdef const unsigned char* data = &text[0] if text.shape[0] else NULL
    cdef int32_t repeated
    with nogil:
        repeated = c_build_slots(<const char*> data, &offset[0], count, &view[0], size - 1)
    if repeated >= 0:
        name = bytes(text[offset[repeated]:offset[repeated + 1]]).decode()
        raise ValueError(f"row {repeated}: id {name!r} occurs twice", repeated)
    return slots


cdef class IdMap:
    """Ids of a table. Immutable; keeps its arrays alive.

    Args:
        text: uint8, all ids in UTF-8, one after the other.
        offset: uint64 [count + 1] into `text`.
        slots: uint64, from `build_slots`.
    """

    cdef c_IdMap c
    cdef readonly object text, offset, slots

    def __cinit__(self, const unsigned char[::1] text not None, const uint64_t[::1] offset not None,
                  const uint64_t[::1] slots not None):
        if offset.shape[0] < 1 or slots.shape[0] & (slots.shape[0] - 1) or slots.shape[0] < 2:
            raise ValueError("offset must have count + 1 entries, slots a power of two")
        self.text, self.offset, self.slots = text, offset, slots
        self.c.text = <const char*> (&text[0] if text.shape[0] else NULL)
        self.c.offset = &offset[0]
        self.c.slots = &slots[0]
        self.c.mask = slots.shape[0] - 1
        self.c.count = offset.shape[0] - 1

    def __len__(self):
        return self.c.count

    def find(self, str id not None) -> int:
        """Row of `id`, or -1."""
        cdef Py_ssize_t size
        cdef const char* data = PyUnicode_AsUTF8AndSize(id, &size)
        return c_find(self.c, data, size)

    def find_all(self, list ids not None):
        """Rows of those of `ids` that are known texts, in order: int32 [<= len(ids)]."""
        rows = np.empty(len(ids), np.int32)
        cdef int32_t[::1] view = rows
        cdef int32_t found, count = 0
        cdef Py_ssize_t size
        cdef const char* data
        for id in ids:
            if not isinstance(id, str):
                continue
            data = PyUnicode_AsUTF8AndSize(id, &size)
            found = c_find(self.c, data, size)
            if found >= 0:
                view[count] = found
                count += 1
        return rows[:count]

    def id(self, int32_t row) -> str:
        """Id of `row`.

        Raises:
            IndexError: no such row.
        """
        if not 0 <= row < self.c.count:
            raise IndexError(f"row {row} of {self.c.count}")
        cdef uint64_t begin = self.c.offset[row]
        return PyUnicode_DecodeUTF8(self.c.text + begin, self.c.offset[row + 1] - begin, NULL)
