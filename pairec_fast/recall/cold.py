"""Items that nobody knows yet, or whatever the operator's own condition says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression import Column, Condition, depends_on_user, mask
from pairec_fast.query import Query
from pairec_fast.recall.clause import Clause
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import Found, Rows
from pairec_fast.recall.kind import Dao, Live, stores_of
from pairec_fast.recall.reading import QUERY_SECONDS, text_of
from pairec_fast.snapshot import Snapshot

REFRESH_SECONDS = 60.0  # how old a list may be that is the same for all users
LIST_MAX = 10_000  # ids of such a list, unless Limit says so


class ColdStartDao(Dao, frozen=True, rename="pascal"):
    """`primary_key`: the column of item ids. `time_interval`: seconds that `${time}` lies before now."""

    primary_key: str = "item_id"
    where_clause: str = ""
    order_by: str = ""
    limit: int = 0
    time_interval: int = 0


class ColdStartRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """Items of a condition, at random or as `OrderBy` says.

    `ColdStartDaoConf`: in SQL `PrimaryKey` of `HologresTableName` where `WhereClause`; a list that is the same for all
    users is asked for again beside requests, not by them. Local: items of the snapshot that meet all `FilterParams`.
    *Source*: PAI-Rec, `ColdStartRecall`.
    """

    cold_start_dao_conf: ColdStartDao
    filter_params: tuple[Condition, ...] = ()

    @property
    def dao(self) -> Dao:
        return self.cold_start_dao_conf

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store, table or column, or a clause that the server refuses."""
        if self.cold_start_dao_conf.checked(f"{self.where}.ColdStartDaoConf", ("local", "hologres")) == "local":
            return local(at, self)
        return Chosen(at, self)


class Chosen(Fetched):
    """Ids by a statement."""

    def __init__(self, at: Binding, conf: ColdStartRecall) -> None:
        super().__init__(at, conf, conf.seconds())
        dao, where = conf.cold_start_dao_conf, f"{conf.where}.ColdStartDaoConf"
        stores = stores_of(at, where)
        self._client = stores.postgres(dao.hologres_name, f"{where}.HologresName")
        self._clause = Clause(dao.where_clause, f"{where}.WhereClause")
        self.reads_user = self._clause.asks_user
        self._interval, self._ordered = dao.time_interval, bool(dao.order_by)
        self._limit = dao.limit or (self._count if self._clause.asks_user else max(self._count, LIST_MAX))
        order = dao.order_by.replace("%", "%%") or "random()"
        clause = f"where {self._clause.sql} " if self._clause.sql else ""
        rest = f"{clause}order by {order} limit %s".replace("{", "{{").replace("}", "}}")
        self._statement = self._client.compose(
            f"select {{0}} from {{1}} {rest}",
            self._client.identifier(dao.primary_key, f"{where}.PrimaryKey"),
            self._client.identifier(dao.hologres_table_name, f"{where}.HologresTableName"),
        )
        self._as_date = True
        stores.run(self._checked(where)).result()
        self._list: list[str] | None = None
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    def cache_key(self, query: Query) -> str:
        return query.uid if self._clause.asks_user else self.name

    async def _checked(self, where: str) -> None:
        """`${time}` is a date, or seconds where the server wants a number."""
        try:
            await self._client.check(self._statement, self._args({}, {}, 0), where)
        except ConfigError:
            if "time" not in self._clause.names:
                raise
            self._as_date = False
            try:
                await self._client.check(self._statement, self._args({}, {}, 0), where)
                return
            except ConfigError:
                self._as_date = True
            raise

    def _args(self, user: dict[str, Any], context: dict[str, Any], limit: int) -> list[Any]:
        then = time.time() - self._interval
        moment = datetime.fromtimestamp(then, UTC).isoformat() if self._as_date else int(then)
        return [*self._clause.args(moment, user, context), limit]

    def _ask(self, query: Query | None) -> Coroutine[Any, Any, list[tuple[Any, ...]]]:
        args = self._args(query.user_features, query.context, self._limit) if query else self._args({}, {}, self._limit)
        rows: Coroutine[Any, Any, list[tuple[Any, ...]]] = self._client.rows(self._statement, args, QUERY_SECONDS)
        return rows

    async def gather(self, query: Query) -> list[str]:
        if self._clause.asks_user:
            return _ids(await self._ask(query))
        if self._list is None:
            self._list, self._asked = _ids(await self._ask(None)), time.monotonic()
        elif time.monotonic() - self._asked > REFRESH_SECONDS and self._asking is None:
            self._asking = asyncio.ensure_future(self._refresh())
        return self._list

    async def _refresh(self) -> None:
        self._asked = time.monotonic()  # not before that again, whatever comes of it
        try:
            self._list = _ids(await self._ask(None))
        except StoreError:  # counted by the store; the old list serves on
            pass
        finally:
            self._asking = None

    def found(self, query: Query, arena: Arena, got: Sequence[str]) -> Found:
        if not self._ordered and len(got) > self._count:
            got = random.Random(query.request_id).sample(got, self._count)
        rows = np.array([query.row(id) for id in got[: self._count]], np.int32)
        return Found(rows, np.zeros(len(rows)))


def _ids(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    return [text for row in rows if (text := text_of(row[0]))]


def local(at: Binding, conf: ColdStartRecall) -> Stage:
    """Of the snapshot's own items, those added later among them."""
    snapshot, count, source = at.snapshot, conf.checked(), at.source
    dao, where = conf.cold_start_dao_conf, f"{conf.where}.ColdStartDaoConf"
    if dao.where_clause or dao.order_by:
        raise ConfigError(f'{where}: WhereClause and OrderBy are SQL; with "local" use FilterParams')
    conditions, asks_user = conf.filter_params, depends_on_user(conf.filter_params)
    every: list[tuple[int, Rows]] = []

    def those(query: Query) -> Rows:
        total = snapshot.overlay.count
        if not asks_user and every and every[0][0] == total:
            return every[0][1]
        allowed = mask(conditions, _columns(snapshot, total), total, query.user_features)
        rows = np.flatnonzero(allowed).astype(np.int32)
        if not asks_user:
            every[:] = [(total, rows)]
        return rows

    def recall(query: Query, arena: Arena) -> None:
        rows = those(query)
        if len(rows) > count:
            chosen = random.Random(query.request_id).sample(range(len(rows)), count)
            rows = rows[np.array(chosen, np.int64)]
        add(arena, np.ascontiguousarray(rows), np.zeros(len(rows)), source)

    return recall


def _columns(snapshot: Snapshot, count: int) -> dict[str, Column]:
    return {
        name: one.values[:count] if one.texts is None else (one.values[:count], one.texts)  # type: ignore[misc]
        for name, one in snapshot.items.columns.items()
        if one.kind in ("number", "text")
    }
