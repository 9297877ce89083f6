from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

from pairec_fast.core.arena cimport Block


cdef extern from "forest.hpp" namespace "pairec" nogil:
    const uint32_t kNanRight, kZeroRight, kBySet

    cdef cppclass Node:
        double threshold
        int32_t next
        int32_t feature
        uint32_t rule
        double cover

    cdef cppclass c_Forest "pairec::Forest":
        int32_t width
        int32_t classes
        cbool average
        cbool is_single
        string objective
        vector[double] base
        vector[string] names
        vector[uint8_t] categorical
        vector[size_t] root
        vector[Node] nodes
        vector[size_t] set_begin
        vector[uint32_t] set "set"

    void c_parse "pairec::forest_parse"(const char* text, size_t size, c_Forest& forest) except +

cdef extern from "forest_ranks.hpp" namespace "pairec" nogil:
    cdef cppclass Line:
        pass

    cdef cppclass Bytes "std::string_view":
        Bytes()
        Bytes(const char* data, size_t size)
        const char* data()
        size_t size()

    cdef cppclass Flags "std::span<const std::uint8_t>":
        uint8_t operator[](size_t)

    cdef cppclass Doubles "std::span<const double>":
        size_t size()
        double operator[](size_t)

    cdef cppclass TreeSpan "std::span<const pairec::Ranks::Tree>":
        size_t size()

    cdef cppclass Ranks:
        int32_t width
        int32_t classes
        cbool average
        cbool is_single
        uint32_t columns
        Bytes texts
        Doubles base
        Flags categorical
        TreeSpan trees

    vector[Line] c_compile "pairec::forest_compile"(const c_Forest& forest) except +
    cbool is_compiled(const void* data, size_t size) noexcept

cdef extern from "forest_objective.hpp" namespace "pairec" nogil:
    cdef cppclass Objective:
        pass

    Objective objective_parse(Bytes text, int32_t classes) except +
    void objective_transform(
        const Objective& objective, int32_t iterations, double* scores, int64_t count, int32_t classes) noexcept

cdef extern from "forest_score.hpp" namespace "pairec" nogil:
    cdef cppclass Rows:
        const void* x
        ptrdiff_t row_step
        ptrdiff_t column_step
        int64_t count
        cbool is_double

    cdef cppclass Scorer:
        Ranks ranks

    cdef cppclass Scratch:
        pass

    Scorer scorer_of(const void* data, size_t size) except +
    size_t scratch_bytes(const Ranks& ranks) noexcept
    Scratch scratch_of(const Ranks& ranks, void* memory) noexcept
    void c_score "pairec::forest_score"(const Scorer& scorer, const Scratch& scratch, const Rows& rows, double* out,
                                        ptrdiff_t row_step, ptrdiff_t class_step) noexcept
    void c_leaves "pairec::forest_leaves"(const Scorer& scorer, const Scratch& scratch, const Rows& rows,
                                          int32_t* out) noexcept

cdef extern from "forest_explain.hpp" namespace "pairec" nogil:
    void c_explain "pairec::forest_explain"(const Ranks& ranks, const Rows& rows, double* out) except +


cdef class Forest:
    cdef Scorer c
    cdef Objective transform
    cdef vector[Line] lines   # the compiled bytes, or
    cdef object mapped        # the file that holds them
    cdef list _free
    cdef readonly list feature_names, categorical
    cdef readonly str objective
    cdef int view(self) except -1
    cdef object checked(self, X)
    cdef Block take(self)
