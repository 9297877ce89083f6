"""Elementary functions over columns, with the bits that Python's `math` gives for one number."""

from libc.stdint cimport int64_t, uint8_t

import numpy as np


cdef extern from "elementary.hpp" namespace "pairec::elementary" nogil:
    cdef enum class Function "pairec::elementary::Function"(uint8_t):
        pass
    void c_apply "pairec::elementary::apply"(Function function, const double* x, int64_t count, double* out)
    void c_power "pairec::elementary::power"(const double* x, const double* y, int64_t count, double* out)
    void c_angle "pairec::elementary::angle"(const double* y, const double* x, int64_t count, double* out)

FUNCTIONS = {name: code for code, name in enumerate(("log", "log2", "log10", "exp", "sin", "cos", "acos"))}


def apply(str name not None, const double[::1] x not None):
    """log, log2, log10, exp, sin, cos or acos of `x` [count]: a new float64 [count].

    Raises:
        KeyError: another name.
    """
    cdef uint8_t code = FUNCTIONS[name]
    out = np.empty(x.shape[0])
    cdef double[::1] result = out
    if x.shape[0]:
        with nogil:
            c_apply(<Function> code, &x[0], x.shape[0], &result[0])
    return out


def power(const double[::1] x not None, const double[::1] y not None):
    """`x` [count] to the power `y` [count]: a new float64 [count].

    Raises:
        ValueError: the columns differ in length.
    """
    _check(x.shape[0], y.shape[0])
    out = np.empty(x.shape[0])
    cdef double[::1] result = out
    if x.shape[0]:
        with nogil:
            c_power(&x[0], &y[0], x.shape[0], &result[0])
    return out


def angle(const double[::1] y not None, const double[::1] x not None):
    """The angle of (`x`, `y`) [count], in radians: a new float64 [count].

    Raises:
        ValueError: the columns differ in length.
    """
    _check(y.shape[0], x.shape[0])
    out = np.empty(x.shape[0])
    cdef double[::1] result = out
    if x.shape[0]:
        with nogil:
            c_angle(&y[0], &x[0], x.shape[0], &result[0])
    return out


def _check(left, right):
    if left != right:
        raise ValueError(f"columns of {left} and {right} rows")
