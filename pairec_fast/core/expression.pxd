from libc.stdint cimport int32_t, int64_t, uint8_t
from libcpp.vector cimport vector


cdef extern from "expression.hpp" namespace "pairec::expression" nogil:
    int32_t stack_max
    enum:
        inputs_max "pairec::expression::inputs_max"

    cdef enum class Op(uint8_t):
        pass

    bint is_push(Op op) noexcept

    cdef struct Instruction:
        Op op
        int32_t argument
        double value
        const void* column

    cdef struct Inputs:
        const double** input
        const double* current_score
        const double* algo_score
        int64_t algo_stride
        const int32_t* row

    bint rows_below(const int32_t* row, int32_t count, int64_t rows) noexcept
    void c_evaluate "pairec::expression::evaluate"(
        const Instruction* program, int32_t length, const Inputs& inputs, int32_t count, double* out) noexcept


cdef class Program:
    cdef vector[Instruction] instructions
    cdef readonly tuple columns
    cdef int32_t inputs
    cdef int32_t algos
    cdef int64_t rows
    cdef bint arena_only
    cdef bint gathers
