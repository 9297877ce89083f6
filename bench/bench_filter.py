"""Exposures and item states against 4,000 candidates of a million items."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.filter import drop_exposed, keep_allowed
from pairec_fast.core.recall import add

ITEMS = 1_000_000


@pytest.fixture
def refilled():
    """An arena of 4,000 candidates, and what makes it so again: every call drops some."""
    arena = Arena(4000, items_max=ITEMS)
    rows = np.random.default_rng(1).choice(ITEMS, 4000, replace=False).astype(np.int32)
    add(arena, rows, np.zeros(4000, np.float32), 0)

    def refill():
        arena.count = 4000
        arena.row[:] = rows
        return arena

    return refill


def bench_refill(timed, refilled):
    """What the others include and a request does not do."""
    timed(refilled)


@pytest.mark.parametrize("count", [20, 1000, 10_000])
def bench_drop_exposed(timed, refilled, count):
    exposed = np.random.default_rng(2).integers(0, ITEMS, count, dtype=np.int32)
    shown = min(count // 2, 4000)
    exposed[:shown] = refilled().row[:shown]
    timed(lambda: drop_exposed(refilled(), exposed))


@pytest.mark.parametrize("share", [0.5, 1.0])
def bench_keep_allowed(timed, refilled, share):
    allowed = (np.random.default_rng(3).random(ITEMS) < share).astype(np.uint8)
    timed(lambda: keep_allowed(refilled(), allowed))
