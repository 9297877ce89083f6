"""Items like those the user has just dealt with.

*Source*: PAIREC.md 4.2, `RealTimeU2IRecall`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.cache import Cache
from pairec_fast.core import Arena, Entries, Neighbours, in_turn, merge
from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_float, to_string
from pairec_fast.query import Query
from pairec_fast.recall.clause import Clause
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import NOTHING, Found, Numbers, bring, entries, merged, rows_of
from pairec_fast.recall.kind import Dao, Live, stores_of
from pairec_fast.recall.reading import QUERY_SECONDS, Read, columns, text_of
from pairec_fast.recall.weight import Weight
from pairec_fast.snapshot import Column, pick

LIMIT = 200  # rows of a user, unless Limit says so
SIMILAR_SECONDS = 3600  # PAI-Rec's life of a list of similar items


class DiversityRule(msgspec.Struct, frozen=True, rename="pascal"):
    """At most `size` triggers of one combination of `dimensions`, which are among PropertyFields."""

    dimensions: tuple[str, ...]
    size: int


class UserTriggerDao(Dao, frozen=True, rename="pascal"):
    """What the user has dealt with: rows of `HologresTableName` by `user_id`, or the local history."""

    where_clause: str = ""
    limit: int = 0
    no_use_play_time_field: bool = False
    trigger_count: int = 0
    event_play_time: str = ""
    event_weight: str = ""
    weight_expression: str = ""
    weight_mode: Literal["", "sum", "max"] = ""
    property_fields: tuple[str, ...] = ()
    diversity_rules: tuple[DiversityRule, ...] = ()
    item_id_field_name: str = "item_id"
    timestamp_field_name: str = "timestamp"
    event_field_name: str = "event"
    play_time_field_name: str = "play_time"


class RealTimeDao(msgspec.Struct, frozen=True, rename="pascal"):
    """Where the triggers are, and what is like them."""

    user_trigger_dao_conf: UserTriggerDao
    item2_item_table: str = msgspec.field(name="Item2ItemTable", default="")
    similar_item_id_field: str = ""
    similar_item_score_field: str = ""
    merge_mode: Literal["", "snake"] = ""
    i2i_cache_size: int = msgspec.field(name="I2ICacheSize", default=0)
    i2i_cache_time: int = msgspec.field(name="I2ICacheTime", default=0)


class Row(NamedTuple):
    """One event. `properties` are the texts of PropertyFields."""

    item: str
    event: str
    play_time: float
    time: float
    properties: tuple[str, ...]


class RealTimeU2IRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """The user's recent items, each with a weight, through an item-to-item table: the best of similarity times weight.

    Without `Item2ItemTable` the recent items themselves. `MergeMode` "snake": one of each in turn, the heaviest first.
    Local: the history of the snapshot and the request, newest first, with a weight of 1 each.
    """

    real_time_user2_item_dao_conf: RealTimeDao = msgspec.field(name="RealTimeUser2ItemDaoConf")

    @property
    def dao(self) -> Dao:
        return self.real_time_user2_item_dao_conf.user_trigger_dao_conf

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store, table or column, or weights that cannot be read."""
        where = f"{self.where}.RealTimeUser2ItemDaoConf"
        dao = self.real_time_user2_item_dao_conf.user_trigger_dao_conf
        for place, rule in enumerate(dao.diversity_rules):
            for name in rule.dimensions:
                if name not in dao.property_fields:
                    raise ConfigError(
                        f'{where}.UserTriggerDaoConf.DiversityRules[{place}].Dimensions: "{name}" is not among '
                        f"PropertyFields, {', '.join(dao.property_fields) or 'none'}"
                    )
        if self.dao.checked(f"{where}.UserTriggerDaoConf", ("local", "hologres")) == "local":
            return local(at, self, where)
        return RealTime(at, self, where)


def weights_of(text: str, where: str) -> dict[str, float]:
    """`event:number;event:number`. Raises ConfigError: anything else."""
    found: dict[str, float] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        event, colon, number = part.rpartition(":")
        value = to_float(number, float("nan"))
        if not colon or value != value:
            raise ConfigError(f"{where}: expected EVENT:NUMBER;EVENT:NUMBER, got {text!r:.200}")
        found[event] = value
    return found


