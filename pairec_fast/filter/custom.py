"""Lists of what may not be shown: to anybody, or to one user."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.cache import Cache
from pairec_fast.core import Arena, drop_exposed, keep_allowed
from pairec_fast.errors import ConfigError, NotReadyError, StoreError
from pairec_fast.filter.kind import Count, Dao
from pairec_fast.query import Query
from pairec_fast.snapshot import Ranked, pick
from pairec_fast.sql import sql_name, sql_text

log = logging.getLogger("pairec_fast")

LOAD_SECONDS = 60.0  # for a whole list of blocked items: read beside the requests, so a slow one hurts nobody
ASK_SECONDS = 0.1  # for one user's
CACHE_SECONDS = 3600  # PAI-Rec's, where none is given
RELOAD_SECONDS = 60  # where TimeInterval is not given: PAI-Rec would ask without a pause


class FilterVal(msgspec.Struct, frozen=True, rename="pascal"):
    """The column of blocked ids and which rows count; both are SQL."""

    select_col: str = ""
    where_clause: str = ""


class ItemCustomFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Drops the items of a list, read again every `time_interval` seconds. *Source*: PAI-Rec, `ItemCustomFilter`.

    `dao_conf` "hologres": a table of PostgreSQL and `filter_val`; the list it had last stays while it does not answer.
    "local": the list `TableName` of the snapshot.
    """

    name: str
    dao_conf: Dao
    filter_val: FilterVal = FilterVal()
    time_interval: Count = 0

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such list, store or table."""
        where = f"FilterConfs.{self.name}"
        if self.dao_conf.adapter_type == "local":
            table = _list(at, self.dao_conf, where)
            if table.by:
                raise ConfigError(f'{where}.DaoConf.TableName: a list by "{table.by}"; use User2ItemCustomFilter')
            rows, _ = table.of(0)
            return lambda query, arena: _drop(arena, rows)
        if self.dao_conf.adapter_type != "hologres":
            raise _unknown(self.dao_conf, where)
        return Blocked(self, at, where)


class Blocked:
    """A list of a live store. The first is read at bind; later ones beside the requests."""

    def __init__(self, conf: ItemCustomFilter, at: Binding, where: str, clock: Callable[[], float] = time.monotonic):
        if at.stores is None:
            raise ConfigError(f"{where}.DaoConf: there are no live stores here")
        dao, val = conf.dao_conf, conf.filter_val
        self.name, self._clock, self._stores, self._snapshot = conf.name, clock, at.stores, at.snapshot
        self._store = at.stores.postgres(dao.hologres_name)
        if not val.select_col.strip():
            raise ConfigError(f"{where}.FilterVal.SelectCol: missing; it names the column of ids")
        table = sql_name(dao.hologres_table_name, f"{where}.DaoConf.HologresTableName")
        self._select = f"SELECT {sql_text(val.select_col)} FROM {table}"
        if val.where_clause.strip():
            self._select += f" WHERE {sql_text(val.where_clause)}"
        self._seconds = conf.time_interval or RELOAD_SECONDS
        self._ids: frozenset[str] = frozenset()
        self._due = 0.0
        self._allowed = np.ones(at.snapshot.overlay.capacity, np.uint8)
        try:
            at.stores.run(self._read()).result()
        except StoreError as error:
            raise ConfigError(f"{where}: {error}") from error
        at.snapshot.follow(self._added)

    def __call__(self, query: Query, arena: Arena) -> None:
        if self._clock() >= self._due:
            self._due = self._clock() + self._seconds
            with contextlib.suppress(NotReadyError):
                self._stores.run(self._read_again())
        if self._ids:
            keep_allowed(arena, self._allowed)
            guests = query.guests_among(self._ids)
            _drop(arena, guests)

    async def _read(self) -> None:
        rows = await self._store.rows(self._select, (), LOAD_SECONDS)
        ids = frozenset(str(id) for (id, *_) in rows if id is not None)
        allowed = np.ones(self._snapshot.overlay.capacity, np.uint8)
        allowed[self._snapshot.items.ids.find_all(list(ids))] = 0
        self._ids, self._allowed = ids, allowed
        # Once more: an item that was added meanwhile was told the list of before.
        allowed[self._snapshot.items.ids.find_all(list(ids))] = 0
        self._due = self._clock() + self._seconds

    async def _read_again(self) -> None:
        try:
            await self._read()
        except StoreError as error:
            log.warning("%s: the list of before stays: %s", self.name, error)

    def _added(self, rows: NDArray[np.int32]) -> None:
        guests = self._snapshot.guests
        rows = rows[rows < guests.start] if len(guests) else rows  # who they are only a request knows
        id = self._snapshot.items.ids.id
        self._allowed[rows] = [id(row) not in self._ids for row in rows.tolist()]


class User2ItemCustomFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Drops the items of the user's own list. *Source*: PAI-Rec, `User2ItemCustomFilter`.

    `dao_conf` "hologres": the column `item_ids` (with commas between) of the rows with that `user_id`; "redis": the
    same text at prefix + uid; remembered for `item_state_cache_time` seconds when `item_state_cache_size` is given.
    "local": the list `TableName` of the snapshot that is kept by a user column, or "history". What does not answer
    drops nothing.
    """

    name: str
    dao_conf: Dao
    item_state_cache_size: Count = 0
    item_state_cache_time: Count = 0

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such list, store or table."""
        where, dao, snapshot = f"FilterConfs.{self.name}", self.dao_conf, at.snapshot
        if dao.adapter_type in ("hologres", "redis"):
            return Own(self, at, where)
        if dao.adapter_type != "local":
            raise _unknown(dao, where)
        if dao.table_name == "history":

            def drop_history(query: Query, arena: Arena) -> None:
                if query.user >= 0:
                    _drop(arena, snapshot.history.of(query.user))

            return drop_history
        table = _list(at, dao, where)
        if not table.by:
            raise ConfigError(f"{where}.DaoConf.TableName: one list for all; use ItemCustomFilter")
        texts = snapshot.users.columns[table.by].texts
        assert texts is not None, "build makes lists by text columns only"
        group_of = texts.code

        def drop_group(query: Query, arena: Arena) -> None:
            value = query.user_value(table.by)
            group = group_of.get(value) if isinstance(value, str) else None
            if group is not None:
                _drop(arena, table.of(group)[0])

        return drop_group


class Own:
    """One user's list, asked for before the walk."""

    timeout = ASK_SECONDS + 0.1  # stores have limits of their own; this one only ends what would never end
    reads_user = False

    def __init__(self, conf: User2ItemCustomFilter, at: Binding, where: str) -> None:
        if at.stores is None:
            raise ConfigError(f"{where}.DaoConf: there are no live stores here")
        dao, self.name = conf.dao_conf, conf.name
        self._cache: Cache[list[str]] | None = None
        if conf.item_state_cache_size:
            self._cache = Cache(conf.item_state_cache_time or CACHE_SECONDS, conf.item_state_cache_size)
        self._redis: Any = None
        self._prefix = dao.redis_prefix
        if dao.adapter_type == "redis":
            self._redis = at.stores.redis(dao.redis_name)
            return
        self._postgres = at.stores.postgres(dao.hologres_name)
        table = sql_name(dao.hologres_table_name, f"{where}.DaoConf.HologresTableName")
        self._select = f"SELECT item_ids FROM {table} WHERE user_id = %s"
        check = f"SELECT item_ids, user_id FROM {table} LIMIT 0"
        at.stores.run(self._postgres.check(check, (), f"{where}.DaoConf")).result()

    async def fetch(self, query: Query) -> None:
        """Raises StoreError: the list cannot be had."""
        query.fetched[self] = await self._read(query.uid)

    def __call__(self, query: Query, arena: Arena) -> None:
        ids = query.fetched.get(self)
        if ids:
            _drop(arena, query.find(ids))

    async def _read(self, uid: str) -> list[str]:
        known = self._cache.get(uid) if self._cache is not None else None
        if known is not None:
            return known
        texts: Iterable[Any]
        if self._redis is not None:
            texts = [await self._redis.get(self._prefix + uid)]
        else:
            texts = [text for (text,) in await self._postgres.rows(self._select, (uid,), ASK_SECONDS)]
        ids = [id for text in texts if text is not None for id in str(text).split(",") if id]
        if self._cache is not None:
            self._cache.put(uid, ids)
        return ids


def _drop(arena: Arena, rows: NDArray[np.int32]) -> None:
    drop_exposed(arena, rows)


def _list(at: Binding, dao: Dao, where: str) -> Ranked:
    table: Ranked = pick(at.snapshot.lists, dao.table_name, f"{where}.DaoConf.TableName")
    return table


def _unknown(dao: Dao, where: str) -> ConfigError:
    return ConfigError(
        f'{where}.DaoConf.AdapterType: "{dao.adapter_type}" is not available in this version; use "hologres", or '
        '"local" for a list of the snapshot'
    )
