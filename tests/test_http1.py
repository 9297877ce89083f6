"""The front of our own: what HTTP/1.1 asks of it, and who is served when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pairec_fast import shell
from pairec_fast.app import App
from pairec_fast.messages import RecommendRequest
from tests.wire import BODY, WHOLE, answer, head, opened, rest
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, RECOMMEND

uvloop = pytest.importorskip("uvloop")
http1 = pytest.importorskip("pairec_fast.http1", exc_type=ImportError)

LOGGED_BODY = json.dumps(LOGGED).encode()
SENT = head(length=len(LOGGED_BODY), path=CALLBACK) + LOGGED_BODY


class Here:
    """The front on a loop in a thread of this process."""

    def __init__(self, app: App) -> None:
        self.loop, self.app = uvloop.new_event_loop(), app
        self._stop, started = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.front = http1.Http1(self.app, self.loop)
        server = self.loop.run_until_complete(self.loop.create_server(self.front.connect, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self.loop.call_soon(started.set)
        self.loop.run_until_complete(self._stop.wait())
        server.close()
        self.loop.run_until_complete(self.front.stop(1))

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def crowd(self, count: int) -> list[socket.socket]:
        """Connections that the front knows of."""
        before = len(self.front._connections)
        crowd = [opened(self) for _ in range(count)]
        until(lambda: len(self.front._connections) >= before + count)
        return crowd

    def stuffed(self) -> None:
        """Until a client that does not read keeps the front from answering."""
        until(lambda: any(connection._stuffed for connection in list(self.front._connections)))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The loop does nothing meanwhile: what is sent is read all at once afterwards."""
        reached, release = threading.Event(), threading.Event()
        self.loop.call_soon_threadsafe(lambda: (reached.set(), release.wait(10)))
        assert reached.wait(10)
        try:
            yield
        finally:
            time.sleep(0.02)  # what was sent has come
            release.set()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@contextlib.contextmanager
def serving(engine) -> Iterator[Here]:
    here = Here(App(engine))
    try:
        yield here
    finally:
        here.stop()
        assert here.app.admission.recommend.in_flight == here.app.admission.callback.in_flight == 0
        assert here.app.admission.recommend.full == 0 and not here.front._connections


@pytest.fixture(scope="module")
def here(app) -> Iterator[Here]:
    """Beside others that use the same engine in turn."""
    with serving(app.engine) as here:
        yield here


def said(connection: socket.socket, request: bytes) -> bytes:
    """All that is answered to the last request of a connection."""
    connection.sendall(request)
    return rest(connection)


def full(body: bytes) -> bool:
    return json.loads(body)["size"] == 3 and "degraded" not in json.loads(body)


# The protocol


def test_answers_carry_their_date_length_and_kind_and_keep_the_connection(here):
    with opened(here, WHOLE) as connection:
        for _ in range(3):
            status, headers, body = answer(connection)
            assert status == 200 and full(body) and headers["content-type"] == "application/json"
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
            assert "connection" not in headers
            connection.sendall(WHOLE)


def test_a_request_in_single_bytes_is_read(here):
    with opened(here) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in WHOLE:
            connection.sendall(bytes([byte]))
        assert full(answer(connection)[2])


def test_who_asks_to_close_is_answered_and_closed(here):
    with opened(here) as connection:
        got = said(connection, head(b"Connection: close", length=len(BODY)) + BODY)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\nconnection: close\r\n" in got


def test_what_follows_a_request_that_closes_is_not_read(here):
    with opened(here) as connection:
        assert said(connection, head(b"Connection: close", length=len(BODY)) + BODY + WHOLE).count(b"HTTP/1.1") == 1


def test_http_1_0_is_closed_unless_it_asks_otherwise(here):
    request = WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0")
    with opened(here) as connection:
        assert b"\r\nconnection: close\r\n" in said(connection, request)
    with opened(here, request.replace(b"Host: x", b"Connection: keep-alive")) as connection:
        assert answer(connection)[1]["connection"] == "keep-alive"
        connection.sendall(WHOLE)
        assert full(answer(connection)[2])


