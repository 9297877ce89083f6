from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from pairec_fast.core.overlay cimport Overlay, c_Overlay


cdef extern from "arena.hpp" namespace "pairec" nogil:
    cdef struct Stamps:
        uint32_t* stamp
        uint32_t now
        int32_t size
        void clear() noexcept nogil
        bint contains(int32_t row) noexcept nogil
        bint insert(int32_t row) noexcept nogil

    bint rows_within(const int32_t* rows, int64_t count, int32_t end) noexcept nogil

    ctypedef struct c_Arena "pairec::Arena":
        int32_t candidates_max
        int32_t items_max
        int32_t width
        int32_t algos
        int32_t count
        int32_t order_count
        bint repeats
        bint scored
        int32_t* row
        uint8_t* source
        int32_t* place
        double* recall_score
        uint8_t* keep
        float* features
        double* algo_score
        double* score
        int32_t* order
        int32_t* spare
        double* scratch
        Stamps seen
        Stamps mark
        double* sum
        int32_t* touched
        c_Overlay overlay


cdef class Block:
    cdef void* data


cdef class Arena:
    cdef c_Arena c
    cdef Block _block
    cdef Overlay _overlay
    cdef object _view(self, void* data, int dtype, size_t rows, size_t columns)
    cdef readonly size_t bytes
    cdef readonly object row, source, place, recall_score, keep, features, algo_score, score, order


cdef int32_t check_rows(str name, const int32_t* rows, Py_ssize_t count, int32_t end) except -1
cdef int32_t check_candidates(Arena arena, int32_t items) except -1
cdef uint8_t check_source(int32_t source) except? 0
