"""Overload: what a worker serves, refuses, and answers by what is popular, when more is asked than it can do.

    python -m bench.overload [--config engine.json] [--server http1] [--seconds 5] [--loads 0.5 1 1.5 3 10]
                             [--deadline 50] [--connections 64] [--set InFlightMax=8 ...]

The server is on one core, the client on the other. The capacity is what a closed loop of 8 connections is answered in
full, without its overload: the loads are multiples of it. Arrivals are Poisson, and a client that is not answered
within the deadline, milliseconds, closes its connection and opens another. Then callbacks at ten times the capacity,
beside recommendations at half of it, and those alone, in turns; who sends callbacks has as many connections, and waits
for as long as it takes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from pathlib import Path

import msgspec

from bench.bench_http import FEED, made, users_of
from bench.openloop import BROKEN, LATE, UNSENT, Outcomes, Stream, percentiles, run
from bench.servers import ITEMS, Served, asked, configured, memory

CALLBACK, MARK = "/api/callback", '"degraded":['


def callbacks(users: list[str], count: int = 1_000) -> list[bytes]:
    chosen = random.Random(2)
    return [
        msgspec.json.encode(
            {
                "uid": chosen.choice(users),
                "scene_id": "home_feed",
                "request_id": f"{number:036d}",
                "item_list": [{"item_id": f"i{chosen.randrange(600):06d}", "event": "click"} for _ in range(3)],
            }
        )
        for number in range(count)
    ]


def capacity(served: Served, bodies: list[bytes], seconds: float) -> float:
    """Full answers a second with 8 connections, each with one request under way."""
    run(served.port, [Stream(FEED, bodies, connections=8)], 1.0, cpu=1)
    (outcomes,) = run(served.port, [Stream(FEED, bodies, connections=8, mark=MARK)], seconds, cpu=1)
    return len(outcomes.of(200, marked=False)) / seconds


def row(name: str, outcomes: Outcomes, seconds: float, deadline: float, cpu: float, rss: float) -> str:
    """Goodput is of answers within the deadline, milliseconds; accepted are all that were answered 200."""
    rows = outcomes.rows
    good = rows[(rows["status"] == 200) & (rows["us"] <= (deadline or math.inf) * 1000)]
    full = int((good["marked"] == 0).sum())
    accepted, shed = percentiles(outcomes.of(200)), percentiles(outcomes.of(503))
    lost = sum(outcomes.count(status) for status in (LATE, UNSENT, BROKEN))
    cells = (
        f"{len(rows) / seconds:.0f}", f"{len(good) / seconds:.0f}", f"{full / seconds:.0f}",
        f"{1 - full / max(len(good), 1):.0%}", f"{accepted.get('p50', 0) / 1e3:.2f}",
        f"{accepted.get('p99', 0) / 1e3:.2f}", f"{outcomes.count(503) / seconds:.0f}",
        f"{shed.get('p50', 0) / 1e3:.2f}", f"{shed.get('p99', 0) / 1e3:.2f}", f"{lost / seconds:.0f}",
        f"{cpu:.0%}", f"{rss:.1f}",
    )  # fmt: skip
    return f"{name:>22}" + "".join(f"{cell:>10}" for cell in cells)


HEAD = f"{'':>22}" + "".join(
    f"{name:>10}"
    for name in ("offered", "good", "full", "degraded", "ok p50", "ok p99", "503", "503 p50", "503 p99", "lost", "cpu",
                 "rss MB")
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--server", default="http1", choices=("http1", "rsgi", "asgi", "uvicorn"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--loads", type=float, nargs="*", default=[0.5, 1.0, 1.5, 3.0, 10.0])
    parser.add_argument("--deadline", type=float, default=50.0, help="milliseconds")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--set", nargs="*", default=[], help="of LimitConf, as NAME=NUMBER")
    parser.add_argument("--callbacks", type=int, default=3, help="turns of callbacks beside recommendations")
    given = parser.parse_args()
    limits = {name: json.loads(value) for name, value in (one.split("=") for one in given.set)}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        config = configured(given.config or made(folder / "shop"), folder, limits)
        users = users_of(config)
        bodies, logged = asked(users), callbacks(users)
        with Served(given.server, "ours", config, cpu=0) as served:
            most = capacity(served, bodies, given.seconds)
            print(f"{given.server}, LimitConf {limits}, {ITEMS} items; capacity {most:.0f} full answers a second")
            print(HEAD)

            def measure(name: str, streams: list[Stream]) -> list[Outcomes]:
                before = served.cpu_ns()
                every = run(served.port, streams, given.seconds, cpu=1)
                cpu = (served.cpu_ns() - before) / 1e9 / given.seconds
                rss = sum(memory(pid)["Pss"] for pid in served.pids) / 1e6
                for stream, outcomes in zip(streams, every, strict=True):
                    kind = "callbacks" if stream.path == CALLBACK else ""
                    print(row(f"{name} {kind}", outcomes, given.seconds, stream.deadline_ms, cpu, rss), flush=True)
                return every

            def feed(load: float) -> Stream:
                return Stream(FEED, bodies, load * most, given.connections, given.deadline, mark=MARK)

            for load in given.loads:
                measure(f"{load:g} x", [feed(load)])
            for _ in range(given.callbacks):
                beside = Stream(CALLBACK, logged, 10 * most, given.connections)
                measure("0.5 x alone", [feed(0.5)])
                measure("0.5 x beside", [feed(0.5), beside])
    return 0


if __name__ == "__main__":
    sys.exit(main())
