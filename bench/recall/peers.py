"""What else finds the nearest of many vectors, in its fastest exact-distance form that its wheel offers, on one thread.

Graphs get M = 16 (32 links at the bottom) and 200 candidates at building, as hnswlib does; where lengths differ they
get `augmented` vectors and squared distance. Partitions get inner products as they are. A maker raises whatever its
package raises where it cannot.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from bench.recall.contender import Contender, Make, Search, kept
from bench.recall.sets import EF_CONSTRUCTION, M, Say, Set, Vectors, asked_of_augmented, augmented, hnswlib_graph

THREADS = os.cpu_count() or 1  # of building only
FEW = 100  # of a smaller k as many are looked at exactly as of this: of the best 20 by codes a top 10 cannot be had


def at_least_k(k: int) -> int:
    return k


def ef_most(k: int) -> int:
    """At 5,000 a graph's latencies are far out of a request's budget."""
    return max(5_000, 10 * k)


def spherical(of: Set) -> tuple[Vectors, Vectors, bool]:
    """Vectors and queries for a graph, and whether they are to be compared by distance."""
    if of.metric == "cosine":
        return of.base, of.queries, False
    return augmented(of.base), asked_of_augmented(of.queries), True


def hnswlib(of: Set, say: Say) -> list[Contender]:
    index, queries = hnswlib_graph(of, say)

    def at(k: int, effort: int) -> Search:
        index.set_ef(effort)
        return lambda query: index.knn_query(query, k, 1)[0][0]

    return [Contender("hnswlib", "", at, list(queries), at_least_k, ef_most)]


def faiss_hnsw(of: Set, say: Say) -> list[Contender]:
    import faiss

    base, queries, by_distance = spherical(of)

    def build(path: Path) -> None:
        faiss.omp_set_num_threads(THREADS)
        index = faiss.IndexHNSWFlat(base.shape[1], M, faiss.METRIC_L2 if by_distance else faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        index.add(base)
        faiss.write_index(index, str(path))

    index = faiss.read_index(str(kept(of.cache / f"{of.name}.faiss-hnsw", build, say)))
    faiss.omp_set_num_threads(1)

    def at(k: int, effort: int) -> Search:
        index.hnsw.efSearch = effort
        return lambda query: index.search(query, k)[1][0]

    return [Contender("faiss HNSW", "flat", at, list(queries[:, None]), lambda k: max(8, k // 4), ef_most)]


def faiss_ivf(of: Set, say: Say) -> list[Contender]:
    """Partitions of 4-bit product codes, scanned in registers; the best few times k are looked at exactly."""
    import faiss

    dim = of.base.shape[1]
    lists = 2 * round(len(of.base) ** 0.5)

    def build(path: Path) -> None:
        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(dim, f"IVF{lists},PQ{dim // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT)
        index.train(of.base[: 64 * lists])
        index.add(of.base)
        faiss.write_index(index, str(path))

    index = faiss.read_index(str(kept(of.cache / f"{of.name}.faiss-ivf{lists}", build, say)))
    faiss.omp_set_num_threads(1)
    ivf = faiss.extract_index_ivf(index)

    def refined(factor: int) -> Contender:
        def at(k: int, effort: int) -> Search:
            index.k_factor, ivf.nprobe = factor * max(k, FEW) / k, effort
            return lambda query: index.search(query, k)[1][0]

        queries = list(of.queries[:, None])
        return Contender("faiss IVF-PQ fastscan", f"{factor} k refined", at, queries, lambda k: 1, lambda k: lists)

    return [refined(factor) for factor in (4, 8, 16, 32)]


def scann(of: Set, say: Say) -> list[Contender]:
    """A tree of √N, 2 √N and 4 √N leaves, codes of two dims, the best 2 to 16 k looked at exactly."""
    from scann import scann_ops_pybind as scann

    def built(leaves: int) -> Any:
        def build(path: Path) -> None:
            builder = scann.builder(of.base, 10, "dot_product").set_n_training_threads(THREADS)
            builder = builder.tree(leaves, leaves // 10, training_sample_size=250_000)
            index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(1000).build()
            path.mkdir(exist_ok=True)
            index.serialize(str(path), relative_path=True)

        path = kept(of.cache / f"{of.name}.scann{leaves}", build, say)
        return scann.load_searcher(str(path))

    def reordered(index: Any, leaves: int, factor: int) -> Contender:
        def at(k: int, effort: int) -> Search:
            search, count = index.search, factor * max(k, FEW)
            return lambda query: search(query, k, count, effort)[0]

        setting = f"{leaves:,} leaves, {factor} k reordered"
        return Contender("ScaNN", setting, at, list(of.queries), lambda k: 1, lambda k: leaves)

    sizes = [round(times * len(of.base) ** 0.5) for times in (1, 2, 4)]
    indexes = [(leaves, built(leaves)) for leaves in sizes]
    return [reordered(index, leaves, factor) for leaves, index in indexes for factor in (2, 4, 8, 16)]


def usearch(of: Set, say: Say) -> list[Contender]:
    from usearch.index import Index

    base, queries, by_distance = spherical(of)

    def build(path: Path) -> None:
        metric = "l2sq" if by_distance else "ip"
        index = Index(ndim=base.shape[1], metric=metric, dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)
        index.add(np.arange(len(base)), base, threads=THREADS)
        index.save(str(path))

    index = Index.restore(str(kept(of.cache / f"{of.name}.usearch", build, say)))

    def at(k: int, effort: int) -> Search:
        index.expansion_search = effort
        return lambda query: index.search(query, k, threads=1).keys

    return [Contender("usearch", "float32", at, list(queries), at_least_k, ef_most)]


def voyager(of: Set, say: Say) -> list[Contender]:
    import voyager

    base, queries, by_distance = spherical(of)

    def build(path: Path) -> None:
        space = voyager.Space.Euclidean if by_distance else voyager.Space.InnerProduct
        index = voyager.Index(space, base.shape[1], M, EF_CONSTRUCTION, max_elements=len(base))
        index.add_items(base, np.arange(len(base)), THREADS)
        index.save(str(path))

    index = voyager.Index.load(str(kept(of.cache / f"{of.name}.voyager", build, say)))

    def at(k: int, effort: int) -> Search:
        return lambda query: index.query(query, k, 1, effort)[0]

    return [Contender("voyager", "float32", at, list(queries), at_least_k, ef_most)]


def svs(of: Set, say: Say) -> list[Contender]:
    """Of whole vectors: its compressed ones, LVQ and LeanVec, end the process where the processor is not Intel's."""
    import svs

    base, queries, by_distance = spherical(of)
    distance = svs.DistanceType.L2 if by_distance else svs.DistanceType.MIP
    parts = ("config", "graph", "data")

    def build(path: Path) -> None:
        parameters = svs.VamanaBuildParameters(
            alpha=1.2 if by_distance else 0.95, graph_max_degree=2 * M, window_size=EF_CONSTRUCTION
        )
        index = svs.Vamana.build(parameters, base, distance, num_threads=THREADS)
        path.mkdir(exist_ok=True)
        index.save(*(str(path / part) for part in parts))

    path = kept(of.cache / f"{of.name}.svs", build, say)
    config, graph, data = (str(path / part) for part in parts)
    loaders = svs.GraphLoader(graph), svs.VectorDataLoader(data, svs.DataType.float32)
    index = svs.Vamana(config, *loaders, distance=distance, num_threads=1)

    def at(k: int, effort: int) -> Search:
        index.search_window_size = effort
        return lambda query: index.search(query, k)[0][0]

    return [Contender("SVS Vamana", "float32", at, list(queries), at_least_k, ef_most)]


