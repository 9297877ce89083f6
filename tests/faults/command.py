"""The shape of a fault test: rows, each a dose of one fault with counts of what happened.

`python -m tests.faults.NAME [ROW ...] [--times N] [--seed S] [--break CHANGE]` prints one line a row, with its seed,
and exits 1 if a count that must be 0 is not, or one that must not be 0 is. `--break` puts a bug into the log
(native.py): then the row must fail.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pairec_fast.core import ring as sound
from tests.faults import native


@dataclass(frozen=True)
class Row:
    run: Callable[[int, int, Path, ModuleType], Counter[str]]  # times, seed, a folder, the ring module
    times: int  # the full dose
    never: tuple[str, ...]  # counts that must stay 0
    some: tuple[str, ...]  # counts without which the row has tested nothing
    inside: bool = False  # runs in a process with faultfs

    def wrong(self, totals: Counter[str]) -> list[str]:
        """What a reader should look at; empty when all went well."""
        bad = [f"{name} is {totals[name]}, must be 0" for name in self.never if totals[name]]
        return bad + [f"{name} is 0: nothing was tested" for name in self.some if not totals[name]]


def dose(module: str, row: Row, name: str, times: int, seed: int, place: Path, change: str = "") -> Counter[str]:
    """Run one row, in a process with faultfs if it needs one.

    Raises:
        Unavailable: something it needs is not here.
    """
    if row.inside and native.INSIDE not in os.environ:
        line = [name, "--times", str(times), "--seed", str(seed), "--directory", str(place)]
        ran = native.inside_faultfs(module, line + (["--break", change] if change else []))
        if ran.returncode not in (0, 1) or not ran.stdout:
            raise RuntimeError(f"{name} with seed {seed} ended with {ran.returncode}: {ran.stdout[-2000:]}")
        counts = json.loads(ran.stdout)
        if "unavailable" in counts:
            raise native.Unavailable(counts["unavailable"])
        return Counter({key: value for key, value in counts.items() if isinstance(value, int) and key != "seed"})
    return row.run(times, seed, place, native.broken_ring(change) if change else sound)


def main(module: str, doc: str, rows: dict[str, Row]) -> int:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(rows))
    parser.add_argument("--times", type=int, default=None, help="by default each row's full dose")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="where its files lie")
    parser.add_argument("--break", dest="change", default="", choices=["", *native.BREAKS])
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(rows):
        parser.error(f"unknown row {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    wrong = False
    for name in arguments.rows or rows:
        row, began = rows[name], time.monotonic()
        times = row.times if arguments.times is None else arguments.times
        place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=arguments.directory))
        try:
            totals = dose(module, row, name, times, seed, place, arguments.change)
        except native.Unavailable as error:
            print(json.dumps({"row": name, "unavailable": str(error)}), flush=True)
            continue
        bad = row.wrong(totals)
        wrong |= bool(bad)
        counts = {key: totals[key] for key in (*row.never, *row.some)} | dict(totals)
        print(
            json.dumps({"row": name, **counts, "seconds": round(time.monotonic() - began, 1), "seed": seed}), flush=True
        )
        if bad and native.INSIDE not in os.environ:
            print(f"{name} with --seed {seed}: {'; '.join(bad)}; see {place}", file=sys.stderr)
        if not bad:
            shutil.rmtree(place, ignore_errors=True)
    return int(wrong)
