"""In what order candidates are shown: of 200 and of 4,000."""

from __future__ import annotations

import numpy as np
import pytest

from bench.numpy_peers import dpp_numpy, ssd_numpy
from pairec_fast.core.arena import Arena
from pairec_fast.core.dpp import Dpp
from pairec_fast.core.recall import add
from pairec_fast.core.rerank import DiversityRules, top_k
from pairec_fast.core.ssd import Ssd


def arena_of(count):
    arena = Arena(4000, items_max=4000)
    rng = np.random.default_rng(1)
    add(arena, rng.permutation(4000).astype(np.int32)[:count], np.zeros(count, np.float32), 0)
    arena.score[:count] = rng.normal(size=count)
    return arena


@pytest.mark.parametrize("count", [200, 4000])
@pytest.mark.parametrize("size", [20, 200, 4000])
def bench_top_k(timed, count, size):
    timed(top_k, arena_of(count), size)


@pytest.mark.parametrize("count", [200, 4000])
@pytest.mark.parametrize("values", [3, 100], ids=["few values", "many values"])
@pytest.mark.parametrize("explore", [0, 100])
def bench_diversify(timed, count, values, explore):
    """Twenty places, two rules; with few values nobody passes, so every place looks at every candidate it may."""
    rng = np.random.default_rng(2)
    category, brand = (rng.integers(0, values, 4000, dtype=np.int32) for _ in range(2))
    rules = DiversityRules([(1, 0, 0, 1.0), (0, 10, 2, 2.0)], explore=explore)
    given = [(category[:count], []), (brand[:count], [])]
    arena = arena_of(count)
    top_k(arena, count)
    order = arena.order.copy()

    def call():
        arena.order[:] = order  # 0.3 us: else each round would find the last one's result
        rules.apply(arena, 20, given)

    timed(call, rounds=500)


@pytest.fixture(scope="module")
def likeness():
    """500 candidates out of 100,000 vectors of 64 dimensions, best first; the twenty best of them are wanted."""
    rng = np.random.default_rng(3)
    table = rng.normal(size=(100_000, 64)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table, rng.permutation(100_000)[:500].astype(np.int32), np.sort(rng.random(500))[::-1].copy()


@pytest.mark.parametrize("window", [10, 20])
@pytest.mark.parametrize("who", ["pairec_fast", "numpy"])
def bench_dpp(timed, likeness, who, window):
    """A window of PAI-Rec's default, and one of the whole page."""
    sort = Dpp()
    ours, peer = (
        lambda: sort.choose(*likeness, alpha=2.0, size=20, window=window),
        lambda: dpp_numpy(*likeness, alpha=2.0, size=20, window=window),
    )
    assert ours().tolist() == peer()
    timed(ours if who == "pairec_fast" else peer, rounds=1000)


@pytest.mark.parametrize("who", ["pairec_fast", "numpy"])
def bench_ssd(timed, likeness, who):
    sort = Ssd()
    ours, peer = (
        lambda: sort.choose(*likeness, gamma=0.25, size=20, window=5),
        lambda: ssd_numpy(*likeness, gamma=0.25, size=20, window=5),
    )
    assert ours().tolist() == peer()
    timed(ours if who == "pairec_fast" else peer, rounds=1000)
