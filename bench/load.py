"""A load generator for servers on loopback: a process of its own, keep-alive connections, requests made beforehand.

    python -m bench.load PORT PATH BODIES [--connections 16] [--seconds 2] [--rate 0]

BODIES is a file with one body a line. Without a rate each connection sends its next request when it has its answer;
with one, requests are due at even times, and latency counts from when one was due, however late it was sent. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


class Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._got = b""

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.socket.sendall(request)

    def status(self) -> str:
        """Of the answer, once it is whole; "" before."""
        part = self.socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the server closed the connection")
        self._got = got = self._got + part if self._got else part
        head = got.find(b"\r\n\r\n")
        if head < 0:
            return ""
        name = got.find(b"content-length: ", 0, head) + 16
        if len(got) < head + 4 + int(got[name : got.find(b"\r", name)]):
            return ""
        self._got = b""
        return got[9:12].decode()


def run(port: int, path: str, bodies: list[bytes], connections: int, seconds: float, rate: float) -> dict[str, Any]:
    """Requests answered in `seconds`, how long they took in microseconds, and how many ended with each status."""
    made = [
        b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (path.encode(), len(body), body)
        for body in bodies
    ]
    requests, clock = itertools.cycle(made), time.perf_counter
    idle = [Connection(port) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for connection in idle:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    statuses, taken = Counter[str](), list[float]()
    begin = clock()
    end, due, busy = begin + seconds, begin, 0
    while True:
        now = clock()
        while idle and now < end and (not rate or due <= now):
            idle.pop().send(next(requests), due if rate else now)
            due += 1 / rate if rate else 0
            busy += 1
        if not busy and now >= end:
            break
        # A pause shorter than a timer's tick is spun away, or every request would be sent late.
        pause = None if not rate or not idle else 0 if due - now < 0.002 else due - now - 0.001
        for key, _ in selector.select(pause):
            if status := key.data.status():
                taken.append(clock() - key.data.due)
                statuses[status] += 1
                idle.append(key.data)
                busy -= 1
    took = clock() - begin
    for connection in idle:
        connection.socket.close()
    p50, p99 = np.percentile(np.array(taken) * 1e6, [50, 99]).round(1).tolist()
    return {"requests": len(taken), "rate": len(taken) / took, "p50": p50, "p99": p99, "statuses": dict(statuses)}


def load(pid: int, port: int, path: str, bodies: Path, **options: float) -> dict[str, Any]:
    """`run` in a child; with it `cpu`, microseconds that process `pid`, all its threads, took for a request.

    Raises:
        RuntimeError: a request was not answered 200: the figures would be of refusals.
    """
    line = [sys.executable, "-m", "bench.load", str(port), path, str(bodies)]
    line += [f"--{name}={value}" for name, value in options.items()]
    before = cpu_seconds(pid)
    said = subprocess.run(line, check=True, stdout=subprocess.PIPE, cwd=ROOT, timeout=120).stdout
    figures: dict[str, Any] = json.loads(said)
    figures["cpu"] = (cpu_seconds(pid) - before) * 1e6 / figures["requests"]
    if set(figures["statuses"]) != {"200"}:
        raise RuntimeError(f"{path}: answers by status: {figures['statuses']}")
    return figures


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, from /proc/PID/stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as many as are answered")
    given = parser.parse_args()
    bodies = given.bodies.read_bytes().splitlines()
    print(json.dumps(run(given.port, given.path, bodies, given.connections, given.seconds, given.rate)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
