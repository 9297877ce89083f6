"""The file of a vector index: a preamble, a header, sections, mapped as they lie. Little-endian throughout.

    bytes 0..31      preamble: magic, version, bytes of the header, its CRC-32C, that of all sections with their gaps
    header           JSON, see `Header`, then zeros up to the first section
    sections         arrays of the dtype and shape the header gives, each on a line of 64 bytes, in its order

What a section holds is said in csrc/flat.hpp, hnsw.hpp and partition.hpp. Gaps hold zeros.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.checksum import crc32c
from pairec_fast.core.mapping import MappedFile
from pairec_fast.errors import SnapshotError

MAGIC = b"PAIRECVI"
VERSION = 3
LINE_BYTES = 64
LANES = 16  # csrc/distance.hpp, lanes; csrc/blocks.hpp, block_lanes
DIM_MAX = 65_536
LISTS_MAX = 65_535  # csrc/partition.hpp
DEGREE_MAX = 64  # csrc/hnsw.hpp
ENTRIES_MAX = 4096  # csrc/hnsw.hpp
KINDS = ("flat", "hnsw", "partition")
METRICS = ("ip", "cosine", "l2")
PREAMBLE = struct.Struct("<8s4IQ")  # the last is 0
TINY, LARGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def aligned(size: int, to: int = LINE_BYTES) -> int:
    return -(-size // to) * to


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`offset` counts from the beginning of the file."""

    dtype: str
    shape: list[int]
    offset: int

    @property
    def bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize) * math.prod(self.shape)


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a file says of itself.

    `effort` is the work that found `recall_reached` of the `k` nearest of the tuning queries; `recall` was asked for.
    """

    kind: str
    metric: str
    dim: int
    count: int
    scale: float  # hnsw: of codes of 8 bits: a lane is code * scale, nearly. Of the others, what it would be
    k: int
    effort: int
    recall: float
    recall_reached: float
    error: float = 0.0  # flat: the longest difference between a vector and its codes, in scales of the row's codes
    span: float = 0.0  # flat: the longest vector, in scales of the row's codes
    longest: float = 0.0  # the longest vector
    growth: float = 0.5  # of the effort with k, an exponent
    keep: float = 2.0  # partition: rows that pass from 4 bits to 8, of k
    breadth: float = 1.0  # partition: vectors of the lists whose blocks are looked at, of those scanned
    reach: float = 1.0  # partition: in the order of lists and blocks, what a deviation counts
    stop: float = 3.0  # partition: the same, for when to stop
    centroid_scale: float = 0.0
    sections: dict[str, Section]

    @property
    def width(self) -> int:
        """Floats of a vector."""
        return aligned(self.dim, LANES)

    @property
    def quads(self) -> int:
        """Fours of dims of a block: an even number."""
        return aligned(self.dim, 8) // 4

    @property
    def row_bytes(self) -> int:
        """Of a plane of codes."""
        return aligned(self.dim, 32)

    def expected(self) -> dict[str, tuple[str, list[int]]]:
        """Section -> dtype and shape, as kind and counts imply; what only a section can tell is taken from it."""
        n, width, quads, row_bytes = self.count, self.width, self.quads, self.row_bytes
        blocks = aligned(n, LANES) // LANES
        l2 = self.metric == "l2"
        if self.kind == "flat":
            bias = {"bias": ("<f4", [blocks * LANES])} if l2 else {}
            return {
                "codes": ("|u1", [blocks, quads, LANES, 4]),
                "scale": ("<f4", [blocks * LANES]),
                "live": ("<u2", [blocks]),
                "vectors": ("<f4", [n, width]),
                **bias,
            }
        if self.kind == "hnsw":
            degree, entries = self._length("links", 1), self._length("entry_rows", 0)
            square = {"square": ("<f4", [n]), "entry_square": ("<f4", [entries])} if l2 else {}
            return {
                "high": ("|i1", [n, row_bytes]),
                "low": ("|i1", [n, row_bytes]),
                "live": ("<u2", [blocks]),
                "links": ("<i4", [n, degree]),
                "entry_rows": ("<i4", [entries]),
                "entry_high": ("|i1", [entries, row_bytes]),
                **square,
            }
        lists, blocks = self._length("size", 0), self._length("live", 0)
        bias = {"bias": ("<f4", [blocks * LANES])} if l2 else {}
        return {
            "centroids": ("<f4", [lists, width]),
            "centroid_codes": ("|u1", [aligned(lists, LANES) // LANES, quads, LANES, 4]),
            "spread": ("<f4", [lists]),
            "square": ("<f4", [lists]),
            "block": ("<i4", [lists + 1]),
            "size": ("<i4", [lists]),
            "scale4": ("<f4", [lists]),
            "scale8": ("<f4", [lists]),
            "list": ("<u2", [blocks]),
            "live": ("<u2", [blocks]),
            "centre": ("<i4", [lists + 1]),
            "centre_scale": ("<f4", [lists]),
            "centre_codes": ("|u1", [self._length("centre_codes", 0), quads // 2, LANES, 4]),
            "block_spread": ("<f4", [blocks]),
            "block_square": ("<f4", [blocks]),
            "codes": ("|u1", [blocks, quads // 2, LANES, 4]),
            "rows": ("|i1", [blocks * LANES, 2, row_bytes]),
            "row": ("<i4", [blocks * LANES]),
            "place": ("<i4", [n]),
            **bias,
        }

    def _length(self, section: str, axis: int) -> int:
        given = self.sections.get(section)
        return given.shape[axis] if given is not None and len(given.shape) > axis else 0


def lanes_of(places: NDArray[Any], blocks: int) -> NDArray[np.uint16]:
    """Places as a bit each, one uint16 a block."""
    mask = np.zeros(LANES * blocks, np.bool_)
    mask[places] = True
    return np.packbits(mask, bitorder="little").view("<u2")


def laid_out(sections: dict[str, tuple[str, list[int]]], first: int) -> dict[str, Section]:
    """Sections one after the other from the line at or after `first` on."""
    placed = {}
    for name, (dtype, shape) in sections.items():
        placed[name] = Section(dtype, shape, aligned(first))
        first = placed[name].offset + placed[name].bytes
    return placed


def file_bytes(header: Header) -> int:
    return aligned(max(section.offset + section.bytes for section in header.sections.values()))


def packed(header: Header, payload_crc: int, room: int) -> bytes:
    """Preamble and header, `room` bytes of them."""
    text = msgspec.json.encode(header)
    head = PREAMBLE.pack(MAGIC, VERSION, len(text), crc32c(text), payload_crc, 0) + text
    assert len(head) <= room, "room was made for the header"
    return head + bytes(room - len(head))


def map_file(path: str) -> MappedFile:
    """Map a file read-only, shared with every process that maps it.

    Raises:
        SnapshotError: missing, unreadable, or too short to hold a header.
    """
    try:
        data = MappedFile(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be mapped: {error.strerror or error}") from error
    if len(data) < PREAMBLE.size:
        raise SnapshotError(f"{path} has {len(data)} bytes; a vector index has more")
    return data


def read_header(path: str, data: MappedFile) -> tuple[Header, int]:
    """The header of a mapped file, checked against itself and the size of the file, and the checksum of its sections.

    Raises:
        SnapshotError: not an index, another version, altered, cut short or grown.
    """
    head = bytes(memoryview(data)[: PREAMBLE.size])
    magic, version, size, said, payload_crc, nothing = PREAMBLE.unpack(head)
    if magic != MAGIC:
        raise SnapshotError(f"{path} is not a vector index: it begins with {magic!r}, an index with {MAGIC!r}")
    if version != VERSION:
        raise SnapshotError(
            f"{path} has version {version} of the index format; this build reads version {VERSION}. Build it again"
        )
    text = bytes(memoryview(data)[PREAMBLE.size : PREAMBLE.size + size])
    found = crc32c(text)
    if len(text) != size or found != said:
        raise SnapshotError(f"{path}: the header's CRC-32C is {found:08x}; the file says {said:08x}. It was altered.")
    try:
        header = msgspec.json.decode(text, type=Header)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"{path}: the header is not one: {error}") from error
    _check_header(path, header, PREAMBLE.size + size)
    if len(data) != file_bytes(header):
        raise SnapshotError(
            f"{path} has {len(data):,} bytes; its header says {file_bytes(header):,}. It was cut short or written to."
        )
    gap = bytes(memoryview(data)[PREAMBLE.size + size : min(one.offset for one in header.sections.values())])
    if nothing or gap.count(0) != len(gap):
        raise SnapshotError(f"{path} holds something between header and sections. It was altered.")
    return header, payload_crc


def _check_header(path: str, header: Header, end: int) -> None:
    for name, value, known in (("kind", header.kind, KINDS), ("metric", header.metric, METRICS)):
        if value not in known:
            raise SnapshotError(f"{path}: {name} is {value!r} in the header; this build reads {', '.join(known)}")
    hnsw, partition = header.kind == "hnsw", header.kind == "partition"
    degree, entries, lists, blocks, centres = (
        header._length(name, axis)
        for name, axis in (("links", 1), ("entry_rows", 0), ("size", 0), ("live", 0), ("centre_codes", 0))
    )
    blocks_min = aligned(header.count, LANES) // LANES
    for name, number, low, high in (
        ("dim", header.dim, 1, DIM_MAX),
        ("count", header.count, 1, 2**31 - 64 * LISTS_MAX),
        ("effort", header.effort, 1, header.count),
        ("k", header.k, 1, header.count),
        ("degree", degree, int(hnsw), DEGREE_MAX if hnsw else 0),
        ("entries", entries, int(hnsw), ENTRIES_MAX if hnsw else 0),
        ("lists", lists, int(partition), LISTS_MAX if partition else 0),
        ("blocks", blocks, blocks_min, blocks_min + lists),  # every list begins one
        ("centres", centres, -(-blocks // LANES) if partition else 0, blocks // LANES + lists),
        ("scale", header.scale, 0.0, 1e18),
        ("error", header.error, 0.0, 1e19),
        ("span", header.span, 0.0, 1e19),
        ("longest", header.longest, 0.0, 1e19),
        ("growth", header.growth, 0.0, 1.0),
        ("keep", header.keep, 1.0, 64.0),
        ("breadth", header.breadth, 1.0, 1024.0),
        ("reach", header.reach, 0.0, 100.0),
        ("stop", header.stop, 0.0, 100.0),
        ("centroid_scale", header.centroid_scale, 0.0, 1e18),
    ):
        if not low <= number <= high:
            raise SnapshotError(f"{path}: {name} is {number} in the header; this build reads {low} to {high}")
    expected = header.expected()
    said = {name: (section.dtype, section.shape) for name, section in header.sections.items()}
    if said != expected:
        raise SnapshotError(f"{path}: sections are {said} in the header; its counts imply {expected}")
    for name, section in header.sections.items():
        if section.offset % LINE_BYTES or section.offset < end:
            raise SnapshotError(
                f"{path}: section {name} begins at {section.offset}; a line from {end} on would be right"
            )
        end = section.offset + section.bytes


def arrays(data: MappedFile, header: Header) -> dict[str, NDArray[Any]]:
    """Section -> view of the mapped bytes."""
    whole = memoryview(data)
    return {
        name: np.frombuffer(whole, section.dtype, math.prod(section.shape), section.offset).reshape(section.shape)
        for name, section in header.sections.items()
    }


def verify(path: str, data: MappedFile, header: Header, payload_crc: int) -> None:
    """Read every byte: the checksum of the sections, then that numbers that lead somewhere lead to what there is.

    Raises:
        SnapshotError: altered, or written by something that leads beyond the end.
    """
    first = min(section.offset for section in header.sections.values())
    with memoryview(data) as whole, whole[first:] as payload:
        found = crc32c(payload)
    if found != payload_crc:
        raise SnapshotError(
            f"{path}: the sections' CRC-32C is {found:08x}; the file says {payload_crc:08x}. They were altered."
        )
    parts, count = arrays(data, header), header.count
    square = float(np.float32(header.longest**2))
    ranges = {"bias": (-square, 0.0)}
    ranges |= dict.fromkeys(("scale4", "scale8", "centre_scale"), (TINY, LARGE))
    ranges |= dict.fromkeys(("spread", "block_spread"), (0.0, LARGE))
    ranges |= dict.fromkeys(("square", "block_square", "entry_square"), (0.0, square))
    for name, part in parts.items():
        if part.dtype == np.float32:
            _check_floats(path, name, part, *ranges.get(name, (-LARGE, LARGE)))
    if header.kind == "hnsw":
        _within(path, "links", parts["links"], -1, count)
        _within(path, "entry_rows", parts["entry_rows"], 0, count)
        links = parts["links"]
        for first in range(0, count, 65_536):
            part = links[first : first + 65_536]
            if ((part[:, 1:] >= 0) & (part[:, :-1] < 0)).any():
                raise SnapshotError(f"{path}: links go on after -1, of a row from {first} to {first + len(part)}")
        rows = parts["entry_rows"]
        if len(np.unique(rows)) != len(rows):
            raise SnapshotError(f"{path}: entry_rows holds a row twice")
        for name in ("high", "square"):
            if name in parts and not np.array_equal(parts[f"entry_{name}"], parts[name][rows]):
                raise SnapshotError(f"{path}: entry_{name} differs from {name} of entry_rows")
    if header.kind == "partition":
        _check_places(path, parts, count)
    else:
        bits = np.unpackbits(parts["live"].view(np.uint8), bitorder="little")
        if not bits[:count].all() or bits[count:].any():
            raise SnapshotError(f"{path}: live has other bits than those of {count:,} rows")


def _check_places(path: str, parts: dict[str, NDArray[Any]], count: int) -> None:
    block, size, row, place, live = (parts[name] for name in ("block", "size", "row", "place", "live"))
    ends = np.cumsum(size, dtype=np.int64)
    follow = block[0] == 0 and (size >= 0).all() and ends[-1] == len(live) and np.array_equal(ends, block[1:])
    if not follow or not np.array_equal(np.repeat(np.arange(len(size)), size), parts["list"]):
        raise SnapshotError(f"{path}: lists do not follow each other: block, size and list contradict each other")
    centres = np.concatenate([[0], np.cumsum(-(-size // LANES), dtype=np.int64)])
    if not np.array_equal(parts["centre"], centres) or centres[-1] != len(parts["centre_codes"]):
        raise SnapshotError(f"{path}: centre leads elsewhere than to the centres of each list's blocks")
    _within(path, "place", place, 0, len(row))
    _within(path, "row", row, -1, count)
    held = np.flatnonzero(row >= 0)
    bits = np.flatnonzero(np.unpackbits(live.view(np.uint8), bitorder="little"))
    if len(held) != count or not np.array_equal(row[place], np.arange(count)) or not np.array_equal(held, bits):
        raise SnapshotError(f"{path}: rows and places do not fit together")


def _check_floats(path: str, name: str, numbers: NDArray[np.float32], low: float, high: float) -> None:
    for first in range(0, len(numbers), 65_536):
        part = numbers[first : first + 65_536]
        if not ((part >= low) & (part <= high)).all():  # nor is NaN
            raise SnapshotError(f"{path}: section {name} holds a number that is not {low:g} to {high:g}")


def _within(path: str, what: str, numbers: NDArray[Any], low: int, end: int) -> None:
    for first in range(0, len(numbers), 65_536):
        part = numbers[first : first + 65_536]
        wrong = (part < low) | (part >= end)
        if wrong.any():
            at = np.argwhere(wrong)[0]
            raise SnapshotError(
                f"{path}: {what} leads to {part[tuple(at)]} at {first + int(at[0])}; {low} to {end - 1} would be right"
            )
