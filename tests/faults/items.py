"""Kill a process that adds items, many times, and compare what it was told with what the log holds.

    python -m tests.faults.items --times 1000 [--seed 7] [--directory DIR]

A child adds batches. After `items.add` has returned it writes the batch's number into memory shared with the parent.
The parent kills it at a random time, and now and then tears the log as a lost page would: it cuts a part of what nobody
acknowledged, or appends a piece of a record. Then the next child goes on with the same log.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pairec_fast import items
from pairec_fast.items.change import merged
from pairec_fast.items.log import HEAD, NAME, RECORD, Reader, read_head, records
from tests.faults.kill import in_child, kill_after
from tests.worlds import bare_snapshots

LIVES = 25  # with one log


def size_of(life: int, number: int) -> int:
    """Items of a batch: mostly few, now and then as many as take several writes' time."""
    return random.Random(f"{life}.{number}").choice((1, 2, 5, 5, 50, 2000))


def add_for_ever(folder: Path, oracle: mmap.mmap, life: int) -> None:
    acknowledged, number = memoryview(oracle).cast("Q"), 0
    while True:
        items.add(folder, [{"item_id": f"{life}.{number}.{place}"} for place in range(size_of(life, number))])
        number += 1
        acknowledged[life] = number


def tear(folder: Path, rng: random.Random) -> None:
    """Leave the end of the log as a crash of the machine might: what was not acknowledged is there in part."""
    path = folder / NAME
    data = path.read_bytes() if path.exists() else b""
    head = read_head(path, data)
    if head is None:
        return
    end = HEAD.size
    for record in records(path, data[HEAD.size :], head.after, head.acknowledged):
        if record.sequence <= head.acknowledged:
            end += RECORD.size + len(record.payload)
    piece = data[end:] or data[HEAD.size :][: rng.randrange(1, 200)]
    with path.open("r+b") as file:
        file.seek(end)
        file.write(piece[: rng.randrange(len(piece) + 1)])
        file.truncate()


def check(folder: Path, oracle: mmap.mmap, lives: range) -> Counter:
    totals: Counter = Counter()
    found: dict[tuple[int, int], int] = {}
    for record in Reader(folder, 0).read():
        changes = merged([record.payload])
        life, number, _ = map(int, changes[0].id.split("."))
        whole = [f"{life}.{number}.{place}" for place in range(size_of(life, number))]
        totals["broken"] += [change.id for change in changes] != whole or (life, number) in found
        found[life, number] = record.sequence
    acknowledged = memoryview(oracle).cast("Q")
    for life in lives:
        told = {(life, number) for number in range(acknowledged[life])}
        totals["acknowledged"] += len(told)
        totals["lost"] += len(told - set(found))
        beyond = {key for key in found if key[0] == life} - told
        totals["beyond_acknowledged"] += len(beyond)
        totals["broken"] += len(beyond) > 1
    del acknowledged
    return totals


def run(times: int, seed: int, directory: Path) -> Counter:
    rng = random.Random(seed)
    oracle = mmap.mmap(-1, 8 * times)
    totals: Counter = Counter()
    for first in range(0, times, LIVES):
        folder = bare_snapshots(directory / f"snapshots-{first}")
        lives = range(first, min(first + LIVES, times))
        for life in lives:
            pid = in_child(lambda life=life, folder=folder: add_for_ever(folder, oracle, life))
            kill_after(pid, rng.choice((rng.uniform(0, 0.01), rng.uniform(0.01, 0.1), rng.uniform(0.05, 0.3))))
            totals["kills"] += 1
            if rng.random() < 0.4:
                tear(folder, rng)
                totals["torn"] += 1
        totals += check(folder, oracle, lives)
        shutil.rmtree(folder)
        if sys.stderr.isatty():
            print(f"\r{lives[-1] + 1}/{times}", end="", file=sys.stderr)
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="for the logs")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    place = Path(tempfile.mkdtemp(prefix="items-", dir=arguments.directory))
    print(f"seed {seed}, {place}", file=sys.stderr)
    totals = run(arguments.times, seed, place)
    print(json.dumps({name: totals[name] for name in ("lost", "broken")} | dict(totals)))
    if totals["lost"] or totals["broken"]:
        return 1
    os.rmdir(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
