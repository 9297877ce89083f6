"""What a user did lately, as texts of joined values: PAI-Rec's sequence features. Source: PAIREC.md 8.5."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureDaoConf
from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_float, to_int, to_string
from pairec_fast.load.source import SQL_SECONDS, Found
from pairec_fast.store import composer, identifier

ONLINE_SECONDS = 5 * 86_400

Row = dict[str, Any]


class Sequences:
    """A source whose values are the joined texts of one user's behaviour, newest first."""

    def __init__(self, at: Binding, conf: FeatureDaoConf, where: str, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError: another adapter than `hologres`, or a field that is missing."""
        dao = f"{where}.FeatureDaoConf"
        if conf.adapter_type != "hologres":
            raise ConfigError(
                f'{dao}.AdapterType: a sequence_feature is read from "hologres", got "{conf.adapter_type}"'
            )
        for key, value in (
            ("SequenceName", conf.sequence_name), ("HologresTableName", conf.hologres_table_name),
            ("UserFeatureKeyName", conf.user_feature_key_name), ("ItemFeatureKeyName", conf.item_feature_key_name),
        ):  # fmt: skip
            if not value:
                raise ConfigError(f"{dao}.{key} is missing")
        if conf.sequence_length <= 0:
            raise ConfigError(f"{dao}.SequenceLength must be positive, got {conf.sequence_length}")
        sql = composer()
        self.timeout = SQL_SECONDS
        self._client, self._conf, self._clock = at.stores.postgres(conf.hologres_name), conf, clock
        self._item, self._event = conf.item_feature_key_name, conf.event_feature_key_name
        self._time, self._play = conf.timestamp_feature_key_name, conf.play_time_feature_key_name
        self._dims = [name.strip() for name in conf.sequence_dim_fields.split(",") if name.strip()]
        self._least = _play_times(conf.sequence_play_time, dao)
        self._events = [name.strip() for name in conf.sequence_event.split(",") if name.strip()]
        self._columns = [self._item, self._event, self._time, *self._dims]
        if not conf.no_use_play_time_field:
            self._columns.append(self._play)
        names = sql.SQL(", ").join(identifier(name, dao) for name in self._columns)
        among = sql.SQL(" AND {} = ANY(%s)").format(identifier(self._event, dao)) if self._events else sql.SQL("")

        def statement(table: str, recent: bool) -> Any:
            since = sql.SQL(" AND {} > %s").format(identifier(self._time, dao)) if recent else sql.SQL("")
            return sql.SQL("SELECT {} FROM {} WHERE {}::text = %s{}{} ORDER BY {} DESC LIMIT {}").format(
                names, identifier(table, dao), identifier(conf.user_feature_key_name, dao), among, since,
                identifier(self._time, dao), sql.Literal(conf.sequence_length),
            )  # fmt: skip

        self._online = statement(conf.hologres_table_name, True)
        offline = conf.sequence_offline_table_name
        self._offline = statement(offline, False) if offline else None

    async def get(self, keys: Sequence[str]) -> Found:
        return [await self._of(key) for key in keys]

    async def _of(self, uid: str) -> Row:
        now = int(self._clock())
        among = [self._events] if self._events else []
        asked = [self._rows(self._online, [uid, *among, now - ONLINE_SECONDS])]
        if self._offline is not None:
            asked.append(self._rows(self._offline, [uid, *among]))
        online, *more = await asyncio.gather(*asked)
        return self._texts(self._distinct(self._merged(online, more[0] if more else [])), now)

    async def _rows(self, statement: Any, args: list[Any]) -> list[Row]:
        rows = await self._client.rows(statement, args, self.timeout)
        named = [dict(zip(self._columns, row, strict=True)) for row in rows]
        return [row for row in named if self._long_enough(row)]

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
