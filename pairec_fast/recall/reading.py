"""Texts by key, from whichever live store holds them."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from pairec_fast.binding import Binding
from pairec_fast.errors import ConfigError
from pairec_fast.recall.kind import Dao, stores_of

QUERY_SECONDS = 60.0  # a recall's own limit is over all of its queries


class Read(Protocol):
    """A text or None for each key."""

    def __call__(self, keys: Sequence[str]) -> Coroutine[Any, Any, list[str | None]]: ...


def reader(
    at: Binding, dao: Dao, where: str, *, table: str = "", key: str, value: str, prefixed: bool = True
) -> Read:  # fmt: skip
    """Reads what a DaoConfig names: Redis keys behind `RedisPrefix`, if `prefixed`, keys of an LMDB database, or in SQL
    the column `value` of `table`, else of `HologresTableName`, by the column `key`.

    Raises:
        ConfigError: no such store, table or column, or the store does not answer.
    """
    adapter = dao.checked(where, ("lmdb", "redis", "hologres"))
    stores = stores_of(at, where)
    if adapter == "redis":
        return _redis(stores.redis(dao.redis_name, f"{where}.RedisName"), dao.redis_prefix if prefixed else "")
    if adapter == "lmdb":
        return _lmdb(stores.lmdb(dao.table_name))
    name = table or dao.hologres_table_name
    if not name:
        raise ConfigError(f"{where}.HologresTableName: missing; it names the table")
    return columns(stores.postgres(dao.hologres_name, f"{where}.HologresName"), stores, name, key, value, where)


def _redis(client: Any, prefix: str) -> Read:
    async def read(keys: Sequence[str]) -> list[str | None]:
        found: list[str | None] = await client.mget([prefix + key for key in keys])
        return found

    return read


def _lmdb(database: Any) -> Read:
    async def read(keys: Sequence[str]) -> list[str | None]:
        found = database.get_many(keys)
        return [None if value is None else value.decode(errors="replace") for value in found]

    return read


def columns(client: Any, stores: Any, table: str, key: str, value: str, where: str) -> Read:
    """Reads a column of texts by another. Raises ConfigError: no such table or columns."""
    names = [client.identifier(name, where) for name in (value, table, key)]
    stores.run(client.check(client.compose("select {0}, {2} from {1} limit 0", *names), (), where)).result()

    async def read(keys: Sequence[str]) -> list[str | None]:
        # As many places as the next power of two: so that few statements differ, and the server plans each once.
        width = 1 << max(0, len(keys) - 1).bit_length()
        places = ", ".join(["%s"] * width)
        statement = client.compose(f"select {{2}}, {{0}} from {{1}} where {{2}} in ({places})", *names)
        rows = await client.rows(statement, [*keys, *[keys[-1]] * (width - len(keys))], QUERY_SECONDS)
        by_key: dict[str, str | None] = {}
        for found, text in rows:
            by_key.setdefault(str(found), text_of(text))
        return [by_key.get(key) for key in keys]

    return read


def text_of(value: Any) -> str | None:
    """A column's value as the text of a list: lists of the server have commas between their elements."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(text for part in value if (text := text_of(part)))
    return str(value)
