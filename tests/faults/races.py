"""Ring, flush thread, segments and recovery under sanitizers: no race, no byte out of bounds, no undefined step.

    python -m tests.faults.races [thread] [address] [damage] [--times N] [--seed S]

`thread` and `address` push so many records from three threads while others flush, rotate and read, and recover a log
that was left; `damage` recovers and reads so many damaged images. They skip where g++ has no such sanitizer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

from tests.faults import native
from tests.faults.command import Row, main

FLAGS = ["-g1", "-fno-omit-frame-pointer"]


def ran(program: str, sanitizer: str, arguments: list[str]) -> Counter[str]:
    """Compile and run one of tests/native; a report of the sanitizer is a complaint."""
    parts = [*native.core(), native.ROOT / "tests" / "native" / f"{program}.cpp"]
    level = "-O1" if sanitizer == "thread" else "-O0"  # without optimisation it compiles in a quarter of the time
    made = native.build(f"{program}-{sanitizer[:4]}", parts, [*FLAGS, level, f"-fsanitize={sanitizer}"])
    command = [str(made), *arguments]
    if shutil.which("setarch"):
        command = ["setarch", "-R", *command]  # some kernels place memory where the thread sanitizer cannot follow
    options = {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS": "halt_on_error=0"}
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | options)
    if "unexpected memory mapping" in run.stderr:
        raise native.Unavailable("the thread sanitizer does not run on this kernel")
    words = ("WARNING", "ERROR", "runtime error")
    totals = Counter(
        complaints=sum(run.stderr.count(word) for word in words), failed=run.returncode != 0, sound=run.returncode == 0
    )
    if run.returncode or totals["complaints"]:
        print(f"{' '.join(command)} ended with {run.returncode}: {run.stdout}{run.stderr[:5000]}", file=sys.stderr)
    elif program == "damage_soak":
        totals["records_read"] = int(run.stdout.split()[0])
    return totals


def soak(sanitizer: str, times: int, place: Path) -> Counter[str]:
    return ran("ring_soak", sanitizer, [str(place / "segments"), str(times)]) + Counter(records=times)


def thread(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    return soak("thread", times, place)


def address(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    return soak("address,undefined", times, place)


def damage(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    return ran("damage_soak", "address,undefined", [str(place), str(times), str(seed)]) + Counter(images=times)


ROWS = {
    "thread": Row(thread, 180_000, ("complaints", "failed"), ("records", "sound")),
    "address": Row(address, 180_000, ("complaints", "failed"), ("records", "sound")),
    "damage": Row(damage, 20_000, ("complaints", "failed"), ("images", "records_read")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.races", __doc__ or "", ROWS))
