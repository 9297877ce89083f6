"""Where a walk runs: in the thread of the event loop, or on threads of its own; and how workers share two cores.

    python -m bench.placement [--config engine.json] [--seconds 2] [--rounds 3]

On one core, with the client on the other: the walk inline, and on one thread, eight at most under way or waiting. Then
on both cores, the client too: two workers inline, and one with two threads. All are up together and asked in turns, at
shares of what the first of its group answers in full. Medians of rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.bench_http import FEED, made, users_of
from bench.openloop import Stream, run
from bench.overload import MARK, capacity
from bench.servers import Served, asked, configured

LOADS = (0.1, 0.5, 1.5, 3.0)
DEADLINE_MS = 50.0


class Place(NamedTuple):
    name: str
    application: str
    workers: int
    threads: int


GROUPS = {
    "one core": [Place("inline", "ours", 1, 1), Place("a thread", "ours-pooled", 1, 1)],
    "both cores": [Place("two workers, inline", "ours", 2, 1), Place("one worker, two threads", "ours-pooled", 1, 2)],
}


def measured(served: Served, bodies: list[bytes], rate: float, seconds: float, pinned: bool) -> list[float]:
    """Of answers of 200 p50 and p99, milliseconds; full ones in time, a second; microseconds of CPU a request."""
    before = served.cpu_ns()
    stream = Stream(FEED, bodies, rate, 64, DEADLINE_MS, mark=MARK)
    (outcomes,) = run(served.port, [stream], seconds, cpu=1 if pinned else None)
    cpu, us = (served.cpu_ns() - before) / 1e3 / len(outcomes.rows), outcomes.of(200)
    full = outcomes.of(200, marked=False)
    return [*np.percentile(us, [50, 99]) / 1e3, np.count_nonzero(full <= DEADLINE_MS * 1e3) / seconds, cpu]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        shop = given.config or made(Path(name) / "shop")
        for group, places in GROUPS.items():
            pinned = group == "one core"
            with contextlib.ExitStack() as stack:
                up = []
                for number, place in enumerate(places):
                    folder = Path(name) / f"{group}{number}"
                    folder.mkdir()
                    config = configured(shop, folder, {})
                    up.append(stack.enter_context(Served(
                        "http1", place.application, config, cpu=0 if pinned else None, workers=place.workers,
                        environment={"BENCH_THREADS": str(place.threads)},
                    )))  # fmt: skip
                bodies = asked(users_of(config))
                full = capacity(up[0], bodies, given.seconds)
                print(f"\n{group}: {places[0].name} answers {full:,.0f} a second in full\n")
                print("| | load | p50 ms | p99 ms | full answers in time a second | CPU us a request |")
                print("|---|--:|--:|--:|--:|--:|")
                for load in LOADS:
                    found: list[list[list[float]]] = [[] for _ in up]
                    for _ in range(given.rounds):
                        for each, served in zip(found, up, strict=True):
                            each.append(measured(served, bodies, load * full, given.seconds, pinned))
                    for place, each in zip(places, found, strict=True):
                        p50, p99, good, cpu = np.median(np.array(each), axis=0)
                        print(f"| {place.name} | {load}x | {p50:.2f} | {p99:.1f} | {good:,.0f} | {cpu:,.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
