"""Real servers in child processes, and a client that keeps its own account."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.worlds import CALLBACK, LOGGED, World, environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """`pairec-fast ARGUMENTS`, to its end."""
    line = [sys.executable, "-m", "pairec_fast", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment(), **options)


class Server:
    """The application on a free port and in a process group of its own: `pairec-fast serve`, or another server."""

    def __init__(self, world: World, workers: int = 1, *, front: str = "serve") -> None:
        """`front`: serve; asgi or rsgi, which is Granian as its user starts it; or uvicorn."""
        self.port = free_port()
        world.conf["ListenConf"] = {"HttpAddr": "127.0.0.1", "HttpPort": self.port}
        config = world.write()
        app, port = "pairec_fast.app:create", str(self.port)
        line = {
            "serve": ["pairec_fast", "serve", "--config", str(config), "--workers", str(workers)],
            "asgi": ["granian", "--interface", "asgi", "--factory", app, "--port", port, "--log-level", "warning"],
            "rsgi": ["granian", "--interface", "rsgi", "--factory", app, "--port", port, "--log-level", "warning"],
            "uvicorn": ["uvicorn", "--factory", app, "--port", port, "--log-level", "warning"],
        }[front]
        self.stderr = world.folder / "stderr"
        with self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *line], stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
                env=environment() | {"PAIREC_CONFIG": str(config)}, cwd=world.folder,
            )  # fmt: skip
        self.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> None:
        """Until it is ready."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(self.stderr.read_text())

    def ask(self, path: str, body: bytes | dict[str, Any] = b"", *, method: str = "POST") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            content = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, path, content)
            response = connection.getresponse()
            return response.status, response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(error) from error
        finally:
            connection.close()

    def workers(self) -> list[int]:
        """Process ids of what answers requests."""
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and self._is_worker(entry)
        ]  # fmt: skip

    def _is_worker(self, entry: Path) -> bool:
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            return parent == self.process.pid and b"spawn_main" in (entry / "cmdline").read_bytes()
        except OSError:  # it has just ended
            return False

    def end(self, number: int, *, group: bool = False) -> tuple[int, float]:
        """Send a signal to the parent, or to the whole group as Ctrl-C does. Answers exit code and seconds it took."""
        begin = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.process.wait(timeout=30), time.monotonic() - begin


class Client(threading.Thread):
    """Sends callbacks one after the other until told to stop; `acknowledged` are the ids that were answered 200."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(daemon=True)
        self.server, self.prefix = server, name
        self.acknowledged: list[str] = []
        self.stop = threading.Event()
        self.start()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            request_id = f"{self.prefix}-{number}"
            number += 1
            try:
                status, body = self.server.ask(CALLBACK, LOGGED | {"request_id": request_id})
            except OSError:
                time.sleep(0.005)
                continue
            if status == 200:
                assert json.loads(body)["request_id"] == request_id
                self.acknowledged.append(request_id)
