"""Arenas as sorts find them: rows in an order, from sources."""

from __future__ import annotations

import numpy as np

from pairec_fast.core.arena import Arena
from pairec_fast.core.recall import add
from pairec_fast.core.rerank import top_k


def values(*numbers):
    return np.array(numbers, np.int32)


def order(arena):
    return arena.order[: arena.order_count].tolist()


def filled(score, row=None):
    arena = Arena(max(1, len(score)), items_max=max(1, len(score)))
    arena.count = len(score)
    arena.row[: len(score)] = range(len(score)) if row is None else row
    arena.score[: len(score)] = score
    return arena


def ordered(count, sources=None, slots=None):
    """Rows 0 to `count` in the order of `slots` (as they lie, by default), each from its source."""
    arena = Arena(max(1, count), items_max=max(1, count))
    slots = list(range(count)) if slots is None else slots
    for row in range(count):
        add(arena, values(row), np.zeros(1, np.float32), sources[row] if sources else 0)
    for place, slot in enumerate(slots):
        arena.score[slot] = -place
    top_k(arena, max(1, count))
    assert order(arena) == slots
    return arena
