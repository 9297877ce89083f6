"""Overflow and durability: who waits for the log and how long, what is answered then, and that nobody else waits."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from pairec_fast.app import App
from pairec_fast.callback import invoked
from pairec_fast.config import Config, DataSource
from pairec_fast.core.ring import read_segments, recover
from pairec_fast.errors import ConfigError, RequestError
from pairec_fast.messages import CallbackRequest, RecommendRequest
from pairec_fast.scene import KINDS
from tests.servers import Server
from tests.test_callback import counts
from tests.test_metrics import parsed
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, ROOT, ask

LARGE = LOGGED | {"item_list": [{"item_id": "a", "text": "x" * 4000}]}  # 16 of them fill the smallest ring
OVERLOADED = {"code": 503, "msg": "overloaded", "request_id": "r1"}


def small(world, **ring) -> None:
    world.conf["LogRingConf"] |= {"RingBytes": 1 << 16, **ring}


def fill(engine) -> int:
    """Explicit callbacks until one is refused. Answers how many were taken."""
    taken = 0
    while engine.callback(LARGE):
        taken += 1
    return taken


async def answer(app, path, body) -> tuple[int, dict[str, str], bytes]:
    """As `ask`, on the loop that is running."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": json.dumps(body).encode()}

    async def send(message):
        sent.append(message)

    await app({"type": "http", "path": path, "headers": []}, receive, send)
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], names, sent[1]["body"]


def gauge(engine, name: str) -> float:
    return parsed(engine.metrics.text(engine.gauges()))[f"pairec_{name}"]


# Overflow


def test_an_explicit_callback_waits_for_space_without_holding_up_anybody_and_is_then_refused(world):
    small(world, BlockMilliseconds=800)
    world.conf["LimitConf"] = {"InFlightMax": 1}  # who waits is not at work
    with world.engine() as engine, world.no_disk():
        app, taken = App(engine), fill(engine)
        assert 10 < taken < 17

        async def scenario() -> None:
            begin = time.monotonic()
            waiting = [asyncio.create_task(answer(app, CALLBACK, LARGE)) for _ in range(3)]
            await asyncio.sleep(0)
            for _ in range(5):
                assert (await answer(app, FEED, FIRST))[0] == 200
            assert time.monotonic() - begin < 0.8 and not any(task.done() for task in waiting)
            for task in waiting:
                status, headers, body = await task
                assert (status, json.loads(body)) == (503, OVERLOADED) and headers["retry-after"] in ("1", "2", "3")
            assert 0.79 <= time.monotonic() - begin < 4

        asyncio.run(scenario())
        totals = counts(engine, "log")
        assert totals == {"offered": taken + 4, "sampled_out": 0, "accepted": taken, "dropped": 4}
        assert gauge(engine, "log_in_ring") == taken and gauge(engine, "log_delivered_total") == 0
        labels = '{source="explicit",scene="home_feed",reason="full"}'
        assert parsed(engine.metrics.text())["pairec_log_dropped_total" + labels] == 4
        assert gauge(engine, 'ring_dropped_total{reason="full"}') == 4, "asking again is not counted"
    assert len(world.records()) == taken


def test_an_explicit_callback_gets_in_when_there_is_space_before_its_time_is_over(world):
    small(world, BlockMilliseconds=1000)
    world.conf["LogRingConf"]["DroppedSeconds"] = 0
    with world.engine() as engine:
        with world.no_disk():
            taken = fill(engine)
        for _ in range(5):  # within a second the flush thread looks again whether there is a disk
            if engine.callback(LARGE):
                break
        else:
            pytest.fail("there was space")
        assert counts(engine, "log")["accepted"] == taken + 1
    assert len(world.records()) == taken + 1


