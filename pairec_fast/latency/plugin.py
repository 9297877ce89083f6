"""pytest's side of the gate: the `latency` fixture, its marker and options, and when a test fails for its tail.

```python
@pytest.mark.latency(p99="2ms", ratio=1.10, n=5000)
def test_answer(latency):
    latency(answer, question)
```
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pairec_fast.latency import instructions, measure, report, store
from pairec_fast.latency.judge import (
    INCONCLUSIVE,
    REGRESS,
    Verdict,
    judge_budget,
    judge_stored,
)
from pairec_fast.latency.measure import Call, Samples, Setup
from pairec_fast.latency.quantile import Interval
from pairec_fast.latency.report import Result
from pairec_fast.latency.store import Run, StoreError
from pairec_fast.latency.terms import Limit, TermError, Terms, count, parse_fail, parse_marker
from pairec_fast.latency.turns import Turns

NAME = "pairec_fast_latency"
LATEST = object()
CALLS = 2_000

session_key = pytest.StashKey["Session"]()
fixture_key = pytest.StashKey["Latency"]()


class Session:
    """What all tests of one run share: options, the run compared with, and what was measured."""

    def __init__(self, config: pytest.Config) -> None:
        option = config.getoption
        self.limits: list[Limit] = list(option("latency_fail"))
        self.folder = Path(config.rootpath, option("latency_storage"))
        self.save: str | None = option("latency_save")
        self.report: tuple[str, Path | None] | None = option("latency_report")
        self.doubt_fails = option("latency_inconclusive") == "fail"
        self.disabled = _why_disabled(config)
        self.results: list[Result] = []
        self.base: Run | None = None
        self.saved_to: Path | None = None
        tests = option("latency_tests")
        self.only: set[str] | None = set(json.loads(Path(tests).read_text())) if tests else None
        pipes = option("latency_turns")
        counted = option("latency_instructions")
        self.counted = Path(counted) if counted else None
        self.turns = Turns(*(int(pipe) for pipe in pipes.split(","))) if pipes else None
        if self.save and not store.NAME.fullmatch(self.save):
            raise pytest.UsageError(
                f"--latency-save={self.save}: letters, digits, dots, dashes and underscores name a run"
            )
        alone = not self.disabled and self.turns is None and self.counted is None
        if alone:
            self.base = self._base(option("latency_compare"))
        self.about = store.machine(config.rootpath) if alone else {}

    def _base(self, ref: object) -> Run | None:
        wanted = any(limit.ratio is not None for limit in self.limits)
        if ref is None and not wanted:
            return None
        path = store.find(self.folder, None if ref is None or ref is LATEST else str(ref))
        if path is None:
            what = "no run is saved" if ref is None or ref is LATEST else f"{ref} is no saved run, file or git revision"
            raise pytest.UsageError(
                f"nothing to compare with: {what} (looked in {self.folder / store.machine_id()}); "
                "run with --latency-save first, or name a git revision by --latency-compare"
            )
        try:
            return store.load(path)
        except StoreError as error:
            raise pytest.UsageError(str(error)) from error

    def judge(self, test: str, samples: Samples, terms: Terms) -> list[Verdict]:
        """The test's own budgets, the session's, and the comparison; a test's `ratio` stands for the session's."""
        own = {limit.name for limit in terms.limits}
        budgets = [*terms.limits, *(each for each in self.limits if each.budget_ns and each.name not in own)]
        verdicts = [judge_budget(samples.of(terms.clock), limit) for limit in budgets]
        ratios = [limit for limit in self.limits if limit.ratio is not None]
        if terms.ratio is not None:
            ratios = [Limit("p99", ratio=terms.ratio), *(limit for limit in ratios if limit.name != "p99")]
        if self.base is not None:
            verdicts += [self._against_base(test, samples, limit, terms.clock) for limit in ratios]
        return verdicts

    def _against_base(self, test: str, samples: Samples, limit: Limit, clock: str | None) -> Verdict:
        assert self.base is not None
        theirs = self.base.tests.get(test)
        there, here = self.base.machine, self.about
        differs = [name for name in ("cpu", "python") if there.get(name) != here.get(name)]
        if theirs is None:
            reason = f"the run {self.base.name} has no such test"
        elif theirs.kind != samples.kind:
            reason = f"the run {self.base.name} measured an {theirs.kind} loop, this is {samples.kind}"
        elif differs:
            reason = "; ".join(f"{name} was {there.get(name)}, is {here.get(name)}" for name in differs)
        else:
            return judge_stored(theirs.of(clock), samples.of(clock), limit)
        return Verdict(limit, INCONCLUSIVE, Interval(float("nan"), 0.0, float("inf")), reason)


class Latency:
    """The fixture: measures calls of one function, once a test, and gives back what the last call returned."""

    def __init__(self, request: pytest.FixtureRequest, session: Session, terms: Terms) -> None:
        self._session = session
        self._test = request.node.nodeid
        self._benchmark: Any = None
        if request.config.pluginmanager.hasplugin("benchmark") and "benchmark" in request.fixturenames:
            self._benchmark = request.getfixturevalue("benchmark")
        self.terms = terms
        self.samples: Samples | None = None

    @property
    def enabled(self) -> bool:
        """Whether calls are measured: not under xdist, with --latency-disable, or where `benchmark` is disabled."""
        return not self._session.disabled and not getattr(self._benchmark, "disabled", False)

    def __call__(
        self,
        function: Callable[..., Any],
        *args: Any,
        n: int | None = None,
        setup: Setup | None = None,
        gc: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call it `n` times, one after the other, and record CPU time and wall time of each call.

        `n` is what is given here, else in the marker, else 2,000. `setup()`, not timed, gives `(args, kwargs)` of the
        next call. The collector runs once before and is off meanwhile: `gc=True` leaves it on, so that its pauses are
        in the tail. CPU time is of the calling thread.
        """
        n = count(n, "n") if n is not None else self.terms.n or CALLS
        call = Call(function, args, kwargs, setup)
        if not self._begin():
            return self._unmeasured(call)
        turns = self._session.turns
        if self._session.counted is not None:
            instructions.count(call, self._test, self._session.counted)
        elif turns is not None:
            self.samples = turns.closed(call, n, self._test, self.terms.ratio, gc)
        elif self._benchmark is not None:
            self.samples = self._through_benchmark(call, n, gc)
        else:
            self.samples = measure.closed(call, n, gc)
        return call.result

    def open(
        self,
        function: Callable[..., Any],
        *args: Any,
        rate: float,
        n: int | None = None,
        seconds: float | None = None,
        arrivals: str = "poisson",
        concurrency: int = 1,
        seed: int = 0,
        setup: Setup | None = None,
        gc: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Calls that arrive `rate` times a second whether or not the last has ended, by `concurrency` threads.

        Wall time counts from when a call was due, and is what limits are on. Either `n` or `seconds` bounds it;
        arrivals are "poisson" (of `seed`) or "constant". The collector stays on, as it does in service.
        """
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf"):
            raise TermError(f"rate={rate!r}: arrivals a second are a number above zero")
        if arrivals not in ("poisson", "constant"):
            raise TermError(f'arrivals={arrivals!r}: "poisson" or "constant" would be right')
        if seconds is not None and (n is not None or not 0 < seconds < float("inf")):
            raise TermError(f"n={n!r}, seconds={seconds!r}: one of the two bounds an open loop, and is above zero")
        count(concurrency, "concurrency")
        if seconds is None:
            n = count(n, "n") if n is not None else self.terms.n or CALLS
        call = Call(function, args, kwargs, setup)
        if not self._begin():
            return self._unmeasured(call)
        due = list(measure.arrivals(rate, n, seconds, arrivals, seed))
        if not due:
            raise TermError(f"rate={rate!r}, seconds={seconds!r}: nothing arrives in that time")
        turns = self._session.turns
        if turns is not None:
            turns.wait()
        self.samples = measure.open_loop(call, due, concurrency, gc)
        if turns is not None:
            turns.done(self._test, self.samples, self.terms.ratio)
        return call.result

    def finish(self) -> None:
        """Judge what was measured, once the test's own assertions have held."""
        session = self._session
        if self.samples is None or session.turns is not None:
            return
        if self._benchmark is not None:
            self._benchmark.extra_info["latency"] = report.summary(self.samples)
        result = Result(self._test, self.samples, session.judge(self._test, self.samples, self.terms))
        session.results.append(result)
        failing = {REGRESS, INCONCLUSIVE} if session.doubt_fails else {REGRESS}
        wrong = [str(verdict) for verdict in result.verdicts if verdict.verdict in failing]
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)

    def _begin(self) -> bool:
        if self.samples is not None:
            raise TermError(f"{self._test} measures twice: one function a test, parametrize for more")
        return self.enabled

    def _unmeasured(self, call: Call) -> Any:
        return call.once() if self._benchmark is None else self._benchmark.pedantic(call.once)  # it warns if unused

    def _through_benchmark(self, call: Call, n: int, keep_gc: bool) -> Samples:
        """Its rounds are our calls, so that its table and its JSON are of the same ones."""
        samples = Samples("closed")
        with measure.quiet(keep_gc):
            measure.warm(call, n)
            self._benchmark.pedantic(call.time, args=(samples, 1), rounds=n, iterations=1)
        return samples


