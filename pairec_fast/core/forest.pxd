from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int32_t, uint8_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

from pairec_fast.core.arena cimport Block


cdef extern from "forest.hpp" namespace "pairec" nogil:
    cdef cppclass c_Forest "pairec::Forest":
        int32_t width
        int32_t classes
        cbool average
        string objective
        vector[string] names
        vector[uint8_t] categorical
        vector[size_t] root

    void c_parse "pairec::forest_parse"(const char* text, size_t size, c_Forest& forest) except +

cdef extern from "forest_ranks.hpp" namespace "pairec" nogil:
    cdef cppclass Ranks:
        pass

    void c_rank "pairec::forest_rank"(const c_Forest& forest, Ranks& ranks) except +


cdef extern from "forest_label.hpp" namespace "pairec" nogil:
    cdef cppclass LabelKernels:
        pass

    LabelKernels label_kernels() except +
    size_t scratch_bytes(const Ranks& ranks) noexcept
    void c_score32 "pairec::forest_score"(
        const c_Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const float* x,
        ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step, ptrdiff_t class_step) noexcept
    void c_score64 "pairec::forest_score"(
        const c_Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const double* x,
        ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step, ptrdiff_t class_step) noexcept


cdef class Forest:
    cdef c_Forest c
    cdef Ranks ranks
    cdef LabelKernels kernels
    cdef list _free
    cdef readonly list feature_names, categorical
    cdef readonly str objective
    cdef Block _take(self)
