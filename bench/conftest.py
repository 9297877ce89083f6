"""What every benchmark shares: one call per round, so that a percentile is a percentile of calls."""

from __future__ import annotations

import pytest


class Timed:
    """Times single calls by the `latency` fixture, which gates them, and shows them in pytest-benchmark's table."""

    def __init__(self, latency):
        self._latency = latency

    def __call__(self, function, *args, rounds=2_000):
        self._latency(function, *args, n=rounds)

    def prepared(self, function, setup, rounds=2_000):
        """As a call, with fresh arguments from `setup()`, which is not timed."""
        self._latency(function, setup=setup, n=rounds)


@pytest.fixture
def timed(latency, benchmark):
    return Timed(latency)


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
