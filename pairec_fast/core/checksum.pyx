"""CRC-32C of anything that is bytes."""

from libc.stdint cimport uint32_t

cdef extern from "checksum.hpp" namespace "pairec" nogil:
    uint32_t c_crc32c "pairec::crc32c"(const void* data, size_t size, uint32_t seed)


def crc32c(const unsigned char[::1] data not None, uint32_t seed=0) -> int:
    """CRC-32C of `data` (contiguous bytes), continued from `seed`."""
    cdef uint32_t crc = seed
    if data.shape[0]:
        with nogil:
            crc = c_crc32c(&data[0], data.shape[0], seed)
    return crc
