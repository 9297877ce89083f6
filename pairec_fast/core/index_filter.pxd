from libc.stdint cimport int32_t

from pairec_fast.core.arena cimport Block
from pairec_fast.core.index_types cimport Excerpt, c_Allow, c_Index


cdef class Filter:
    cdef c_Allow c
    cdef object _lanes, _listed, _fresh
    cdef Excerpt _excerpt
    cdef Block _memory  # of the excerpt
    cdef object index
    cdef int32_t first, spare  # rows that are appended: the number of the first, and how many there is room for
    # `places` int32, ascending and contiguous, is kept, not copied; `live` uint16 [blocks] of the index's file. `c` is
    # the index's, which `index` keeps. What is not `lasting` gets no excerpt: that pays after tens of searches.
    @staticmethod
    cdef Filter make(object index, const c_Index* c, object live, object places, bint lasting)
    cdef void _extract(self, const c_Index* c)
    # The only appended rows it allows, counted from the first; before it is used.
    cdef void allow_fresh(self, object rows)


cdef class Lists:
    cdef readonly object values, first, places
    cdef object _index, _live
    cdef const c_Index* _c
    @staticmethod
    cdef Lists make(object index, const c_Index* c, object live, object values, object first, object places)
