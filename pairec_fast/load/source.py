"""The stores a load reads: by key, some keys at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureDaoConf
from pairec_fast.errors import ConfigError
from pairec_fast.load.values import Values, from_json, item_csv, user_csv
from pairec_fast.store import composer, identifier

SQL_SECONDS = 0.1
BATCH = 600  # ids in one statement

Found = list[Values | None]  # for each key; None: nothing stands there


class Source(Protocol):
    timeout: float

    async def get(self, keys: Sequence[str]) -> Found: ...


def source_of(conf: FeatureDaoConf, at: Binding, where: str) -> Source | None:
    """What the adapter names; None for `local`, whose columns need no reading, and for one that PAI-Rec lacks too.

    Raises:
        ConfigError: a store or a field that is not there.
    """
    on_item = conf.feature_store == "item"
    if conf.adapter_type in ("redis", "lmdb", "hologres") and at.stores is None:
        raise ConfigError(f"{where}.AdapterType: {conf.adapter_type} needs live stores, and there are none here")
    if conf.adapter_type == "redis":
        return _Redis(at.stores.redis(conf.redis_name), conf, on_item)
    if conf.adapter_type == "lmdb":
        return _Lmdb(at.stores.lmdb(conf.table_name), conf, on_item)
    if conf.adapter_type == "hologres":
        return _Postgres(at.stores.postgres(conf.hologres_name), conf, on_item, where)
    return None


def _decoder(conf: FeatureDaoConf, on_item: bool) -> Callable[[Any], Values]:
    if conf.redis_field_type == "json":
        return from_json
    parse, delimiter = item_csv if on_item else user_csv, conf.redis_value_delimeter or ","
    return lambda text: parse(text if isinstance(text, str) else text.decode(), delimiter)


class _Redis:
    """A text or a hash a key."""

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool) -> None:
        self.timeout = 1.0  # the client has its own, of its configuration
        self._client, self._prefix = client, conf.redis_prefix
        self._decode = _decoder(conf, on_item)
        fields = conf.item_select_fields if on_item else conf.user_select_fields
        self._fields = [field.strip() for field in fields.split(",") if field.strip() not in ("", "*")]
        self._hash = conf.redis_data_type == "hash"

    async def get(self, keys: Sequence[str]) -> Found:
        names = [self._prefix + key for key in keys]
        if not self._hash:
            texts = await self._client.mget(names)
            return [None if text is None else self._decode(text) for text in texts]
        if not self._fields:
            return list(await self._client.read([("HGETALL", name) for name in names]))
        rows = await self._client.read([("HMGET", name, *self._fields) for name in names])
        return [{name: value for name, value in zip(self._fields, row, strict=True) if value} for row in rows]


class _Lmdb:
    """A text a key, in a mapped file."""

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool) -> None:
        self.timeout = 1.0
        self._client, self._prefix, self._decode = client, conf.redis_prefix, _decoder(conf, on_item)

    async def get(self, keys: Sequence[str]) -> Found:
        found = self._client.get_many([self._prefix + key for key in keys])
        return [None if value is None else self._decode(value) for value in found]


class _Postgres:
    """A row a key. NULL is a value of its own: None."""

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool, where: str) -> None:
        sql = composer()
        self.timeout = SQL_SECONDS
        key = conf.item_feature_key_name if on_item else conf.user_feature_key_name
        fields = conf.item_select_fields if on_item else conf.user_select_fields
        for name, value in (("HologresTableName", conf.hologres_table_name), ("the key's column", key)):
            if not value:
                raise ConfigError(f"{where}: {name} is missing")
        names = [field.strip() for field in fields.split(",") if field.strip()]
        columns = [identifier(name, f"{where}.SelectFields") for name in names if name != "*"]
        chosen = sql.SQL("*") if "*" in names or not names else sql.SQL(", ").join(columns)
        key_column = identifier(key, f"{where}: the key's column")
        self._client = client
        self._statement = sql.SQL("SELECT {key}::text, {chosen} FROM {table} WHERE {key}::text = ANY(%s)").format(
            key=key_column, chosen=chosen, table=identifier(conf.hologres_table_name, f"{where}.HologresTableName")
        )

    async def get(self, keys: Sequence[str]) -> Found:
        found: dict[str, Values] = {}
        for begin in range(0, len(keys), BATCH):
            part = list(keys[begin : begin + BATCH])
            columns, rows = await self._client.table(self._statement, [part], self.timeout)
            for row in rows:
                found.setdefault(row[0], dict(zip(columns[1:], row[1:], strict=True)))
        return [found.get(key) for key in keys]
