"""Vectors and weights of live stores."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from itertools import compress, repeat
from operator import and_, is_not
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.cache import Cache
from pairec_fast.core.columns import prefixed, read_vectors
from pairec_fast.errors import ConfigError, NotReadyError, StoreError
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot
from pairec_fast.sql import sql_name

log = logging.getLogger("pairec_fast")

ASK_SECONDS = 0.2  # for vectors of one request
LOAD_SECONDS = 60.0  # for a whole table of weights: read beside the requests, so a slow one hurts nobody
RELOAD_SECONDS = 60  # where TimeInterval is not given: PAI-Rec would ask without a pause
ENTRIES_MAX = 500_000  # vectors kept, as in PAI-Rec

Ask = Callable[[Sequence[str]], Any]  # ids -> awaitable of the ids that have a vector, and its text for each


class Fetched:
    """Vectors by item id, asked for where they are not known, and kept for `seconds`. Used on the stores' loop alone.

    They lie in one matrix that only grows: what a request was given stays as it is.
    """

    def __init__(
        self, ask: Ask, separator: str, seconds: float, *, entries_max: int = ENTRIES_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._ask, self._separator, self._entries_max = ask, separator, entries_max
        self._rows = Cache[int](seconds, entries_max, clock)
        self._forget()

    def _forget(self) -> None:
        self._rows.clear()
        self._table = np.empty((0, 0), np.float32)
        self._used = 0

    async def of(self, ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """A matrix and the row in it of each id, -1 where there is no vector.

        Raises:
            StoreError: the store does not answer, or vectors are of different lengths.
        """
        rows, places, asked = self._rows.get_many(ids)
        if self._used + len(asked) > self._entries_max:
            self._forget()
            rows, places, asked = self._rows.get_many(ids)
        if asked:
            came: Sequence[str]
            came, texts = await self._ask(list(dict.fromkeys(asked)))
            of = dict(zip(came, self._put(came, texts), strict=True))
            for place in places:
                rows[place] = of.get(ids[place], -1)
        return self._table, np.array(rows, np.int32)

    def _put(self, ids: Sequence[str], texts: list[str]) -> range:
        """Where the vectors that came lie now: behind those that are there."""
        if not texts:
            return range(0)
        known = self._table.shape[1]
        try:
            vectors = read_vectors(texts, self._separator)
        except ValueError as error:
            place, why = error.args
            raise StoreError(f"the vector of item {ids[place]!r:.100} has {why}") from None
        if self._used and vectors.shape[1] != known:
            raise StoreError(f"the vector of item {ids[0]!r:.100} has {vectors.shape[1]} numbers, others have {known}")
        end = self._used + len(vectors)
        if end > len(self._table):
            grown = np.zeros((max(256, 2 * self._used, end), vectors.shape[1]), np.float32)
            if self._used:
                grown[: self._used] = self._table[: self._used]
            self._table = grown
        self._table[self._used : end] = vectors
        rows = range(self._used, end)
        self._rows.fill([None] * len(ids), list(range(len(ids))), ids, rows)
        self._used = end
        return rows


def from_postgres(stores: Any, store: str, table: str, key: str, column: str, where: str) -> Ask:
    """Asks a table for `column`, a text or an array, by `key`.

    Raises:
        ConfigError: no such store, a name that is none, or a statement that the server refuses.
    """
    client, name = _stores(stores, where).postgres(store), sql_name(key, f"{where}.TablePKey")
    vector = sql_name(column, f"{where}.EmbeddingColumn")
    select = f"SELECT CAST({name} AS text), CAST({vector} AS text) FROM {sql_name(table, f'{where}.TableName')} WHERE "
    stores.run(client.check(f"{select}{name} IS NULL LIMIT 0", (), where)).result()

    async def ask(ids: Sequence[str]) -> Any:
        rows = await client.rows(f"{select}{name} IN ({', '.join(['%s'] * len(ids))})", list(ids), ASK_SECONDS)
        return _there(*zip(*rows, strict=True)) if rows else ([], [])

    return ask


def from_redis(stores: Any, store: str, prefix: str, where: str) -> Ask:
    """Asks for the texts at prefix + id. Raises ConfigError: no such store."""
    client = _stores(stores, where).redis(store)

    async def ask(ids: Sequence[str]) -> Any:
        return _there(ids, await client.mget(prefixed(prefix, ids)))

    return ask


def _there(ids: Sequence[str | None], texts: Sequence[str | None]) -> tuple[list[Any], list[Any]]:
    """The ids that have a text, and the texts."""
    has = list(map(and_, map(is_not, ids, repeat(None)), map(is_not, texts, repeat(None))))
    return list(compress(ids, has)), list(compress(texts, has))


def _stores(stores: Any, where: str) -> Any:
    if stores is None:
        raise ConfigError(f"{where}.DaoConf: there are no live stores here")
    return stores


class Weights:
    """A table of weights by item id, read at bind and again every `seconds`, beside the requests.

    What was read last stays while the store does not answer, and where it answers with no row.
    """

    def __init__(
        self, stores: Any, store: str, table: str, key: str, column: str, seconds: float, snapshot: Snapshot, *,
        where: str, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Raises ConfigError: no such store, a name that is none, or a table that cannot be read."""
        self._stores, self._snapshot, self._where, self._clock = _stores(stores, where), snapshot, where, clock
        self._store = stores.postgres(store)
        item, weight = sql_name(key, f"{where}.ItemFieldName"), sql_name(column, f"{where}.WeightFieldName")
        self._select = f"SELECT {item}, {weight} FROM {sql_name(table, f'{where}.HologresTableName')}"
        self._seconds, self._due = seconds or RELOAD_SECONDS, 0.0
        self._by_id: dict[str, float] = {}
        self._by_row = np.full(snapshot.overlay.capacity, np.nan)
        try:
            stores.run(self._read()).result()
        except StoreError as error:
            raise ConfigError(f"{where}: {error}") from error
        snapshot.follow(self._added)

    def of(self, query: Query, rows: NDArray[np.int32]) -> NDArray[np.float64]:
        """The weight of each of `rows`, NaN where it has none."""
        if self._clock() >= self._due:
            self._due = self._clock() + self._seconds
            with contextlib.suppress(NotReadyError):
                self._stores.run(self._read_again())
        weights = self._by_row[rows]
        guests = self._snapshot.guests
        strange = np.flatnonzero((rows >= guests.start) & (rows < guests.stop))
        if len(strange):
            weights[strange] = [self._by_id.get(id, np.nan) for id in query.ids(rows[strange])]
        return weights

    async def _read(self) -> None:
        found = await self._store.rows(self._select, (), LOAD_SECONDS)
        by_id = {str(id): float(weight) for id, weight in found if id is not None and weight is not None}
        if not by_id:
            return
        rows = np.array([self._snapshot.items.ids.find(id) for id in by_id], np.int32)
        by_row = np.full(len(self._by_row), np.nan)
        by_row[rows[rows >= 0]] = np.array(list(by_id.values()))[rows >= 0]
        self._by_id, self._by_row = by_id, by_row

    async def _read_again(self) -> None:
        try:
            await self._read()
        except StoreError as error:
            log.warning("%s: the weights of before stay: %s", self._where, error)

    def _added(self, rows: NDArray[np.int32]) -> None:
        rows = rows[rows < self._snapshot.guests.start] if len(self._snapshot.guests) else rows
        id = self._snapshot.items.ids.id
        self._by_row[rows] = [self._by_id.get(id(row), np.nan) for row in rows.tolist()]


async def awaited(stores: Any, vectors: Fetched, ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """`vectors.of(ids)`, on the stores' loop. Raises StoreError."""
    found: tuple[NDArray[np.float32], NDArray[np.int32]] = await asyncio.wrap_future(stores.run(vectors.of(ids)))
    return found
