"""The benchmarks of the server, in doses of a second: they run, and what they print is of the servers they name."""

from __future__ import annotations

import os
import re
import sys

import pytest

pytest.importorskip("granian")

from bench import bench_http, overload, placement, workers

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the server and its client need a core each")


def printed(monkeypatch, capsys, module, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    assert module.main() == 0
    said: str = capsys.readouterr().out
    return said


def test_ours_and_a_bare_handler_are_measured_by_connections(monkeypatch, capsys, shared_world):
    monkeypatch.setattr(bench_http, "ROWS", [("http1", "ours-stood"), ("rsgi", "json"), ("asgi", "empty")])
    arguments = ("--rounds", "1", "--seconds", "0.2", "--connections", "2", "8", "--config", str(shared_world))
    said = printed(monkeypatch, capsys, bench_http, *arguments)
    for server, application in bench_http.ROWS:
        costs = re.search(rf"{server} +{application} +([\d.]+) / [\d.]+ +([\d.]+) / [\d.]+\n", said)
        assert costs and all(1 < float(cost) < 5_000 for cost in costs.groups()), said
    assert re.search(r"http1 +/ rsgi json +\d", said)


def test_overload_counts_what_is_answered_in_full_degraded_and_refused(monkeypatch, capsys, shared_world):
    arguments = ("--seconds", "1", "--loads", "0.3", "6", "--callbacks", "0", "--config", str(shared_world))
    said = printed(monkeypatch, capsys, overload, *arguments, "--connections", "200", "--set", "InFlightMax=4")
    quiet, loud = (re.search(rf"{load} x +(.*)", said)[1].split() for load in ("0.3", "6"))
    assert int(quiet[1]) > 0.8 * int(quiet[0]) and int(quiet[2]) > 0
    assert int(loud[6]) > 0 and int(loud[1]) < int(loud[0]), said


def test_a_second_worker_is_measured_beside_one(monkeypatch, capsys, shared_world):
    arguments = ("--seconds", "0.5", "--rounds", "1", "--rate", "100", "--config", str(shared_world))
    said = printed(monkeypatch, capsys, workers, *arguments)
    assert re.search(r"median of ratios \d", said) and said.count(" of two: Rss") == 2


def test_walks_are_placed_inline_and_on_threads(monkeypatch, capsys, shared_world):
    monkeypatch.setattr(placement, "LOADS", (0.3,))
    arguments = ("--seconds", "0.4", "--rounds", "1", "--config", str(shared_world))
    said = printed(monkeypatch, capsys, placement, *arguments)
    for name in ("inline", "a thread", "two workers, inline", "one worker, two threads"):
        row = re.search(rf"\| {name} \| 0\.3x \| ([\d.]+) \| [\d.]+ \| ([\d,]+) \| [\d,]+ \|", said)
        assert row and float(row[1]) > 0 and int(row[2].replace(",", "")) > 0, said
