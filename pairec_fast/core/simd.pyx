"""Which level of SIMD the kernels use."""

from libcpp.string cimport string

cdef extern from "simd.hpp" namespace "pairec" nogil:
    cdef cppclass Isa:
        pass
    Isa isa_best()
    Isa isa_active() except +
    const char* isa_names[4]


def isa() -> str:
    """The level in use: `baseline`, `avx2`, `avx512bw` or `avx512vbmi`.

    Raises:
        ValueError: `PAIREC_ISA` names a level that is unknown or that this machine lacks.
    """
    return isa_names[<int> isa_active()].decode()


def isas() -> list:
    """Every level this machine has, weakest first."""
    return [isa_names[level].decode() for level in range(<int> isa_best() + 1)]
