from libc.stdint cimport int32_t, int64_t

from pairec_fast.core.arena cimport Block
from pairec_fast.core.index_types cimport c_Index, c_SearchScratch


cdef inline size_t line(size_t size) noexcept:
    """So many bytes, to whole lines of 64."""
    return (size + 63) // 64 * 64


cdef class SearchScratch:
    cdef c_SearchScratch c
    cdef Block _block
    cdef float* query      # [width] for a prepared query
    cdef int32_t* rows     # [k_max] for results
    cdef float* scores     # [k_max]
    cdef readonly int32_t k_max
    cdef readonly int64_t effort_max
    @staticmethod
    cdef SearchScratch make(const c_Index* index, int64_t k, int64_t effort)
    # Whether it has room for such a search.
    cdef bint fits(self, const c_Index* index, int64_t k, int64_t effort) noexcept
