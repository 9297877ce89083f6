"""What a table of PostgreSQL says of items: asked for many at once, in time or not at all, and remembered."""

from __future__ import annotations

import asyncio
import datetime
import decimal
from collections.abc import Sequence
from typing import Any

from pairec_fast.cache import Cache
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.sql import sql_name, sql_text

BATCH = 500  # ids in one statement, as PAI-Rec has it
SECONDS = 0.2  # for each statement

Row = dict[str, Any]


class Rows:
    """Columns `fields` of `table` by its column `key`, of rows that meet `clause`; the last two are SQL.

    Raises:
        ConfigError: no such store, a name that is none, or a statement that the server refuses.
    """

    def __init__(
        self, stores: Any, store: str, table: str, key: str, fields: str, clause: str, *, where: str,
        cache: Cache[tuple[Row | None]] | None = None,
    ) -> None:  # fmt: skip
        if stores is None:
            raise ConfigError(f"{where}: there are no live stores here")
        self._store = stores.postgres(store)
        self._cache = cache  # of rows, and of the knowledge that there is none
        name = sql_name(key, f"{where}: the key's name")
        columns = f"{name}, {sql_text(fields)}" if fields.strip() else name
        self._select = f"SELECT {columns} FROM {sql_name(table, f'{where}.HologresTableName')} WHERE "
        if clause.strip():
            self._select += f"({sql_text(clause)}) AND "
        self._key = name
        stores.run(self._store.check(f"{self._select}{name} IS NULL LIMIT 0", (), where)).result()

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
        statement = f"{self._select}{self._key} IN ({', '.join(['%s'] * len(batch))})"
        names, rows = await self._store.table(statement, batch, SECONDS)
        return {
            str(row[0]): {
                name: plain(value) for name, value in zip(names[1:], row[1:], strict=True) if value is not None
            }
            for row in rows
        }


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
