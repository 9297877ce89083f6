"""Train random models and score them every way on rows of adversarial values: the bits must be LightGBM's.

    python -m tests.faults.models --times 2000 [--seed 7] [--levels]

Model i of a seed is always the same one: `--first 137 --times 1` repeats it alone. `--levels` scores each model in a
process of every level of SIMD that the machine has, by PAIREC_ISA. Another way to score is another line in PATHS.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from typing import NamedTuple

import lightgbm as lgb
import numpy as np

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
from pairec_fast.core.forest_request import RequestForest
from pairec_fast.core.simd import isa, isas
from tests.faults.rows import ROWS, adversarial

COUNTS = [2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70, 127, 128, 129, 511, 512]
LEAVES = [2, 3, 4, 8, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300]


def arena_scores(forest: Forest, X: np.ndarray) -> np.ndarray | None:
    """The second column on of an arena that is wider than the forest; its rows are float32."""
    if X.dtype != np.float32:
        return None
    arena = Arena(len(X) + 3, width=forest.width + len(X) % 2, algos=forest.classes + 1)
    arena.features[: len(X), : forest.width] = X
    arena.count = len(X)
    forest.score(arena, 1)
    scores = arena.algo_score[1:, : len(X)].T.copy()
    return scores if forest.classes > 1 else scores[:, 0]


def request_scores(forest: Forest, X: np.ndarray) -> np.ndarray | None:
    """Each row a request of one candidate, its features told apart at random; folded and not in turn."""
    if X.dtype != np.float32 or len(X) > 70:
        return None
    rng = np.random.default_rng(forest.width)
    sides = rng.choice(["shared", "item", "cross"], forest.width)
    request = RequestForest(forest, sides)
    lines = request.lines(np.ascontiguousarray(X[:, sides == "item"]))
    arena = Arena(1, items_max=len(X), width=forest.width, algos=forest.classes)
    arena.count = 1
    scores = np.empty((len(X), forest.classes))
    for row, values in enumerate(X):
        arena.row[0] = row
        arena.features[0] = values
        place = np.arange(forest.width, dtype=np.int32)
        request.score(arena, np.ascontiguousarray(values), lines, place, 0, row % 2 == 0)
        scores[row] = arena.algo_score[:, 0]
    return scores if forest.classes > 1 else scores[:, 0]


class Path(NamedTuple):
    """A way from rows to numbers, and which of `Booster.predict`'s answers it must give; None where it cannot run."""

    name: str
    answer: str  # a key of ANSWERS
    numbers: Callable[[Forest, np.ndarray], np.ndarray | None]


ANSWERS = {"raw": {"raw_score": True}, "transformed": {"raw_score": False}, "leaves": {"pred_leaf": True}}
PATHS = [
    Path("predict", "raw", lambda forest, X: forest.predict(X)),
    Path("predict(raw_score=False)", "transformed", lambda forest, X: forest.predict(X, raw_score=False)),
    Path("score(arena)", "raw", arena_scores),
    Path("request", "raw", request_scores),
]
if hasattr(Forest, "predict_leaf"):
    PATHS.append(Path("predict_leaf", "leaves", lambda forest, X: forest.predict_leaf(X)))


def sliced(X: np.ndarray) -> np.ndarray:
    """Every second row of some columns of a larger array, whose other cells must not be read."""
    wide = np.full((2 * len(X) + 1, X.shape[1] + 5), 1e30, X.dtype)
    wide[1::2, 3:-2] = X
    return wide[1::2, 3:-2]


LAYOUTS = {
    "rows": lambda X: X,
    "Fortran order": np.asfortranarray,
    "a slice": sliced,
    "backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": lambda X: np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape),
}


def column(rng: np.random.Generator, rows: int) -> np.ndarray:
    """A numeric feature: dense, integral, of few values, of huge or tiny ones, often zero, often missing, constant."""
    values = rng.normal(size=rows)
    match rng.integers(8):
        case 0:
            values = np.round(values * 10)
        case 1:
            values = rng.choice(values[:5], rows)
        case 2:
            values *= rng.choice([1e300, 1e-300, 1e-34, 1e38, 1e-40, 1e-320])
        case 3:
            values = values.astype(np.float32).astype(np.float64)
        case 4:
            values[rng.random(rows) < 0.8] = 0.0
        case 5:
            values[:] = rng.choice([0.0, 1.0, -3.5, np.nan])
    if rng.random() < 0.5:
        values[rng.random(rows) < rng.choice([0.01, 0.3, 0.9])] = rng.choice([np.nan, np.nan, 0.0, np.inf, -np.inf])
    return values


