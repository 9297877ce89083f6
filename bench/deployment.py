"""A PAI-Rec deployment moves in: `python -m bench.deployment [--items N] [--requests N] [--out FILE.md]`.

The configuration of bench/deployed on the demo world, with a Redis and a PostgreSQL of its own: five recalls, six
filters, two algorithms, four sorts, two layers of experiments, loads with transforms. `pairec-fast check` must find
nothing; then one client asks, while all is well and while a store is frozen, killed or slow, and when it is back.

    p50, p99, longest   of `Engine.recommend`, ms of the wall clock: on a busy machine, of its other work too
    cpu                 ms of all threads of this process a request, means; the stores' own processes are not in it
    degraded            share of the answers that name a part they lack
    stages              p50 / p99 of `/metrics`' histograms, interpolated. What is awaited of the stores before the walk
                        is in recall: user features, lists, events, exposures

Every answer must have all its items, and none may last longer than the limits that the file gives the stores' parts.
A store that failed five times in a row rests; so after a while a dead one costs an answer nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.deployed import SCENE, SLOW, SWIFT, Filled, quantile, series, world, written
from pairec_fast import Engine
from tests.services.postgres import Postgres
from tests.services.process import Missing
from tests.services.redis import Redis

SIZE = 20
USERS = 2_000
BACK_SECONDS = 30.0  # a store that is back may rest for 8 s more; the machine may be busy
# A load's limit of a Redis (connect and read), then the recalls' own, all at once: two statements of PostgreSQL.
LIMIT_SECONDS = 0.15 + 0.2
SLACK_SECONDS = 0.4  # the walk itself, and a machine that is doing something else; less than the slow view sleeps
LATE_SHARE, LATE_ANSWERS = 0.01, 3  # that may lack something although all is well: a busy machine is late itself
STAGES = ("recall", "filter", "general", "features", "score", "rerank", "reply")


class State(msgspec.Struct):
    """What was asked and answered while the stores were in one state. Times in seconds."""

    title: str
    seconds: list[float]
    cpu_seconds: float
    short: int  # answers with another code than 200 or fewer items than asked for
    degraded: Counter[str]  # by what the answers name, how many do
    degraded_answers: int
    counted: float  # what `degraded_total` of /metrics rose by
    experiments: set[str]
    stages: dict[str, dict[float, float]]

    def ms(self, percent: float) -> float:
        return float(np.percentile(self.seconds, percent)) * 1e3


class Deployment:
    """The engine and its stores."""

    def __init__(self, engine: Engine, redis: Redis, postgres: Postgres, users: Sequence[str]) -> None:
        self.engine, self.redis, self.postgres = engine, redis, postgres
        self._users = itertools.cycle(users)

    def ask(self) -> Any:
        return self.engine.recommend({"uid": next(self._users), "scene_id": SCENE, "size": SIZE})

    def asked(self, title: str, requests: int) -> State:
        before, stages, cpu = self._degraded(), self._stages(), time.process_time()
        state = State(title, [], 0.0, 0, Counter(), 0, 0.0, set(), {})
        for _ in range(requests):
            begin = time.perf_counter()
            reply = self.ask()
            state.seconds.append(time.perf_counter() - begin)
            state.short += reply.code != 200 or len(reply.items) != SIZE
            state.experiments.add(reply.experiment_id)
            state.degraded.update(reply.degraded or ())
            state.degraded_answers += bool(reply.degraded)
        state.cpu_seconds = time.process_time() - cpu
        state.counted = self._degraded() - before
        state.stages = {
            stage: {edge: count - stages[stage].get(edge, 0.0) for edge, count in counts.items()}
            for stage, counts in self._stages().items()
        }
        return state

    def recovered(self) -> float:
        """Seconds until an answer lacks nothing.

        Raises:
            SystemExit: `BACK_SECONDS` were not enough.
        """
        begin = time.perf_counter()
        while self.ask().degraded:
            if time.perf_counter() - begin > BACK_SECONDS:
                raise SystemExit(f"answers still lack something {BACK_SECONDS:g} s after the stores were back")
            time.sleep(0.05)
        return time.perf_counter() - begin

    def run(self, sql: str) -> None:
        with self.postgres.connect() as connection:
            connection.execute(sql)

    def _degraded(self) -> float:
        return sum(series(self.engine.metrics_text(), "degraded_total").values())

    def _stages(self) -> dict[str, dict[float, float]]:
        """Stage -> upper edge in seconds -> how many lasted no longer, since the engine began."""
        text = self.engine.metrics_text()
        found: dict[str, dict[float, float]] = {stage: {} for stage in STAGES}
        for labels, count in series(text, "stage_duration_seconds_bucket").items():
            given = dict(part.split("=") for part in labels.strip("{}").split(","))
            found[given["stage"].strip('"')][float(given["le"].strip('"').replace("+Inf", "inf"))] = count
        return found


def states(deployment: Deployment, requests: int, say: Callable[[str], None]) -> Iterator[State]:
    """All is well; then one thing after the other happens to the stores."""
    redis, postgres = deployment.redis, deployment.postgres

    def back(what: str) -> None:
        say(f"{what}: answers lack nothing after {deployment.recovered():.2f} s")

    yield deployment.asked("all is well", requests)
    redis.freeze()
    yield deployment.asked("Redis frozen (SIGSTOP)", requests)
    redis.thaw()
    back("Redis thawed")
    redis.kill()
    yield deployment.asked("Redis killed (SIGKILL)", requests)
    redis.start()
    back("Redis started again")
    deployment.run(SLOW)
    yield deployment.asked("PostgreSQL slow (pg_sleep(1) in a view)", requests)
    deployment.run(SWIFT)
    back("PostgreSQL swift again")
    postgres.freeze()
    yield deployment.asked("PostgreSQL frozen (SIGSTOP)", requests)
    redis.kill()
    yield deployment.asked("PostgreSQL frozen and Redis killed", requests)
    postgres.thaw()
    redis.start()
    back("both are back")
    yield deployment.asked("all is back", requests)


def refused(state: State, healthy: bool) -> list[str]:
    """What of a state is not as it must be."""
    wrong = [f"{state.short} answers were short"] if state.short else []
    if max(state.seconds) > LIMIT_SECONDS + SLACK_SECONDS:
        wrong.append(f"an answer took {max(state.seconds) * 1e3:.0f} ms, the limits are {LIMIT_SECONDS * 1e3:.0f} ms")
    if healthy and state.degraded_answers > max(LATE_ANSWERS, LATE_SHARE * len(state.seconds)):
        wrong.append(f"{state.degraded_answers} answers lack something although nothing is wrong: {state.degraded}")
    if not healthy and not state.degraded_answers:
        wrong.append("no answer says that it lacks something")
    if state.counted != sum(state.degraded.values()):
        wrong.append(f"answers name {sum(state.degraded.values())} parts they lack, /metrics counted {state.counted:g}")
    return [f"{state.title}: {line}" for line in wrong]


def table(done: Sequence[State]) -> str:
    """Two markdown tables."""
    lines = [
        "| stores | p50 ms | p99 ms | longest ms | cpu ms | short answers | degraded | what they lack |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for state in done:
        count = len(state.seconds)
        named = ", ".join(f"`{name}` {times:,} x" for name, times in state.degraded.most_common())
        lines.append(
            f"| {state.title} | {state.ms(50):.1f} | {state.ms(99):.1f} | {max(state.seconds) * 1e3:.0f} | "
            f"{state.cpu_seconds / count * 1e3:.1f} | {state.short} of {count:,} | "
            f"{state.degraded_answers / count:.1%} | {named or '–'} |"
        )
    lines += ["", f"| stage, p50 / p99 ms | {' | '.join(STAGES)} |", "|---" * (len(STAGES) + 1) + "|"]
    for state in done:
        times = (
            " / ".join(f"{quantile(state.stages[stage], share) * 1e3:.2f}" for share in (0.5, 0.99)) for stage in STAGES
        )
        lines.append(f"| {state.title} | {' | '.join(times)} |")
    return "\n".join(lines)


def checked(path: Path) -> None:
    """Raises SystemExit: `pairec-fast check` has something to say."""
    line = [sys.executable, "-m", "pairec_fast", "check", str(path)]
    said = subprocess.run(line, capture_output=True, text=True, env=os.environ, check=False)
    if said.returncode or said.stderr:
        raise SystemExit(f"pairec-fast check ended with {said.returncode}:\n{said.stderr}")


def measured(
    cache: Path, folder: Path, items: int, requests: int, say: Callable[[str], None], users_max: int = USERS
) -> list[State]:
    """Everything, once.

    Raises:
        Missing: a service is not installed.
        SystemExit: the configuration is not clean, or a store that is back is not used again.
    """
    with contextlib.ExitStack() as stack:
        redis, postgres = stack.enter_context(Redis(folder)), stack.enter_context(Postgres())
        snapshots = world(cache, items)
        redis.settings |= {"appendonly": "yes", "appendfsync": "everysec"}  # what was in it is there after a kill
        redis.start()
        postgres.start()
        filled = Filled(snapshots, users_max)
        filled.redis(redis)
        filled.postgres(postgres)
        path = written(folder, snapshots, redis, postgres)
        checked(path)
        engine = stack.enter_context(Engine.from_config(path))
        deployment = Deployment(engine, redis, postgres, filled.users)
        for _ in range(min(requests, 200)):  # connections, prepared statements, pages of the snapshot
            deployment.ask()
        deployment.recovered()
        done = []
        for state in states(deployment, requests, say):
            say(f"{state.title}: p50 {state.ms(50):.1f} ms, p99 {state.ms(99):.1f} ms")
            done.append(state)
        return done


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=1_000, help="in each state of the stores")
    parser.add_argument("--cache", type=Path, help="where the world is kept; by default nowhere")
    parser.add_argument("--out", type=Path, help="where the table goes besides")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "deployment"
        folder.mkdir()
        try:
            done = measured(options.cache or Path(scratch), folder, options.items, options.requests, say)
        except Missing as reason:
            print(f"{reason}; `bash tests/services/provide.sh` installs it", file=sys.stderr)
            return 1
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    told = (
        f"{options.items:,} items, {options.requests:,} requests in each state, one client; "
        f"{len(done[0].experiments)} combinations of experiments; {os.cpu_count()} cores ({platform.machine()}), "
        f"load averages {busy} at the end\n\n{table(done)}\n"
    )
    print(f"\n{told}")
    if options.out:
        options.out.write_text(told)
    wrong = [line for place, state in enumerate(done) for line in refused(state, place in (0, len(done) - 1))]
    print("\n".join(wrong), file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
