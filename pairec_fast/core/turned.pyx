"""The vectors of a request's candidates, turned, and the memory of a sort that weighs them. Grows to what is asked."""

from libc.stdint cimport int32_t, int64_t

from pairec_fast.core.arena cimport Block


cdef size_t line(size_t size) noexcept:
    return (size + 63) // 64 * 64


cdef class Turned:
    """Made by the sorts that use it; one request at a time."""

    cdef int resize(self, int32_t count, int32_t dim, size_t more) except -1:
        self.count, self.dim = count, dim
        self.stride = turned_stride(count)
        cdef size_t lane = line(4 * <size_t> self.stride * <size_t> (dim + 1)), each = line(8 * <size_t> self.stride)
        if lane + 2 * each + more > self._bytes:
            self._bytes = lane + 2 * each + more
            self._block = None
            self._block = Block(self._bytes)
        self._used = 0
        self.lane = <float*> self.take(lane)
        self.scale = <double*> self.take(each)
        self.square = <double*> self.take(each)
        return 0

    cdef void* take(self, size_t bytes) noexcept:
        cdef void* at = <char*> self._block.data + self._used
        self._used += line(bytes)
        return at

    cdef int32_t fill(self, const Sums& sums, const float* table, const int32_t* rows, bint normalise) noexcept nogil:
        turn(table, self.dim, rows, self.count, self.stride, self.lane)
        sums.squares(self.lane, self.dim, self.stride, self.count, self.square)
        return weigh(self.square, self.count, normalise, self.scale)


cdef int check(const float[:, ::1] vectors, const int32_t[::1] rows, const double[::1] worth) except -1:
    """Raise ValueError unless the arrays fit each other and every row is -1 or one of `vectors`."""
    cdef Py_ssize_t place
    if vectors is None or rows is None or worth is None:
        raise ValueError("vectors, rows and scores are arrays")
    if vectors.shape[1] < 1 or vectors.shape[1] > 65_535 or vectors.shape[0] > 0x7FFFFFFF:
        raise ValueError(f"vectors are [{vectors.shape[0]}, {vectors.shape[1]}]; 1 to 65535 dimensions would be right")
    if rows.shape[0] != worth.shape[0] or rows.shape[0] > 0x7FFFFFF:
        raise ValueError(f"{rows.shape[0]} rows, {worth.shape[0]} scores; as many of both would be right")
    for place in range(rows.shape[0]):
        if not -1 <= rows[place] < vectors.shape[0]:
            raise ValueError(f"rows[{place}] is {rows[place]}; rows here are -1 to {vectors.shape[0] - 1}")
    return 0
