"""Engine.recommend, a different user each call, and where its time goes.

pytest bench/bench_recommend.py --benchmark-only [--config engine.json]
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from pairec_fast import Engine
from pairec_fast.core import Arena
from pairec_fast.query import Query


@pytest.fixture(scope="module")
def engine(config):
    with Engine.from_config(config) as engine:
        yield engine


@pytest.fixture(params=["plain", "measured", "logged"])
def told(request, config, tmp_path):
    """An engine on the same world that tells nothing, or PAI-Rec's metrics, or every answer in a log of its own."""
    path = Path(config)
    conf = json.loads(path.read_text()) | {"PrometheusConfig": {"Enable": request.param == "measured"}}
    conf["SnapshotConf"] |= {"Directory": str(path.parent / conf["SnapshotConf"]["Directory"])}
    for section in ("CallBackConfs", "DiskConfs", "LogRingConf"):
        conf.pop(section, None)
    if request.param == "logged":
        conf["CallBackConfs"] = {"home_feed": {"DataSource": {"Name": "log", "Type": "disk"}}}
        conf["DiskConfs"] = {"log": {"Directory": str(tmp_path / "log")}}
        conf["LogRingConf"] = {"Directory": str(tmp_path / "ring")}
        conf["SceneConfs"]["home_feed"]["default"] |= {"AutoInvokeCallBack": True, "AutoInvokeCallBackRate": 100}
    with Engine.from_config(conf) as engine:
        yield engine


@pytest.fixture
def users(engine):
    """Users in an order that neither caches nor branch predictors know, again and again."""
    ids = engine.snapshot.users.ids
    rows = np.random.default_rng(0).permutation(len(ids))[:2_000]
    return itertools.cycle([ids.id(int(row)) for row in rows])


def bench_recommend(timed, engine, users):
    timed(lambda: engine.recommend({"uid": next(users), "scene_id": "home_feed", "size": 20}))


def bench_told(timed, told, users):
    """What it costs to be told: `plain` is a request of a scene that uses nothing but its stages."""
    timed(lambda: told.recommend({"uid": next(users), "scene_id": "home_feed", "size": 20}))


@pytest.mark.parametrize("stage", ["recall", "filter", "features", "score", "rerank", "reply"])
def bench_stage(timed, engine, users, stage):
    """One stage of the walk over what the stages before it left."""
    scene = engine._scene("home_feed", "default")
    arena = Arena(
        engine.limits.candidates_max, items_max=len(engine.snapshot.items), width=scene.score.width,
        algos=scene.algos,
    )  # fmt: skip
    stages = {
        "recall": scene.recalls,
        "filter": scene.filters,
        "features": [scene.score.features],
        "score": [scene.score.score],
        "rerank": scene.reranks,
        "reply": [lambda query, arena: scene.writer.items(query, arena, query.size)],
    }
    names = list(stages)

    def run(query, names):
        for name in names:
            for step in stages[name]:
                step(query, arena)

    def prepared():
        arena.reset()
        query = Query(
            engine.snapshot, next(users), 20, {}, history_max=engine.limits.history_max, sources=scene.sources
        )
        run(query, names[: names.index(stage)])
        return (query, [stage]), {}

    timed.prepared(run, prepared)
