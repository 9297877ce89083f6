"""Recall against latency of ours and of other libraries, on one thread: `python -m bench.recall`.

For each set and k a table: of each index the least effort that reaches a recall of 0.90, 0.95 and 0.99, chosen with
other queries than it is judged by, and what it takes; ratios are to hnswlib at the same recall. `--plot` draws the
whole curves. `pip install '.[recall]'` brings the peers; those that are not there are left out. Vectors, what is right
and every index are kept in `--cache`: made at first, which takes hours for all; remove a file to have it made anew.
PAIREC_ISA sets our level. With GLIBC_TUNABLES=glibc.malloc.hugetlb=1 the peers get large pages, a tenth for hnswlib.

Other modes: `--filters`, `--growth`, `--load`; each prints a table of its own instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

for _threads in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):  # before numpy and the peers come in
    os.environ.setdefault(f"{_threads}_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bench.recall import filters, growth, loading, plot, report, sets  # noqa: E402
from bench.recall.contender import Contender, Make  # noqa: E402
from bench.recall.ours import OURS  # noqa: E402
from bench.recall.peers import PEERS  # noqa: E402
from bench.recall.sets import Say, Set  # noqa: E402
from bench.recall.sweep import Point, Sweep  # noqa: E402

CACHE = Path.home() / ".cache" / "pairec_fast"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def contenders(of: Set, ours: Sequence[str], peers: Sequence[str], say: Say) -> list[Contender]:
    """Those that can be made, ours first; why another cannot is said."""
    makes: list[tuple[str, str, Make]] = [(name, "pairec_fast", OURS[name]) for name in ours]
    makes += [(name, *PEERS[name]) for name in peers]
    made: list[Contender] = []
    for name, package, make in makes:
        try:
            made += make(of, say)
        except ImportError:
            say(f"{name}: left out, {package} is not installed")
        except Exception as error:
            say(f"{name}: left out, {type(error).__name__}: {error}")
    return made


def compared(options: argparse.Namespace, out: Callable[[str], None]) -> None:
    panels: dict[str, dict[str, list[Point]]] = {}
    for name in options.sets:
        of = sets.load(name, options.cache, say)
        made = contenders(of, options.ours, options.peers, say)
        for k in options.k:
            say(f"{name}, k = {k}")
            sweep = Sweep(made, of.truth, k, of.halves())
            out(f"\n{of}, k = {k}\n")
            out(report.of_targets(sweep.table(options.rounds)))
            if options.plot:
                panels[f"{name}, k = {k}"] = sweep.curves()
    if options.plot:
        plot.curves(panels, options.plot, f"recall and latency, one thread, {report.machine()}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.recall", description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", default=list(sets.NAMES), help="glove, two-tower, neutral; or neutral-<n>")
    parser.add_argument("--k", nargs="+", type=int, default=[10, 100, 500])
    parser.add_argument("--ours", nargs="*", choices=OURS, default=["partition", "hnsw", "hnsw-of-hnswlib"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where sets and indexes are kept")
    parser.add_argument("--plot", type=Path, help="draw curves into this .svg or .png")
    parser.add_argument("--headers", type=Path, help="hnswlib's C++ headers, for --filters; default: CACHE/hnswlib")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--filters", action="store_true", help="searches among a part of the items")
    mode.add_argument("--growth", action="store_true", help="with more items, and with more dims")
    mode.add_argument("--load", action="store_true", help="opening an index of a million")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)

    def out(line: str) -> None:
        print(line, flush=True)

    packages = dict.fromkeys(["pairec_fast", *(package for package, _ in PEERS.values())])
    versions = ", ".join(f"{package} {report.version(package)}" for package in packages if report.version(package))
    tunables = os.environ.get("GLIBC_TUNABLES")
    out(f"{report.machine()}, one thread; {versions}{f'; {tunables}' if tunables else ''}")
    if options.filters:
        filters.run(options.sets, options.ours, options.cache, options.headers, options.rounds, say, out)
    elif options.growth:
        growth.run(options.ours, options.cache, options.plot, options.rounds, say, out)
    elif options.load:
        loading.run(options.ours, options.cache, say, out)
    else:
        compared(options, out)


if __name__ == "__main__":
    main()