def test_a_head_alone_is_answered_without_a_body(here):
    with opened(here) as connection:
        got = said(connection, b"HEAD /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"\r\ncontent-length: 7\r\n" in got and got.endswith(b"\r\n\r\n")


def test_who_waits_to_be_told_to_go_on_is_told(here):
    with opened(here, head(b"Expect: 100-continue", length=len(BODY))) as connection:
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert full(answer(connection)[2])
    with opened(here) as connection:  # and not, when it is too much
        got = said(connection, head(b"Expect: 100-continue", length=10**9))
        assert got.startswith(b"HTTP/1.1 200 OK\r\n") and b"request body larger than 1048576 bytes" in got


def test_who_waits_to_be_told_behind_another_request_is_told_after_its_answer(here):
    with opened(here, WHOLE + head(b"Expect: 100-continue", length=len(BODY))) as connection:
        got = b""
        while not got.endswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            part = connection.recv(1 << 16)
            assert part, got
            got += part
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        connection.sendall(BODY)
        assert full(answer(connection)[2])
    request = head(b"Expect: 100-continue", length=len(BODY)).replace(b"HTTP/1.1", b"HTTP/1.0") + BODY
    with opened(here) as connection:
        assert said(connection, request).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_an_offer_does_not_keep_a_connection_that_is_to_close(here, version):
    lines = b"Connection: close, Upgrade", b"Upgrade: h2c"
    with opened(here) as connection:
        got = said(connection, head(*lines, length=len(BODY)).replace(b"HTTP/1.1", version) + BODY)
        assert b"\r\nconnection: close\r\n" in got and b'"size":3' in got


def test_what_stands_behind_and_around_chunks_has_a_limit(here):
    for endless in (b"0\r\nX: ", b"1;x="):
        with opened(here, head(b"Transfer-Encoding: chunked") + endless) as connection:
            with contextlib.suppress(OSError):
                for _ in range(100):
                    connection.sendall(b"y" * 1000)
                    time.sleep(0.001)
            assert rest(connection).startswith(b"HTTP/1.1 431 ")


def test_an_answer_that_closes_is_the_last_though_the_client_reads_late(here, monkeypatch):
    monkeypatch.setattr(
        here.app, "handle", lambda path, body: (200, b"text/plain; charset=utf-8", b"x" * (8 << 20), None)
    )
    ask = b"GET /big HTTP/1.1\r\nHost: x\r\n%s\r\n"
    with opened(here, ask % b"" + ask % b"Connection: close\r\n" + ask % b"") as connection:
        here.stuffed()
        got = rest(connection)
        assert got.count(b"HTTP/1.1 ") == 2 and len(got) > 16 << 20


def test_another_protocol_that_is_offered_is_not_taken(here):
    """Java's client offers HTTP/2 with its first request."""
    offer = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"
    with opened(here, head(*offer, length=len(BODY)) + BODY + WHOLE) as connection:
        got = b""
        while got.count(b'"size":3') < 2:
            got += connection.recv(1 << 16)
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert answer(connection)[2] == b"success"
        connection.sendall(WHOLE)
        assert full(answer(connection)[2])


@pytest.mark.parametrize(
    "target", [b"http://shop.example/ping", b"/ping?a=1&b=%20", b"/p%69ng", b"http://shop.example:80/ping?x"]
)
def test_targets_come_in_several_forms(here, target):
    with opened(here) as connection:
        got = said(connection, b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
        assert got.endswith(b"\r\n\r\nsuccess")


@pytest.mark.parametrize(
    "garbage",
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"hello\r\n\r\n",
     b"GET /ping HTTP/1.1\r\nHost x\r\n\r\n", b"GET /ping HTTP/9.9\r\nHost: x\r\n\r\n"],
    ids=["HTTP/2", "TLS", "words", "a header without its colon", "a version of no time"],
)  # fmt: skip
def test_what_is_not_http_is_refused_behind_what_was(here, garbage):
    with opened(here) as connection:
        got = said(connection, WHOLE + garbage)
        assert got.startswith(b"HTTP/1.1 200 OK\r\n") and got.count(b"HTTP/1.1 400 Bad Request\r\n") == 1
        assert got.endswith(b"bad request") and got.count(b"HTTP/1.1") == 2


def test_what_is_too_large_is_answered_behind_all_that_came_before(here):
    with opened(here) as connection:
        got = said(connection, WHOLE * 20 + head(length=2 << 20) + b"x" * 1000)
        assert got.count(b'"size":3') == 20 and got.count(b"HTTP/1.1 200 OK") == 21
        assert got.endswith(b"""{"code":400,"msg":"request body larger than 1048576 bytes","request_id":""}""")


def test_heads_are_counted_one_by_one_and_not_together(here):
    """Many small ones in one go are no large one; one that fills the limit byte by byte is."""
    with opened(here, WHOLE * 500) as connection:
        got = b""
        while got.count(b'"size":3') < 500:
            part = connection.recv(1 << 16)
            assert part
            got += part
        connection.sendall(head(length=len(BODY))[:-2] + b"X: ")
        with contextlib.suppress(OSError):
            for _ in range(70):
                connection.sendall(b"y" * 500)
                time.sleep(0.001)
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


def test_who_does_not_read_is_not_read(here):
    """Answers do not pile up: a request is not taken from the socket before the one in front of it is answered."""
    with opened(here) as connection:
        connection.setblocking(False)
        sent, request = 0, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline and sent < 100 << 20:
            try:
                sent += connection.send(request)
            except BlockingIOError:
                time.sleep(0.05)
        assert sent < 50 << 20, "all was read"
        (one,) = here.front._connections
        assert one.transport.get_write_buffer_size() < 4 << 20 and len(one._pending) < 20_000
        with opened(here, WHOLE) as other:
            assert full(answer(other)[2])


def test_what_follows_chunks_is_no_header(here):
    chunks = b"%x\r\n%s\r\n0\r\nContent-Encoding: gzip\r\nX-Timeout-Ms: soon\r\n\r\n" % (len(BODY), BODY)
    with opened(here, head(b"Transfer-Encoding: chunked") + chunks + WHOLE) as connection:
        got = b""
        while got.count(b'"size":3') < 2:
            part = connection.recv(1 << 16)
            assert part, got
            got += part


def test_who_reads_nothing_for_long_is_cut_off(app, monkeypatch):
    monkeypatch.setattr(http1, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(http1, "IDLE_SECONDS", 0.5)
    metrics = b"GET /metrics HTTP/1.1\r\nHost: x\r\n%s\r\n"
    with serving(app.engine) as here:
        last = metrics % b"Connection: close\r\n"
        sent = metrics % b"" * 3_000, metrics % b"" * 2_000 + last, metrics % b"" * 2_000 + b"zzz zzz\r\n\r\n"
        crowd = [opened(here, one) for one in sent]
        until(lambda: not here.front._connections)
        for connection in crowd:
            connection.close()


def test_clients_that_leave_are_forgotten(here):
    for cut in (5, len(WHOLE) - 5, len(WHOLE)):
        for _ in range(20):
            opened(here, WHOLE[:cut]).close()
    deadline = time.monotonic() + 5
    while here.front._connections or here.app.admission.recommend.in_flight:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Time, and how many


def test_connections_that_are_idle_or_too_many_or_too_slow_end(app, monkeypatch):
    monkeypatch.setattr(http1, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(http1, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(http1, "CONNECTIONS", 3)
    monkeypatch.setattr(http1, "READERS_MAX", 1)
    with serving(app.engine) as here:
        idle = [opened(here) for _ in range(3)]
        assert rest(opened(here, WHOLE)) == b"", "one too many"
        begin = time.monotonic()
        assert [rest(connection) for connection in idle] == [b""] * 3 and time.monotonic() - begin > 0.1
        older = opened(here, WHOLE[:-1])
        time.sleep(0.05)
        newer = opened(here, WHOLE[:-1])
        status, headers, body = answer(older)
        assert (status, headers["connection"], body) == (408, "close", b"the body took too long")
        newer.sendall(WHOLE[-1:])
        assert full(answer(newer)[2])
        monkeypatch.setattr(http1, "BODY_SECONDS", 0.1)
        newer.sendall(WHOLE[:-1])
        assert answer(newer)[0] == 408


# Who is served


def test_who_reads_late_is_not_blamed_for_what_was_not_read_of_him(app, monkeypatch):
    monkeypatch.setattr(http1, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.2)
    with serving(app.engine) as here:
        big = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000
        with opened(here, big + b"GET /ping HTTP") as connection:
            here.stuffed()
            end = here.front.now + 2 * http1.HEAD_SECONDS
            until(lambda: here.front.now > end)  # by the clock that would blame him
            got, count = b"", 0
            connection.settimeout(10)
            while count < 2_000:
                part = connection.recv(1 << 20)
                assert part, count
                got = got[-14:] + part
                count += got.count(b"HTTP/1.1 200 OK")
            connection.sendall(b"/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert rest(connection).endswith(b"success")


def test_of_many_late_bodies_each_is_given_up_once(app, monkeypatch):
    monkeypatch.setattr(http1, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(http1, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(http1, "READERS_MAX", 2)
    told = list[int]()
    with serving(app.engine) as here:
        left = here.app.left
        monkeypatch.setattr(
            here.app, "left", lambda visit, reply, sent: (told.append(reply[0]), left(visit, reply, sent))
        )
        crowd = here.crowd(12)
        for connection in crowd:
            connection.sendall(WHOLE[:20])
        time.sleep(0.4)
        with here.held():
            for connection in crowd:
                connection.sendall(WHOLE[20:-1])
            time.sleep(0.3)
        assert [answer(connection)[0] for connection in crowd] == [408] * 12
        time.sleep(0.2)
    assert told == [408] * 12


def test_between_two_walks_all_who_came_are_counted(app, monkeypatch):
    """As many as the limit are served in full, as many by what is popular, and the others are told at once."""
    with serving(app.engine) as here:
        limit = here.app.admission.recommend.limit
        crowd = here.crowd(2 * limit + 5)
        with here.held():
            for connection in crowd:
                connection.sendall(WHOLE)
        answers = [answer(connection) for connection in crowd]
        bodies = [json.loads(body) for status, _, body in answers if status == 200]
        assert sum(status == 503 for status, _, _ in answers) == 5
        assert sum("degraded" in body for body in bodies) == limit and len(bodies) == 2 * limit
        for connection in crowd:  # the connections are as good as before
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(connection)[2] == b"success"


def test_recommendations_that_wait_go_before_callbacks_that_do(app, monkeypatch):
    order, begun = list[str](), shell.Shell._begin

    def begin(self, path, body, popular=False):
        order.append(path)
        return begun(self, path, body, popular)

    monkeypatch.setattr(shell.Shell, "_begin", begin)
    with serving(app.engine) as here:
        first, *crowd = here.crowd(5)
        with here.held():
            first.sendall(WHOLE)
            for connection in crowd[:2]:
                connection.sendall(SENT)
            for connection in crowd[2:]:
                connection.sendall(WHOLE)
        statuses = {answer(connection)[0] for connection in (first, *crowd)}
        assert statuses <= {200, 503} and order.index(CALLBACK) > order.index(FEED)
        assert len(order) - order[::-1].index(FEED) <= 4, order


def test_whose_client_has_left_is_not_walked_for_and_his_place_is_free(app, monkeypatch):
    walked = list[str]()
    feed = app.engine.feed_waits

    def feed_waits(request: RecommendRequest, **how: bool):
        walked.append(request.request_id)
        return feed(request, **how)

    monkeypatch.setattr(app.engine, "feed_waits", feed_waits)
    with serving(app.engine) as here:
        stays, *leave = here.crowd(5)
        with here.held():
            for number, connection in enumerate((stays, *leave)):
                body = json.dumps(FIRST | {"request_id": f"r{number}"}).encode()
                connection.sendall(head(length=len(body)) + body)
            for connection in leave:
                connection.close()
        assert json.loads(answer(stays)[2])["request_id"] == "r0"
        with opened(here, WHOLE) as connection:
            assert full(answer(connection)[2])
    assert "r0" in walked and len(walked) < 5, walked


def test_refused_callbacks_are_answered_at_a_pace(app, monkeypatch):
    monkeypatch.setattr(shell, "REFUSED_GAP_SECONDS", 0.03)
    monkeypatch.setattr("pairec_fast.admission.Admission._has_room", lambda self, now: False)
    with serving(app.engine) as here:
        crowd = [opened(here, SENT) for _ in range(8)]
        begin = time.monotonic()
        assert [answer(connection)[0] for connection in crowd] == [503] * 8
        assert time.monotonic() - begin > 0.15
        with opened(here, WHOLE) as connection:
            assert full(answer(connection)[2])


def test_who_waits_for_the_log_keeps_nobody_waiting(world):
    """A callback that must be on the disk is answered when it is; others are served meanwhile."""
    world.conf["LogRingConf"] = world.conf.get("LogRingConf", {}) | {"Durability": "synced"}
    with world.engine() as engine, serving(engine) as here:
        crowd = [opened(here, SENT) for _ in range(3)]
        with opened(here, WHOLE) as connection:
            assert full(answer(connection)[2])
        assert [answer(connection)[0] for connection in crowd] == [200] * 3


def test_a_deadline_that_has_passed_while_it_waited_is_not_worked_for(app, monkeypatch):
    with serving(app.engine) as here:
        body = json.dumps(FIRST).encode()
        monkeypatch.setattr(app.engine, "feed_waits", slowly(app.engine.feed_waits))
        crowd = here.crowd(3)
        with here.held():
            for connection in crowd:
                connection.sendall(head(b"X-Timeout-Ms: 30", length=len(body)) + body)
        statuses = [answer(connection)[0] for connection in crowd]
        assert statuses.count(503) >= 1 and 200 in statuses


def slowly(feed):
    def feed_waits(request, **how):
        time.sleep(0.05)
        return feed(request, **how)

    return feed_waits


def test_compressed_bodies_and_answers(here):
    import gzip

    packed = gzip.compress(BODY)
    lines = b"Content-Encoding: gzip", b"Accept-Encoding: gzip"
    with opened(here, head(*lines, length=len(packed), path=RECOMMEND) + packed) as connection:
        assert json.loads(answer(connection)[2])["size"] == 3
    with opened(here, head(b"Content-Encoding: gzip", length=3) + b"abc") as connection:
        assert json.loads(answer(connection)[2])["code"] == 400
        connection.sendall(WHOLE)
        assert full(answer(connection)[2])


def test_a_stopping_front_answers_what_has_begun_and_closes_the_rest(app):
    here = Here(App(app.engine))
    half, idle = opened(here, WHOLE[:-5]), opened(here, WHOLE)
    assert full(answer(idle)[2])
    stopping = threading.Thread(target=here.stop)
    stopping.start()
    assert rest(idle) == b""
    half.sendall(WHOLE[-5:])
    status, headers, _ = answer(half)
    assert (status, headers["connection"]) == (200, "close") and rest(half) == b""
    stopping.join(10)
