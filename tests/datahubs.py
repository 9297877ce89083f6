"""What the tests of the DataHub sink share: quick paces, records, and reading back through the official client."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core import expand
from pairec_fast.sink.datahub import DatahubLog, open_log
from pairec_fast.sink.delivery import Pace
from pairec_fast.sink.topic import Target
from pairec_fast.sink.tuples import Column
from tests.services.datahub import ACCESS_ID, ACCESS_KEY, PROJECT, DatahubServer

QUICK = Pace(
    gather_seconds=0.05, poll_seconds=0.01, throttle_seconds=0.05, backoff_seconds=0.02, backoff_seconds_max=0.1,
    adopt_seconds=0.1,
)  # fmt: skip
NAMES = (Column("ring_id", "string"), Column("ring_position", "bigint"), Column("ring_row", "integer"))


def needs_client() -> None:
    """Skip where the official client is not installed, unless `.ci/run` has promised it."""
    if os.environ.get("PAIREC_SERVICES_REQUIRED"):
        import datahub  # noqa: F401
    pytest.importorskip("datahub", reason="pydatahub is not installed; pip install 'pairec_fast[datahub]'")


def target(server: DatahubServer, *columns: Column, topic: str = "log", key: str = ACCESS_KEY, **more: Any) -> Target:
    return Target(ACCESS_ID, key, server.endpoint, PROJECT, topic, columns=columns, **more)


def opened(folder: Path, to: Target, pace: Pace = QUICK, **changes: Any) -> DatahubLog:
    options: dict[str, Any] = dict(
        ring_bytes=1 << 20, segment_bytes=1 << 24, segment_seconds=60, sync_seconds=0.01, pace=pace
    )
    return open_log(folder / "spill", folder / "rings", to, **(options | changes))


def rows(payload: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(row) for row in expand(payload)]


def record(number: int, items: int = 2, **features: Any) -> bytes:
    entries = [{"item_id": f"i{place}", "score": place / 4} for place in range(items)]
    return encode(
        Record("home", f"r{number}", 1_700_000_000 + number, f"u{number % 7}", {"n": number} | features, {}, entries)
    )


def push(log: DatahubLog, payloads: list[bytes] | Iterator[bytes]) -> None:
    deadline = time.monotonic() + 30
    for payload in payloads:
        while not log.push(payload):
            assert time.monotonic() < deadline, log.counters()
            time.sleep(0.001)


def wait_for(true: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_delivered(log: DatahubLog, seconds: float = 20.0) -> None:
    mark, deadline = log.tail, time.monotonic() + seconds
    while log.delivered < mark:
        assert time.monotonic() < deadline, (log.trouble, log.counters())
        time.sleep(0.005)


def assert_law(log: DatahubLog, pushed: int, waiting: int = 0) -> None:
    """The counting law, once nothing moves: of all that was pushed, `waiting` wait and the rest has its end."""
    counts = log.counters()
    assert (counts["accepted"], counts["in_spill"], counts["in_ring"]) == (pushed, waiting, 0), counts
    ended = counts["delivered"] + counts["dead_letter"]
    assert pushed + counts["found"] + counts["adopted"] == ended + waiting, counts


def read_back(server: DatahubServer, topic: str = "log") -> list[Any]:
    """All tuples of a topic by the official client: by shard, then in order. By protobuf it reads null texts as ""."""
    from datahub.models import CursorType

    client = server.client(json_protocol=True)
    schema = client.get_topic(PROJECT, topic).record_schema
    found = []
    for shard in client.list_shard(PROJECT, topic).shards:
        cursor = client.get_cursor(PROJECT, topic, shard.shard_id, CursorType.OLDEST).cursor
        while (answer := client.get_tuple_records(PROJECT, topic, shard.shard_id, schema, cursor, 100)).record_count:
            found += answer.records
            cursor = answer.next_cursor
    return found


def request_numbers(server: DatahubServer, topic: str = "log") -> list[int]:
    """Which records arrived, one number a user row."""
    return [int(row["request_id"][1:]) for row in server.rows(topic) if row["module"] == "user"]


def by_user(numbers: list[int]) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {}
    for number in numbers:
        users.setdefault(number % 7, []).append(number)
    return users
