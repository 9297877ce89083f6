"""The stores a load reads: by key, some keys at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple, Protocol

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureDaoConf
from pairec_fast.core.columns import hashes, integers, prefixed, rows_by_key, texts
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.replies import Reader, Rows, Texts
from pairec_fast.sql import sql_name, sql_text

SQL_SECONDS = 0.1  # for each statement
SLACK_SECONDS = 0.05  # a load waits that much longer than a statement, so that what came in time is not lost
BATCH = 600  # ids in one statement
DEADLINE = 1.0  # of loads whose store has limits of its own: this one only ends what would never end


class Found(NamedTuple):
    """raws: what stands under each key [n], as its store has it; None: nothing.

    unsure: of a key, by its place, why what stands there is not known, or not all of it: no answer came, or one that
    cannot be read. It is not remembered.
    """

    raws: list[Any]
    unsure: dict[int, str]


class Source(Protocol):
    """Reads values by key.

    remembers_nothing: a cache may keep that a key has none. null_deletes: a value None is none; it takes the property
        of the user away.
    """

    timeout: float
    remembers_nothing: bool
    null_deletes: bool
    reader: Reader

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
        return Lmdb(at.stores.lmdb(conf.table_name), conf)
    if conf.adapter_type == "hologres":
        return Postgres(at.stores, conf, on_item, where)
    return None


def _texts(conf: FeatureDaoConf) -> Texts:
    return Texts(is_json=conf.redis_field_type == "json", delimiter=conf.redis_value_delimeter)


class Redis:
    """A text or a hash a key. `RedisDefaultKey`, without the prefix, is read for a user who has nothing."""

    remembers_nothing = null_deletes = False

    def __init__(self, client: Any, conf: FeatureDaoConf, on_item: bool) -> None:
        self.timeout = DEADLINE
        self._client, self._prefix = client, conf.redis_prefix
        fields = conf.item_select_fields if on_item else conf.user_select_fields
        self._fields = [] if fields.strip() in ("", "*") else [part.strip() for part in fields.split(",")]
        self._hash = conf.redis_data_type == "hash"
        self.reader: Reader = Rows() if self._hash else _texts(conf)
        self._default = "" if on_item else conf.redis_default_key

    async def get(self, keys: Sequence[str]) -> Found:
        names = prefixed(self._prefix, keys)
        if not self._default:
            return await self._under(names)
        raws, unsure = await self._under([*names, self._default])
        otherwise, why = raws.pop(), unsure.pop(len(keys), "")
        for at, key in enumerate(keys):  # of users, who have one
            if (raws[at] is None and at not in unsure) or not key:
                raws[at] = otherwise
                unsure |= {at: why} if why else {}
        return Found(raws, unsure)

    async def _under(self, names: list[str]) -> Found:
        if not self._hash:
            return Found(await self._client.mget(names), {})
        if not self._fields:
            answers = await self._client.read_each(list(zip(repeat("HGETALL"), names)))
        else:
            answers = await self._client.read_each(list(zip(repeat("HMGET"), names, *map(repeat, self._fields))))
        raws = hashes(self._fields, answers)
        if StoreError not in set(map(type, raws)):
            return Found(raws, {})
        unsure = {at: str(one) for at, one in enumerate(raws) if isinstance(one, StoreError)}
        return Found([None if at in unsure else one for at, one in enumerate(raws)], unsure)


class Lmdb:
    """A text a key, in a mapped file."""

    remembers_nothing = null_deletes = False

    def __init__(self, client: Any, conf: FeatureDaoConf) -> None:
        self.timeout = DEADLINE
        self._client, self._prefix = client, conf.redis_prefix
        self.reader: Reader = _texts(conf)

    async def get(self, keys: Sequence[str]) -> Found:
        return Found(texts(self._client.get_many(prefixed(self._prefix, keys))), {})


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

    def usable(self, keys: Sequence[str]) -> Sequence[str]:
        """Those that the column's type can hold: of a number's, one that is none would void the whole statement."""
        if not self._bits:
            return keys if "\0" not in "".join(keys) else [key for key in keys if "\0" not in key]
        top = 1 << (self._bits - 1)
        return integers(keys, -top, top - 1)


STARTING_SECONDS = 3.0


class Postgres:
    """A row a key; of several with one key, the later over the earlier. NULL is a value of its own: None."""

    null_deletes = True

    def __init__(self, stores: Any, conf: FeatureDaoConf, on_item: bool, where: str) -> None:
        """Raises ConfigError: no such store, table or column, or a statement that the server refuses."""
        self.timeout = SQL_SECONDS + SLACK_SECONDS
        self.remembers_nothing = on_item
        self.reader: Reader = Rows(null_deletes=True)
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
        batches = [list(usable[begin : begin + BATCH]) for begin in range(0, len(usable), BATCH)]
        answers = await asyncio.gather(*map(self._ask, batches), return_exceptions=True)
        raws, failed = list[Any](), dict[str, str]()
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, StoreError):
                failed |= dict.fromkeys(batch, str(answer))
                raws += [None] * len(batch)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                names, rows = answer
                raws += rows_by_key(batch, names[1:], rows)
        if len(usable) < len(keys):
            raws = list(map(dict(zip(usable, raws, strict=True)).get, keys))
        return Found(raws, {at: failed[key] for at, key in enumerate(keys) if key in failed} if failed else {})

    async def _ask(self, batch: list[str]) -> tuple[list[str], list[tuple[Any, ...]]]:
        statement = f"{self._select} = ANY(%s::{self._key.kind}[])"
        table: tuple[list[str], list[tuple[Any, ...]]] = await self._client.table(statement, [batch], SQL_SECONDS)
        return table
