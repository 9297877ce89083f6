"""Lists of items in one text, split without a Python object an entry."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

import numpy as np

from pairec_fast.core.idmap cimport IdMap, c_find

cdef extern from "entries.hpp" namespace "pairec" nogil:
    ctypedef struct c_Entry "pairec::Entry":
        uint32_t id, id_size, label, label_size, tail, tail_size
        double first, last
        uint8_t colons
        cbool odd_first, odd_last
    int32_t c_split "pairec::split_entries"(const char*, uint32_t, char, cbool, c_Entry*, int32_t) noexcept
    int32_t c_number_labels "pairec::number_labels"(const char*, const c_Entry*, int32_t, int32_t*, int32_t*,
                                                    int32_t) noexcept


cdef class Entries:
    """What `text` lists: entries `id`, `id:label` or `id:label:score` between separators. Those without an id, or with
    more than two colons, are left out.

    Args:
        text: the list.
        separator: one ASCII character.
        most: entries beyond so many are not looked at.
        colons: of entries with another number of colons than this nothing is kept; -1: all.
        skip_null: nor of those whose id is `null`.
        number: reads as a number, or NaN, what is not in plain decimal.

    Attributes:
        first, last: float64 [len], what is behind the first and the second colon as numbers, NaN where it is none.

    Raises:
        ValueError: a separator that is not one ASCII character, or a text of 4 GiB.
    """

    cdef bytes _data
    cdef vector[c_Entry] _entries
    cdef readonly object first, last

    def __cinit__(self, str text not None, *, str separator not None=",", int32_t most=1 << 20, int32_t colons=-1,
                  cbool skip_null=False, number=None):
        if len(separator) != 1 or ord(separator) > 127 or separator == ":":
            raise ValueError(f"separator must be one ASCII character and no colon, got {separator!r}")
        if most < 0:
            raise ValueError(f"most must not be negative, got {most}")
        self._data = text.encode(errors="replace")
        if PyBytes_GET_SIZE(self._data) >= 0xFFFFFFFF:
            raise ValueError(f"a list of {PyBytes_GET_SIZE(self._data)} bytes")
        cdef const char* data = PyBytes_AS_STRING(self._data)
        cdef uint32_t size = <uint32_t> PyBytes_GET_SIZE(self._data)
        cdef char mark = <char> ord(separator)
        cdef int32_t count, i, kept = 0
        # An entry has at least its id, and a separator before the next.
        self._entries.resize(min(<int32_t> min(size // 2 + 1, 0x7FFFFFFF), most))
        with nogil:
            count = c_split(data, size, mark, skip_null, self._entries.data(), <int32_t> self._entries.size())
            for i in range(count):
                if self._entries[i].colons <= 2 and (colons < 0 or self._entries[i].colons == colons):
                    self._entries[kept] = self._entries[i]
                    kept += 1
        self._entries.resize(kept)
        self.first, self.last = np.empty(kept), np.empty(kept)
        cdef double[::1] first = self.first, last = self.last
        for i in range(kept):
            first[i], last[i] = self._entries[i].first, self._entries[i].last
            if number is not None and self._entries[i].odd_first:
                first[i] = number(self._text(self._entries[i].label, self._entries[i].label_size))
            if number is not None and self._entries[i].odd_last:
                last[i] = number(self._text(self._entries[i].tail, self._entries[i].tail_size))

    def __len__(self):
        return <int32_t> self._entries.size()

    def id(self, int32_t at) -> str:
        """Raises IndexError: no such entry."""
        cdef c_Entry* entry = self._entry(at)
        return self._text(entry.id, entry.id_size)

    def rows(self, IdMap ids not None):
        """Rows of the entries' ids, -1 for those unknown: int32 [len]."""
        cdef int32_t count = <int32_t> self._entries.size(), i
        rows = np.empty(count, np.int32)
        cdef int32_t[::1] view = rows
        cdef const char* data = PyBytes_AS_STRING(self._data)
        with nogil:
            for i in range(count):
                view[i] = c_find(ids.c, data + self._entries[i].id, self._entries[i].id_size)
        known = ids._rows
        if known is not None:  # ids that were put later come first
            for i in range(count):
                row = known.get(self._text(self._entries[i].id, self._entries[i].id_size))
                if row is not None:
                    view[i] = row
        return rows

    def labels(self, int32_t most=255):
        """Codes of the entries' labels, int32 [len], -1 for none, and the distinct labels by code, at most `most`."""
        cdef int32_t count = <int32_t> self._entries.size(), distinct
        codes, found = np.empty(count, np.int32), np.empty(max(most, 1), np.int32)
        cdef int32_t[::1] code = codes, where = found
        cdef const char* data = PyBytes_AS_STRING(self._data)
        if count == 0:
            return codes, []
        with nogil:
            distinct = c_number_labels(data, self._entries.data(), count, &code[0], &where[0], most)
        texts = [self._text(self._entries[at].label, self._entries[at].label_size) for at in found[:distinct].tolist()]
        return codes, texts

    cdef c_Entry* _entry(self, int32_t at) except NULL:
        if not 0 <= at < <int32_t> self._entries.size():
            raise IndexError(f"entry {at} of {self._entries.size()}")
        return &self._entries[at]

    cdef str _text(self, uint32_t begin, uint32_t size):
        return PyUnicode_DecodeUTF8(PyBytes_AS_STRING(self._data) + begin, size, NULL)
