"""A deployment as PAI-Rec has it: engine.json, experiments.json, and what its Redis and its PostgreSQL hold.

Only what is local in engine.json is ours: the snapshot, three recalls, the tables of items and users, two models. The
rest are PAI-Rec's own sections, fields and layouts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pairec_fast import Snapshot
from pairec_fast.build import build
from pairec_fast.learn.demo import Demo
from pairec_fast.metrics import Metrics
from tests.services.postgres import Postgres
from tests.services.redis import Redis

HERE = Path(__file__).parent
SCENE = "home_feed"
POPULAR = 20_000  # items that live lists are drawn from, those of the lower rows more often
NEARLINE, EVENTS, SIMILAR = 150, 30, 20  # entries of a user's list, rows of a user, items like an item
SEGMENTS = ["new", "regular", "loyal"]

TABLES = """
create table events (user_id text, item_id text, event text, play_time float8, "timestamp" bigint);
create table similar_items (item_id text primary key, similar_item_ids text);
create view user_events as select * from events;
"""
# The view again, a second late for every user: the statement is the same, so that nothing in the engine changes.
SLOW = "create or replace view user_events as select events.* from events, (select pg_sleep(1)) as late"
SWIFT = "create or replace view user_events as select * from events"


def world(cache: Path, items: int) -> Path:
    """The snapshots of the demo world of so many items, with a user for every twenty; made unless `cache` has them."""
    demo = Demo("world", cache / f"world-{items}", items, max(200, items // 20), seed=1, port=0)
    if not demo.ready():
        demo.make(build, lambda line: print(line, flush=True), lambda step, done, total: None)
    return demo.directory / "snapshots"


def written(folder: Path, snapshots: Path, redis: Redis, postgres: Postgres) -> Path:
    """engine.json and experiments.json in `folder`, for these stores."""
    os.environ["DEPLOYED_SNAPSHOTS"], os.environ["DEPLOYED_DSN"] = str(snapshots), postgres.url
    conf = json.loads((HERE / "engine.json").read_text())
    conf["RedisConfs"]["online"]["Port"] = redis.port
    (folder / "experiments.json").write_bytes((HERE / "experiments.json").read_bytes())
    (folder / "engine.json").write_text(json.dumps(conf, indent=2))
    return folder / "engine.json"


class Filled:
    """What the stores know of some users of a snapshot, drawn from a seed: lists, events, segments."""

    def __init__(self, snapshots: Path, users_max: int, seed: int = 1) -> None:
        self._snapshot = Snapshot.load(snapshots)
        self._rng = np.random.default_rng(seed)
        ids = self._snapshot.users.ids
        rows = self._rng.permutation(len(ids))[:users_max]
        self.users = [ids.id(int(row)) for row in rows]
        self._popular = min(POPULAR, len(self._snapshot.items))

    def _drawn(self, count: int) -> list[str]:
        """Items, each once."""
        rows = np.unique((self._popular * self._rng.random(count) ** 2).astype(int))
        return [self._snapshot.items.ids.id(int(row)) for row in self._rng.permutation(rows)]

    def redis(self, redis: Redis) -> None:
        """A list and a hash of every user."""
        categories = self._snapshot.items.columns["category"]
        with redis.client.pipeline(transaction=False) as pipeline:
            for user in self.users:
                scores = self._rng.random(NEARLINE)
                entries = zip(self._drawn(NEARLINE), scores, strict=False)
                pipeline.set(f"nearline:{user}", ",".join(f"{item}::{score:.4f}" for item, score in entries))
                likes = categories.value(int(self._rng.integers(self._popular)))
                segment = SEGMENTS[int(self._rng.integers(len(SEGMENTS)))]
                pipeline.hset(f"user:{user}", mapping={"segment": segment, "likes": str(likes)})
            pipeline.execute()

    def postgres(self, postgres: Postgres) -> None:
        """Events of every user, and what is like the items that they are about."""
        with postgres.connect() as connection:
            connection.execute(TABLES)
            seen: set[str] = set()
            with connection.cursor().copy("copy events from stdin") as to:
                for row in self._events():
                    seen.add(row[1])
                    to.write_row(row)
            with connection.cursor().copy("copy similar_items from stdin") as to:
                for item in sorted(seen):
                    scores = self._rng.random(SIMILAR)
                    like = zip(self._drawn(SIMILAR), scores, strict=False)
                    to.write_row((item, ",".join(f"{id}:{score:.4f}" for id, score in like)))
            connection.execute("create index on events (user_id)")
            connection.commit()
            connection.autocommit = True
            connection.execute("analyze")

    def _events(self) -> Iterator[tuple[str, str, str, float, int]]:
        now = int(time.time())
        for user in self.users:
            for item in self._drawn(EVENTS):
                event = str(self._rng.choice(["view", "click", "buy"], p=[0.8, 0.17, 0.03]))
                yield user, item, event, float(self._rng.integers(60_000)), now - int(self._rng.integers(5 * 86_400))


def quantile(counts: dict[float, float], share: float) -> float:
    """As Prometheus' `histogram_quantile`, of how many fell below each edge: in seconds."""
    edges = sorted(counts)
    wanted, before, low = share * counts[edges[-1]], 0.0, 0.0
    for edge in edges:
        if counts[edge] >= wanted:
            if edge == float("inf"):
                return low
            within = counts[edge] - before
            return low + (edge - low) * ((wanted - before) / within if within else 1.0)
        before, low = counts[edge], edge
    return low


def series(metrics: str, name: str) -> dict[str, float]:
    """The samples of a metric of `/metrics`: labels in braces -> value."""
    name = Metrics().prefix + name
    found: dict[str, float] = {}
    for line in metrics.splitlines():
        sample, _, value = line.rpartition(" ")
        if sample == name or sample.startswith(name + "{"):
            found[sample.removeprefix(name)] = float(value)
    return found
