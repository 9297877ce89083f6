"""Not again what the user has been shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Recorder, Stage
from pairec_fast.core import Arena, drop_exposed, keep
from pairec_fast.core.pick import exposed_slots
from pairec_fast.errors import ConfigError, NotReadyError
from pairec_fast.expression import Condition, check, matches
from pairec_fast.filter.history import SQL_SECONDS, History, history_of
from pairec_fast.filter.kind import Count, Dao
from pairec_fast.filter.written import text_of_query, texts_of_items, written
from pairec_fast.query import Query

MARK = "_is_exposure_"


class User2ItemExposureFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Drops what the user has been shown, or with `only_log_user_expose_flag` marks it: property `_is_exposure_` is 1.

    `dao_conf`: "redis" or "hologres" hold what earlier answers have shown, up to `max_items` entries (answers) and
    `time_interval` seconds; if they do not answer, all is kept. "local": the items of the request's `history` feature,
    with TableName "history" those of the snapshot's history as well.

    `write_log`: what is answered is written there, in every scene but `write_log_exclude_scenes`, whichever filters the
    scene has. `clear_log_if_not_enough_scene`: in that scene an answer with fewer items than asked for clears it.
    *Source*: PAI-Rec, `User2ItemExposureFilter` (PAIREC 5.6).
    """

    name: str
    dao_conf: Dao = Dao(adapter_type="local")
    filter_type_version: str = ""
    max_items: Count = 0
    time_interval: Count = 0
    write_log: bool = False
    write_log_exclude_scenes: list[str] = []
    clear_log_if_not_enough_scene: str = ""
    only_log_user_expose_flag: bool = False
    generate_item_data_func_name: str = ""
    generate_item_data_expr: str = ""
    generate_user_data_expr: str = ""

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a table, store or adapter that does not exist here."""
        return bound(self, at)

    def recorder(self, at: Binding) -> Recorder | None:
        """What writes down the answers of scene `at`, if that is asked for. Raises ConfigError as `bind`."""
        return recorder(self, at)


class User2ItemExposureWithConditionFilter(User2ItemExposureFilter, frozen=True, rename="pascal"):
    """As the exposure filter; but for a user who meets all `conditions` nothing is dropped, and the history cleared.

    *Source*: PAI-Rec, `User2ItemExposureWithConditionFilter`.
    """

    conditions: list[Condition] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: as the exposure filter, or a condition that cannot be evaluated."""
        check(self.conditions, f"FilterConfs.{self.name}.Conditions")
        return bound(self, at, self.conditions)


def bound(conf: User2ItemExposureFilter, at: Binding, unless: Sequence[Condition] = ()) -> Stage:
    _check(conf)
    if conf.dao_conf.adapter_type != "local":
        return Shown(conf, at, unless)
    table, snapshot = conf.dao_conf.table_name, at.snapshot
    if table not in ("", "history"):
        raise ConfigError(f'FilterConfs.{conf.name}.DaoConf.TableName: "{table}"; a snapshot has "history"')
    use = mark if conf.only_log_user_expose_flag else drop

    def use_local(query: Query, arena: Arena) -> None:
        if unless and matches(unless, query.user_features, {}):
            return
        if len(query.shown):
            use(query, arena, query.shown)
        if table and query.user >= 0:
            use(query, arena, snapshot.history.of(query.user))

    return use_local


def drop(query: Query, arena: Arena, rows: NDArray[np.int32]) -> None:
    drop_exposed(arena, rows)


def mark(query: Query, arena: Arena, rows: NDArray[np.int32]) -> None:
    _mark(query, arena, exposed_slots(arena, rows))


def _mark(query: Query, arena: Arena, slots: NDArray[Any]) -> None:
    places = arena.place[slots]
    query.given.put(MARK, places, (np.zeros(len(places), np.int32), [1]))