def labels(rng: np.random.Generator, X: np.ndarray, params: dict) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels that the objective takes and that depend on the features, on whether they are missing too; and groups."""
    z = X.argsort(axis=0).argsort(axis=0) / len(X) - 0.5  # of any size alike; what is missing is the largest
    z = np.where(rng.random(X.shape[1]) < 0.3, np.sin(40 * z), z)  # of categories, neighbours differ
    y = z @ rng.normal(size=X.shape[1]) + rng.normal(size=len(X)) * 0.1
    match params["objective"]:
        case "binary" | "cross_entropy":
            return (y > np.median(y)).astype(float), None
        case "poisson":
            return np.abs(np.round(y)) + (np.arange(len(y)) == 0), None
        case "lambdarank":
            groups = np.full(len(y) // 10, 10)
            groups[-1] += len(y) % 10
            return np.clip(np.round(y), 0, 4), groups
        case "multiclass" | "multiclassova":
            classes = params["num_class"] - int(rng.random() < 0.2)  # one less: its trees are single leaves
            return np.digitize(y, np.quantile(y, np.sort(rng.random(classes - 1)))).astype(float), None
    return y, None


def model(rng: np.random.Generator) -> tuple[dict, str, np.ndarray, list[int]]:
    """A random model: its parameters, text, training rows and categorical features."""
    rows, width = int(rng.choice([30, 200, 1000, 2000, 4000])), int(min(rng.integers(1, 41), rng.integers(1, 41)))
    X = np.column_stack([column(rng, rows) for _ in range(width)])
    categorical = [i for i in range(width) if rng.random() < 0.3] if rng.random() < 0.6 else []
    for i in categorical:
        X[:, i] = rng.integers(0, int(2 * 1000 ** rng.random()), rows) * rng.choice([1, 1, 3, 17]) + rng.integers(0, 50)
        X[rng.random(rows) < rng.choice([0, 0.1]), i] = rng.choice([np.nan, -1])
    params = {
        "objective": str(rng.choice(["regression", "binary", "multiclass", "multiclassova", "lambdarank", "poisson"])),
        "num_leaves": int(rng.choice(LEAVES)),
        "max_bin": int(15 * 68 ** rng.random()),
        "min_data_in_leaf": int(rng.choice([1, 1, 2, 5, 20, 10_000], p=[0.3, 0.3, 0.2, 0.1, 0.08, 0.02])),
        "min_data_in_bin": int(rng.choice([1, 3])),
        "zero_as_missing": bool(rng.random() < 0.3),
        "use_missing": bool(rng.random() < 0.8),
        "learning_rate": float(rng.choice([0.01, 0.1, 1.0])),
        "extra_trees": bool(rng.random() < 0.2),
        "min_sum_hessian_in_leaf": float(rng.choice([1e-6, 1e-3])),
        "boosting": str(rng.choice(["gbdt", "dart", "rf"], p=[0.6, 0.2, 0.2])),
        "min_data_per_group": int(rng.choice([1, 5, 100])),
        "max_cat_to_onehot": int(rng.choice([1, 4, 60])),
        "max_cat_threshold": int(rng.choice([4, 32, 500])),
        "cat_smooth": float(rng.choice([0, 1, 10])),
        "feature_pre_filter": False,
    }
    if params["objective"].startswith("multiclass"):
        params["num_class"] = int(rng.integers(3, 6))
    if params["objective"] in ("regression", "poisson") and rng.random() < 0.4:
        params |= {"objective": str(rng.choice(["cross_entropy", "regression_l1"]))}
    if params["objective"] in ("binary", "multiclassova"):
        params["sigmoid"] = float(rng.choice([1.0, 0.3, 7.7063e-05, 20.0]))
    if params["boosting"] == "rf" or rng.random() < 0.2:
        params |= {"bagging_fraction": 0.6, "bagging_freq": 1}
    params["reg_sqrt"] = params["objective"].startswith("regression") and bool(rng.random() < 0.3)
    y, group = labels(rng, X, params)
    quiet = {"verbose": -1, "num_threads": 1, "seed": int(rng.integers(1 << 30)), "deterministic": True}
    data = lgb.Dataset(X, y, group=group, categorical_feature=categorical)
    trees = int(rng.integers(1, 41)) // params.get("num_class", 1) + 1
    return params, lgb.train(params | quiet, data, trees).model_to_string(), X, categorical


def same(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where the bits agree, of numbers; NaN is NaN, its sign and payload aside."""
    if expected.dtype != np.float64:
        return found == expected
    alike = np.ascontiguousarray(found).view(np.uint64) == np.ascontiguousarray(expected).view(np.uint64)
    return alike | (np.isnan(found) & np.isnan(expected))


class Case(NamedTuple):
    text: str
    X: dict[str, np.ndarray]  # of each dtype, the same rows
    expected: dict[tuple[str, str], np.ndarray]  # of an answer and a dtype
    seed: int


