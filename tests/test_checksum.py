"""CRC-32C: published vectors, then bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.checksum import crc32c
from tests import reference


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_vectors_of_rfc_3720(data, expected):
    assert crc32c(data) == expected == reference.crc32c(data)


@pytest.mark.parametrize("size", [*range(26), 63, 64, 65, 1000])
@pytest.mark.parametrize("start", range(8))
def test_agrees_with_reference_at_every_length_and_alignment(size, start):
    data = np.random.default_rng(size).integers(0, 256, size + start, np.uint8)[start:]
    for seed in (0, 1, 0xFFFFFFFF):
        assert crc32c(data, seed) == reference.crc32c(data.tobytes(), seed)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 99, 100])
def test_a_checksum_continues_where_it_stopped(cut):
    data = np.random.default_rng(1).bytes(100)
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


def test_nothing_leaves_the_seed_as_it_is():
    assert crc32c(b"", 0xDEADBEEF) == 0xDEADBEEF


def test_every_single_flipped_bit_shows():
    data = bytearray(np.random.default_rng(2).bytes(40))
    sums = {crc32c(data)}
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        sums.add(crc32c(data))
        data[bit // 8] ^= 1 << bit % 8
    assert len(sums) == 8 * len(data) + 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_any_contiguous_bytes_will_do(kind):
    assert crc32c(kind(b"123456789")) == 0xE3069283


@pytest.mark.parametrize("wrong", [np.zeros(4, np.int8), np.zeros(4), np.zeros(8, np.uint8)[::2]])
def test_what_is_not_contiguous_bytes_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Buffer dtype mismatch|contiguous"):
        crc32c(wrong)


@pytest.mark.parametrize("wrong", [None, "text", 3])
def test_what_is_no_buffer_is_refused(wrong):
    with pytest.raises(TypeError):
        crc32c(wrong)
