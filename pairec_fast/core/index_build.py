"""Building a vector index, offline: check the vectors, write the file of a kind, choose the work a search needs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import index_file, index_partition
from pairec_fast.core.checksum import crc32c
from pairec_fast.core.index import LENGTH_MAX, prepared
from pairec_fast.core.index_file import LANES, Header
from pairec_fast.core.index_graph import Grown, grow
from pairec_fast.core.index_tune import tuned

Progress = Callable[[int, int], object]
Shapes = dict[str, tuple[str, list[int]]]

CHUNK = 16_384  # rows converted and written at a time
FLAT_MAX = 10_000  # auto: so few are scanned in a few microseconds
GRAPH_K_MAX = 50  # auto: for more, a graph has not been the fastest of any data yet
SCALE_MIN = np.float32(1e-36)  # csrc/flat.hpp
ROOM = 8192  # bytes of preamble and header
PIECE = 1 << 26  # bytes copied at a time


def build(
    vectors: Any, path: Any, metric: str, kind: str, k: int, recall: float, queries: Any, seed: int,
    progress: Progress | None, graph: Any,
) -> dict[str, float]:  # fmt: skip
    """See `VectorIndex.build`."""
    if metric not in index_file.METRICS:
        raise ValueError(f"metric must be one of {', '.join(index_file.METRICS)}; got {metric!r}")
    if kind != "auto" and kind not in index_file.KINDS:
        raise ValueError(f"kind must be one of auto, {', '.join(index_file.KINDS)}; got {kind!r}")
    if k <= 0:
        raise ValueError(f"k must be positive, got {k}")
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1, got {recall}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    if graph is not None and kind != "hnsw":
        raise ValueError(f'graph is a file of kind "hnsw", not of kind {kind!r}')
    source = _Source(vectors, metric)
    if queries is not None:
        _check(queries, "queries", metric)
        if queries.shape[1] != source.dim:
            raise ValueError(f"queries have dim {queries.shape[1]}, vectors {source.dim}")
    target = os.path.abspath(os.fsdecode(path))
    maker = _Maker(source, target, min(k, source.count), recall, queries, seed, progress or (lambda done, total: None))
    with contextlib.ExitStack() as files:
        made = {one: files.enter_context(_removed(f"{maker.beside}.{one}")) for one in _kinds(kind, source.count, k)}
        us = {one: maker.make(one, file, graph) for one, file in made.items()}
        best = min(us, key=lambda one: us[one])
        whole = files.enter_context(_removed(f"{maker.beside}.whole"))
        _copy(made[best], whole)
        os.replace(whole, target)
        _sync(os.path.dirname(target))
    return us


def _kinds(kind: str, count: int, k: int) -> list[str]:
    """What to make and compare."""
    if kind != "auto":
        return [kind]
    if count <= FLAT_MAX:
        return ["flat"]
    graphs = k <= GRAPH_K_MAX and importlib.util.find_spec("hnswlib") is not None
    return ["flat", "partition", *(["hnsw"] if graphs else [])]


class _Source:
    """The vectors, checked, read and prepared in pieces: a memory map need not fit into memory."""

    def __init__(self, vectors: Any, metric: str) -> None:
        self.longest, self.most = _check(vectors, "vectors", metric)
        self.vectors, self.normalise = vectors, metric == "cosine"
        self.count, self.dim = vectors.shape
        if self.normalise:
            self.longest, self.most = 1.0, 1.0
        self.ip, self.l2 = metric == "ip", metric == "l2"
        self.metric = metric

    def rows(self, at: NDArray[np.int64]) -> NDArray[np.float32]:
        """Prepared vectors [rows, dim]."""
        chunk = np.ascontiguousarray(self.vectors[at])
        return prepared(chunk, True, self.dim) if self.normalise else chunk

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for first in range(0, self.count, CHUNK):
            at = slice(first, min(first + CHUNK, self.count))
            yield at, self.rows(np.arange(at.start, at.stop))


class _Maker:
    def __init__(
        self, source: _Source, target: str, k: int, recall: float, queries: Any, seed: int, progress: Progress
    ) -> None:
        self.source, self.k, self.recall, self.queries, self.seed = source, k, recall, queries, seed
        self.done = progress
        self.beside = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")

    def progress(self, done: int) -> None:
        self.done(done, self.source.count)

    def make(self, kind: str, path: str, graph: Any) -> float:
        """A file of that kind, sealed and tuned; what a search of it takes, in us."""
        write = {"flat": self._flat, "partition": self._partition, "hnsw": self._hnsw}[kind]
        header = write(path, graph)
        _seal(path, header)
        header, us = tuned(path, header, self.source.chunks, self.queries, self.seed)
        _seal(path, header)
        return us

    def _header(self, kind: str, scale: float, shapes: Shapes) -> Header:
        source = self.source
        return Header(
            kind=kind, metric=source.metric, dim=source.dim, count=source.count, scale=scale, k=self.k,
            effort=source.count, recall=self.recall, recall_reached=1.0, longest=_above(source.longest),
            sections=index_file.laid_out(shapes, ROOM),
        )  # fmt: skip

    def _scale(self) -> float:
        return float(np.float32(self.source.most / 127))

    def _flat(self, path: str, graph: Any) -> Header:
        source = self.source
        bare = self._header("flat", self._scale(), {})
        header = msgspec.structs.replace(bare, sections=index_file.laid_out(bare.expected(), ROOM))
        error = span = 0.0
        with _sections(path, header) as out:
            out["live"][:] = index_file.lanes_of(np.arange(source.count), len(out["live"]))
            for at, chunk in source.chunks():
                most = np.abs(chunk).max(axis=1)
                scale = np.where(most > 0, np.maximum(most / np.float32(127), SCALE_MIN), np.float32(0))
                wide = np.where(scale > 0, scale, 1.0).astype(np.float64)[:, None]
                codes = np.clip(np.rint(chunk / wide), -127, 127)
                off, exact = chunk - codes * wide, chunk.astype(np.float64)
                error = max(error, float((np.sqrt((off * off).sum(axis=1)) / wide[:, 0]).max()))
                span = max(span, float((np.sqrt((exact * exact).sum(axis=1)) / wide[:, 0]).max()))
                first, blocks = at.start // LANES, -(-len(chunk) // LANES)
                shape = (blocks, header.quads, LANES, 4)
                out["codes"][first : first + blocks] = index_partition.blocks_of(codes, 128, shape)
                out["vectors"][at, : source.dim] = chunk
                out["scale"][at] = scale
                if source.l2:
                    out["bias"][at] = -np.einsum("rd,rd->r", chunk, chunk, dtype=np.float64)
                self.progress(at.stop)
        return msgspec.structs.replace(header, error=_above(error), span=_above(span))

    def _partition(self, path: str, graph: Any) -> Header:
        source, rng = self.source, np.random.default_rng(self.seed)
        wanted = index_partition.lists_for(source.count)
        centroids = index_partition.centroids_of(source.rows, source.count, wanted, rng)
        nearest = np.concatenate([index_partition.assigned(chunk, centroids) for _, chunk in source.chunks()])
        lists = index_partition.Lists(nearest, wanted)
        bare = self._header("partition", self._scale(), {})
        header = msgspec.structs.replace(bare, sections=index_file.laid_out(lists.sections(bare), ROOM))
        with _sections(path, header) as out:
            scale = index_partition.fill(out, lists, centroids, source.rows, self.progress)
        return msgspec.structs.replace(header, centroid_scale=scale)

    def _hnsw(self, path: str, graph: Any) -> Header:
        source = self.source
        with _removed(f"{self.beside}.graph") as file:
            if graph is None:
                grow(source.rows, source.count, source.dim, source.ip, source.longest, self.seed, self.progress, file)
                grown = Grown(file, source.count, (source.dim + source.ip,))
            else:
                grown = Grown(os.fsdecode(graph), source.count, (source.dim, *([source.dim + 1] if source.ip else [])))
                grown.check_vectors(source.rows)
            return self._graph(path, grown)

    def _graph(self, path: str, grown: Grown) -> Header:
        source, scale = self.source, self._scale()
        lengths = np.concatenate([np.linalg.norm(chunk.astype(np.float64), axis=1) for _, chunk in source.chunks()])
        entries = grown.entries(lengths if source.ip else None)
        seed = {"links": ("<i4", [source.count, grown.degree]), "entry_rows": ("<i4", [len(entries)])}
        header = self._header("hnsw", scale, seed)
        header = msgspec.structs.replace(header, sections=index_file.laid_out(header.expected(), ROOM))
        with _sections(path, header) as out:
            out["live"][:] = index_file.lanes_of(np.arange(source.count), len(out["live"]))
            for at, chunk in source.chunks():
                words = np.rint(chunk / np.float64(scale or 1.0) * 256).astype(np.int32)
                high = np.clip((words + 128) >> 8, -127, 127)
                out["high"][at, : source.dim] = high
                out["low"][at, : source.dim] = np.clip(words - 256 * high, -128, 127)
                out["links"][at] = grown.links(at.start, at.stop)
                if source.l2:
                    out["square"][at] = np.einsum("rd,rd->r", chunk, chunk, dtype=np.float64)
            out["entry_rows"][:] = entries
            out["entry_high"][:] = out["high"][entries]
            if source.l2:
                out["entry_square"][:] = out["square"][entries]
        return header


def _above(value: float) -> float:
    """A float32 that is not less."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def _copy(path: str, to: str) -> None:
    """Through to the disk, in pieces so large that the system's cache holds the file in large pages.

    Searches of it then take a fifth less.
    """
    with open(path, "rb") as source, open(to, "wb", buffering=0) as target:
        while piece := source.read(PIECE):
            rest = memoryview(piece)
            while rest:
                rest = rest[target.write(rest) :]
        os.fsync(target.fileno())


