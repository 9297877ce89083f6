"""Rows of values where a comparison, a cast or a lookup goes wrong first, for a given model."""

from __future__ import annotations

import re

import numpy as np

ROWS = 513  # one more than the rows that are scored at a time

ZERO = float(np.float32(1e-35))  # LightGBM takes what is no larger for zero
AROUND_ZERO = [ZERO, np.nextafter(ZERO, 0), np.nextafter(ZERO, 1), 1e-35, 1.1e-35, 9e-36]
AROUND_ZERO += [float(np.nextafter(np.float32(ZERO), np.float32(toward))) for toward in (0, 1)]
POSITIVE = [0.0, 5e-324, 2.2e-308, 1e-45, 1e-40, 1.17549435e-38, *AROUND_ZERO, 1.0, 3.4e38, 3.5e38, 1e300, 1.7e308]
NUMBERS = np.array([np.nan, np.inf, -np.inf, *POSITIVE, *np.negative(POSITIVE)])
CATEGORIES = [
    -1,
    -0.5,
    -0.999,
    0.5,
    0.999,
    -0.0,
    1e-40,
    31,
    31.9,
    32,
    63,
    64,
    255,
    256,
    65535,
    65536,
    1e6,
    -7,
    -(2**31),
]
CATEGORIES += [2**31 - 1, 2**31 - 0.5, 2**31, 2**32, 2**32 + 1, 2**63, 1e18, 1e300, np.nan, np.inf, -np.inf]


def thresholds(text: str) -> dict[int, np.ndarray]:
    """By feature, what its numeric splits compare with."""
    found: dict[int, set[float]] = {}
    fields = (re.findall(rf"^{name}=(.+)$", text, re.M) for name in ("split_feature", "threshold", "decision_type"))
    for features, limits, kinds in zip(*fields, strict=True):
        for feature, limit, kind in zip(features.split(), limits.split(), kinds.split(), strict=True):
            if not int(kind) & 1:
                found.setdefault(int(feature), set()).add(float(limit))
    return {feature: np.array(sorted(limits)) for feature, limits in found.items()}


def neighbours(rng: np.random.Generator, limits: np.ndarray) -> np.ndarray:
    """Each value or the double or float next to it on either side."""
    toward = rng.choice([-np.inf, np.inf], limits.shape)
    with np.errstate(over="ignore", under="ignore"):
        narrow = limits.astype(np.float32)
        near32 = np.nextafter(narrow, toward.astype(np.float32)).astype(np.float64)
        near64 = np.nextafter(limits, toward)
        return np.choose(rng.integers(0, 4, limits.shape), [limits, near64, narrow.astype(np.float64), near32])


def adversarial(rng: np.random.Generator, text: str, trained: np.ndarray, categorical: list[int]) -> np.ndarray:
    """[ROWS, width] float64: in a row here and there all is as in training, in others all is nasty.

    Source of the nasty: LightGBM's NumericalDecision and CategoricalDecision in include/LightGBM/tree.h.
    """
    width = trained.shape[1]
    X = trained[rng.integers(0, len(trained), ROWS)]
    X[ROWS // 2 :] = rng.permuted(X[ROWS // 2 :], axis=0)
    share = rng.choice([0.0, 0.2, 0.6, 1.0], ROWS, p=[0.1, 0.4, 0.3, 0.2])[:, None]
    wild = rng.random(X.shape) < share
    limits = thresholds(text)
    for i in range(width):
        values = rng.choice(NUMBERS, ROWS)
        if i in limits:
            values = np.where(rng.random(ROWS) < 0.7, neighbours(rng, rng.choice(limits[i], ROWS)), values)
        if i in categorical:
            known = rng.integers(0, int(np.nanmax(trained[:, i], initial=0)) + 40, ROWS)
            values = np.where(rng.random(ROWS) < 0.5, known, rng.choice(CATEGORIES, ROWS))
        X[:, i] = np.where(wild[:, i], values, X[:, i])
    X[:70, -1] = X[0, -1]  # a group of rows that share a value
    return X
