"""What a live store says of items: asked for many at once, in time or not at all, and remembered."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from pairec_fast.cache import Cache
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression.convert import to_float
from pairec_fast.sql import sql_name, sql_text

BATCH = 500  # ids in one statement, as PAI-Rec has it
SECONDS = 0.2  # for each statement

Row = dict[str, Any]


class Rows:
    """A row for each id of a store. `cache` has rows, and the knowledge that there is none."""

    def __init__(self, cache: Cache[tuple[Row | None]] | None) -> None:
        self._cache = cache

    async def of(self, ids: Sequence[str]) -> dict[str, Row | None]:
        """A row for each id, None where the table has none; an id whose statement failed or was late is left out."""
        found: dict[str, Row | None] = {}
        asked = []
        for id in dict.fromkeys(ids):
            known = self._cache.get(id) if self._cache is not None else None
            if known is None:
                asked.append(id)
            else:
                found[id] = known[0]
        batches = [asked[at : at + BATCH] for at in range(0, len(asked), BATCH)]
        answers = await asyncio.gather(*map(self._ask, batches), return_exceptions=True)
        for batch, answer in zip(batches, answers, strict=True):
            if isinstance(answer, StoreError):
                continue
            if isinstance(answer, BaseException):
                raise answer
            for id in batch:
                found[id] = answer.get(id)
                if self._cache is not None:
                    self._cache.put(id, (found[id],))
        return found

    async def _ask(self, batch: list[str]) -> dict[str, Row]:
        raise NotImplementedError


class SqlRows(Rows):
    """Columns `fields` of `table` by its column `key`, of rows that meet `clause`; the first and the last are SQL.

    Raises:
        ConfigError: no such store, a name that is none, or a statement that the server refuses.
    """

    def __init__(
        self, stores: Any, store: str, table: str, key: str, fields: str, clause: str, *, where: str,
        cache: Cache[tuple[Row | None]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cache)
        if stores is None:
            raise ConfigError(f"{where}: there are no live stores here")
        self._store = stores.postgres(store)
        name = sql_name(key, f"{where}: the key's name")
        columns = f"{name}, {sql_text(fields)}" if fields.strip() else name
        self._select = f"SELECT {columns} FROM {sql_name(table, f'{where}.HologresTableName')} WHERE "
        if clause.strip():
            self._select += f"({sql_text(clause)}) AND "
        self._key = name
        stores.run(self._store.check(f"{self._select}{name} IS NULL LIMIT 0", (), where)).result()

    async def _ask(self, batch: list[str]) -> dict[str, Row]:
        statement = f"{self._select}{self._key} IN ({', '.join(['%s'] * len(batch))})"
        names, rows = await self._store.table(statement, batch, SECONDS)
        return {
            str(row[0]): {
                name: plain(value) for name, value in zip(names[1:], row[1:], strict=True) if value is not None
            }
            for row in rows
            if row[0] is not None
        }


class RedisRows(Rows):
    """What lies at prefix + id: a hash, of which `fields` are taken, or all; or a text, JSON or pairs `name:value` with
    `delimiter` between. Numeric text of pairs becomes a number. *Source*: PAIREC 8.1, the item side.

    Raises:
        ConfigError: no such store.
    """

    def __init__(
        self, stores: Any, store: str, prefix: str, fields: Sequence[str], *, is_hash: bool, is_json: bool,
        delimiter: str, where: str, cache: Cache[tuple[Row | None]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cache)
        if stores is None:
            raise ConfigError(f"{where}: there are no live stores here")
        self._store, self._prefix, self._fields = stores.redis(store), prefix, list(fields)
        self._is_hash, self._is_json, self._delimiter = is_hash, is_json, delimiter or ","

    async def _ask(self, batch: list[str]) -> dict[str, Row]:
        keys = [self._prefix + id for id in batch]
        if self._is_hash and self._fields:
            answers = await self._store.read([("HMGET", key, *self._fields) for key in keys])
            rows = [
                {name: text for name, text in zip(self._fields, texts, strict=True) if text is not None}
                for texts in answers
            ]
        elif self._is_hash:
            rows = await self._store.read([("HGETALL", key) for key in keys])
        else:
            rows = [self._row(text) for text in await self._store.mget(keys)]
        return {id: row for id, row in zip(batch, rows, strict=True) if row}

    def _row(self, text: str | None) -> Row:
        if text is None:
            return {}
        if self._is_json:
            try:
                row = msgspec.json.decode(text)
            except msgspec.DecodeError:
                return {}
            found = row if isinstance(row, dict) else {}
        else:
            pairs = (pair.split(":") for pair in text.split(self._delimiter) if pair.count(":") == 1)
            found = {name: _numeric(value) for name, value in pairs}
        return {name: value for name, value in found.items() if not self._fields or name in self._fields}


def _numeric(text: str) -> Any:
    number = to_float(text, math.nan)
    return text if number != number else number


def plain(value: Any) -> Any:
    """A value of a row as PAI-Rec's properties have it."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, list):
        return [str(element) for element in value]
    return str(value)
