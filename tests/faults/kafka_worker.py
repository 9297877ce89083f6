"""Kill the worker that pushes, and now and then the broker too, many times; then read the topic back.

    python -m tests.faults.kafka_worker --times 100 [--seed 7] [--directory PLACE] [--break recovery]

A child opens the sink on the ring of its predecessor and pushes from two threads. After `push` has answered True it
writes the record's number into memory shared with the parent, which kills it at a random time, also while it takes over
what the last one left. `--break recovery` removes the ring after each kill: then records must be lost, and the exit
code says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.faults.kafka import open_log
from tests.services.kafka import Kafka
from tests.services.ledger import FAULTS, Ledger, failed, record
from tests.services.process import Missing
from tests.worlds import environment

THREADS = 2
RING_BYTES = 1 << 20  # small: it wraps, and a broker that is away crowds it at once
ROOT = Path(__file__).resolve().parent.parent.parent


def shared(path: Path) -> memoryview:
    """The words of a file that parent and child map: of each life and thread, how many records were acknowledged."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


def push_for_ever(log: Any, acknowledged: memoryview, place: int) -> None:
    number = 0
    while True:
        if log.push(record(place, number)):
            number += 1
            acknowledged[place] = number
            if number % 8 == 0:
                time.sleep(0.005)  # about a thousand a second: the broker shares the machine
        else:
            time.sleep(0.001)


def live(broker: Any, topic: str, place: Path, life: int) -> None:
    log = open_log(broker, topic, place, capacity=RING_BYTES, adopt_seconds=0.2)
    acknowledged = shared(place / "acknowledged")
    for thread in range(THREADS):
        threading.Thread(target=push_for_ever, args=(log, acknowledged, life * THREADS + thread), daemon=True).start()
    time.sleep(60)


class Address:
    """A broker as a child knows it."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap


def start_child(broker: Kafka, topic: str, place: Path, life: int) -> subprocess.Popen[bytes]:
    line = [
        sys.executable,
        "-m",
        "tests.faults.kafka_worker",
        "--child",
        broker.bootstrap,
        topic,
        str(place),
        str(life),
    ]
    return subprocess.Popen(line, cwd=ROOT, env=environment())


def run(broker: Kafka, times: int, seed: int, place: Path, *, broken: bool = False) -> Counter[str]:
    """Call it from the main thread, with the broker running."""
    rng, totals = random.Random(seed), Counter[str]()
    topic = broker.create(f"worker-{time.monotonic_ns()}")
    place.mkdir(parents=True, exist_ok=True)
    (place / "acknowledged").write_bytes(bytes(8 * THREADS * 2 * times))
    acknowledged = shared(place / "acknowledged")
    lives = itertools.count()
    for _ in range(times):
        life = next(lives)
        child = start_child(broker, topic, place, life)
        try:
            first = life * THREADS
            deadline = time.monotonic() + 20
            early = rng.random() < 0.2  # killed when it has hardly begun
            while not early and not acknowledged[first] and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(rng.uniform(0.1, 0.5) if early else rng.choice((rng.uniform(0, 0.5), rng.uniform(0.5, 3))))
            if without_broker := rng.random() < 0.3:
                broker.kill()
                time.sleep(rng.uniform(0, 3))
                totals["kills_of_broker"] += 1
            if child.poll() is not None:
                raise RuntimeError(f"the worker ended by itself with {child.returncode}")
        finally:
            child.kill()
            child.wait()
        totals["kills"] += 1
        if without_broker and rng.random() < 0.7:
            broker.start()
        elif without_broker:  # the next worker begins without it
            with start_child(broker, topic, place, next(lives)) as next_child:
                time.sleep(rng.uniform(0.3, 1.5))
                next_child.kill()
            totals["kills"] += 1
            broker.start()
        if broken:
            (place / "ring").unlink(missing_ok=True)
    return totals + finish(broker, topic, place, acknowledged, totals)


def finish(broker: Kafka, topic: str, place: Path, acknowledged: memoryview, totals: Counter[str]) -> Counter[str]:
    ledger, perhaps = Ledger(), set[str]()
    for thread, count in enumerate(acknowledged):
        ledger.accepted |= {f"{thread}-{number}-400-2": 3 for number in range(count)}
        perhaps.add(f"{thread}-{count}-400-2")  # pushed, and killed before it could say so
    begin = time.monotonic()
    with open_log(broker, topic, place, capacity=RING_BYTES, adopt_seconds=0.2) as log:
        while left := len(list((place / "segments").iterdir())):  # a segment goes when all in it is acknowledged
            if time.monotonic() - begin > 120:
                break
            time.sleep(0.05)
        dead = log.counters()["dead_letter"]
    checked = ledger.check(broker.messages(topic), perhaps=perhaps)
    checked += Counter(segments_left=left, dead_letters=dead, drain_ms=round(1e3 * (time.monotonic() - begin)))
    return checked


def wrong(totals: Counter[str]) -> bool:
    return failed(totals) or bool(totals["segments_left"] or totals["dead_letters"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="for ring, spill and the broker's data")
    parser.add_argument("--break", dest="broken", choices=["recovery"], help="a control that must lose records")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    place = Path(tempfile.mkdtemp(prefix="kafka-worker-", dir=arguments.directory))
    print(f"seed {seed}, {place}", file=sys.stderr)
    try:
        broker = Kafka(place)
    except Missing as reason:
        print(f"{reason}; `bash tests/services/provide.sh` installs it", file=sys.stderr)
        return 2
    with broker:
        broker.start()
        totals = run(broker, arguments.times, seed, place / "log", broken=bool(arguments.broken))
    print(json.dumps({name: totals[name] for name in FAULTS} | dict(totals)))
    if wrong(totals):
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        bootstrap, topic_name, folder, number = sys.argv[2:]
        live(Address(bootstrap), topic_name, Path(folder), int(number))
    else:
        sys.exit(main())