@pytest.mark.parametrize("level", ["process", "synced"])
def test_a_request_that_is_cancelled_while_it_waits_is_counted_as_what_became_of_it(world, level):
    """A server may end the task of a client that has left; gone from the counts, it would be a loss nobody sees."""
    small(world, BlockMilliseconds=1000, Durability=level, DurabilityMilliseconds=5000)
    with world.engine() as engine, world.no_disk():
        app = App(engine)

        async def scenario(ended: str, count: int) -> None:
            before = counts(engine, "log")
            waiting = [asyncio.create_task(answer(app, CALLBACK, LARGE)) for _ in range(count)]
            await asyncio.sleep(0.02)
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            after = counts(engine, "log")
            assert after["offered"] - before["offered"] == after[ended] - before[ended] == count
            assert app.admission.callback.in_flight == 0

        if level == "synced":
            asyncio.run(scenario("accepted", 3))
        else:
            fill(engine)
            asyncio.run(scenario("dropped", 3))
            assert gauge(engine, 'ring_dropped_total{reason="full"}') == 4, "and a gap will tell"


def test_what_was_refused_for_good_while_it_waited_is_not_answered_as_delivered(world):
    """A dead letter moves the position on as an acknowledgement does, and nobody has acknowledged it."""
    small(world, Durability="delivered")
    with world.engine() as engine:
        assert engine.callback(LOGGED)
        ((source, log),) = engine.logs._logs.items()
        dead = iter([3, 4])
        wrapped = SimpleNamespace(**{name: getattr(log, name) for name in ("try_push", "push", "flush", "close")})
        wrapped.record_bytes_max, wrapped.tail, wrapped.delivered = log.record_bytes_max, 16, 16
        wrapped.counters = lambda: {"dead_letter": next(dead)}
        engine.logs._logs[source] = wrapped
        assert not engine.callback(LOGGED)
        engine.logs._logs[source] = log
        assert gauge(engine, 'log_unconfirmed_total{scene="home_feed"}') == 1


def test_the_longer_it_waits_the_more_seldom_a_callback_asks(world):
    """Hundreds wait while brokers are away, and share the loop with the recommendations."""
    small(world, Durability="synced", DurabilityMilliseconds=1000)
    with world.engine() as engine, world.no_disk():
        waits, pauses = engine.callback_waits(CallbackRequest(**LOGGED)), []
        with pytest.raises(StopIteration) as done:
            while True:
                pauses.append(next(waits))
                time.sleep(pauses[-1])
        assert done.value.value is False
        assert min(pauses[:2]) == 0.001 and max(pauses) == 0.05 and len(pauses) < 80 and sum(pauses) < 1.06


def test_the_synchronous_callback_waits_in_its_own_thread(world):
    small(world, BlockMilliseconds=200)
    with world.engine() as engine, world.no_disk():
        fill(engine)
        took = []

        def work() -> None:
            begin = time.monotonic()
            took.append((engine.callback(LARGE), time.monotonic() - begin))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert engine.recommend(FIRST).items
        assert took == []
        for thread in threads:
            thread.join()
        assert all(not accepted and 0.19 <= seconds < 4 for accepted, seconds in took)


@pytest.mark.parametrize("ring", [{"ExplicitPolicy": "drop_newest"}, {"BlockMilliseconds": 0}], ids=str)
def test_an_explicit_callback_that_may_not_wait_is_refused_at_once(world, ring):
    small(world, **ring)
    with world.engine() as engine, world.no_disk():
        fill(engine)
        request = CallbackRequest(**LARGE)
        with pytest.raises(StopIteration) as done:
            next(engine.callback_waits(request))
        assert done.value.value is False
        assert (answered := ask(App(engine), CALLBACK, LARGE)).status == 503 and answered.json == OVERLOADED
        assert counts(engine, "log")["dropped"] == 3


def test_an_automatic_callback_never_waits_and_what_it_drops_is_counted_by_scene(world, monkeypatch):
    small(world, BlockMilliseconds=1000, Durability="synced", DurabilityMilliseconds=50)
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine, world.no_disk():
        while engine.logs._logs and counts(engine, "log")["dropped"] == 0:
            _, after = engine.feed(RecommendRequest(**FIRST, features={"x": "y" * 3000}))
            with monkeypatch.context() as patch:
                patch.setattr(time, "sleep", lambda seconds: pytest.fail("waited"))
                after()
        totals = counts(engine)
        assert totals["dropped"] == 3 and totals["offered"] == totals["accepted"] + 3
        labels = '{source="automatic",scene="home_feed",reason="full"}'
        assert parsed(engine.metrics.text())["pairec_log_dropped_total" + labels] == 1


