"""Quantiles of samples and what can be said of them: bounds from order statistics, no shape of distribution assumed."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
TENTHS_OF_A_THOUSAND = 10_000


class Interval(NamedTuple):
    """A quantile of samples and its two-sided bounds; `high` is infinite where the sample is too small to have one."""

    value: float
    low: float
    high: float


def quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest sample that a share `q` of all does not exceed: one that was measured, never one in between."""
    return ordered[_rank(len(ordered), q) - 1]


def interval(ordered: Sequence[float], q: float, confidence: float = CONFIDENCE) -> Interval:
    """The quantile with the order statistics that hold it between them with at least this confidence.

    Reads `ordered` [count], ascending, at least one. Source: the number of samples below a quantile is binomial, so
    bounds are ranks, and hold for any distribution of samples that are independent of each other.
    """
    if not ordered:
        raise ValueError("a quantile of no samples was asked for; one at least would be right")
    low, high = _ranks(len(ordered), q, confidence)
    return Interval(
        quantile(ordered, q),
        ordered[low - 1] if low else 0.0,
        ordered[high - 1] if high <= len(ordered) else math.inf,
    )


def samples_needed(q: float, confidence: float = CONFIDENCE) -> int:
    """From how many samples on the quantile has an upper bound (and, for a quantile under a half, a lower one)."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(max(q, 1 - q)))


def centre(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The middle of symmetric noise around one value: Hodges and Lehmann's estimate with Wilcoxon's exact bounds.

    A wild value hardly moves the estimate, nor of 15 the bounds. These are infinite where so few values have none.
    Source: signed-rank statistics; the k-th smallest and largest of all means of two values are the bounds.
    """
    if not values:
        raise ValueError("the middle of no values was asked for; one at least would be right")
    means = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    out = _signed_rank(len(values), (1 - confidence) / 2)
    if out == 0:
        return Interval(statistics.median(means), -math.inf, math.inf)
    return Interval(statistics.median(means), means[out - 1], means[-out])


def values_needed(confidence: float = CONFIDENCE) -> int:
    """From how many values on their `centre` has bounds."""
    return math.ceil(math.log2(2 / (1 - confidence)))


def spread(values: Sequence[float]) -> float:
    """How far values lie from their median, as a standard deviation that wild ones do not move; 0 for one."""
    if len(values) < 2:
        return 0.0
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)  # of a normal distribution: its sigma


def _rank(count: int, q: float) -> int:
    # q is a multiple of 1/10,000 in what people write; binary fractions would make 0.99 * 100 more than 99.
    return max(1, min(count, math.ceil(round(q * count * TENTHS_OF_A_THOUSAND) / TENTHS_OF_A_THOUSAND)))


@functools.lru_cache(maxsize=1024)
def _ranks(count: int, q: float, confidence: float) -> tuple[int, int]:
    """Ranks, from 1, of the bounds; 0 or `count` + 1 where there is none."""
    tail = (1 - confidence) / 2
    low = _largest_below(count, q, tail)
    high = count + 1 - _largest_below(count, 1 - q, tail)
    return low, high


def _largest_below(count: int, share: float, tail: float) -> int:
    """The largest r with P(Binomial(count, share) < r) <= tail."""
    log, log_other = math.log(share), math.log1p(-share)
    total, at = 0.0, 0
    whole = math.lgamma(count + 1)
    while at <= count:
        ways = whole - math.lgamma(at + 1) - math.lgamma(count - at + 1)
        total += math.exp(ways + at * log + (count - at) * log_other)
        if total > tail:
            return at
        at += 1
    return count


@functools.lru_cache(maxsize=256)
def _signed_rank(count: int, tail: float) -> int:
    """How many means at each end are outside the bounds: the largest k with P(W < k) <= tail; 0 if there is none."""
    ways = [1]
    for rank in range(1, count + 1):
        longer = ways + [0] * rank
        for at, of in enumerate(ways):
            longer[at + rank] += of
        ways = longer
    allowed = tail * 2**count
    total = 0
    for at, of in enumerate(ways):
        total += of
        if total > allowed:
            return at
    return len(ways)
