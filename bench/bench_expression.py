"""RankScore, conditions and expressions over one request's candidates."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.expression import ROW, Condition, RankScore, compile, expr, govaluate, mask

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


WRITTEN = {
    "numbers": "item.price <= user.budget and item.stock > 0",
    "texts": "item.category in ['category 3', 'category 7'] or item.brand == user.brand",
    "condition": "item.price * 0.9 <= user.budget and (item.category in user.likes or item.stock > 100) "
    "? item.age < 30 : false",
    "distance": "haversine(user.lng, user.lat, item.lng, item.lat) < 10",
    "list": "any(item.tags, # in user.tags)",
}


@pytest.fixture
def candidates():
    rng = np.random.default_rng(3)
    tags = [[f"tag {tag}" for tag in rng.integers(0, 30, 4)] for _ in range(200)]
    return {
        "price": rng.random(CANDIDATES) * 100,
        "stock": rng.integers(0, 200, CANDIDATES),
        "age": rng.integers(0, 60, CANDIDATES).astype(np.int32),
        "lat": 31 + rng.random(CANDIDATES),
        "lng": 121 + rng.random(CANDIDATES),
        "category": (rng.integers(-1, 50, CANDIDATES).astype(np.int32), [f"category {k}" for k in range(50)]),
        "brand": (rng.integers(-1, 5000, CANDIDATES).astype(np.int32), [f"brand {k}" for k in range(5000)]),
        "tags": (rng.integers(-1, 200, CANDIDATES).astype(np.int32), tags),
    }


@pytest.mark.parametrize("name", WRITTEN)
def bench_expr(timed, candidates, name):
    user = {"budget": 60, "brand": "brand 7", "likes": ["category 3", "category 9"], "tags": ["tag 1", "tag 7"],
            "lat": 31.5, "lng": 121.5}  # fmt: skip
    timed(expr(WRITTEN[name]).holds, candidates, CANDIDATES, {"item": ROW, "user": user}, rounds=500)


def bench_govaluate(timed, candidates):
    timed(
        govaluate("stock > 100 ? price * 0.9 : price + hash32(category) % 10").column,
        candidates,
        CANDIDATES,
        rounds=500,
    )


def bench_antlr(timed, candidates):
    formula = compile("(${price} + 2 * ${stock}) * ${age} ^ 0.1 + log(1 + ${price})", "antlr")
    timed(formula.evaluate, candidates, np.empty(CANDIDATES), rounds=500)