def vsag(of: Set, say: Say) -> list[Contender]:
    import pyvsag

    pyvsag.set_logger_off()
    base, queries, by_distance = spherical(of)
    graph = {
        "base_quantization_type": "sq8_uniform", "use_reorder": True, "precise_quantization_type": "fp32",
        "max_degree": 2 * M, "ef_construction": EF_CONSTRUCTION, "build_thread_count": THREADS,
    }  # fmt: skip
    parameters = {"dtype": "float32", "metric_type": "l2" if by_distance else "ip", "dim": base.shape[1]}
    index = pyvsag.Index("hgraph", json.dumps(parameters | {"index_param": graph}))

    def build(path: Path) -> None:
        index.build(base.ravel(), np.arange(len(base)), len(base), base.shape[1])
        index.save(str(path))

    path = of.cache / f"{of.name}.vsag"
    if path.exists():
        index.load(str(path))
    else:
        kept(path, build, say)

    def at(k: int, effort: int) -> Search:
        setting = json.dumps({"hgraph": {"ef_search": effort}})
        return lambda query: index.knn_search(query, k, setting)[0]

    def most(k: int) -> int:
        return max(1_000, 10 * k)  # it refuses more of a small k

    return [Contender("VSAG hgraph", "8 bits, reordered", at, list(queries), at_least_k, most)]


PEERS: dict[str, tuple[str, Make]] = {  # as asked for -> its package, and how it is made
    "hnswlib": ("hnswlib", hnswlib),
    "faiss-hnsw": ("faiss-cpu", faiss_hnsw),
    "faiss-ivf": ("faiss-cpu", faiss_ivf),
    "scann": ("scann", scann),
    "svs": ("scalable-vs", svs),
    "usearch": ("usearch", usearch),
    "voyager": ("voyager", voyager),
    "vsag": ("pyvsag", vsag),
}
