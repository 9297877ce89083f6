"""Protocol buffers on the wire, as much as EasyRec's messages use: what comes before models can be asked.

A message is a row of fields: a key (number and wire type), then a varint, eight bytes, four bytes, or a length and so
many bytes. Written by hand because that is all there is to it: the runtime library would be a second way to say what
these lines say, and slower for columns, which are written whole (`remote.features`).

*Source*: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that are not the message they should be."""


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; a negative number as its 64-bit complement, ten bytes."""
    value &= _MASK
    if value < 128:
        return bytes((value,))
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """An integer field, also when it is 0."""
    return varint(field << 3 | VARINT) + varint(value)


def block(field: int, body: bytes) -> bytes:
    """A field with a length: a message, packed numbers or bytes."""
    return varint(field << 3 | BYTES) + varint(len(body)) + body


def text(field: int, value: str) -> bytes:
    return block(field, value.encode("utf-8", "replace"))


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | FIXED64) + struct.pack("<d", value)


def single(field: int, value: float) -> bytes:
    """A float32 field; what is too large for one becomes infinite, as in C."""
    try:
        return varint(field << 3 | FIXED32) + struct.pack("<f", value)
    except OverflowError:
        return varint(field << 3 | FIXED32) + struct.pack("<f", math.copysign(math.inf, value))


def entry(field: int, key: bytes, value: bytes) -> bytes:
    """An entry of a map: key and value are fields 1 and 2, written already."""
    return block(field, key + value)


def ragged(matrix: NDArray[np.uint8], lengths: NDArray[np.intp]) -> bytes:
    """The first `lengths[row]` bytes of every row of `matrix` [rows, width], one after the other."""
    kept: NDArray[np.uint8] = matrix[np.arange(matrix.shape[1]) < lengths[:, None]]
    return kept.tobytes()


def gathered(pieces: list[bytes], order: NDArray[np.intp]) -> bytes:
    """`pieces[order[0]] + pieces[order[1]] + …`, without a loop over `order`."""
    pool = np.frombuffer(b"".join(pieces), np.uint8)
    length = np.fromiter(map(len, pieces), np.intp, len(pieces))
    start = np.cumsum(length) - length
    lengths = length[order]
    # Where each output byte comes from: its piece's start, and how far into the piece it is.
    begins = np.cumsum(lengths) - lengths
    places: NDArray[np.intp] = np.repeat(start[order] - begins, lengths) + np.arange(lengths.sum())
    return bytes(pool[places])


def packed_varints(values: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Each value as a varint: bytes [values, 10], of which the first `lengths[value]` count."""
    bits = values.astype(np.int64).view(np.uint64)[:, None] >> (np.arange(10, dtype=np.uint64) * np.uint64(7))
    lengths = np.maximum((bits != 0).sum(axis=1), 1)
    more = np.arange(10) < lengths[:, None] - 1
    return ((bits & np.uint64(127)) | (more.astype(np.uint64) << np.uint64(7))).astype(np.uint8), lengths


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """(number, wire type, value) of each field: an integer, or the bytes of the other three wire types.

    Raises:
        WireError: cut off, or a wire type that no message here has.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _read(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _read(data, at)
            yield key >> 3, kind, value
            continue
        if kind == BYTES:
            size, at = _read(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"wire type {kind} at byte {at}: not a message of EasyRec")
        if size > end - at:
            raise WireError(f"a field of {size} bytes at byte {at}; {end - at} are left")
        yield key >> 3, kind, data[at : at + size]
        at += size


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError(f"a number is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _MASK, at
        shift += 7
        if shift > 63:
            raise WireError(f"a number of more than ten bytes at byte {at}")


def signed(value: int) -> int:
    """The integer that a varint of an int32 or int64 field stands for."""
    return value - (1 << 64) if value >> 63 else value


def integers(parts: list[tuple[int, int | bytes]]) -> list[int]:
    """Values of a repeated integer field, given (wire type, value) of its occurrences: packed, single, or both."""
    found: list[int] = []
    for kind, value in parts:
        if kind == VARINT and isinstance(value, int):
            found.append(signed(value))
        elif kind == BYTES and isinstance(value, bytes):
            at = 0
            while at < len(value):
                one, at = _read(value, at)
                found.append(signed(one))
        else:
            raise WireError(f"wire type {kind} where integers should be")
    return found


def floats(parts: list[tuple[int, int | bytes]], dtype: str) -> NDArray[np.float64]:
    """Values of a repeated `<f4` or `<f8` field, given its occurrences."""
    size = int(dtype[-1])
    whole = b""
    for kind, value in parts:
        if not isinstance(value, bytes) or len(value) % size or kind == (FIXED64 if size == 4 else FIXED32):
            raise WireError(f"wire type {kind} where numbers of {size} bytes should be")
        whole += value
    return np.frombuffer(whole, dtype).astype(np.float64)
