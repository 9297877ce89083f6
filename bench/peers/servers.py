"""Servers in processes of their own, all pinned to one core, and the client that asks them from another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.openloop import Stream, run

ROOT = Path(__file__).resolve().parents[2]
PATH = "/api/rec/feed"
SERVER_CORE, CLIENT_CORE = 0, 1
READY_SECONDS = 300  # a peer loads its index and compiles its forest, at first
HOLDS_BACK = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # where set, they slow NumPy down
UVICORN = [
    "-m", "uvicorn", "--factory", "--loop", "uvloop", "--http", "httptools", "--log-level", "error", "--no-access-log",
    "--no-server-header", "--no-date-header",
]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """Of a child: one thread for every library, nothing that holds one back, this checkout's modules."""
    known = {name: value for name, value in os.environ.items() if name not in HOLDS_BACK}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
    return known | threads | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"} | more


class Server:
    """One worker on a free port; `name` is that in the table."""

    def __init__(self, name: str, config: Path, data: Path) -> None:
        self.name, self.port = name, free_port()
        self._scratch = tempfile.TemporaryDirectory(prefix="peers-")
        folder = Path(self._scratch.name)
        more = {"PEERS_DATA": str(data), "PEERS_STACK": name}
        if name in ("serve", "uvicorn"):
            written = folder / "engine.json"
            written.write_text(json.dumps(_settled(config, self.port)))
            more |= {"PAIREC_CONFIG": str(written)}
            line = ["-m", "pairec_fast", "serve", "--config", str(written), "--workers", "1"]
            if name == "uvicorn":
                line = [*UVICORN, "--port", str(self.port), "pairec_fast.app:create"]
        else:
            line = [*UVICORN, "--port", str(self.port), "bench.peers.app:create"]
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [*pinned(SERVER_CORE), sys.executable, *line], stdout=said, stderr=said, cwd=folder,
                env=environment(**more), start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until it is ready.

        Raises:
            SystemExit: it ended, or is not; with what it said.
        """
        deadline = time.monotonic() + READY_SECONDS
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{self.name} did not start:\n{self._said.read_text()}")

    def ask(self, body: bytes) -> Any:
        """What it answers, decoded."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{PATH}", body, timeout=30) as answer:
            return json.loads(answer.read())

    def cpu_seconds(self) -> float:
        """Of all its processes and threads so far."""
        return sum(_cpu_ns(pid) for pid in _family(self._process.pid)) / 1e9

    def resident_bytes(self) -> int:
        pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self._process.pid))
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._scratch.cleanup()


def _settled(config: Path, port: int) -> dict[str, Any]:
    """The configuration for another folder and port."""
    conf: dict[str, Any] = json.loads(config.read_text())
    conf["ListenConf"] = {"HttpAddr": "127.0.0.1", "HttpPort": port}
    conf["SnapshotConf"] |= {"Directory": str(config.parent / conf["SnapshotConf"]["Directory"])}
    return conf


def _family(pid: int) -> Iterator[int]:
    """A process and all that came of it. Those that end meanwhile are left out."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _cpu_ns(pid: int) -> int:
    """On-CPU time of its threads, to the nanosecond."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def pinned(core: int) -> list[str]:
    """Of a command line, in front; nothing where there is one core, or no taskset."""
    cores = os.sched_getaffinity(0)
    return ["taskset", "-c", str(core)] if {SERVER_CORE, CLIENT_CORE} <= cores else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """Asks for recommendations, from the other core, over sixteen connections that are kept alive."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._bodies = bodies

    def load(self, server: Server, seconds: float, rate: float, seed: int, connections: int = 16) -> dict[str, float]:
        """`rate` arrivals a second, or as many as are answered if it is 0. `due` requests, of which so many were
        `answered` and `refused`; `offered` and, answered in time, `rate` a second; `p50` and `p99` in microseconds from
        when one was due, waits of those that were never answered included; `cpu`: microseconds of the server's CPU for
        an answer of 200.

        Raises:
            SystemExit: there was none.
        """
        before = server.cpu_seconds()
        stream = Stream(PATH, self._bodies, rate, connections)
        (outcomes,) = run(
            server.port, [stream], seconds, seed=seed + 1, cpu=CLIENT_CORE if pinned(CLIENT_CORE) else None
        )
        cpu, rows = server.cpu_seconds() - before, outcomes.rows
        answered = outcomes.count(200)
        if not answered:
            raise SystemExit(f"{server.name} answered nothing: {outcomes.summary()}")
        waited = rows["us"][(rows["status"] == 200) | (rows["status"] < 0)]
        in_time = np.count_nonzero((rows["status"] == 200) & (rows["due_s"] + rows["us"] / 1e6 <= seconds))
        return {
            "due": len(rows), "offered": len(rows) / seconds, "answered": answered, "rate": float(in_time) / seconds,
            "refused": len(rows) - len(waited), "p50": float(np.percentile(waited, 50)),
            "p99": float(np.percentile(waited, 99)), "cpu": cpu * 1e6 / answered,
        }  # fmt: skip
