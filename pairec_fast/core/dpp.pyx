"""The most valuable and least alike candidates: greedy choice from a determinantal point process."""

from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

from pairec_fast.core.turned cimport Sums, Turned, check, draw, sums


cdef extern from "dpp.hpp" namespace "pairec" nogil:
    ctypedef struct DppScratch:
        float* lane
        double* scale
        double* square
        double* quality
        double* left
        double* row
        double* sum
        double* chain
        double* factor
    int32_t c_dpp "pairec::dpp"(const Sums&, const DppScratch&, const double*, int32_t, int32_t, int64_t, double, int32_t,
                                int32_t, bint, int32_t*) noexcept


cdef class Dpp:
    """Chooses among vectors. Keeps its memory from call to call; safe to use from many threads.

    Args:
        normalise: vectors count as of length 1.
        positive: likeness is (1 + cos) / 2; else cos.
    """

    cdef Sums sums
    cdef list _free
    cdef readonly bint normalise, positive

    def __cinit__(self, *, bint normalise=True, bint positive=True):
        self.sums = sums()
        self._free = []
        self.normalise, self.positive = normalise, positive

    def choose(
        self, const float[:, ::1] vectors not None, const int32_t[::1] rows not None,
        const double[::1] relevance not None, *, double alpha, int32_t size, int32_t window, double missing_max=0.5,
        uint64_t seed=0,
    ):
        """Places in `rows` of the candidates chosen, int32 [min(size, count)], best first; None if too many lack a vector.

        Reads vectors [any, dim] float32; rows [count] int32, -1 for none; relevance [count] float64, without NaN. A
        vector of zeros, or with a NaN, is missing: up to a share of `missing_max` are drawn at random by `seed`.
        `window`: so many are chosen knowing of each other.

        Raises:
            ValueError: arrays that do not fit, a row out of range, or a size or window that is not positive.
        """
        check(vectors, rows, relevance)
        if size <= 0 or window <= 0:
            raise ValueError(f"size and window must be positive, got {size} and {window}")
        cdef int32_t count = <int32_t> rows.shape[0], dim = <int32_t> vectors.shape[1], missing = 0
        if count == 0:
            return np.empty(0, np.int32)
        window = min(window, size, count)
        try:
            turned = <Turned> self._free.pop()
        except IndexError:
            turned = Turned()
        cdef Turned t = turned
        cdef int32_t[::1] order = np.empty(min(size, count), np.int32)
        cdef size_t each = 8 * (<size_t> count + 64)
        t.resize(count, dim, (4 + <size_t> window) * each + 16 * <size_t> (dim + window + 16) + 1024)
        cdef DppScratch scratch
        cdef size_t number = 8 * <size_t> t.stride
        scratch.lane, scratch.scale, scratch.square = t.lane, t.scale, t.square
        scratch.quality = <double*> t.take(number)
        scratch.left = <double*> t.take(number)
        scratch.row = <double*> t.take(number)
        scratch.sum = <double*> t.take(number)
        scratch.chain = <double*> t.take(number * <size_t> window)
        scratch.factor = <double*> t.take(8 * <size_t> max(dim, window))
        with nogil:
            missing = t.fill(self.sums, &vectors[0, 0] if vectors.shape[0] else NULL, &rows[0], self.normalise)
            if missing <= missing_max * count:
                if missing:
                    draw(seed, dim, t.stride, count, t.lane, t.square, t.scale)
                c_dpp(self.sums, scratch, &relevance[0], count, dim, t.stride, alpha, size, window, self.positive,
                      &order[0])
        self._free.append(t)
        return np.asarray(order) if missing <= missing_max * count else None
