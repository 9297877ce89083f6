"""The load client of the benchmarks: when requests are due, what counts as latency, and what ends how."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bench.openloop import BROKEN, LATE, UNSENT, Stream, run

ANSWER = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s"


@contextlib.contextmanager
def served(answer: Callable[[int, bytes], tuple[float, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that answers each request with bytes after some seconds; and the bodies it was sent. b"" closes."""
    got: list[bytes] = []
    loop = asyncio.new_event_loop()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                got.append(await reader.readexactly(length))
                seconds, said = answer(len(got) - 1, got[-1])
                await asyncio.sleep(seconds)
                writer.write(said)
                if not said:
                    break
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(client, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def ok(body: bytes = b"yes", status: int = 200) -> bytes:
    return ANSWER % (status, len(body), body)


def test_bodies_are_sent_in_turn_at_the_rate_that_is_asked_for_and_answers_counted_by_status_and_mark():
    def answer(number, body):
        return 0, ok(b"it is degraded", 200) if number % 4 == 0 else ok(status=503 if number % 2 else 200)

    with served(answer) as (port, got):
        (outcomes,) = run(port, [Stream("/x", [b"a", b"bb"], rate=500, connections=4, mark="degraded")], 1.0)
    assert 380 < len(outcomes.rows) < 620 and len(got) == len(outcomes.rows)  # Poisson: 500 +- 5.4 deviations
    assert abs(got.count(b"a") - got.count(b"bb")) <= 1
    assert outcomes.count(200) + outcomes.count(503) == len(got)
    assert len(outcomes.of(200, marked=True)) == -(-len(got) // 4)
    gaps = np.diff(np.sort(outcomes.rows["due_s"]))
    assert 0.7 < gaps.std() / gaps.mean() < 1.4, "exponential: deviation and mean are equal"


def test_a_request_that_waits_for_a_connection_counts_from_when_it_was_due():
    """One connection, 20 ms an answer, due every 10 ms: the k-th waits about 10 k ms before it can be sent."""
    with served(lambda number, body: (0.02, ok())) as (port, _):
        (outcomes,) = run(port, [Stream("/", [b"x"], rate=100, connections=1, deadline_ms=2000, arrivals="even")], 0.3)
    assert outcomes.count(200) == len(outcomes.rows) >= 29
    us = outcomes.rows["us"]
    assert us[0] >= 20_000 and us[20] >= 20_000 + 20 * 10_000 * 0.9 and np.all(np.diff(us) > 0)


def test_who_gives_up_closes_the_connection_and_opens_another():
    with served(lambda number, body: (5, ok())) as (port, got):
        (outcomes,) = run(port, [Stream("/", [b"x"], rate=200, connections=2, deadline_ms=30)], 0.5)
    assert set(outcomes.rows["status"].tolist()) <= {LATE, UNSENT}
    assert abs(outcomes.count(LATE) - len(got)) <= 2 and len(got) >= 20  # what is given up may not have been read
    assert np.all(outcomes.of(LATE) >= 30_000) and np.all(outcomes.of(LATE) < 500_000)


def test_a_connection_that_ends_before_its_answer_is_broken_and_another_one_opened():
    with served(lambda number, body: (0, b"" if number % 3 == 0 else ok())) as (port, _):
        (outcomes,) = run(port, [Stream("/", [b"x"], rate=100, connections=3)], 0.5)
    assert outcomes.count(BROKEN) > 5 and outcomes.count(200) > 10
    assert outcomes.count(BROKEN) + outcomes.count(200) == len(outcomes.rows)


def test_a_closed_loop_keeps_one_request_on_each_connection():
    with served(lambda number, body: (0.02, ok())) as (port, _):
        (outcomes,) = run(port, [Stream("/", [b"x"], connections=5)], 0.5)
    assert 50 <= outcomes.count(200) == len(outcomes.rows) <= 130


def test_streams_have_connections_and_rates_of_their_own():
    def answer(number, body):
        return (0.4, ok()) if body == b"slow" else (0, ok())

    with served(answer) as (port, _):
        begin = time.monotonic()
        slow, fast = run(
            port,
            [Stream("/s", [b"slow"], connections=1), Stream("/f", [b"f"], rate=200, headers={"X-A": "b"})], 0.5,
        )  # fmt: skip
        assert time.monotonic() - begin < 5
    assert len(slow.rows) == 2 and np.percentile(fast.of(200), 90) < 200_000


def test_a_body_with_a_line_break_is_refused():
    with pytest.raises(ValueError, match="line break"):
        run(1, [Stream("/", [b"a\nb"])], 1)
