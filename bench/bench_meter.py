"""What it costs to tell where the time goes, and what is then told.

    python -m bench.bench_meter [--config engine.json] [--instructions] [--service SECONDS] [--workers 2] [--rate 0]

First the CPU time of `Engine.recommend` and, in turns with it, of all that is counted for one request: its laps, a line
of stages with budgets, and the counters of requests. `--instructions` counts both under callgrind, where nothing else
the machine does can be seen; it knows no AVX-512, so kernels are those of AVX2. `--service` runs `pairec-fast serve`
under load for so long, scrapes it every second, holds each scrape against the one before, and prints what it shows.
Without a configuration a small shop is made.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.deployed import quantile, series
from bench.turns import in_turns
from pairec_fast import Engine
from pairec_fast.core import Arena
from pairec_fast.core.meter import Laps
from pairec_fast.limits import STAGES, TOTAL
from tests.servers import Server
from tests.worlds import FEED, ROOT, World, environment, make_world

SCENE = "home_feed"
BUDGETS = {"recall": 150, "filter": 30, "features": 50, "score": 200, "rerank": 30, "reply": 50, "total": 500}
CALLS = 300  # under callgrind
SWITCH = """
#include <valgrind/callgrind.h>
void on(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void off(void) { CALLGRIND_STOP_INSTRUMENTATION; CALLGRIND_DUMP_STATS; }
"""


def calls(engine: Engine) -> dict[str, Callable[[], object]]:
    """A request of another user each time, and what is counted of one."""
    ids = engine.snapshot.users.ids
    rows = np.random.default_rng(0).permutation(len(ids))[:2_000]
    users = itertools.cycle([ids.id(int(row)) for row in rows])
    meter, arena, answered = engine._meters.of(SCENE), Arena(10), engine.requests.answered
    arena.count = 7

    def metered() -> None:
        laps = Laps()
        for _ in range(5):
            laps.lap(arena)
        laps.ordered(arena)
        laps.last(3)
        engine._meters.of(SCENE, False).observe(laps, "r")
        engine._meters.of(SCENE).answers.add()
        answered(200, "POST", "localhost:8000", FEED, 0.0003, 200, 2000)

    meter.answers.add(0)
    return {
        "Engine.recommend": lambda: engine.recommend({"uid": next(users), "scene_id": SCENE, "size": 20}),
        "counting": metered,
    }


def configured(config: Path, **limits: Any) -> dict[str, Any]:
    """The configuration with budgets, its paths made whole, and no log of its own."""
    conf: dict[str, Any] = json.loads(config.read_text())
    conf["SnapshotConf"]["Directory"] = str(config.parent / conf["SnapshotConf"]["Directory"])
    for section in ("CallBackConfs", "DiskConfs", "LogRingConf"):
        conf.pop(section, None)
    conf["LimitConf"] = {"BudgetMicroseconds": {SCENE: BUDGETS}} | limits
    for category in conf["SceneConfs"][SCENE].values():
        category.pop("AutoInvokeCallBack", None)
    return conf


def under_callgrind(config: Path) -> dict[str, float]:
    """Instructions a call takes."""
    return {name: _instructions(config, name, CALLS) / CALLS for name in ("Engine.recommend", "counting")}


def _instructions(config: Path, name: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        switch, out = Path(folder) / "switch.so", Path(folder) / "out"
        made = ["gcc", "-xc", "-", "-O1", "-shared", "-fPIC", "-o", str(switch)]
        subprocess.run(made, input=SWITCH, check=True, text=True)
        line = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", "-q"]
        line += [sys.executable, "-m", "bench.bench_meter", "--config", str(config)]
        line += ["--count", name, str(count), str(switch)]
        subprocess.run(line, check=True, env=environment() | {"PAIREC_ISA": "avx2", "PYTHONHASHSEED": "0"}, cwd=ROOT)
        dumps = "".join(path.read_text() for path in Path(folder).glob("out*"))
        return max(int(total) for total in re.findall(r"^(?:totals|summary): (\d+)", dumps, re.MULTILINE))


def count_here(config: Path, name: str, count: int, switch: str) -> None:
    """Run under callgrind: only the calls are counted, and what switches it on and off."""
    instructions = ctypes.CDLL(switch)
    with Engine.from_config(configured(config)) as engine:
        call = calls(engine)[name]
        for _ in range(300):  # caches of the interpreter and of the engine are warm then
            call()
        instructions.on()
        for _ in range(count):
            call()
        instructions.off()


def serve(config: Path, seconds: float, workers: int, rate: float) -> str:
    """Two tables of what `/metrics` shows after a run, and a line of how it was scraped."""
    with tempfile.TemporaryDirectory() as folder:
        world = World.__new__(World)
        world.folder, world.conf = Path(folder), configured(config)
        ids = Engine.from_config(world.conf).snapshot.users.ids
        users = np.random.default_rng(1).permutation(len(ids))[:2_000]
        bodies = Path(folder) / "bodies"
        made = [{"uid": ids.id(int(row)), "scene_id": SCENE, "size": 20} for row in users]
        bodies.write_text("".join(json.dumps(one) + "\n" for one in made))
        with Server(world, workers) as server:
            line = [sys.executable, "-m", "bench.openloop", str(server.port), FEED, str(bodies), f"--seconds={seconds}"]
            load = subprocess.Popen([*line, f"--rate={rate}", "--connections=8"], stdout=subprocess.PIPE, cwd=ROOT)
            scrapes, took, before, text = 0, list[float](), dict[str, float](), ""
            while load.poll() is None:
                begin = time.perf_counter()
                text = _scrape(server.port)
                took.append((time.perf_counter() - begin) * 1e3)
                now = series(text, "stage_duration_seconds_bucket") | series(text, "over_budget_total")
                fell = [key for key, value in before.items() if now.get(key, -1) < value]
                if fell:
                    raise SystemExit(f"fell between two scrapes: {fell}")
                before, scrapes = now, scrapes + 1
                time.sleep(1)
            assert load.stdout is not None
            figures = json.loads(load.stdout.read())
            time.sleep(1.5)
            text = _scrape(server.port)
    scraped = f"{scrapes} scrapes over new connections, {np.median(took):.1f} ms each; no counter fell"
    told = f"{figures['requests']} requests, {figures['200']['rate']:.0f}/s answered, {workers} workers; {scraped}"
    return f"{told}\n\n{table(text)}"


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def table(text: str) -> str:
    """Of each stage how long, how many candidates, how often over its budget; the slowest of each worker."""
    times: dict[str, dict[float, float]] = {}
    whole: dict[float, float] = {}
    for name, into in (("stage_duration_seconds_bucket", times), ("rec_duration_seconds_bucket", None)):
        for labels, count in series(text, name).items():
            edge = float(_label(labels, "le").replace("+Inf", "inf"))
            (times.setdefault(_label(labels, "stage"), {}) if into is not None else whole)[edge] = count
    times[TOTAL] = whole
    over = {_label(labels, "stage"): count for labels, count in series(text, "over_budget_total").items()}
    moved = {
        (_label(labels, "stage"), _label(labels, "direction")): count
        for labels, count in series(text, "stage_candidates_total").items()
    }
    slow = {
        (_label(labels, "stage"), _label(labels, "worker")): seconds
        for labels, seconds in series(text, "slowest_request_seconds").items()
    }
    workers = sorted({worker for _, worker in slow})
    head = ["stage", "requests", "p50 us", "p90 us", "p99 us", "in", "out", "budget us", "over budget"]
    rows = [[*head, *(f"slowest{f' of worker {worker}' if worker else ''}, us" for worker in workers)]]
    for stage in (*STAGES, TOTAL):
        edges = times[stage]
        count = edges[float("inf")]
        row = [stage, f"{count:.0f}", *(f"{quantile(edges, share) * 1e6:.0f}" for share in (0.5, 0.9, 0.99))]
        row += [f"{moved.get((stage, way), 0) / count:.0f}" if stage != TOTAL else "" for way in ("in", "out")]
        share = f"{over[stage]:.0f} ({over[stage] / count:.2%})" if stage in over else ""
        row += [str(BUDGETS.get(stage, "")), share]
        rows.append([*row, *(f"{slow[stage, worker] * 1e6:.0f}" for worker in workers)])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _label(labels: str, name: str) -> str:
    found = re.search(rf'{name}="([^"]*)"', labels)
    return found[1] if found else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--service", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--count", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = (given.config or make_world(Path(folder) / "shop", 3_000)).absolute()
        if given.count:
            count_here(config, given.count[0], int(given.count[1]), given.count[2])
            return 0
        with Engine.from_config(configured(config)) as engine:
            taken = in_turns(calls(engine), 15)
        told = {"CPU us": {name: ns / 1e3 for name, ns in taken.items()}}
        if given.instructions:
            told["instructions"] = under_callgrind(config)
        for unit, of in told.items():
            share = of["counting"] / of["Engine.recommend"]
            print(f"{unit}: {', '.join(f'{name} {value:,.2f}' for name, value in of.items())}; {share:.2%}")
        if given.service:
            print(serve(config, given.service, given.workers, given.rate))
    return 0


if __name__ == "__main__":
    sys.exit(main())
