"""A request's worth of candidates through a forest, ours and what else a user could pick; seeded data.

`python -m bench.bench_forest` prints a table: three models, or with `--config engine.json` the one that is served there
and real candidates, e.g. of `pairec-fast demo --data ml-100k`. All in turns, on one thread, by CPU time; PAIREC_ISA
sets the level. Scores are compared with LightGBM's first: a differing bit ends it. `pip install '.[bench]'` brings the
peers; those that are not there are left out. `--growth FILE.svg` draws how the cost grows instead.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pytest

from bench.forests import Case, made_up, seeded, served, table, train
from bench.growth import measured, plot
from bench.peers.forests import PEERS, SingleRowFast
from bench.turns import ROUNDS, Call, in_turns, over
from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest
from pairec_fast.core.simd import isa

SIZES = {"a": (300, 31), "b": (500, 63), "c": (1000, 127)}  # trees, leaves
ROWS = 500
KINDS = {"numbers": None, "categories": {}}  # with LightGBM's defaults most splits are by category


@pytest.fixture(scope="session", params=KINDS)
def booster(request) -> lgb.Booster:
    return train(*SIZES["a"], rows=20_000, by_category=KINDS[request.param])


@pytest.fixture(scope="session")
def forest(booster) -> Forest:
    return Forest.parse(booster.model_to_string())


def bench_forest_predict(timed, forest):
    timed(forest.predict, table(ROWS, 2), rounds=200)


def bench_forest_score_arena(timed, forest):
    arena = Arena(ROWS, width=forest.width)
    arena.features[:] = table(ROWS, 2)
    arena.count = ROWS
    timed(forest.score, arena, rounds=200)


def bench_lightgbm_predict(timed, booster):
    X = table(ROWS, 2)
    timed(lambda: booster.predict(X, raw_score=True, num_threads=1), rounds=200)


def bench_forest_parse(timed, booster):
    timed(Forest.parse, booster.model_to_string(), rounds=50)


class Measure(NamedTuple):
    """A row of the table: what is called, and what it is compared with: nothing and itself give no ratio."""

    call: Call
    against: str
    per: float  # what a call's nanoseconds are divided by: trees * rows, or the nanoseconds of `unit`
    unit: str = ""  # "": ns per tree and row


def measures(case: Case, peers: list[str]) -> dict[str, Measure]:
    """All that is measured of a model, by name, in the order of the table."""
    return {
        **requests(case),
        **batches(case, ROWS, columns=True),
        **others(case, peers),
        **batches(case, 50),
        **batches(case, 5000),
        **single(case),
        **loading(case),
    }


def yardstick(rows: int) -> str:
    return f"LightGBM `Booster.predict`, {rows:,} rows"


def requests(case: Case) -> dict[str, Measure]:
    """From a user's values, rows of items and columns of cross features to scores; LightGBM is given the matrices."""
    rows = sum(len(request.matrix) for request in case.requests) / len(case.requests)
    lightgbm, ours = "LightGBM `Booster.predict`, requests", "`RequestForest.score`, requests"
    calls = {
        lightgbm: over(lambda request: case.lightgbm(request.matrix), case.requests),
        ours: over(lambda request: request.score(), case.requests),
    }
    return {name: Measure(call, lightgbm, case.trees * rows) for name, call in calls.items()}


def batches(case: Case, rows: int, columns: bool = False) -> dict[str, Measure]:
    lightgbm, ours = yardstick(rows), f"`Forest.predict`, {rows:,} rows"
    calls = {
        lightgbm: over(case.lightgbm, case.blocks(rows)),
        ours: over(case.forest.predict, case.blocks(rows)),
    }
    if columns:
        calls[f"{ours}, columns of float32"] = over(case.forest.predict, case.blocks(rows, np.float32, "F"))
    return {name: Measure(call, lightgbm, case.trees * rows) for name, call in calls.items()}


