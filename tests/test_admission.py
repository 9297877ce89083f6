"""What is let in: bodies of every kind, how many requests at once, and what happens to those that fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib

import pytest

from pairec_fast import admission, shell
from pairec_fast.admission import FULL, Admission
from pairec_fast.app import App
from pairec_fast.limits import LimitConf
from pairec_fast.messages import RecommendRequest
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, RECALL, RECOMMEND, ask

BODY = json.dumps(FIRST).encode()
TOO_LARGE = {"code": 400, "msg": "request body larger than 1048576 bytes", "request_id": ""}
UNREADABLE = {"code": 400, "msg": "read parammeter error", "request_id": ""}


# Admission


class Crowd:
    """Requests whose bodies come when `release` is set."""

    def __init__(self, app) -> None:
        self.app, self.release, self.waiting, self.tasks = app, asyncio.Event(), [], []

    async def request(self, path, body=FIRST, headers=()):
        """(status, headers, body) of one request."""
        got = []

        async def receive():
            self.waiting.append(path)
            await self.release.wait()
            return {"type": "http.request", "body": json.dumps(body).encode()}

        async def send(message):
            got.append(message)

        await self.app({"type": "http", "path": path, "headers": list(headers)}, receive, send)
        start, content = got
        return start["status"], dict(start["headers"]), content["body"]

    async def come(self, count, path=FEED, **more) -> list[asyncio.Task]:
        """So many more, each let in or answered already."""
        tasks = [asyncio.create_task(self.request(path, **more)) for _ in range(count)]
        self.tasks += tasks
        await asyncio.sleep(0)
        return tasks


def idle(monkeypatch) -> list[float]:
    """From now on the thread has used as many seconds as the list says."""
    used = [0.0]
    monkeypatch.setattr(admission.time, "thread_time", lambda: used[0])
    return used


def has_nothing_popular(world):
    world.scene["default"]["RecallNames"].remove("hot")
    for name in [name for name in world.scene if name != "default"]:
        del world.scene[name]


def test_too_many_requests_in_flight_are_answered_503_and_probes_are_exempt(world):
    has_nothing_popular(world)
    with world.engine() as engine:
        app = App(engine)
        most = app.admission.recommend.limit
        assert most == 8, "a twentieth of 50 ms, at 0.3 ms each"

        async def scenario():
            crowd, waits = Crowd(app), set()
            first = await crowd.come(most)
            assert len(crowd.waiting) == most
            for path in (FEED, RECOMMEND, RECALL, "/api/embedding") * 20:
                status, headers, body = await crowd.request(path)
                assert (status, body) == (503, b'{"code":503,"msg":"overloaded","request_id":""}')
                waits.add(headers[b"retry-after"])
            assert waits == {b"1", b"2", b"3"}, "those who come back do not all come together"
            for path in ("/ping", "/livez", "/readyz", "/metrics", "/nope"):  # and not one waits for a body
                assert (await crowd.request(path))[0] == (404 if path == "/nope" else 200)
            crowd.release.set()
            assert {(await task)[0] for task in first} == {200}

        asyncio.run(scenario())
        assert 'shed_total{kind="recommend",reason="limit"} 80' in engine.metrics_text()
        assert ask(app, FEED, FIRST).json["size"] == 3


def test_between_full_service_and_none_requests_are_answered_by_what_is_popular(app):
    before = ask(app, FEED, FIRST).json
    every = {item["item_id"] for item in ask(app, FEED, FIRST | {"size": 1000}).json["items"]}
    most = app.admission.recommend.limit  # what was asked before may have moved it

    async def scenario():
        crowd = Crowd(app)
        full = await crowd.come(most, body=FIRST | {"request_id": "r"})
        feeds = await crowd.come(most - 1, body=FIRST | {"request_id": "r"})
        (bare,) = await crowd.come(1, RECOMMEND)
        assert (await crowd.request(FEED))[0] == 503 and len(crowd.waiting) == 2 * most
        crowd.release.set()
        for task in full:
            assert json.loads((await task)[2])["items"] == before["items"]
        for task in feeds:
            status, _, body = await task
            answer = json.loads(body)
            assert (status, answer["code"], answer["size"], answer["request_id"]) == (200, 200, 3, "r")
            assert answer["degraded"] == ["recommendation: overload"]
            assert {item["retrieve_id"] for item in answer["items"]} == {"hot"}
            assert {item["item_id"] for item in answer["items"]} <= every, "filters hold for it too"
        assert json.loads((await bare)[2])["size"] == 3

    asyncio.run(scenario())
    counted = f'degraded_total{{scene="home_feed",stage="recommendation",reason="overload"}} {most}'
    assert counted in app.engine.metrics_text()
    assert "degraded" not in ask(app, FEED, FIRST).json


def test_a_scene_without_a_list_for_all_refuses_instead(world):
    """Which scene it is, is known from the body: so late as that."""
    world.scene["own"] = {"RecallNames": ["ContextItemRecall"]}
    with world.engine() as engine:
        app = App(engine)

        async def scenario():
            crowd = Crowd(app)
            await crowd.come(app.admission.recommend.limit)
            (task,) = await crowd.come(1, body=FIRST | {"category": "own"})
            crowd.release.set()
            assert (await task)[0] == 503

        asyncio.run(scenario())


def test_callbacks_have_a_count_of_their_own_and_a_quarter_of_it_while_recommendations_are_asked_for(app, monkeypatch):
    """Otherwise a third of the callbacks of sixteen connections are refused by a limit made for walks."""
    monkeypatch.setattr(shell, "PROMPT_SECONDS", 60)
    monkeypatch.setattr(shell, "BRAKE_SECONDS", 0)
    used = idle(monkeypatch)
    monkeypatch.setattr(admission, "QUIET_SECONDS", 0)

    async def scenario():
        alone, most = Crowd(app), app.admission.callback.limit
        assert most > 16
        await alone.come(most, CALLBACK, body=LOGGED)
        assert (await alone.request(CALLBACK))[0] == 503
        (walk,) = await alone.come(1)
        assert not walk.done(), "callbacks do not keep a recommendation out"
        alone.release.set()
        assert {(await task)[0] for task in alone.tasks} == {200}
        monkeypatch.setattr(admission, "QUIET_SECONDS", 60)
        beside = Crowd(app)
        await beside.come(1)
        await beside.come(max(4, app.admission.callback.limit // 4), CALLBACK, body=LOGGED)
        assert (await beside.request(CALLBACK))[0] == 503
        beside.release.set()
        assert {(await task)[0] for task in beside.tasks} == {200}

        used[0] += 60  # seconds that the thread was busy
        busy = Crowd(app)
        await busy.come(1)
        app.admission._grants = 1
        await busy.come(1, CALLBACK, body=LOGGED)
        assert (await busy.request(CALLBACK))[0] == 503, "one for each recommendation"
        busy.release.set()
        assert {(await task)[0] for task in busy.tasks} == {200}

        monkeypatch.setattr(admission, "QUIET_SECONDS", 0)
        quiet = Crowd(app)
        await quiet.come(2, CALLBACK, body=LOGGED)
        quiet.release.set()
        assert {(await task)[0] for task in quiet.tasks} == {200}

    asyncio.run(scenario())


def test_callbacks_have_half_of_the_time_of_the_thread_less_what_recommendations_take(monkeypatch):
    used, one = idle(monkeypatch), Admission(LimitConf())
    now = 100.0
    one.verdict(one.recommend, False, now)
    one._grants = 0
    assert one._has_room(now)
    for step, busy, room in [(0.01, 0.004, True), (0.01, 0.008, False), (0.002, 0.001, False), (0.004, 0, True)]:
        now, used[0] = now + step, used[0] + busy
        assert one._has_room(now) == room, (step, busy)
    used[0] += 5
    assert (one._has_room(now), one._has_room(now + 0.005)) == (False, True), "long ago is forgotten"
    one.callback.in_flight = max(4, one.callback.limit // 4)
    assert (one._has_room(now + 0.01), one._has_room(now + 0.3)) == (False, True), "no recommendation for a while"


def test_each_recommendation_makes_room_for_one_callback_however_busy_the_thread_is(monkeypatch):
    used, one = idle(monkeypatch), Admission(LimitConf())
    used[0] += 60

    def let_in(callbacks):
        return [one.verdict(one.callback, False, 100.0) for _ in range(callbacks)].count(FULL)

    for recommendations, expected in [(1, 1), (0, 0), (3, 3), (40, 16)]:
        for _ in range(recommendations):
            one.verdict(one.recommend, False, 100.0)
        assert let_in(50) == expected, recommendations
    one.verdict(one.recommend, False, 100.0)
    one.callback.in_flight = 4
    assert let_in(3) == 0
    one.callback.in_flight = 3
    assert let_in(3) == 1, "who was refused has used nothing up"


def test_callbacks_are_worked_on_behind_recommendations_and_not_never(app, monkeypatch):
    idle(monkeypatch)

    async def scenario():
        quick, slow, done = Crowd(app), Crowd(app), []
        quick.release.set()
        (walk,) = await slow.come(1)
        callbacks = [asyncio.create_task(quick.request(CALLBACK, LOGGED)) for _ in range(3)]
        for task in callbacks:
            task.add_done_callback(lambda task: done.append("callback"))
        walk.add_done_callback(lambda task: done.append("walk"))
        await asyncio.sleep(0.02)
        assert done == [] and len(app._patient) == 3, "a recommendation has come, and its body will"
        (other,) = await slow.come(1)
        slow.release.set()
        assert {(await task)[0] for task in (walk, other, *callbacks)} == {200}
        await asyncio.sleep(0)
        assert done[0] == "walk" and done.count("callback") == 3 and not app._patient

        (held,) = await (last := Crowd(app)).come(1)
        waiting = asyncio.create_task(quick.request(CALLBACK, LOGGED))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        await asyncio.sleep(0.2)
        assert waiting.done(), "a recommendation whose body does not come holds nobody up"
        last.release.set()
        assert (await held)[0] == 200

    asyncio.run(scenario())


def test_refused_callbacks_are_answered_at_a_pace_and_refused_recommendations_at_once(world, monkeypatch):
    """The sender's connection is the only brake there is on callbacks; who asks for a page has no time to lose."""
    world.conf["LimitConf"] = {"InFlightMax": 1, "P99TargetMs": 1}
    has_nothing_popular(world)
    idle(monkeypatch)
    monkeypatch.setattr(shell, "REFUSED_GAP_SECONDS", 0.4)
    monkeypatch.setattr(shell, "BRAKE_SECONDS", 1.0)
    with world.engine() as engine:
        app = App(engine)

        async def scenario():
            crowd = Crowd(app)
            await crowd.come(4, CALLBACK)
            await crowd.come(1)

            async def seconds(path):
                begin = time.monotonic()
                assert (await crowd.request(path))[0] == 503
                return time.monotonic() - begin

            took = await asyncio.gather(*(seconds(path) for path in (CALLBACK,) * 5 + (FEED,) * 2))
            *held, one, other = took
            assert all(given > wanted - 0.01 for given, wanted in zip(held, (0, 0.4, 0.8, 1, 1), strict=True)), took
            assert max(one, other, held[0]) < 0.4 and held[-1] < 1.8, took
            crowd.release.set()
            await asyncio.gather(*crowd.tasks)

        asyncio.run(scenario())


