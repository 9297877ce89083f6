"""The `latency` plugin as its users meet it: fixture, marker, options, and what it loads."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pairec_fast.latency import measure, plugin, store
from pairec_fast.latency.measure import Call
from pairec_fast.latency.store import Run, StoreError
from pairec_fast.latency.terms import Limit, TermError, Terms, duration_ns, parse_fail, parse_marker, quantile_of

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = any(point.name == plugin.NAME for point in entry_points(group="pytest11"))

SPIN = """
import time

def spin(us):
    until = time.thread_time_ns() + us * 1000
    while time.thread_time_ns() < until:
        pass
    return us
"""


@pytest.fixture
def run(pytester, monkeypatch):
    """pytest in a process of its own, on the tests given, with what `SPIN` defines."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(tests, *options):
        pytester.makepyfile(test_it=SPIN + tests)
        named = [] if INSTALLED else ["-p", "pairec_fast.latency.plugin"]
        return pytester.runpytest_subprocess(*named, "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options)

    return run


def report_of(pytester):
    return json.loads((pytester.path / "report.json").read_text())["tests"]


def test_importing_the_plugin_loads_no_compiled_module_and_no_numpy():
    code = (
        "import sys, pairec_fast.latency.plugin\n"
        "ours = [name for name, module in sys.modules.items() if name.startswith('pairec_fast')]\n"
        "print([name for name in ours if not name.startswith('pairec_fast.latency') and name != 'pairec_fast'])\n"
        "print([name for name in ours if str(getattr(sys.modules[name], '__file__', '')).endswith('.so')])\n"
        "print('numpy' in sys.modules)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split("\n")[:3] == ["[]", "[]", "False"]


def test_public_names_are_there_when_asked_for_and_no_others():
    code = (
        "import pairec_fast, sys\n"
        "before = 'pairec_fast.engine' in sys.modules\n"
        "assert set(pairec_fast.__all__) <= set(dir(pairec_fast))\n"
        "assert all(getattr(pairec_fast, name) is not None for name in pairec_fast.__all__)\n"
        "from pairec_fast import *\n"
        "assert Engine.__module__ == 'pairec_fast.engine' and items.__name__ == 'pairec_fast.items'\n"
        "print(before, hasattr(pairec_fast, 'Motor'))\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False False"


def test_the_package_offers_the_plugin_to_every_pytest():
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert written == {plugin.NAME: plugin.__name__}


def test_calls_are_timed_one_by_one_and_the_last_result_comes_back(run, pytester):
    tests = """
def test_it(latency):
    made = []
    def call(number):
        made.append(number)
        spin(100)
        return len(made)
    assert latency(call, 7, n=400) == len(made) == 420  # one in twenty warms up
    assert set(made) == {7}
    assert len(latency.samples) == 400
"""
    run(tests, "--latency-report=json:report.json").assert_outcomes(passed=1)
    [found] = report_of(pytester)
    assert found["n"] == 400
    for clock in ("cpu_us", "wall_us"):
        assert 100 <= found[clock]["p50"]["low"] <= found[clock]["p50"]["value"] <= found[clock]["p50"]["high"]
    assert found["wall_us"]["p50"]["value"] >= found["cpu_us"]["p50"]["value"]
    assert found["cpu_us"]["p99"]["high"] is not None
    assert found["cpu_us"]["p99.9"]["high"] is None, "400 samples bound no p99.9 from above"


def test_cpu_time_leaves_out_waiting_and_wall_time_does_not(run, pytester):
    run(
        "def test_it(latency):\n    latency(time.sleep, 0.002, n=40)\n", "--latency-report=json:report.json"
    ).assert_outcomes(passed=1)
    [found] = report_of(pytester)
    assert found["wall_us"]["p50"]["value"] >= 2000
    assert found["cpu_us"]["p50"]["value"] < 1000


def test_setup_gives_fresh_arguments_and_is_not_timed():
    given = []

    def setup():
        given.append(len(given))
        until = measure.time.thread_time_ns() + 1_000_000
        while measure.time.thread_time_ns() < until:
            pass
        return (given[-1],), {"plus": 1}

    call = Call(lambda number, plus: number + plus, (), {}, setup)
    samples = measure.closed(call, 20)
    assert call.result == len(given) == 21
    assert sorted(samples.cpu)[10] < 500_000


@pytest.mark.parametrize("made", [7, (1, 2, 3), ((1,), 2)])
def test_setup_that_returns_no_arguments_is_refused(made):
    with pytest.raises(TypeError, match=r"a pair of \(args, kwargs\)"):
        Call(print, (), {}, lambda: made).once()


def test_the_collector_is_off_while_calls_are_timed_and_on_where_asked_for():
    import gc

    def seen(keep):
        call = Call(gc.isenabled, (), {})
        measure.closed(call, 1, keep)
        return call.result, gc.isenabled()

    assert seen(False) == (False, True)
    assert seen(True) == (True, True)


def stalled(stall_at):
    """A function that takes nothing, but 50 ms once."""
    made = iter(range(10**9))

    def call():
        if next(made) == stall_at:
            measure.time.sleep(0.05)

    return Call(call, (), {})


def test_a_stall_is_one_sample_of_a_closed_loop_and_seen_by_every_arrival_of_an_open_one():
    """Coordinated omission: who asks only when answered asks once while nobody answers."""
    in_closed = measure.closed(stalled(60), 200)
    assert 1 <= sum(ns > 25_000_000 for ns in in_closed.wall) < 5
    due = list(measure.arrivals(1000.0, 200, None, "constant", 0))
    in_open = measure.open_loop(stalled(60), due, 1)
    waited = in_open.wall[59:108]  # one call warms up; these are due 1 ms after each other while nobody answers
    assert all(ns >= (49 - late) * 1_000_000 for late, ns in enumerate(waited))


def test_more_threads_take_arrivals_while_one_is_stalled():
    due = list(measure.arrivals(1000.0, 200, None, "constant", 0))
    alone, many = (measure.open_loop(stalled(60), due, threads).wall[59:108] for threads in (1, 4))
    assert sorted(many)[24] < sorted(alone)[24]


def test_arrivals_are_at_the_rate_asked_for_and_the_same_for_one_seed():
    drawn = list(measure.arrivals(500.0, 20_000, None, "poisson", 3))
    assert drawn == list(measure.arrivals(500.0, 20_000, None, "poisson", 3)) != sorted(set(drawn))[:-1]
    assert drawn == sorted(drawn)
    assert abs(drawn[-1] / 1e9 - 40) < 1.5
    gaps = [after - before for before, after in itertools.pairwise(drawn)]
    assert abs(sum(gap > 2_000_000 for gap in gaps) / len(gaps) - 0.3679) < 0.02, "exponential: 1/e exceed the mean"
    assert list(measure.arrivals(4.0, None, 1.0, "constant", 0)) == [
        250_000_000,
        500_000_000,
        750_000_000,
        1_000_000_000,
    ]


def test_an_error_in_an_open_loop_is_raised_where_the_test_sees_it():
    def fail():
        raise KeyError("gone")

    due = list(measure.arrivals(1000.0, 20, None, "constant", 0))
    with pytest.raises(KeyError, match="gone"):
        measure.open_loop(Call(fail, (), {}), due, 2)


def test_an_open_loop_that_cannot_be_is_refused(run):
    wrong = {
        "rate=0, n=10": "rate=0: arrivals a second",
        "rate=10, n=10, seconds=1": "one of the two bounds",
        "rate=10, n=10, arrivals='uniform'": "arrivals='uniform'",
        "rate=10, n=10, concurrency=0": "concurrency=0",
        "rate=1, seconds=0.0001": "nothing arrives",
    }
    tests = "".join(f"def test_{at}(latency):\n    latency.open(spin, 1, {given})\n" for at, given in enumerate(wrong))
    result = run(tests)
    result.assert_outcomes(failed=len(wrong))
    result.stdout.fnmatch_lines([f"*{said}*" for said in wrong.values()])


def test_a_budget_fails_beyond_doubt_passes_beyond_doubt_and_is_inconclusive_between(run, pytester):
    tests = """
import pytest

@pytest.mark.latency(p50="20us", n=400)
def test_over(latency):
    latency(spin, 100)

@pytest.mark.latency(p50=0.05, n=400)
def test_within(latency):
    latency(spin, 100)

@pytest.mark.latency(p99="500ms", n=100)
def test_too_few(latency):
    latency(spin, 100)
"""
    result = run(tests, "--latency-report=json:report.json")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*p50: regress: *allowed 20 us*", "*n=100 has no upper bound for p99, 368 are needed*"]
    )
    verdicts = {each["test"].split("::")[1]: each["verdicts"][0]["verdict"] for each in report_of(pytester)}
    assert verdicts == {"test_over": "regress", "test_within": "pass", "test_too_few": "inconclusive"}
    strict = run(tests, "--latency-inconclusive=fail")
    strict.assert_outcomes(passed=1, failed=2)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("p99='2 parsecs'", "'2 parsecs' is no duration"),
        ("p99=-1.0", "no duration above zero"),
        ("p99=True", "True is no duration"),
        ("p100='1ms'", "knows no 'p100'"),
        ("max='1ms'", "knows no 'max'"),
        ("n=0", "n=0: a count of calls"),
        ("ratio=0.5", "ratio=0.5"),
        ("clock='sun'", "clock='sun'"),
        ("'2ms'", "takes names alone"),
    ],
)
def test_a_marker_that_says_what_it_does_not_know_is_an_error_naming_it(marker, said):
    call = ast.parse(f"latency({marker})", mode="eval").body
    args = [ast.literal_eval(one) for one in call.args]
    kwargs = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    with pytest.raises(TermError, match=re.escape(said)):
        parse_marker(args, kwargs)


