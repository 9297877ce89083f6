"""Two builds in turns, by real processes: who measures when, what is built, what a user of the command sees."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gate import project
from pairec_fast.latency import build, compare, instructions
from pairec_fast.latency.terms import Limit
from pairec_fast.latency.turns import Side, TurnError, measure_pair

ROOT = Path(__file__).resolve().parent.parent

DIARY = """
import os, time
from work import work

def note(word):
    with open(os.environ["DIARY"], "a") as out:
        out.write(f"{os.environ['SIDE']} {word} {time.perf_counter_ns()}\\n")

def test_first(latency):
    note("in")
    def call():
        note("call")
        work()
    latency(call, n=40)
    note("out")

def test_second(latency):
    note("in")
    latency(work, n=25)
    note("out")
"""


@pytest.fixture
def plain(monkeypatch):
    """Processes without other plugins, which start sooner."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def two(tmp_path, plain):
    """A side for each of two makes of one module, with the benchmarks given."""

    def two(benchmarks, *works):
        folder = tmp_path / "bench"
        folder.mkdir()
        (folder / "test_it.py").write_text(benchmarks)
        (folder / "pytest.ini").write_text("[pytest]\n")
        made = []
        for name, work in zip(("base", "head"), works, strict=True):
            (tmp_path / name).mkdir()
            (tmp_path / name / "work.py").write_text(work)
            known = {"PYTHONPATH": str(tmp_path / name), "SIDE": name, "DIARY": str(tmp_path / "diary")}
            made.append(Side(name, sys.executable, folder, known))
        return made

    return two


SPIN = """
import time

def work():
    until = time.thread_time_ns() + {us} * 1000
    while time.thread_time_ns() < until:
        pass
"""


def test_only_one_process_does_anything_at_a_time_and_they_alternate(two, tmp_path):
    base, head = two(DIARY, SPIN.format(us=2000), SPIN.format(us=2000))
    found, alone = measure_pair(base, head, ["-p", "no:cacheprovider"], 0, tmp_path)
    assert not alone
    assert {test: (len(pair.base), len(pair.head)) for test, pair in found.items()} == {
        "test_it.py::test_first": (40, 40), "test_it.py::test_second": (25, 25)
    }  # fmt: skip
    told = [line.split() for line in (tmp_path / "diary").read_text().splitlines()]
    sides = [side for side, _, _ in told]
    turns = sum(before != after for before, after in itertools.pairwise(sides))
    assert turns >= 8, "40 calls of 2 ms are ten turns, each side's"
    assert [int(at) for _, _, at in told] == sorted(int(at) for _, _, at in told)


def test_the_slower_build_is_found_slower_and_who_begins_does_not_matter(two, tmp_path):
    base, head = two(
        "from work import work\ndef test_it(latency):\n    latency(work, n=60)\n",
        SPIN.format(us=200),
        SPIN.format(us=500),
    )
    for number in (0, 1):
        found, _ = measure_pair(base, head, ["-p", "no:cacheprovider"], number, tmp_path)
        pair = found["test_it.py::test_it"]
        assert 200_000 <= sorted(pair.base.cpu)[30] < 500_000 <= sorted(pair.head.cpu)[30]


def test_benchmarks_that_fail_are_an_error_with_what_they_printed(two, tmp_path):
    base, head = two(
        "from work import work\ndef test_it(latency):\n    latency(work, n=9)\n",
        "def work(): pass\n",
        "def work(): raise KeyError('gone missing')\n",
    )
    with pytest.raises(TurnError, match=r"(?s)benchmarks on head ended with status 1.*gone missing"):
        measure_pair(base, head, ["-p", "no:cacheprovider"], 0, tmp_path)


def test_a_test_of_one_side_alone_is_said_and_not_compared(two, tmp_path):
    tests = (
        "import work\n"
        "def test_it(latency):\n    latency(work.work, n=9)\n"
        "if hasattr(work, 'more'):\n    def test_more(latency):\n        latency(work.more, n=9)\n"
    )
    base, head = two(tests, "def work(): pass\n", "def work(): pass\ndef more(): pass\n")
    found, alone = measure_pair(base, head, ["-p", "no:cacheprovider"], 0, tmp_path)
    assert set(found) == {"test_it.py::test_it"}
    assert alone == {"test_it.py::test_more"}


