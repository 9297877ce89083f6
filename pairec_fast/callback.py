"""The feature log: sample, encode, push. One callback is one record; rows are written out when it is read.

An explicit callback is cut to `ItemSize`; an automatic one is also thinned to `ItemSizeRate`. Everything random is
drawn from a hash of the request id, so it can be repeated. *Source*: PAI-Rec, callback (PAIREC 9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pairec_fast.config import Config, DataSource
from pairec_fast.core.ring import is_gap_record
from pairec_fast.errors import ConfigError, RequestError
from pairec_fast.expression.convert import to_float
from pairec_fast.messages import go_json
from pairec_fast.sink import kafka
from pairec_fast.sink.disk import open_log, ring_directory

# Item properties that are columns of their own in the item record.
MODEL_TEXTS = ("raw_features", "generate_features", "context_features")


class Record(msgspec.Struct, array_like=True):
    """What one callback leaves. `items` are the entries kept, each with its `item_id`, a text.

    For replaying what other rules would have shown: `positions` are the items' places in the list that was answered, or
    that the callback sent, from 0; an automatic callback's items have the `score` they were ordered by. `fingerprint`
    is the snapshot they come from, `experiment_id` what the answer said. Nothing here orders at random, so there is no
    propensity: an order that is drawn must add it, behind the last field.
    """

    scene: str
    request_id: str
    request_time: int
    uid: str
    features: dict[str, Any]
    request_info: dict[str, Any]
    items: list[dict[str, Any]]
    experiment_id: str = ""
    fingerprint: str = ""
    positions: list[int] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def encode(record: Record) -> bytes:
    """The bytes that go into the ring. Integers beyond 64 bits become doubles, as in Go.

    Raises:
        RequestError: nested too deep.
    """
    try:
        return _encode(record)
    except RecursionError:
        raise RequestError("exceeded max depth") from None
    except OverflowError:
        parts = {name: _in_64_bits(getattr(record, name)) for name in ("features", "request_info", "items")}
        return _encode(msgspec.structs.replace(record, **parts))


def _in_64_bits(value: Any) -> Any:
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else float(value)
    if isinstance(value, dict):
        return {key: _in_64_bits(part) for key, part in value.items()}
    return [_in_64_bits(part) for part in value] if isinstance(value, list) else value


def with_texts(features: dict[str, Any]) -> dict[str, Any]:
    """Features of an explicit callback as PAI-Rec keeps them: what lists and flat objects hold is text.

    A list or object with a bool or null among its values stays as it is, as does a mixture of lists and scalars.
    *Source*: PAIREC 1.6. Not kept is how a double was written: `1.50` becomes `1.5`.

    Raises:
        RequestError: nested too deep.
    """
    try:
        return {name: _with_texts(value) for name, value in features.items()}
    except RecursionError:
        raise RequestError("exceeded max depth") from None


def _with_texts(value: Any) -> Any:
    if isinstance(value, list) and value:
        if all(isinstance(part, list) for part in value):
            lists = [_texts(part) for part in value]
            return value if None in lists else lists
        texts = _texts(value)
        return value if texts is None else texts
    if not isinstance(value, dict):
        return value
    parts = value.values()
    if any(isinstance(part, dict) for part in parts):
        return with_texts(value)
    if any(isinstance(part, list) for part in parts):
        lists = [_texts(part if isinstance(part, list) else [part]) for part in parts]
        return value if None in lists else dict(zip(value, lists, strict=True))
    texts = _texts(list(parts))
    return value if texts is None else dict(zip(value, texts, strict=True))


def _texts(values: list[Any]) -> list[str] | None:
    """Texts and numbers as texts; None if there is anything else."""
    if any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in values):
        return None
    return [value if isinstance(value, str) else go_json(value) for value in values]


def draw(request_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the request and the purpose alone."""
    digest = hashlib.blake2b(request_id.encode("utf-8", "replace"), digest_size=8, person=purpose.encode()).digest()
    return int.from_bytes(digest, "little") / 2.0**64


def invoked(request_id: str, rate: int) -> bool:
    """Whether an automatic callback runs: `rate` percent do; 0, and 100 or more, means all."""
    return not 0 < rate < 100 or draw(request_id, "invoke") * 100 < rate