def test_a_wrong_marker_ends_the_run_naming_its_test(run):
    result = run(
        "import pytest\n@pytest.mark.latency(p98_5='1ms', max=1)\ndef test_it(latency):\n    latency(spin, 1)\n"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it*knows no 'max'*"])


@pytest.mark.parametrize("given", ["p99", "p99:", "p99:10", "p99:fast", "mean:10%", "p0:10%"])
def test_a_limit_that_cannot_be_read_is_refused(given):
    with pytest.raises(TermError, match=r"p99:10% or p99:2ms|no quantile"):
        parse_fail(given)


def test_what_people_write_is_read():
    assert [duration_ns(text) for text in ("2ms", "150us", "1.5s", " 7 ns ", 0.002)] == [2e6, 150e3, 1.5e9, 7, 2e6]
    assert [quantile_of(name) for name in ("p50", "p99", "p99.9")] == [0.5, 0.99, 0.999]
    assert parse_fail("p99.9:12.5%") == Limit("p99.9", ratio=1.125)
    assert parse_fail("p50:2ms") == Limit("p50", budget_ns=2e6)
    terms = parse_marker((), {"p99_9": "2ms", "ratio": 1.2, "n": 5, "clock": "wall"})
    assert terms == Terms((Limit("p99.9", budget_ns=2e6),), 1.2, 5, "wall")


def test_a_run_is_saved_and_a_slower_one_fails_against_it(run, pytester, monkeypatch):
    monkeypatch.setenv("US", "100")
    tests = "import os, pytest\ndef test_it(latency):\n    latency(spin, int(os.environ['US']), n=1000)\n"
    result = run(tests, "--latency-save=parent")
    result.assert_outcomes(passed=1)
    [path] = pytester.path.glob(".latency/*/0001_parent.json")
    kept = store.load(path)
    assert len(kept.tests["test_it.py::test_it"]) == 1000
    assert kept.machine["cpu"] == store.cpu_model()
    run(tests, "--latency-compare=parent", "--latency-fail=p50:60%").assert_outcomes(passed=1)
    monkeypatch.setenv("US", "300")
    slower = run(tests, "--latency-fail=p50:10%")
    slower.assert_outcomes(failed=1)
    slower.stdout.fnmatch_lines(["*against parent*not interleaved*", "*p50: regress: *stored numbers*"])
    own = "import os, pytest\n@pytest.mark.latency(ratio=20)\n" + tests.split("\n", 1)[1]
    run(own, "--latency-compare", "--latency-fail=p99:10%").assert_outcomes(passed=1)


def test_a_run_of_another_machine_decides_nothing(run, pytester):
    tests = "def test_it(latency):\n    latency(spin, 100, n=400)\n"
    run(tests, "--latency-save").assert_outcomes(passed=1)
    [path] = pytester.path.glob(".latency/*/0001_run.json")
    path.write_text(path.read_text().replace(json.dumps(store.cpu_model()), '"abacus"'))
    result = run(tests, f"--latency-compare={path}", "--latency-fail=p99:10%")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*p99: inconclusive: cpu was abacus*"])


@pytest.mark.parametrize("options", [["--latency-compare=nobody"], ["--latency-fail=p99:10%"]])
def test_a_comparison_with_nothing_is_refused(run, options):
    result = run("def test_it(latency):\n    latency(spin, 1)\n", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nothing to compare with*--latency-save*"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"format": 1', '"format": 9'),
        lambda text: text.replace('"n": 40', '"n": 41'),
        lambda text: text.replace('"cpu_ns": "', '"cpu_ns": "AAAA'),
        lambda text: text.replace('"cpu_ns"', '"cpu"'),
        lambda text: "[]",
    ],
)
def test_a_damaged_run_is_refused_by_its_name(tmp_path, damage):
    path = store.save(tmp_path, "whole", Run({"test": measure.closed(Call(int, (), {}), 40)}, store.machine()))
    assert len(store.load(path).tests["test"]) == 40
    path.write_text(damage(path.read_text()))
    with pytest.raises(StoreError, match=r"0001_whole\.json"):
        store.load(path)


