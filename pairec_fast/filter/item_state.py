"""Only what may be shown now: in stock, published, allowed here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.cache import Cache
from pairec_fast.core import Arena, keep, keep_allowed
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression import Column, Condition, check, depends_on_user, mask, matches
from pairec_fast.filter.kind import Count
from pairec_fast.filter.rows import SECONDS, Known, RedisRows, Rows, SqlRows
from pairec_fast.filter.written import texts_of_items, written
from pairec_fast.properties import Given
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot
from pairec_fast.transform import FeatureConfig, Transforms

CACHE_SECONDS = 3600  # PAI-Rec's, where none is given


class ItemStateDao(msgspec.Struct, frozen=True, rename="pascal"):
    """`adapter_type` "local": the snapshot's item table. "hologres", a table of PostgreSQL, and "redis" are asked for
    the candidates of each request.

    Of a table `item_field_name` is the key's column, and `select_fields` and `where_clause` are SQL. In Redis a row
    lies at prefix + key as PAI-Rec's item features do (PAIREC 8.1), and `select_fields` are names with commas between.
    `default_field_values` stand for the row of an item that has none.
    """

    adapter_type: str = ""
    table_name: str = ""
    hologres_name: str = ""
    hologres_table_name: str = ""
    item_field_name: str = ""
    where_clause: str = ""
    select_fields: str = ""
    redis_name: str = ""
    redis_prefix: str = ""
    redis_data_type: Literal["", "string", "hash"] = ""
    redis_field_type: Literal["", "csv", "json"] = ""
    redis_value_delimeter: str = ""
    default_field_values: dict[str, Any] = {}


class ItemStateFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Keeps the items whose row meets all `filter_params`; the row's values become properties of the candidate.

    With `features`, transforms are applied first, and the conditions see all properties of the candidate.
    *Source*: PAI-Rec, `ItemStateFilter` (PAIREC 5.5). Of a local table, conditions on the item alone are evaluated
    once, at bind; a request then reads one byte a candidate.
    """

    name: str
    item_state_dao_conf: ItemStateDao
    filter_params: list[Condition] = []
    features: list[FeatureConfig] = []
    generate_user_data_expr: str = ""
    item_state_cache_size: Count = 0
    item_state_cache_time: Count = 0

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: another adapter or table, or a condition that cannot be evaluated."""
        where, dao = f"FilterConfs.{self.name}", self.item_state_dao_conf
        transforms = Transforms(self.features, f"{where}.Features")
        check(self.filter_params, f"{where}.FilterParams")
        if dao.adapter_type == "local":
            if self.generate_user_data_expr:
                raise ConfigError(f"{where}.GenerateUserDataExpr: a local table is read by the row of the item itself")
            return self._local(at.snapshot, where, transforms)
        if dao.adapter_type in ("hologres", "redis"):
            return Live(self, at, where, transforms)
        raise ConfigError(
            f'{where}.ItemStateDaoConf.AdapterType: "{dao.adapter_type}" is not available in this version; '
            'use "hologres", "redis", or "local" for the item table of the snapshot'
        )

    def _local(self, snapshot: Snapshot, where: str, transforms: Transforms) -> Stage:
        dao, table = self.item_state_dao_conf, snapshot.items
        if dao.table_name not in ("", "items"):
            raise ConfigError(f'{where}.ItemStateDaoConf.TableName: "{dao.table_name}"; for a local one it is "items"')
        if dao.where_clause:
            raise ConfigError(f"{where}.ItemStateDaoConf.WhereClause: a local table has no SQL; use FilterParams")
        if transforms:
            return self._transformed(transforms)
        usable = {name for name, one in table.columns.items() if one.kind in ("number", "text")}
        for name in [*_item_names(self.filter_params), *_fields(dao.select_fields)]:
            if name not in usable:
                raise ConfigError(
                    f'{where}: the item table has no column "{name}"; it has {", ".join(sorted(usable)) or "none"}'
                )
        alone = [one for one in self.filter_params if not depends_on_user([one])]
        asking = [one for one in self.filter_params if depends_on_user([one])]
        guests = snapshot.guests
        allowed = np.zeros(snapshot.overlay.capacity, np.uint8)

        def decide(rows: NDArray[np.int32] | slice, count: int) -> None:
            allowed[rows] = mask(alone, Table(snapshot, rows), count)

        decide(slice(len(table)), len(table))
        snapshot.follow(lambda rows: decide(rows, len(rows)))
        defaults = dao.default_field_values
        allowed[guests.start : guests.stop] = matches(alone, {}, defaults)

        def keep_alone(query: Query, arena: Arena) -> None:
            keep_allowed(arena, allowed)

        def keep_asking(query: Query, arena: Arena) -> None:
            keep_allowed(arena, allowed)
            rows, user = arena.row[: arena.count], query.user_features
            kept = mask(asking, Table(snapshot, rows), arena.count, user)
            if len(guests):
                strange = (rows >= guests.start) & (rows < guests.stop)
                kept[strange] = matches(asking, user, defaults)
            keep(arena, kept)

        return keep_asking if asking else keep_alone

    def _transformed(self, transforms: Transforms) -> Stage:
        def transform_and_keep(query: Query, arena: Arena) -> None:
            user = dict(query.user_features)  # as they are before: transforms may write into them
            transforms(query, arena)
            if self.filter_params:
                keep(arena, mask(self.filter_params, query.properties(arena), arena.count, user))

        return transform_and_keep


class Table(Mapping[str, Column]):
    """Columns of the item table at `rows`, each gathered when it is asked for."""

    def __init__(self, snapshot: Snapshot, rows: NDArray[np.int32] | slice) -> None:
        self._columns, self._rows = snapshot.items.columns, rows

    def __getitem__(self, name: str) -> Column:
        column = self._columns[name]
        if column.kind == "vector":
            raise KeyError(name)
        values = column.values[self._rows]
        return values if column.texts is None else (values, column.texts)  # type: ignore[return-value]

    def __iter__(self) -> Iterator[str]:
        return (name for name, column in self._columns.items() if column.kind != "vector")

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Live:
    """Asks a table of PostgreSQL for the candidates. What cannot be had in time is kept.

    Raises:
        ConfigError: no such store, or a statement that the server refuses.
    """

    timeout = SECONDS + 0.1  # each statement has its own limit: this one only ends what would never end

    def __init__(self, conf: ItemStateFilter, at: Binding, where: str, transforms: Transforms) -> None:
        dao, self.name = conf.item_state_dao_conf, conf.name
        self._params, self._defaults, self._transforms = conf.filter_params, dao.default_field_values, transforms
        seconds, size = conf.item_state_cache_time or CACHE_SECONDS, conf.item_state_cache_size
        self._key = written(conf.generate_user_data_expr, f"{where}.GenerateUserDataExpr")
        cache = Cache[Any](seconds, size) if size else None
        where += ".ItemStateDaoConf"
        self._rows: Rows
        if dao.adapter_type == "redis":
            if dao.where_clause:
                raise ConfigError(f"{where}.WhereClause: Redis has no SQL; use FilterParams")
            self._rows = RedisRows(
                at.stores, dao.redis_name, dao.redis_prefix, _fields(dao.select_fields),
                is_hash=dao.redis_data_type == "hash", is_json=dao.redis_field_type == "json",
                delimiter=dao.redis_value_delimeter, where=where, cache=cache,
            )  # fmt: skip
        else:
            self._rows = SqlRows(
                at.stores, dao.hologres_name, dao.hologres_table_name, dao.item_field_name, dao.select_fields,
                dao.where_clause, where=where, cache=cache,
            )  # fmt: skip

    async def load(self, query: Query, arena: Arena) -> None:
        """Raises StoreError: for some candidates there was no answer; those that there are count all the same."""
        if self._key is None:
            keys = query.ids(arena.row[: arena.count])
        else:
            keys = texts_of_items(self._key, query, arena, {"user": query.user_features})
        known = query.fetched[self] = await self._rows.of(keys)
        missing = np.count_nonzero(known.unanswered)
        if missing:
            raise StoreError(f"{missing} of {len(keys)} candidates kept without an answer")

    def __call__(self, query: Query, arena: Arena) -> None:
        known: Known | None = query.fetched.pop(self, None)
        if known is None or len(known.unanswered) != arena.count:
            return  # nothing came: fail open
        of_item: Mapping[str, Column] = self._with_defaults(known, arena.count)
        places = arena.place[: arena.count]
        for name, column in of_item.items():
            query.given.put(name, places, column)
        user = query.user_features
        if self._transforms:
            user = dict(user)  # as they are before: transforms may write into them
            self._transforms(query, arena)
            of_item = query.properties(arena)
        if self._params:
            kept = mask(self._params, of_item, arena.count, user)
            kept |= known.unanswered.view(np.uint8)
            keep(arena, kept)

    def _with_defaults(self, known: Known, count: int) -> dict[str, Column]:
        """The columns, and the defaults where an item has none of them."""
        nothing = ~known.unanswered
        for column in known.columns.values():
            nothing &= column[0] < 0 if isinstance(column, tuple) else column != column
        if not self._defaults or not nothing.any():
            return known.columns
        columns = Given(count)
        for name, column in known.columns.items():
            columns.put(name, np.arange(count, dtype=np.int32), column)
        slots = np.flatnonzero(nothing).astype(np.int32)
        for name, value in self._defaults.items():
            is_number = type(value) is float and value == value
            columns.put(
                name, slots, np.full(len(slots), value) if is_number else (np.zeros(len(slots), np.int32), [value])
            )
        return columns


def _fields(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip() not in ("", "*")]


def _item_names(conditions: Sequence[Condition]) -> list[str]:
    """The item properties that conditions read by name."""
    names = []
    for condition in conditions:
        if condition.operator == "bool":
            names += _item_names(condition.configs)
            continue
        if condition.operator != "expression" and condition.name and condition.domain != "user":
            names.append(condition.name)
        if isinstance(condition.value, str) and condition.value.startswith("item."):
            names.append(condition.value[5:])
    return names
