"""What a recall found is kept for a while: in this process, or in a Redis that others share.

*Source*: PAIREC.md 3.6. Texts are PAI-Rec's: `id::score` with commas between, `id:score` from recalls that compute.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from pairec_fast.binding import Binding
from pairec_fast.cache import Cache, LocalCacheConf
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.query import Query
from pairec_fast.recall.found import Found, entries, rows_of
from pairec_fast.recall.kind import Live, stores_of

SECONDS = 1800  # PAI-Rec's


class Kept:
    """The cache of one recall. `colons`: between an id and its score."""

    def __init__(self, at: Binding, conf: Live, colons: str) -> None:
        """Raises ConfigError: an unknown CacheAdapter, or a CacheConfig it cannot use."""
        where = f"{conf.where}.CacheConfig"
        self._prefix, self._colons, self._ids = conf.cache_prefix, colons, at.snapshot.items.ids
        self._local: Cache[str] | None = None
        self._redis: Any = None
        if conf.cache_adapter == "localCache":
            life = LocalCacheConf.of(conf.cache_config, where).default_expiration
            self._seconds = conf.cache_time or life or SECONDS
            self._local = Cache(self._seconds)
        elif conf.cache_adapter == "redis":
            try:
                given = msgspec.json.decode(conf.cache_config or "{}", type=dict[str, Any])
            except msgspec.DecodeError as error:
                raise ConfigError(
                    f'{where}: expected JSON as {{"host": "127.0.0.1", "port": 6379}}: {error}'
                ) from error
            self._stores = stores_of(at, where)
            self._redis, self._seconds = self._stores.redis_at(given, where), conf.cache_time or SECONDS
        else:
            raise ConfigError(
                f'{conf.where}.CacheAdapter: unknown "{conf.cache_adapter}"; known are "localCache" and "redis"'
            )

    async def get(self, key: str) -> str | None:
        """The text that was kept; a cache that is down has none."""
        if self._local is not None:
            return self._local.get(key)
        try:
            found: str | None = await self._redis.get(self._prefix + key)
        except StoreError:  # counted by the store
            return None
        return found or None

    def put(self, query: Query, key: str, found: Found) -> None:
        """Keep what was found, if anything was. Of a Redis the answer is not waited for."""
        known = found.rows >= 0
        if not known.any():
            return
        ids, scores = query.ids(found.rows[known]), found.scores[known].tolist()
        text = ",".join(f"{id}{self._colons}{score!r}" for id, score in zip(ids, scores, strict=True))
        if self._local is not None:
            self._local.put(key, text)
        else:
            self._stores.run(self._redis.write([("SET", self._prefix + key, text, "EX", int(self._seconds))]))

    def found(self, query: Query, text: str) -> Found:
        """What a text that was kept says."""
        listed = entries(text)
        scores = np.where(np.isnan(listed.last), listed.first, listed.last)
        codes, labels = listed.labels() if self._colons == "::" else (None, [])
        return Found(rows_of(query, self._ids, listed), np.where(np.isnan(scores), 0.0, scores), codes, labels)
