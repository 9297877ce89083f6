"""What a user did lately, as texts of joined values: PAI-Rec's sequence features. Source: PAIREC.md 8.5."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureDaoConf
from pairec_fast.core.columns import plain
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression.convert import to_float, to_int, to_string
from pairec_fast.load.source import SLACK_SECONDS, SQL_SECONDS, Found, Keyed
from pairec_fast.replies import Reader, Rows
from pairec_fast.sql import sql_name

ONLINE_SECONDS = 5 * 86_400

Row = dict[str, Any]


class Sequences:
    """A source whose values are the joined texts of one user's behaviour, newest first."""

    remembers_nothing = null_deletes = False
    reader: Reader = Rows()

    def __init__(self, at: Binding, conf: FeatureDaoConf, where: str, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError: a field that is missing, or what the server refuses."""
        if at.stores is None:
            raise ConfigError(f"{where}.AdapterType: {conf.adapter_type} needs live stores, and there are none here")
        if not conf.sequence_name:
            raise ConfigError(f"{where}.SequenceName is missing")
        if conf.sequence_length <= 0:
            raise ConfigError(f"{where}.SequenceLength must be positive, got {conf.sequence_length}")
        self.timeout = SQL_SECONDS + SLACK_SECONDS
        self._stores, self._client = at.stores, at.stores.postgres(conf.hologres_name)
        self._conf, self._clock = conf, clock
        self._item, self._event = conf.item_feature_key_name or "item_id", conf.event_feature_key_name
        self._time, self._play = conf.timestamp_feature_key_name, conf.play_time_feature_key_name
        self._dims = [name.strip() for name in conf.sequence_dim_fields.split(",") if name.strip()]
        self._least = _play_times(conf.sequence_play_time, where)
        self._events = [name.strip() for name in conf.sequence_event.split(",") if name.strip()]
        self._columns = [self._item, self._event, self._time, *self._dims]
        if not conf.no_use_play_time_field:
            self._columns.append(self._play)
        self._key, self._online = self._statement(conf.hologres_table_name, True, where)
        self._offline_key, self._offline = self._key, ""
        if conf.sequence_offline_table_name:
            self._offline_key, self._offline = self._statement(conf.sequence_offline_table_name, False, where)

    def _statement(self, table: str, recent: bool, where: str) -> tuple[Keyed, str]:
        key = Keyed(self._stores, self._client, table, self._conf.user_feature_key_name, where)
        names = ", ".join(sql_name(name, f"{where}: a column") for name in self._columns)
        time = sql_name(self._time, f"{where}.TimestampFeatureKeyName")
        among = f" AND {sql_name(self._event, where)}::text = ANY(%s::text[])" if self._events else ""
        since = f" AND {time} > %s" if recent else ""
        select, order = f"SELECT {names} FROM {key.table} WHERE {key.name}", f"ORDER BY {time} DESC"
        arguments: list[Any] = [self._events] if among else []
        if recent:
            arguments.append(0)
        check = self._client.check(f"{select} IS NULL{among}{since} {order} LIMIT 0", arguments, where)
        self._stores.run(check).result()
        limit = self._conf.sequence_length
        return key, f"{select} = ANY(%s::{key.kind}[]){among}{since} {order} LIMIT {limit}"

    async def get(self, keys: Sequence[str]) -> Found:
        (uid,) = keys  # of a user, who has one
        values, why = await self._of(uid)
        return Found([values], {0: why} if why else {})

    async def _of(self, uid: str) -> tuple[Row | None, str]:
        """The texts, and why they are not all there are."""
        now = int(self._clock())
        among = [self._events] if self._events else []
        asked = [self._rows(self._key, self._online, uid, [*among, now - ONLINE_SECONDS])]
        if self._offline:
            asked.append(self._rows(self._offline_key, self._offline, uid, among))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, StoreError):
                raise answer
        failures = [str(answer) for answer in answers if isinstance(answer, StoreError)]
        if len(failures) == len(answers):
            return None, failures[0]
        online, offline = (*(answer if isinstance(answer, list) else [] for answer in answers), [])[:2]
        return self.texts(online, offline, now), failures[0] if failures else ""

    async def _rows(self, key: Keyed, statement: str, uid: str, args: list[Any]) -> list[Row]:
        usable = key.usable([uid])
        if not usable:
            return []
        rows = await self._client.rows(statement, [usable, *args], SQL_SECONDS)
        named = [dict(zip(self._columns, map(plain, row), strict=True)) for row in rows]
        return [row for row in named if self._long_enough(row)]

    def texts(self, online: list[Row], offline: list[Row], now: int) -> Row:
        """The user's properties of rows that are newest first; `now` in unix seconds."""
        return self._texts(self._distinct(self._merged(online, offline)), now)

    def _long_enough(self, row: Row) -> bool:
        least = self._least.get(to_string(row[self._event], ""))
        return least is None or self._play not in row or to_float(row[self._play], 0.0) > least

    def _merged(self, online: list[Row], offline: list[Row]) -> list[Row]:
        if offline:
            newest = max(to_int(row[self._time], 0) for row in offline)
            online = [row for row in online if to_int(row[self._time], 0) >= newest]
        return [*online, *offline][: self._conf.sequence_length]

    def _distinct(self, rows: list[Row]) -> list[Row]:
        """The newest of each item and event."""
        first: dict[tuple[str, str], Row] = {}
        for row in rows:
            first.setdefault((to_string(row[self._item], ""), to_string(row[self._event], "")), row)
        return list(first.values())

    def _texts(self, rows: list[Row], now: int) -> Row:
        name, join = self._conf.sequence_name, self._conf.sequence_delim.join
        if not rows:
            return {name: ""}
        items = join(to_string(row[self._item], "") for row in rows)
        out = {name: items, f"{name}__{self._item}": items}
        for column in (self._time, self._event):
            out[f"{name}__{column}"] = join(to_string(row[column], "") for row in rows)
        if self._play in self._columns:
            out[f"{name}__{self._play}"] = join(f"{to_float(row[self._play], 0.0):.2f}" for row in rows)
        ages = join(str(now - to_int(row[self._time], 0)) for row in rows)
        out[f"{name}__{self._conf.ts_feature_key_name}"] = ages
        for column in self._dims:  # a NULL stays in its place, as an empty text: PAI-Rec loses it, and all behind it
            out[f"{name}__{column}"] = join(to_string(row[column], "") for row in rows)
        return out


def _play_times(text: str, where: str) -> dict[str, float]:
    """`event:ms;event:ms`. Raises ConfigError: not so."""
    least: dict[str, float] = {}
    for part in text.split(";") if text else []:
        event, colon, limit = part.partition(":")
        number = to_float(limit, -1.0)
        if not (event and colon) or number < 0:
            raise ConfigError(f'{where}.SequencePlayTime: "{part}"; `event:milliseconds` is right')
        least[event] = number
    return least