def test_runs_are_found_by_name_number_and_age(tmp_path):
    paths = [store.save(tmp_path, name, Run()) for name in ("a", "b", "a")]
    assert [path.stem for path in paths] == ["0001_a", "0002_b", "0003_a"]
    assert store.find(tmp_path, None) == store.find(tmp_path, "a") == store.find(tmp_path, "3") == paths[2]
    assert store.find(tmp_path, "0001_a") == store.find(tmp_path / "elsewhere", str(paths[0])) == paths[0]
    assert store.find(tmp_path, "c") is None and store.find(tmp_path / "elsewhere", None) is None
    with pytest.raises(StoreError, match="names no run"):
        store.save(tmp_path, "../a", Run())


def test_percentiles_land_in_pytest_benchmarks_json_of_the_same_calls(run, pytester):
    pytest.importorskip("pytest_benchmark")
    tests = "def test_it(latency, benchmark):\n    assert latency(spin, 100, n=400) == 100\n"
    run(tests, "--benchmark-json=bench.json").assert_outcomes(passed=1)
    [found] = json.loads((pytester.path / "bench.json").read_text())["benchmarks"]
    ours = found["extra_info"]["latency"]
    assert found["stats"]["rounds"] == ours["n"] == 400
    assert set(ours["cpu_us"]) == {"p50", "p90", "p99", "p99.9"}
    assert ours["wall_us"]["p50"]["value"] <= found["stats"]["median"] * 1e6 < ours["wall_us"]["p50"]["value"] + 40


