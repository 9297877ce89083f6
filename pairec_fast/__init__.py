"""A recommendation service in one process: recall, filter, score and rerank over preallocated columns."""

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
