"""The figures of `bench.bench_ring` are of what they say: every queue is measured, and none of it is refusals."""

from __future__ import annotations

import shutil

import pytest

from bench import bench_ring


def test_from_python_each_call_is_measured_and_costs_more_than_nothing():
    figures = bench_ring.from_python(4000, 2000, 2)
    assert list(figures) == ["nothing", "Log.push", "SimpleQueue.put"]
    assert figures["nothing"]["p50"] < figures["Log.push"]["p50"] <= figures["Log.push"]["p99.9"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the native queues with")
def test_in_cpp_every_queue_takes_every_record(tmp_path):
    lines = bench_ring.in_cpp(tmp_path, 2, 2000, 2)
    names = [line["queue"] for line in lines if line["bytes"] == 200]
    assert names[:3] == ["nothing", "ring", "mutex+deque"] and names[3:] in ([], ["moodycamel"])
    assert len(lines) == len(names) * len(bench_ring.SIZES)
    assert all(line["refused"] == 0 and line["p50"] <= line["p99"] <= line["p99.9"] for line in lines)


def test_flushed_counts_what_is_on_disk():
    records, megabytes = bench_ring.flushed(1000, 2000)
    assert records > 0 and megabytes == pytest.approx(records / 1000)