def make_case(seed: int, number: int) -> tuple[Case, dict]:
    rng = np.random.default_rng([seed, number])
    while True:
        try:
            params, text, trained, categorical = model(rng)
            break
        except lgb.basic.LightGBMError:  # it may find no sample left of a split that it took; the next is another
            continue
    X = adversarial(rng, text, trained, categorical)
    with np.errstate(over="ignore"):
        arrays = {"float64": X, "float32": X.astype(np.float32)}
    booster = lgb.Booster(model_str=text)
    expected = {
        (answer, dtype): booster.predict(rows, num_threads=1, **ANSWERS[answer])
        for answer in {path.answer for path in PATHS}
        for dtype, rows in arrays.items()
    }
    return Case(text, arrays, expected, int(rng.integers(1 << 30))), params


def windows(rng: np.random.Generator) -> Iterator[slice]:
    """All rows, three single ones, and from the front what edges a lane, a word or a block."""
    yield slice(ROWS)
    for at in rng.integers(0, ROWS, 3).tolist():
        yield slice(at, at + 1)
    for count in [*rng.choice(COUNTS, 2).tolist(), int(rng.integers(2, 71))]:
        begin = int(rng.integers(0, ROWS - count + 1))
        yield slice(begin, begin + count)


def check(case: Case) -> tuple[int, list[str]]:
    """Score a case in every way: how many cells were compared, and what differs."""
    rng = np.random.default_rng(case.seed)
    forest, cells, wrong = Forest.parse(case.text), 0, []
    for dtype, X in case.X.items():
        for layout, lay in LAYOUTS.items():
            for rows in windows(rng):
                view = lay(X[rows])
                for path in PATHS:
                    found = path.numbers(forest, view)
                    if found is None:
                        continue
                    expected = case.expected[path.answer, dtype][rows]
                    if path.answer == "leaves":  # LightGBM drops the axis of a single tree
                        found, expected = found.reshape(len(view), -1), expected.reshape(len(view), -1)
                    what = f"{path.name}, {dtype}, {layout}, rows {rows.start or 0} to {rows.stop}"
                    if found.shape != expected.shape:
                        wrong.append(f"{what}: shape {found.shape}; {expected.shape} is right")
                        continue
                    bad = np.argwhere(~same(found, expected))
                    cells += found.size
                    if len(bad):
                        at = tuple(bad[0].tolist())
                        first = f"first {at}: {found[at]!r}; {expected[at]!r} is right"
                        wrong.append(f"{what}: {len(bad)} of {found.size} cells differ, {first}")
    return cells, wrong


def of_level(level: str, stack: ExitStack) -> Callable[[Case], Future]:
    """Checks in a process of its own, since a level of SIMD is chosen when the core is loaded."""
    pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
    before = os.environ.get("PAIREC_ISA")
    os.environ["PAIREC_ISA"] = level
    try:
        started = pool.submit(isa).result()
    finally:
        if before is None:
            del os.environ["PAIREC_ISA"]
        else:
            os.environ["PAIREC_ISA"] = before
    assert started == level
    return lambda case: pool.submit(check, case)


def here(case: Case) -> Future:
    done: Future = Future()
    try:
        done.set_result(check(case))
    except Exception as error:
        done.set_exception(error)
    return done


def run(times: int, seed: int = 0, first: int = 0, levels: list[str] | None = None) -> Counter:
    """Check `times` models; count models, cells compared and models that differ, which are printed."""
    seen: Counter = Counter(models=0, cells=0, wrong=0)
    with ExitStack() as stack:
        checks = {level: of_level(level, stack) for level in levels} if levels else {isa(): here}
        for number in range(first, first + times):
            case, params = make_case(seed, number)
            seen["models"] += 1
            seen[params["objective"]] += 1
            seen[params["boosting"]] += 1
            for level, done in [(level, submit(case)) for level, submit in checks.items()]:
                try:
                    cells, wrong = done.result()
                except Exception as error:  # a worker that died too: the number of the model is what matters
                    cells, wrong = 0, [f"{type(error).__name__}: {error}"]
                seen["cells"] += cells
                seen["wrong"] += bool(wrong)
                if wrong:
                    print(f"model {number} of seed {seed}, {level}, {params}:", *wrong[:5], sep="\n  ", flush=True)
            if number % 100 == 99:
                print(f"{dict(seen)}", file=sys.stderr, flush=True)
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--levels", action="store_true", help="every level of SIMD that this machine has")
    arguments = parser.parse_args()
    began = time.monotonic()
    total = run(arguments.times, arguments.seed, arguments.first, isas() if arguments.levels else None)
    print(dict(total), f"{time.monotonic() - began:.0f} s")
    sys.exit(total["wrong"] > 0)