@pytest.mark.parametrize(("conf", "limits"), [({"P99TargetMs": 200}, (33, 200)), ({"P99TargetMs": 1}, (4, 4)),
                                              ({"InFlightMax": 3}, (3, 50))])  # fmt: skip
def test_limits_follow_the_target_unless_one_is_given(world, conf, limits):
    world.conf["LimitConf"] = conf
    with world.engine() as engine:
        admission = App(engine).admission
        assert (admission.recommend.limit, admission.callback.limit) == limits


def test_the_limit_follows_what_a_request_takes_and_one_stall_does_not_move_it():
    admission = Admission(LimitConf())
    recommend = admission.recommend
    for _ in range(8):
        recommend.took(30.0)
    assert 4 < recommend.limit < 8 and recommend.seconds < 450e-6
    for _ in range(1000):
        recommend.took(100e-6)
    assert recommend.limit in (24, 25) and abs(recommend.seconds - 100e-6) < 1e-6
    for _ in range(1000):
        recommend.took(5e-3)
    assert recommend.limit == 4


def deadline(text):
    return [(b"x-timeout-ms", text.encode())]


def test_who_would_wait_longer_than_he_can_is_refused_at_once_and_who_did_is_not_worked_for(app):
    async def scenario():
        crowd = Crowd(app)
        app.admission.recommend.seconds = 8e-3
        await crowd.come(4)
        assert (await crowd.request(FEED, headers=deadline("36")))[0] == 503, "four before it, 8 ms each, and its own"
        (patient,) = await crowd.come(1, headers=deadline("9000"))
        (late,) = await crowd.come(1, headers=deadline("90"))
        assert not patient.done() and not late.done()
        await asyncio.sleep(0.085)
        crowd.release.set()
        assert (await late)[0] == 503 and (await patient)[0] == 200

    asyncio.run(scenario())
    assert 'shed_total{kind="recommend",reason="deadline"} 2' in app.engine.metrics_text()
    assert app.admission.recommend.in_flight == 0


