"""A recommendation service in one process: recall, filter, score and rerank over preallocated columns.

Names are imported when first asked for, so that `pairec_fast.latency`, a plugin of every pytest, loads no engine.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pairec_fast import items
    from pairec_fast.config import Config
    from pairec_fast.engine import Engine
    from pairec_fast.errors import (
        ConfigError,
        NotReadyError,
        OverloadedError,
        PairecError,
        RequestError,
        SnapshotError,
    )
    from pairec_fast.snapshot import Snapshot

__all__ = [
    "Config",
    "ConfigError",
    "Engine",
    "NotReadyError",
    "OverloadedError",
    "PairecError",
    "RequestError",
    "Snapshot",
    "SnapshotError",
    "items",
]

_PLACES = {
    "Config": "config",
    "Engine": "engine",
    "Snapshot": "snapshot",
    "ConfigError": "errors",
    "NotReadyError": "errors",
    "OverloadedError": "errors",
    "PairecError": "errors",
    "RequestError": "errors",
    "SnapshotError": "errors",
}


def __getattr__(name: str) -> object:
    if name == "items":
        return import_module("pairec_fast.items")
    if name not in _PLACES:
        raise AttributeError(f"module 'pairec_fast' has no attribute {name!r}")
    value = getattr(import_module(f"pairec_fast.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