def test_over_real_http_a_full_log_refuses_callbacks_and_serves_everything_else(world):
    small(world, BlockMilliseconds=200, DroppedSeconds=60)
    with Server(world) as server:
        with world.no_disk():
            taken = 0
            while (answered := server.ask(CALLBACK, LARGE))[0] == 200:
                taken += 1
            assert answered[0] == 503 and json.loads(answered[1]) == OVERLOADED and 10 < taken < 17
            assert server.ask(FEED, FIRST)[0] == server.ask("/livez")[0] == 200
            assert server.ask("/readyz") == (503, b"not ready: callbacks were dropped in the last 60 s")
        assert server.end(signal.SIGTERM)[0] == 0
    assert len(world.records()) == taken


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_worker_that_drops_is_not_ready_for_a_while(world, seconds):
    small(world, BlockMilliseconds=0, DroppedSeconds=seconds)
    with world.engine() as engine:
        app = App(engine)
        assert ask(app, "/readyz").body == b"ready"
        with world.no_disk():
            fill(engine)
            answered = ask(app, "/readyz")
            if seconds:
                assert answered.status == 503 and answered.headers["retry-after"] in ("1", "2", "3")
                assert answered.body == b"not ready: callbacks were dropped in the last 0.3 s"
                time.sleep(0.3)
                answered = ask(app, "/readyz")
            assert (answered.status, answered.body) == (200, b"ready")
        assert ask(app, CALLBACK, LOGGED | {"item_list": [{"item_id": "a", "x": "y" * 9000}]}).json["code"] == 400
        assert ask(app, "/readyz").status == 200, "what the client did wrong is no reason"


