"""A cache in this process, of a bounded size, whose entries are forgotten after a time.

*Source*: PAI-Rec, `CacheAdapter` "localCache" with `CacheConfig` {"defaultExpiration": s, "cleanupInterval": s}.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from pairec_fast.errors import ConfigError

T = TypeVar("T")

ENTRIES_MAX = 100_000


class LocalCacheConf(msgspec.Struct, frozen=True, rename="camel"):
    """`default_expiration`: seconds; 0 or less: for ever. `cleanup_interval` is PAI-Rec's; here the size is bounded."""

    default_expiration: int = 0
    cleanup_interval: int = 0

    @classmethod
    def of(cls, text: str, where: str) -> LocalCacheConf:
        """The configuration in a JSON text; an empty one is 1800 s. Raises ConfigError: no such JSON."""
        try:
            return msgspec.json.decode(text, type=cls) if text.strip() else cls(1800, 1800)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f'{where}: expected JSON as {{"defaultExpiration": 1800, "cleanupInterval": 1800}}: {error}'
            ) from error


class Cache(Generic[T]):
    """Values by key. `seconds`: how long one is kept from when it was put; 0 or less: until it is pushed out.

    The oldest are pushed out when `entries_max` are there. Any number of threads may use it.
    """

    def __init__(
        self, seconds: float, entries_max: int = ENTRIES_MAX, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if entries_max <= 0:
            raise ValueError(f"entries_max must be positive, got {entries_max}")
        self.seconds, self.entries_max, self._clock = seconds, entries_max, clock
        self._entries: dict[str, tuple[float, T]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> T | None:
        """The value, None if there is none any more."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        until, value = entry
        if self._clock() < until:
            return value
        with self._lock:
            if self._entries.get(key) is entry:  # nobody has put another meanwhile
                del self._entries[key]
        return None

    def put(self, key: str, value: T, seconds: float | None = None) -> None:
        """Keep `value` for `seconds`, else for as long as the cache keeps any."""
        life = self.seconds if seconds is None else seconds
        until = self._clock() + life if life > 0 else float("inf")
        with self._lock:
            self._entries.pop(key, None)  # so that it comes to stand as the newest
            while len(self._entries) >= self.entries_max:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = (until, value)