@pytest.fixture
def latency(request: pytest.FixtureRequest) -> Latency:
    """Measures calls: `latency(function, *args, n=2000)`, or as they arrive: `latency.open(..., rate=100)`."""
    terms = terms_of(request.node)
    made = Latency(request, request.config.stash[session_key], terms)
    request.node.stash[fixture_key] = made
    return made


def terms_of(item: pytest.Item) -> Terms:
    """Of the nearest marker.

    Raises:
        pytest.UsageError: it says what the marker does not know; the message names test and word.
    """
    marker = item.get_closest_marker("latency")
    try:
        return parse_marker(marker.args, marker.kwargs) if marker else Terms()
    except TermError as error:
        raise pytest.UsageError(f"{item.nodeid}: {error}") from None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("latency", "latency: percentiles of single calls, and a gate on them")
    add = group.addoption
    add(
        "--latency-save",
        nargs="?",
        const="run",
        metavar="NAME",
        help="Keep this run's samples under --latency-storage.",
    )
    add(
        "--latency-compare", nargs="?", const=LATEST, metavar="REF",
        help="Compare with a file, a saved run (name or number; the newest if none is named), or a git revision: "
        "that one is built and run in turns with the working tree.",
    )  # fmt: skip
    add(
        "--latency-fail", action="append", default=[], type=_fail, metavar="pXX:N%|pXX:TIME",
        help="Fail what is slower than compared with by more than N%% (p99:10%%), or than TIME (p99:2ms); repeatable. "
        "Only what is so beyond doubt: an interval too wide to tell is inconclusive.",
    )  # fmt: skip
    add("--latency-report", type=_report, metavar="md|json[:FILE]", help="Print a report, or write it to FILE.")
    add("--latency-disable", action="store_true", help="Call what is to be measured once, and measure nothing.")
    add("--latency-storage", default=".latency", metavar="FOLDER", help="Where runs are kept; default: %(default)s.")
    add(
        "--latency-inconclusive", choices=("warn", "fail"), default="warn",
        help="What a comparison too noisy to decide does to its test; default: %(default)s.",
    )  # fmt: skip
    add("--latency-turns", help=argparse.SUPPRESS)  # pipes, from pairec_fast.latency.turns
    add("--latency-instructions", help=argparse.SUPPRESS)  # a file to write counts to, under callgrind
    add("--latency-tests", help=argparse.SUPPRESS)  # a file of the tests to run alone


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """A git revision to compare with is built and run in turns, by processes of their own."""
    ref = config.getoption("latency_compare")
    if ref is None or ref is LATEST or _why_disabled(config):
        return None
    if config.getoption("latency_turns") or config.getoption("latency_instructions"):
        return None  # one of these processes, whose configuration file asks for comparisons
    if store.find(Path(config.rootpath, config.getoption("latency_storage")), str(ref)) is not None:
        return None
    from pairec_fast.latency import build, compare

    if build.commit_of(config.rootpath, str(ref)) is None:
        return None
    return compare.from_pytest(config, str(ref))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        'latency(p99="2ms", p50=..., ratio=1.1, n=..., clock="cpu"): budgets of a test that uses the latency fixture; '
        "ratio is what its p99 may be of its base's.",
    )
    config.stash[session_key] = Session(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    session = config.stash[session_key]
    if session.base is None:
        return []
    there = session.base.machine
    return [
        f"latency: against {session.base.name} of {there.get('time')}, commit {there.get('commit')}; not interleaved"
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    session = config.stash[session_key]
    for item in items:
        terms_of(item)
    if session.only is not None:
        left = [item for item in items if item.nodeid not in session.only]
        items[:] = [item for item in items if item.nodeid in session.only]
        config.hook.pytest_deselected(items=left)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    fixture = item.stash.get(fixture_key, None)
    if fixture is not None:
        fixture.finish()
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    ours = session.config.stash.get(session_key, None)
    if ours is None or ours.save is None or ours.disabled or ours.turns is not None or not ours.results:
        return
    run = Run({result.test: result.samples for result in ours.results}, ours.about)
    ours.saved_to = store.save(ours.folder, ours.save, run)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    session = config.stash[session_key]
    write = terminalreporter.write_line
    if session.disabled and _wanted(config):
        terminalreporter.section("latency")
        write(f"Nothing was measured: {session.disabled}.")
    if not session.results:
        return
    terminalreporter.section("latency: CPU time a call")
    for line in report.lines(session.results):
        write(line)
    if session.saved_to:
        write(f"saved to {session.saved_to}")
    if session.report is not None:
        kind, path = session.report
        text = (report.as_json if kind == "json" else report.as_markdown)(session.results, session.about)
        if path is None:
            write(text)
        else:
            path.write_text(text)


def _why_disabled(config: pytest.Config) -> str:
    """Empty where calls are measured."""
    if config.getoption("latency_disable"):
        return "--latency-disable was given"
    if os.environ.get("PYTEST_XDIST_WORKER") or config.getoption("dist", "no") != "no":
        return "xdist runs tests side by side, and times of one would be of the others too"
    return ""


def _wanted(config: pytest.Config) -> bool:
    return bool(
        config.getoption("latency_save") or config.getoption("latency_compare") or config.getoption("latency_fail")
    )


def _fail(text: str) -> Limit:
    try:
        return parse_fail(text)
    except TermError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _report(text: str) -> tuple[str, Path | None]:
    kind, _, path = text.partition(":")
    if kind not in ("md", "json"):
        raise argparse.ArgumentTypeError(f"{text!r}: md or json, with :FILE to write it there, would be right")
    return kind, Path(path) if path else None


__all__: Sequence[str] = ["Latency", "latency"]
