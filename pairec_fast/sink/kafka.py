"""Records to a Kafka topic: rings that outlive the process, one a worker, and a spill while brokers are away."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from pairec_fast.core.kafka import KafkaLog, load_library
from pairec_fast.sink.disk import on_free_ring

SINK = "kafka"  # the spill's segments are `kafka_spill-…`, dead letters `kafka_dead-…`
SPILL = f"{SINK}_spill"
RING_BYTES_MIN = 1 << 16  # csrc/ring.hpp


def libraries(path: str | Path = "") -> list[str]:
    """Where librdkafka may be: at `path`; without one in the system, then in the confluent-kafka wheel.

    The wheel is not imported: only the library in it is used.
    """
    if path:
        return [str(path)]
    found = ["librdkafka.so.1"]
    spec = find_spec("confluent_kafka")
    for package in (spec.submodule_search_locations or []) if spec else []:
        found += sorted(map(str, Path(package).parent.glob("confluent_kafka.libs/librdkafka*.so*")))
    return found


def check_library(path: str | Path = "") -> tuple[str, str]:
    """Load librdkafka. Returns its path and version.

    Raises:
        PairecError: none can be loaded; the message says how to install one, and what is wrong with each.
    """
    return load_library(libraries(path))


def check(servers: str, topic: str, properties: Mapping[str, str], library: str | Path = "") -> None:
    """Make a producer and end it, unconnected: what `open_log` would refuse is refused now.

    Raises:
        PairecError: librdkafka cannot be loaded.
        ValueError: servers, topic or a property; the message names it.
    """
    check_library(library)
    with tempfile.TemporaryDirectory() as folder:
        KafkaLog(
            folder, None, servers=servers, topic=topic, options=properties, library=libraries(library),
            capacity=RING_BYTES_MIN,
        ).close(0)  # fmt: skip


def open_log(
    directory: Path,
    rings: Path | None,
    *,
    servers: str,
    topic: str,
    properties: Mapping[str, str],
    library: str | Path = "",
    ring_bytes: int,
    sync_seconds: float,
) -> KafkaLog:
    """A log on the first ring that no living worker owns; what its last owner left is sent before anything else.

    Spill and dead letters lie in `directory`. Without `rings` the ring is in memory, and what was neither acknowledged
    nor spilled dies with the worker.

    Raises:
        PairecError: no ring is free; librdkafka cannot be loaded.
        ValueError: servers, topic or a property; the message names it.
        OSError: a file or directory cannot be made.
    """
    check_library(library)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def log(ring: Path | None, slot: int) -> KafkaLog:
        return KafkaLog(
            directory, ring, servers=servers, topic=topic, options=properties, library=libraries(library),
            capacity=ring_bytes, slot=slot, sink=SINK, sync_seconds=sync_seconds,
        )  # fmt: skip

    return log(None, 0) if rings is None else on_free_ring(rings, log)
