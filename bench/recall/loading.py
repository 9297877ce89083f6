"""Opening an index of a million: ours against hnswlib's `load_index`, and how many bytes an item takes.

The files are in the page cache. Each is opened in a process of its own, a few times; the best counts. `private` is the
memory the process alone has after a search; the rest is the file's, shared by all who have it open.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.recall import ours as own
from bench.recall import report, sets
from bench.recall.sets import Say
from pairec_fast.core import VectorIndex

TIMES = 5
SET = "two-tower"

Opened = tuple[
    float, float, float, float
]  # milliseconds of wall and CPU to open, of wall to the first reply; private MB


def run(ours: Sequence[str], cache: Path, say: Say, out: Callable[[str], None]) -> None:
    of = sets.load(SET, cache, say)
    files: list[tuple[str, Callable[..., Any], Path]] = []
    for kind in ours:
        path = own.path_of(of, kind)
        own.OURS[kind](of, say)
        files += [
            (f"pairec_fast {kind}", _verified, path),
            (f"pairec_fast {kind}, not verified", _mapped, path),
        ]
    sets.hnswlib_graph(of, say)
    files.append(("hnswlib", _hnswlib, of.graph))
    query = np.array(of.queries[0])
    rows = []
    for name, opener, path in files:
        path.read_bytes()
        wall, cpu, reply, private = np.min([_in_a_process(opener, path, query) for _ in range(TIMES)], axis=0)
        per_item = path.stat().st_size / len(of.base)
        rows.append([name, f"{wall:,.1f}", f"{cpu:,.1f}", f"{reply:,.1f}", f"{private:,.0f}", f"{per_item:,.0f}"])
    out(f"\n{of}\n")
    head = ["index", "open ms", "CPU ms", "to first reply ms", "private MB", "bytes an item"]
    out(report.table(head, rows))


def _in_a_process(opener: Callable[..., Any], path: Path, query: sets.Vectors) -> Opened:
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=_opened, args=(opener, path, query, far))
    process.start()
    far.close()  # so that a process that fails is not waited for
    found: Opened = near.recv()
    process.join()
    return found


def _opened(opener: Callable[..., Any], path: Path, query: sets.Vectors, into: Any) -> None:
    opener(None, query)  # imports
    private = _private_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    search = opener(path, query)
    opened = time.perf_counter() - wall, time.process_time() - cpu
    search()
    into.send((opened[0] * 1e3, opened[1] * 1e3, (time.perf_counter() - wall) * 1e3, _private_mb() - private))


def _verified(path: Path | None, query: sets.Vectors, verify: bool = True) -> Any:
    if path is None:
        return None
    index = VectorIndex.load(path, verify)
    return lambda: index.search(query, 500)


def _mapped(path: Path | None, query: sets.Vectors) -> Any:
    return _verified(path, query, verify=False)


def _hnswlib(path: Path | None, query: sets.Vectors) -> Any:
    import hnswlib

    if path is None:
        return None
    index = hnswlib.Index(space="l2", dim=len(query) + 1)
    index.load_index(str(path))
    index.set_ef(500)
    asked = np.append(query, np.float32(0))
    return lambda: index.knn_query(asked, 500, 1)


def _private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
