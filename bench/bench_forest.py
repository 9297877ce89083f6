"""A request's worth of candidates through a forest: 500 rows of 60 features, 300 trees of 31 leaves, seeded data."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest

ROWS, FEATURES, TREES, LEAVES = 500, 60, 300, 31


def table(rows: int, seed: int) -> np.ndarray:
    """Half the columns dense; of the others some have NaN, some zeros, the first two categories."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, FEATURES))
    X[:, 10:20][rng.random((rows, 10)) < 0.3] = np.nan
    X[:, 20:30] *= rng.random((rows, 10)) < 0.3
    X[:, :2] = rng.integers(0, 50, (rows, 2))
    return X


@pytest.fixture(scope="session")
def booster() -> lgb.Booster:
    X = table(20_000, 0)
    rng = np.random.default_rng(1)
    y = np.nan_to_num(X[:, 2:]) @ rng.normal(size=FEATURES - 2) + 3 * (X[:, 0] % 3 == 1) + rng.normal(size=len(X))
    params = {"objective": "binary", "num_leaves": LEAVES, "num_threads": 1, "verbose": -1}
    return lgb.train(params, lgb.Dataset(X, y > np.median(y), categorical_feature=[0, 1]), TREES)


@pytest.fixture(scope="session")
def forest(booster) -> Forest:
    return Forest.parse(booster.model_to_string())


def bench_forest_predict(timed, forest):
    timed(forest.predict, table(ROWS, 2), rounds=200)


def bench_forest_score_arena(timed, forest):
    arena = Arena(ROWS, width=FEATURES)
    arena.features[:] = table(ROWS, 2)
    arena.count = ROWS
    timed(forest.score, arena, rounds=200)


def bench_lightgbm_predict(timed, booster):
    X = table(ROWS, 2)
    timed(lambda: booster.predict(X, raw_score=True, num_threads=1), rounds=200)


def bench_forest_parse(timed, booster):
    timed(Forest.parse, booster.model_to_string(), rounds=50)
