"""What is popular: with everyone, and in the user's group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add, merge
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import Found, best_first, entries, rows_of
from pairec_fast.recall.kind import Dao, Live, stores_of
from pairec_fast.recall.lists import Listed
from pairec_fast.recall.reading import QUERY_SECONDS, Read, reader, text_of
from pairec_fast.recall.trigger import SEVERAL, Trigger, lookup_ids, trigger_id
from pairec_fast.snapshot import Ranked, Snapshot, pick

EVERYONE = "-1"


class UserGlobalHotRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """A list for all. Entries without a score get a random one; longer than `recall_count`, the best remain.

    `DaoConf`: Redis by `RedisPrefix` and `-1`; in SQL the row of `trigger_id` `-1`, or one row an item where
    `ItemIdField` is set; local: `TableName` is a list of the snapshot. Live scores are properties `hot_score` too.
    *Source*: PAI-Rec, `UserGlobalHotRecall`.
    """

    dao_conf: Dao

    @property
    def dao(self) -> Dao:
        return self.dao_conf

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store or list, or it is one of groups."""
        where = f"{self.where}.DaoConf"
        if self.dao_conf.checked(where) != "local":
            return GlobalHot(at, self, self._reader(at, where))
        table = _list(at.snapshot, self.dao_conf, where)
        if table.by:
            raise ConfigError(f'{where}.TableName: a list by "{table.by}"; use UserGroupHotRecall')
        (rows, scores), count, source = table.of(0), self.checked(), at.source

        def recall(query: Query, arena: Arena) -> None:
            add(arena, rows, scores, source, count)

        return recall

    def _reader(self, at: Binding, where: str) -> Read:
        dao = self.dao_conf
        if dao.adapter_type == "hologres" and dao.item_id_field:
            return _by_rows(at, dao, self.checked(), where)
        return reader(at, dao, where, key="trigger_id", value="item_ids")


def _by_rows(at: Binding, dao: Dao, count: int, where: str) -> Read:
    """One row an item, by the highest scores. Raises ConfigError: no such table or columns."""
    stores = stores_of(at, where)
    client = stores.postgres(dao.hologres_name, f"{where}.HologresName")
    table = client.identifier(dao.hologres_table_name, f"{where}.HologresTableName")
    item = client.identifier(dao.item_id_field, f"{where}.ItemIdField")
    score = client.identifier(dao.item_score_field, f"{where}.ItemScoreField") if dao.item_score_field else None
    text = "select {0}, {1} from {2} order by {1} desc nulls last limit %s" if score else "select {0} from {2} limit %s"
    statement = client.compose(text, item, score, table)
    stores.run(client.check(statement, (0,), where)).result()

    async def read(keys: Sequence[str]) -> list[str | None]:
        rows = await client.rows(statement, (count,), QUERY_SECONDS)
        parts = (f"{text_of(row[0])}::{row[1]}" if score and row[1] is not None else text_of(row[0]) for row in rows)
        return [",".join(part for part in parts if part)]

    return read


class GlobalHot(Fetched):
    """A list for all, of a live store."""

    def __init__(self, at: Binding, conf: Live, read: Read) -> None:
        super().__init__(at, conf, conf.seconds())
        self._read = read

    def cache_key(self, query: Query) -> str:
        return self.name

    async def gather(self, query: Query) -> str | None:
        return (await self._read((EVERYONE,)))[0]

    def found(self, query: Query, arena: Arena, got: str) -> Found:
        listed = entries(got)
        missing = np.isnan(listed.last)
        seed = int.from_bytes(query.request_id.encode(errors="replace")[-16:], "little")
        scores = np.where(missing, np.random.default_rng(seed).random(len(listed)), listed.last)
        places = (
            best_first(scores, self._count) if len(listed) > self._count else np.arange(len(listed), dtype=np.int32)
        )
        codes, labels = listed.labels()
        return Found(rows_of(query, self._ids, listed, places), scores[places], codes[places], labels)

    def brought(self, query: Query, arena: Arena, found: Found, before: int) -> None:
        places = arena.place[before : arena.count]
        query.given.put("hot_score", places, arena.recall_score[before : arena.count].copy())


class UserGroupHotRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """The list of the user's group, which `Triggers` name; of each combination where a feature is a list.

    `DaoConf`: Redis by `RedisPrefix` and the group; in SQL columns `trigger_id` and `item_ids`; local: `TableName` is a
    list of the snapshot by a column of the users, whose texts are the groups.
    *Source*: PAI-Rec, `UserGroupHotRecall`.
    """

    dao_conf: Dao
    triggers: tuple[Trigger, ...]

    @property
    def dao(self) -> Dao:
        return self.dao_conf

    def groups(self, features: Mapping[str, Any]) -> list[str]:
        """Those of a user."""
        return lookup_ids(trigger_id(self.triggers, features))

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store or list, or one by another column than the one trigger's."""
        where = f"{self.where}.DaoConf"
        if not self.triggers:
            raise ConfigError(f"{self.where}.Triggers: missing; they name the group")
        for place, trigger in enumerate(self.triggers):
            if list(trigger.boundaries) != sorted(set(trigger.boundaries)):
                raise ConfigError(f"{self.where}.Triggers[{place}].Boundaries must ascend, got {trigger.boundaries}")
        if self.dao_conf.checked(where) != "local":
            read = reader(at, self.dao_conf, where, key="trigger_id", value="item_ids")
            return Listed(at, self, read, lambda query: self.groups(query.user_features), sort=True, reads_user=True)
        table = _list(at.snapshot, self.dao_conf, where)
        keys = [trigger.trigger_key for trigger in self.triggers]
        if not table.by or (len(keys) == 1 and keys != [table.by]):
            by = f'by "{table.by}"' if table.by else "of everyone"
            raise ConfigError(f"{self.where}.Triggers: the list is {by}, the triggers are {keys}")
        return self._local(at, table)

    def _local(self, at: Binding, table: Ranked) -> Stage:
        texts = at.snapshot.users.columns[table.by].texts
        assert texts is not None, "build makes lists by text columns only"
        code, count, source, by = texts.code, self.checked(), at.source, table.by
        triggers = [(trigger.trigger_key, trigger.text_of) for trigger in self.triggers]
        # The list of a user that the snapshot knows is that of the code the column has, if the code stands for itself.
        plain = len(triggers) == 1 and not self.triggers[0].boundaries and not any(SEVERAL in text for text in code)
        group_of = at.snapshot.users.columns[by].values.item

        def recall(query: Query, arena: Arena) -> None:
            if plain and query.user >= 0 and by not in query.user_loaded and (group := group_of(query.user)) >= 0:
                rows, scores = table.of(group)
                add(arena, rows, scores, source, count)
                return
            texts = [text_of(query.user_property(key)) for key, text_of in triggers]
            groups = lookup_ids(texts[0] if len(texts) == 1 else "_".join(texts))
            lists = [table.of(code[group]) for group in groups if group in code]
            if len(lists) == 1:
                add(arena, *lists[0], source, count)
            elif lists:
                rows, scores = (np.concatenate(parts) for parts in zip(*lists, strict=True))
                add(arena, *merge(arena, rows, scores.astype(np.float64), count, largest=True), source)

        return recall


def _list(snapshot: Snapshot, dao: Dao, where: str) -> Ranked:
    table: Ranked = pick(snapshot.lists, dao.table_name, f"{where}.TableName")
    return table
