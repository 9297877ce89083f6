"""The Kafka sink: every row arrives, in the order of its key, whatever becomes of brokers."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pairec_fast.core.kafka import KafkaLog
from pairec_fast.core.ring import read_segments
from tests.topics import (
    PARTITIONS,
    assert_all_there,
    assert_law,
    cluster,
    distinct,
    expected,
    open_log,
    push,
    read,
    record,
    until,
)  # fmt: skip

MSG_SIZE_TOO_LARGE, NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, INVALID_RECORD = 10, 6, 7, 19, 87
OUT_OF_ORDER, FENCED_EPOCH, UNKNOWN_TOPIC = 45, 47, 3


@pytest.fixture
def mock():
    mock = cluster()
    yield mock
    mock.close()


@contextmanager
def load(log: KafkaLog, start: int = 0, rate: int = 2000):
    """Push numbered records meanwhile; the list holds the numbers that were taken."""
    numbers: list[int] = []
    stop = threading.Event()

    def run() -> None:
        began = time.monotonic()
        while not stop.is_set():
            while len(numbers) < (time.monotonic() - began) * rate:
                push(log, record(start + len(numbers)))
                numbers.append(start + len(numbers))
            time.sleep(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield numbers
    finally:
        stop.set()
        thread.join()


def dead_letters(folder: Path) -> list[list]:
    return [msgspec.msgpack.decode(payload) for payload, _, _ in read_segments(folder / "spill", "kafka_dead")]


# Brokers are there


def test_each_row_is_a_message_with_its_key_and_the_name_of_its_record(mock, tmp_path):
    log = open_log(mock, tmp_path)
    assert log.push(record(7)) and log.push(record(8, items=0)) and log.flush()
    first, second = sorted({message.identity[1] for message in read(mock)})
    assert log.close() and first < second
    found = {message.identity: (message.key, message.value) for message in read(mock)}
    rows = [(b"u0", row) for row in expected(7)] + [(b"u1", expected(8, items=0)[0])]
    places = [(first, 0), (first, 1), (first, 2), (second, 0)]
    assert found == {(log.ring_id, *place): row for place, row in zip(places, rows, strict=True)}


def test_keys_go_where_java_producers_send_them_and_an_empty_one_keeps_to_one_partition(mock, tmp_path):
    """The hashes are those of Kafka's own tests of murmur2; of nothing it is 275646681."""
    hashes = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "": 275646681}
    log = open_log(mock, tmp_path)
    for number in range(50):
        for uid in hashes:
            push(log, record(number, items=0, uid=uid))
    assert log.flush() and log.close()
    found = {(message.key.decode(), message.partition) for message in read(mock)}
    assert found == {(uid, (hashed & 0x7FFFFFFF) % PARTITIONS) for uid, hashed in hashes.items()}
    values = [message.value for message in read(mock) if not message.key]
    assert values == [expected(number, items=0, uid="")[0] for number in range(50)]


def test_a_position_is_delivered_when_it_is_acknowledged_and_not_before(mock, tmp_path):
    mock.tell("rtt", 0, 300)
    log = open_log(mock, tmp_path, stall_seconds=5.0)
    assert log.push(record(0))
    assert log.tail > 0 and not log.flush(0.2) and log.delivered == log.synced == 0
    assert log.flush() and log.delivered == log.synced == log.tail
    counts = assert_law(log)
    assert counts["delivered"] == 1 and counts["delivered_rows"] == 3 and log.state == "direct"
    assert log.close()


def test_what_is_no_record_is_a_dead_letter_and_holds_up_nothing(mock, tmp_path):
    log = open_log(mock, tmp_path)
    payloads = [record(0), b"", b"\x93\x01\x02\x03", record(1)]
    assert all(map(log.push, payloads)) and log.flush()
    counts = assert_law(log)
    assert counts["dead_letter"] == 2 and counts["dead_letters"] == {"_BAD_MSG": 2} and log.close()
    letters = dead_letters(tmp_path)
    assert [letter[4] for letter in letters] == payloads[1:3]
    assert {tuple(letter[:3]) for letter in letters} == {("_BAD_MSG", -1, log.ring_id)}
    assert letters[0][3] < letters[1][3] < log.tail
    assert_all_there(read(mock), [0, 1], log.ring_id)


