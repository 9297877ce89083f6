from libc.stdint cimport int32_t, int64_t, uint64_t

from pairec_fast.core.arena cimport Block


cdef extern from "vectors.hpp" namespace "pairec" nogil:
    ctypedef struct Sums:
        void (*squares)(const float* lane, int32_t dim, int64_t stride, int32_t count, double* square) noexcept nogil
    Sums sums() except +
    int64_t turned_stride(int64_t count) noexcept
    void turn(const float*, int32_t, const int32_t*, int32_t, int64_t, float*) noexcept
    int32_t weigh(const double*, int32_t, bint, double*) noexcept
    void draw(uint64_t, int32_t, int64_t, int32_t, float*, double*, double*) noexcept


cdef class Turned:
    cdef Block _block
    cdef size_t _bytes
    cdef size_t _used
    cdef int32_t count, dim
    cdef int64_t stride
    cdef float* lane       # [dim + 1, stride]
    cdef double* scale     # [stride]
    cdef double* square    # [stride]
    # Room for so many candidates, and `more` bytes for `take`. Forgets what was taken before.
    cdef int resize(self, int32_t count, int32_t dim, size_t more) except -1
    cdef void* take(self, size_t bytes) noexcept
    # Fills lane, scale and square. Answers how many vectors are missing.
    cdef int32_t fill(self, const Sums& sums, const float* table, const int32_t* rows, bint normalise) noexcept nogil


cdef int check(const float[:, ::1] vectors, const int32_t[::1] rows, const double[::1] worth) except -1
