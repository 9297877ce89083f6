"""How good a score is: the figures `train` prints, exact and with ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]


def auc(label: Numbers, score: Numbers) -> float:
    """The chance that a positive row scores above a negative one, a tie counting half; NaN if either is missing.

    label [rows]  positive where > 0
    score [rows]  any order-preserving scale, no NaN
    """
    positive = np.asarray(label) > 0
    ones = int(positive.sum())
    zeros = len(positive) - ones
    if not ones or not zeros:
        return float("nan")
    # The rank of a value among ties is the mean of the ranks they take together: exact in float64 below 2^52.
    _, value, count = np.unique(np.asarray(score), return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[value][positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def log_loss(label: Numbers, probability: Numbers) -> float:
    """Mean of -log of the probability given to what happened, in nats; probabilities are kept off 0 and 1 by 1e-15."""
    likely = np.clip(np.asarray(probability, np.float64), 1e-15, 1 - 1e-15)
    return float(-np.where(np.asarray(label) > 0, np.log(likely), np.log1p(-likely)).mean())


def rmse(label: Numbers, score: Numbers) -> float:
    """Root of the mean squared difference."""
    return float(np.sqrt(np.mean(np.square(np.asarray(label, np.float64) - np.asarray(score, np.float64)))))


def ndcg(label: Numbers, score: Numbers, group_sizes: Numbers, *, size: int = 20) -> float:
    """Mean over groups of the discounted gain of the first `size` by score, over the best possible one.

    label       [rows]   >= 0, gain 2^label - 1
    group_sizes [groups] rows of each group, which stand together

    Equal scores keep the order of the rows. A group without a positive says nothing and is left out, where LightGBM's
    own NDCG counts it as 1; NaN if all are.
    """
    sizes = np.asarray(group_sizes, np.int64)
    group = np.repeat(np.arange(len(sizes)), sizes)
    gain = np.exp2(np.asarray(label, np.float64)) - 1.0
    reached = _discounted(gain, np.lexsort((-np.asarray(score, np.float64), group)), group, sizes, size)
    best = _discounted(gain, np.lexsort((-gain, group)), group, sizes, size)
    judged = best > 0.0
    return float(np.mean(reached[judged] / best[judged])) if judged.any() else float("nan")


def _discounted(gain: Numbers, order: Numbers, group: Numbers, sizes: Numbers, size: int) -> Numbers:
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    worth = np.where(place < size, gain[order] / np.log2(place + 2.0), 0.0)
    total: Numbers = np.bincount(group, weights=worth, minlength=len(sizes))
    return total
