"""RankScore over one request's candidates, and conditions over an item table."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.expression import Condition, RankScore, mask

CANDIDATES, ITEMS = 500, 100_000
TEXTS = {
    "sum": "${ctr}*0.3+${cvr}*0.7",
    "weighted": "${ctr}*(1+${w})#${current_score}",
    "power": "(${ctr}+2*${cvr})*${price}^0.1",
}


@pytest.fixture
def arena():
    rng = np.random.default_rng(0)
    arena = Arena(CANDIDATES, items_max=ITEMS, algos=2)
    arena.count = CANDIDATES
    arena.row[:] = rng.choice(ITEMS, CANDIDATES, replace=False)
    arena.recall_score[:] = rng.random(CANDIDATES)
    arena.algo_score[:] = rng.random((2, CANDIDATES))
    return arena


@pytest.mark.parametrize("name", TEXTS)
def bench_rank_score(timed, arena, name):
    price = np.random.default_rng(1).random(ITEMS, np.float32) * 100
    places = {
        "ctr": ("algo", 0),
        "cvr": ("algo", 1),
        "current_score": ("current_score",),
        "price": ("column", price),
        "w": ("constant", 0.5),
    }
    timed(RankScore.compile(TEXTS[name]).bind(places.get).evaluate, arena)


@pytest.mark.parametrize("count", [CANDIDATES, ITEMS])
def bench_mask(timed, count):
    rng = np.random.default_rng(2)
    columns = {
        "price": rng.random(count) * 100,
        "category": (rng.integers(-1, 50, count).astype(np.int32), [f"category {k}" for k in range(50)]),
    }
    conditions = [
        Condition(name="price", operator="lessThan", type="float", value="user.budget"),
        Condition(name="category", operator="in", type="string", value=["category 3", "category 7"]),
    ]
    timed(mask, conditions, columns, count, {"budget": 60}, rounds=500)
