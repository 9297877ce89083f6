"""The Kafka sink against Apache Kafka itself: what was accepted arrives, whatever happens to the broker.

Small doses; the full ones are `python -m tests.faults.kafka --seconds 60`, also with `--fault freeze` or `restart`.
"""

from __future__ import annotations

import random
import time

import msgspec
import pytest

from pairec_fast.core.ring import read_segments
from tests.faults import kafka as faults
from tests.faults import kafka_worker
from tests.services.ledger import Ledger, failed, record


@pytest.fixture
def topic(kafka):
    return kafka.create(f"log-{time.monotonic_ns()}")


@pytest.fixture
def log(kafka, topic, tmp_path):
    with faults.open_log(kafka, topic, tmp_path) as log:
        yield log


def push_many(ledger: Ledger, log, first: int, count: int, **size: int) -> int:
    for number in range(first, first + count):
        while not ledger.push(log, 0, number, **size):
            time.sleep(0.001)
            ledger.refused.clear()
    return first + count


def wait_until(holds, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.002)


def test_without_faults_every_row_arrives_once_and_in_order(kafka, topic, log):
    ledger = Ledger()
    push_many(ledger, log, 0, 5000)
    assert log.flush(30)
    totals = ledger.check(kafka.messages(topic))
    assert not failed(totals) and totals["rows"] == 15000 and totals["repeated"] == 0, totals
    assert not faults.law_broken(log, 5000)
    assert log.counters()["spilled_records"] == 0


@pytest.mark.parametrize(("fault", "seconds"), [("kill", 5.0), ("freeze", 4.0), ("restart", 0.0)])
def test_nothing_is_lost_and_no_order_turned_while_the_broker_is_away(kafka, topic, log, fault, seconds):
    """Killed with its data, frozen with its connections, or restarted in order; load goes on all the time."""
    totals = faults.run(kafka, log, topic, fault=fault, seconds=seconds, seed=7, rate=500, lead=1.5)
    assert not faults.wrong(totals) and totals["refused"] == 0, totals
    assert totals["records"] > 1000
    if fault != "restart":
        assert log.counters()["spilled_records"] > 0, "it was away for longer than the ring waits"


def test_the_segments_of_an_outage_are_gone_when_all_is_delivered(kafka, topic, log, tmp_path):
    ledger = Ledger()
    kafka.kill()
    push_many(ledger, log, 0, 500)
    wait_until(lambda: log.synced == log.tail)
    assert log.delivered < log.tail and log.counters()["in_spill"] == 500
    assert list((tmp_path / "segments").glob("kafka_spill-*"))
    kafka.start()
    assert log.flush(30)
    assert not failed(ledger.check(kafka.messages(topic))) and not faults.law_broken(log, 500)
    wait_until(lambda: not list((tmp_path / "segments").iterdir()))


def test_delivered_is_said_of_nothing_that_a_killed_broker_does_not_have(kafka, topic, log):
    """Records up to the position that was read before the kill are in the topic, whatever becomes of the sink."""
    ledger, ends, said = Ledger(), dict[str, int](), 0
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        push_many(ledger, log, len(ends), 1)
        ends[next(reversed(ledger.accepted))] = log.tail
        said = log.delivered
    kafka.kill()
    promised = [request_id for request_id, end in ends.items() if end <= said]
    assert len(promised) > 100
    before = log.delivered
    push_many(ledger, log, len(ends), 100)
    wait_until(lambda: log.synced == log.tail)
    assert log.delivered == before < log.tail, "nobody was there to acknowledge"
    assert log.close(5)
    kafka.start()
    kept = Ledger()
    kept.accepted = {request_id: ledger.accepted[request_id] for request_id in promised}
    totals = kept.check(kafka.messages(topic))
    assert totals["lost"] == 0, totals


def test_a_poison_record_becomes_a_dead_letter_and_the_innocent_around_it_arrive(kafka, tmp_path):
    """The broker refuses the batch whole, so all rows around the large one are refused with it at first."""
    topic = kafka.create(f"limited-{time.monotonic_ns()}", max_message_bytes="30000")
    with faults.open_log(kafka, topic, tmp_path) as log:
        ledger = Ledger()
        push_many(ledger, log, 0, 200)
        push_many(ledger, log, 200, 1, bytes_about=60_000)
        begin = time.monotonic()
        push_many(ledger, log, 201, 200)
        assert log.flush(30)
        assert time.monotonic() - begin < 5
        counters = log.counters()
        assert counters["dead_letter"] == 1 and counters["dead_letters"] == {"MSG_SIZE_TOO_LARGE": 1}, counters
        assert not faults.law_broken(log, 401)
        position = log.ring_id
    totals = ledger.check(kafka.messages(topic), except_for=["0-200-60000-2"])
    letters = [msgspec.msgpack.decode(payload) for payload, _, _ in read_segments(tmp_path / "segments", "kafka_dead")]
    assert [(name, row, ring_id, payload) for name, row, ring_id, _, payload in letters] == [
        ("MSG_SIZE_TOO_LARGE", 0, position, record(0, 200, 60_000))
    ]
    assert totals["lost"] == totals["repeated_after_dedup"] == totals["altered"] == 0, totals
    assert totals["inverted"] == 0, totals