def test_a_record_too_large_for_the_producer_is_a_dead_letter_within_a_second(mock, tmp_path):
    log = open_log(mock, tmp_path, options={"message.max.bytes": "2000"})
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        began = time.monotonic()
        push(log, record(10**6, size=4000))
        until(lambda: log.counters()["dead_letter"] == 1, seconds=1.0)
        assert time.monotonic() - began < 1.0
        delivered = log.counters()["delivered"]
        until(lambda: log.counters()["delivered"] > delivered + 100)
    assert log.flush() and assert_law(log)["dead_letters"] == {"MSG_SIZE_TOO_LARGE": 1} and log.close()
    [[name, row, ring_id, _, payload]] = dead_letters(tmp_path)
    assert (name, row, ring_id, payload) == ("MSG_SIZE_TOO_LARGE", 0, log.ring_id, record(10**6, size=4000))
    # Its other rows were taken: they are sent, and a reader finds the record once in either place.
    items = [message for message in read(mock) if b'"r1000000"' in message.value]
    assert [message.value for message in items] == expected(10**6, size=4000)[1:]
    assert_all_there([message for message in read(mock) if message not in items], numbers, log.ring_id)


@pytest.mark.parametrize("code", [MSG_SIZE_TOO_LARGE, INVALID_RECORD])
def test_a_batch_that_brokers_refuse_is_split_before_anybody_in_it_is_blamed(mock, tmp_path, code):
    """A broker says it of the whole batch. Batches behind it that were under way are taken, so order is lost there."""
    log = open_log(mock, tmp_path)
    push(log, record(0))
    assert log.flush()
    mock.tell("produce-errors", *[code] * 4)
    for number in range(1, 2001):
        push(log, record(number))
    assert log.flush()
    counts = assert_law(log)
    assert counts["dead_letter"] <= 1 and counts["kafka_errors"] and log.close()
    letters = [letter[4] for letter in dead_letters(tmp_path)]
    numbers = [number for number in range(2001) if record(number) not in letters]
    messages = [message for message in read(mock) if json.loads(message.value)["request_time"] in numbers]
    assert_all_there(messages, numbers, log.ring_id, ordered=False)


def test_a_row_that_brokers_refuse_even_alone_is_a_dead_letter(mock, tmp_path):
    log = open_log(mock, tmp_path)
    push(log, record(0))
    assert log.flush()
    mock.tell("produce-errors", *[MSG_SIZE_TOO_LARGE] * 40)
    push(log, record(1))
    until(lambda: log.counters()["dead_letter"] == 1)
    assert dead_letters(tmp_path)[0][0] == "MSG_SIZE_TOO_LARGE" and dead_letters(tmp_path)[0][4] == record(1)
    assert log.close()


def test_batches_that_are_refused_for_long_get_smaller_and_what_follows_does_not_wait_row_by_row(mock, tmp_path):
    """The mock does not tell a topic's limit. Every refusal is a batch that was too large."""
    log = open_log(mock, tmp_path)
    push(log, record(0))
    assert log.flush()
    mock.tell("rtt", 0, 20)
    mock.tell("produce-errors", *[MSG_SIZE_TOO_LARGE] * 8)
    for number in range(1, 3001):
        push(log, record(number, size=400))
    assert log.flush(90), "9,000 rows one after the other, at 20 ms, are three minutes"
    counts = assert_law(log)
    # A row that went alone, before others had come, may be the one that was refused.
    assert counts["kafka_errors"]["MSG_SIZE_TOO_LARGE"] > 8 and counts["dead_letter"] <= 1 and log.close()
    sizes = {number: 40 if number == 0 else 400 for number in range(3001)}
    rows = sorted(row for number, size in sizes.items() for row in expected(number, size=size))
    for _, row, _, _, payload in dead_letters(tmp_path):
        (number,) = (number for number, size in sizes.items() if record(number, size=size) == payload)
        rows.remove(expected(number, size=sizes[number])[row])
    assert sorted(message.value for message in distinct(read(mock))) == rows


# Brokers are in trouble