def test_what_was_refused_can_be_seen_in_the_log(world, capsys):
    from pairec_fast.cli import main

    small(world, BlockMilliseconds=0)
    with world.engine() as engine, world.no_disk():
        taken = fill(engine)
        assert not engine.callback(LARGE)
    assert main(["log", "dump", str(world.log)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    gaps = [row for row in rows if row["module"] == "gap"]
    assert [list(gap) for gap in gaps] == [["module", "gap_from", "gap_to", "dropped", "reason"]] * len(gaps)
    assert sum(gap["dropped"] for gap in gaps) == 2 and len(rows) == 2 * taken + len(gaps)
    assert main(["log", "verify", str(world.log)]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(report["dropped"] for report in reports) == 2
    assert sum(report["records"] for report in reports) == taken


def test_closing_takes_as_long_as_the_slowest_log_and_not_as_all_of_them(world):
    for name in ("a", "b", "c"):
        world.conf["DiskConfs"][name] = {"Directory": str(world.folder / name)}
        world.conf["CallBackConfs"][name] = world.callback | {"DataSource": {"Type": "disk", "Name": name}}
    engine = world.engine()
    for name in ("a", "b", "c"):
        (world.folder / name).rename(world.folder / f"{name}.aside")
        assert engine.callback(LOGGED | {"scene_id": name})
    begin = time.monotonic()
    engine.close(1.0)
    assert 1.0 <= time.monotonic() - begin < 2.5
    for name in ("a", "b", "c"):
        (world.folder / f"{name}.aside").rename(world.folder / name)
        assert recover(world.folder / name, *world.folder.glob(f"ring/disk/{name}/0.ring"))["records"] == 1


def test_errors_of_the_disk_are_shown_by_their_name_and_words_as_labels(world):
    with world.engine() as engine:
        with world.no_disk():
            assert engine.callback(LOGGED)
            (log,) = engine.logs._logs.values()
            assert not log.flush(0.3)
            assert gauge(engine, 'segment_errors_total{errno="ENOENT"}') >= 1
            assert gauge(engine, "log_oldest_unsynced_seconds") > 0.2 and gauge(engine, "ring_used_bytes") > 0
        source = DataSource("log", "datahub")
        states = {"state": "spill", "errors": {"Throttled": 2}, "spill_records": 3, "disk_errors": {"EIO": 1}}
        engine.logs._logs[source] = SimpleNamespace(counters=lambda: states, close=lambda timeout: True)
        assert gauge(engine, 'log_state{state="spill"}') == 1 and gauge(engine, "log_in_spill") == 3
        assert gauge(engine, 'datahub_errors_total{code="Throttled"}') == 2
        assert gauge(engine, 'segment_errors_total{errno="EIO"}') == 1


def test_the_counting_law_holds_after_every_kind_of_traffic(world, tmp_path):
    """Checked by `counts`; what is in the ring, by what a recovery of a copy of its file finds."""
    small(world, BlockMilliseconds=1)
    world.scene["default"] |= {"AutoInvokeCallBack": True, "AutoInvokeCallBackRate": 50}
    world.callback |= {"ItemSize": 20, "ItemSizeRate": 30}
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    engine = world.engine()
    app = App(engine)

    def traffic(size: int = 10) -> None:
        for number in range(20):
            _, after = engine.feed(RecommendRequest(**FIRST | {"size": size, "request_id": f"a{number}"}))
            after()
            ask(app, CALLBACK, LOGGED | {"item_list": [{"item_id": f"{n}"} for n in range(30)]})
        counts(engine)

    with world.no_disk():
        for _ in range(2):
            traffic()
            while engine.callback(LARGE):
                pass
            assert ask(app, CALLBACK, LOGGED | {"item_list": [{"item_id": "a", "x": "y" * 9000}]}).json["code"] == 400
            with pytest.raises(RequestError):
                engine.callback(CallbackRequest(**LOGGED | {"features": deep}))
            ask(app, CALLBACK, "{")
            ask(app, CALLBACK, LOGGED | {"scene_id": "other"})
            totals = counts(engine, "log")
        (ring,) = world.folder.glob("ring/*/*/*.ring")
        shutil.copy(ring, tmp_path / "copy")
        found = recover(tmp_path / "segments", tmp_path / "copy")["records"]
        assert gauge(engine, "log_in_ring") == found == totals["accepted"] and totals["sampled_out"] > 10
    _, after = engine.feed(RecommendRequest(**FIRST, debug=True, request_id="a0"))
    traffic()
    engine.close()
    after()
    metrics, totals = parsed(engine.metrics.text(engine.gauges())), counts(engine, "log")
    assert metrics["pairec_log_in_ring"] == 0
    assert metrics["pairec_log_delivered_total"] == totals["accepted"] == len(world.records())
    dropped = {key.split('reason="')[1][:-2] for key in metrics if key.startswith("pairec_log_dropped_total")}
    assert dropped == {"full", "too_large", "invalid", *(["closed"] if invoked("a0", 50) else [])}
    sources = {key.split('"')[1] for key in metrics if key.startswith("pairec_log_offered_total")}
    assert sources == {"explicit", "automatic"}


# Durability


def test_an_answer_that_promises_the_disk_is_sent_when_fdatasync_has_returned(world, tmp_path):
    """And not before: fdatasync hangs here, while the write itself went through."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to build the fault with")
    shim, stall = tmp_path / "stall_sync.so", tmp_path / "stall"
    source = ROOT / "tests" / "native" / "stall_sync.cpp"
    subprocess.run(["g++", "-shared", "-fPIC", "-o", shim, source], check=True)
    world.conf["LogRingConf"] |= {"Durability": "synced", "DurabilityMilliseconds": 1000}
    environment = {**os.environ, "LD_PRELOAD": str(shim), "STALL_WHILE": str(stall), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", STALLED, str(world.write()), str(stall)], env=environment, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["before"] == told["after"] == [200] * 20
    assert told["fdatasyncs"] < 40, "those who wait together share one"
    assert told["stalled"] == [503] * 8 and told["stalled_seconds"] >= 1
    assert told["written"] > 20, "what the hanging call is about is in the file, and yet was not promised"
    assert told["feeds"] > 10, "recommendations went on"
    assert told["readiness"].startswith("not ready: log log: the flush thread has not moved for ")
    assert len(world.records()) == 48, "503 was the unknown outcome: they were written after all"


STALLED = """
import asyncio, json, pathlib, sys, time
from pairec_fast import Engine
from pairec_fast.app import App
from pairec_fast.core import read_segments
from tests.test_logs import answer, gauge
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED

engine, stall = Engine.from_config(sys.argv[1]), pathlib.Path(sys.argv[2])
app, told = App(engine), {}

async def callbacks(count):
    return [status for status, _, _ in await asyncio.gather(*(answer(app, CALLBACK, LOGGED) for _ in range(count)))]

async def main():
    told["before"] = await callbacks(20)
    stall.touch()
    begin = time.monotonic()
    waiting = asyncio.create_task(callbacks(8))
    told["feeds"] = 0
    while not waiting.done():
        await answer(app, FEED, FIRST)
        told["feeds"] += 1
        await asyncio.sleep(0.01)
    told["stalled"], told["stalled_seconds"] = await waiting, time.monotonic() - begin
    told["written"] = len(list(read_segments(engine.config.path(engine.config.disk_confs["log"].directory))))
    await asyncio.sleep(1.5)
    told["readiness"] = (await answer(app, "/readyz", {}))[2].decode()
    stall.unlink()
    told["after"] = await callbacks(20)
    told["fdatasyncs"] = gauge(engine, "fdatasync_seconds_count")

asyncio.run(main())
engine.close()
print(json.dumps(told))
"""


def test_a_durability_that_is_not_reached_in_time_is_an_unknown_outcome(world):
    small(world, Durability="delivered", DurabilityMilliseconds=500)
    with world.engine() as engine:
        app = App(engine)
        with world.no_disk():

            async def scenario() -> None:
                begin = time.monotonic()
                waiting = asyncio.create_task(answer(app, CALLBACK, LOGGED))
                await asyncio.sleep(0)
                assert (await answer(app, FEED, FIRST))[0] == 200 and not waiting.done()
                status, headers, body = await waiting
                assert (status, json.loads(body)) == (503, OVERLOADED) and headers["retry-after"] in ("1", "2", "3")
                assert 0.5 <= time.monotonic() - begin < 4

            asyncio.run(scenario())
            assert parsed(engine.metrics.text())['pairec_log_unconfirmed_total{scene="home_feed"}'] == 1
            assert counts(engine, "log") == {"offered": 1, "sampled_out": 0, "accepted": 1, "dropped": 0}
        assert asyncio.run(engine.callback_async(LOGGED)) or engine.callback(LOGGED)
    assert len(world.records()) >= 2


@pytest.mark.parametrize("level", ["process", "synced", "delivered"])
def test_each_level_answers_when_its_position_is_reached(world, level):
    world.conf["LogRingConf"] |= {"Durability": level, "SyncMilliseconds": 60_000}
    with world.engine() as engine:
        (log,) = engine.logs._logs.values()
        for number in range(5):
            assert engine.callback(LOGGED | {"request_id": f"r{number}"})
            if level == "process":
                assert log.synced == 0 < log.tail
            else:
                assert log.delivered == log.synced == log.tail
                assert len(list(read_segments(world.log))) == number + 1
    assert len(world.records()) == 5


def test_a_scene_may_ask_for_more_than_the_ring_promises(world):
    world.conf["CallBackConfs"]["other"] = world.callback | {"Durability": "synced"}
    world.conf["LogRingConf"]["SyncMilliseconds"] = 60_000
    with world.engine() as engine:
        (log,) = engine.logs._logs.values()
        assert engine.callback(LOGGED) and log.synced == 0
        assert engine.callback(LOGGED | {"scene_id": "other"}) and log.synced == log.tail
    assert len(world.records()) == 2


def test_level_memory_makes_no_ring_file_and_still_drains_when_it_ends_in_order(world):
    world.conf["LogRingConf"]["Durability"] = "memory"
    with world.engine() as engine:
        assert all(engine.callback(LOGGED) for _ in range(100))
        assert not list(world.folder.rglob("*.ring"))
    assert len(world.records()) == 100


def test_a_scene_cannot_promise_what_a_ring_in_memory_does_not_hold(world):
    world.conf["LogRingConf"]["Durability"] = "memory"
    world.callback["Durability"] = "process"
    with pytest.raises(ConfigError, match=r'CallBackConfs\.home_feed\.Durability: LogRingConf\.Durability is "memory"'):
        Config.parse(world.conf, KINDS)
    world.callback["Durability"] = "synced"  # the disk outlives the process
    Config.parse(world.conf, KINDS)