def thinned(count: int, rate: int, request_id: str) -> list[int]:
    """Which of `count` items an automatic callback keeps: `rate` percent, at least one, evenly spaced.

    The target is rounded half up; the start is drawn from the request id. A rate outside 1 to 99 keeps all.
    """
    if count == 0 or not 0 < rate < 100:
        return list(range(count))
    target = max(1, (2 * count * rate + 100) // 200)
    step = count / target
    start = draw(request_id, "start") * step
    return [min(count - 1, int(start + place * step)) for place in range(target)]


def rows(payload: bytes) -> Iterator[dict[str, Any]]:
    """The records of one callback as PAI-Rec logs them: the user's, then one an item (PAIREC 9.4).

    Behind PAI-Rec's columns, where the record has them: of the user `experiment_id` and `fingerprint`, of each item its
    `position`. Of a gap, where the log refused some: one row, `module` "gap", with `dropped`, how many they were.

    Raises:
        msgspec.DecodeError: `payload` is no record.
    """
    if is_gap_record(payload):
        yield {"module": "gap", **msgspec.msgpack.decode(payload)}
        return
    record = _decode(payload)
    shared = {
        "request_id": record.request_id,
        "scene": record.scene,
        "request_time": record.request_time,
        "user_id": record.uid,
    }
    yield {
        **shared,
        "user_features": go_json(numeric_form({**without_empty(record.features), "uid": record.uid})),
        "request_info": go_json(record.request_info),
        "module": "user",
        **{name: text for name in ("experiment_id", "fingerprint") if (text := getattr(record, name))},
    }
    for place, item in enumerate(record.items):
        properties = {key: value for key, value in item.items() if key != "item_id"}
        texts = {name: _text(properties.pop(name, "")) for name in MODEL_TEXTS}
        yield {
            **shared,
            "module": "item",
            "item_id": item["item_id"],
            **texts,
            "item_features": go_json(properties),
            **({"position": record.positions[place]} if place < len(record.positions) else {}),
        }


def without_empty(features: dict[str, Any]) -> dict[str, Any]:
    """The features a user takes over from a request: all but empty texts."""
    return {name: value for name, value in features.items() if value != ""}


def numeric_form(properties: dict[str, Any]) -> dict[str, Any]:
    """User features as processors other than EasyRec see them: no `type`, and numeric text is a number (PAIREC 0.4)."""
    return {
        name: _number(value) if isinstance(value, str) else value
        for name, value in properties.items()
        if name != "type"
    }


_NONE = float("nan")


def _number(text: str) -> str | float:
    number = to_float(text, _NONE)
    return text if number is _NONE else number


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class Sink(Protocol):
    """A log that is open, whatever is at its far end.

    `try_push` is `push` for one who will ask again: that the log is full is not counted as a drop.
    Positions count bytes pushed. All before `synced` is on disk, or acknowledged; all before `delivered` has arrived.
    """

    @property
    def recovered(self) -> dict[str, Any]: ...
    @property
    def record_bytes_max(self) -> int: ...
    @property
    def tail(self) -> int: ...
    @property
    def synced(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    def push(self, record: bytes, /) -> bool: ...
    def try_push(self, record: bytes, /) -> bool: ...
    def flush(self, timeout: float = ...) -> bool: ...
    def close(self, timeout: float = ...) -> bool: ...
    def counters(self) -> dict[str, Any]: ...


def disk_directories(config: Config, name: str) -> tuple[Path, Path]:
    """Where the segments and the rings of a disk sink lie."""
    segments = config.path(config.disk_confs[name].directory)
    ring = config.log_ring_conf.directory
    # Several sinks may share one configured folder, so each gets its own in it.
    return segments, config.path(ring) / name if ring else ring_directory(segments)


def _open_disk(config: Config, name: str) -> Sink:
    conf = config.log_ring_conf
    segments, rings = disk_directories(config, name)
    return open_log(
        segments, None if conf.durability == "memory" else rings, ring_bytes=conf.ring_bytes,
        segment_bytes=conf.segment_bytes, segment_seconds=conf.segment_seconds,
        sync_seconds=conf.sync_milliseconds / 1000, retain_bytes=conf.retention_bytes,
        retain_seconds=conf.retention_seconds, free_bytes_min=conf.free_bytes_min,
    )  # fmt: skip


def kafka_directories(config: Config, name: str) -> tuple[Path, Path]:
    """Where the spill and the rings of a Kafka sink lie."""
    spill = config.path(config.kafka_confs[name].directory or f"spill/{name}")
    ring = config.log_ring_conf.directory
    return spill, config.path(ring) / name if ring else ring_directory(spill)


def _open_kafka(config: Config, name: str) -> Sink:
    conf, ring = config.kafka_confs[name], config.log_ring_conf
    spill, rings = kafka_directories(config, name)
    try:
        return kafka.open_log(
            spill, None if ring.durability == "memory" else rings, servers=conf.bootstrap_servers, topic=conf.topic,
            properties=conf.properties, library=conf.library, ring_bytes=ring.ring_bytes,
            sync_seconds=ring.sync_milliseconds / 1000,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"KafkaConfs.{name}: {error}") from None


# DataSource.Type -> what opens the sink of that name.
OPENERS: dict[str, Callable[[Config, str], Sink]] = {
    "disk": _open_disk,
    "kafka": _open_kafka,
}


def data_sources(config: Config) -> list[DataSource]:
    """The sinks that scenes use, each once.

    Raises:
        ConfigError: one of a kind that is not available here.
    """
    for scene, conf in config.call_back_confs.items():
        if conf.data_source.type not in OPENERS:
            kinds = ", ".join(f'"{kind}"' for kind in OPENERS)
            raise ConfigError(
                f'CallBackConfs.{scene}.DataSource.Type: "{conf.data_source.type}" is not available in this version; '
                f"use {kinds}"
            )
    return list(dict.fromkeys(conf.data_source for conf in config.call_back_confs.values()))


def log_directories(config: Config) -> list[tuple[Path, Path, str]]:
    """Of each sink that a scene uses and whose rings are files: where its segments and rings lie, and their first word.

    Raises:
        ConfigError: a sink of a kind that is not available here.
        PairecError: librdkafka is needed and cannot be loaded.
    """
    places = []
    for source in data_sources(config):
        if source.type == "disk":
            places.append((*disk_directories(config, source.name), "log"))
        elif source.type == "kafka":
            kafka.check_library(config.kafka_confs[source.name].library)
            places.append((*kafka_directories(config, source.name), kafka.SPILL))
    return places


def open_logs(config: Config) -> dict[DataSource, Sink]:
    """The log of each sink in use.

    Raises:
        ConfigError, PairecError, OSError: one cannot be opened; the others are closed again.
    """
    logs = dict[DataSource, Sink]()
    try:
        for source in data_sources(config):
            logs[source] = OPENERS[source.type](config, source.name)
    except BaseException:
        for log in logs.values():
            log.close()
        raise
    return logs
