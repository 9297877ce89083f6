"""What users have been shown, in a live store, in PAI-Rec's layouts. *Source*: PAIREC 5.6."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from pairec_fast.errors import ConfigError
from pairec_fast.filter.kind import Dao
from pairec_fast.sql import sql_name

ENTRIES = 100  # of a list in Redis, where MaxItems is not given
SQL_SECONDS = 0.1


class History(Protocol):
    """One entry a request: what of its items is compared later, under a user's key."""

    async def read(self, key: str) -> set[str]: ...

    async def write(self, key: str, shown: Sequence[str]) -> None: ...

    async def clear(self, key: str) -> None: ...


class Entry(msgspec.Struct):
    item_ids: list[str] = []
    timestamp: int = 0


class RedisHistory:
    """A list at prefix + key, the newest entry first: `{"item_ids":["a","b"],"timestamp":<unix s>}`.

    At most `entries` entries, and with `seconds` those younger; 0 is no limit of age.
    """

    def __init__(
        self, store: Any, prefix: str, entries: int, seconds: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._prefix, self._entries, self._seconds = store, prefix, entries or ENTRIES, seconds
        self._clock = clock

    async def read(self, key: str) -> set[str]:
        oldest = int(self._clock()) - self._seconds if self._seconds else None
        shown: set[str] = set()
        for text in await self._store.lrange(self._prefix + key, 0, self._entries - 1):
            try:
                entry = msgspec.json.decode(text, type=Entry)
            except msgspec.DecodeError:
                continue  # others write here too
            if oldest is None or entry.timestamp >= oldest:
                shown.update(entry.item_ids)
        return shown

    async def write(self, key: str, shown: Sequence[str]) -> None:
        key = self._prefix + key
        entry = go_json({"item_ids": list(shown), "timestamp": int(self._clock())})
        commands: list[tuple[str | int, ...]] = [("LPUSH", key, entry), ("LTRIM", key, 0, self._entries - 1)]
        if self._seconds:
            commands.append(("EXPIRE", key, self._seconds))
        await self._store.write(commands)

    async def clear(self, key: str) -> None:
        await self._store.write([("DEL", self._prefix + key)])


class SqlHistory:
    """Rows of a table: uid, item (with commas between), create_time (unix s).

    Raises:
        ConfigError: a name that is none.
    """

    def __init__(
        self, store: Any, table: str, entries: int, seconds: int, where: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._table, self._seconds, self._clock = store, sql_name(table, where), seconds, clock
        self._select = f"SELECT item FROM {self._table} WHERE uid = %s AND create_time >= %s ORDER BY create_time DESC"
        if entries:
            self._select += f" LIMIT {entries}"

    @property
    def check(self) -> str:
        """A statement that fails where the table is not as it must be."""
        return f"SELECT uid, item, create_time FROM {self._table} LIMIT 0"

    async def read(self, key: str) -> set[str]:
        oldest = int(self._clock()) - self._seconds if self._seconds else 0
        rows = await self._store.rows(self._select, (key, oldest), SQL_SECONDS)
        return {item for (items,) in rows if items is not None for item in str(items).split(",")}

    async def write(self, key: str, shown: Sequence[str]) -> None:
        await self._store.execute(
            f"INSERT INTO {self._table} (uid, item, create_time) VALUES (%s, %s, %s)",
            (key, ",".join(shown), int(self._clock())), 1.0,
        )  # fmt: skip

    async def clear(self, key: str) -> None:
        await self._store.execute(f"DELETE FROM {self._table} WHERE uid = %s", (key,), 1.0)


def history_of(dao: Dao, entries: int, seconds: int, stores: Any, where: str) -> History:
    """The history that a DaoConf names.

    Raises:
        ConfigError: another adapter, no such store, or a table that is not as it must be.
    """
    if dao.adapter_type not in ("redis", "hologres"):
        raise ConfigError(
            f'{where}.AdapterType: "{dao.adapter_type}" is not available in this version; '
            'use "redis" or "hologres", or "local" for what the snapshot knows'
        )
    if stores is None:
        raise ConfigError(f"{where}: there are no live stores here")
    if dao.adapter_type == "redis":
        return RedisHistory(stores.redis(dao.redis_name), dao.redis_prefix, entries, seconds)
    store = stores.postgres(dao.hologres_name)
    history = SqlHistory(store, dao.hologres_table_name, entries, seconds, f"{where}.HologresTableName")
    stores.run(store.check(history.check, (), where)).result()
    return history


def go_json(value: Any) -> str:
    """JSON as Go writes it: no blanks, and what a web page could trip over escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
