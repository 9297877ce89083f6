"""Pass, regress or inconclusive, and why: a budget, a stored run, or a base whose turns alternated with ours."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pairec_fast.latency.quantile import (
    CONFIDENCE,
    Interval,
    centre,
    interval,
    quantile,
    samples_needed,
    spread,
    values_needed,
)
from pairec_fast.latency.terms import Limit, show_ns

PASS, REGRESS, INCONCLUSIVE = "pass", "regress", "inconclusive"
BLOCK = 300  # calls whose quantile is one value: three above p99, and short against what else a machine does
PARTS = 8  # a stored run is cut into as many, to see how much it moved while it ran

Samples = Sequence[int]
Pair = tuple[Samples, Samples]


@dataclass(frozen=True)
class Verdict:
    """What one limit came to. `value` is a time in nanoseconds for a budget, a ratio for a comparison."""

    limit: Limit
    verdict: str
    value: Interval
    reason: str

    def __str__(self) -> str:
        return f"{self.limit.name}: {self.verdict}: {self.reason}"


def judge_budget(samples: Samples, limit: Limit) -> Verdict:
    """Over budget only when the lower bound is; within it only when the upper bound is."""
    assert limit.budget_ns is not None
    found = interval(sorted(samples), limit.q)
    said = f"{show_ns(found.value)} [{show_ns(found.low)}, {show_ns(found.high)}], allowed {show_ns(limit.budget_ns)}"
    if found.low > limit.budget_ns:
        return Verdict(limit, REGRESS, found, said)
    if found.high <= limit.budget_ns:
        return Verdict(limit, PASS, found, said)
    if math.isinf(found.high):
        return Verdict(limit, INCONCLUSIVE, found, f"{said}; {too_few(len(samples), limit)}")
    return Verdict(
        limit, INCONCLUSIVE, found, f"{said}; the budget lies between the bounds: more calls, or a quieter machine"
    )


def judge_stored(base: Samples, head: Samples, limit: Limit) -> Verdict:
    """Against numbers of another day, so that a machine in another mood looks like other code.

    Bounds are of each run on its own, widened by how much the worse of the two moved while it ran.
    """
    assert limit.ratio is not None
    ours, theirs = interval(sorted(head), limit.q), interval(sorted(base), limit.q)
    moved = math.exp(2 * max(_moved(base, limit.q), _moved(head, limit.q)))
    found = Interval(
        ours.value / max(theirs.value, 1),
        ours.low / max(theirs.high, 1) / moved,
        ours.high / max(theirs.low, 1) * moved if theirs.low else math.inf,
    )
    said = f"{_ratio(found)}, allowed {limit.ratio:.3g}; stored numbers, not interleaved"
    if math.isinf(ours.high) or math.isinf(theirs.high):
        return Verdict(limit, INCONCLUSIVE, found, f"{said}; {too_few(min(len(base), len(head)), limit)}")
    doubt = "their bounds are wide; compare with a git revision to run both in turns"
    return _by_interval(limit, found, limit.ratio, said, doubt)


def judge_interleaved(pairs: Sequence[Pair], limit: Limit, confidence: float = CONFIDENCE) -> Verdict:
    """Of pairs of processes that took turns: one logarithm of a ratio each, and the middle of these.

    Reads `pairs`: samples of base and head in the order taken, so that their n-th parts lay side by side in time. A
    pair's value is the median over its parts, so that a burst of somebody else's work costs one part; a process is
    the unit, because where its memory lies makes it faster or slower than its sister of the same build.

    Pass: certainly no more than allowed. Regress: more than allowed by the best estimate, and certainly more than half
    of it. To ask for certainty of all of it would leave 15 % over an allowance of 10 % undecided on most machines.
    """
    assert limit.ratio is not None
    least = math.ceil(1 / (1 - limit.q))
    calls = min((len(samples) for pair in pairs for samples in pair), default=0)
    nothing = Interval(math.nan, 0.0, math.inf)
    if calls < least:
        return Verdict(limit, INCONCLUSIVE, nothing, f"{calls} calls a process: {limit.name} is of {least} at least")
    values = [_pair_value(pair, limit.q) for pair in pairs]
    logs = centre(values, confidence)
    found = Interval(*(math.exp(value) if value < 700 else math.inf for value in logs))
    if len(values) < values_needed(confidence):
        needed = values_needed(confidence)
        return Verdict(limit, INCONCLUSIVE, found, f"{len(values)} pairs of processes; {needed} are needed for bounds")
    said = f"{_ratio(found)}, allowed {limit.ratio:.3g}; {len(pairs)} pairs of processes"
    noise = base_against_itself(pairs, limit.q)
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    doubt = f"too noisy: the base against itself moves by ±{noise:.1%}, {load}"
    return _by_interval(limit, found, 1 + (limit.ratio - 1) / 2, said, doubt)


def base_against_itself(pairs: Sequence[Pair], q: float) -> float:
    """How far one process of the base is from the next, as a share: what no change at all looks like here."""
    logs = [math.log(max(1, quantile(sorted(base), q))) for base, _ in pairs]
    return spread([after - before for before, after in itertools.pairwise(logs)])


def too_few(n: int, limit: Limit) -> str:
    return f"n={n} has no upper bound for {limit.name}, {samples_needed(limit.q)} are needed"


def _by_interval(limit: Limit, found: Interval, certain: float, said: str, doubt: str) -> Verdict:
    """A regression is more than allowed by the best estimate, and more than `certain` by all the interval."""
    assert limit.ratio is not None
    if found.value > limit.ratio and found.low > certain:
        return Verdict(limit, REGRESS, found, said)
    if found.high <= limit.ratio:
        return Verdict(limit, PASS, found, said)
    return Verdict(limit, INCONCLUSIVE, found, f"{said}; {doubt}")


def _ratio(found: Interval) -> str:
    high = "∞" if math.isinf(found.high) else f"{found.high:.3f}"
    return f"{found.value:.3f} × its base [{found.low:.3f}, {high}]"


def _pair_value(pair: Pair, q: float) -> float:
    size = max(BLOCK, math.ceil(3 / (1 - q)))
    count = max(1, min(len(samples) for samples in pair) // size)
    base, head = ([math.log(max(1, quantile(sorted(part), q))) for part in parts(of, count)] for of in pair)
    return statistics.median(ours - theirs for theirs, ours in zip(base, head, strict=True))


def _moved(samples: Samples, q: float) -> float:
    """How much a quantile moves from one part of a run to the next; 0 of a run too short to be cut."""
    least = math.ceil(1 / (1 - q))
    count = min(PARTS, len(samples) // least)
    if count < 2:
        return 0.0
    return spread([math.log(max(1, quantile(sorted(part), q))) for part in parts(samples, count)])


def parts(samples: Samples, count: int) -> list[Samples]:
    """Cut into `count` stretches of nearly one length."""
    return [samples[len(samples) * at // count : len(samples) * (at + 1) // count] for at in range(count)]
