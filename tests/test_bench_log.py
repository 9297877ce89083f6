"""`bench.bench_log` measures what it says: answers of 200, callbacks that were logged, rows that arrived."""

from __future__ import annotations

import json
import os
import time

import pytest

from bench import bench_log
from bench.servers import cpu_ns
from pairec_fast.core import read_segments
from tests.topics import cluster, read


@pytest.fixture(scope="module")
def shop(tmp_path_factory, shared_world):
    return bench_log.Shop(tmp_path_factory.mktemp("bench"), shared_world)


def test_callbacks_and_empty_handlers_are_answered_and_each_callback_is_logged(shop, capsys):
    servers = bench_log.callbacks(shop, 1, 0.2)
    assert list(servers) == ["empty, ASGI", "empty, RSGI", "/api/callback"]
    assert all(server.median("cpu") > 0 and server.median("p50") <= server.median("p99") for server in servers.values())
    logged = sum(1 for _ in read_segments(shop.folder / "log-callback-log"))
    assert logged > servers["/api/callback"].figures["requests"][0]  # and those that warmed it up
    assert "share of CPU" in capsys.readouterr().out


def test_recommendations_with_logging_leave_a_record_each_and_those_without_none(shop, capsys):
    figures = bench_log.recommends(shop, 1, 0.2, 50)
    assert list(figures) == ["off", "on"] and figures["off"]["p50"] <= figures["on"]["whole p50"]
    assert sum(1 for _ in read_segments(shop.folder / "log-on-log")) == 2 * 50  # and those that warmed it up
    for name in ("off", "http-off"):
        assert not list(read_segments(shop.folder / f"log-{name}-log"))
    assert list(read_segments(shop.folder / "log-http-on-log"))
    assert "on / off" in capsys.readouterr().out


def test_rows_that_are_counted_have_arrived(tmp_path):
    mock = cluster()
    try:
        figures = bench_log.to_kafka(mock.servers, "rows", 20, tmp_path)
        assert len(read(mock)) == 21 * (1 + bench_log.ITEMS)  # and the one that connects
    finally:
        mock.close()
    assert (
        figures["rows/s"] == pytest.approx(figures["records/s"] * (1 + bench_log.ITEMS)) and figures["CPU us/row"] > 0
    )


def test_bodies_are_of_the_size_that_is_named_and_ordinary(shop):
    bodies = shop.bodies("looked-at", shop.shown, 50).read_bytes().splitlines()
    assert len({len(json.loads(body)["request_id"]) for body in bodies}) == 1
    assert all(900 < len(body) < 1400 and len(json.loads(body)["item_list"]) == bench_log.ITEMS for body in bodies)


def test_cpu_time_is_that_of_the_process():

    before = cpu_ns(os.getpid())
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert (cpu_ns(os.getpid()) - before) / 1e9 == pytest.approx(0.2, abs=0.1)
