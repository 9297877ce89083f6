"""Take the broker away in the middle of load, and compare what the sink accepted with what the topic holds.

    python -m tests.faults.kafka --seconds 60 [--seed 7] [--fault kill|freeze|restart] [--rate 1000] [--directory PLACE]

Two threads push records of random size into one log, whose broker is Apache Kafka itself. It is killed, frozen or
stopped for `--seconds`, comes back with its data, and the load goes on for a while. Then everything is delivered, the
topic is read back, and each accepted record must be there, once after repeats are removed by their headers, and in the
order of its user.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pairec_fast.core.kafka import KafkaLog
from pairec_fast.sink.kafka import libraries
from tests.services.kafka import Kafka
from tests.services.ledger import FAULTS, Ledger, failed
from tests.services.process import Missing

FAULT_KINDS = ("kill", "freeze", "restart")
THREADS = 2


class Load(threading.Thread):
    """Pushes about `rate` records a second until told to stop; notes when each push was and how long it took."""

    def __init__(self, log: Any, ledger: Ledger, thread: int, rate: float, seed: int, first: int = 0) -> None:
        super().__init__(daemon=True)
        self.log, self.ledger, self.number, self.rate = log, ledger, first, rate
        self.thread, self.rng = thread, random.Random(seed * 31 + thread)
        self.pushes: list[tuple[float, float]] = []  # monotonic time, seconds it took
        self.done = threading.Event()
        self.start()

    def push(self, payload: bytes) -> bool:
        begin = time.perf_counter()
        accepted = self.log.push(payload)
        self.pushes.append((time.monotonic(), time.perf_counter() - begin))
        return bool(accepted)

    def run(self) -> None:
        begin, sent = time.monotonic(), 0
        while not self.done.is_set():
            if sent > (time.monotonic() - begin) * self.rate:
                time.sleep(0.001)
                continue
            size, items = self.rng.choice((0, 100, 400, 400, 2000, self.rng.randrange(20_000))), self.rng.randrange(4)
            self.ledger.push(self, self.thread, self.number, size, items)
            self.number += 1
            sent += 1

    def end(self) -> None:
        self.done.set()
        self.join()


def hurt(broker: Kafka, fault: str, seconds: float) -> float:
    """The fault, `seconds` long. Returns the seconds the broker did not answer. Call it from the main thread."""
    begin = time.monotonic()
    if fault == "freeze":
        broker.freeze()
        time.sleep(seconds)
        broker.thaw()
    else:
        broker.kill() if fault == "kill" else broker.stop()
        time.sleep(seconds)
        broker.start()
    return time.monotonic() - begin


def microseconds(loads: list[Load], begin: float, end: float, part: float) -> int:
    """A percentile of the pushes between two times."""
    spent = [took for load in loads for when, took in load.pushes if begin <= when < end]
    return round(1e6 * float(np.percentile(spent, part))) if spent else 0


def run(
    broker: Kafka, log: Any, topic: str, *, fault: str, seconds: float, seed: int, rate: float, lead: float = 3.0,
    timeout: float = 120.0,
) -> Counter[str]:  # fmt: skip
    """Load for `lead` seconds, the fault, load for `lead` seconds, everything delivered; then the ledger's totals."""
    ledger = Ledger()
    loads = [Load(log, ledger, thread, rate / THREADS, seed) for thread in range(THREADS)]
    begin = time.monotonic()
    time.sleep(lead)
    fell = time.monotonic()
    down = hurt(broker, fault, seconds)
    rose = time.monotonic()
    time.sleep(lead)
    for load in loads:
        load.end()
    stopped = time.monotonic()
    counters = log.counters()
    delivered = log.flush(timeout)
    drained = time.monotonic() - stopped
    totals = ledger.check(broker.messages(topic))
    totals["refused"] = len(ledger.refused)
    totals["undelivered"] = 0 if delivered else 1
    totals["law_broken"] = 1 if law_broken(log, len(ledger.accepted)) else 0
    totals["spilled_records_at_stop"] = counters["in_spill"]
    totals["down_ms"], totals["drain_ms"] = round(1e3 * down), round(1e3 * drained)
    for name, part in (("p50", 50), ("p99", 99), ("p99.9", 99.9)):
        totals[f"push_us_{name}_up"] = microseconds(loads, begin, fell, part)
        totals[f"push_us_{name}_down"] = microseconds(loads, fell, rose, part)
    return totals


def open_log(broker: Kafka, topic: str, place: Path, **settings: Any) -> KafkaLog:
    """A sink on a ring and a spill below `place`."""
    place.mkdir(parents=True, exist_ok=True)
    chosen = {"servers": broker.bootstrap, "topic": topic, "library": libraries()} | settings
    return KafkaLog(place / "segments", place / "ring", **chosen)


def law_broken(log: KafkaLog, accepted: int) -> str:
    """Why the counters do not add up, empty if they do: what came is delivered, in spill, in ring or a dead letter."""
    counted = log.counters()
    parts = sum(counted[name] for name in ("delivered", "in_spill", "in_ring", "dead_letter"))
    holds = counted["accepted"] == accepted and parts == accepted + counted["adopted_records"]
    return "" if holds else f"{accepted} accepted, {counted}"


def wrong(totals: Counter[str]) -> bool:
    return failed(totals) or bool(totals["undelivered"] or totals["law_broken"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the broker is away")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--fault", choices=FAULT_KINDS, default="kill")
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second")
    parser.add_argument("--directory", type=Path, default=None, help="for ring, spill and the broker's data")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    place = Path(tempfile.mkdtemp(prefix="kafka-", dir=arguments.directory))
    print(f"seed {seed}, {place}", file=sys.stderr)
    try:
        broker = Kafka(place)
    except Missing as reason:
        print(f"{reason}; `bash tests/services/provide.sh` installs it", file=sys.stderr)
        return 2
    with broker:
        broker.start()
        topic = broker.create("log")
        with open_log(broker, topic, place / "log") as log:
            totals = run(
                broker, log, topic, fault=arguments.fault, seconds=arguments.seconds, seed=seed, rate=arguments.rate,
                lead=10.0, timeout=300.0,
            )  # fmt: skip
    print(json.dumps({name: totals[name] for name in FAULTS} | dict(totals)))
    if wrong(totals):
        return 1
    shutil.rmtree(place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
