"""The broker that tests start is Apache Kafka, and what tests do to it happens; shown with a plain producer.

Two tests are controls: a producer without what the sink has must fail here, or the sink's tests prove nothing.
"""

from __future__ import annotations

import time

import pytest

from tests.services.ledger import Ledger, failed
from tests.services.plain import PlainLog


@pytest.fixture
def topic(kafka, request):
    return kafka.create(f"{request.node.name.split('[')[0][:200]}-{time.monotonic_ns()}")


def load(log: PlainLog, ledger: Ledger, seconds: float, first: int = 0) -> int:
    """About 500 records a second from one thread. Returns the number that comes next."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ledger.push(log, 0, first)
        first += 1
        time.sleep(0.002)
    return first


def test_without_faults_every_row_is_there_once_and_in_order(kafka, topic):
    ledger, log = Ledger(), PlainLog(kafka, topic, enable_idempotence=True)
    load(log, ledger, 0.5)
    assert log.flush(10)
    totals = ledger.check(kafka.messages(topic))
    assert totals["records"] > 50 and not failed(totals) and totals["repeated"] == 0, totals


def test_a_killed_broker_is_gone_and_comes_back_with_what_it_had_acknowledged(kafka, topic):
    ledger, log = Ledger(), PlainLog(kafka, topic, enable_idempotence=True)
    load(log, ledger, 0.5)
    assert log.flush(10)
    port = kafka.port
    kafka.kill()
    delivered = log.told["delivered"]
    number = load(log, ledger, 0.5, first=len(ledger.accepted))
    assert not log.flush(0.5) and log.told["delivered"] == delivered
    assert kafka.start() < 20 and kafka.port == port
    load(log, ledger, 0.2, first=number)
    assert log.flush(30)
    totals = ledger.check(kafka.messages(topic))
    assert not failed(totals) and set(log.told) == {"delivered"}, totals


def test_an_orderly_restart_keeps_the_data_and_the_port(kafka, topic):
    ledger, log = Ledger(), PlainLog(kafka, topic, enable_idempotence=True)
    load(log, ledger, 0.2)
    assert log.flush(10)
    assert kafka.restart() < 30
    assert not failed(ledger.check(kafka.messages(topic)))


def test_control_a_producer_that_gives_up_loses_in_an_outage(kafka, topic):
    ledger, log = Ledger(), PlainLog(kafka, topic, message_timeout_ms=500)
    number = load(log, ledger, 0.3)
    kafka.kill()
    load(log, ledger, 1.0, first=number)
    kafka.start()
    log.flush(30)
    totals = ledger.check(kafka.messages(topic))
    # Some that it gave up on had arrived: their acknowledgement died with the broker.
    assert log.told["_MSG_TIMED_OUT"] >= totals["lost"] > 0 and failed(totals), totals


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_broker_frozen_beyond_the_request_timeout_repeats_unless_the_producer_numbers_its_messages(
    kafka, topic, idempotent
):
    """What the broker took in before it froze is sent again: a real broker refuses it by its sequence number."""
    settings = {"socket_timeout_ms": 1000, "retry_backoff_ms": 100, "message_timeout_ms": 60000}
    ledger, log = Ledger(), PlainLog(kafka, topic, enable_idempotence=idempotent, **settings)
    number = load(log, ledger, 0.5)
    for _ in range(2):
        kafka.freeze()
        number = load(log, ledger, 1.6, first=number)
        kafka.thaw()
        number = load(log, ledger, 0.3, first=number)
    assert log.flush(30)
    totals = ledger.check(kafka.messages(topic))
    if idempotent:
        assert not failed(totals) and totals["repeated"] == 0, totals
    else:
        assert totals["lost"] == totals["altered"] == totals["repeated_after_dedup"] == 0, totals
        assert totals["repeated"] > 0, totals


def test_a_topic_refuses_a_batch_over_its_limit_whole_with_the_rows_that_lay_beside_the_large_one(kafka):
    """So a refusal does not say which message is too large: a sink that believes it drops the innocent."""
    limited = kafka.create(f"limited-{time.monotonic_ns()}", partitions=1, max_message_bytes="3000")
    ledger, log = Ledger(), PlainLog(kafka, limited, linger_ms=200)
    ledger.push(log, 0, 0)
    ledger.push(log, 0, 1, bytes_about=5000)
    assert log.flush(10)
    assert log.told == {"MSG_SIZE_TOO_LARGE": 6}
    ledger.push(log, 0, 2)
    assert log.flush(10) and log.told["delivered"] == 3
