"""Load with an open loop: arrivals keep their times whatever the server does, and latency counts from when one was due.

    python -m bench.openloop PORT PATH BODIES --rate 1000 [--seconds 5] [--connections 64] [--deadline 50] [--cpu 1]

BODIES is a file with one body a line. At the deadline, milliseconds, the client gives up, closes and opens another
connection. `--rate 0` closes the loop: each connection sends its next request when it has its answer. Prints one JSON
object. The client is `load.cpp`, compiled at its first use.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SOURCE = Path(__file__).resolve().parent / "load.cpp"
OUTCOME = np.dtype([("due_s", "f8"), ("us", "f4"), ("status", "i2"), ("marked", "i2")])
# What is no HTTP status: given up after it was sent; no connection was free in time; the connection ended.
LATE, UNSENT, BROKEN = -1, -2, -3
NAMES = {LATE: "late", UNSENT: "unsent", BROKEN: "broken"}
SECONDS_MAX = 600  # a client that has not ended by then never will


@dataclass
class Stream:
    """Requests of one kind. `mark` is text whose presence in an answer's body is counted, as `marked`."""

    path: str
    bodies: Sequence[bytes]
    rate: float = 0.0
    connections: int = 64
    deadline_ms: float = 0.0
    arrivals: str = "poisson"
    mark: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcomes:
    """What became of the requests of a stream: [requests] OUTCOME, and how long the stream was sent for."""

    rows: NDArray[Any]
    seconds: float

    def of(self, status: int, marked: bool | None = None) -> NDArray[np.float32]:
        """Microseconds of the requests that ended so."""
        keep = self.rows["status"] == status
        if marked is not None:
            keep &= (self.rows["marked"] != 0) == marked
        return self.rows["us"][keep]

    def count(self, status: int) -> int:
        return int(np.count_nonzero(self.rows["status"] == status))

    def summary(self) -> dict[str, Any]:
        """By status: how many, how many a second, and their percentiles in microseconds."""
        found: dict[str, Any] = {"requests": len(self.rows), "offered": len(self.rows) / self.seconds}
        for status in sorted(set(self.rows["status"].tolist())):
            us = self.of(status)
            found[NAMES.get(status, str(status))] = {
                "count": len(us),
                "rate": round(len(us) / self.seconds, 1),
                "marked": int(np.count_nonzero(self.rows["marked"][self.rows["status"] == status])),
                **percentiles(us),
            }
        return found


def percentiles(us: NDArray[np.float32]) -> dict[str, float]:
    if not len(us):
        return {}
    parts = {"p50": 50, "p90": 90, "p99": 99, "p99.9": 99.9, "max": 100}
    return {name: round(float(np.percentile(us, part)), 1) for name, part in parts.items()}


def run(
    port: int, streams: Sequence[Stream], seconds: float, *, seed: int = 1, cpu: int | None = None
) -> list[Outcomes]:
    """Send all streams at once, from one thread on core `cpu`, for `seconds`; answers the outcomes of each.

    Raises:
        CalledProcessError: the client cannot be compiled, or cannot connect.
    """
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        line = [str(program()), str(port), str(seconds), str(seed), str(-1 if cpu is None else cpu)]
        outs = []
        for number, stream in enumerate(streams):
            bodies, headers, out = (Path(folder) / f"{name}{number}" for name in ("bodies", "headers", "out"))
            if any(b"\n" in body for body in stream.bodies):
                raise ValueError("a body has a line break in it; bodies are told apart by line breaks")
            bodies.write_bytes(b"\n".join(stream.bodies))
            headers.write_bytes(b"".join(f"{name}: {value}\r\n".encode() for name, value in stream.headers.items()))
            deadline = round(stream.deadline_ms * 1000)
            line += [stream.path, str(bodies), str(stream.rate), str(stream.connections), str(deadline)]
            line += [stream.arrivals, stream.mark, str(headers) if stream.headers else "", str(out)]
            outs.append(out)
        subprocess.run(line, check=True, timeout=SECONDS_MAX)
        return [Outcomes(np.fromfile(out, OUTCOME), seconds) for out in outs]


@functools.cache
def program() -> Path:
    """The compiled client; kept among temporary files under the hash of its source."""
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"pairec-fast-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder / f"load-{name}"
    if not found.exists():
        made = folder / f"load-{name}.{os.getpid()}"
        subprocess.run(["g++", "-std=c++20", "-O2", str(SOURCE), "-o", str(made)], check=True)
        made.rename(found)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as many as are answered")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--deadline", type=float, default=0.0, help="milliseconds; 0 is none")
    parser.add_argument("--arrivals", choices=("poisson", "even"), default="poisson")
    parser.add_argument("--mark", default="", help="text to look for in answers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu", type=int, default=None, help="the core of the client")
    given = parser.parse_args()
    stream = Stream(
        given.path, given.bodies.read_bytes().splitlines(), given.rate, given.connections, given.deadline,
        given.arrivals, given.mark,
    )  # fmt: skip
    (outcomes,) = run(given.port, [stream], given.seconds, seed=given.seed, cpu=given.cpu)
    print(json.dumps(outcomes.summary()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
