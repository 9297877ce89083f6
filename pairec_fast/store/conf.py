"""How live stores are reached: entries of RedisConfs and HologresConfs.

*Source*: PAIREC.md 2.10. A `repr` never shows a password: configurations end up in logs.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta, Struct, field

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]


class RedisConf(Struct, frozen=True, rename="pascal"):
    """One Redis. Timeouts are milliseconds; `max_idle` is how many connections are kept, 0: 16."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 6379
    password: str = ""
    db_num: Count = 0
    max_idle: Count = 0
    connect_timeout: Count = 50
    read_timeout: Count = 100
    write_timeout: Count = 100

    zero_is_default: ClassVar[tuple[str, ...]] = ("host", "port", "connect_timeout", "read_timeout", "write_timeout")

    def __repr__(self) -> str:
        """Without the password."""
        return f"RedisConf({self.host!r}, {self.port}, db_num={self.db_num})"


class HologresConf(Struct, frozen=True, rename="pascal"):
    """One PostgreSQL, or whatever speaks its protocol. `pool_size`, ours: connections at most."""

    dsn: Annotated[str, Meta(min_length=1)] = field(name="DSN")
    pool_size: Positive = 16

    def __repr__(self) -> str:
        """Without the connection text, which holds the password."""
        return f"HologresConf(pool_size={self.pool_size})"
