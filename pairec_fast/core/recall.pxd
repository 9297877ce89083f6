from libc.stdint cimport int32_t, int64_t, uint8_t

from pairec_fast.core.arena cimport c_Arena


cdef extern from "recall.hpp" namespace "pairec" nogil:
    ctypedef struct c_Neighbours "pairec::Neighbours":
        const int64_t* offset
        const int32_t* neighbour
        const float* weight
    int32_t c_add "pairec::add"(c_Arena&, const int32_t*, const float*, int32_t, int32_t, uint8_t) noexcept
    int32_t c_add "pairec::add"(c_Arena&, const int32_t*, const double*, int32_t, int32_t, uint8_t) noexcept
    int32_t c_accumulate "pairec::accumulate"(c_Arena&, const c_Neighbours&, const int32_t*, int32_t) noexcept
    int32_t c_add_similar "pairec::add_similar"(c_Arena&, const c_Neighbours&, const int32_t*, int32_t, int32_t,
                                                uint8_t) noexcept
    int32_t c_merge "pairec::merge"(c_Arena&, const int32_t*, const double*, int32_t, bint, int32_t) noexcept
    int32_t c_in_turn "pairec::in_turn"(c_Arena&, const int32_t*, const int64_t*, int64_t*, int32_t, int32_t,
                                        int32_t*) noexcept


cdef class Neighbours:
    cdef c_Neighbours c
    cdef readonly object offset, neighbour, weight
    cdef readonly int32_t items
