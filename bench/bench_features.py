"""Features of user and item together, over a table of 100,000 items."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.features import Cross, Crosses
from pairec_fast.core.recall import Neighbours, add

ITEMS, USERS = 100_000, 1000


def arena_of(count):
    arena = Arena(4000, items_max=ITEMS)
    rows = np.random.default_rng(1).choice(ITEMS, count, replace=False).astype(np.int32)
    add(arena, rows, np.zeros(count, np.float32), 0)
    return arena


def cross(kind):
    rng = np.random.default_rng(2)
    made = {
        "dot": lambda: Cross.dot(rng.random((USERS, 64), np.float32), rng.random((ITEMS, 64), np.float32)),
        "cell": lambda: Cross.cell(
            rng.random((USERS, 20), np.float32), None, rng.integers(-1, 20, ITEMS, dtype=np.int32)
        ),
        "similarity": lambda: Cross.similarity(
            Neighbours(
                np.arange(0, 50 * ITEMS + 1, 50, dtype=np.int64),
                rng.integers(0, ITEMS, 50 * ITEMS, dtype=np.int32),
                rng.random(50 * ITEMS, np.float32),
            )
        ),
    }
    return made[kind]()


@pytest.mark.parametrize("count", [200, 4000])
@pytest.mark.parametrize("kind", ["dot", "cell", "similarity"])
def bench_cross(timed, count, kind):
    history = np.random.default_rng(3).integers(0, ITEMS, 50, dtype=np.int32)
    timed(Crosses([(0, cross(kind))]).fill, arena_of(count), 7, history)


def bench_pairs(timed):
    """A dot of 64 dimensions for 10,000 training rows."""
    rng = np.random.default_rng(4)
    users, items = rng.integers(0, USERS, 10_000, dtype=np.int32), rng.integers(0, ITEMS, 10_000, dtype=np.int32)
    timed(cross("dot").pairs, users, items, rounds=500)
