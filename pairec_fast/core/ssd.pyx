"""Candidates that together span much: sliding spectrum decomposition."""

from libc.stdint cimport int32_t, int64_t, uint64_t

import numpy as np

from pairec_fast.core.turned cimport Sums, Turned, check, draw, sums


cdef extern from "ssd.hpp" namespace "pairec" nogil:
    ctypedef struct SsdScratch:
        float* lane
        double* scale
        double* square
        double* last
        double* whole
        double* left
        double* sum
        double* projection
        double* chosen
        double* chosen_square
        double* newest
    ctypedef struct c_Ssd "pairec::Ssd":
        double gamma
        int32_t size
        int32_t window
        bint star
    int32_t c_ssd "pairec::ssd"(const Sums&, const SsdScratch&, const double*, int32_t, int32_t, int64_t, const c_Ssd&,
                                int32_t*) noexcept


cdef class Ssd:
    """Chooses among vectors. Keeps its memory from call to call; safe to use from many threads.

    Args:
        normalise: vectors count as of length 1.
        positive: a dimension that is 1 for all follows them.
        star: the volume stays what it is at the start.
    """

    cdef Sums sums
    cdef list _free
    cdef readonly bint normalise, positive, star

    def __cinit__(self, *, bint normalise=True, bint positive=True, bint star=False):
        self.sums = sums()
        self._free = []
        self.normalise, self.positive, self.star = normalise, positive, star

    def choose(
        self, const float[:, ::1] vectors not None, const int32_t[::1] rows not None,
        const double[::1] quality not None, *, double gamma, int32_t size, int32_t window, double missing_max=0.5,
        uint64_t seed=0,
    ):
        """Places in `rows` of the candidates chosen, int32 [min(size, count)], best first; None if too many lack a vector.

        Reads vectors [any, dim] float32; rows [count] int32, -1 for none; quality [count] float64, without NaN. A vector
        of zeros, or with a NaN, is missing: up to a share of `missing_max` are drawn at random by `seed`. `window`: so
        many of the chosen are remembered.

        Raises:
            ValueError: arrays that do not fit, a row out of range, a size that is not positive or a window below 2.
        """
        check(vectors, rows, quality)
        if size <= 0 or window < 2:
            raise ValueError(f"size must be positive and window at least 2, got {size} and {window}")
        cdef int32_t count = <int32_t> rows.shape[0], dim = <int32_t> vectors.shape[1], missing = 0, i
        if count == 0:
            return np.empty(0, np.int32)
        cdef c_Ssd conf
        conf.gamma, conf.size, conf.star = gamma, size, self.star
        conf.window = window = max(2, min(window, size, count))
        try:
            turned = <Turned> self._free.pop()
        except IndexError:
            turned = Turned()
        cdef Turned t = turned
        cdef int32_t[::1] order = np.empty(min(size, count), np.int32)
        cdef size_t each = 8 * (<size_t> count + 64), vector = 8 * <size_t> (dim + 1)
        t.resize(count, dim, (4 + <size_t> window) * each + (window + 1) * vector + 16 * <size_t> window + 1024)
        cdef SsdScratch scratch
        cdef size_t number = 8 * <size_t> t.stride
        scratch.lane, scratch.scale, scratch.square = t.lane, t.scale, t.square
        scratch.last = <double*> t.take(number)
        scratch.whole = <double*> t.take(number)
        scratch.left = <double*> t.take(number)
        scratch.sum = <double*> t.take(number)
        scratch.projection = <double*> t.take(number * <size_t> window)
        scratch.chosen = <double*> t.take(vector * <size_t> window)
        scratch.chosen_square = <double*> t.take(8 * <size_t> window)
        scratch.newest = <double*> t.take(vector)
        with nogil:
            missing = t.fill(self.sums, &vectors[0, 0] if vectors.shape[0] else NULL, &rows[0], self.normalise)
            if missing <= missing_max * count:
                complete(t, scratch.last, self.positive, missing > 0, seed)
                c_ssd(self.sums, scratch, &quality[0], count, dim, t.stride, conf, &order[0])
        self._free.append(t)
        return np.asarray(order) if missing <= missing_max * count else None


cdef void complete(Turned t, double* last, bint positive, bint missing, uint64_t seed) noexcept nogil:
    """The dimension that follows: 1, 0, or for a vector that is drawn at random drawn with it."""
    cdef int32_t i
    cdef float* drawn = t.lane + t.dim * t.stride
    for i in range(t.count):
        last[i] = 1.0 if positive else 0.0
    if not missing:
        return
    for i in range(t.count):
        drawn[i] = 0.0
        if t.scale[i] == 0.0:
            last[i] = 0.0
    draw(seed, t.dim + positive, t.stride, t.count, t.lane, t.square, t.scale)
    if positive:
        for i in range(t.count):
            if last[i] == 0.0:
                last[i] = drawn[i] * t.scale[i]
                t.square[i] -= <double> drawn[i] * drawn[i]
