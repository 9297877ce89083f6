"""The producer anybody would write first: no ring, no spill. The controls of the sink's tests are made of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pairec_fast.core import expand
from tests.services.kafka import Kafka, quiet


class PlainLog:
    """Sends each row of a record as one message, from memory, with the headers that make repeats removable."""

    def __init__(self, broker: Kafka, topic: str, **settings: Any) -> None:
        from confluent_kafka import Producer

        self.topic, self.position, self.told = topic, 0, Counter[str]()
        chosen = {"linger_ms": 5, "reconnect_backoff_max_ms": 200} | settings
        self.producer = Producer(quiet(bootstrap_servers=broker.bootstrap, **chosen))

    def push(self, payload: bytes) -> bool:
        for place, row in enumerate(map(json.loads, expand(payload))):
            headers = {"ring_id": "plain", "position": str(self.position), "row": str(place)}
            self.producer.produce(
                self.topic, json.dumps(row).encode(), row["user_id"], headers=headers, on_delivery=self._tell
            )
        self.producer.poll(0)
        self.position += 1
        return True

    def flush(self, timeout: float) -> bool:
        return self.producer.flush(timeout) == 0

    def _tell(self, error: Any, message: Any) -> None:
        self.told["delivered" if error is None else error.name()] += 1
