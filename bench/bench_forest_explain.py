"""A debugged request's worth of explanations: 1, 20 and 500 rows through the forest of bench_forest, beside LightGBM.

`python -m bench.bench_forest_explain` times both in turns, in one process, in CPU time, and how far each is from the
raw score.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.bench_forest import KINDS, table, trained
from pairec_fast.core.forest import Forest

ROWS = [1, 20, 500]


@pytest.fixture(scope="session")
def booster():
    return trained(KINDS["categories"])


@pytest.mark.parametrize("rows", ROWS)
def bench_forest_explain(timed, booster, rows):
    timed(Forest.parse(booster.model_to_string()).explain, table(rows, 2), rounds=2_000 // rows)


@pytest.mark.parametrize("rows", ROWS[:2])
def bench_lightgbm_contributions(timed, booster, rows):
    X = table(rows, 2)
    timed(lambda: booster.predict(X, pred_contrib=True, num_threads=1), rounds=100 // rows)


def main(rounds: int = 5) -> None:
    for kind, categorical in KINDS.items():
        booster = trained(categorical)
        forest = Forest.parse(booster.model_to_string())
        for rows in ROWS:
            X = table(rows, 2)
            calls = {
                "LightGBM": lambda b=booster, X=X: b.predict(X, pred_contrib=True, num_threads=1),
                "explain": lambda f=forest, X=X: f.explain(X),
            }
            times = {name: [] for name in calls}
            for _ in range(rounds):
                for name, call in calls.items():
                    begin = time.process_time_ns()
                    call()
                    times[name].append(time.process_time_ns() - begin)
            apart = np.abs(calls["explain"]() - calls["LightGBM"]()).max()
            off = {name: np.abs(call().sum(1) - forest.predict(X)).max() for name, call in calls.items()}
            for name, taken in times.items():
                p50 = np.median(taken)
                times_as_fast = np.median(times["LightGBM"]) / p50
                print(
                    f"{kind:11}{rows:4} rows {name:9}{p50 / 1e6:9.2f} ms{times_as_fast:6.1f} x"
                    f"   off the raw score by {off[name]:.0e}"
                )
            print(f"{kind:11}{rows:4} rows differ by at most {apart:.0e}")


if __name__ == "__main__":
    main()