class Weigher:
    """From rows, newest first, to triggers with weights, heaviest first."""

    def __init__(self, dao: UserTriggerDao, where: str) -> None:
        """Raises ConfigError: an expression or a list of weights that cannot be read."""
        self._least = weights_of(dao.event_play_time, f"{where}.EventPlayTime")
        self._of_event = weights_of(dao.event_weight, f"{where}.EventWeight")
        self._of_time = Weight(dao.weight_expression, f"{where}.WeightExpression")
        self._largest, self._timed = dao.weight_mode == "max", not dao.no_use_play_time_field
        self._count = dao.trigger_count or dao.limit or LIMIT
        self._rules = [
            (tuple(map(dao.property_fields.index, rule.dimensions)), rule.size) for rule in dao.diversity_rules
        ]

    def __call__(self, rows: Sequence[Row], now: float) -> dict[str, float]:
        """Item -> weight."""
        if self._timed:
            rows = [row for row in rows if row.event not in self._least or row.play_time > self._least[row.event]]
        each = self._of_time(now, np.array([row.time for row in rows], np.float64)).tolist()
        weights, properties = dict[str, float](), dict[str, tuple[str, ...]]()
        for row, weight in zip(rows, each, strict=True):
            weight *= self._of_event.get(row.event, 1.0)
            before = weights.get(row.item)
            if before is not None:
                weight = max(before, weight) if self._largest else before + weight
            weights[row.item] = weight
            properties.setdefault(row.item, row.properties)
        heaviest = sorted(weights, key=lambda item: -weights[item])
        return {item: weights[item] for item in self.diverse(heaviest, properties.__getitem__)}

    def diverse(self, items: Sequence[str], of: Callable[[str], tuple[str, ...]]) -> list[str]:
        """The first of `items` whose properties are not yet those of as many as the rules allow."""
        chosen: list[str] = []
        taken: list[dict[tuple[str, ...], int]] = [{} for _ in self._rules]
        for item in items:
            if len(chosen) == self._count:
                break
            values = of(item) if self._rules else ()
            keys = [tuple(values[place] for place in places) for places, _ in self._rules]
            if all(known.get(key, 0) < size for known, key, (_, size) in zip(taken, keys, self._rules, strict=True)):
                for known, key in zip(taken, keys, strict=True):
                    known[key] = known.get(key, 0) + 1
                chosen.append(item)
        return chosen


class RealTime(Fetched):
    """Rows of a live table, then the rows of what is like them."""

    colons = ":"

    def __init__(self, at: Binding, conf: RealTimeU2IRecall, where: str) -> None:
        dao, user = conf.real_time_user2_item_dao_conf, conf.real_time_user2_item_dao_conf.user_trigger_dao_conf
        super().__init__(at, conf, conf.seconds(2 if dao.item2_item_table else 1))
        place = f"{where}.UserTriggerDaoConf"
        stores = stores_of(at, place)
        self._client = stores.postgres(user.hologres_name, f"{place}.HologresName")
        self._weigh, self._snake = Weigher(user, place), dao.merge_mode == "snake"
        self._timed, self._limit = not user.no_use_play_time_field, user.limit or LIMIT
        names = [user.item_id_field_name, user.event_field_name, user.timestamp_field_name]
        names += [user.play_time_field_name] if self._timed else []
        names += user.property_fields
        chosen = [self._client.identifier(name, place) for name in names]
        self._clause = Clause(user.where_clause, f"{place}.WhereClause")
        self.reads_user = self._clause.asks_user
        more = f" and ({self._clause.sql})".replace("{", "{{").replace("}", "}}") if self._clause.sql else ""
        self._statement = self._client.compose(
            f"select {', '.join(['{}'] * len(chosen))} from {{}} where {{}} = %s{more} order by {{}} desc limit %s",
            *chosen, self._client.identifier(user.hologres_table_name, f"{place}.HologresTableName"),
            self._client.identifier("user_id", place), chosen[2],
        )  # fmt: skip
        stores.run(self._client.check(self._statement, self._args("-1", {}, {}, 0), place)).result()
        self._similar = self._reader(stores, dao, where) if dao.item2_item_table else None
        self._known: Cache[str] | None = None
        if dao.i2i_cache_size > 0:
            self._known = Cache(dao.i2i_cache_time or SIMILAR_SECONDS, dao.i2i_cache_size)

    def _reader(self, stores: Any, dao: RealTimeDao, where: str) -> Read:
        if not dao.similar_item_id_field:
            return columns(self._client, stores, dao.item2_item_table, "item_id", "similar_item_ids", where)
        client, names = self._client, ("item_id", dao.similar_item_id_field, dao.similar_item_score_field or "score")
        parts = [client.identifier(name, where) for name in (*names, dao.item2_item_table)]
        statement = client.compose(
            "select {0}, {1}, {2} from {3} where {0} = any(%s::text[]) order by {2} desc", *parts
        )
        stores.run(client.check(statement, ([],), where)).result()

        async def read(keys: Sequence[str]) -> list[str | None]:
            lists: dict[str, list[str]] = {}
            for item, other, score in await client.rows(statement, (list(keys),), QUERY_SECONDS):
                lists.setdefault(str(item), []).append(f"{text_of(other)}:{score}")
            return [",".join(lists.get(key, ())) or None for key in keys]

        return read

    def _args(self, uid: str, user: dict[str, Any], context: dict[str, Any], limit: int) -> list[Any]:
        return [uid, *self._clause.args(int(time.time()), user, context), limit]

    async def gather(self, query: Query) -> tuple[dict[str, float], list[str | None]] | None:
        args = self._args(query.uid, query.user_features, query.context, self._limit)
        rows = [self._row(row) for row in await self._client.rows(self._statement, args, QUERY_SECONDS)]
        weights = self._weigh(rows, time.time())
        if not weights:
            return None
        return weights, await self._lists(list(weights)) if self._similar is not None else []

    def _row(self, row: tuple[Any, ...]) -> Row:
        """Whatever types the columns have, times are seconds and the rest is text."""
        item, event, moment, *others = row
        played = to_float(_plain(others.pop(0)), 0.0) if self._timed else 0.0
        properties = tuple(to_string(_plain(other), "") for other in others)
        seconds = moment.timestamp() if hasattr(moment, "timestamp") else to_float(_plain(moment), 0.0)
        return Row(to_string(_plain(item), ""), to_string(_plain(event), ""), played, seconds, properties)

    async def _lists(self, items: list[str]) -> list[str | None]:
        assert self._similar is not None
        if self._known is None:
            return await self._similar(items)
        known = {item: self._known.get(item) for item in items}
        if missing := [item for item, text in known.items() if text is None]:
            for item, text in zip(missing, await self._similar(missing), strict=True):
                known[item] = text or ""  # that there is none is remembered too
                self._known.put(item, text or "")
        return list(known.values())

    def found(self, query: Query, arena: Arena, got: tuple[dict[str, float], Sequence[str | None]]) -> Found:
        weights, texts = got
        if self._similar is None:
            items = list(weights)[: self._count]
            rows = np.array([query.row(item) for item in items], np.int32)
            return Found(rows, np.array([weights[item] for item in items], np.float64))
        lists: list[tuple[Entries, Numbers]] = []
        for weight, text in zip(weights.values(), texts, strict=True):
            listed = entries(text or "")
            similarity = np.where(np.isnan(listed.last), listed.first, listed.last)
            lists.append((listed, weight * np.where(np.isnan(similarity), 1.0, similarity)))
        if not self._snake:
            return merged(query, arena, self._ids, lists, self._count, largest=True)
        rows = np.concatenate([NOTHING.rows, *(rows_of(query, self._ids, listed) for listed, _ in lists)])
        scores = np.concatenate([NOTHING.scores, *(score for _, score in lists)])
        offset = np.cumsum([0, *(len(listed) for listed, _ in lists)], dtype=np.int64)
        places = in_turn(arena, rows, offset, self._count)
        return Found(rows[places], scores[places])


