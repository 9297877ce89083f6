"""Ask a failing model server from many threads, and see that no score is anything but the server's own, or 0 and said.

    python -m tests.faults.remote --times 20000 [--seed 7]

The server answers as it should, or breaks the connection, hangs, answers with another status, with garbage, an item too
few, in chunks, or closes idle connections, at random. Every reply has all items; each item's score is exactly that of
the server, or 0 where the reply says that the algorithm was missed; the score of the algorithm beside it is always
there.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairec_fast import Engine
from tests.services.easyrec import TOKEN, EasyrecServer, score
from tests.worlds import World, make_world

FAILURES = ("status 500", "status 404", "drop", "garbage", "exception", "chunked", "close", "hang")
THREADS, ITEMS, BATCH = 8, 12, 5
RANK = {
    "RankAlgoList": ["ctr", "own"], "RankScore": "${ctr} + 10 * ${own}", "Processor": "EasyRec", "BatchCount": BATCH
}  # fmt: skip


def configured(world: World, server: EasyrecServer) -> Engine:
    world.scene["list"] = {"RecallNames": ["ContextItemRecall"]}
    world.conf |= {"FilterNames": {"default": []}, "SortNames": {"default": ["ItemRankScore"]}}
    world.conf["RankConf"]["home_feed"] = RANK
    eas = {
        "Processor": "EasyRec", "Url": server.url(), "Auth": TOKEN, "ResponseFuncName": "easyrecResponseFunc",
        "Timeout": 300, "RetryTimes": 2,
    }  # fmt: skip
    world.conf["AlgoConfs"] += [
        {"Name": "ctr", "Type": "EAS", "EasConf": eas},
        {"Name": "own", "Type": "LOOKUP", "LookupConf": {"FieldName": "boost"}},
    ]
    return world.engine()


def run(times: int, seed: int, world: World) -> Counter[str]:
    """Counts: requests, sound ones, degraded ones, and what must stay 0: wrong, missing, silent."""
    totals, lock = Counter[str](), threading.Lock()
    with EasyrecServer() as server, configured(world, server) as engine:

        def worker(number: int) -> None:
            rng = random.Random(f"{seed}/{number}")
            for turn in range(times // THREADS):
                if rng.random() < 0.2:
                    server.fail(rng.choice(FAILURES if rng.random() < 0.1 else FAILURES[:-1]))
                if rng.random() < 0.01:
                    server.break_connections()
                ids = [f"t{number}n{turn}i{place}" for place in range(rng.randint(1, ITEMS))]
                counts = one(engine, ids)
                with lock:
                    totals.update(counts)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(worker, range(THREADS)))
    return totals


def one(engine: Engine, ids: list[str]) -> Counter[str]:
    reply = engine.recommend(
        {
            "uid": "u00042", "scene_id": "home_feed", "category": "list", "size": len(ids),
            "item_list": [{"item_id": name, "boost": place} for place, name in enumerate(ids)],
        }
    )  # fmt: skip
    given = {item.item_id: item.score for item in reply.items}
    missed = 0
    counts = Counter(requests=1, missing=len(set(ids) - given.keys()))
    for place, name in enumerate(ids):
        if given.get(name) == 10 * place and score(name):
            missed += 1
        elif given.get(name) != score(name) + 10 * place:
            counts["wrong"] += 1
    said = [one for one in reply.degraded or () if one.startswith("ctr: ")]
    counts["silent"] += bool(missed) != bool(said)
    counts["degraded" if said else "sound"] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    logging.getLogger("pairec_fast").setLevel(logging.ERROR)  # each failure is a line
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        totals = run(options.times, options.seed, World(make_world(place / "world"), place))
    print(dict(totals))
    return int(bool(totals["wrong"] or totals["missing"] or totals["silent"] or not totals["degraded"]))


if __name__ == "__main__":
    sys.exit(main())