def test_it_works_without_pytest_benchmark(run):
    run("def test_it(latency):\n    assert latency(spin, 5, n=40) == 5\n", "-p", "no:benchmark").assert_outcomes(
        passed=1
    )


@pytest.mark.parametrize("options", [["--latency-disable"], ["--benchmark-disable"]])
def test_disabled_calls_once_and_measures_nothing(run, options):
    pytest.importorskip("pytest_benchmark")
    tests = """
import pytest

@pytest.mark.latency(p50="1us")
def test_it(latency, benchmark):
    made = []
    latency(made.append, spin(50))
    assert len(made) == 1 and not latency.enabled
    assert latency.samples is None
"""
    result = run(tests, *options)
    result.assert_outcomes(passed=1, warnings=0)


def test_beside_xdist_nothing_is_measured_and_the_reason_is_said(run, monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    result = run("def test_it(latency):\n    latency(spin, 1)\n    assert latency.samples is None\n", "--latency-save")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*Nothing was measured: xdist*"])


def test_a_budget_is_on_cpu_time_unless_wall_time_is_asked_for_or_arrivals_wait(run):
    tests = """
import pytest

@pytest.mark.latency(p50="1ms", n=20)
def test_cpu(latency):
    latency(time.sleep, 0.002)

@pytest.mark.latency(p50="1ms", n=20, clock="wall")
def test_wall(latency):
    latency(time.sleep, 0.002)

@pytest.mark.latency(p50="1ms", n=40)
def test_open(latency):
    latency.open(time.sleep, 0.002, rate=2000)
"""
    result = run(tests, "--latency-report=md")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["| test | n |*", "| `test_it.py::test_cpu` | 20 |*| pass |", "*test_open` | 40 open*regress |"]
    )


def test_a_test_measures_one_function(run):
    result = run("def test_it(latency):\n    latency(spin, 1, n=9)\n    latency(spin, 1, n=9)\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*measures twice*"])


def test_a_failing_test_is_not_judged(run):
    result = run("def test_it(latency):\n    latency(spin, 9, n=40)\n    assert False\n", "--latency-save")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*saved to*")
