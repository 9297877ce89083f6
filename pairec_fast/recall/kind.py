"""What recalls have in common: PAI-Rec's DaoConfig, and the keys that every live one has."""

from __future__ import annotations

from typing import Any

import msgspec

from pairec_fast.binding import Binding
from pairec_fast.errors import ConfigError

ADAPTERS = ("local", "lmdb", "redis", "hologres")
STEP_SECONDS = 0.1  # what PAI-Rec gives a query of SQL
REDIS_SECONDS = 0.25  # its limits of connecting and reading, with room for both


class Dao(msgspec.Struct, frozen=True, rename="pascal"):
    """Where lists lie. `adapter_type` "local": tables of the snapshot, by `table_name`. "lmdb", ours: `table_name` is
    the path of an environment. "redis" and "hologres", which is any PostgreSQL, as in PAI-Rec.
    """

    adapter_type: str
    table_name: str = ""
    redis_name: str = ""
    redis_prefix: str = ""
    hologres_name: str = ""
    hologres_table_name: str = ""
    item_id_field: str = ""
    item_score_field: str = ""

    def checked(self, where: str, known: tuple[str, ...] = ADAPTERS) -> str:
        """The adapter. Raises ConfigError: one that nothing here serves, or not for this recall."""
        if self.adapter_type not in known:
            others = ", ".join(f'"{adapter}"' for adapter in known)
            raise ConfigError(f'{where}.AdapterType: "{self.adapter_type}" is not available here; known are {others}')
        return self.adapter_type


class UserItemDao(Dao, frozen=True, rename="pascal"):
    """Tables from users to items, and from items to items."""

    user2_item_table: str = msgspec.field(name="User2ItemTable", default="")
    item2_item_table: str = msgspec.field(name="Item2ItemTable", default="")
    item2_x_table: str = msgspec.field(name="Item2XTable", default="")
    x2_item_table: str = msgspec.field(name="X2ItemTable", default="")
    x_key: str = ""
    x_delimiter: str = ""
    normalization: str = ""


class TopicDao(Dao, frozen=True, rename="pascal"):
    """Tables from users to topics, and from topics to items."""

    user_topic_table: str = ""
    topic_item_table: str = ""


class Live(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """A recall that may ask a live store.

    Cache*: what it found is kept for `cache_time` seconds, in this process ("localCache") or in a Redis ("redis"); not
    with tables of the snapshot, which answer sooner than any cache. `timeout_milliseconds`, ours: what comes later is
    left out; 0 takes PAI-Rec's limits of the store's queries, added up.
    """

    name: str
    recall_count: int = 200
    cache_adapter: str = ""
    cache_config: str = ""
    cache_prefix: str = ""
    cache_time: int = 0
    timeout_milliseconds: int = 0

    @property
    def dao(self) -> Dao:
        """The DaoConfig of this kind."""
        raise NotImplementedError

    @property
    def brings_guests(self) -> bool:
        return self.dao.adapter_type != "local"

    @property
    def where(self) -> str:
        """Where errors say it is."""
        return f"RecallConfs.{self.name}"

    def checked(self) -> int:
        """`recall_count`. Raises ConfigError: it is not positive, or the timeout is negative."""
        if self.timeout_milliseconds < 0:
            raise ConfigError(
                f"{self.where}.TimeoutMilliseconds: must not be negative, got {self.timeout_milliseconds}"
            )
        return positive(self.recall_count, self.where)

    def seconds(self, steps: int = 1) -> float:
        """How long a fetch of so many queries, one after the other, may take."""
        if self.timeout_milliseconds:
            return self.timeout_milliseconds / 1000
        return steps * (REDIS_SECONDS if self.dao.adapter_type == "redis" else STEP_SECONDS)


def positive(count: int, where: str) -> int:
    """`count`. Raises ConfigError when it is not positive."""
    if count <= 0:
        raise ConfigError(f"{where}.RecallCount must be positive, got {count}")
    return count


def stores_of(at: Binding, where: str) -> Any:
    """The live stores. Raises ConfigError: there are none here."""
    if at.stores is None:
        raise ConfigError(f"{where}: needs a live store, and none can be reached from here")
    return at.stores
