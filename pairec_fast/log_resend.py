"""Rows of the feature log to Kafka, once more or late: the messages are those of the Kafka sink."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from pairec_fast.errors import PairecError
from pairec_fast.terminal import say

FAILED_MAX = 1000  # reports in a row


class _Keyed(msgspec.Struct):
    user_id: str


def resend(
    records: Iterable[tuple[list[bytes], int, int]],
    bootstrap: str,
    topic: str,
    settings: dict[str, str],
    timeout: float,
) -> dict[str, Any]:
    """Send `(rows, ring_id, position)` of records, a message a row, and wait for all reports.

    The key is the user's id; the headers `ring_id`, `position` and `row` name the row, so that a reader can drop
    repeats: of a message that timed out nobody knows whether it arrived. Gives up when the first report is bad, or
    later when so many in a row are that the cluster must be gone.

    Args:
        settings: properties of librdkafka that count beside and before our own.
        timeout: seconds that a message may take.

    Returns:
        `delivered` and `failed` rows, and `errors`: their names, each with how many rows failed of it.

    Raises:
        ModuleNotFoundError: confluent_kafka is not installed.
        PairecError: librdkafka refuses a property.
    """
    from confluent_kafka import KafkaException, Producer

    delivered, in_a_row, errors = 0, 0, Counter[str]()

    def report(error: Any, message: Any) -> None:
        nonlocal delivered, in_a_row
        if error is None:
            delivered += 1
            in_a_row = 0
        else:
            errors[error.name()] += 1
            in_a_row += 1

    conf = {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "compression.type": "lz4",
        "partitioner": "murmur2",
        "queue.buffering.max.messages": 100_000,
        "queue.buffering.max.kbytes": 65_536,
        "message.timeout.ms": round(timeout * 1000),
        "log_level": 0,  # what goes wrong is told by `error_cb`
        **settings,
        "error_cb": lambda error: say(f"kafka: {error.str()}"),
    }
    try:
        producer = Producer(conf)
    except KafkaException as error:
        raise PairecError(f"kafka: {error.args[0].str()}") from None
    decode = msgspec.json.Decoder(_Keyed).decode
    for rows, ring_id, position in records:
        key = decode(rows[0]).user_id.encode()
        name = [("ring_id", str(ring_id).encode()), ("position", str(position).encode())]
        for number, row in enumerate(rows):
            headers = [*name, ("row", str(number).encode())]
            while True:
                try:
                    producer.produce(topic, row, key, on_delivery=report, headers=headers)
                except BufferError:  # the queue is full: its messages are sent, or time out
                    producer.poll(0.1)
                    continue
                except KafkaException as error:  # too large, or the producer is beyond help: no report will come
                    errors[error.args[0].name()] += 1
                break
        producer.poll(0)
        if in_a_row >= (FAILED_MAX if delivered else 1):
            break
    producer.flush(timeout + 10)
    left = len(producer)
    if left:
        errors["_UNREPORTED"] += left
    return {"delivered": delivered, "failed": errors.total(), "errors": dict(errors)}
