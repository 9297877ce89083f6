"""Searching among a part of the items: ours with an `allow`, hnswlib with a filter in C++ and with one in Python.

Parts at random, and parts beyond a plane: those are all near some queries and far from others. Each index with the
least effort that reaches a recall of 0.95 among the allowed.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.recall import ours as own
from bench.recall import report, sets
from bench.recall.contender import Contender, Search
from bench.recall.peers import at_least_k, ef_most
from bench.recall.sets import Say, Set, Vectors
from bench.recall.sweep import Effort, Point, measured, reaches, smallest

Mask = NDArray[np.bool_]

K, RECALL = 500, 0.95
RANDOM, BEYOND = (0.5, 0.1, 0.01, 0.001), (0.1, 0.01)
TUNE, JUDGE = slice(0, 60), slice(1000, 1100)
SLOWLY = slice(1000, 1005)  # a query through the filter in Python takes half a second


def masks(of: Set) -> Iterator[tuple[str, Mask]]:
    """Title -> the allowed [count]."""
    rng = np.random.default_rng(5)
    for share in RANDOM:
        yield f"random {share:.1%}", rng.random(len(of.base)) < share
    for share in BEYOND:
        along: Vectors = of.base @ rng.standard_normal(of.base.shape[1:]).astype(np.float32)
        yield f"beyond a plane {share:.1%}", along > np.quantile(along, 1 - share)


def compiled(cache: Path, headers: Path, say: Say) -> ctypes.CDLL | None:
    """`functor.cpp` as a library, or None where the headers are not."""
    if not (headers / "hnswlib" / "hnswlib.h").exists():
        say(
            f"hnswlib in C++: left out, no hnswlib/hnswlib.h in {headers}; `pip download --no-deps --no-binary hnswlib "
            "hnswlib`, unpack it and name its directory as --headers"
        )
        return None
    library = cache / "functor.so"
    source = Path(__file__).with_name("functor.cpp")
    flags = ["-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"]  # as hnswlib builds itself
    try:
        subprocess.run(["g++", *flags, f"-I{headers}", "-o", str(library), str(source)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        say(f"hnswlib in C++: left out, {error}")
        return None
    c = ctypes.CDLL(str(library))
    c.graph_load.restype = ctypes.c_void_p
    c.graph_load.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    c.graph_search.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return c


class Hnswlib:
    """hnswlib's graph of a set, through C++ and through Python."""

    def __init__(self, of: Set, c: ctypes.CDLL | None, say: Say) -> None:
        self.c = c
        self.index, self.queries = sets.hnswlib_graph(of, say)
        if c:
            self.graph = c.graph_load(str(of.graph).encode(), self.queries.shape[1], of.metric == "ip")

    def contenders(self, mask: Mask) -> tuple[Contender | None, Contender]:
        """Filtered in C++, if that can be, and in Python."""
        return self._in_c(mask) if self.c else None, self._in_python(mask)

    def _in_c(self, mask: Mask) -> Contender:
        bits = np.packbits(mask, bitorder="little")
        rows = np.empty(K, np.int32)
        into, allowed = rows.ctypes.data, bits.ctypes.data

        def at(k: int, effort: int, bits: Any = bits) -> Search:  # the bits must outlive the search
            assert self.c is not None
            search, graph = self.c.graph_search, self.graph
            return lambda query: rows[: search(graph, query, k, effort, allowed, into)]

        addresses = [query.ctypes.data for query in self.queries]
        return Contender("hnswlib", "functor in C++", at, addresses, at_least_k, ef_most)

    def _in_python(self, mask: Mask) -> Contender:
        listed = mask.tolist()

        def at(k: int, effort: int) -> Search:
            self.index.set_ef(effort)

            def search(query: Vectors) -> Any:
                try:
                    return self.index.knn_query(query, k, 1, listed.__getitem__)[0][0]
                except RuntimeError:  # it found fewer than k
                    return []

            return search

        return Contender("hnswlib in Python", "callback", at, list(self.queries), at_least_k, ef_most)


def run(
    names: Sequence[str], ours: Sequence[str], cache: Path, headers: Path | None, rounds: int, say: Say,
    out: Callable[[str], None],
) -> None:  # fmt: skip
    c = compiled(cache, headers or cache / "hnswlib", say)
    for name in names:
        of = sets.load(name, cache, say)
        theirs = Hnswlib(of, c, say)
        out(f"\n{of}, k = {K} or all allowed\n")
        head = ["allowed", "items", "index", "effort", "recall", "p50 us", "p99 us", "x hnswlib"]
        out(report.table(head, []))
        for title, mask in masks(of):
            for row in _rows(of, title, mask, theirs, ours, rounds, say):
                out(report.line(row))


def _rows(
    of: Set, title: str, mask: Mask, theirs: Hnswlib, ours: Sequence[str], rounds: int, say: Say
) -> Iterator[list[str]]:
    say(f"{of.name}: {title}")
    k = min(K, int(mask.sum()))
    truth = _truth(of, mask, k)
    in_c, in_python = theirs.contenders(mask)
    contenders = [_ours(of, kind, mask, say) for kind in ours] + ([in_c] if in_c else [])
    efforts: list[Effort] = []
    for contender in contenders:
        reached = reaches(contender, truth, k, TUNE)
        effort = smallest(reached, contender.least(k), contender.most(k), RECALL)
        efforts.append((contender, effort or contender.most(k)))
    points = measured(efforts, truth, k, JUDGE, rounds)
    effort = efforts[-1][1] if in_c else k
    points += measured([(in_python, effort)], truth, k, SLOWLY, 1)
    base = next(point for point in points if point.name.startswith("hnswlib"))
    for point in points:
        yield _row(title, int(mask.sum()), point, base)


def _row(title: str, allowed: int, point: Point, base: Point) -> list[str]:
    name = f"{point.name}, {point.setting}" if point.setting else point.name
    times = [f"{us:,.0f}" for us in (point.p50_us, point.p99_us)]
    return [
        title, f"{allowed:,}", name, f"{point.effort:,}", f"{point.recall:.4f}" if point.recall else "fails", *times,
        f"{base.p50_us / point.p50_us:.1f}",
    ]  # fmt: skip


def _ours(of: Set, kind: str, mask: Mask, say: Say) -> Contender:
    options = {"graph": of.graph} if kind == "hnsw-of-hnswlib" else {}
    index: Any = own.opened(of, "hnsw" if options else kind, say, **options)
    allow = index.filter(mask) if hasattr(index, "filter") else mask
    return own.contender(f"pairec_fast {kind}", index, of, allow)


def _truth(of: Set, mask: Mask, k: int) -> sets.Rows:
    """As a set's: [queries, k]; only of the queries that are asked."""
    truth = np.full((len(of.queries), k), -1, np.int32)
    for asked in (TUNE, JUDGE):
        queries: Vectors = of.queries[asked]
        truth[asked] = sets.exact(of.base, queries, k, mask)
    return truth
