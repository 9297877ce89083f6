from libc.stdint cimport int32_t

from pairec_fast.core.index_types cimport c_Allow


cdef class Filter:
    cdef c_Allow c
    cdef object _lanes, _listed, _fresh
    cdef object index
    cdef int32_t first, spare  # rows that are appended: the number of the first, and how many there is room for
    # `places` int32, ascending and contiguous, is kept, not copied; `live` uint16 [blocks] of the index's file.
    @staticmethod
    cdef Filter make(object index, int32_t count, int32_t spare, object live, object places)
    # The only appended rows it allows, counted from the first; before it is used.
    cdef void allow_fresh(self, object rows)


cdef class Lists:
    cdef readonly object values, first, places
    cdef object _index, _live
    cdef int32_t _count, _spare
    @staticmethod
    cdef Lists make(
        object index, int32_t count, int32_t spare, object live, object values, object first, object places)