def test_brokers_that_are_away_for_a_while_cost_nothing_but_time(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        mock.tell("down", 0)
        until(lambda: log.counters()["in_spill"] > 1000)
        counts = log.counters()
        assert counts["spilling"] == 1 and counts["spill_bytes"] > 50_000 and counts["oldest_undelivered_seconds"] > 0.4
        assert log.delivered < log.synced <= log.tail
        mock.tell("up", 0)
        until(lambda: log.state == "direct")
    assert log.flush()
    counts = assert_law(log)
    assert counts["in_spill"] == counts["spill_bytes"] == counts["spill_oldest_seconds"] == 0
    assert counts["spilled_records"] > 1000 and counts["delivered"] == len(numbers) and not counts["dead_letters"]
    assert log.close() and not list((tmp_path / "spill").iterdir())
    assert_all_there(read(mock), numbers, log.ring_id)


def test_leaders_that_move_slow_brokers_and_refusals_for_now_lose_and_turn_nothing_round(mock, tmp_path):
    # Behind a batch that it refused the mock takes the next, whose sequence number brokers would refuse: the client
    # then believes the first one there, too. With one request under way nothing is behind.
    log = open_log(mock, tmp_path, stall_seconds=2.0, options={"max.in.flight.requests.per.connection": "1"})
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        for step in range(8):
            mock.tell("leader", "rows", step % PARTITIONS, 1 + step % 3)
            mock.tell("produce-errors", NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS)
            mock.tell("rtt", 1 + step % 3, 100 * (step % 3))
            time.sleep(0.15)
    mock.tell("rtt", 0, 0)
    assert log.flush() and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_frozen_cluster_fills_the_spill_and_repeats_can_be_removed(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        mock.freeze()
        until(lambda: log.counters()["in_spill"] > 500)
        mock.thaw()
    assert log.flush(30) and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_producer_that_fails_for_good_is_replaced_and_resends_from_the_head(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        for code in (OUT_OF_ORDER, FENCED_EPOCH):
            delivered = log.counters()["delivered"]
            until(lambda before=delivered: log.counters()["delivered"] > before + 100)
            log.inject_fatal_error(code)
        delivered = log.counters()["delivered"]
        until(lambda: log.counters()["delivered"] > delivered + 100)
    assert log.flush()
    errors = log.counters()["kafka_errors"]
    assert errors["OUT_OF_ORDER_SEQUENCE_NUMBER"] == 1 and errors["INVALID_PRODUCER_EPOCH"] == 1 and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_topic_nobody_knows_is_waited_for_and_found_when_it_is_made(mock, tmp_path):
    mock.tell("topic-error", "late", UNKNOWN_TOPIC)
    options = {"topic.metadata.propagation.max.ms": "100"}
    log = open_log(mock, tmp_path, topic="late", options=options, unknown_topic_seconds=30)
    push(log, record(0))
    until(lambda: log.counters()["in_spill"] == 1)
    assert not log.flush(1.0)
    mock.tell("topic-error", "late", 0)
    assert log.flush() and log.counters()["dead_letter"] == 0 and log.close()
    assert [message.value for message in read(mock, "late")] != []


def test_a_topic_that_stays_unknown_sends_its_records_to_the_dead_letters(mock, tmp_path):
    mock.tell("topic-error", "never", UNKNOWN_TOPIC)
    options = {"topic.metadata.propagation.max.ms": "100"}
    log = open_log(mock, tmp_path, topic="never", options=options, unknown_topic_seconds=1)
    for number in range(50):
        push(log, record(number))
    assert log.flush(20)
    counts = assert_law(log)
    assert counts["dead_letter"] == 50 and set(counts["dead_letters"]) <= {"_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"}
    assert log.close() and [letter[4] for letter in dead_letters(tmp_path)] == [record(number) for number in range(50)]


def test_a_long_queue_whose_messages_keep_being_acknowledged_is_no_silence(mock, tmp_path):
    """One message a request and 50 ms a request: the last waits for longer than a silent broker is waited for."""
    log = open_log(mock, tmp_path, options={"batch.num.messages": "1"}, stall_seconds=0.6)
    push(log, record(0))
    assert log.flush()
    mock.tell("rtt", 0, 50)
    began = time.monotonic()
    for number in range(1, 201):
        push(log, record(number, uid="u1"))
    until(lambda: log.counters()["delivered"] == 201)
    assert time.monotonic() - began > 0.6, "then it waited for nothing"
    assert log.counters()["spilled_records"] == 0 and log.close()


def test_more_than_brokers_take_goes_over_the_disk_and_keeps_its_order(mock, tmp_path):
    mock.tell("rtt", 0, 200)
    options = {"queue.buffering.max.messages": "500"}
    log = open_log(mock, tmp_path, capacity=1 << 16, options=options, stall_seconds=4.0)
    for number in range(4000):
        push(log, record(number))
    assert log.counters()["spilled_records"] > 500
    mock.tell("rtt", 0, 0)
    assert log.flush(30) and assert_law(log)["delivered"] == 4000 and log.close()
    assert_all_there(read(mock), range(4000), log.ring_id)
