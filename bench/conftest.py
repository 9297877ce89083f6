"""What every benchmark shares: one call per round, so that a percentile is a percentile of calls."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def timed(benchmark):
    """Time single calls; record p50 and p99 in microseconds."""

    def run(function, *args, rounds=2_000):
        benchmark.pedantic(function, args=args, rounds=rounds, iterations=1, warmup_rounds=100)
        us = np.array(benchmark.stats.stats.data) * 1e6
        p50, p99 = np.percentile(us, [50, 99]).round(2).tolist()
        benchmark.extra_info.update(latency_us_p50=p50, latency_us_p99=p99)

    return run
