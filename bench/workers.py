"""What a second worker costs: processor time of a request, and memory that is not shared.

    python -m bench.workers [--config engine.json] [--rounds 5] [--seconds 2] [--rate 300]

One worker and two, up together, are asked in turns, two at twice the rate; all are on one core, so that what is
compared is work and not waiting. Memory is from /proc/PID/smaps_rollup: `Pss` counts a page that n processes
share as one n-th in each, `private` is what a worker has alone, against the bytes of the snapshot's files.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from bench.bench_http import FEED, made, users_of
from bench.openloop import Stream, run
from bench.servers import Served, asked, configured, memory
from pairec_fast.manifest import resolve


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=300.0, help="recommendations a second for each worker")
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    taken: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        shop = given.config or made(folder / "shop")
        configs = []
        for count in (1, 2):
            (folder / str(count)).mkdir()
            configs.append(configured(shop, folder / str(count), {}))
        bodies = asked(users_of(configs[0]))
        snapshot = resolve(Path(json.loads(configs[0].read_text())["SnapshotConf"]["Directory"]))
        size = sum(path.stat().st_size for path in snapshot.iterdir())
        with (
            Served("http1", "ours", configs[0], cpu=0) as one,
            Served("http1", "ours", configs[1], cpu=0, workers=2) as two,
        ):
            for _ in range(given.rounds):
                for count, served in ((1, one), (2, two)):
                    stream = Stream(FEED, bodies, given.rate * count, given.connections * count)
                    before = served.cpu_ns()
                    (outcomes,) = run(served.port, [stream], given.seconds, cpu=1)
                    taken[count].append((served.cpu_ns() - before) / 1e3 / len(outcomes.rows))
            costs = {count: float(np.median(each)) for count, each in taken.items()}
            ratio = float(np.median(np.array(taken[2]) / np.array(taken[1])))
            print(
                f"CPU of a request: one worker {costs[1]:.0f} us, two {costs[2]:.0f} us; median of ratios {ratio:.3f}"
            )
            print(f"snapshot: {size / 1e6:.0f} MB")
            for number, pid in enumerate(two.pids, 1):
                has = memory(pid)
                private = has["Private_Dirty"] + has["Private_Clean"]
                print(
                    f"worker {number} of two: Rss {has['Rss'] / 1e6:.0f} MB, Pss {has['Pss'] / 1e6:.0f} MB, private "
                    f"{private / 1e6:.0f} MB = {private / size:.1%} of the snapshot"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
