"""Kill a real server under callbacks: every callback that was answered 200 is in the segments, once.

    python -m tests.faults.server [kill] [loop] [stop] [--times 50] [--seed 7]

`kill`: a worker of four is killed at random while clients send callbacks; it comes back. `loop`: the only worker is
killed as soon as it is back, until the server gives up, with an exit code that says so. `stop`: a server is told to
stop, or killed as a whole, at a random time, also while it starts and recovers what a killed one left. Clients may see
resets and 503, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

from pairec_fast.core import expand
from pairec_fast.core.ring import read_segments, verify_segments
from tests.faults.command import Row, main
from tests.servers import Client, Server
from tests.worlds import World, make_world

WORKERS = 4
UNBEGUN = (-signal.SIGTERM, 128 + signal.SIGTERM)  # the end of a program that has not begun to serve
SETTLED = 6.0  # seconds: Granian gives up when a worker dies within 5.5 s of its respawn


class Watcher(Client):
    """A client that counts the answers it did not expect."""

    def __init__(self, server: Server, name: str) -> None:
        self.strange: Counter[str] = Counter()
        super().__init__(server, name)

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # a body that is not what was asked for
            self.strange[type(error).__name__] += 1


def look(world: World, acknowledged: list[str]) -> Counter[str]:
    totals: Counter[str] = Counter(acknowledged=len(acknowledged))
    found: Counter[str] = Counter()
    for payload, _, _ in read_segments(world.log):
        users = [row for row in map(json.loads, expand(payload)) if row["module"] == "user"]
        totals["wrong"] += len(users) != 1
        found.update(row["request_id"] for row in users)
    totals["lost"] += len(set(acknowledged) - set(found))
    totals["duplicated"] += sum(count > 1 for count in found.values())
    totals["beyond_acknowledged"] += len(set(found) - set(acknowledged))
    for report in verify_segments(world.log):
        totals["unsound"] += bool(report["errors"]) or not report["closed"]
    return totals


def new_world(place: Path) -> World:
    engine_json = make_world(place / "demo")
    (place / "service").mkdir()
    world = World(engine_json, place / "service")
    world.conf["LogRingConf"]["RingBytes"] = 1 << 20
    return world


def ended(clients: list[Watcher], totals: Counter[str]) -> list[str]:
    for client in clients:
        client.stop.set()
    for client in clients:
        client.join(20)
        totals["strange_answers"] += sum(client.strange.values())
    return [one for client in clients for one in client.acknowledged]


def kill(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    rng, totals = random.Random(seed), Counter[str]()
    world, born, killed = new_world(place), dict[int, float](), set[int]()
    with Server(world, WORKERS) as server:
        clients = [Watcher(server, f"c{number}") for number in range(4)]
        born.update(dict.fromkeys(server.workers(), time.monotonic() - SETTLED))  # the first ones may die at once
        while totals["kills"] < times and server.process.poll() is None:
            time.sleep(rng.uniform(0, 0.3))
            workers, now = server.workers(), time.monotonic()
            settled = [pid for pid in workers if now - born.setdefault(pid, now) >= SETTLED and pid not in killed]
            if settled:
                pid = rng.choice(settled)
                killed.add(pid)  # and dies in its own time: it may be seen for a while
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    totals["kills"] += 1
        deadline = time.monotonic() + 60
        while len(back := set(server.workers()) - killed) < WORKERS and time.monotonic() < deadline:
            time.sleep(0.05)
        totals["not_back"] += len(back) < WORKERS
        time.sleep(0.5)
        code, seconds = server.end(signal.SIGTERM)
        totals["bad_end"] += code != 0 or seconds > 10
        acknowledged = ended(clients, totals)
        totals["complaints"] += "Traceback" in server.stderr.read_text()
    return totals + look(world, acknowledged)


def loop(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    totals, acknowledged = Counter[str](), list[str]()
    world = new_world(place)
    for number in range(times):
        with Server(world, 1) as server:
            clients = [Watcher(server, f"l{number}-{at}") for at in range(2)]
            deadline = time.monotonic() + 60
            while server.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.3)
                for pid in server.workers()[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        totals["kills"] += 1
            totals["bad_end"] += server.process.poll() in (None, 0)
            totals["ends"] += server.process.poll() not in (None, 0)
            acknowledged += ended(clients, totals)
    return totals + look(world, acknowledged)


class Unready(Server):
    """A server that is not waited for."""

    def wait(self) -> None:
        return


def stop(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    rng, totals, acknowledged = random.Random(seed), Counter[str](), list[str]()
    world = new_world(place)
    for number in range(times):
        with Unready(world, 2) as server:
            clients = [Watcher(server, f"s{number}-{at}") for at in range(2)]
            early = rng.random() < 0.4
            if not early:
                Server.wait(server)
            time.sleep(rng.uniform(0, 1.5 if early else 0.4))
            if rng.random() < 0.3:  # what it leaves is the next one's to recover
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()
                totals["killed"] += 1
            else:
                code, seconds = server.end(signal.SIGTERM)
                totals["before_it_began"] += code in UNBEGUN
                if code not in ((0, *UNBEGUN) if early else (0,)) or seconds > 10:
                    totals["bad_end"] += 1
                    print(f"stop {number}, early {early}: {code} after {seconds:.1f} s", file=sys.stderr)
                totals["stops"] += 1
                totals["end_ms_max"] = max(totals["end_ms_max"], round(1e3 * seconds))
            acknowledged += ended(clients, totals)
            said = server.stderr.read_text()
            if "Traceback" in said:
                totals["complaints"] += 1
                print(f"seed {seed}, stop {number}, early {early}: {said[-3000:]}", file=sys.stderr)
    with Server(world, 2) as server:
        totals["bad_end"] += server.end(signal.SIGTERM)[0] != 0
    return totals + look(world, acknowledged)


NEVER = ("lost", "duplicated", "wrong", "unsound", "strange_answers", "bad_end", "complaints")
ROWS = {
    "kill": Row(kill, 50, (*NEVER, "not_back"), ("acknowledged", "kills")),
    "loop": Row(loop, 3, NEVER, ("acknowledged", "kills", "ends")),
    "stop": Row(stop, 50, NEVER, ("acknowledged", "stops", "killed")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.server", __doc__ or "", ROWS))
