"""The file of a vector index: one header, three sections, mapped as it lies. Little-endian throughout.

    bytes 0..255     header, see `Header`; its last four bytes are the CRC-32C of those before
    vectors          float32 [count, width]; width is dim rounded up to 16, the lanes beyond dim zero;
                     normalised if the metric is cosine
    links            int32 [count, degree]: rows of neighbours, then -1 (kind hnsw)
    upper            int32: for each upper level, level 1 first, [nodes, 2 + upper_degree]: the node's row, its slot
                     one level below (at level 1 its row), the slots of its neighbours in this level, then -1

Every section starts on a 64-byte line; the gaps hold zeros. The payload checksum covers all bytes after the header.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np

from pairec_fast.core.checksum import crc32c
from pairec_fast.core.mapping import MappedFile
from pairec_fast.errors import SnapshotError

MAGIC = b"PAIRECVI"
VERSION = 1
HEADER_BYTES = 256
LANES = 16
LINE_BYTES = 64
DEGREE_MAX = 64  # csrc/hnsw.hpp, degree_max
LEVELS_MAX = 16  # csrc/hnsw.hpp, levels_max
DIM_MAX = 65_536
KINDS = ("flat", "hnsw")
METRICS = ("ip", "cosine", "l2")
_FORMAT = struct.Struct(f"<8s10iqffi4x7Q{LEVELS_MAX}iI")
_CHECKSUM = struct.Struct("<I")


def aligned(size: int) -> int:
    return -(-size // LINE_BYTES) * LINE_BYTES


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of itself. Offsets and sizes follow from the counts; a file that says otherwise is refused."""

    kind: str
    metric: str
    dim: int
    count: int
    degree: int = 0
    upper_degree: int = 0
    entry: int = 0  # a slot in the topmost level; a row where there is none
    level_nodes: tuple[int, ...] = ()  # level 1 first
    effort: int = 0
    recall: float = 1.0  # what was asked for
    recall_reached: float = 1.0  # what the tuning queries measured at `effort`
    k: int = 1  # at which both hold
    payload_crc: int = 0

    @property
    def width(self) -> int:
        return -(-self.dim // LANES) * LANES

    @property
    def sections(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Offset and bytes of vectors, links, upper."""
        vectors = 4 * self.count * self.width
        links = 4 * self.count * self.degree
        upper = 4 * sum(self.level_nodes) * (2 + self.upper_degree) if self.level_nodes else 0
        second = HEADER_BYTES + aligned(vectors)
        third = second + aligned(links)
        return (HEADER_BYTES, vectors), (second, links), (third, upper)

    @property
    def file_bytes(self) -> int:
        offset, size = self.sections[2]
        return offset + aligned(size)

    def pack(self) -> bytes:
        levels = (*self.level_nodes, *(0,) * (LEVELS_MAX - len(self.level_nodes)))
        head = _FORMAT.pack(
            MAGIC, VERSION, KINDS.index(self.kind), METRICS.index(self.metric), self.dim, self.width, self.count,
            self.degree, self.upper_degree, len(self.level_nodes), self.entry, self.effort, self.recall,
            self.recall_reached, self.k, *(number for section in self.sections for number in section), self.file_bytes,
            *levels, self.payload_crc,
        )  # fmt: skip
        head += bytes(HEADER_BYTES - len(head) - 4)
        return head + _CHECKSUM.pack(crc32c(head))


def read_header(path: str, data: MappedFile) -> Header:
    """The header of a mapped file, checked against itself and against the size of the file.

    Raises:
        SnapshotError: not an index, another version, altered, cut short or grown.
    """
    head = bytes(memoryview(data)[:HEADER_BYTES])
    if not head.startswith(MAGIC):
        raise SnapshotError(f"{path} is not a vector index: it begins with {head[:8]!r}, an index with {MAGIC!r}")
    (version,) = struct.unpack_from("<i", head, 8)
    if version != VERSION:
        raise SnapshotError(f"{path} has version {version} of the index format; this build reads version {VERSION}")
    (said,) = _CHECKSUM.unpack_from(head, HEADER_BYTES - 4)
    found = crc32c(head[:-4])
    if found != said:
        raise SnapshotError(f"{path}: the header's CRC-32C is {found:08x}; the header says {said:08x}. It was altered.")
    fields = _FORMAT.unpack_from(head)
    kind, metric, dim, width, count, degree, upper_degree, levels, entry, effort = fields[2:12]
    recall, recall_reached, k = fields[12:15]
    for name, value, low, high in (
        ("kind", kind, 0, len(KINDS) - 1),
        ("metric", metric, 0, len(METRICS) - 1),
        ("dim", dim, 1, DIM_MAX),
        ("count", count, 1, 2**31 - 1),
        ("degree", degree, kind, DEGREE_MAX if kind else 0),
        ("upper degree", upper_degree, 0, DEGREE_MAX),
        ("levels", levels, 0, LEVELS_MAX if kind else 0),
        ("effort", effort, 1, count),
    ):
        if not low <= value <= high:
            raise SnapshotError(f"{path}: {name} is {value} in the header; this build reads {low} to {high}")
    level_nodes = fields[22 : 22 + levels]
    for level, nodes in enumerate(level_nodes, 1):
        if not 1 <= nodes <= count:
            raise SnapshotError(f"{path}: level {level} has {nodes} nodes; it should have 1 to {count}")
    nodes = level_nodes[-1] if levels else count
    if not 0 <= entry < nodes:
        raise SnapshotError(f"{path}: the entry is {entry}; the topmost level has {nodes} nodes")
    header = Header(
        KINDS[kind], METRICS[metric], dim, count, degree, upper_degree, entry, level_nodes, effort, recall,
        recall_reached, k, fields[-1],
    )  # fmt: skip
    said = (width, *fields[15:22])
    implied = (header.width, *(number for section in header.sections for number in section), header.file_bytes)
    if said != implied:
        raise SnapshotError(f"{path}: width, sections and size are {said} in the header; its counts imply {implied}")
    if len(data) != header.file_bytes:
        raise SnapshotError(
            f"{path} has {len(data):,} bytes; its header says {header.file_bytes:,}. It was cut short or written twice."
        )
    return header


def map_file(path: str) -> MappedFile:
    """Map a file read-only, shared with every process that maps it.

    Raises:
        SnapshotError: missing, unreadable, or too short to hold a header.
    """
    try:
        data = MappedFile(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be mapped: {error.strerror or error}") from error
    if len(data) < HEADER_BYTES:
        raise SnapshotError(f"{path} has {len(data)} bytes; a vector index has at least {HEADER_BYTES}")
    return data


def array(data: MappedFile, section: tuple[int, int], dtype: str, columns: int) -> np.ndarray[Any, Any]:
    """A section as [rows, columns], a view of the mapped bytes."""
    offset, size = section
    flat: np.ndarray[Any, Any] = np.frombuffer(memoryview(data), dtype=dtype, count=size // 4, offset=offset)
    return flat.reshape(-1, columns)


def verify(path: str, data: MappedFile, header: Header) -> None:
    """Read every byte: the payload's checksum, then that every link leads to a node there is.

    Raises:
        SnapshotError: altered, or written by something that links beyond the end.
    """
    with memoryview(data) as whole, whole[HEADER_BYTES:] as payload:
        found = crc32c(payload)
    if found != header.payload_crc:
        raise SnapshotError(
            f"{path}: the payload's CRC-32C is {found:08x}; the header says {header.payload_crc:08x}. It was altered."
        )
    if header.kind == "flat":
        return
    _, links_section, upper_section = header.sections
    links = array(data, links_section, "<i4", header.degree)
    for first in range(0, header.count, 65_536):
        _within(path, "level 0", links[first : first + 65_536], -1, header.count, first)
    upper = array(data, upper_section, "<i4", 2 + header.upper_degree)
    first, below = 0, header.count
    for level, nodes in enumerate(header.level_nodes, 1):
        part = upper[first : first + nodes]
        _within(path, f"level {level}, rows", part[:, :1], 0, header.count, 0)
        _within(path, f"level {level}, slots below", part[:, 1:2], 0, below, 0)
        _within(path, f"level {level}", part[:, 2:], -1, nodes, 0)
        first, below = first + nodes, nodes


def _within(path: str, what: str, links: np.ndarray[Any, Any], low: int, end: int, first: int) -> None:
    wrong = (links < low) | (links >= end)
    if wrong.any():
        node, column = np.argwhere(wrong)[0].tolist()
        value = links[node, column]
        raise SnapshotError(f"{path}: {what}, node {first + node} links to {value}; nodes are 0 to {end - 1}")
