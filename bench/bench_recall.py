"""Candidates into the arena, over a table of a million items."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.recall import Neighbours, add

ITEMS = 1_000_000


@pytest.fixture(scope="module")
def neighbours_of_a_million():
    """A hundred neighbours an item, as item-to-item tables have."""
    rng = np.random.default_rng(1)
    offset = np.arange(0, 100 * ITEMS + 1, 100, dtype=np.int64)
    neighbour = rng.integers(0, ITEMS, 100 * ITEMS, dtype=np.int32)
    return Neighbours(offset, neighbour, rng.random(100 * ITEMS, dtype=np.float32))


@pytest.mark.parametrize("count", [20, 500, 4000])
def bench_add(timed, count):
    arena = Arena(4000, items_max=ITEMS)
    rng = np.random.default_rng(2)
    rows, scores = rng.integers(0, ITEMS, count, dtype=np.int32), rng.random(count, dtype=np.float32)

    def call():
        arena.reset()
        add(arena, rows, scores, 0)

    timed(call)


@pytest.mark.parametrize("history_count", [1, 50, 500])
def bench_add_similar(timed, neighbours_of_a_million, history_count):
    """The 500 most similar; another history every round, so the table is cold."""
    arena = Arena(4000, items_max=ITEMS)
    histories = iter(np.random.default_rng(3).integers(0, ITEMS, (1200, history_count), dtype=np.int32))

    def call():
        arena.reset()
        neighbours_of_a_million.add_similar(arena, next(histories), 500, 0)

    timed(call, rounds=1000)
