"""Stage by stage: each library alone, on the vectors, candidates and model of the world."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.bench_forest import ROWS, batches, others, requests
from bench.forests import served
from bench.numpy_peers import dpp_numpy
from bench.peers import recall, world
from bench.peers.stack import spread
from bench.recall import report
from bench.recall.ours import contender
from bench.recall.sets import Set
from bench.recall.sweep import Point, Sweep
from bench.turns import in_turns
from pairec_fast import Engine
from pairec_fast.core import Arena, DiversityRules, Dpp, add, top_k

FORESTS = ["lleaves", "treelite GTIL", "onnxruntime"]
HEAD = ["stage", "who", "microseconds of CPU", "times ours"]


def table(
    engine: Engine, config: Path, folder: Path, indexes: Sequence[str], rounds: int, say: Callable[[str], None]
) -> str:
    rows = [*_recall(engine, folder, indexes, rounds, say), *_forest(config, rounds), *_rerank(engine, rounds)]
    return report.table(HEAD, rows, left=2)


def _recall(
    engine: Engine, folder: Path, indexes: Sequence[str], rounds: int, say: Callable[[str], None]
) -> list[list[str]]:
    """p50 over users, everybody at the least effort that reaches the same recall, chosen by the same procedure."""
    of = recall.asked_set(folder)
    index = engine.snapshot.vectors[world.VECTORS].index
    assert index is not None
    ours = contender(f"pairec_fast {index.kind}", index, of)
    sweep = Sweep([ours, *(each for _, each in recall.made(of, indexes, say))], of.truth, _k(of), of.halves())
    found = sweep.table(rounds, (world.RECALL,))[world.RECALL]
    points = [point for point in found.values() if isinstance(point, Point)]
    least = next((point.p50_us for point in points if point.name == ours.name), float("nan"))
    rows = [
        [f"recall of {_k(of)}", f"{point.name} {point.setting}, finds {point.recall:.3f}", *_cells(point.p50_us, least)]
        for point in sorted(points, key=lambda point: point.p50_us)
    ]
    for name, most in found.items():
        if isinstance(most, float):
            rows.append([f"recall of {_k(of)}", f"{name}: finds {most:.3f} at most", "", ""])
    return rows


def _k(of: Set) -> int:
    return int(of.truth.shape[1])


def _forest(config: Path, rounds: int) -> list[list[str]]:
    """Scores of one request's candidates; ours computes the cross features as well, which the others are given."""
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        case = served(config, Path(scratch))
        found = {**requests(case), **batches(case, ROWS), **others(case, FORESTS)}
        taken = in_turns({name: measure.call for name, measure in found.items()}, rounds)
    least = taken["`RequestForest.score`, requests"]
    return [
        [f"forest of {case.trees} trees", name, *_cells(ns / 1e3, least / 1e3)]
        for name, ns in sorted(taken.items(), key=lambda one: one[1])
    ]


def _rerank(engine: Engine, rounds: int) -> list[list[str]]:
    """Twenty of 500 candidates with made-up scores: by the window rule, and by a DPP over the vectors."""
    rng = np.random.default_rng(0)
    snapshot = engine.snapshot
    vectors = snapshot.vectors[world.VECTORS]
    assert vectors.index is not None
    count = len(vectors.index)
    length = np.linalg.norm(vectors.items[vectors.rows[:count]], axis=1)
    rows = vectors.rows[rng.permutation(np.flatnonzero(length > 0))[: world.CANDIDATES]]
    category = snapshot.items.columns["category"].values
    score = rng.normal(size=len(rows))
    arena = Arena(len(rows), items_max=len(snapshot.items))
    add(arena, rows, np.zeros(len(rows), np.float32), 0)
    arena.score[: len(rows)] = score
    rules = DiversityRules([(0, world.WINDOW, world.WINDOW_MOST, 0.0)], by_row=[np.ascontiguousarray(category)])

    def ours() -> Any:
        top_k(arena, arena.count)
        rules.apply(arena, world.SIZE)
        return arena.order[: world.SIZE].tolist()

    def theirs() -> list[int]:
        return spread((-score).argsort(kind="stable").tolist(), category[rows].tolist(), world.SIZE)

    unit = (vectors.items[rows] / np.linalg.norm(vectors.items[rows], axis=1, keepdims=True)).astype(np.float32)
    places, relevance, dpp = np.arange(len(rows), dtype=np.int32), np.sort(rng.random(len(rows)))[::-1].copy(), Dpp()

    def our_dpp() -> Any:
        return np.asarray(dpp.choose(unit, places, relevance, alpha=2.0, size=world.SIZE, window=10)).tolist()

    def their_dpp() -> Any:
        return dpp_numpy(unit, places, relevance, alpha=2.0, size=world.SIZE, window=10)  # type: ignore[no-untyped-call]

    pairs = {"window rule, 20 of 500": (ours, theirs), "DPP, 20 of 500": (our_dpp, their_dpp)}
    rows_out = []
    for stage, (mine, peer) in pairs.items():
        if mine() != peer():
            raise SystemExit(f"{stage}: the peer answers something else")
        taken = in_turns({"pairec_fast": mine, "NumPy": peer}, rounds)
        rows_out += [[stage, name, *_cells(ns / 1e3, taken["pairec_fast"] / 1e3)] for name, ns in taken.items()]
    return rows_out


def _cells(us: float, least: float) -> tuple[str, str]:
    return f"{us:,.1f}", f"{us / least:.2f}"
