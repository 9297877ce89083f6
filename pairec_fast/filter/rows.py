"""What a live store says of items: asked for many at once, in time or not at all, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.cache import Cache
from pairec_fast.core.columns import hashes, prefixed, rows_by_key
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression import Column
from pairec_fast.replies import Reader, Texts
from pairec_fast.replies import Rows as Named
from pairec_fast.sql import sql_name, sql_text

BATCH = 500  # ids in one statement, as PAI-Rec has it
SECONDS = 0.2  # for each statement
NAMES_MAX = 1000  # columns of what is asked for


class Known(NamedTuple):
    """columns: what the rows of n ids say, by name. unanswered: bool [n], ids of which no answer came."""

    columns: dict[str, Column]
    unanswered: NDArray[np.bool_]


class Rows:
    """A row for each id of a store. `cache` has rows, and the knowledge that there is none."""

    reader: Reader

    def __init__(self, cache: Cache[Any] | None, fields: Sequence[str] = ()) -> None:
        """Of `fields`, or all where there are none."""
        self._cache, self._fields = cache, list(fields)

    async def of(self, ids: Sequence[str]) -> Known:
        """What the table has for each of `ids` [n]; of an id whose statement failed or was late nothing is known."""
        asked = list(dict.fromkeys(ids))
        raws, places, missing = list[Any]([None] * len(asked)), list(range(len(asked))), asked
        if self._cache is not None:
            raws, places, missing = self._cache.get_many(asked)
        batches = range(0, len(missing), BATCH)
        answers = await asyncio.gather(*(self._ask(missing[at : at + BATCH]) for at in batches), return_exceptions=True)
        late = set[str]()
        for at, answer in zip(batches, answers, strict=True):
            batch = missing[at : at + BATCH]
            if isinstance(answer, StoreError):
                late.update(batch)
                answer = [None] * len(batch)
            elif isinstance(answer, BaseException):
                raise answer
            elif self._cache is not None:
                self._cache.fill(raws, places[at : at + BATCH], batch, answer)
                continue
            raws[places[at] : places[at] + len(batch)] = answer
        if len(asked) < len(ids):
            raws = list(map(dict(zip(asked, raws, strict=True)).get, ids))
        columns = self.reader.columns(raws, NAMES_MAX).columns
        if self._fields:
            columns = {name: column for name, column in columns.items() if name in self._fields}
        return Known(columns, np.fromiter(map(late.__contains__, ids), np.bool_, len(ids)))

    async def _ask(self, batch: list[str]) -> list[Any]:
        """What stands under each key, as `reader` reads it."""
        raise NotImplementedError


class SqlRows(Rows):
    """Columns `fields` of `table` by its column `key`, of rows that meet `clause`; the first and the last are SQL.

    Raises:
        ConfigError: no such store, a name that is none, or a statement that the server refuses.
    """

    def __init__(
        self, stores: Any, store: str, table: str, key: str, fields: str, clause: str, *, where: str,
        cache: Cache[Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cache)
        if stores is None:
            raise ConfigError(f"{where}: there are no live stores here")
        self._store, self.reader = stores.postgres(store), Named(null_deletes=True)
        name = sql_name(key, f"{where}: the key's name")
        columns = f"{name}::text, {sql_text(fields)}" if fields.strip() else f"{name}::text"
        self._select = f"SELECT {columns} FROM {sql_name(table, f'{where}.HologresTableName')} WHERE "
        if clause.strip():
            self._select += f"({sql_text(clause)}) AND "
        self._key = name
        stores.run(self._store.check(f"{self._select}{name} IS NULL LIMIT 0", (), where)).result()

    async def _ask(self, batch: list[str]) -> list[Any]:
        statement = f"{self._select}{self._key} IN ({', '.join(['%s'] * len(batch))})"
        names, rows = await self._store.table(statement, batch, SECONDS)
        return rows_by_key(batch, names[1:], rows)


class RedisRows(Rows):
    """What lies at prefix + id: a hash, of which `fields` are taken, or all; or a text, JSON or pairs `name:value` with
    `delimiter` between. *Source*: PAIREC 8.1, the item side.

    Raises:
        ConfigError: no such store.
    """

    def __init__(
        self, stores: Any, store: str, prefix: str, fields: Sequence[str], *, is_hash: bool, is_json: bool,
        delimiter: str, where: str, cache: Cache[Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cache, fields)
        if stores is None:
            raise ConfigError(f"{where}: there are no live stores here")
        self._store, self._prefix, self._hash = stores.redis(store), prefix, is_hash
        self.reader = Named() if is_hash else Texts(is_json=is_json, delimiter=delimiter)

    async def _ask(self, batch: list[str]) -> list[Any]:
        keys = prefixed(self._prefix, batch)
        if not self._hash:
            texts: list[Any] = await self._store.mget(keys)
            return texts
        if not self._fields:
            found: list[Any] = await self._store.read(zip(repeat("HGETALL"), keys))
            return found
        answers = await self._store.read(zip(repeat("HMGET"), keys, *map(repeat, self._fields)))
        return hashes(self._fields, answers)
