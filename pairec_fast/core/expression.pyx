"""Postfix programs over columns: what an expression is compiled to."""

from libc.stdint cimport int32_t, int64_t, uint8_t

import numpy as np
cimport numpy as cnp

from pairec_fast.core.arena cimport Arena

cnp.import_array()

STACK_MAX = stack_max
INPUTS_MAX = inputs_max

# In the order of `enum class Op`; the five dtypes are what "column" becomes.
OPS = {
    name: code
    for code, name in enumerate(
        (
            "constant", "input", "current_score", "algo", "float32", "float64", "int32", "int64", "uint8",
            "add", "subtract", "multiply", "divide", "modulo", "power", "or_else",
        )
    )
}
DTYPES = {
    np.dtype(np.float32): "float32",
    np.dtype(np.float64): "float64",
    np.dtype(np.int32): "int32",
    np.dtype(np.int64): "int64",
    np.dtype(np.uint8): "uint8",
    np.dtype(np.bool_): "uint8",
}


cdef bint is_plain(cnp.ndarray array):
    return cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array)


cdef class Program:
    """Instructions in postfix order, checked once; afterwards any number of threads may evaluate it.

    Args:
        ops: `(name, argument)`. Pushes: `constant` (argument: which of `constants`), `current_score`, `algo` (which
            column of `arena.algo_score`), `column` (which of `columns`, read through `arena.row`; NaN reads as 0),
            `input` (which array given to `evaluate_columns`). Operators, argument unused: `add subtract multiply divide
            modulo power or_else`.
        columns: item-table columns, each [items] float32, float64, int32, int64, uint8 or bool, contiguous. The program
            keeps them alive.

    Raises:
        ValueError: an unknown op, an argument out of range, a column of another shape or dtype, an operator with fewer
            than two values before it, more than `STACK_MAX` values waiting, or not exactly one value in the end.
    """

    def __cinit__(self, ops, constants=(), columns=()):
        cdef Instruction instruction
        cdef int32_t depth = 0
        self.columns = tuple(columns)
        self.rows = (<int64_t> 1) << 31
        for name, argument in ops:
            instruction.value = 0.0
            instruction.column = NULL
            instruction.argument = argument
            if name == "column":
                name, rows = self._check_column(argument)
                instruction.column = cnp.PyArray_DATA(self.columns[argument])
                self.rows = min(self.rows, <int64_t> rows)
                self.gathers = True
            elif name == "constant":
                if not 0 <= argument < len(constants):
                    raise ValueError(f"constant {argument} of {len(constants)}")
                instruction.value = constants[argument]
            elif name == "input":
                if not 0 <= argument < inputs_max:
                    raise ValueError(f"input must be 0 to {inputs_max - 1}, got {argument}")
                self.inputs = max(self.inputs, <int32_t> argument + 1)
            elif name == "algo":
                if argument < 0:
                    raise ValueError(f"algo must not be negative, got {argument}")
                self.algos = max(self.algos, <int32_t> argument + 1)
            elif name not in OPS or name in DTYPES.values():
                raise ValueError(f"unknown op {name!r}")
            instruction.op = <Op> <uint8_t> OPS[name]
            self.arena_only = self.arena_only or instruction.column != NULL or name in ("algo", "current_score")
            if not is_push(instruction.op):
                if depth < 2:
                    raise ValueError(f"op {self.instructions.size()} ({name}) needs two values before it, has {depth}")
                depth -= 1
            else:
                depth += 1
                if depth > stack_max:
                    raise ValueError(f"more than {stack_max} values wait at op {self.instructions.size()}")
            self.instructions.push_back(instruction)
        if depth != 1:
            raise ValueError(f"a program must end with one value, this one with {depth}")

    def _check_column(self, argument):
        if not 0 <= argument < len(self.columns):
            raise ValueError(f"column {argument} of {len(self.columns)}")
        array = self.columns[argument]
        if not isinstance(array, np.ndarray) or array.ndim != 1 or not is_plain(array):
            raise ValueError(f"column {argument} must be a contiguous array [items]")
        if array.dtype not in DTYPES:
            raise ValueError(
                f"column {argument} is {array.dtype}; use float32, float64, int32, int64, uint8 or bool"
            )
        return DTYPES[array.dtype], array.shape[0]

    def evaluate(self, Arena arena not None) -> None:
        """Compute one number per candidate.

        Reads `recall_score` (as `current_score`), `algo_score`, columns through `row`; writes `score` [count] float64.
        A slot that divides by zero, or whose result is not a number, keeps the score it had.

        Raises:
            ValueError: the program uses `input`, or an `algo` the arena has no column for.
            IndexError: a `row` lies beyond the shortest column.
        """
        cdef Inputs inputs
        cdef int32_t length = <int32_t> self.instructions.size()
        cdef bint fits = True
        if self.inputs:
            raise ValueError("a program with `input` is for evaluate_columns")
        if self.algos > arena.c.algos:
            raise ValueError(f"the program reads algo {self.algos - 1}; the arena has {arena.c.algos}")
        inputs.input = NULL
        inputs.current_score = arena.c.recall_score
        inputs.algo_score = arena.c.algo_score
        inputs.algo_stride = arena.c.candidates_max
        inputs.row = arena.c.row
        with nogil:
            if self.gathers:
                fits = rows_below(arena.c.row, arena.c.count, self.rows)
            if fits:
                c_evaluate(self.instructions.data(), length, inputs, arena.c.count, arena.c.score)
        if not fits:
            raise IndexError(f"arena.row points beyond a column of {self.rows} rows")

    def evaluate_columns(self, columns, double[::1] out not None) -> None:
        """Compute one number per row of plain arrays.

        Reads `columns`, each [count] float64, contiguous; writes `out` [count] float64. A row that divides by zero, or
        whose result is not a number, keeps what `out` had.

        Raises:
            ValueError: too few columns, one of another shape or dtype, or a program that reads an arena.
        """
        cdef Inputs inputs
        cdef const double* pointers[inputs_max]
        cdef int32_t j
        cdef int32_t count = <int32_t> out.shape[0]
        if self.arena_only:
            raise ValueError("this program reads an arena: call evaluate")
        if len(columns) < self.inputs:
            raise ValueError(f"the program reads {self.inputs} columns, got {len(columns)}")
        for j in range(self.inputs):
            array = columns[j]
            if (not isinstance(array, np.ndarray) or array.dtype != np.float64 or array.ndim != 1
                    or not is_plain(array) or array.shape[0] != count):
                raise ValueError(f"column {j} must be a contiguous float64 array [{count}]")
            pointers[j] = <const double*> cnp.PyArray_DATA(array)
        inputs.input = pointers
        inputs.current_score = NULL
        inputs.algo_score = NULL
        inputs.algo_stride = 0
        inputs.row = NULL
        if count:
            with nogil:
                c_evaluate(self.instructions.data(), <int32_t> self.instructions.size(), inputs, count, &out[0])