@pytest.mark.parametrize("text", ["0", "-5", "1.5", "x", "1e3", "99999999999", "\u0662", " 5"])
def test_a_deadline_that_is_none_is_told_as_other_bad_input(app, text):
    answer = ask(app, FEED, FIRST, headers={"X-Timeout-Ms": text})
    assert answer.status == 200 and answer.json["code"] == 400
    assert answer.json["msg"].startswith("X-Timeout-Ms must be whole milliseconds from 1 to 10000000, got ")
    assert ask(app, "/ping", headers={"X-Timeout-Ms": text}).body == b"success"


def test_bodies_that_are_long_in_coming_hold_no_place_and_are_given_up(app, monkeypatch):
    """Eight clients that send a byte a second would otherwise be all that a worker serves."""
    monkeypatch.setattr(shell, "BODY_SECONDS", 0.4)

    async def scenario():
        slow = Crowd(app)
        most = 2 * app.admission.recommend.limit
        await slow.come(most)
        assert (await slow.request(FEED))[0] == 503
        await asyncio.sleep(0.2)
        assert app.admission.recommend.in_flight == 0
        quick = Crowd(app)
        quick.release.set()
        assert (await quick.request(FEED))[0] == 200
        late = slow.tasks.pop()
        assert not any(task.done() for task in slow.tasks)
        for status, headers, body in await asyncio.gather(*slow.tasks):
            assert (status, headers[b"connection"], body) == (408, b"close", b"the body took too long")
        assert (await late)[0] == 408
        slow = Crowd(app)
        tasks = await slow.come(3)
        await asyncio.sleep(0.15)
        slow.release.set()
        assert [(await task)[0] for task in tasks] == [200] * 3, "who comes late is let in anew"

    asyncio.run(scenario())
    assert app.admission.recommend.in_flight == 0 and not app._reading


