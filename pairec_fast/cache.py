"""A cache in this process, of a bounded size, whose entries are forgotten after a time.

*Source*: PAI-Rec, `CacheAdapter` "localCache" with `CacheConfig` {"defaultExpiration": s, "cleanupInterval": s}.
"""

from __future__ import annotations

import msgspec

from pairec_fast.core.cache import Cache
from pairec_fast.errors import ConfigError

__all__ = ["Cache", "LocalCacheConf"]


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
