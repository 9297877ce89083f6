"""Our own indexes as contenders: partition, graph, the same search on hnswlib's own graph, and the flat scan."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from bench.recall.contender import Contender, Make, Search, kept
from bench.recall.sets import Say, Set, hnswlib_graph
from pairec_fast.core import VectorIndex


def opened(of: Set, kind: str, say: Say, **options: Any) -> VectorIndex:
    """The index of that kind; built for k = 500 and a recall of 0.95 unless the cache has it."""
    tune, _ = of.halves()

    def build(path: Path) -> None:
        VectorIndex.build(of.base, path, of.metric, queries=of.queries[tune], **({"kind": kind} | options))  # type: ignore[arg-type]

    return VectorIndex.load(kept(path_of(of, f"{kind}-of-hnswlib" if "graph" in options else kind), build, say))


def path_of(of: Set, name: str) -> Path:
    """The file of an index of OURS."""
    return of.cache / f"{of.name}.{name}.index"


def contender(name: str, index: VectorIndex, of: Set, allow: Any = None, setting: str = "") -> Contender:
    def at(k: int, effort: int) -> Search:
        search = index.search
        return lambda query: search(query, k, effort, allow)[0]

    return Contender(name, setting, at, list(of.queries), lambda k: max(1, k // 10), lambda k: len(of.base))


def _make(of: Set, say: Say, *, name: str, kind: str) -> list[Contender]:
    return [contender(name, opened(of, kind, say), of)]


def _partition(of: Set, say: Say, *, name: str) -> list[Contender]:
    """Built for two recalls: how many rows its first pass keeps is in the file."""

    def build(recall: float, path: Path) -> None:
        tune, _ = of.halves()
        VectorIndex.build(of.base, path, of.metric, "partition", recall=recall, queries=of.queries[tune])  # type: ignore[arg-type]

    made = []
    for recall in (0.95, 0.99):
        path = path_of(of, "partition" if recall == 0.95 else f"partition-{recall}")
        index = VectorIndex.load(kept(path, functools.partial(build, recall), say))
        made.append(contender(name, index, of, setting=f"built for {recall}"))
    return made


def _of_hnswlib(of: Set, say: Say, *, name: str) -> list[Contender]:
    hnswlib_graph(of, say)
    return [contender(name, opened(of, "hnsw", say, graph=of.graph), of)]


OURS: dict[str, Make] = {
    "partition": functools.partial(_partition, name="pairec_fast partition"),
    "hnsw": functools.partial(_make, name="pairec_fast hnsw", kind="hnsw"),
    "hnsw-of-hnswlib": functools.partial(_of_hnswlib, name="pairec_fast on hnswlib's graph"),
    "flat": functools.partial(_make, name="pairec_fast flat", kind="flat"),
}
