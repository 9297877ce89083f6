"""The service as it is deployed: real processes, real HTTP, real signals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
from msgspec import to_builtins

from pairec_fast import slots
from pairec_fast.cli import main
from tests.faults import requests
from tests.logs import assert_sound
from tests.servers import Client, Server, command
from tests.test_metrics import parsed
from tests.worlds import FEED, FIRST, World

ASKED = [FIRST | {"uid": f"u{number:05d}", "request_id": f"r{number}", "size": 5} for number in range(5)]


@pytest.fixture(scope="module")
def answers(shared_world, tmp_path_factory) -> list[dict]:
    """What the engine says to ASKED in this process."""
    with World(shared_world, tmp_path_factory.mktemp("embedded")).engine() as engine:
        return [to_builtins(engine.recommend(request)) for request in ASKED]


def assert_each_once(world: World, acknowledged: list[str]) -> None:
    """Every acknowledged callback is in a closed segment, none twice, and nothing is left open or in a ring."""
    assert acknowledged and {path.suffix for path in world.log.iterdir()} == {".seg"}
    assert_sound(world.log)
    dumped = command("log", "dump", world.log)
    assert dumped.returncode == 0 and dumped.stderr == ""
    found = Counter(row["request_id"] for row in map(json.loads, dumped.stdout.splitlines()) if row["module"] == "user")
    assert set(found.values()) == {1}, [one for one, count in found.items() if count > 1]
    assert not set(acknowledged) - set(found)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", ["SIGTERM to the parent", "SIGINT to the group", "SIGKILL of a worker"])
def test_every_acknowledged_callback_survives_the_end(world, answers, workers, how):
    with Server(world, workers) as server:
        for request, answer in zip(ASKED, answers, strict=True):
            assert json.loads(server.ask(FEED, request)[1]) == answer
        clients = [Client(server, name) for name in "ab"]
        time.sleep(0.3)
        if how == "SIGKILL of a worker":
            before = server.workers()
            assert len(before) == workers
            os.kill(before[0], signal.SIGKILL)
            deadline = time.monotonic() + 20
            while len(server.workers()) < workers or before[0] in server.workers():
                assert time.monotonic() < deadline, "the worker did not come back"
                time.sleep(0.02)
            server.wait()
            time.sleep(0.3)
        group = how == "SIGINT to the group"
        code, seconds = server.end(signal.SIGINT if group else signal.SIGTERM, group=group)
        for client in clients:
            client.stop.set()
            client.join(20)
        assert (code, seconds < 10) == (0, True), server.stderr.read_text()
        assert "Traceback" not in server.stderr.read_text()
    assert_each_once(world, [one for client in clients for one in client.acknowledged])


@pytest.mark.parametrize("front", ["asgi", "rsgi", "uvicorn"])
def test_the_application_runs_on_other_servers_with_the_same_answers(world, answers, front):
    with Server(world, front=front) as server:
        for request, answer in zip(ASKED, answers, strict=True):
            assert json.loads(server.ask(FEED, request)[1]) == answer
        client = Client(server, "u")
        time.sleep(0.2)
        code, seconds = server.end(signal.SIGTERM)
        client.stop.set()
        client.join(20)
        assert code in (0, -signal.SIGTERM) and seconds < 10, server.stderr.read_text()
    assert_each_once(world, client.acknowledged)


def test_methods_heads_and_large_bodies_over_real_http(world, answers):
    with Server(world) as server:
        for method in ("GET", "PUT", "DELETE", "POST"):
            assert json.loads(server.ask(f"{FEED}?x=1", ASKED[0], method=method)[1]) == answers[0]
        assert server.ask("/ping", method="HEAD") == (200, b"")
        assert server.ask("/nope")[0] == 404
        padded = json.dumps(ASKED[0]).encode() + b" " * 1_000_000
        assert json.loads(server.ask(FEED, padded)[1]) == answers[0]
        large = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (FEED.encode(), 5 << 20)
        answer = requests.exchange(server.port, large + bytes(5 << 20), sound=True)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"request body larger than 1048576 bytes" in answer
        assert server.end(signal.SIGTERM)[0] == 0


# What does not start


def refused(world: World) -> str:
    """The one line a server that cannot start leaves."""
    done = command("serve", "--config", world.write())
    assert (done.returncode, done.stdout) == (1, ""), done
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("pairec-fast serve: "), done.stderr
    return lines[0]


def test_a_taken_port_is_one_line(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        world.conf["ListenConf"] = {"HttpAddr": "127.0.0.1", "HttpPort": port}
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in refused(world)
    world.conf["ListenConf"] = {"HttpAddr": "no.such.host.invalid", "HttpPort": 80}
    assert "cannot listen on no.such.host.invalid:80: " in refused(world)


def test_a_broken_configuration_is_named_with_its_place(world):
    world.conf["SceneConfs"]["home_feed"]["default"]["RecallNames"][1] = "simular"
    line = refused(world)
    assert "engine.json:1:" in line and 'unknown recall "simular" (did you mean "similar"?)' in line
    path = world.write()
    path.write_text('{"SceneConfs": ')
    done = command("serve", "--config", path)
    assert done.returncode == 1 and "engine.json:1:" in done.stderr and "Traceback" not in done.stderr
    done = command("serve", "--config", path.parent / "nope.json")
    assert done.returncode == 1 and "nope.json: cannot read the configuration: No such file" in done.stderr


def test_a_missing_or_altered_snapshot_is_named_with_its_place(world, shared_world, capsys):
    copy = world.folder / "snapshots"
    world.conf["SnapshotConf"]["Directory"] = "snapshots"
    assert str(copy) in refused(world)
    shutil.copytree(shared_world.parent / "snapshots", copy)
    current = copy / (copy / "CURRENT").read_text().strip()

    def problem(expected: str) -> None:
        assert main(["check", str(world.write())]) == 1
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1 and expected in said.err

    for path in sorted(current.iterdir()):
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        problem(path.name if path.name != "manifest.json" else current.name)
        if path.name in ("items.price.npy", "als.index"):
            path.write_bytes(whole[:-1])
            problem(path.name)
            path.unlink()
            problem(path.name)
        path.write_bytes(whole)
    assert main(["check", str(world.write())]) == 0
    (current / "ranker.txt").write_bytes(b"")
    assert "ranker.txt" in refused(world)
    (copy / "CURRENT").write_text("elsewhere\n")
    assert "elsewhere" in refused(world)


def test_a_topic_that_names_no_brokers_is_refused_before_anything_listens(world):
    world.conf["KafkaConfs"] = {"log": {"Topic": "t"}}
    world.callback["DataSource"]["Type"] = "kafka"
    assert "KafkaConfs.log: BootstrapServers is missing" in refused(world)


# Whatever comes in


def test_a_storm_of_malformed_requests_does_no_harm(world):
    totals = requests.run(world, times=300, seed=20)
    assert totals["good"] >= 15 and not requests.failed(totals), totals


def test_workers_whose_parent_was_killed_write_out_what_they_have_and_end(world):
    """Nobody would stop them, and who is started next would share the port with them."""
    with Server(world, 2) as server:
        workers, clients = server.workers(), [Client(server, f"c{number}") for number in range(2)]
        time.sleep(0.3)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 15
        while any(map(lives, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for client in clients:
            client.stop.set()
            client.join(20)
        assert "Traceback" not in server.stderr.read_text()
    assert_each_once(world, [one for client in clients for one in client.acknowledged])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_any_worker_tells_what_all_have_answered_and_a_killed_one_takes_nothing_with_it(world):
    world.conf["LimitConf"] = {"BudgetMicroseconds": {"home_feed": {"recall": 1}}}
    labels = '{scene="home_feed",stage="recall"}'
    names = ('pairec_rec_total{scene="home_feed",exp_id=""}', f"pairec_over_budget_total{labels}")
    names += (f"pairec_stage_duration_seconds_count{labels}",)
    with Server(world, 2) as server:
        first = server.workers()
        asked, seen, workers = 0, dict[str, float](), set[str]()
        for turn in range(3):
            for _ in range(30):  # each over a connection of its own: whichever worker takes it
                assert server.ask(FEED, ASKED[0])[0] == 200
                asked += 1
            for _ in range(12):
                samples = parsed(server.ask("/metrics")[1].decode())
                assert [samples[name] for name in names] == [asked] * 3
                workers |= {re.search(r'worker="(\d)"', key)[1] for key in samples if "items_live" in key}
                counters = {key: value for key, value in samples.items() if "worker=" not in key}
                assert all(counters.get(key, -1) >= value for key, value in seen.items()), "a counter fell"
                seen = counters
            if turn < 2:
                os.kill(first[turn], signal.SIGKILL)  # each once: who dies just after its start ends the server
                deadline = time.monotonic() + 20
                while len(server.workers()) < 2 or first[turn] in server.workers():
                    assert time.monotonic() < deadline, "the worker did not come back"
                    time.sleep(0.02)
                server.wait()
        deadline = time.monotonic() + 20
        while workers != {"0", "1"}:  # a worker shows its gauges to the other once a second
            assert time.monotonic() < deadline, f"gauges of {workers} alone"
            time.sleep(0.1)
            workers |= set(re.findall(r'items_live\{worker="(\d)"\}', server.ask("/metrics")[1].decode()))
        (path,) = (
            one for folder in slots.FOLDERS for one in Path(folder).glob(f"{slots.PREFIX}{server.process.pid}-*")
        )
        assert server.end(signal.SIGTERM)[0] == 0
    assert not path.exists()
