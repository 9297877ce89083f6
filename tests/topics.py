"""What the tests of the Kafka sink share: a cluster to break, records with known rows, and what the topic holds."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core.kafka import KafkaLog
from pairec_fast.errors import PairecError
from pairec_fast.sink.kafka import check_library, libraries
from tests.faults.mockd import Mock

TOPIC, PARTITIONS, KEYS = "rows", 4, 7


class Message(NamedTuple):
    key: bytes
    value: bytes
    identity: tuple[int, int, int]  # ring_id, position, row
    partition: int


def library() -> str:
    """The path of librdkafka, or a skip that says what is missing."""
    pytest.importorskip("confluent_kafka", reason="needs confluent-kafka: pip install 'pairec_fast[kafka]'")
    try:
        return check_library()[0]
    except PairecError as error:
        pytest.skip(str(error))


def cluster(topic: str = TOPIC, partitions: int = PARTITIONS) -> Mock:
    mock = Mock(library())
    mock.tell("topic", topic, partitions)
    return mock


def open_log(mock: Mock, folder: Path, **keywords: Any) -> KafkaLog:
    """A log that gives up on a silent broker sooner than one for use would."""
    settings = {
        "servers": mock.servers, "topic": TOPIC, "library": libraries(), "capacity": 1 << 20, "stall_seconds": 0.4,
        "message_timeout_seconds": 10.0, "adopt_seconds": 0.2,
    }  # fmt: skip
    return KafkaLog(folder / "spill", folder / "ring", **(settings | keywords))


def record(number: int, items: int = 2, size: int = 40, uid: str | None = None) -> bytes:
    features = {"age": number % 90, "filler": "x" * size}
    kept = [{"item_id": f"i{number}-{place}", "score": place} for place in range(items)]
    uid = f"u{number % KEYS}" if uid is None else uid
    return encode(Record("home_feed", f"r{number}", number, uid, features, {}, kept))


def expected(number: int, items: int = 2, size: int = 40, uid: str | None = None) -> list[bytes]:
    """The rows of that record, as PAIREC 9.4 has them."""
    uid = f"u{number % KEYS}" if uid is None else uid
    shared = f'"request_id":"r{number}","scene":"home_feed","request_time":{number},"user_id":"{uid}"'
    features = f'{{\\"age\\":{number % 90},\\"filler\\":\\"{"x" * size}\\",\\"uid\\":\\"{uid}\\"}}'
    user = f'{{{shared},"user_features":"{features}","request_info":"{{}}","module":"user"}}'
    texts = '"raw_features":"","generate_features":"","context_features":""'
    return [user.encode()] + [
        f'{{{shared},"module":"item","item_id":"i{number}-{place}",{texts},'
        f'"item_features":"{{\\"score\\":{place}}}"}}'.encode()
        for place in range(items)
    ]


def push(log: KafkaLog, payload: bytes) -> None:
    deadline = time.monotonic() + 60
    while not log.try_push(payload):
        assert time.monotonic() < deadline, log.counters()
        time.sleep(0.0005)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def read(mock: Mock, topic: str = TOPIC, partitions: int = PARTITIONS) -> list[Message]:
    """All that the topic holds, by partition and offset."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": mock.servers, "group.id": "reader", "log_level": 0})
    messages = []
    for partition in range(partitions):
        begin, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
        assert begin == 0, "the mock keeps 5 MiB of a partition, and this was more"
        consumer.assign([TopicPartition(topic, partition, 0)])
        count = 0
        while count < end:
            taken = consumer.consume(min(10_000, end - count), timeout=5)
            assert taken, "the topic ended early"
            for message in taken:
                assert message.error() is None, message.error()
                headers = dict(message.headers())
                identity = tuple(int(headers[name]) for name in ("ring_id", "position", "row"))
                messages.append(Message(message.key(), message.value(), identity, partition))
            count += len(taken)
    consumer.close()
    return messages


def distinct(messages: list[Message]) -> list[Message]:
    """Without repeats, as a reader removes them: the first of each identity counts."""
    return list({message.identity: message for message in reversed(messages)}.values())[::-1]


def assert_all_there(messages: list[Message], numbers: Iterable[int], ring_id: int, ordered: bool = True) -> None:
    """The topic holds each row of each record, and no other; a key's rows lie in the order of the pushes."""
    first = distinct(messages)
    values = {message.identity: message.value for message in first}
    for message in messages:
        assert values[message.identity] == message.value, f"{message.identity} was sent with two values"
    order: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    for message in first:
        assert json.loads(message.value)["user_id"].encode() == message.key
        order[message.key].append(message.identity)
    for key, identities in order.items():
        assert not ordered or identities == sorted(identities), f"rows of {key!r} are out of order"
    assert {message.identity[0] for message in first} <= {ring_id}
    wanted = Counter(row for number in numbers for row in expected(number))
    found = Counter(values.values())
    assert found == wanted, f"missing {list((wanted - found).items())[:5]}, beyond {list((found - wanted).items())[:5]}"


def assert_law(log: KafkaLog) -> dict[str, Any]:
    """Every record is somewhere, and counted there; when nothing moves."""
    counts = log.counters()
    there = counts["delivered"] + counts["in_ring"] + counts["in_spill"] + counts["dead_letter"]
    assert counts["accepted"] + counts["adopted_records"] == there, counts
    return counts
