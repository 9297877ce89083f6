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

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
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
        if name in ("granian", "uvicorn"):
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
    """client.cpp, compiled into `folder`."""

    def __init__(self, folder: Path, bodies: Sequence[bytes]) -> None:
        """Raises SystemExit: it cannot be compiled."""
        self._program, self._bodies = folder / "client", folder / "bodies"
        self._bodies.write_bytes(b"\n".join(bodies) + b"\n")
        try:
            subprocess.run(["g++", "-std=c++20", "-O2", str(HERE / "client.cpp"), "-o", str(self._program)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"the client is compiled at first use: {error}") from error

    def load(self, server: Server, seconds: float, rate: float, seed: int, connections: int = 16) -> dict[str, float]:
        """What client.cpp prints, and `cpu`: microseconds of the server's CPU for an answer of 200.

        Raises:
            SystemExit: there was none.
        """
        before = server.cpu_seconds()
        numbers = (str(connections), str(seconds), str(rate), str(seed))
        said = subprocess.run(
            [*pinned(CLIENT_CORE), str(self._program), str(server.port), PATH, str(self._bodies), *numbers],
            check=True, stdout=subprocess.PIPE, timeout=10 * seconds + 60,
        ).stdout  # fmt: skip
        figures: dict[str, float] = json.loads(said)
        if not figures["answered"]:
            raise SystemExit(f"{server.name} answered nothing: {figures}")
        figures["cpu"] = (server.cpu_seconds() - before) * 1e6 / figures["answered"]
        return figures
