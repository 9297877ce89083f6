"""What a dead worker left is written out by one that lives, after a while, and never twice or behind a living owner."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from pairec_fast.core.ring import Log, recover, ring_has_owner, verify_segments
from pairec_fast.sink.disk import Adopter, open_log
from tests.faults import kill
from tests.logs import die_after, payloads
from tests.servers import Client, Server
from tests.test_metrics import parsed
from tests.worlds import LOGGED


@pytest.fixture
def rings(tmp_path):
    return tmp_path / "rings"


@pytest.fixture
def segments(tmp_path):
    return tmp_path / "segments"


def opened(segments, rings) -> Log:
    return open_log(
        segments, rings, ring_bytes=1 << 16, segment_bytes=1 << 20, segment_seconds=60, sync_seconds=1e6,
        free_bytes_min=0,
    )  # fmt: skip


def test_a_dead_workers_ring_is_adopted_when_it_has_had_no_owner_for_long_enough(segments, rings):
    def live() -> Log:
        log = opened(segments, rings)
        assert all(log.push(b"%d" % number) for number in range(100))
        return log

    with opened(segments, rings) as mine:
        assert mine.push(b"mine")
        die_after(live)
        adopter = Adopter(segments, rings, 10.0)
        assert adopter.look(0.0) == adopter.look(9.9) == 0 and (rings / "1.ring").stat().st_size > 4096
        assert adopter.look(10.0) == 100
        assert not list(segments.glob("log-1-*.open")) and (rings / "1.ring").stat().st_size == 4096
        assert adopter.look(100.0) == 0, "nothing is left of it"
        assert ring_has_owner(rings / "0.ring") and mine.push(b"still mine")
    assert sorted(payloads(segments)) == sorted([*(b"%d" % number for number in range(100)), b"mine", b"still mine"])
    assert all(report["closed"] and not report["errors"] for report in verify_segments(segments))


def test_a_worker_that_comes_back_in_time_keeps_its_ring_and_the_time_begins_anew(segments, rings):
    def live() -> Log:
        log = opened(segments, rings)
        assert log.push(b"first")
        return log

    adopter = Adopter(segments, rings, 10.0)
    die_after(live)
    assert adopter.look(0.0) == 0
    with opened(segments, rings) as back:
        assert back.recovered["records"] + back.recovered["repeated"] <= 1 and back.push(b"second")
        assert adopter.look(50.0) == 0, "it has an owner"
    die_after(live)
    assert adopter.look(51.0) == 0 and adopter.look(60.0) == 0 and adopter.look(61.0) == 1
    assert payloads(segments) == [b"first", b"second", b"first"]


def test_several_adopters_and_a_new_owner_at_once_write_each_record_once(segments, rings):
    def live() -> Log:
        log = opened(segments, rings)
        assert all(log.push(b"%d" % number) for number in range(500))
        return log

    for turn in range(5):
        die_after(live)
        pids = []
        for number in range(4):

            def act(number=number) -> None:
                if number:
                    Adopter(segments, rings, 0.0).look(0.0)
                else:
                    opened(segments, rings).close()

            pids.append(kill.in_child(act))
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
        recover(segments, rings / "0.ring")  # where all of them stepped back from each other
        assert len(payloads(segments)) == 500 * (turn + 1)
        assert sum(report["records"] for report in verify_segments(segments)) == 500 * (turn + 1)


def test_a_disk_that_refuses_leaves_the_ring_as_it_is_for_the_next_time(segments, rings):
    def live() -> Log:
        log = opened(segments, rings)
        assert log.push(b"kept")
        return log

    die_after(live)
    for path in segments.glob("*"):
        path.unlink()
    segments.rmdir()
    segments.write_bytes(b"in the way")
    adopter = Adopter(segments, rings, 5.0)
    assert adopter.look(0.0) == 0
    with pytest.raises(OSError):
        adopter.look(5.0)
    segments.unlink()
    assert adopter.look(9.9) == 0 and adopter.look(10.0) == 1
    assert payloads(segments) == [b"kept"]


def test_a_living_engine_writes_out_what_a_killed_one_left(world):
    # Under the mark nothing is written, so that what the dead one had is in its ring alone.
    world.conf["LogRingConf"] |= {"AdoptSeconds": 0.2, "FreeBytesMin": 1 << 60}

    def live():
        engine = world.engine()
        assert all(engine.callback(LOGGED | {"request_id": f"dead-{number}"}) for number in range(50))
        return engine

    with world.engine() as engine:
        assert engine.callback(LOGGED | {"request_id": "alive"})
        die_after(live)
        deadline = time.monotonic() + 10
        while parsed(engine.metrics.text(engine.gauges()))["pairec_adopted_records_total"] < 50:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        logged = {record[0]["request_id"] for record in world.records()}
        assert {f"dead-{number}" for number in range(50)} <= logged
    assert len(world.records()) == 51


def test_a_server_loses_nothing_that_it_acknowledged_when_its_workers_are_killed(world):
    """Whether the worker that follows or one that lives gets to a ring first."""
    world.conf["LogRingConf"] |= {"AdoptSeconds": 0.1}
    with Server(world, workers=2) as server:
        clients = [Client(server, name) for name in "ab"]
        for _ in range(3):
            time.sleep(0.4)
            if workers := server.workers():
                os.kill(workers[0], signal.SIGKILL)
        time.sleep(1)
        for client in clients:
            client.stop.set()
            client.join(20)
        server.wait()
        assert server.end(signal.SIGTERM)[0] == 0
    logged = [record[0]["request_id"] for record in world.records()]
    acknowledged = {one for client in clients for one in client.acknowledged}
    assert acknowledged and acknowledged <= set(logged), json.dumps(sorted(acknowledged - set(logged)))
    assert len(logged) == len(set(logged))
