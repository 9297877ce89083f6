"""Kill a process whose log goes to DataHub, many times, and compare what it was told with what arrived.

    python -m tests.faults.datahub --times 100 [--seed 7] [--break remove-first]

A child pushes callbacks; after `push` has answered True it writes the number into memory shared with the parent, which
kills it at a random time. The server throttles, breaks, is away or forgets to answer at random. At the end a process
delivers what is left. Every record that was acknowledged must have arrived, per user in the order pushed, and a kill
may have repeated one batch at most. `--break remove-first` removes each segment before its delivery instead of after
it: the loop must then find records lost.
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

from pairec_fast.sink.delivery import Delivery
from pairec_fast.sink.tuples import PUBLIC
from tests.datahubs import NAMES, QUICK, opened, record, target
from tests.faults.kill import in_child, kill_after
from tests.services.datahub import DatahubServer

BATCH_ROWS = 24
FAILURES = ("LimitExceeded", "drop", "500", "partly LimitExceeded")


def remove_first() -> None:
    """The mistake of the negative control."""
    original = Delivery._deliver

    def broken(self, slot, segment, waits):
        records = list(slot.records(segment))
        os.unlink(segment.file)
        slot.records = lambda _: iter(records)
        return original(self, slot, segment, waits)

    Delivery._deliver = broken  # type: ignore[method-assign]


def push_for_ever(folder: Path, server: DatahubServer, told: memoryview, life: int) -> None:
    log = opened(folder, target(server, *PUBLIC, *NAMES), QUICK._replace(batch_rows=BATCH_ROWS, adopt_seconds=0.2))
    number = 0
    while True:
        if log.push(record(life * 1_000_000 + number)):
            number += 1
            told[life] = number
        time.sleep(0.0005)


def run(times: int, seed: int, folder: Path, broken: bool = False) -> Counter[str]:
    import datahub  # noqa: F401  a child must not find the import lock held
    import lz4.block  # noqa: F401

    rng = random.Random(seed)
    oracle = mmap.mmap(-1, 8 * times)
    told = memoryview(oracle).cast("Q")
    totals: Counter[str] = Counter()
    with DatahubServer() as server:
        for life in range(times):
            if rng.random() < 0.5:
                server.fail(rng.choice(FAILURES), rng.randrange(1, 4))

            def live(life=life, told=told) -> None:
                if broken:
                    remove_first()
                push_for_ever(folder, server, told, life)

            down = rng.random() < 0.2
            if down:
                server.stop()
            kill_after(in_child(live), rng.choice((rng.uniform(0.0, 0.1), rng.uniform(0.1, 0.5))))
            if down:
                server.start()
            totals["kills"] += 1
            totals["outages"] += down
            if sys.stderr.isatty():
                print(f"\r{life + 1}/{times}", end="", file=sys.stderr)
        deliver_rest(folder, server)
        rows = server.rows("log")
    totals += compare(rows, [int(count) for count in told])
    return totals


def deliver_rest(folder: Path, server: DatahubServer) -> None:
    with opened(folder, target(server, *PUBLIC, *NAMES), QUICK) as log:
        deadline = time.monotonic() + 60
        quiet = 0
        while quiet < 5:  # adoption looks around every 0.1 s
            time.sleep(0.2)
            left = [path for path in (folder / "spill").iterdir() if path.suffix in (".seg", ".open")]
            quiet = 0 if left or log.counters()["in_spill"] or log.trouble else quiet + 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"not delivered: {left}, {log.trouble}, {log.counters()}")


def compare(rows: list[dict[str, str | None]], told: list[int]) -> Counter[str]:
    totals: Counter[str] = Counter(rows=len(rows), acknowledged=sum(told))
    names = [(row["ring_id"], row["ring_position"], row["ring_row"]) for row in rows]
    totals["repeated_rows"] = len(names) - len(set(names))
    found: dict[int, list[int]] = {life: [] for life in range(len(told))}
    last: dict[tuple[int, str | None], int] = {}
    items: Counter[int] = Counter()
    seen = set()
    for row, name in zip(rows, names, strict=True):
        if name in seen:
            continue
        seen.add(name)
        life, number = divmod(int(str(row["request_id"])[1:]), 1_000_000)
        if row["module"] == "item":
            items[life * 1_000_000 + number] += 1
            continue
        found[life].append(number)
        key = (life, row["user_id"])
        totals["out_of_order"] += number < last.get(key, -1)
        last[key] = number
    for life, numbers in found.items():
        totals["lost"] += len(set(range(told[life])) - set(numbers))
        totals["twice"] += len(numbers) - len(set(numbers))
        totals["without_items"] += sum(items[life * 1_000_000 + number] != 2 for number in numbers)
    return totals


def failed(totals: Counter[str]) -> bool:
    # A kill repeats one batch at most, and so does an answer that never came; there are at most 3 of these a life.
    repeats_max = totals["kills"] * 4 * BATCH_ROWS
    return any(totals[name] for name in ("lost", "twice", "out_of_order", "without_items")) or (
        totals["repeated_rows"] > repeats_max
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--break", dest="broken", choices=["remove-first"], default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    folder = Path(tempfile.mkdtemp(prefix="kill-datahub-"))
    print(f"seed {seed}, {folder}", file=sys.stderr)
    totals = run(arguments.times, seed, folder, arguments.broken is not None)
    print(
        json.dumps({name: totals[name] for name in ("lost", "twice", "out_of_order", "without_items")} | dict(totals))
    )
    if failed(totals):
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
