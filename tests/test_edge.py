"""What comes over the wire and is no ordinary request, on real servers: each hazard in a small dose."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.servers import Server
from tests.wire import BODY, WHOLE, answer, head, opened, rest
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, World


def assert_well(server: Server) -> None:
    status, body = server.ask(FEED, FIRST)
    assert status == 200 and json.loads(body)["size"] == 3 and "degraded" not in json.loads(body)


@pytest.fixture(scope="module")
def server(shared_world, tmp_path_factory) -> Iterator[Server]:
    world = World(shared_world, tmp_path_factory.mktemp("edge"))
    with Server(world) as server:
        yield server
        assert server.end(signal.SIGTERM)[0] == 0
        assert "Traceback" not in server.stderr.read_text()


def test_slow_heads_and_slow_bodies_are_closed_after_five_seconds_and_keep_nobody_out(server):
    begin = time.monotonic()
    heads = [opened(server, WHOLE[:20]) for _ in range(10)]
    bodies = []
    for _ in range(6):  # each time fewer than would be refused; together more
        bodies += [opened(server, WHOLE[:-5]) for _ in range(3)]
        bodies.append(opened(server, head(b"Transfer-Encoding: chunked") + b'5\r\n{"uid\r\n'))
        time.sleep(0.2)
    for _ in range(20):
        assert_well(server)
    assert time.monotonic() - begin < 4
    for connection in heads:
        assert rest(connection) == b"" and time.monotonic() - begin < 8
    assert time.monotonic() - begin > 4.5
    for connection in bodies:
        status, headers, body = answer(connection)
        assert (status, headers["connection"], body) == (408, "close", b"the body took too long")
        assert rest(connection) == b"" and time.monotonic() - begin < 8
    assert_well(server)


@pytest.mark.parametrize(
    "lines",
    [[b"X-%d: y" % n for n in range(300)], [b"X: " + b"y" * 70_000], [b"X-%d: " % n + b"y" * 900 for n in range(80)]],
    ids=["many", "one that is long", "many that are long together"],
)
def test_a_flood_of_headers_is_refused(server, lines):
    with opened(server, head(*lines, length=0)) as connection:
        assert rest(connection).startswith(b"HTTP/1.1 431 ")
    assert_well(server)


def test_long_paths_are_refused(server):
    with opened(server, head(length=0, path="/" + "x" * 9_000)) as connection:
        assert answer(connection)[0] == 414
    with opened(server, head(length=0, path="/" + "x" * 40_000)) as connection:
        assert re.match(rb"HTTP/1.1 4(14|31) ", rest(connection))
    assert_well(server)


@pytest.mark.parametrize(
    "lines",
    [[b"Content-Length: 49", b"Content-Length: 5"], [b"Content-Length: -1"], [b"Content-Length: 99999999999999999999"],
     [b"Content-Length: 4x"], [b"Content-Length: 1,2"]],
    ids=["two", "negative", "larger than any number", "no number", "a list"],
)  # fmt: skip
def test_lengths_that_cannot_be_are_refused_and_what_follows_is_no_request(server, lines):
    with opened(server, head(*lines) + BODY + WHOLE) as connection:
        got = rest(connection)
        assert got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1") == 1
    assert_well(server)


def test_a_length_beside_chunks_does_not_hide_a_second_request(server):
    """The connection ends: what another proxy might take for the body is not read as a request."""
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    with opened(server, head(b"Transfer-Encoding: chunked", length=3) + chunks + WHOLE) as connection:
        got = rest(connection)
        assert got.count(b"HTTP/1.1 ") == 1 and b"connection: close" in got
    assert_well(server)


def test_pipelined_requests_are_answered_in_their_order(server):
    bodies = [json.dumps(FIRST | {"request_id": f"r{number}"}).encode() for number in range(100)]
    with opened(server, b"".join(head(length=len(body)) + body for body in bodies)) as connection:
        got = b""
        while got.count(b'"request_id"') < 100:
            part = connection.recv(1 << 16)
            assert part
            got += part
    assert re.findall(rb'"request_id":"(\w+)"', got) == [b"r%d" % number for number in range(100)]


def test_clients_that_leave_in_the_middle_of_a_body_leave_nothing_behind(server):
    for _ in range(60):
        opened(server, WHOLE[:-5]).close()
    time.sleep(0.1)
    for _ in range(30):
        assert_well(server)


def test_two_hundred_idle_connections_keep_nobody_out(server):
    idle = [opened(server) for _ in range(200)]
    used = [opened(server, WHOLE) for _ in range(200)]
    assert {answer(connection)[0] for connection in used} <= {200, 503}
    for _ in range(10):
        assert_well(server)
    for connection in (*idle, *used):
        connection.close()


def test_a_chunked_body_is_read_as_far_as_the_limit(server):
    parts = [BODY[at : at + 10] for at in range(0, len(BODY), 10)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with opened(server, head(b"Transfer-Encoding: chunked") + chunks) as connection:
        assert json.loads(answer(connection)[2])["size"] == 3
    chunks = (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 20
    with opened(server, head(b"Transfer-Encoding: chunked")) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(chunks)
        assert b"request body larger than 1048576 bytes" in rest(connection)
    assert_well(server)


def test_a_deadline_that_is_none_is_told_over_the_wire_too(server):
    with opened(server, head(b"X-Timeout-Ms: soon", length=len(BODY)) + BODY) as connection:
        assert json.loads(answer(connection)[2])["code"] == 400
    with opened(server, head(b"X-Timeout-Ms: 5000", length=len(BODY)) + BODY) as connection:
        assert json.loads(answer(connection)[2])["size"] == 3


@pytest.mark.parametrize("front", ["serve", "asgi", "rsgi", "uvicorn"])
def test_who_is_refused_keeps_the_connection_and_is_served_on_it_when_there_is_room(world, front):
    world.conf["LimitConf"] = {"InFlightMax": 1}
    world.scene["default"]["RecallNames"].remove("hot")
    for name in [name for name in world.scene if name != "default"]:
        del world.scene[name]
    with Server(world, front=front) as server:
        crowd = [opened(server) for _ in range(8)]
        for _ in range(100):
            for connection in crowd:  # while the first is worked on, others come
                connection.sendall(WHOLE)
            answers = {connection: answer(connection) for connection in crowd}
            refused = max(crowd, key=lambda connection: answers[connection][0])
            status, headers, body = answers[refused]
            if status == 503:
                break
        assert (status, body) == (503, b'{"code":503,"msg":"overloaded","request_id":""}')
        assert headers["retry-after"] in ("1", "2", "3") and headers.get("connection") != "close"
        time.sleep(0.2)
        refused.sendall(WHOLE)
        assert answer(refused)[0] == 200
        assert b'shed_total{kind="recommend",reason="limit"} ' in server.ask("/metrics")[1]
        assert server.end(signal.SIGTERM)[0] in (0, -signal.SIGTERM)
        assert "Traceback" not in server.stderr.read_text()


def test_a_server_that_is_told_to_stop_answers_what_it_has_begun(world):
    with Server(world) as server:
        half, idle = opened(server, WHOLE[:-5]), opened(server, WHOLE)
        assert answer(idle)[0] == 200
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionError):
            opened(server)
        half.sendall(WHOLE[-5:])
        status, headers, body = answer(half)
        assert status == 200 and json.loads(body)["size"] == 3 and headers["connection"] == "close"
        assert rest(idle) == b""
        assert server.process.wait(20) == 0 and time.monotonic() - begin < 10


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_drains_says_that_it_is_not_ready_and_serves_on_for_a_while(world, workers):
    """So that who balances load sees it before a connection is refused."""
    world.conf["LimitConf"] = {"DrainSeconds": 2}
    with Server(world, workers) as server:
        half = opened(server, WHOLE[:-5])
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        while server.ask("/readyz")[0] != 503:
            assert time.monotonic() - begin < 1
        while time.monotonic() - begin < 1.5:
            assert server.ask("/livez")[0] == 200 and server.ask(CALLBACK, LOGGED)[0] == 200
            with opened(server, WHOLE) as connection:
                status, headers, _ = answer(connection)
                assert status == 200
            time.sleep(0.05)
        assert headers["connection"] == "close", "clients are to look for another worker"
        half.sendall(WHOLE[-5:])
        assert answer(half)[0] == 200
        assert server.process.wait(20) == 0 and 2 <= time.monotonic() - begin < 10


def test_a_second_signal_cuts_the_draining_short(world):
    world.conf["LimitConf"] = {"DrainSeconds": 60}
    with Server(world) as server:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.ask(FEED, FIRST)[0] == 200
        assert server.end(signal.SIGTERM)[0] == 0 and time.monotonic() - begin < 10
