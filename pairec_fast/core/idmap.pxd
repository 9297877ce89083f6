from libc.stdint cimport int32_t, uint64_t


cdef extern from "idmap.hpp" namespace "pairec" nogil:
    ctypedef struct c_IdMap "pairec::IdMap":
        const char* text
        const uint64_t* offset
        const uint64_t* slots
        uint64_t mask
        int32_t count
    int32_t c_find "pairec::find"(const c_IdMap&, const char*, size_t) noexcept


cdef class IdMap:
    cdef c_IdMap c
    cdef readonly object text, offset, slots
    cdef dict _rows   # of the ids that were put; None before the first
    cdef list _added  # the ids of rows beyond the arrays
