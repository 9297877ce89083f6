from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int32_t, uint8_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector


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
    void c_score32 "pairec::forest_score"(
        const c_Forest& forest, const float* x, ptrdiff_t stride, int32_t count, double* out,
        ptrdiff_t row_step, ptrdiff_t class_step) noexcept
    void c_score64 "pairec::forest_score"(
        const c_Forest& forest, const double* x, ptrdiff_t stride, int32_t count, double* out,
        ptrdiff_t row_step, ptrdiff_t class_step) noexcept


cdef class Forest:
    cdef c_Forest c
    cdef readonly list feature_names, categorical
    cdef readonly str objective
