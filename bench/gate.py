"""Whether the gate on tails can be believed: `python -m bench.gate --times 20`.

Makes a small project whose function has a tail of its own (4 calls in 100 do three times the work), commits to it what
a change might do, and compares each commit with the first one so many times: each comparison as a user would run it, by
`pairec_fast.latency.compare` with its own processes. A planted regression must be caught in 19 of 20, and no change be
called one in at most 1 of 20; inconclusive comparisons are neither caught nor passed, and counted on their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pairec_fast.latency import store
from pairec_fast.latency.compare import TIMES, compare
from pairec_fast.latency.judge import INCONCLUSIVE, PASS, REGRESS
from pairec_fast.latency.terms import Limit, parse_fail

PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "planted"
version = "1"
[tool.setuptools]
py-modules = ["planted"]
"""
WORK = """\
def work(number):
    units = {slow} if number * 37 % 100 < {share} else {usual}
    total = 0
    for unit in range(units):
        total += unit * unit
    return total
"""
BENCH = """\
from itertools import count
from planted import work

def test_work(latency):
    numbers = count()
    latency(lambda: work(next(numbers)), n={calls})
"""
USUAL, SLOW, SHARE = 2_000, 6_000, 4
KINDS = {  # what a commit changes, and what must be said of it
    "identical": ("nothing", {}, PASS),
    "tail": ("the slowest 4 % of calls do 15 % more", {"slow": SLOW * 115 // 100}, REGRESS),
    "whole": ("every call does 15 % more", {"slow": SLOW * 115 // 100, "usual": USUAL * 115 // 100}, REGRESS),
}


def project(folder: Path, calls: int) -> dict[str, str]:
    """The project and its commits: "base" and one for each of `KINDS`."""

    def git(*words: str) -> str:
        name = ["-c", "user.name=gate", "-c", "user.email=gate@localhost", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *name, *words], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "bench").mkdir()
    (folder / "bench" / "test_work.py").write_text(BENCH.format(calls=calls))
    commits = {}
    for name, changed in {"base": {}, **{name: changed for name, (_, changed, _) in KINDS.items()}}.items():
        units = {"usual": USUAL, "slow": SLOW, "share": SHARE} | changed
        (folder / "planted.py").write_text(f"# {name}\n{WORK.format(**units)}")
        git("add", "--all")
        git("commit", "--quiet", "--message", name)
        commits[name] = git("rev-parse", "HEAD")
    return commits


def count(kind: str, limit: Limit, times: int, calls: int, pairs: int, folder: Path) -> Counter[str]:
    """How often each verdict was given, a line printed for each."""
    said: Counter[str] = Counter()
    commits = project(folder, calls)
    for turn in range(times):
        begin = time.monotonic()
        [found] = compare(folder, (commits["base"], commits[kind]), ["bench"], ["bench"], [limit], pairs)
        [verdict] = found.verdicts
        said[verdict.verdict] += 1
        took = time.monotonic() - begin
        print(f"{kind} {turn + 1}/{times}: {verdict}; {took:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    return said


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="comparisons of each kind")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    parser.add_argument("--fail", type=parse_fail, default=parse_fail("p99:10%"))
    parser.add_argument("--calls", type=int, default=1_800, help="calls a process")
    parser.add_argument("--pairs", type=int, default=TIMES, help="pairs of processes at the first look")
    given = parser.parse_args()
    held = True
    rows = ["| change | p99 allowed | regress | pass | inconclusive | wanted |", "|---|---|---|---|---|---|"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the project needs no plugin but ours: half the time to start
    with tempfile.TemporaryDirectory() as cache:
        os.environ["PAIREC_LATENCY_CACHE"] = cache
        for kind in given.kinds:
            with tempfile.TemporaryDirectory(prefix="planted") as folder:
                said = count(kind, given.fail, given.times, given.calls, given.pairs, Path(folder))
            change, _, wanted = KINDS[kind]
            caught = said[REGRESS] >= 0.95 * given.times
            right = caught if wanted == REGRESS else said[REGRESS] <= 0.05 * given.times
            held &= right
            rule = "at least 19 of 20 regress" if wanted == REGRESS else "at most 1 of 20 regress"
            counts = f"{said[REGRESS]} | {said[PASS]} | {said[INCONCLUSIVE]}"
            allowed = f"+{given.fail.ratio - 1:.0%}"
            rows.append(f"| {change} | {allowed} | {counts} | {rule}: {'held' if right else 'MISSED'} |")
    print("\n".join(rows))
    about = store.machine()
    print(f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, load {about['load']} at the end")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
