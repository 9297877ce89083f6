"""The feature log: sample, encode, push. One callback is one record; `core.expand` makes rows of it when it is read.

An explicit callback is cut to `ItemSize`; an automatic one is also thinned to `ItemSizeRate`. Everything random is
drawn from a hash of the request id, so it can be repeated. *Source*: PAI-Rec, callback (PAIREC 9).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pairec_fast.config import Config, DatahubConf, DataSource, DebugConfig, DiskConf, FeatureLogConfig, KafkaConf
from pairec_fast.errors import ConfigError, PairecError, RequestError
from pairec_fast.sink import datahub, kafka
from pairec_fast.sink.disk import open_log, ring_directory
from pairec_fast.sink.spill import SINK as SPILLED
from pairec_fast.sink.topic import Target, require_client
from pairec_fast.sink.tuples import Column


class Record(msgspec.Struct, array_like=True):
    """What one callback leaves. `items` are the entries kept, each with its `item_id`, a text.

    For replaying what other rules would have shown: `positions` are the items' places in the list that was answered, or
    that the callback sent, from 0; an automatic callback's items have the `score` they were ordered by. `fingerprint`
    is the snapshot they come from, `experiment_id` what the answer said. Nothing here orders at random, so there is no
    propensity: an order that is drawn must add it, behind the last field.

    csrc/expand.cpp reads the fields by their places; what is added comes at the end, with a default.
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

REPEATED_BYTES_MAX = 1 << 28  # csrc/expand.hpp: every row repeats the ids, and a record with more has no rows


def encode(record: Record) -> bytes:
    """The bytes that go into the ring. Integers beyond 64 bits become doubles, as in Go.

    Raises:
        RequestError: nested too deep, a value that msgpack has not, or ids too long beside so many items: no reader
            could make rows of it.
    """
    check_ids(record.request_id, record.scene, record.uid, len(record.items))
    return packed(record)


def packed(value: Record | dict[str, Any]) -> bytes:
    """A record, or its features, as msgpack. Raises RequestError as `encode`."""
    try:
        try:
            return _encode(value)
        except OverflowError:
            return _encode(_in_64_bits(value))
    except RecursionError:
        raise RequestError("exceeded max depth") from None
    except OverflowError:
        raise RequestError("number out of range") from None
    except (TypeError, UnicodeEncodeError) as error:  # of a caller in this process; JSON has no such values
        raise RequestError(f"cannot be logged: {error}") from None


def check_ids(request_id: str, scene: str, uid: str, items: int) -> None:
    """Raises RequestError: too long beside so many items, whose rows repeat them."""
    # As JSON a character is 6 bytes at most; the 200 are the names of the columns.
    size = len(request_id) + len(scene) + len(uid)
    if (6 * size + 200) * (items + 1) > REPEATED_BYTES_MAX:
        raise RequestError(f"request_id, scene_id and uid of {size} characters are too long for {items} items")


def _in_64_bits(value: Any) -> Any:
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else float(value)
    if isinstance(value, dict):
        return {key: _in_64_bits(part) for key, part in value.items()}
    if isinstance(value, Record):
        parts = {name: _in_64_bits(getattr(value, name)) for name in ("features", "request_info", "items")}
        return msgspec.structs.replace(value, **parts)
    return [_in_64_bits(part) for part in value] if isinstance(value, list) else value


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


def without_empty(features: dict[str, Any]) -> dict[str, Any]:
    """The features a user takes over from a request: all but empty texts."""
    return {name: value for name, value in features.items() if value != ""}


def kept_of(count: int, size: int, rate: int, request_id: str) -> list[int]:
    """Which of `count` items an automatic callback keeps: the first `size` (0: all), thinned to `rate` percent."""
    return thinned(min(count, size or count), rate, request_id)


def item_features(properties: dict[str, Any], source: str, score: float) -> dict[str, Any]:
    """An item's features as PAI-Rec reads them: its properties, and which recall found it, where no property says so.

    *Source*: PAIREC 0.4.
    """
    return {source: score, "recall_name": source, "recall_score": score} | properties if source else properties


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


