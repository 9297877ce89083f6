"""Ours beside what a user would build instead, on the demo world: `python -m bench.peers`.

    a   FastAPI, uvicorn, hnswlib, LightGBM and NumPy
    b   the same with the best parts that install: ScaNN or faiss, whichever finds faster, and lleaves

Everybody has the same vectors, values and model, one worker on one core, and answers the same bodies in the same
shape; the client has the other core. First HTTP: sixteen connections, Poisson arrivals at rising load, in turns. Then
what they answer is compared: recall of the exact nearest, and the share of our best twenty that a peer has too. Then
CPU in one process, in turns again, and every stage alone.

`pip install '.[peers]'` brings the peers; a stack or a library that is not there is left out. The world (minutes to
build) and the indexes are kept in `--world`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

for _hindrance in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # before numpy comes in; where set they hold it back
    os.environ.pop(_hindrance, None)
for _threads in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):
    os.environ[f"{_threads}_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import orjson  # noqa: E402

from bench.peers import answers, data, offered, recall, stages, world  # noqa: E402
from bench.peers.offered import Load  # noqa: E402
from bench.peers.servers import SERVER_CORE, Client, Server  # noqa: E402
from bench.peers.stack import FORESTS, Stack, stack_of  # noqa: E402
from bench.recall import plot, report  # noqa: E402
from pairec_fast import Engine  # noqa: E402

CACHE = Path.home() / ".cache" / "pairec_fast" / "peers"
PARTS = ("answers", "process", "http", "stages")
OURS = {"serve": "pairec_fast", "uvicorn": "pairec_fast on uvicorn"}
FOREST_NAMES = {"a": "LightGBM", "b": "lleaves"}


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def title(name: str, folder: Path) -> str:
    """Of a stack: `FastAPI, hnswlib, LightGBM`."""
    if name in OURS:
        return OURS[name]
    return f"FastAPI, {recall.chosen(folder, recall.STACKS[name], say)[0].name}, {FOREST_NAMES[name]}"


def stacks_of(names: Sequence[str], folder: Path) -> dict[str, Stack]:
    """Those that can be made, by title."""
    found = {}
    for name in names:
        try:
            found[title(name, folder)] = stack_of(name, folder, say)
        except ImportError as error:
            say(f"{name}: left out, {error}")
    return found


def in_process(config: Path, folder: Path, options: argparse.Namespace, out: Callable[[str], None]) -> None:
    """Answers and their cost, everybody in this process."""
    os.sched_setaffinity(0, {SERVER_CORE} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    asked = answers.requests(folder)
    with Engine.from_config(config) as engine:
        stacks = stacks_of(options.peers, folder)
        if "answers" in options.only:
            of = recall.asked_set(folder)
            rows = []
            for name, stack in stacks.items():
                one = answers.agreement(engine, stack, asked, of)
                cells = [f"{one.recall:.3f}", f"{one.ours:.3f}", f"{one.overlap:.3f}"]
                rows.append([name, *cells, f"{one.same_bits:.0%}", f"{one.differ_most:.1e}"])
            head = ["", "finds of the 500 nearest", "ours finds", "of our 20", "scores same to the bit", "differ by"]
            out("\nAnswers\n\n" + report.table(head, rows))
        if "process" in options.only:
            found = answers.costs(engine, stacks, asked, options.rounds)
            out("\nIn one process, microseconds a request\n\n" + process_table(found))
        if "stages" in options.only:
            out("\nStage by stage\n\n" + stages.table(engine, config, folder, options.indexes, options.rounds, say))


def process_table(found: Mapping[str, answers.Cost]) -> str:
    rows = []
    for name, cost in found.items():
        base = found["pairec_fast, bytes" if name.endswith(", bytes") else "pairec_fast"]
        cells = [f"{cost.cpu / base.cpu:.1f}", f"{cost.cpu:,.0f}", f"{cost.cpu_p50:,.0f}", f"{cost.cpu_p99:,.0f}"]
        rows.append([name, *cells, f"{cost.wall_p50:,.0f}", f"{cost.wall_p99:,.0f}"])
    return report.table(["", "times ours", "CPU, turns", "CPU p50", "CPU p99", "wall p50", "wall p99"], rows)


def over_http(config: Path, folder: Path, options: argparse.Namespace, out: Callable[[str], None]) -> None:
    servers = [Server(name, config, folder) for name in (*options.ours, *options.peers)]
    try:
        bodies = [orjson.dumps(request) for request in answers.requests(folder)]
        client = Client(bodies)
        for server in servers:
            server.wait()
        shapes = {server.name: shape(server, bodies[0]) for server in servers}
        if len(set(shapes.values())) > 1:
            raise SystemExit(f"not everybody answers in one shape: {shapes}")
        loads = offered.measured(servers, client, options.seconds, options.rounds, say)
    finally:
        for server in servers:
            server.close()
    titled = {title(name, folder): each for name, each in loads.items()}
    ours = {title(name, folder) for name in options.ours}
    out("\nOver HTTP, one worker, 16 connections\n\n" + http_table(titled, ours))
    out("\nEvery load\n\n" + loads_table(titled))
    if options.plot:
        panels = {f"{what}, milliseconds": offered.curves(titled, what) for what in ("p50", "p99")}
        ticks = [10**power * step for power in range(1, 5) for step in (1, 3)]
        caption = f"latency against offered load, one worker on one core, {report.machine()}"
        plot.lines(panels, options.plot, caption, across="requests a second, offered", up="milliseconds", ticks=ticks)


def shape(server: Server, body: bytes) -> str:
    """The names in an answer, and how many items it has."""
    answer = server.ask(body)
    return f"{sorted(answer)}, {len(answer['items'])} of {sorted(answer['items'][0])}"


def http_table(loads: Mapping[str, Sequence[Load]], ours: set[str]) -> str:
    """What each sustains, and of each of ours how many times what each peer does at no higher p99."""
    rows = []
    for name, each in loads.items():
        most = offered.sustained(each)
        cells = [f"{most.rate:,.0f}", f"{most.p50 / 1e3:.2f}", f"{most.p99 / 1e3:.2f}", f"{most.cpu:,.0f}"]
        ahead = ["" if name in ours else f"{offered.ahead(loads[one], each):.1f}" for one in loads if one in ours]
        rows.append([name, *cells, *ahead])
    head = ["", "sustains a second", "p50 ms there", "p99 ms there", "CPU us a request"]
    return report.table([*head, *(f"{one}: times as many" for one in loads if one in ours)], rows)


def loads_table(loads: Mapping[str, Sequence[Load]]) -> str:
    rows = [
        [name, f"{load.offered:,.0f}", f"{load.rate:,.0f}", f"{load.p50 / 1e3:.2f}", f"{load.p99 / 1e3:.2f}",
         f"{load.cpu:,.0f}", f"{load.refused:.1%}"]
        for name, each in loads.items()
        for load in each
    ]  # fmt: skip
    return report.table(["", "offered", "answered", "p50 ms", "p99 ms", "CPU us", "refused"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__.split("\n")[0])
    parser.add_argument("--world", type=Path, default=CACHE, help="where the world and the indexes are kept")
    parser.add_argument("--config", type=Path, help="engine.json of a world made by this command, instead")
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--ours", nargs="+", choices=OURS, default=list(OURS), help="servers of ours")
    parser.add_argument("--peers", nargs="+", choices=FORESTS, default=list(FORESTS))
    parser.add_argument("--indexes", nargs="+", choices=recall.EVERY, default=recall.EVERY, help="of the stage alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one load of one server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw latency against offered load into this .svg or .png")
    parser.add_argument("--table", type=Path, help="write the tables into this .md besides")
    options = parser.parse_args()
    config = (options.config or world.made(options.world, options.items, options.users, say)).absolute()
    folder = data.exported(config)
    versions = ", ".join(f"{name} {version}" for name in data.PACKAGES if (version := report.version(name)))
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    lines = [
        f"{report.machine()}, load averages {busy} at the beginning; {data.item_count(folder):,} items x {world.DIM} "
        f"dims, {answers.ASKED:,} users in turn; {versions}"
    ]

    def out(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    print(lines[0], flush=True)
    if "http" in options.only:
        over_http(config, folder, options, out)
    if {"answers", "process", "stages"} & set(options.only):
        in_process(config, folder, options, out)
    if options.table:
        options.table.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
