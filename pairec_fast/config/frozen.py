"""What a running engine cannot take over from a new configuration: sockets, memory and logs that are open."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from msgspec.structs import fields

from pairec_fast.config.sinks import DataSource
from pairec_fast.errors import ConfigError

if TYPE_CHECKING:
    from pairec_fast.config import Config

_FIELDS = (("ListenConf", "listen_conf"), ("LimitConf", "limit_conf"), ("LogRingConf", "log_ring_conf"))
_FREE = {"budget_microseconds"}  # sizes nothing
_WHOLE = ("PrometheusConfig", "LogConf", "RunMode", "RedisConfs", "HologresConfs")
_SINKS = {"disk": "DiskConfs", "kafka": "KafkaConfs", "datahub": "DatahubConfs"}
_HOW = "restart the server, or set it back"


def frozen(
    running: Config, wanted: Config, opened: Collection[DataSource], used: Collection[DataSource]
) -> list[ConfigError]:
    """What of `wanted` differs from `running` and would take a restart; nothing of it may be taken over then.

    `opened` are the logs of `running`, `used` those that `wanted` needs.
    """
    found: list[str] = []
    for key, attribute in _FIELDS:
        before, after = getattr(running, attribute), getattr(wanted, attribute)
        for field in fields(before):
            old, new = getattr(before, field.name), getattr(after, field.name)
            if old != new and field.name not in _FREE:
                found.append(f"{key}.{field.encode_name}: cannot change from {old!r} to {new!r} while running; {_HOW}")
    for section in _WHOLE:
        if (running.raw.get(section) or {}) != (wanted.raw.get(section) or {}):
            found.append(f"{section}: cannot change while running; {_HOW}")
    for source in used:
        section = _SINKS[source.type]
        if source not in opened:
            found.append(f"{section}.{source.name}: this log is not open, and none is opened while running; {_HOW}")
        elif running.raw[section][source.name] != wanted.raw[section][source.name]:
            found.append(f"{section}.{source.name}: a log that is open cannot change; {_HOW}")
    return [ConfigError(message) for message in found]
