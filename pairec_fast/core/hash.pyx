"""XXH64 and murmur3, both with seed 0: what `hash` and `hash32` of an expression give."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "hash.hpp" namespace "pairec::hash" nogil:
    uint64_t c_xxh64 "pairec::hash::xxh64"(const void* bytes, size_t size)
    uint32_t c_murmur3 "pairec::hash::murmur3"(const void* bytes, size_t size)


def xxh64(const unsigned char[::1] data not None) -> int:
    """XXH64 of `data`, an unsigned 64-bit number."""
    return c_xxh64(&data[0] if data.shape[0] else NULL, data.shape[0])


def murmur3(const unsigned char[::1] data not None) -> int:
    """MurmurHash3_x86_32 of `data`, an unsigned 32-bit number."""
    return c_murmur3(&data[0] if data.shape[0] else NULL, data.shape[0])
