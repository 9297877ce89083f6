"""Ring, flush thread, disk, clock and death as steps of one thread, drawn from a seed; invariants after each step.

    python -m tests.faults.model [--times 1000000] [--seed 7] [--break release-early]

After each step: head, cursor and tail are in order, nothing was released before it was synced, and the counts agree.
Now and then, and after every recovery: all that was accepted is there, once, in order. Times are steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType

from tests.faults import kill, native
from tests.faults.command import Row, main

# The loop is called by the model: no thread, and its parts are open.
OPENED = """#include <atomic>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>
#define private public
#include "flush.hpp"
#undef private"""
THREAD = 'thread_ = start_thread("pairec-flush", [this] { run(); });'


def model(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    names = {"flush": (native.ROOT / "csrc" / "flush.cpp").read_text()}
    if change := getattr(log, "change", ""):
        names.update([native.changed(change)])
    flush = names["flush"]
    if flush.count(THREAD) != 1:
        raise RuntimeError(f"csrc/flush.cpp has {flush.count(THREAD)} times what the model takes out: {THREAD}")
    flush = flush.replace(THREAD, "")
    parts = [OPENED, *native.core(names | {"flush": flush}), native.ROOT / "tests" / "native" / "model.cpp"]
    made = native.build("model", parts, ["-O1", "-g1", "-Wno-clobbered"])
    folder = tempfile.mkdtemp(prefix="model-", dir=kill.memory_directory() or place)
    run = subprocess.run([str(made), folder, str(times), str(seed)], capture_output=True, text=True)
    totals: Counter[str] = Counter(failed=run.returncode != 0, steps=times)
    if run.returncode:
        print(f"seed {seed}: {run.returncode} {run.stderr[-2000:]}; see {folder}", file=sys.stderr)
        return totals
    subprocess.run(["rm", "-r", folder], check=True)
    return totals + Counter(json.loads(run.stdout))


SOME = ("accepted", "refused", "crashes", "deaths_in_calls", "recoveries_cut", "failures", "unfinished", "orderly")
ROWS = {"model": Row(model, 1_000_000, ("failed",), ("steps", "checks", *SOME))}

if __name__ == "__main__":
    sys.exit(main("tests.faults.model", __doc__ or "", ROWS))
