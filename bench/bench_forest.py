"""A request's worth of candidates through a forest: 500 rows of 60 features, 300 trees of 31 leaves, seeded data.

`python -m bench.bench_forest` times it and LightGBM in turns, in one process, in CPU time; PAIREC_ISA sets the level.
"""

from __future__ import annotations

import time

import lightgbm as lgb
import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
from pairec_fast.core.simd import isa

ROWS, FEATURES, TREES, LEAVES = 500, 60, 300, 31


def table(rows: int, seed: int) -> np.ndarray:
    """Half the columns dense; of the others some have NaN, some zeros, the first two categories."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, FEATURES))
    X[:, 10:20][rng.random((rows, 10)) < 0.3] = np.nan
    X[:, 20:30] *= rng.random((rows, 10)) < 0.3
    X[:, :2] = rng.integers(0, 50, (rows, 2))
    return X


def trained(categorical: list[int]) -> lgb.Booster:
    X = table(20_000, 0)
    rng = np.random.default_rng(1)
    y = np.nan_to_num(X[:, 2:]) @ rng.normal(size=FEATURES - 2) + 3 * (X[:, 0] % 3 == 1) + rng.normal(size=len(X))
    params = {"objective": "binary", "num_leaves": LEAVES, "num_threads": 1, "verbose": -1}
    return lgb.train(params, lgb.Dataset(X, y > np.median(y), categorical_feature=categorical), TREES)


KINDS = {"numbers": [], "categories": [0, 1]}  # by category, three splits of ten


@pytest.fixture(scope="session", params=KINDS)
def booster(request) -> lgb.Booster:
    return trained(KINDS[request.param])


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


def main(rounds: int = 15) -> None:
    for kind, categorical in KINDS.items():
        booster = trained(categorical)
        forest = Forest.parse(booster.model_to_string())
        X = table(ROWS, 2)
        arena = Arena(ROWS, width=FEATURES)
        arena.features[:] = X
        arena.count = ROWS
        calls = {
            "LightGBM": (lambda b=booster, X=X: b.predict(X, raw_score=True, num_threads=1), 2),
            "float64": (lambda f=forest, X=X: f.predict(X), 40),
            "arena": (lambda f=forest, arena=arena: f.score(arena), 40),
        }
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, (call, repeats) in calls.items():
                begin = time.process_time_ns()
                for _ in range(repeats):
                    call()
                times[name].append((time.process_time_ns() - begin) / repeats)
        of_lightgbm = np.median(times["LightGBM"])
        for name, taken in times.items():
            p50 = np.median(taken)
            each, times_as_fast = p50 / ROWS / TREES, of_lightgbm / p50
            print(f"{isa():11}{kind:11}{name:9}{p50 / 1e3:9.1f} us{each:7.2f} ns a tree and row{times_as_fast:6.0f} x")


if __name__ == "__main__":
    main()
