"""FNV-1 of bytes: the hash that puts users into the buckets of experiments."""

from libc.stdint cimport uint64_t

cdef extern from "bucket.hpp" namespace "pairec" nogil:
    uint64_t c_fnv1 "pairec::fnv1"(const unsigned char* data, size_t size)


def fnv1(bytes data not None) -> int:
    """FNV-1 of 64 bits over `data`: the digest of a key, so short that the GIL is not worth giving up."""
    return c_fnv1(data, len(data))
