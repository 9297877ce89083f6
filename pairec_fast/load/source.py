"""The stores a load reads: by key, some keys at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureDaoConf
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.load.values import Values, from_json, from_sql, item_csv, user_csv
from pairec_fast.sql import sql_name, sql_text

SQL_SECONDS = 0.1  # for each statement
SLACK_SECONDS = 0.05  # a load waits that much longer than a statement, so that what came in time is not lost
BATCH = 600  # ids in one statement
DEADLINE = 1.0  # of loads whose store has limits of its own: this one only ends what would never end


class Unsure(NamedTuple):
    """What stands under a key is not known, or not all of it: no answer came, or one that cannot be read. It is not
    remembered."""

    why: str
    values: Values | None = None


Found = list[Values | Unsure | None]  # for each key; None: nothing stands there


class Source(Protocol):
    """Reads values by key.

    remembers_nothing: a cache may keep that a key has none. null_deletes: a value None is none; it takes the property
        of the user away.
    """

    timeout: float
    remembers_nothing: bool
    null_deletes: bool

    async def get(self, keys: Sequence[str]) -> Found: ...


def source_of(conf: FeatureDaoConf, at: Binding, where: str) -> Source | None:
    """What the adapter names; None for `local`, whose columns need no reading, and for one that is not available here.

    Raises:
        ConfigError: a store or a field that is not there.
    """
    on_item = conf.feature_store == "item"
    if conf.adapter_type in ("redis", "lmdb", "hologres") and at.stores is None:
        raise ConfigError(f"{where}.AdapterType: {conf.adapter_type} needs live stores, and there are none here")
    if conf.adapter_type == "redis":
        return Redis(at.stores.redis(conf.redis_name), conf, on_item)
    if conf.adapter_type == "lmdb":
        if not conf.table_name:
            raise ConfigError(f"{where}.TableName is missing; of lmdb it is the environment's path")
        return Lmdb(at.stores.lmdb(conf.table_name), conf, on_item)
    if conf.adapter_type == "hologres":
        return Postgres(at.stores, conf, on_item, where)
    return None


class _Texts:
    """Reads the texts under keys."""

    def __init__(self, conf: FeatureDaoConf, on_item: bool) -> None:
        self._json, self._parse = conf.redis_field_type == "json", item_csv if on_item else user_csv
        self._delimiter, self._on_item = conf.redis_value_delimeter or ",", on_item

    def __call__(self, text: str | None) -> Values | Unsure | None:
        if text is None or (self._on_item and not text):
            return None
        if not self._json:
            return self._parse(text, self._delimiter)
        try:
            return from_json(text)
        except (ValueError, OverflowError) as error:
            return Unsure(str(error))


class Redis:
    """A text or a hash a key. `RedisDefaultKey`, without the prefix, is read for a user who has nothing."""

    remembers_nothing = null_deletes = False

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool) -> None:
        self.timeout = DEADLINE
        self._client, self._prefix, self._read = client, conf.redis_prefix, _Texts(conf, on_item)
        fields = conf.item_select_fields if on_item else conf.user_select_fields
        self._fields = [] if fields.strip() in ("", "*") else [part.strip() for part in fields.split(",")]
        self._hash = conf.redis_data_type == "hash"
        self._default = "" if on_item else conf.redis_default_key

    async def get(self, keys: Sequence[str]) -> Found:
        names = [self._prefix + key for key in keys]
        if not self._default:
            return await self._under(names)
        *found, otherwise = await self._under([*names, self._default])
        return [otherwise if one is None or not key else one for one, key in zip(found, keys, strict=True)]

    async def _under(self, names: list[str]) -> Found:
        if not self._hash:
            return [self._read(text) for text in await self._client.mget(names)]
        command = ("HMGET", *self._fields) if self._fields else ("HGETALL",)
        answers = await self._client.read_each([(command[0], name, *command[1:]) for name in names])
        return [self._row(answer) for answer in answers]

    def _row(self, answer: Any) -> Values | Unsure | None:
        if isinstance(answer, StoreError):
            return Unsure(str(answer))
        if self._fields:
            answer = {name: value for name, value in zip(self._fields, answer, strict=True) if value}
        return answer or None


class Lmdb:
    """A text a key, in a mapped file."""

    remembers_nothing = null_deletes = False

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool) -> None:
        self.timeout = DEADLINE
        self._client, self._prefix, self._read = client, conf.redis_prefix, _Texts(conf, on_item)

    async def get(self, keys: Sequence[str]) -> Found:
        found = self._client.get_many([self._prefix + key for key in keys])
        return [self._read(None if value is None else value.decode(errors="replace")) for value in found]


class Keyed:
    """A column of keys: how a statement compares it with texts, in its own type, so that its index serves."""

    def __init__(self, stores: Any, client: Any, table: str, key: str, where: str) -> None:
        """Raises ConfigError: the server knows no such table or column."""
        for name, value in (("HologresTableName", table), ("the key's column", key)):
            if not value:
                raise ConfigError(f"{where}: {name} is missing")
        self.table, self.name = (
            sql_name(table, f"{where}.HologresTableName"),
            sql_name(key, f"{where}: the key's column"),
        )
        asked = f"SELECT pg_typeof({self.name})::text FROM (SELECT NULL) AS one LEFT JOIN {self.table} ON false"
        try:
            ((kind,),) = stores.run(client.rows(asked, (), STARTING_SECONDS)).result()
        except StoreError as error:
            raise ConfigError(f"{where}: {error}") from error
        self._bits = {"smallint": 16, "integer": 32, "bigint": 64}.get(kind, 0)
        self.kind = "text" if kind in ("text", "character varying", "character") else kind

    def usable(self, keys: Sequence[str]) -> list[str]:
        """Those that the column's type can hold: of a number's, one that is none would void the whole statement."""
        if not self._bits:
            return [key for key in keys if "\0" not in key]
        top = 1 << (self._bits - 1)
        return [key for key in keys if _WHOLE.fullmatch(key) and -top <= int(key) < top]


_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")  # as the server writes them back
STARTING_SECONDS = 3.0


class Postgres:
    """A row a key; of several with one key, the later over the earlier. NULL is a value of its own: None."""

    null_deletes = True

    def __init__(self, stores: Any, conf: FeatureDaoConf, on_item: bool, where: str) -> None:
        """Raises ConfigError: no such store, table or column, or a statement that the server refuses."""
        self.timeout = SQL_SECONDS + SLACK_SECONDS
        self.remembers_nothing = on_item
        self._client = stores.postgres(conf.hologres_name)
        key = conf.item_feature_key_name if on_item else conf.user_feature_key_name
        self._key = Keyed(stores, self._client, conf.hologres_table_name, key, where)
        fields = conf.item_select_fields if on_item else conf.user_select_fields
        first, comma, rest = fields.partition(",")
        if on_item and comma and first.strip() == key:
            fields = rest  # PAI-Rec's key stands first, and is no property
        name = self._key.name
        self._select = f"SELECT {name}::text, {sql_text(fields.strip() or '*')} FROM {self._key.table} WHERE {name}"
        stores.run(self._client.check(f"{self._select} IS NULL LIMIT 0", (), where)).result()

    async def get(self, keys: Sequence[str]) -> Found:
        usable = self._key.usable(keys)
        batches = [usable[begin : begin + BATCH] for begin in range(0, len(usable), BATCH)]
        answers = await asyncio.gather(*map(self._ask, batches), return_exceptions=True)
        found: dict[str, Values | Unsure] = {}
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, StoreError):
                found |= dict.fromkeys(batch, Unsure(str(answer)))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found |= answer
        return [found.get(key) for key in keys]

    async def _ask(self, batch: list[str]) -> dict[str, Values]:
        statement = f"{self._select} = ANY(%s::{self._key.kind}[])"
        columns, rows = await self._client.table(statement, [batch], SQL_SECONDS)
        names, found = columns[1:], dict[str, dict[str, Any]]()
        for row in rows:
            found.setdefault(row[0], {}).update(zip(names, map(from_sql, row[1:]), strict=True))
        return dict(found)
