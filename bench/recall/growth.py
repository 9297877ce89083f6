"""How a search's cost grows with items, with dims and with k, at a recall of 0.95: ours, and hnswlib where it is quick.

Graphs, ours too, are built of 300,000 items at most; of more they are measured where the cache has hnswlib's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.recall import ours as own
from bench.recall import peers, plot, report, sets
from bench.recall.contender import Contender
from bench.recall.sets import Say
from bench.recall.sweep import Point, Sweep

COUNTS = (100_000, 300_000, 1_000_000, 3_000_000, 5_000_000)
DIMS = (32, 64, 128, 256)
KS = (10, 50, 100, 200, 500, 1_000)
COUNT_OF_DIMS = GRAPH_COUNT_MAX = 300_000
K, RECALL = 500, 0.95

Measured = dict[str, Point | float]


def run(ours: Sequence[str], cache: Path, file: Path | None, rounds: int, say: Say, out: Callable[[str], None]) -> None:
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def panel(title: str, points: Sequence[int], name: Callable[[int], str], k: Callable[[int], int]) -> None:
        rows, lines = [], panels.setdefault(title, {})
        for point in points:
            for index, found in measured(name(point), k(point), ours, cache, rounds, say).items():
                if isinstance(found, float):
                    rows.append([f"{point:,}", index, "", f"at most {found:.3f}", "", ""])
                    continue
                lines.setdefault(index, []).append((point, found.p50_us))
                times = [f"{us:,.0f}" for us in (found.p50_us, found.p99_us)]
                rows.append([f"{point:,}", index, f"{found.effort:,}", f"{found.recall:.4f}", *times])
        out(f"\n{title}\n")
        out(report.table([title.split(",")[0], "index", "effort", "recall", "p50 us", "p99 us"], rows))

    panel(f"items, 64 dims, k = {K}", COUNTS, named, lambda _: K)
    panel(f"dims, {COUNT_OF_DIMS:,} items, k = {K}", DIMS, lambda dim: named(COUNT_OF_DIMS, dim), lambda _: K)
    panel("k, 1,000,000 items, 64 dims", KS, lambda _: "two-tower", lambda k: k)
    if file:
        plot.lines(panels, file, f"two-tower sets at a recall of {RECALL}, one thread, {report.machine()}")


def named(count: int, dim: int = 64) -> str:
    """The million of 64 dims is the one that all else is measured on."""
    return "two-tower" if (count, dim) == (1_000_000, 64) else f"two-tower-{count}x{dim}"


def measured(name: str, k: int, ours: Sequence[str], cache: Path, rounds: int, say: Say) -> Measured:
    """Of each index what RECALL at k takes, or the most it reaches."""
    of = sets.load(name, cache, say)
    graphs = len(of.base) <= GRAPH_COUNT_MAX or of.graph.exists()
    made: list[Contender] = []
    for kind in ours:
        if graphs or "hnsw" not in kind:
            made += own.OURS[kind](of, say)
    if graphs:
        made += peers.hnswlib(of, say)
    say(f"{name}, k = {k}")
    return Sweep(made, of.truth, k, of.halves()).table(rounds, [RECALL])[RECALL]
