"""A recommendation service in one process: recall, filter, score and rerank over preallocated columns."""

from pairec_fast.errors import ConfigError, NotReadyError, PairecError, RequestError, SnapshotError

__all__ = ["ConfigError", "NotReadyError", "PairecError", "RequestError", "SnapshotError"]
