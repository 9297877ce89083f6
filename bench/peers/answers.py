"""Whether everybody is asked the same and answers the same; and what an answer costs in one process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.peers import recall, world
from bench.peers.servers import PATH
from bench.peers.stack import Stack
from bench.recall.sets import Set
from bench.turns import in_turns, over
from pairec_fast import Engine
from pairec_fast.app import App

ASKED = 2_000  # users, each again after all the others
JUDGED = 500  # of whom answers are compared
Request = dict[str, Any]


class Agreement(NamedTuple):
    """Of a stack with ours. `recall` is of the exact nearest, `ours` as well; `same_bits` of items both answered."""

    recall: float
    ours: float
    overlap: float  # share of ours' best twenty that it has too
    same_bits: float
    differ_most: float


class Cost(NamedTuple):
    """Microseconds of one call after another, each for another user."""

    cpu: float  # the median of turns' means
    cpu_p50: float
    cpu_p99: float
    wall_p50: float
    wall_p99: float


def requests(folder: Path, count: int = ASKED) -> list[Request]:
    """Bodies of `/api/rec/feed`: users who have chosen something, at some hour on some device."""
    ids = (folder / "users.txt").read_text().split("\n")
    devices = json.loads((folder / "context.json").read_text())["device"]["categories"]
    rng = np.random.default_rng(1)
    rows = recall.askers(np.load(folder / "users.npy"), count)
    return [
        {
            "uid": ids[row], "scene_id": world.SCENE, "size": world.SIZE,
            "features": {"hour": int(rng.integers(24)), "device": str(rng.choice(devices))},
        }
        for row in rows.tolist()
    ]  # fmt: skip


def agreement(engine: Engine, stack: Stack, asked: Sequence[Request], of: Set) -> Agreement:
    vectors = engine.snapshot.vectors[world.VECTORS]
    assert vectors.index is not None
    k = of.truth.shape[1]
    found, shared, same, differ, compared = [], [], 0, 0.0, 0
    for place, request in enumerate(asked[:JUDGED]):
        mine = vectors.rows[vectors.index.search(of.queries[place], k)[0]]
        theirs = stack.candidates(stack.users[request["uid"]])
        right = vectors.rows[of.truth[place]]
        found.append([np.isin(right, rows).mean() for rows in (theirs, mine)])
        ours = {item.item_id: item.score for item in engine.recommend(request).items}
        scores = {item["item_id"]: item["score"] for item in stack.recommend(request)["items"]}
        both = ours.keys() & scores.keys()
        shared.append(len(both) / len(ours))
        compared += len(both)
        same += sum(ours[item] == scores[item] for item in both)
        differ = max([differ, *(abs(ours[item] - scores[item]) for item in both)])
    theirs_found, ours_found = np.mean(found, axis=0).tolist()
    return Agreement(theirs_found, ours_found, float(np.mean(shared)), same / compared, differ)


def costs(engine: Engine, stacks: dict[str, Stack], asked: Sequence[Request], rounds: int) -> dict[str, Cost]:
    """Of `recommend`, and from a request's bytes to the answer's, in turns."""
    import orjson

    app, bodies = App(engine), [orjson.dumps(request) for request in asked]
    calls: dict[str, tuple[Callable[[Any], object], Sequence[Any]]] = {"pairec_fast": (engine.recommend, asked)}
    calls |= {name: (stack.recommend, asked) for name, stack in stacks.items()}
    calls["pairec_fast, bytes"] = lambda body: app.handle(PATH, body), bodies
    for name, stack in stacks.items():
        calls[f"{name}, bytes"] = _through(stack), bodies
    means = in_turns({name: over(*call) for name, call in calls.items()}, rounds)
    singles = {name: _singly(function, given) for name, (function, given) in calls.items()}
    return {name: Cost(mean / 1e3, *singles[name]) for name, mean in means.items()}


def _through(stack: Stack) -> Callable[[bytes], bytes]:
    import orjson

    return lambda body: orjson.dumps(stack.recommend(orjson.loads(body)))


def _singly(function: Callable[[Any], object], given: Sequence[Any]) -> list[float]:
    """p50 and p99 of single calls: CPU, then wall."""
    cpu, wall = [], []
    for one in given:
        began, begin = time.thread_time_ns(), time.perf_counter_ns()
        function(one)
        wall.append(time.perf_counter_ns() - begin)
        cpu.append(time.thread_time_ns() - began)
    return [float(us) / 1e3 for taken in (cpu, wall) for us in np.percentile(taken, [50, 99])]
