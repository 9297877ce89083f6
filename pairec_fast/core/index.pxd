from libc.stdint cimport int32_t, int64_t

from pairec_fast.core.index_scratch cimport SearchScratch
from pairec_fast.core.index_types cimport Flat, Strategy, c_Allow, c_Index, c_Work


cdef class VectorIndex:
    cdef c_Index c
    cdef bint is_l2
    cdef object _map, _header, _parts, _free, _fresh, _live
    cdef readonly str path, metric, kind
    cdef readonly double recall_reached
    cdef readonly int32_t count, dim, width
    cdef readonly int64_t effort
    cdef int32_t tuned_k
    cdef double growth
    cdef void _point(self, Flat* flat, int32_t count, dict parts)
    cdef SearchScratch _take(self, int32_t k, const c_Work& work, const c_Allow& allow)
    # The work for k: `effort`, or, if that is 0, what `build` found sufficient.
    cdef c_Work _work(self, int32_t k, int64_t effort) noexcept nogil
    # The query as search_into wants it: `query` [dim] -> `padded` [width]. Finite, and not zero under cosine, is the
    # caller's to check.
    cdef void prepare(self, const float* query, float* padded) noexcept nogil
    # The nearest rows to a prepared query [width], best first; how many. `rows`, `scores` [k]. `allow` as nothing() or
    # of a Filter of this index. The scratch is one of _take. Allocates nothing.
    cdef int32_t search_into(
        self, const float* query, int32_t k, const c_Work& work, const c_Allow& allow, SearchScratch scratch,
        int32_t* rows, float* scores, Strategy* strategy) noexcept nogil


cdef c_Allow nothing(int32_t count) noexcept nogil
cdef const void* address(dict parts, str name)
