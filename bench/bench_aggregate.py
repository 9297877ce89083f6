"""What was known strictly before a time: 100,000 events, 100,000 questions."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import aggregate


@pytest.fixture(scope="module")
def events():
    rng = np.random.default_rng(0)
    count = 100_000
    return rng.integers(0, 20_000, count), rng.uniform(0, 30 * 86400.0, count), rng.integers(0, 2, count).astype(float)


@pytest.mark.parametrize(
    "options", [{}, {"window": 3 * 86400.0}, {"half_life": 3 * 86400.0}], ids=["all", "window", "half_life"]
)
def bench_aggregate(timed, events, options):
    keys, times, values = events
    timed(lambda: aggregate(keys, times, values, keys, times, **options), rounds=20)
