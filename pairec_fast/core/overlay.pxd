from libc.stdint cimport int32_t, uint64_t


cdef extern from "overlay.hpp" namespace "pairec" nogil:
    ctypedef struct c_Overlay "pairec::Overlay":
        const uint64_t* moved
        const int32_t* current
        const int32_t* first
        int32_t base
        int32_t rows
        int32_t resolve(int32_t row) noexcept nogil
        int32_t item_of(int32_t row) noexcept nogil


cdef class Overlay:
    cdef c_Overlay c
    cdef uint64_t* _moved
    cdef int32_t* _current
    cdef int32_t* _first
    cdef readonly int32_t base, capacity, end, count
    cdef readonly bint changed
