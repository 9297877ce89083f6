"""FNV-1: the published vectors, then byte by byte."""

from __future__ import annotations

import random

import pytest

from pairec_fast.core.bucket import fnv1
from tests import reference_experiment as reference


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63BD4C8601B7BE), (b"foobar", 0x340D8765A4DDA9C2)],
)
def test_vectors_of_the_authors(data, expected):
    assert fnv1(data) == expected


@pytest.mark.parametrize("size", [1, 15, 16, 17, 1000])
def test_agrees_with_reference_on_any_bytes(size):
    data = random.Random(size).randbytes(size)
    assert fnv1(data) == reference.fnv1(data)


def test_takes_bytes_alone():
    for data in (None, "a", bytearray(b"a")):
        with pytest.raises(TypeError):
            fnv1(data)