def test_of_too_many_slow_bodies_the_oldest_is_given_up(app, monkeypatch):
    monkeypatch.setattr(shell, "READERS_MAX", 5)

    async def scenario():
        slow = Crowd(app)
        await slow.come(8)
        await asyncio.sleep(0.2)
        assert [task.done() for task in slow.tasks] == [True] * 3 + [False] * 5
        slow.release.set()
        assert [(await task)[0] for task in slow.tasks] == [408] * 3 + [200] * 5

    asyncio.run(scenario())


def test_the_count_of_requests_in_flight_recovers_from_whatever_happens(app, monkeypatch, caplog):
    most = 2 * app.admission.recommend.limit

    async def broken():
        raise OSError("the socket is gone")

    async def cancelled():
        async def send(message):
            raise AssertionError("nobody is there")

        task = asyncio.create_task(app({"type": "http", "path": FEED, "headers": []}, asyncio.Event().wait, send))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(2 * most):
        assert ask(app, FEED, b"{", leave=True).json == UNREADABLE
        with pytest.raises(OSError):
            asyncio.run(app({"type": "http", "path": FEED, "headers": []}, broken, None))
        asyncio.run(cancelled())
    with monkeypatch.context() as patch:
        patch.setattr(app.engine, "feed_waits", lambda request: 1 / 0)
        for _ in range(2 * most):
            answer = ask(app, FEED, FIRST)
            assert (answer.status, answer.body) == (500, b"server error")
    assert "ZeroDivisionError" in caplog.text
    assert ask(app, FEED, FIRST).json["size"] == 3


def at_once(reply, after):
    """What `feed_waits` gives when there is nothing to wait for."""
    return reply, after
    yield


def test_work_after_the_answer_never_reaches_the_server(app, monkeypatch, caplog):
    reply, _ = app.engine.feed(RecommendRequest(**FIRST))
    monkeypatch.setattr(app.engine, "feed_waits", lambda request: at_once(reply, lambda: 1 / 0))
    assert ask(app, FEED, FIRST).json["size"] == 3
    assert "failed after its answer" in caplog.text


