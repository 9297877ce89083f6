"""Apache Kafka itself: one process that is broker and controller (KRaft), on two loopback ports.

    python -m tests.services.kafka        starts one, prints its address, runs until Ctrl-C

The jars are those that `provide.sh` let Maven resolve from `pom.xml`, in `$PAIREC_SERVICES` or the cache folder.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairec_fast.learn.movielens import cache_directory
from tests.services.process import Missing, Service, lasting_port, program

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",  # not 50, each of which a killed broker checks when it starts again
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may register again when its session has run out: 9 s as shipped, which every test would wait.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "200",
    "initial.broker.registration.timeout.ms": "60000",
}
# Small and quick to start: one collector thread, and only the first compiler.
JAVA = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
PARTITIONS = 3


def jars() -> Path:
    """The folder of the jars that belong to `pom.xml` as it stands."""
    cache = Path(os.environ.get("PAIREC_SERVICES") or cache_directory() / "services")
    pom = Path(__file__).with_name("pom.xml").read_bytes()
    folder = cache / f"kafka-{hashlib.sha256(pom).hexdigest()[:12]}"
    if not folder.is_dir():
        raise Missing("Apache Kafka's jars are not in the cache folder")
    return folder


def quiet(**settings: Any) -> dict[str, Any]:
    """Settings of a client that does not print what it meets while a test keeps the broker down."""
    logger = logging.getLogger("tests.services.kafka.client")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return {name.replace("_", "."): value for name, value in settings.items()} | {"log_level": 0, "logger": logger}


@dataclass(frozen=True)
class Message:
    """One message as the broker holds it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


class Kafka(Service):
    """One broker. `settings` are added to its configuration; its data lie in `folder` and outlive its death."""

    name = "Kafka"

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder)
        try:
            import confluent_kafka  # noqa: F401
        except ImportError:
            raise Missing("the Python package confluent-kafka is not installed") from None
        self.java = program("java")
        self.jars = jars()
        self.port, controller = lasting_port(), lasting_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        addresses = {
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(folder / "data"),
        }
        chosen = {name.replace("_", "."): value for name, value in settings.items()}
        self.config = folder / "server.properties"
        self.config.write_text("".join(f"{name}={value}\n" for name, value in (SETTINGS | addresses | chosen).items()))
        self.java_flags = list(JAVA)
        self._format()
        self._share_classes()

    def _run(self, main: str, *arguments: str) -> list[str]:
        return [self.java, *self.java_flags, "-cp", f"{self.jars}/*", main, *arguments]

    def _share_classes(self) -> None:
        """Let Java map the broker's classes from an archive, made once beside the jars: half the work of a start."""
        version = subprocess.run([self.java, "-version"], capture_output=True, timeout=60).stderr
        archive = self.jars / f"classes-{hashlib.sha256(version).hexdigest()[:12]}.jsa"
        if not archive.is_file():
            fresh = archive.with_suffix(f".{os.getpid()}")
            self.java_flags.append(f"-XX:ArchiveClassesAtExit={fresh}")
            self.start()
            self.stop()
            self.java_flags.pop()
            fresh.replace(archive)
        self.java_flags.append(f"-XX:SharedArchiveFile={archive}")

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
        line = self._run("kafka.tools.StorageTool", "format", "-t", f"c{cluster[1:]}", "-c", str(self.config))
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        if "UnsupportedClassVersionError" in done.stderr:
            raise Missing("Apache Kafka 4 needs Java 17 or later")
        if done.returncode:
            raise RuntimeError(f"Kafka's storage tool ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def command(self) -> list[str]:
        return self._run("kafka.Kafka", str(self.config))

    def is_ready(self) -> bool:
        known = self.admin.list_topics(timeout=1)
        parts = [part for topic in known.topics.values() for part in topic.partitions.values()]
        return bool(known.brokers) and all(part.error is None and part.leader >= 0 for part in parts)

    @functools.cached_property
    def admin(self) -> Any:
        from confluent_kafka.admin import AdminClient

        patience = {"reconnect_backoff_ms": 20, "reconnect_backoff_max_ms": 100}
        return AdminClient(quiet(bootstrap_servers=self.bootstrap, **patience))

    def create(self, topic: str, partitions: int = PARTITIONS, **settings: str) -> str:
        """Make a topic; settings as `max_message_bytes="1000"`. Returns its name once its partitions have leaders."""
        from confluent_kafka.admin import NewTopic

        config = {name.replace("_", "."): value for name, value in settings.items()}
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]).values():
            future.result(30)
        while any(part.leader < 0 for part in self._partitions(topic).values()):
            time.sleep(0.01)
        return topic

    def _partitions(self, topic: str) -> dict[int, Any]:
        return self.admin.list_topics(topic, timeout=10).topics[topic].partitions

    def messages(self, topic: str, seconds: float = 60.0) -> list[Message]:
        """All that the topic holds now, by partition and offset; read by `assign`, which needs no group.

        Raises:
            RuntimeError: the ends of all partitions were not reached in `seconds`.
        """
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        settings = {"group_id": "reader", "enable_auto_commit": False, "auto_offset_reset": "error"}
        quick = {"fetch_wait_max_ms": 20, "fetch_error_backoff_ms": 20, "reconnect_backoff_max_ms": 100}
        consumer = Consumer(quiet(bootstrap_servers=self.bootstrap, enable_partition_eof=True, **settings, **quick))
        found: list[Message] = []
        parts = set(self._partitions(topic))
        deadline = time.monotonic() + seconds
        try:
            consumer.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in parts])
            while parts:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{topic}: the ends of partitions {parts} were not reached in {seconds} s")
                for message in consumer.consume(1000, 0.1):
                    if message.error() is None:
                        found.append(_copy(message))
                    elif message.error().name() == "_PARTITION_EOF":
                        parts.discard(message.partition())
                    elif not message.error().retriable():
                        raise RuntimeError(f"{topic}: {message.error()}")
        finally:
            consumer.close()
        return sorted(found, key=lambda message: (message.partition, message.offset))


def _copy(message: Any) -> Message:
    headers = dict(message.headers() or [])
    return Message(message.topic(), message.partition(), message.offset(), message.key(), message.value(), headers)


def main() -> int:
    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        with tempfile.TemporaryDirectory(prefix="kafka-") as folder, Kafka(Path(folder)) as broker:
            print(f"ready in {broker.start():.1f} s", file=sys.stderr)
            print(broker.bootstrap, flush=True)
            signal.pause()
    except Missing as reason:
        print(f"{reason}; `bash tests/services/provide.sh` installs it", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
