"""Two revisions of a project, built apart and measured in turns: `python -m pairec_fast.latency BASE HEAD -- bench/`.

Pairs of processes are measured until every limit is decided or the last look is reached. Bounds at each look are those
of all looks together: looking more often must not find more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairec_fast.latency import build, instructions, report, store
from pairec_fast.latency.judge import INCONCLUSIVE, REGRESS, Verdict, judge_interleaved
from pairec_fast.latency.quantile import CONFIDENCE, quantile, values_needed
from pairec_fast.latency.terms import Limit, TermError, parse_fail, quantile_of, show_ns
from pairec_fast.latency.turns import Measured, Side, TurnError, measure_pair

if TYPE_CHECKING:
    import pytest

TIMES = 10
OURS = {f"--latency-{name}" for name in ("compare", "fail", "report", "save", "inconclusive")}
PYTEST = ("-p", "no:cacheprovider", "-q")
LOOKS = 3  # after `times` pairs, twice and four times as many
LOOK_CONFIDENCE = 1 - (1 - CONFIDENCE) / LOOKS
DEFAULT_LIMIT = Limit("p99", ratio=1.10)


@dataclass
class Compared:
    """One test: what each pair of processes measured, and what that came to."""

    test: str
    pairs: list[Measured] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def judge(self, limits: Sequence[Limit]) -> None:
        own = self.pairs[0].ratio
        if own is not None:
            limits = [Limit("p99", ratio=own), *(limit for limit in limits if limit.name != "p99")]
        pairs = [(pair.base.main, pair.head.main) for pair in self.pairs]
        self.verdicts = [judge_interleaved(pairs, limit, LOOK_CONFIDENCE) for limit in limits]

    @property
    def decided(self) -> bool:
        """Whether more pairs would change nothing: all is said, or its calls are too few however often it is run."""
        return all(said.verdict != INCONCLUSIVE or math.isnan(said.value.value) for said in self.verdicts)


def interleave(
    base: Side,
    head: Side,
    arguments: Sequence[str],
    limits: Sequence[Limit],
    times: int = TIMES,
    say: Callable[[str], None] = lambda line: None,
) -> list[Compared]:
    """Measure in turns and judge; tests undecided after a look are measured on, without the others.

    Raises:
        TurnError: the benchmarks fail on one of the two, or none uses the `latency` fixture.
    """
    found: dict[str, Compared] = {}
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        only: list[str] = []
        for look in range(LOOKS):
            until = times << look
            while number < until:
                measured, alone = measure_pair(base, head, [*arguments, *only], number, scratch)
                number += 1
                for test, pair in measured.items():
                    found.setdefault(test, Compared(test)).pairs.append(pair)
                if not found:
                    raise TurnError(f"no test uses the latency fixture on both {base.name} and {head.name}")
            for each in found.values():
                if not each.decided or not each.verdicts:
                    each.judge(limits)
            if look == 0:
                for test in sorted(alone):
                    say(f"{test}: only one of the two runs it")
            open_still = [test for test, each in found.items() if not each.decided]
            say(f"{number} pairs of processes: {len(found) - len(open_still)} of {len(found)} decided")
            if not open_still:
                break
            (scratch / "tests.json").write_text(json.dumps(open_still))
            only = [f"--latency-tests={scratch / 'tests.json'}"]
    return list(found.values())


def compare(
    repository: Path,
    revisions: tuple[str, str],
    arguments: Sequence[str],
    paths: Sequence[str],
    limits: Sequence[Limit],
    times: int = TIMES,
    say: Callable[[str], None] = lambda line: None,
) -> list[Compared]:
    """Build both revisions, take the benchmarks under `paths` from the second, and interleave.

    Raises:
        BuildError: one of them does not build, or has no such benchmarks.
        TurnError: as `interleave`.
    """
    with sides(repository, revisions, paths, say) as (base, head):
        return interleave(base, head, [*PYTEST, *arguments], limits, times, say)


@contextmanager
def sides(
    repository: Path, revisions: tuple[str, str], paths: Sequence[str], say: Callable[[str], None]
) -> Iterator[tuple[Side, Side]]:
    """Both revisions, built, with the benchmarks of the second."""
    (_, before), (commit, after) = [build.environment(repository, revision, say) for revision in revisions]
    with tempfile.TemporaryDirectory() as folder:
        build.benchmarks(repository, commit, paths, Path(folder))
        environment = build.plain_environment()
        yield Side("base", before, Path(folder), environment), Side("head", after, Path(folder), environment)


def lines(compared: Sequence[Compared], markdown: bool = False) -> list[str]:
    """A table: p50 and p99 of CPU time of both, then each verdict with its reason."""
    head = ["test", "pairs", "p50 base", "p50 head", "p99 base", "p99 head", "wall p99", "verdict"]
    rows = [[f"`{each.test}`" if markdown else each.test, *_row(each)] for each in compared]
    if markdown:
        return [
            report.markdown(head, rows),
            "",
            *(f"- {each.test}: {said}" for each in compared for said in each.verdicts),
        ]
    return [*report.aligned([head, *rows]), *(f"{each.test}: {said}" for each in compared for said in each.verdicts)]


def as_json(compared: Sequence[Compared], about: dict[str, Any]) -> str:
    tests = [
        {
            "test": each.test,
            "pairs": len(each.pairs),
            **{
                side: {name: _middle(each, side, name) / 1e3 for name in ("p50", "p99")} | {"unit": "us, CPU"}
                for side in ("base", "head")
            },
            "verdicts": [report.verdict_json(verdict) for verdict in each.verdicts],
        }
        for each in compared
    ]
    return json.dumps({"about": about, "tests": tests}, indent=1, allow_nan=False)


def main(arguments: Sequence[str], paths: Sequence[str] = (), program: str = "python -m pairec_fast.latency") -> int:
    """The command: 0 for pass or inconclusive, 1 for a regression, 2 for what could not be measured."""
    before, _, after = _split(arguments)
    parser = argparse.ArgumentParser(
        prog=program, description="Build two git revisions apart, run benchmarks of HEAD on both in turns, judge.",
        epilog="What follows -- is given to pytest: paths, -k, its options.",
    )  # fmt: skip
    parser.add_argument("base")
    parser.add_argument("head", help='"." is the working tree: its tracked files as they stand')
    parser.add_argument(
        "--times", type=int, default=TIMES, help="pairs of processes at the first look (default: %(default)s)"
    )
    parser.add_argument("--latency-fail", "--fail", action="append", type=_limit, metavar="pXX:N%%", dest="fail")
    parser.add_argument(
        "--take", action="append", metavar="PATH", help="taken from HEAD for both (default: pytest's paths)"
    )
    parser.add_argument("--report", choices=("md", "json"), help="print this instead of a table")
    parser.add_argument("--inconclusive", choices=("warn", "fail"), default="warn")
    parser.add_argument("--instructions", action="store_true", help="count instructions by callgrind, not times")
    given = parser.parse_args(before)
    if given.times << LOOKS - 1 < values_needed(LOOK_CONFIDENCE):
        parser.error(f"--times {given.times}: bounds need {values_needed(LOOK_CONFIDENCE)} pairs at the last look")
    repository = _repository(parser)
    taken = given.take or list(paths) or sorted({word.split("/")[0] for word in after if not word.startswith("-")})
    if not taken:
        parser.error("name benchmarks after --, or what to take from HEAD by --take")
    limits = given.fail or [DEFAULT_LIMIT]
    if given.instructions:
        allowed = given.fail[0].ratio if given.fail else instructions.ALLOWED
        return count(repository, (given.base, given.head), after or taken, taken, allowed)
    revisions = (given.base, given.head)
    doubt_fails = given.inconclusive == "fail"
    return run(repository, revisions, after or taken, taken, limits, given.times, given.report, doubt_fails)


def run(
    repository: Path,
    revisions: tuple[str, str],
    arguments: Sequence[str],
    paths: Sequence[str],
    limits: Sequence[Limit],
    times: int,
    form: str | None,
    doubt_fails: bool,
) -> int:
    """Compare, print, and say how it went."""
    begin = time.monotonic()
    try:
        compared = compare(repository, revisions, arguments, paths, limits, times, _say)
    except (build.BuildError, TurnError) as error:
        _say(str(error))
        return 2
    about = {**store.machine(), "base": revisions[0], "head": revisions[1]}
    print(as_json(compared, about) if form == "json" else "\n".join(lines(compared, form == "md")))
    _say(f"{time.monotonic() - begin:.0f} s, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {about['cpu']}")
    said = {verdict.verdict for each in compared for verdict in each.verdicts}
    return int(REGRESS in said or (doubt_fails and INCONCLUSIVE in said))


def count(
    repository: Path, revisions: tuple[str, str], arguments: Sequence[str], paths: Sequence[str], allowed: float
) -> int:
    """Instructions a call of both revisions, printed; 0, 1 or 2 as `main`."""
    hardware = "would count" if instructions.counts_by_hardware() else "counts nothing"
    level = os.environ.get("PAIREC_ISA", "as dispatched")
    _say(f"by callgrind, which knows no AVX-512: level {level}; perf's instructions:u {hardware} on this machine")
    try:
        with sides(repository, revisions, paths, _say) as (base, head), tempfile.TemporaryDirectory() as scratch:
            found = instructions.compare(base, head, [*PYTEST, *arguments], allowed, Path(scratch))
    except (build.BuildError, TurnError) as error:
        _say(str(error))
        return 2
    for each in found:
        print(f"{each.test}: {each.verdict}: {each.reason}")
    return int(any(each.verdict == REGRESS for each in found))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def from_pytest(config: pytest.Config, revision: str) -> int:
    """`pytest … --latency-compare=REVISION`: the same arguments, on the revision and on the working tree in turns."""
    limits = [limit for limit in config.getoption("latency_fail") if limit.ratio is not None] or [DEFAULT_LIMIT]
    given = _without_ours([str(word) for word in config.invocation_params.args])
    root = config.rootpath
    tops = [Path(os.path.relpath(Path(word.split("::")[0]).resolve(), root)).parts[:1] for word in config.args]
    if () in tops:
        _say(f"name the folder of the benchmarks: all of {root} would bring the package itself along")
        return 2
    paths = sorted({top for (top,) in tops})
    form = config.getoption("latency_report")
    doubt_fails = config.getoption("latency_inconclusive") == "fail"
    return run(root, (revision, build.WORKING_TREE), given, paths, limits, TIMES, form and form[0], doubt_fails)


def _without_ours(words: Sequence[str]) -> list[str]:
    """Of pytest's arguments those that its processes get; ours have a value after `=` or in the next word."""
    kept: list[str] = []
    value_next = False
    for word in words:
        if value_next and not word.startswith("-"):
            value_next = False
            continue
        name, equals, _ = word.partition("=")
        value_next = name in OURS and not equals
        if name not in OURS:
            kept.append(word)
    return kept


def _row(each: Compared) -> list[str]:
    times = [show_ns(_middle(each, side, name)) for name in ("p50", "p99") for side in ("base", "head")]
    walls = " → ".join(show_ns(_middle(each, side, "p99", wall=True)) for side in ("base", "head"))
    return [str(len(each.pairs)), *times, walls, report.worst(each.verdicts)]


def _middle(each: Compared, side: str, name: str, wall: bool = False) -> float:
    """Of all calls of one side."""
    runs = [getattr(pair, side) for pair in each.pairs]
    return float(quantile(sorted(ns for of in runs for ns in (of.wall if wall else of.main)), quantile_of(name)))


def _split(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    given = list(arguments)
    if "--" not in given:
        return given, False, []
    at = given.index("--")
    return given[:at], True, given[at + 1 :]


def _limit(text: str) -> Limit:
    try:
        limit = parse_fail(text)
    except TermError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if limit.ratio is None:
        raise argparse.ArgumentTypeError(f"{text!r}: two revisions are compared by a share, such as p99:10%")
    return limit


def _repository(parser: argparse.ArgumentParser) -> Path:
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".git").exists():
            return folder
    parser.error(f"{here} lies in no git repository")