def test_work_after_the_answer_is_done_even_if_the_client_has_left(app, monkeypatch):
    done = []
    reply, _ = app.engine.feed(RecommendRequest(**FIRST))
    monkeypatch.setattr(app.engine, "feed_waits", lambda request: at_once(reply, lambda: done.append(1)))

    async def receive():
        return {"type": "http.request", "body": json.dumps(FIRST).encode()}

    async def send(message):
        raise ConnectionResetError

    asyncio.run(app({"type": "http", "path": FEED, "headers": []}, receive, send))
    assert done == [1]


# Bodies


def test_bodies_come_in_chunks_of_any_size(app):
    whole = ask(app, FEED, FIRST).json["items"]
    for size in (1, 7, len(BODY) - 1, len(BODY)):
        chunks = [BODY[begin : begin + size] for begin in range(0, len(BODY), size)]
        for given in (chunks, [b"", *chunks], [*chunks, b""]):
            assert ask(app, FEED, given).json["items"] == whole
            assert ask(app, FEED, given, length=len(BODY)).json["items"] == whole


def test_a_megabyte_in_single_bytes_is_read_in_linear_time(app):
    chunks = [BODY, *[b" "] * 300_000]
    assert ask(app, FEED, chunks).json["size"] == 3


def test_a_wrong_content_length_does_no_harm(app):
    assert ask(app, FEED, BODY, length=len(BODY) + 5).json["size"] == 3  # the body ended: it is what came
    assert ask(app, FEED, [BODY, b"x"], length=len(BODY)).json["size"] == 3  # read no further than announced
    assert ask(app, FEED, BODY, length=0).json["msg"] == "request body empty"
    for lie in ("-1", "x", "1e3", "", "9" * 5000):
        answer = ask(app, FEED, BODY, headers={"content-length": lie}).json
        assert answer == TOO_LARGE if len(lie) > 100 else answer["size"] == 3


def test_oversized_bodies_are_refused_without_being_read(app):
    most = app.engine.limits.body_bytes_max
    assert ask(app, FEED, [BODY + b" " * (most - len(BODY))]).json["size"] == 3
    assert ask(app, FEED, [BODY + b" " * (most - len(BODY) + 1)]).json == TOO_LARGE
    assert ask(app, FEED, [b" " * most, b" "]).json == TOO_LARGE
    assert ask(app, FEED, [], length=most + 1).json == TOO_LARGE
    assert ask(app, FEED, [b" " * most] * 5, length=5 * most).json == TOO_LARGE


def test_a_body_that_breaks_off_is_unreadable(app):
    """A server does not say whether the client has left or its chunks are broken: the latter needs an answer."""
    for chunks in ([], [b"{"], [BODY]):
        assert ask(app, FEED, chunks, leave=True).json == UNREADABLE
    assert ask(app, FEED, [BODY], leave=True, length=len(BODY)).json["size"] == 3  # all that was announced came


def test_gzip_bodies_are_read_and_bad_ones_refused(app):
    zipped = gzip.compress(BODY)
    assert ask(app, FEED, zipped, headers={"content-encoding": "gzip"}).json["size"] == 3
    assert ask(app, FEED, [zipped[:5], zipped[5:]], headers={"Content-Encoding": " GZIP "}).json["size"] == 3
    assert ask(app, FEED, BODY, headers={"content-encoding": "identity"}).json["size"] == 3
    for bad in (
        BODY,
        zipped[:-1],
        zipped[:-9],
        zipped[:5],
        zipped + b"x",
        zipped[:-8] + bytes(8),
        b"",
        zlib.compress(BODY),
    ):
        assert ask(app, FEED, bad, headers={"content-encoding": "gzip"}).json == UNREADABLE
    for encoding in ("zstd", "lz4", "br", "deflate", "gzip, gzip", "nonsense"):
        assert ask(app, FEED, zipped, headers={"content-encoding": encoding}).json == UNREADABLE
    assert ask(app, FEED, gzip.compress(b""), headers={"content-encoding": "gzip"}).json["msg"] == "request body empty"


def test_a_gzip_bomb_is_refused_at_the_limit(app):
    most = app.engine.limits.body_bytes_max
    exact = gzip.compress(BODY + b" " * (most - len(BODY)))
    assert ask(app, FEED, exact, headers={"content-encoding": "gzip"}).json["size"] == 3
    for size in (most + 1, 200 << 20):
        packed = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packed.compress(bytes(1))
        bomb += packed.flush()
        assert ask(app, FEED, bomb, headers={"content-encoding": "gzip"}).json == TOO_LARGE
