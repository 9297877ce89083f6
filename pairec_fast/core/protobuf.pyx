"""What an answer of a model server has once an item, read without a Python object per field."""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t

import numpy as np

cdef extern from "protobuf.hpp" namespace "pairec::protobuf" nogil:
    ctypedef struct c_Sizes "pairec::protobuf::Sizes":
        int64_t entries
        int64_t doubles
        int64_t rest
    bint c_measure "pairec::protobuf::measure"(const unsigned char*, size_t, uint32_t, c_Sizes&) noexcept
    void c_extract "pairec::protobuf::extract"(const unsigned char*, size_t, uint32_t, int64_t*, double*, int64_t*,
                                               unsigned char*) noexcept


def map_of_doubles(bytes message not None, uint32_t field):
    """The map in `field` of a protobuf message, from texts to lists of doubles; or None: it is no such message.

    Returns:
        (entries, values, ends, rest): text -> which entry, the last of those that have it; values float64 [all], those
        of entry `n` up to `ends[n]`, int64 [entries]; and every other field, as bytes.
    """
    cdef c_Sizes sizes
    cdef const unsigned char* data = <const unsigned char*> <const char*> message
    cdef size_t size = len(message)
    cdef bint sound
    with nogil:
        sound = c_measure(data, size, field, sizes)
    if not sound:
        return None
    cdef int64_t[:, ::1] key = np.empty((sizes.entries + 1, 2), np.int64)  # one more: an empty array has no address
    values, ends = np.empty(sizes.doubles + 1), np.empty(sizes.entries + 1, np.int64)
    cdef double[::1] value = values
    cdef int64_t[::1] end = ends
    rest = np.empty(sizes.rest + 1, np.uint8)
    cdef unsigned char[::1] other = rest
    with nogil:
        c_extract(data, size, field, &key[0, 0], &value[0], &end[0], &other[0])
    entries = {}
    cdef int64_t place
    for place in range(sizes.entries):
        entries[PyUnicode_DecodeUTF8(<const char*> data + key[place, 0], key[place, 1], "replace")] = place
    return entries, values[:sizes.doubles], ends[:sizes.entries], rest[:sizes.rest].tobytes()