def _plain(value: Any) -> Any:
    """Numbers of the server's own kinds as doubles."""
    return float(value) if type(value).__name__ == "Decimal" else value


def local(at: Binding, conf: RealTimeU2IRecall, where: str) -> Stage:
    """On the history that the snapshot and the request have."""
    dao, user = conf.real_time_user2_item_dao_conf, conf.real_time_user2_item_dao_conf.user_trigger_dao_conf
    for name in ("where_clause", "event_play_time", "event_weight", "weight_expression"):
        if getattr(user, name) not in ("", "1"):
            key = "".join(part.title() for part in name.split("_"))
            raise ConfigError(f'{where}.UserTriggerDaoConf.{key}: a local history has items alone; use "hologres"')
    snapshot, count, source = at.snapshot, conf.checked(), at.source
    table: Neighbours | None = None
    if dao.item2_item_table:
        table = pick(snapshot.neighbours, dao.item2_item_table, f"{where}.Item2ItemTable")
    fields: list[Column] = [
        pick(snapshot.items.columns, name, f"{where}.UserTriggerDaoConf.PropertyFields")
        for name in user.property_fields
    ]
    weigh, snake = Weigher(user, f"{where}.UserTriggerDaoConf"), dao.merge_mode == "snake"

    def recall(query: Query, arena: Arena) -> None:
        newest = query.history[::-1]
        by_id = {str(row): row for row in newest.tolist()}
        properties = {
            id: tuple(to_string(column.value(row), "") for column in fields) for id, row in by_id.items()
        } if fields else {}  # fmt: skip
        rows = np.array([by_id[id] for id in weigh.diverse(list(by_id), lambda id: properties.get(id, ()))], np.int32)
        if table is None:
            bring(query, arena, Found(rows[:count], np.ones(min(count, len(rows)))), source)
            return
        spans = [(int(table.offset[row]), int(table.offset[row + 1])) for row in rows.tolist()]
        alike = np.concatenate([NOTHING.rows, *(table.neighbour[begin:end] for begin, end in spans)])
        scores = np.concatenate([NOTHING.scores, *(table.weight[begin:end] for begin, end in spans)])
        if snake:
            offset = np.cumsum([0, *(end - begin for begin, end in spans)], dtype=np.int64)
            places = in_turn(arena, alike, offset, count)
            bring(query, arena, Found(alike[places], scores[places]), source)
        else:
            bring(query, arena, Found(*merge(arena, alike, scores, count, largest=True)), source)

    return recall
