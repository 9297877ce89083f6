"""The work a search needs: the least that finds the recall asked for, on queries like those that will be asked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.index import VectorIndex, prepared
from pairec_fast.core.index_file import Header

Chunks = Callable[[], Iterable[tuple[slice, NDArray[np.float32]]]]
Rows = list[NDArray[np.int32]]

QUERIES_MAX = 200  # recall at k = 500 is then known to about 0.003
EFFORT_STEP = 1.02  # the bisection stops at 2 %
GAP_KEPT = 0.7  # of the gap to recall 1 when tuned on made-up queries
SURVIVOR = 12  # what a row that passes to 8 bits costs, from memory, in rows of a scan: measured, bench/recall
KEEPS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
LIST = 36  # the same of a list whose centres are looked at
BREADTHS = (1.0, 2.0, 3.0, 5.0, 8.0)
REACH, REACHES = 3.0, ((4.0, 6.0, 8.0), (2.0, 1.0))  # the first to try, and where to go from there
WIDER = 8  # times k, to see how the effort grows
LEAST = 4  # rows scanned for each that is asked for, however well they lie: other queries do worse, and it costs little
STOPS = (0.0, 8.0)
MEASURED = 5  # rounds


def tuned(path: str, header: Header, chunks: Chunks, queries: Any, seed: int) -> tuple[Header, float]:
    """The header of an untuned file with the work that reaches the recall; and what a search then takes, in us."""
    rng = np.random.default_rng(seed)
    wanted = header.recall
    if queries is None:
        queries = _made_up(chunks, header, rng)
        wanted = 1 - GAP_KEPT * (1 - wanted)
    elif len(queries) > QUERIES_MAX:
        queries = queries[np.sort(rng.choice(len(queries), QUERIES_MAX, replace=False))]
    index = VectorIndex.load(path, verify=False)
    if header.kind != "flat":
        wide = min(WIDER * header.k, header.count)
        exact = _exact(index, chunks, queries, wide)
        trial = _Trial(index, header, queries, exact, wanted)
        header = trial.partition(wide) if header.kind == "partition" else trial.graph()
    return header, _measured(index, header, queries)


class _Trial:
    def __init__(self, index: VectorIndex, header: Header, queries: Any, exact: Rows, wanted: float) -> None:
        self.index, self.header, self.queries, self.exact, self.wanted = index, header, queries, exact, wanted

    def graph(self) -> Header:
        effort, reached = self._least(self.header.k, self.header.count, {})
        return msgspec.structs.replace(self.header, effort=effort, recall_reached=reached)

    def partition(self, wide: int) -> Header:
        """Fewer survivors of the first pass need a longer scan, and so do fewer lists: the cheapest of all."""
        k, count = self.header.k, self.header.count
        lists = self.header.sections["size"].shape[0]
        trials = []
        for breadth in BREADTHS:
            row = 1.0 if breadth == 1 else 1 + breadth * LIST * lists / count
            before = math.inf
            for keep in KEEPS:
                knobs = {"keep": keep, "breadth": breadth, "reach": REACH}
                effort, reached = self._least(k, count, knobs, LEAST * k)
                cost = effort * row + SURVIVOR * keep * k if reached >= self.wanted else math.inf
                trials.append((cost, -reached, breadth, keep, effort))
                if cost > before:  # and so it goes on
                    break
                before = cost
        _, missed, breadth, keep, effort = min(trials)
        knobs, reached = {"keep": keep, "breadth": breadth, "reach": REACH}, -missed
        for direction in REACHES:
            for reach in direction:
                less, found = self._least(k, count, {**knobs, "reach": reach}, LEAST * k)
                if less >= effort or found < self.wanted:  # and so it goes on
                    break
                effort, reached, knobs["reach"] = less, found, reach
            if knobs["reach"] != REACH:
                break
        header = msgspec.structs.replace(self.header, **knobs, effort=effort, recall_reached=reached)
        if wide > k:
            wider, _ = self._least(wide, count, knobs, max(LEAST * wide, effort))
            growth = math.log(wider / effort) / math.log(wide / k)
            header = msgspec.structs.replace(header, growth=min(max(growth, 0.1), 1.0))
        return msgspec.structs.replace(header, stop=self._stop(header))

    def _stop(self, header: Header) -> float:
        knobs = _knobs(header)
        low, high = STOPS
        while high - low > 0.1:
            middle = (low + high) / 2
            found = self._found(header.k, header.effort, {**knobs, "stop": middle, "mode": "recall"})
            if _recall(found, self.exact, header.k) >= self.wanted:
                high = middle
            else:
                low = middle
        return round(high, 2)

    def _least(self, k: int, count: int, knobs: dict[str, Any], least: int = 1) -> tuple[int, float]:
        """The smallest effort from `least` on that reaches the recall, or `count`; and the recall there.

        Less than finds `k` rows is no effort to try: such a search begins again with a wide one, and finds more than
        one of a few times `k` does (test_index.py, "finds what its file says").
        """

        def measured(effort: int) -> float:
            return _recall(self._found(k, effort, knobs), self.exact, k)

        high = min(max(least, 16, k // 16), count)
        low = high - 1 if least > 1 else 0
        reached = measured(high)
        while reached < self.wanted and high < count:
            low, high = high, min(2 * high, count)
            reached = measured(high)
        while high - low > 1 and high > low * EFFORT_STEP:
            middle = math.isqrt(low * high) if low else high // 2
            middle = min(max(middle, low + 1), high - 1)
            recall = measured(middle)
            if recall >= self.wanted:
                high, reached = middle, recall
            else:
                low = middle
        return high, reached

    def _found(self, k: int, effort: int, knobs: dict[str, Any]) -> Rows:
        return [self.index._search(query, k, effort, None, None, **knobs)[0] for query in self.queries]


def _knobs(header: Header) -> dict[str, Any]:
    return {"keep": header.keep, "breadth": header.breadth, "reach": header.reach}


def _recall(found: Rows, exact: Rows, k: int) -> float:
    shares = (np.isin(b[:k], a, assume_unique=True).mean() for a, b in zip(found, exact, strict=True))
    return float(np.mean(list(shares)))


def _exact(index: VectorIndex, chunks: Chunks, queries: Any, k: int) -> Rows:
    """The k best rows of each query among the vectors themselves."""
    asked = prepared(np.ascontiguousarray(queries), True, index.dim) if index.metric == "cosine" else queries
    rows: NDArray[Any] = np.zeros((len(asked), 0), np.int64)
    scores: NDArray[Any] = np.zeros((len(asked), 0), np.float32)
    for at, chunk in chunks():
        some = asked @ chunk.T
        if index.metric == "l2":
            some -= np.einsum("rd,rd->r", chunk, chunk) / 2
        scores = np.concatenate([scores, some], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(np.arange(at.start, at.stop), some.shape)], axis=1)
        if scores.shape[1] > k:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, rows = (np.take_along_axis(part, best, axis=1) for part in (scores, rows))
    order = np.argsort(-scores, axis=1, kind="stable")
    return list(np.take_along_axis(rows, order, axis=1).astype(np.int32))


def _measured(index: VectorIndex, header: Header, queries: Any) -> float:
    """Median over queries of the best of some rounds, in us of CPU time."""
    best = np.full(len(queries), np.inf)
    for _ in range(MEASURED):
        for i, query in enumerate(queries):
            begin = time.thread_time_ns()
            index._search(query, header.k, header.effort, None, None, **_knobs(header))
            best[i] = min(best[i], time.thread_time_ns() - begin)
    return round(float(np.median(best)) / 1000, 1)


def _made_up(chunks: Chunks, header: Header, rng: np.random.Generator) -> NDArray[np.float32]:
    """Queries near the data, not of it: one, two or three vectors averaged, and noise of half the data's deviation."""
    wanted = np.sort(rng.choice(header.count, min(header.count, 10_000), replace=False))
    sample = np.concatenate(
        [chunk[wanted[(wanted >= at.start) & (wanted < at.stop)] - at.start] for at, chunk in chunks()]
    )
    noise = 0.5 * sample.std(axis=0, dtype=np.float64)
    queries = [
        sample[rng.integers(0, len(sample), 1 + number % 3)].mean(axis=0, dtype=np.float64)
        + noise * rng.standard_normal(header.dim)
        for number in range(QUERIES_MAX)
    ]
    return np.array(queries).astype(np.float32)
