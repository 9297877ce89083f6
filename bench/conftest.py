"""What every benchmark shares: one call per round, so that a percentile is a percentile of calls."""

from __future__ import annotations

import numpy as np
import pytest


class Timed:
    """Times single calls; records p50 and p99 in microseconds."""

    def __init__(self, benchmark):
        self._benchmark = benchmark

    def __call__(self, function, *args, rounds=2_000):
        self._benchmark.pedantic(function, args=args, rounds=rounds, iterations=1, warmup_rounds=min(100, rounds))
        self._record()

    def prepared(self, function, setup, rounds=2_000):
        """As a call, with fresh arguments from `setup()`, which is not timed."""
        self._benchmark.pedantic(function, setup=setup, rounds=rounds, iterations=1, warmup_rounds=min(100, rounds))
        self._record()

    def _record(self):
        us = np.array(self._benchmark.stats.stats.data) * 1e6
        p50, p99 = np.percentile(us, [50, 99]).round(2).tolist()
        self._benchmark.extra_info.update(latency_us_p50=p50, latency_us_p99=p99)


@pytest.fixture
def timed(benchmark):
    return Timed(benchmark)


def pytest_addoption(parser):
    parser.addoption("--config", help="engine.json to measure, instead of a small shop made for the purpose")


@pytest.fixture(scope="session")
def config(request, tmp_path_factory):
    """Path of an engine.json: `--config`, or that of a demo shop of 3,000 items and 800 users."""
    given = request.config.getoption("--config")
    if given:
        return given
    from pairec_fast.build import build
    from pairec_fast.learn.demo import Demo

    demo = Demo("world", tmp_path_factory.mktemp("shop"), 3_000, 800, 1, 0)
    demo.make(build, lambda line: None, lambda step, done, total: None)
    return demo.config
