from collections.abc import Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

from typing_extensions import Buffer

class KafkaLog:
    recovered: dict[str, Any]
    def __init__(
        self,
        directory: str | PathLike[str],
        ring_path: str | PathLike[str],
        *,
        servers: str,
        topic: str,
        library: Sequence[str | PathLike[str]] = ...,
        options: Mapping[str, str] | None = None,
        capacity: int = ...,
        slot: int = 0,
        sink: str = "kafka",
        rotate_bytes: int = ...,
        sync_seconds: float = 0.05,
        stall_seconds: float = 2.0,
        message_timeout_seconds: float = 30.0,
        unknown_topic_seconds: float = 60.0,
        adopt_seconds: float = 10.0,
    ) -> None: ...
    def __enter__(self) -> KafkaLog: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def push(self, record: Buffer) -> bool: ...
    def flush(self, timeout: float = 10.0) -> bool: ...
    def close(self, timeout: float = 10.0) -> bool: ...
    def counters(self) -> dict[str, Any]: ...
    def inject_fatal_error(self, code: int) -> None: ...
    @property
    def tail(self) -> int: ...
    @property
    def synced(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def ring_id(self) -> int: ...
    @property
    def record_bytes_max(self) -> int: ...
    @property
    def library(self) -> tuple[str, str]: ...
