"""Item id -> row and back, over mapped arrays."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint64_t

import numpy as np

cdef extern from * nogil:
    """
    static inline void pairec_ask_for(const void* data) { __builtin_prefetch(data); }
    """
    void ask_for "pairec_ask_for"(const void* data)

cdef extern from "idmap.hpp" namespace "pairec" nogil:
    bint c_offsets_fit "pairec::offsets_fit"(const uint64_t*, int32_t, uint64_t) noexcept
    bint c_slots_fit "pairec::slots_fit"(const uint64_t*, uint64_t, int32_t) noexcept
    int32_t c_build_slots "pairec::build_slots"(const char*, const uint64_t*, int32_t, uint64_t*, uint64_t) noexcept


# What an empty `text` points at: memcpy and memcmp must not see a null pointer even for no bytes.
cdef const char* nothing = b""


cdef int32_t check_offsets(const uint64_t[::1] offset, Py_ssize_t text_bytes) except -1:
    """The number of ids. Raises ValueError if `offset` is not one of `text_bytes` bytes."""
    if not 1 <= offset.shape[0] <= 0x7FFFFFFF:
        raise ValueError(f"offset must have count + 1 entries, 1 to 2147483647, got {offset.shape[0]}")
    cdef int32_t count = <int32_t> (offset.shape[0] - 1)
    cdef bint fit
    with nogil:
        fit = c_offsets_fit(&offset[0], count, text_bytes)
    if not fit:
        raise ValueError(f"offset must not decrease nor pass the {text_bytes} bytes of text")
    return count


def build_slots(const unsigned char[::1] text not None, const uint64_t[::1] offset not None):
    """The hash table of ids `text[offset[row]:offset[row + 1]]`: uint64 [power of two].

    Raises:
        ValueError: two rows have the same id; `args[1]` is the later row. Or `offset` does not fit `text`.
    """
    cdef int32_t count = check_offsets(offset, text.shape[0])
    cdef uint64_t size = 2
    while size < 2 * <uint64_t> count:
        size *= 2
    slots = np.zeros(size, np.uint64)
    cdef uint64_t[::1] view = slots
    cdef const char* data = <const char*> &text[0] if text.shape[0] else nothing
    cdef int32_t repeated
    with nogil:
        repeated = c_build_slots(data, &offset[0], count, &view[0], size - 1)
    if repeated >= 0:
        name = bytes(text[offset[repeated]:offset[repeated + 1]]).decode(errors="replace")
        raise ValueError(f"row {repeated}: id {name!r} occurs twice", repeated)
    return slots


cdef class IdMap:
    """Ids of a table; keeps its arrays alive. Many may look while one puts ids that came later.

    Args:
        text: uint8, all ids in UTF-8, one after the other.
        offset: uint64 [count + 1] into `text`.
        slots: uint64, from `build_slots`.

    Raises:
        ValueError: the arrays do not fit together: a lookup would read beyond them or never end.
    """

    def __cinit__(self, const unsigned char[::1] text not None, const uint64_t[::1] offset not None,
                  const uint64_t[::1] slots not None):
        if slots.shape[0] & (slots.shape[0] - 1) or slots.shape[0] < 2:
            raise ValueError(f"slots must have a power of two entries, at least 2, got {slots.shape[0]}")
        self.c.count = check_offsets(offset, text.shape[0])
        cdef bint fit
        with nogil:
            fit = c_slots_fit(&slots[0], slots.shape[0] - 1, self.c.count)
        if not fit:
            raise ValueError(f"slots are not those of {self.c.count} ids: none is empty, or one names a row beyond")
        self.text, self.offset, self.slots = np.asarray(text), np.asarray(offset), np.asarray(slots)
        self.c.text = <const char*> &text[0] if text.shape[0] else nothing
        self.c.offset = &offset[0]
        self.c.slots = &slots[0]
        self.c.mask = slots.shape[0] - 1

    def __len__(self):
        """Ids in the arrays; those that were put do not count."""
        return self.c.count

    def put(self, str id not None, int32_t row) -> None:
        """From now on `id` is `row`: the next one beyond all so far, or -1, none.

        Raises:
            ValueError: another row.
        """
        known = [] if self._added is None else self._added
        if row >= 0:
            if row != self.c.count + <int32_t> len(known):
                raise ValueError(f"row {row} for {id!r}; {self.c.count + len(known)} is the next")
            known.append(id)  # before the row can be found
        self._added = known
        rows = {} if self._rows is None else self._rows
        rows[id] = row
        self._rows = rows

    def base(self, str id not None) -> int:
        """Row of `id` in the arrays, or -1, whatever was put."""
        cdef Py_ssize_t size
        cdef const char* data
        try:
            data = PyUnicode_AsUTF8AndSize(id, &size)
        except UnicodeEncodeError:
            return -1
        return c_find(self.c, data, size)

    def find(self, str id not None) -> int:
        """Row of `id`, or -1; a text with a lone surrogate has no UTF-8 and so no row."""
        if self._rows is not None:
            row = self._rows.get(id)
            if row is not None:
                return row
        return self.base(id)

    def gone(self, str id not None) -> bool:
        """Whether `id` was put as none: it had a row and has none now."""
        return self._rows is not None and self._rows.get(id) == -1

    def find_all(self, list ids not None):
        """Rows of those of `ids` that are known texts, in order: int32 [<= len(ids)]."""
        rows = self.find_each(ids)
        return rows[rows >= 0]

    def find_each(self, list ids not None):
        """The row of each of `ids`, -1 where it is no known text: int32 [len(ids)]."""
        rows = np.empty(len(ids), np.int32)
        cdef int32_t[::1] view = rows
        cdef Py_ssize_t size, at = 0
        cdef const char* data
        for id in ids:
            view[at] = -1
            if isinstance(id, str):
                if self._rows is not None and id in self._rows:
                    view[at] = self._rows[id]
                else:
                    try:
                        data = PyUnicode_AsUTF8AndSize(id, &size)
                        view[at] = c_find(self.c, data, size)
                    except UnicodeEncodeError:
                        pass
            at += 1
        return rows

    def id(self, int32_t row) -> str:
        """Id of `row`.

        Raises:
            IndexError: no such row.
        """
        cdef Py_ssize_t later = <Py_ssize_t> row - self.c.count
        if later >= 0 and self._added is not None and later < len(self._added):
            return self._added[later]
        if not 0 <= row < self.c.count:
            raise IndexError(f"row {row} of {self.c.count}")
        cdef uint64_t begin = self.c.offset[row]
        return PyUnicode_DecodeUTF8(self.c.text + begin, self.c.offset[row + 1] - begin, NULL)

    def id_each(self, const int32_t[:] rows not None) -> list:
        """The id of each of `rows` [n], in less time than one by one: offsets and texts lie anywhere in large tables.

        Raises:
            IndexError: no such row.
        """
        cdef Py_ssize_t at, count = rows.shape[0]
        for at in range(count):
            if 0 <= rows[at] < self.c.count:
                ask_for(self.c.offset + rows[at])
        for at in range(count):
            if 0 <= rows[at] < self.c.count:
                ask_for(self.c.text + self.c.offset[rows[at]])
        return [self.id(rows[at]) for at in range(count)]
