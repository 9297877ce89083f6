"""The slow twins of the sorts: PAI-Rec's sentences one after the other, in double, with every matrix formed."""

from __future__ import annotations

import numpy as np


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gap(values):
    """How far the largest is ahead of the next: a choice closer than rounding is none."""
    values = np.sort(values[np.isfinite(values)])
    return values[-1] - values[-2] if len(values) > 1 else np.inf


def dpp(vectors, relevance, alpha, size, window, normalise=True, positive=True):
    """Places chosen, and by how much the closest choice was decided relative to the largest worth."""
    e = np.asarray(vectors, float)
    e = unit(e) if normalise else e
    f = np.hstack([e, np.ones((len(e), 1))]) / np.sqrt(2) if positive else e
    worth = np.diag(np.exp(alpha * np.asarray(relevance)))
    L = worth @ (f @ f.T) @ worth
    size = min(size, len(L))
    chosen, closest = [], np.inf
    while len(chosen) < size:
        here = []
        wanted = min(window, size - len(chosen))
        left, c = np.diag(L).copy(), np.zeros((0, len(L)))
        left[chosen] = np.nan
        while len(here) < wanted:
            j = int(np.nanargmax(left))
            closest = min(closest, gap(left) / max(left[j], 1e-300))
            here.append(j)
            if len(here) == wanted:
                break
            if left[j] < 1e-10:
                rest = [i for i in range(len(L)) if i not in chosen and i not in here]
                here += rest[: wanted - len(here)]
                break
            row = (L[j] - c[:, j] @ c) / np.sqrt(left[j])
            c = np.vstack([c, row])
            left = left - row**2
            left[j] = np.nan
        chosen += here
    return chosen, closest


def ssd(vectors, quality, gamma, size, window, normalise=True, positive=True, star=False):
    """As `dpp`: vectors are projected one by one, and given back what leaves the window."""
    v = np.array(vectors, float)
    v = unit(v) if normalise else v
    v = np.hstack([v, np.ones((len(v), 1))]) if positive else v
    r = np.asarray(quality, float)
    size, closest = min(size, len(v)), gap(r)
    chosen, kept = [int(np.argmax(r))], []
    volume = gamma * (1 if star else np.linalg.norm(v[chosen[0]]))
    while len(chosen) < size:
        free = [i for i in range(len(v)) if i not in chosen]
        if len(chosen) > window:
            old, projection = kept.pop(0)
            v[free] += projection[free, None] * v[old]
        b = v[chosen[-1]]
        with np.errstate(all="ignore"):
            projection = v @ b / (b @ b)
        projection[~np.isfinite(projection)] = 1.0
        v[free] -= projection[free, None] * b
        kept.append((chosen[-1], projection))
        worth = np.full(len(v), -np.inf)
        worth[free] = r[free] + volume * np.linalg.norm(v[free], axis=1)
        chosen.append(int(np.argmax(worth)))
        closest = min(closest, gap(worth))
        volume *= 1 if star else np.linalg.norm(v[chosen[-1]])
    return chosen, closest