class Shown:
    """Reads a live history before the walk."""

    def __init__(self, conf: User2ItemExposureFilter, at: Binding, unless: Sequence[Condition]) -> None:
        self.name, self._conf, self._unless = conf.name, conf, unless
        self._history, self._keys = _history(conf, at), Keys(conf, f"FilterConfs.{conf.name}")
        self._stores, self._scene = at.stores, at.scene
        self.timeout = SQL_SECONDS + 0.1  # stores have limits of their own; this one only ends what would never end
        self._use = mark if conf.only_log_user_expose_flag else drop
        self.reads_user = bool(conf.generate_user_data_expr)

    async def fetch(self, query: Query) -> None:
        """Raises StoreError: the history cannot be had."""
        key = self._keys.user(query)
        if key is not None:
            query.fetched[self] = await self._history.read(key)

    def __call__(self, query: Query, arena: Arena) -> None:
        if self._unless and matches(self._unless, query.user_features, {}):
            if self._conf.clear_log_if_not_enough_scene in ("", self._scene):
                key = self._keys.user(query)
                if key is not None:
                    _later(self._stores, self._history.clear(key))
            return
        shown = query.fetched.get(self)
        if not shown:
            return
        if not self._keys.computes_items:
            self._use(query, arena, query.find(shown))
            return
        seen = np.array([text in shown for text in self._keys.items(query, arena)], np.bool_)
        if self._conf.only_log_user_expose_flag:
            _mark(query, arena, np.flatnonzero(seen))
        else:
            keep(arena, (~seen).view(np.uint8))


def recorder(conf: User2ItemExposureFilter, at: Binding) -> Recorder | None:
    writes = conf.write_log and at.scene not in conf.write_log_exclude_scenes
    clears = conf.clear_log_if_not_enough_scene == at.scene
    if conf.dao_conf.adapter_type == "local" or not (writes or clears):
        return None
    _check(conf)
    history, stores, keys = _history(conf, at), at.stores, Keys(conf, f"FilterConfs.{conf.name}")

    def record(query: Query, arena: Arena, slots: NDArray[np.int32]) -> Callable[[], None] | None:
        is_short = clears and len(slots) < query.size
        if not is_short and not (writes and len(slots)):
            return None
        key = keys.user(query)
        if key is None:
            return None
        if is_short:
            return lambda: _later(stores, history.clear(key))
        if keys.computes_items:
            of_all = keys.items(query, arena)
            shown = [of_all[slot] for slot in slots.tolist()]
        else:
            shown = query.ids(arena.row[slots])
        return lambda: _later(stores, history.write(key, shown))

    return record


def _check(conf: User2ItemExposureFilter) -> None:
    where = f"FilterConfs.{conf.name}"
    if conf.generate_item_data_func_name:
        raise ConfigError(
            f'{where}.GenerateItemDataFuncName: "{conf.generate_item_data_func_name}" is a function compiled into a '
            "program of one's own; write it as GenerateItemDataExpr"
        )


class Keys:
    """Under which text a user's history lies, and which texts stand for items in it: the uid and the ids, unless there
    are expressions of `uid`, `item_id`, `item` and `context` {`item_id`, `features`}."""

    def __init__(self, conf: User2ItemExposureFilter, where: str) -> None:
        self._user = written(conf.generate_user_data_expr, f"{where}.GenerateUserDataExpr")
        self._item = written(conf.generate_item_data_expr, f"{where}.GenerateItemDataExpr")
        self.computes_items = self._item is not None

    def user(self, query: Query) -> str | None:
        """None where the expression gives no text: then nothing is read or written, as in PAI-Rec."""
        return query.uid if self._user is None else text_of_query(self._user, _said(query))

    def items(self, query: Query, arena: Arena) -> list[str]:
        """Of each candidate; its id where the expression gives no text."""
        assert self._item is not None
        return texts_of_items(self._item, query, arena, _said(query))


def _said(query: Query) -> dict[str, Any]:
    return {"uid": query.uid, "context": {"item_id": query.item_id, "features": query.context}}


def _history(conf: User2ItemExposureFilter, at: Binding) -> History:
    return history_of(conf.dao_conf, conf.max_items, conf.time_interval, at.stores, f"FilterConfs.{conf.name}.DaoConf")


def _later(stores: Any, work: Any) -> None:
    """Start `work` on the stores' loop; nobody waits for it, and its failure is counted where stores count theirs."""
    with contextlib.suppress(NotReadyError):
        stores.run(work)
