"""What the server costs around a walk: processor time of a request, by server, front and connections.

    python -m bench.bench_http [--rounds 5] [--seconds 1] [--connections 1 4 16 64] [--config engine.json]

All servers are up on one core, the client is on the other, and they are asked in turns, round after round; a cell is
the least and the median of the rounds, microseconds of all threads of the server. `ours` answers `/api/rec/feed` with a
recommendation made beforehand: all of the application is in it but the walk. `json` decodes the body and encodes the
same answer with msgspec, `empty` answers with constant bytes: both read the body, and send headers made beforehand.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.openloop import Stream, run
from bench.servers import Served, asked, configured
from pairec_fast.build import build
from pairec_fast.learn.demo import Demo

FEED = "/api/rec/feed"
ROWS = [
    ("http1", "ours-stood"), ("rsgi", "ours-stood"), ("rsgi", "json"), ("rsgi", "empty"), ("asgi", "ours-stood"),
    ("asgi", "json"), ("asgi", "empty"), ("uvicorn", "ours-stood"), ("uvicorn", "json"), ("protocol", "json"),
]  # fmt: skip
# What answers are compared to: the same server with a handler that does next to nothing. For our own that is a protocol
# written by hand, and Granian, on which it would run otherwise.
LEAST = [("http1", "protocol"), ("http1", "rsgi"), ("rsgi", "rsgi"), ("asgi", "asgi"), ("uvicorn", "uvicorn")]


def made(folder: Path) -> Path:
    """A small shop, where none is given."""
    demo = Demo("world", folder, 3_000, 800, 1, 0)
    demo.make(build, lambda line: None, lambda step, done, total: None)
    return demo.config


def users_of(config: Path) -> list[str]:
    """Of the demo world: they are numbered."""
    from pairec_fast import Engine  # here, for its log and ring are open as long as it is

    with Engine.from_config(config) as engine:
        ids = engine.snapshot.users.ids
        return [ids.id(row) for row in range(min(len(ids), 5_000))]


def _installed(server: str) -> bool:
    needs = {"uvicorn": "uvicorn", "protocol": "httptools"}.get(server, "granian")
    if importlib.util.find_spec(needs) is not None:
        return True
    print(f"{server}: left out, {needs} is not installed", file=sys.stderr)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--path", action="append", default=[], help="of modules for uvicorn, such as another uvloop")
    given = parser.parse_args()
    taken: dict[tuple[str, str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = configured(given.config or made(Path(folder)), Path(folder), {"InFlightMax": 256})
        bodies = asked(users_of(config))
        rows = [(server, application, "") for server, application in ROWS if _installed(server)]
        rows += [("uvicorn", "ours-stood", path) for path in given.path]
        served = {}
        for server, application, path in rows:
            environment = {"PYTHONPATH": path} if path else {}
            one = Served(server, application, config, cpu=0, environment=environment)
            served[f"{server}{' with ' + path if path else ''}", application] = stack.enter_context(one)
        for _ in range(given.rounds):
            for connections in given.connections:
                for (server, application), one in served.items():
                    stream = Stream(FEED, bodies, connections=connections)
                    before = one.cpu_ns()
                    (outcomes,) = run(one.port, [stream], given.seconds, cpu=1)
                    if outcomes.count(200) != len(outcomes.rows):
                        raise RuntimeError(f"{server} {application}: {outcomes.summary()}")
                    cost = (one.cpu_ns() - before) / 1e3 / len(outcomes.rows)
                    taken.setdefault((server, application, connections), []).append(cost)
    print("CPU of a request in microseconds, least / median of rounds")
    print(f"{'server':>28} {'application':>12}" + "".join(f"{f'c={count}':>18}" for count in given.connections))
    for server, application in served:
        cells = [taken[server, application, count] for count in given.connections]
        figures = "".join(f"{f'{min(cell):.1f} / {np.median(cell):.1f}':>18}" for cell in cells)
        print(f"{server:>28} {application:>12}{figures}")
    for server, least in LEAST:
        for other in ("json", "empty"):
            if (least, other) in served and (server, "ours-stood") in served:
                ratios = [
                    np.median(np.array(taken[server, "ours-stood", count]) / np.array(taken[least, other, count]))
                    for count in given.connections
                ]
                print(f"{server:>28} {f'/ {least} {other}':>15}" + "".join(f"{ratio:>18.2f}" for ratio in ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())
