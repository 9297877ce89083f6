"""Kill a process that sends to Kafka, many times, with brokers up, down and in between; then look at the topic.

    python -m tests.faults.kafka_kill --times 200 [--seed 7] [--directory /dev/shm]

A child pushes numbered records and notes, after `push` has answered True, the count in memory shared with the parent.
The parent takes brokers away and brings them back, and kills the child at random times; the next child has the same
ring and spill. At the end one log sends what is left. Every record that was acknowledged to a child must be in the
topic, each row as it was; a key's rows of one life lie in order.
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
import time
from collections import Counter
from pathlib import Path

from tests.faults import kill
from tests.faults.mockd import Mock

LIFE = 10**6  # numbers of one life
LIVES = 10  # on one cluster: the mock keeps no more than 5 MiB of a partition


def push_for_ever(mock: Mock, directory: Path, oracle: mmap.mmap, life: int) -> None:
    from tests.topics import open_log, record

    acknowledged = memoryview(oracle).cast("Q")
    log = open_log(mock, directory, capacity=1 << 17)
    number = 0
    while True:
        if log.push(record(life * LIFE + number, items=number % 4)):
            number += 1
            acknowledged[life] = number
        else:
            time.sleep(0.001)
        if number % 20 == 0:
            time.sleep(0.002)


def run(times: int, seed: int, directory: Path, library: str) -> Counter[str]:
    totals: Counter[str] = Counter()
    for done in range(0, times, LIVES):
        totals += one_cluster(min(LIVES, times - done), seed + done, directory / str(done), library)
    return totals


def one_cluster(times: int, seed: int, directory: Path, library: str) -> Counter[str]:
    from tests.topics import TOPIC, distinct, expected, open_log, read, until

    rng = random.Random(seed)
    directory.mkdir(parents=True)
    mock = Mock(library)
    mock.tell("topic", TOPIC, 4)
    oracle = mmap.mmap(-1, 8 * times + 8)
    totals: Counter[str] = Counter(kills=times)
    up = True
    for life in range(times):
        pid = kill.in_child(lambda life=life: push_for_ever(mock, directory, oracle, life))
        time.sleep(rng.uniform(0.01, 0.5))
        if rng.random() < 0.6:
            up = not up
            mock.tell("up" if up else "down", 0)
        kill.kill_after(pid, rng.uniform(0.01, 1.0))
    mock.tell("up", 0)
    log = open_log(mock, directory, capacity=1 << 17)
    until(lambda: log.counters()["in_spill"] == 0 and log.counters()["adopted_records"] >= log.recovered["records"], 60)
    until(lambda: not list((directory / "spill").glob("kafka_spill*")), 60)
    totals["damaged_segments"] = log.counters()["damaged_segments"]
    totals["dead_letters"] = log.counters()["dead_letter"]
    log.close()
    messages = read(mock)
    mock.close()

    first = distinct(messages)
    totals["rows"], totals["repeated_rows"] = len(first), len(messages) - len(first)
    found: dict[int, dict[int, bytes]] = {}
    newest: dict[tuple[int, bytes], tuple[int, int]] = {}
    for message in first:
        number, row = json.loads(message.value)["request_time"], message.identity[2]
        if found.setdefault(number, {}).setdefault(row, message.value) != message.value:
            totals["two_values"] += 1
        key = message.identity[0], message.key
        totals["out_of_order"] += newest.get(key, (-1, -1)) >= message.identity[1:]
        newest[key] = message.identity[1:]
    acknowledged = memoryview(oracle).cast("Q")
    for life in range(times):
        totals["records"] += acknowledged[life]
        for number in range(acknowledged[life]):
            rows = found.pop(life * LIFE + number, {})
            wanted = dict(enumerate(expected(life * LIFE + number, items=number % 4)))
            totals["lost"] += rows.keys() < wanted.keys()
            totals["altered"] += any(wanted.get(row) != value for row, value in rows.items())
    # A push whose answer came too late for the oracle: at most one a life.
    totals["unanswered"] = len(found)
    totals["invented"] = sum(1 for number in found if number % LIFE != acknowledged[number // LIFE])
    return totals


def failed(totals: Counter[str]) -> list[str]:
    wrong = ("lost", "altered", "invented", "two_values", "out_of_order", "damaged_segments", "dead_letters")
    return [name for name in wrong if totals[name]]


def main() -> int:
    from pairec_fast.sink.kafka import check_library

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--directory", type=Path, default=None, help="where ring and spill go")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        totals = run(options.times, options.seed, folder, check_library()[0])
    finally:
        shutil.rmtree(folder)
    print(json.dumps({"seed": options.seed, **totals}))
    return 1 if failed(totals) else 0


if __name__ == "__main__":
    sys.exit(main())
