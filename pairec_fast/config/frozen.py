"""What a running engine cannot take over from a new configuration: sockets, memory and logs that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import fields

from pairec_fast.errors import ConfigError

if TYPE_CHECKING:
    from pairec_fast.config import Config

_SINKS = {"disk": ("DiskConfs", "disk_confs"), "kafka": ("KafkaConfs", "kafka_confs")}
_SINKS["datahub"] = ("DatahubConfs", "datahub_confs")
_WHOLE = (("ListenConf", "listen_conf"), ("LimitConf", "limit_conf"), ("LogRingConf", "log_ring_conf"))
_HOW = "restart the server, or set it back"


def frozen(running: Config, wanted: Config) -> list[ConfigError]:
    """What of `wanted` differs from `running` and would take a restart; nothing of it may be taken over then."""
    found: list[str] = []
    for key, attribute in (
        ("ListenConf", "listen_conf"),
        ("LimitConf", "limit_conf"),
        ("LogRingConf", "log_ring_conf"),
    ):
        before, after = getattr(running, attribute), getattr(wanted, attribute)
        for field in fields(before):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new:
                found.append(f"{key}.{field.encode_name}: cannot change from {old!r} to {new!r} while running; {_HOW}")
    old, new = running.prometheus_config.subsystem, wanted.prometheus_config.subsystem
    if old != new:
        found.append(f"PrometheusConfig.Subsystem: cannot change from {old!r} to {new!r} while running; {_HOW}")
    for section in ("RedisConfs", "HologresConfs"):
        if (running.raw.get(section) or {}) != (wanted.raw.get(section) or {}):
            found.append(f"{section}: cannot change while running; {_HOW}")
    opened = {(conf.data_source.type, conf.data_source.name) for conf in running.call_back_confs.values()}
    for scene, conf in wanted.call_back_confs.items():
        source = conf.data_source.type, conf.data_source.name
        section, attribute = _SINKS[source[0]]
        if source not in opened:
            found.append(f"CallBackConfs.{scene}.DataSource: the log {section}.{source[1]} is not open; {_HOW}")
        elif _sink(running, attribute, source[1]) != _sink(wanted, attribute, source[1]):
            found.append(f"{section}.{source[1]}: a log that is open cannot change; {_HOW}")
    return [ConfigError(message) for message in dict.fromkeys(found)]


def _sink(config: Config, attribute: str, name: str) -> Any:
    return getattr(config, attribute)[name]