@pytest.fixture
def repository(tmp_path, monkeypatch, plain):
    """The project of `bench.gate` and its commits; builds are kept in a cache of its own."""
    pytest.importorskip("setuptools")
    pytest.importorskip("pip")
    monkeypatch.setenv("PAIREC_LATENCY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "project"
    folder.mkdir()
    return folder, project(folder, 200)


def test_a_revision_is_built_once_into_an_environment_of_its_own(repository):
    folder, commits = repository
    told = []
    commit, python = build.environment(folder, "HEAD~2", told.append)
    assert commit == commits["identical"] == list(commits.values())[1]
    assert build.environment(folder, commits["identical"][:12], told.append) == (commit, python)
    assert ["building" in told[0], "built before" in told[1]] == [True, True]
    ask = "import planted, sys; print(planted.__file__, sys.prefix)"
    said = subprocess.run(
        [python, "-c", ask], capture_output=True, text=True, check=True, env=build.plain_environment()
    )
    env = str(Path(python).parent.parent)
    assert said.stdout.split()[0].startswith(env) and said.stdout.split()[1] == env


def test_what_is_no_revision_or_does_not_build_is_refused(repository):
    folder, commits = repository
    with pytest.raises(build.BuildError, match="'nowhere' is no revision"):
        build.environment(folder, "nowhere", print)
    with pytest.raises(build.BuildError, match="has no benches"):
        build.benchmarks(folder, commits["base"], ["benches"], folder / "out")
    (folder / "pyproject.toml").write_text("[build-system]\nrequires = []\nbuild-backend = 'absent'\n")
    with pytest.raises(build.BuildError, match=r"(?s)\. \(.*does not build; it printed last:.*absent"):
        build.environment(folder, ".", print)


def test_the_command_compares_two_revisions_and_the_working_tree(repository, monkeypatch, capsys):
    """The working tree does three times the work, which no commit holds."""
    folder, _ = repository
    monkeypatch.chdir(folder)
    given = ["--times", "7", "--fail", "p50:50%", "--report", "json", "--", "bench"]
    assert compare.main(["HEAD~3", "HEAD~2", *given]) == 0
    work = folder / "planted.py"
    work.write_text(work.read_text().replace("in range(units)", "in range(3 * units)"))
    assert compare.main(["HEAD", ".", *given]) == 1
    printed = capsys.readouterr()
    same, slower = printed.out.split("\n}\n")[:2]
    assert json.loads(same + "}")["tests"][0]["verdicts"][0]["verdict"] == "pass"
    [found] = json.loads(slower + "}")["tests"][0]["verdicts"]
    assert (found["verdict"], found["quantile"]) == ("regress", "p50")
    assert found["low"] > 1.5
    assert compare.main(["HEAD", "nowhere", *given]) == 2


def test_pytest_given_a_revision_to_compare_with_runs_both_in_turns(repository):
    folder, _ = repository
    work = folder / "planted.py"
    work.write_text(work.read_text().replace("in range(units)", "in range(3 * units)"))
    options = ["--latency-compare=HEAD~3", "--latency-fail=p50:50%", "-p", "no:cacheprovider", "bench"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "pairec_fast.latency.plugin", *options],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "p50: regress" in done.stdout
    assert "10 pairs of processes" in done.stdout


def test_what_pytest_was_told_of_the_comparison_is_not_told_its_processes():
    words = [
        "-q",
        "--latency-compare",
        "main",
        "--latency-fail=p99:5%",
        "--latency-fail",
        "p50:5%",
        "bench",
        "-k",
        "main",
    ]
    assert compare._without_ours(words) == ["-q", "bench", "-k", "main"]
    assert compare._without_ours(["--latency-save", "-x", "bench"]) == ["-x", "bench"]


@pytest.mark.timeout(900)  # callgrind is slow to start, and slower beside others
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="instructions are counted by callgrind of valgrind")
def test_instructions_of_the_same_calls_differ_by_what_the_code_does(two, tmp_path):
    loop = "def work():\n    total = 0\n    for unit in range({units}):\n        total += unit\n    return total\n"
    tests = "from work import work\ndef test_it(latency):\n    latency(work)\n"
    base, head = two(tests, loop.format(units=200), loop.format(units=220))
    [found] = instructions.compare(base, head, ["-p", "no:cacheprovider"], 1.02, tmp_path)
    assert found.verdict == "regress"
    assert 1.05 < found.head / found.base < 1.12, "a tenth of the loop, and a call around it"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--fail", "p99:2ms"], "compared by a share"),
        (["--times", "1"], "bounds need 7 pairs"),
        (["--fail", "9"], "p99:10%"),
    ],
)
def test_a_comparison_that_could_decide_nothing_is_refused(capsys, given, said):
    with pytest.raises(SystemExit):
        compare.main(["a", "b", *given, "--", "bench"])
    assert said in capsys.readouterr().err
    assert Limit("p99", ratio=1.1) == compare.DEFAULT_LIMIT