def _sync(path: str) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _removed(path: str) -> Iterator[str]:
    """A file that is gone afterwards, unless it was renamed."""
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def _sections(path: str, header: Header) -> Iterator[dict[str, NDArray[Any]]]:
    """The sections of a new file of zeros, to be written to."""
    with open(path, "wb") as file:
        file.truncate(index_file.file_bytes(header))
    whole = np.memmap(path, np.uint8, mode="r+")
    out = {}
    for name, section in header.sections.items():
        part = whole[section.offset : section.offset + section.bytes]
        out[name] = part.view(section.dtype).reshape(section.shape)
    if "codes" in out and header.kind == "flat":
        out["codes"][-1] = 128
    yield out
    whole.flush()


def _seal(path: str, header: Header) -> None:
    """Write the header with the checksum of what follows it."""
    with open(path, "r+b") as file:
        file.seek(ROOM)
        crc = 0
        while piece := file.read(1 << 22):
            crc = crc32c(piece, crc)
        file.seek(0)
        file.write(index_file.packed(header, crc, ROOM))


def _check(vectors: Any, name: str, metric: str) -> tuple[float, float]:
    """The length of the longest row, and the largest number."""
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2:
        given = f"shape {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise ValueError(f"{name} must be an array [n, dim], got {given}")
    if vectors.dtype != np.float32:
        raise ValueError(f"{name} must be float32, got {vectors.dtype}")
    count, dim = vectors.shape
    if not 0 < count < 2**31 - 64 * index_file.LISTS_MAX or not 0 < dim <= index_file.DIM_MAX:
        raise ValueError(f"{name} must have 1 to 2^31 - 1 rows of 1 to {index_file.DIM_MAX} dims, got {vectors.shape}")
    longest = most = 0.0
    for first in range(0, count, CHUNK):
        chunk = vectors[first : first + CHUNK].astype(np.float64)
        finite = np.isfinite(chunk).all(axis=1)
        if not finite.all():
            raise ValueError(f"{name}: row {first + int(np.argmin(finite))} is not finite")
        length = np.sqrt(np.einsum("rd,rd->r", chunk, chunk))
        if metric == "cosine" and not length.all():
            raise ValueError(f"{name}: row {first + int(np.argmin(length))} is zero; cosine is not defined for it")
        if metric != "cosine" and length.max() > LENGTH_MAX:
            row = int(np.argmax(length))
            raise ValueError(f"{name}: row {first + row} is {length[row]:.3g} long; at most {LENGTH_MAX:g} is searched")
        longest, most = max(longest, float(length.max())), max(most, float(np.abs(chunk).max()))
    return longest, most