def test_a_topic_whose_limit_is_below_usual_batches_gets_them_smaller_and_in_order(kafka, tmp_path):
    """8,000 ordinary records at full speed, and 13 that are too large: nobody is refused for a neighbour."""
    topic, ledger = kafka.create(f"small-{time.monotonic_ns()}", max_message_bytes="55000"), Ledger()
    poison, rng = set(range(300, 8000, 600)), random.Random(2)
    assert len(poison) == 13
    with faults.open_log(kafka, topic, tmp_path) as log:
        begin = time.monotonic()
        for number in range(8000):
            size = 60_000 if number in poison else rng.choice((0, 300, 2000))
            push_many(ledger, log, number, 1, bytes_about=size, items=1)
        assert log.flush(20) and time.monotonic() - begin < 20
        counters = log.counters()
        assert counters["kafka_errors"] == counters["dead_letters"] == {"MSG_SIZE_TOO_LARGE": 13}, counters
        assert counters["spilled_records"] == 0 and not faults.law_broken(log, 8000)
    letters = [msgspec.msgpack.decode(payload) for payload, _, _ in read_segments(tmp_path / "segments", "kafka_dead")]
    assert [payload for *_, payload in letters] == [record(0, number, 60_000, 1) for number in sorted(poison)]
    # The item's row of a dead letter is small, and was taken.
    totals = ledger.check(kafka.messages(topic), except_for=[f"0-{number}-60000-1" for number in poison])
    assert totals["refused_but_there"] == 13 and totals["repeated"] == 0, totals
    assert totals["lost"] == totals["inverted"] == totals["altered"] == 0, totals


def test_a_limit_that_is_lowered_while_the_sink_runs_is_asked_for_again(kafka, topic, log):
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

    ledger = Ledger()
    push_many(ledger, log, 0, 500)
    assert log.flush(30)
    entry = ConfigEntry("max.message.bytes", "20000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in kafka.admin.incremental_alter_configs([resource]).values():
        future.result(30)
    time.sleep(0.5)  # until the broker heeds it
    push_many(ledger, log, 500, 4000)
    assert log.flush(30)
    refused = log.counters()["kafka_errors"]
    assert set(refused) == {"MSG_SIZE_TOO_LARGE"} and log.counters()["dead_letter"] == 0
    push_many(ledger, log, 4500, 2000)
    assert log.flush(30)
    assert log.counters()["kafka_errors"] == refused, "batches keep to the new limit"
    totals = ledger.check(kafka.messages(topic))
    assert totals["lost"] == totals["repeated_after_dedup"] == totals["altered"] == 0, totals


def test_a_topic_that_is_made_later_gets_what_was_pushed_before(kafka, tmp_path):
    topic, ledger = f"late-{time.monotonic_ns()}", Ledger()
    with faults.open_log(kafka, topic, tmp_path) as log:
        push_many(ledger, log, 0, 200)
        assert not log.flush(1.5) and log.counters()["dead_letter"] == 0
        kafka.create(topic)
        assert log.flush(30)
        assert not faults.law_broken(log, 200)
    assert not failed(ledger.check(kafka.messages(topic)))


def test_nothing_acknowledged_is_lost_when_the_worker_is_killed_and_the_broker_now_and_then(kafka, tmp_path):
    """Small dose; the full one is `python -m tests.faults.kafka_worker --times 100`."""
    totals = kafka_worker.run(kafka, 3, 8, tmp_path)
    assert totals["kills_of_broker"] > 0 and totals["records"] > 100
    assert not kafka_worker.wrong(totals), totals


def test_control_records_are_lost_where_the_ring_of_a_dead_worker_is_thrown_away(kafka, tmp_path):
    totals = kafka_worker.run(kafka, 4, 3, tmp_path, broken=True)
    assert totals["lost"] > 0 and kafka_worker.wrong(totals), totals
