"""What is let in: bodies of every kind, how many requests at once, and what happens to those that fail."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import pytest

from pairec_fast.messages import RecommendRequest
from tests.worlds import CALLBACK, FEED, FIRST, ask

BODY = json.dumps(FIRST).encode()
TOO_LARGE = {"code": 400, "msg": "request body larger than 1048576 bytes", "request_id": ""}
UNREADABLE = {"code": 400, "msg": "read parammeter error", "request_id": ""}


# Admission


def test_too_many_requests_in_flight_are_answered_503_and_probes_are_exempt(app):
    most = app.engine.limits.in_flight_max

    async def scenario():
        release, waiting = asyncio.Event(), []

        async def request(path, got):
            async def receive():
                waiting.append(path)
                await release.wait()
                return {"type": "http.request", "body": json.dumps(FIRST).encode()}

            async def send(message):
                got.append(message)

            await app({"type": "http", "path": path, "headers": []}, receive, send)

        first = [[] for _ in range(most)]
        tasks = [asyncio.create_task(request(FEED, got)) for got in first]
        await asyncio.sleep(0)
        assert len(waiting) == most
        for path in (FEED, CALLBACK, "/nope"):
            await request(path, refused := [])
            start, content = refused
            assert start["status"] == 503 and (b"retry-after", b"1") in start["headers"]
            assert content["body"] == b'{"code":503,"msg":"overloaded","request_id":""}'
        for path in ("/ping", "/livez", "/readyz", "/metrics"):
            first.append([])
            tasks.append(asyncio.create_task(request(path, first[-1])))
        release.set()
        await asyncio.gather(*tasks)
        assert {got[0]["status"] for got in first} == {200}

    asyncio.run(scenario())
    assert ask(app, FEED, FIRST).json["size"] == 3


def test_the_count_of_requests_in_flight_recovers_from_whatever_happens(app, monkeypatch, caplog):
    most = app.engine.limits.in_flight_max

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
