"""What logging costs: `/api/callback` beside an empty handler, `recommend` with and without, rows to Kafka.

    python -m bench.bench_log [callback] [recommend] [kafka] [--rounds N] [--config engine.json]

Prints one table each; without a name, all three. Servers have one worker and the options of `pairec-fast serve`, and
are asked in turns, round after round; a line shows medians of rounds, a share is the median of the rounds' shares. CPU
is that of all threads of the worker, the flush thread's included. The empty handlers, one for each interface of
Granian, read the body and answer with a constant as long as the real answer.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.openloop import Stream, run
from bench.servers import ROOT, Bare, cpu_ns
from pairec_fast import Engine
from pairec_fast.build import build
from pairec_fast.callback import Record, encode
from pairec_fast.core.kafka import KafkaLog
from pairec_fast.errors import PairecError
from pairec_fast.learn.demo import Demo
from pairec_fast.messages import RecommendRequest
from pairec_fast.serve import granian
from pairec_fast.sink.kafka import check_library, libraries

ITEMS, CONNECTIONS, PARTITIONS = 20, 16, 4
ANSWER = b'{"code":200,"msg":"success","request_id":"%036d"}' % 0


def create_empty() -> Any:
    return Bare(lambda body: ANSWER, ANSWER)


@dataclass
class Served:
    """One worker behind a port, and what it was measured at, round by round."""

    pid: int
    port: int
    figures: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, path: str, bodies: Path, *, connections: int, seconds: float, rate: float = 0.0) -> None:
        """Requests answered a second, microseconds of their times, and of the server's CPU for each.

        Raises:
            RuntimeError: a request was not answered 200: the figures would be of refusals.
        """
        stream = Stream(path, bodies.read_bytes().splitlines(), rate, connections, arrivals="even")
        before = cpu_ns(self.pid)
        (outcomes,) = run(self.port, [stream], seconds)
        cpu, us = cpu_ns(self.pid) - before, outcomes.of(200)
        if len(us) < len(outcomes.rows):
            raise RuntimeError(f"{path}: not all were answered: {outcomes.summary()}")
        p50, p99 = np.percentile(us, [50, 99]).tolist()
        figures = {"requests": len(us), "rate": len(us) / seconds, "p50": p50, "p99": p99, "cpu": cpu / 1e3 / len(us)}
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return float(np.median(self.figures[name]))


@contextlib.contextmanager
def served(factory: str, config: Path | None = None, front: str = "http1") -> Iterator[Served]:
    """What `factory` makes, on a free port; with the configuration, if there is one, as the application's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "bench.bench_log", "--serve", factory, "--port", str(port), "--front", front]
    environment = os.environ | ({"PAIREC_CONFIG": str(config)} if config else {})
    with tempfile.TemporaryFile() as said:
        parent = subprocess.Popen(line, cwd=ROOT, env=environment, start_new_session=True, stderr=said)
        try:
            wait_for(parent, port)
        except RuntimeError as error:
            said.seek(0)
            raise RuntimeError(f"{error}:\n{said.read().decode()}") from None
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        (worker,) = (pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        yield Served(int(worker), port)
    finally:
        parent.send_signal(signal.SIGTERM)
        parent.wait(30)


def wait_for(parent: subprocess.Popen[bytes], port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and parent.poll() is None:
        try:
            with opener.open(f"http://127.0.0.1:{port}/readyz", b"{}", timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the server did not start")


class Shop:
    """Configurations on one snapshot, each with a log and a ring of its own; rings on tmpfs, as in service."""

    def __init__(self, folder: Path, config: Path | None) -> None:
        self.folder = folder
        self._rings = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        if config is None:
            demo = Demo("world", folder, 3_000, 800, 1, 0)
            demo.make(build, lambda line: None, lambda step, done, total: None)
            config = demo.config
        self.conf: dict[str, Any] = json.loads(config.read_text())
        self.conf["SnapshotConf"]["Directory"] = str(config.parent / self.conf["SnapshotConf"]["Directory"])
        with Engine.from_config(self.config("look", False)) as engine:
            users, items = engine.snapshot.users.ids, engine.snapshot.items.ids
            chosen = random.Random(1)
            self.users = [users.id(chosen.randrange(len(users))) for _ in range(2_000)]
            self.items = [items.id(chosen.randrange(len(items))) for _ in range(2_000)]

    def config(self, name: str, automatic: bool) -> dict[str, Any]:
        scene = {"AutoInvokeCallBack": automatic, "AutoInvokeCallBackRate": 0}  # 0 is every request
        scenes = {"home_feed": {"default": self.conf["SceneConfs"]["home_feed"]["default"] | scene}}
        callback = self.conf["CallBackConfs"]["home_feed"] | {"ItemSize": ITEMS, "ItemSizeRate": 0}
        logs = {each: {"Directory": str(self.folder / f"log-{name}-{each}")} for each in self.conf["DiskConfs"]}
        return self.conf | {
            "SceneConfs": self.conf["SceneConfs"] | scenes, "CallBackConfs": {"home_feed": callback},
            "DiskConfs": logs, "LogRingConf": {"Directory": f"{self._rings.name}/{name}"},
            "LimitConf": {"InFlightMax": CONNECTIONS},
        }  # fmt: skip

    def write(self, name: str, automatic: bool = False) -> Path:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(self.config(name, automatic)))
        return path

    def bodies(self, name: str, make: Callable[[int], dict[str, Any]], count: int = 500) -> Path:
        path = self.folder / f"{name}.txt"
        path.write_text("".join(json.dumps(make(number), separators=(",", ":")) + "\n" for number in range(count)))
        return path

    def shown(self, number: int) -> dict[str, Any]:
        """A callback of 20 items: about 1 KB."""
        chosen = random.Random(number)
        features = {"city": "beijing", "os": "ios", "age": chosen.randrange(80), "hour": chosen.randrange(24)}
        items = [{"item_id": chosen.choice(self.items), "event": "expose", "position": n} for n in range(ITEMS)]
        return {
            "uid": chosen.choice(self.users), "scene_id": "home_feed", "request_id": f"{number:036d}",
            "features": features, "request_info": {"page": "home"}, "item_list": items,
        }  # fmt: skip

    def asked(self, number: int) -> dict[str, Any]:
        return {"uid": self.users[number % len(self.users)], "scene_id": "home_feed", "size": ITEMS}


def callbacks(shop: Shop, rounds: int, seconds: float) -> dict[str, Served]:
    """`/api/callback` and empty handlers, in turns. Shares are of the ASGI one."""
    bodies = shop.bodies("callbacks", shop.shown)
    print(f"/api/callback, {bodies.stat().st_size // 500} bytes, {ITEMS} items, {CONNECTIONS} connections, one worker")
    with (
        served("bench.bench_log:create_empty", front="asgi") as nothing,
        served("bench.bench_log:create_empty", front="rsgi") as least,
        served("pairec_fast.app:create", shop.write("callback")) as log,
    ):
        servers = {"empty, ASGI": nothing, "empty, RSGI": least, "/api/callback": log}
        for round_ in range(-1, rounds):
            for server in servers.values():
                server.measure("/api/callback", bodies, connections=CONNECTIONS, seconds=seconds)
                if round_ < 0:  # to warm up
                    server.figures.clear()
    print_row("", "requests/s", "share", "CPU us", "share of CPU")
    for name, server in servers.items():
        rate, cpu = (np.array(server.figures[each]) / nothing.figures[each] for each in ("rate", "cpu"))
        parts = f"{np.median(rate):.2f}", f"{server.median('cpu'):.1f}", f"{np.median(1 / cpu):.2f}"
        print_row(name, f"{server.median('rate'):,.0f}", *parts)
    return servers


def recommends(shop: Shop, rounds: int, seconds: float, calls: int) -> dict[str, dict[str, float]]:
    """`recommend` with the automatic callback and without it: in process call by call, then over HTTP in turns."""
    print(f"Engine.feed, and the automatic callback of {ITEMS} items after it, us")
    with Engine.from_config(shop.config("off", False)) as off, Engine.from_config(shop.config("on", True)) as on:
        figures = in_process({"off": off, "on": on}, shop, rounds, calls)
        logged = on.metrics.text(on.gauges())
    if "log_dropped_total" in logged:
        raise RuntimeError("callbacks were dropped: the figures would be of refusals")
    print_row("logging", "p50", "p99", "p50 with after", "p99 with after", "CPU")
    for name, each in figures.items():
        print_row(name, *(f"{value:.0f}" for value in each.values()))
    print_row("on / off", *(f"{figures['on'][each] / value:.3f}" for each, value in figures["off"].items()))

    bodies = shop.bodies("requests", shop.asked)
    print("/api/rec/feed over HTTP, 4 connections, us: as many as are answered, then 400 a second")
    print_row("logging", "requests/s", "p50", "p99", "CPU", "p50 at 400/s", "p99 at 400/s")
    with (
        served("pairec_fast.app:create", shop.write("http-off")) as off_,
        served("pairec_fast.app:create", shop.write("http-on", True)) as on_,
    ):
        lines = dict[str, list[float]]()
        for rate in (0, 400):
            for each in (off_, on_):
                each.figures.clear()
            for round_ in range(rounds):
                for server in (off_, on_) if round_ % 2 else (on_, off_):
                    server.measure("/api/rec/feed", bodies, connections=4, seconds=seconds, rate=rate)
            for name, server in (("off", off_), ("on", on_)):
                wanted = ("p50", "p99") if rate else ("rate", "p50", "p99", "cpu")
                lines.setdefault(name, []).extend(server.median(figure) for figure in wanted)
    for name, line in lines.items():
        print_row(name, *(f"{value:,.0f}" for value in line))
    print_row("on / off", *(f"{with_ / without:.3f}" for with_, without in zip(lines["on"], lines["off"], strict=True)))
    return figures


def in_process(engines: dict[str, Engine], shop: Shop, rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Medians of rounds; each user is asked for by every engine, one after the other, who is first by turns."""
    clock, cpu = time.perf_counter_ns, time.thread_time_ns
    figures: dict[str, list[list[float]]] = {name: [] for name in engines}
    for round_ in range(-1, rounds):
        taken: dict[str, list[tuple[int, int, int]]] = {name: [] for name in engines}
        for number in range(calls):
            request = RecommendRequest(**shop.asked(number))
            for name, engine in list(engines.items())[:: 1 if number % 2 else -1]:
                before, begin = cpu(), clock()
                _, after = engine.feed(request)
                answered = clock()
                after()
                taken[name].append((answered - begin, clock() - begin, cpu() - before))
        if round_ < 0:  # to warm up
            continue
        for name, each in taken.items():
            answer, whole, used = np.array(each).T / 1000
            figures[name].append([*np.percentile(answer, [50, 99]), *np.percentile(whole, [50, 99]), used.mean()])
    names = ("p50", "p99", "whole p50", "whole p99", "cpu")
    return {
        name: dict(zip(names, np.median(rounds_, axis=0).tolist(), strict=True)) for name, rounds_ in figures.items()
    }


def payload(number: int) -> bytes:
    """A callback of 20 items with eight features each."""
    chosen = random.Random(number)
    items = [
        {"item_id": f"i{chosen.randrange(10**6):06d}", "score": chosen.random(), "category": "phones"}
        | {f"feature_{n}": chosen.random() for n in range(6)}
        for _ in range(ITEMS)
    ]
    features = {"city": "beijing", "age": number % 90}
    positions = list(range(ITEMS))
    return encode(
        Record("home_feed", f"{number:036d}", number, f"u{number % 999}", features, {}, items, "", "f", positions)
    )


def to_kafka(servers: str, topic: str, records: int, folder: Path) -> dict[str, float]:
    """Rows a second from the first push until all are acknowledged, and CPU of all threads of this process a row."""
    payloads = [payload(number) for number in range(200)]
    log = KafkaLog(folder / "spill", folder / "ring", servers=servers, topic=topic, library=libraries())
    try:
        log.push(payloads[0])
        if not log.flush(60):  # connected, and the topic known
            raise RuntimeError(f"{servers} does not acknowledge")
        begin, cpu = time.perf_counter(), time.process_time()
        for number in range(records):
            while not log.try_push(payloads[number % len(payloads)]):
                time.sleep(0.0005)
        if not log.flush(300):
            raise RuntimeError(f"{servers} did not acknowledge all in 300 s")
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        counts = log.counters()
    finally:
        log.close(10)
    if counts["delivered"] != records + 1:
        raise RuntimeError(f"of {records + 1} callbacks {counts['delivered']} were delivered")
    rows = records * (1 + ITEMS)
    return {"records/s": records / seconds, "rows/s": rows / seconds, "CPU us/row": cpu * 1e6 / rows}


@contextlib.contextmanager
def brokers(kind: str, folder: Path) -> Iterator[str]:
    """The address of brokers with a topic `rows`. What starts them is among the tests, and need not be installed."""
    if kind == "mock":
        mock = importlib.import_module("tests.faults.mockd").Mock(check_library()[0])
        try:
            mock.tell("topic", "rows", PARTITIONS)
            yield mock.servers
        finally:
            mock.close()
    else:
        with importlib.import_module("tests.services.kafka").Kafka(folder) as broker:
            broker.start()
            broker.create("rows", PARTITIONS)
            yield broker.bootstrap


def kafkas(rounds: int, records: int) -> dict[str, list[dict[str, float]]]:
    """KafkaLog to librdkafka's mock cluster and to Apache Kafka, each left out where it cannot be started."""
    print(f"KafkaLog, callbacks of {len(payload(1)):,} bytes, {1 + ITEMS} rows each, acks=all")
    figures: dict[str, list[dict[str, float]]] = {}
    print_row("brokers", "callbacks/s", "rows/s", "CPU us/row")
    for kind in ("mock", "Apache Kafka"):
        try:
            with tempfile.TemporaryDirectory() as folder, brokers(kind, Path(folder)) as servers:
                for round_ in range(rounds):
                    home = Path(folder) / f"log-{round_}"
                    home.mkdir()
                    figures.setdefault(kind, []).append(to_kafka(servers, "rows", records, home))
        except (PairecError, *missing()) as reason:
            print(f"{kind}: left out, {reason}", file=sys.stderr)
            continue
        medians = [np.median([each[name] for each in figures[kind]]) for name in figures[kind][0]]
        print_row(kind, *(f"{value:,.0f}" for value in medians[:2]), f"{medians[2]:.2f}")
    return figures


def missing() -> tuple[type[Exception], ...]:
    return (importlib.import_module("tests.services.process").Missing,)


def print_row(*cells: object) -> None:
    print(" ".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=["callback", "recommend", "kafka", []], help="all, if none is named")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each server in a round")
    parser.add_argument("--calls", type=int, default=1_000, help="of each engine in a round")
    parser.add_argument("--records", type=int, default=10_000, help="callbacks to Kafka in a round")
    parser.add_argument("--config", type=Path, help="engine.json to measure, instead of a small shop made for it")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--front", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        granian(given.serve, "127.0.0.1", given.port, front=given.front).serve()
        return 0
    wanted = given.what or ["callback", "recommend", "kafka"]
    with tempfile.TemporaryDirectory() as folder:
        if wanted != ["kafka"]:
            shop = Shop(Path(folder), given.config)
            if "callback" in wanted:
                callbacks(shop, given.rounds, given.seconds)
            if "recommend" in wanted:
                recommends(shop, given.rounds, given.seconds, given.calls)
    if "kafka" in wanted:
        kafkas(given.rounds, given.records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