def sink_directories(config: Config, kind: str, name: str) -> tuple[Path, Path]:
    """Where the segments of a sink lie, those that wait for delivery too, and where its rings do."""
    confs: dict[str, Mapping[str, DiskConf | DatahubConf | KafkaConf]] = {
        "disk": config.disk_confs, "datahub": config.datahub_confs, "kafka": config.kafka_confs,
    }  # fmt: skip
    segments, ring = config.path(confs[kind][name].folder(name)), config.log_ring_conf.directory
    # All sinks share one configured folder, so each has its own in it: who opens a ring takes what was left in it.
    return segments, config.path(ring) / kind / name if ring else ring_directory(segments)


def _open_disk(config: Config, name: str) -> Sink:
    conf = config.log_ring_conf
    segments, rings = sink_directories(config, "disk", name)
    return open_log(
        segments, None if conf.durability == "memory" else rings, ring_bytes=conf.ring_bytes,
        segment_bytes=conf.segment_bytes, segment_seconds=conf.segment_seconds,
        sync_seconds=conf.sync_milliseconds / 1000, retain_bytes=conf.retention_bytes,
        retain_seconds=conf.retention_seconds, free_bytes_min=conf.free_bytes_min,
    )  # fmt: skip


def _open_datahub(config: Config, name: str) -> Sink:
    conf, ring = config.datahub_confs[name], config.log_ring_conf
    columns = tuple(Column(entry.field, entry.type) for entry in conf.schemas)
    target = Target(
        conf.access_id,
        conf.access_key,
        conf.endpoint,
        conf.project_name,
        conf.topic_name,
        conf.compressor_type,
        columns,
    )
    return datahub.open_log(
        *sink_directories(config, "datahub", name), target, ring_bytes=ring.ring_bytes,
        segment_bytes=ring.segment_bytes, segment_seconds=ring.segment_seconds,
        sync_seconds=ring.sync_milliseconds / 1000, free_bytes_min=ring.free_bytes_min,
    )  # fmt: skip


def _open_kafka(config: Config, name: str) -> Sink:
    conf, ring = config.kafka_confs[name], config.log_ring_conf
    spill, rings = sink_directories(config, "kafka", name)
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
    "datahub": _open_datahub,
    "kafka": _open_kafka,
}
_SEGMENTS = {"disk": "log", "datahub": SPILLED, "kafka": kafka.SPILL}  # the first word of their segments' names


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
        if conf.data_source.type == "datahub":
            require_client()
    told: list[FeatureLogConfig | DebugConfig] = [*config.feature_log_confs.values(), *config.debug_confs.values()]
    others = [source for conf in told if (source := source_of(conf)) is not None]
    if any(source.type == "datahub" for source in others):
        require_client()
    return list(dict.fromkeys([conf.data_source for conf in config.call_back_confs.values()] + others))


def source_of(conf: FeatureLogConfig | DebugConfig) -> DataSource | None:
    """The sink that the feature log or debug records of a scene go to; None if they go elsewhere, or nowhere."""
    names = {"disk": conf.disk_name, "kafka": conf.kafka_name, "datahub": conf.datahub_name}
    name = names.get(conf.output_type)
    return DataSource(name, conf.output_type) if name else None


def check_sinks(config: Config) -> None:
    """Refuse what would keep a log from being opened and needs no disk or network to be seen.

    Raises:
        ConfigError: a sink of a kind that is not available here, or settings that its library refuses.
        PairecError: librdkafka is needed and cannot be loaded.
    """
    for source in data_sources(config):
        if source.type == "kafka":
            conf = config.kafka_confs[source.name]
            try:
                kafka.check(conf.bootstrap_servers, conf.topic, conf.properties, conf.library)
            except ValueError as error:
                raise ConfigError(f"KafkaConfs.{source.name}: {error}") from None


def refused_sinks(config: Config) -> list[ConfigError]:
    """Why logs could not be opened, as `check_sinks`."""
    try:
        check_sinks(config)
    except ConfigError as error:
        return [error]
    except PairecError as error:
        return [ConfigError(str(error))]
    return []


def log_directories(config: Config) -> list[tuple[Path, Path, str]]:
    """Of each sink that a scene uses: where its segments and rings lie, and the first word of the segments' names.

    Raises:
        ConfigError: a sink of a kind that is not available here.
    """
    return [
        (*sink_directories(config, source.type, source.name), _SEGMENTS[source.type]) for source in data_sources(config)
    ]


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
