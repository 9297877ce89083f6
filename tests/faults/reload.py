"""Swap configuration and snapshot under load: no request fails, and none is answered by two versions.

    python -m tests.faults.reload [engine] [server] [--times 200] [--seed 7]

A version is a configuration with a snapshot. Every answer says three times which one gave it: by the name of the
recall that its items came from, by their scores, and by their prices, which are those of one snapshot. `engine`:
threads ask an engine. `server`: clients ask a server with two workers over HTTP. Each time a version is written over
the one before, or the folder's CURRENT is moved to another snapshot; sometimes a broken one, which must change nothing.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pairec_fast import Engine, Snapshot
from pairec_fast.build import build
from pairec_fast.learn.demo import Demo
from pairec_fast.reload import Reloader
from tests.faults.command import Row, main
from tests.servers import Server
from tests.worlds import FEED, World

USERS, CLIENTS, SIZE = 40, 3, 20
RELOAD_SECONDS = 0.02
SOON = 20.0  # seconds that a version may take to come: the machine may be busy


class Versions:
    """Two snapshots that differ in every price, and the configurations of a world that lead to one of them."""

    def __init__(self, place: Path, rng: random.Random) -> None:
        self.folder = place / "snapshots"
        self.folder.mkdir(parents=True)
        self.prices: dict[str, dict[str, float]] = {}
        first = place / "made0" / "engine.json"
        for seed in (0, 1):
            demo = Demo("world", place / f"made{seed}", items=300, users=100, seed=seed + 1, port=0)
            demo.make(build, lambda line: None, lambda step, done, total: None)
            made = Snapshot.load(demo.directory / "snapshots").directory
            name = f"s{seed}"
            os.rename(made, self.folder / name)
            items = Snapshot.load(self.folder / name).items
            ids = [items.ids.id(row) for row in range(len(items))]
            self.prices[name] = {id: items.columns["price"].value(row) for row, id in enumerate(ids)}
        common = set(self.prices["s0"]) & set(self.prices["s1"])
        assert all(self.prices["s0"][id] != self.prices["s1"][id] for id in common), "prices tell snapshots apart"
        (self.folder / "CURRENT").write_text("s0\n")
        self.current, self.number, self._rng = "s0", 0, rng
        self.world = World(first, place)
        self.world.conf["SnapshotConf"] = {"Directory": str(self.folder), "ReloadSeconds": RELOAD_SECONDS}
        self.pairs = {(self.number, self.current)}  # that have been current, one after the other
        self.through_current = {0}  # configurations that leave to CURRENT which snapshot: a slow worker reads it later
        self.world.conf |= self._configuration()

    def _configuration(self) -> dict[str, Any]:
        name = f"v{self.number}"
        scene = {"RecallNames": [name], "OutputFields": ["item:price"]}
        return {
            "RecallConfs": [
                {
                    "Name": name,
                    "RecallType": "UserGlobalHotRecall",
                    "RecallCount": 100,
                    "DaoConf": {"AdapterType": "local", "TableName": "hot"},
                }
            ],
            "SceneConfs": {"home_feed": {"default": scene}},
            "FilterConfs": [], "FilterNames": {}, "SortConfs": [], "SortNames": {"default": ["ItemRankScore"]},
            "RankConf": {"home_feed": {"RankAlgoList": ["ranker"], "RankScore": f"${{ranker}} * 0 + {self.number}"}},
        }  # fmt: skip

    def broken(self) -> None:
        """A file that cannot serve: cut, wrong, of a recall that the snapshot lacks, or of a snapshot that is none."""
        path, sound = self.world.folder / "engine.json", json.dumps(self.world.conf)
        conf = json.loads(sound)
        kind = self._rng.randrange(4)
        if kind == 1:
            conf["RankConf"]["home_feed"]["RankScore"] = "${ranker} +* ("
        elif kind == 2:
            conf["RecallConfs"][0]["DaoConf"]["TableName"] = "hott"
        elif kind == 3:
            conf["SnapshotConf"]["Directory"] = str(self.folder / "s2")
        path.write_text(sound[: self._rng.randrange(len(sound))] if kind == 0 else json.dumps(conf))

    def next(self) -> None:
        """Another configuration, another snapshot, or both at once: then the file names the snapshot itself."""
        other = "s1" if self.current == "s0" else "s0"
        kind = self._rng.randrange(3)
        following = (self.number + (kind != 1), self.current if kind == 0 else other)
        self.pairs.add(following)
        if kind == 0 and self.world.conf["SnapshotConf"]["Directory"] == str(self.folder):
            self.through_current.add(following[0])
        self.number, self.current = following
        if kind == 1 and self.world.conf["SnapshotConf"]["Directory"] == str(self.folder):
            move(self.folder, self.current)
            return
        if kind == 2 or kind == 1:
            self.world.conf["SnapshotConf"]["Directory"] = str(self.folder / self.current)
        self.world.conf |= self._configuration()
        replace(self.world)

    def version_of(self, items: list[dict[str, Any]]) -> tuple[int, str] | None:
        """Which version gave an answer; None if it was not one."""
        numbers = {int(item["retrieve_id"].removeprefix("v")) for item in items} | {item["score"] for item in items}
        snapshots = [
            name for name, prices in self.prices.items()
            if all(prices.get(item["item_id"]) == item["price"] for item in items)
        ]  # fmt: skip
        if len(numbers) != 1 or len(snapshots) != 1:
            return None
        return int(numbers.pop()), snapshots[0]


def move(folder: Path, name: str) -> None:
    (folder / "CURRENT.new").write_text(f"{name}\n")
    os.replace(folder / "CURRENT.new", folder / "CURRENT")


def replace(world: World) -> None:
    """Write engine.json as whoever deploys does: whole, or not at all."""
    new = world.folder / "engine.json.new"
    new.write_text(json.dumps(world.conf))
    os.replace(new, world.folder / "engine.json")


class Asking(threading.Thread):
    """Asks until told to stop, and looks at every answer."""

    def __init__(self, versions: Versions, ask: Callable[[dict[str, Any]], dict[str, Any]], number: int) -> None:
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()
        self.seen: set[tuple[int, str]] = set()
        self.last: tuple[int, str] | None = None
        self.stop = threading.Event()
        self._versions, self._ask, self._number = versions, ask, number
        self.start()

    def run(self) -> None:
        asked = self._number
        while not self.stop.is_set():
            asked += CLIENTS
            request = {"uid": f"u{asked % USERS:05d}", "scene_id": "home_feed", "size": SIZE}
            self.counts["requests"] += 1
            try:
                reply = self._ask(request)
            except Exception as error:
                self.counts["failed"] += 1
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                continue
            if reply["code"] != 200 or len(reply["items"]) != SIZE:
                self.counts["failed"] += 1
                continue
            version = self._versions.version_of(reply["items"])
            if version is None:
                self.counts["mixed"] += 1
                print(f"mixed: {reply}", file=sys.stderr)
            elif version not in self._versions.pairs and version[0] not in self._versions.through_current:
                self.counts["never_current"] += 1
                print(f"{version} was never current", file=sys.stderr)
            else:
                self.seen.add(version)
            self.last = version


def swaps(
    versions: Versions, ask: Callable[[dict[str, Any]], dict[str, Any]], times: int, rng: random.Random
) -> Counter[str]:
    """Swap `times`; each new version must come to all who ask, each broken one to nobody."""
    totals: Counter[str] = Counter()
    clients = [Asking(versions, ask, number) for number in range(CLIENTS)]
    try:
        for _ in range(times):
            if rng.random() < 0.25:
                versions.broken()
                time.sleep(4 * RELOAD_SECONDS)
                totals["broken"] += 1
                replace(versions.world)
                continue
            versions.next()
            totals["swaps"] += 1
            deadline = time.monotonic() + SOON
            wanted = (versions.number, versions.current)
            while any(client.last != wanted for client in clients) and time.monotonic() < deadline:
                time.sleep(0.002)
            totals["late"] += any(client.last != wanted for client in clients)
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(30)
    for client in clients:
        totals += client.counts
    totals["versions"] = len(set().union(*(client.seen for client in clients)))
    totals["unseen"] = len(versions.pairs) - totals["versions"]
    return totals


def engine(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    rng = random.Random(seed)
    versions = Versions(place, rng)
    path = versions.world.write()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # threads change places often
    try:
        with Engine.from_config(path) as made:
            Reloader(made, path).follow()

            def ask(request: dict[str, Any]) -> dict[str, Any]:
                reply = made.recommend(request)
                items = [
                    {"item_id": item.item_id, "score": item.score, "retrieve_id": item.retrieve_id, **item.extra}
                    for item in reply.items
                ]
                return {"code": reply.code, "items": items}

            return swaps(versions, ask, times, rng)
    finally:
        sys.setswitchinterval(interval)


def server(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    rng = random.Random(seed)
    versions = Versions(place, rng)
    with Server(versions.world, workers=2) as served:

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            status, body = served.ask(FEED, request)
            reply = json.loads(body) if status == 200 else {"code": status, "items": []}
            return reply | {"items": [item | item.get("extra", {}) for item in reply["items"]]}

        totals = swaps(versions, ask, times, rng)
        code, _ = served.end(15)
        totals["exit"] = code
        return totals


NEVER = ("failed", "mixed", "never_current", "late")
ROWS = {
    "engine": Row(engine, 200, (*NEVER, "unseen"), ("requests", "swaps", "broken", "versions")),
    "server": Row(server, 50, (*NEVER, "exit"), ("requests", "swaps", "broken", "versions")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.reload", __doc__ or "", ROWS))
