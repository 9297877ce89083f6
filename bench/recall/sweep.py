"""Recall and latency of contenders over efforts: curves, and the least effort that reaches a recall.

Times are of the calling thread's CPU, one query a call, contenders in turns of BLOCK queries round after round; of each
query the best of the rounds counts, so p50 and p99 are over queries and not over what else the machine did. Before its
turn each is asked the BLOCK before, unmeasured: what the others left of the caches is not its cost. With one query
instead, an index that reads megabytes in 50 us was still fetching them while it was measured: less work took longer.
"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.recall.contender import Contender
from bench.recall.sets import Rows

BLOCK = 20
TARGETS = (0.90, 0.95, 0.99)
CURVE_RECALL, CURVE_POINTS = 0.995, 7  # a curve ends where this is reached
TUNING, TUNING_SHORT, JUDGING, CURVE_QUERIES = 250, 1_000, 500, 250
SHORT = 100  # k up to this are tuned with TUNING_SHORT queries: fewer right rows each, so that recall varies more
CURVE_ROUNDS = 2

Effort = tuple[Contender, int]


class Point(NamedTuple):
    """A contender with an effort, measured."""

    name: str
    setting: str
    effort: int
    recall: float
    p50_us: float
    p99_us: float


def recall_of(found: Iterable[NDArray[np.generic]], right: Rows) -> float:
    """Mean share of each query's right rows that were found; -1 among them stands for no row.

    Each of `found` is looked at before the next is asked for: a search may answer into the same array again.
    """
    shares = []
    for rows, expected in zip(found, right, strict=True):
        there = expected[expected >= 0]
        shares.append(1.0 if not len(there) else float(np.isin(there, np.asarray(rows)).mean()))
    return float(np.mean(shares))


def smallest(reached: Callable[[int], float], least: int, most: int, target: float) -> int | None:
    """The least effort, to a 64th, of which `reached` is `target` or more; None: not even `most`."""
    low, high = least - 1, least
    while reached(high) < target:
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > max(1, high // 64):
        middle = (low + high) // 2
        if reached(middle) < target:
            low = middle
        else:
            high = middle
    return high


def reaches(contender: Contender, truth: Rows, k: int, queries: slice) -> Callable[[int], float]:
    """Recall at k of an effort, of those queries; asked once of each."""

    @functools.cache
    def reached(effort: int) -> float:
        search = contender.at(k, effort)
        return recall_of((search(query) for query in contender.queries[queries]), truth[queries, :k])

    return reached


def timed(efforts: Sequence[Effort], k: int, queries: slice, rounds: int) -> NDArray[np.float64]:
    """Microseconds of each query, the best of the rounds [effort, query]."""
    asked = [contender.queries[queries] for contender, _ in efforts]
    count = len(asked[0]) if asked else 0
    best = np.full((len(efforts), count), np.inf)
    clock = time.thread_time_ns
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for begin in range(0, count, BLOCK):
                end = min(begin + BLOCK, count)
                for place, (contender, effort) in enumerate(efforts):
                    search, of, taken = contender.at(k, effort), asked[place], []
                    for at in range(begin - min(BLOCK, count), begin):
                        search(of[at])
                    for query in of[begin:end]:
                        start = clock()
                        search(query)
                        taken.append(clock() - start)
                    best[place, begin:end] = np.minimum(best[place, begin:end], np.array(taken) / 1e3)
    finally:
        gc.enable()
    return best


def measured(efforts: Sequence[Effort], truth: Rows, k: int, queries: slice, rounds: int) -> list[Point]:
    times = timed(efforts, k, queries, rounds)
    points = []
    for (contender, effort), us in zip(efforts, times, strict=True):
        p50, p99 = np.percentile(us, [50, 99])
        recall = reaches(contender, truth, k, queries)(effort)
        points.append(Point(contender.name, contender.setting, effort, recall, float(p50), float(p99)))
    return points


class Sweep:
    """Contenders over one set at one k; efforts are chosen with some queries and judged by others."""

    def __init__(self, contenders: Sequence[Contender], truth: Rows, k: int, halves: tuple[slice, slice]) -> None:
        self.contenders, self.truth, self.k = list(contenders), truth, k
        tune, judge = halves
        self.tune = slice(tune.start, tune.start + (TUNING if k > SHORT else TUNING_SHORT))
        self.judge = slice(judge.start, judge.start + JUDGING)
        self._reached = [reaches(contender, truth, k, self.tune) for contender in self.contenders]

    def effort(self, place: int, target: float) -> int | None:
        contender = self.contenders[place]
        return smallest(self._reached[place], contender.least(self.k), contender.most(self.k), target)

    def table(self, rounds: int, targets: Sequence[float] = TARGETS) -> dict[float, dict[str, Point | float]]:
        """Of each target and name: what its fastest setting that reaches it takes, or the most that any reaches."""
        chosen: list[tuple[float, Effort]] = []
        found: dict[float, dict[str, Point | float]] = {}
        for target in targets:
            efforts, found[target] = [], {}
            for place, contender in enumerate(self.contenders):
                effort = self.effort(place, target)
                if effort is not None:
                    efforts.append((contender, effort))
                most = 0.0 if effort is not None else self._reached[place](contender.most(self.k))
                so_far = found[target].get(contender.name, 0.0)
                assert isinstance(so_far, float)
                found[target][contender.name] = max(so_far, most)
            chosen += [(target, each) for each in self._fastest(efforts)]
        points = measured([each for _, each in chosen], self.truth, self.k, self.judge, rounds)
        for (target, _), point in zip(chosen, points, strict=True):
            found[target][point.name] = point
        return found

    def curves(self) -> dict[str, list[Point]]:
        """Of each name its settings' points that no other of them beats, by rising recall."""
        efforts = [
            (contender, effort) for place, contender in enumerate(self.contenders) for effort in self._spread(place)
        ]
        queries = slice(self.judge.start, self.judge.start + CURVE_QUERIES)
        points = measured(efforts, self.truth, self.k, queries, CURVE_ROUNDS)
        return {name: unbeaten([point for point in points if point.name == name]) for name in names(self.contenders)}

    def _spread(self, place: int) -> list[int]:
        contender = self.contenders[place]
        least = contender.least(self.k)
        most = self.effort(place, CURVE_RECALL) or contender.most(self.k)
        return sorted({round(effort) for effort in np.geomspace(least, most, CURVE_POINTS)})

    def _fastest(self, efforts: Sequence[Effort]) -> list[Effort]:
        """One of each name, by the tuning queries."""
        if len(names(contender for contender, _ in efforts)) == len(efforts):
            return list(efforts)
        times = np.median(timed(efforts, self.k, slice(self.tune.start, self.tune.start + TUNING), 1), axis=1)
        best: dict[str, tuple[float, Effort]] = {}
        for each, us in zip(efforts, times, strict=True):
            name = each[0].name
            if name not in best or us < best[name][0]:
                best[name] = us, each
        return [each for _, each in best.values()]


def names(contenders: Iterable[Contender]) -> list[str]:
    return list(dict.fromkeys(contender.name for contender in contenders))


def unbeaten(points: Iterable[Point]) -> list[Point]:
    """Those that no other both equals in recall and beats in p50, by rising recall."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (-point.recall, point.p50_us)):
        if not kept or point.p50_us < kept[-1].p50_us:
            kept.append(point)
    return kept[::-1]