def others(case: Case, peers: list[str]) -> dict[str, Measure]:
    """Those of `peers` that can; says how each got ready, or why it is left out."""
    found, expected = {}, case.lightgbm(case.pool)
    for name in peers:
        package, make = PEERS[name]
        try:
            begin = time.process_time()
            peer = make(case)
            seconds = time.process_time() - begin
            scores = peer.predict(case.pool.astype(peer.dtype)).reshape(expected.shape)
        except Exception as reason:  # each fails in its own way, and none may stop the others
            say(f"  {name}: left out: {reason}")
            continue
        line = f"  {name} {importlib.metadata.version(package)}: ready after {seconds:.1f} s of CPU"
        if not name.endswith("*"):
            differ, most = np.count_nonzero(scores != expected), np.abs(scores - expected).max()
            line += f"; {differ:,} of {scores.size:,} scores differ, by at most {most:.1e}"
        say(line)
        call = over(peer.predict, case.blocks(ROWS, peer.dtype, peer.order))
        found[f"{name}, {ROWS} rows"] = Measure(call, yardstick(ROWS), case.trees * ROWS)
    return found


def single(case: Case) -> dict[str, Measure]:
    """Another row each call, which no branch predictor knows. Both calls are Python's, LightGBM's through ctypes."""
    rows, none, lightgbm = case.blocks(1), [case.pool[:0]], "LightGBM C API `SingleRowFast`, 1 row"
    addresses = [SingleRowFast.address(row) for row in rows]
    return {
        lightgbm: Measure(over(SingleRowFast(case), addresses), lightgbm, case.trees),
        "`Forest.predict`, 1 row": Measure(over(case.forest.predict, rows), lightgbm, case.trees),
        "of that, the call from Python": Measure(over(case.forest.predict, none), "", case.trees),
    }


def loading(case: Case) -> dict[str, Measure]:
    lightgbm = "LightGBM `Booster(model_file=)`"
    return {
        lightgbm: Measure(lambda: lgb.Booster(model_file=case.file), lightgbm, 1e6, "ms"),
        "`Forest.load`": Measure(lambda: Forest.load(case.file), lightgbm, 1e6, "ms"),
        "`Forest.load`, compiled": Measure(lambda: Forest.load(case.compiled), lightgbm, 1e6, "ms"),
    }


def compared(case: Case, peers: list[str], rounds: int) -> dict[str, str]:
    """Name of a measure -> what it took, and how many times as fast as its yardstick that is."""
    differ, of = case.differing()
    say(f"{case}: {differ:,} of {of:,} scores differ from LightGBM's in a bit")
    if differ:
        raise SystemExit("the scores are not LightGBM's: how fast they are does not matter")
    found = measures(case, peers)
    taken = in_turns({name: measure.call for name, measure in found.items()}, rounds)
    cells = {}
    for name, (_, against, per, unit) in found.items():
        cells[name] = f"{taken[name] / per:.3g}{unit and ' ' + unit}"
        if against not in ("", name):
            cells[name] += f", {taken[against] / taken[name]:.3g} ×"
    return cells


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_forest", description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, help="where trained models are kept; by default nowhere")
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES), help="by default all three")
    parser.add_argument("--config", help="engine.json: measure its model on its candidates instead")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="by default all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--growth", type=Path, metavar="FILE.svg", help="draw how the cost grows instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pairec-forest-") as scratch:
        cache = options.cache or Path(scratch)
        cache.mkdir(parents=True, exist_ok=True)
        if options.growth:
            caption = f"{isa()}, LightGBM {lgb.__version__}, one thread, both axes logarithmic"
            options.growth.write_text(plot(measured(cache, options.rounds, say), caption), encoding="utf-8")
            return
        if options.config:
            cases = [served(options.config, Path(scratch))]
        else:
            cases = [seeded(name, *SIZES[name], cache) for name in options.models]
            for case in cases:
                case.requests = made_up(case.forest, case.pool)
        tables = {str(case): compared(case, options.peers, options.rounds) for case in cases}
    print(f"\n{isa()}, LightGBM {lgb.__version__}, one thread; ns of CPU per tree and row, and times as fast:\n")
    print("| | " + " | ".join(tables) + " |\n|---" + "|---" * len(tables) + "|")
    for name in dict.fromkeys(name for cells in tables.values() for name in cells):
        print(f"| {name} | " + " | ".join(cells.get(name, "–") for cells in tables.values()) + " |")


if __name__ == "__main__":
    main()
