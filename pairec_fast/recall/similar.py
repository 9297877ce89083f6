"""Items like those the user chose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Entries, Neighbours
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import Found, Numbers, entries, half_shuffled, merged
from pairec_fast.recall.kind import Dao, Live, UserItemDao
from pairec_fast.recall.reading import Read, reader
from pairec_fast.snapshot import pick

TRIGGERS_MAX = 200  # PAI-Rec's, of a table; of a Redis it is RecallCount


class UserCollaborativeFilterRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """The user's items through a table from items to items: score = sum of preference times similarity.

    Unless `Normalization` is "off", scores are divided by the largest. Through `Item2XTable` and `X2ItemTable`: what
    the user's items are, and the items that are such.

    `UserCollaborativeDaoConf`: Redis by `RedisPrefix` and the uid, then by the bare ids of items; in SQL columns
    `user_id`, `item_ids` of `User2ItemTable` and `item_id`, `similar_item_ids` of `Item2ItemTable`; local:
    `User2ItemTable` is "history", with a preference of 1 each, and `Item2ItemTable` a table of the snapshot.
    `TriggerCount`, ours: only that many of the newest items of a local history are used; 0 uses all.
    *Source*: PAI-Rec, `UserCollaborativeFilterRecall`.
    """

    user_collaborative_dao_conf: UserItemDao
    trigger_count: int = 0

    @property
    def dao(self) -> Dao:
        return self.user_collaborative_dao_conf

    @property
    def normalizes(self) -> bool:
        return self.user_collaborative_dao_conf.normalization in ("", "on")

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store or table, or a count that is none."""
        where, dao = f"{self.where}.UserCollaborativeDaoConf", self.user_collaborative_dao_conf
        if self.trigger_count < 0:
            raise ConfigError(f"{self.where}.TriggerCount must not be negative, got {self.trigger_count}")
        if dao.checked(where) == "local":
            return self._local(at, where)
        users = reader(at, dao, where, table=dao.user2_item_table, key="user_id", value="item_ids")
        if not dao.item2_x_table and not dao.x2_item_table:
            items = reader(
                at, dao, where, table=dao.item2_item_table, key="item_id", value="similar_item_ids", prefixed=False
            )
            return Similar(at, self, users, items)
        if not (dao.item2_x_table and dao.x2_item_table and dao.x_key) or dao.adapter_type != "hologres":
            raise ConfigError(
                f"{where}: Item2XTable and X2ItemTable go together, with XKey, the column that both have, and "
                'AdapterType "hologres"'
            )
        kinds = reader(at, dao, where, table=dao.item2_x_table, key="item_id", value=dao.x_key)
        items = reader(at, dao, where, table=dao.x2_item_table, key=dao.x_key, value="item_ids")
        return Alike(at, self, users, kinds, items, dao.x_delimiter)

    def _local(self, at: Binding, where: str) -> Stage:
        dao = self.user_collaborative_dao_conf
        if dao.user2_item_table != "history":
            raise ConfigError(f'{where}.User2ItemTable: "{dao.user2_item_table}"; a snapshot has "history"')
        if dao.item2_x_table or dao.x2_item_table:
            raise ConfigError(f'{where}.Item2XTable: a snapshot has none; use AdapterType "hologres"')
        table: Neighbours = pick(at.snapshot.neighbours, dao.item2_item_table, f"{where}.Item2ItemTable")
        count, newest, source, normalizes = self.checked(), self.trigger_count, at.source, self.normalizes

        def recall(query: Query, arena: Arena) -> None:
            table.add_similar(arena, query.history[-newest:], count, source, normalize=normalizes)  # -0: all

        return recall


class Triggers:
    """Ids with preferences, the same id once for each time it is listed."""

    def __init__(self, text: str, most: int, query: Query) -> None:
        listed = entries(text)
        places = half_shuffled(len(listed), most, query)
        self.ids = [listed.id(place) for place in places.tolist()]
        scores = listed.first[places]
        self.preferences: Numbers = np.where(np.isnan(scores), 1.0, scores)


class Similar(Fetched):
    """The user's row, then the rows of the items in it."""

    colons = ":"

    def __init__(self, at: Binding, conf: UserCollaborativeFilterRecall, users: Read, items: Read) -> None:
        super().__init__(at, conf, conf.seconds(2))
        self._users, self._items, self._normalizes = users, items, conf.normalizes
        self._most = self._count if conf.dao.adapter_type == "redis" else TRIGGERS_MAX

    async def gather(self, query: Query) -> tuple[Triggers, list[str | None]] | None:
        (text,) = await self._users((query.uid,))
        triggers = Triggers(text or "", self._most, query)
        return (triggers, await self._items(triggers.ids)) if triggers.ids else None

    def found(self, query: Query, arena: Arena, got: tuple[Triggers, Sequence[str | None]]) -> Found:
        triggers, texts = got
        lists: list[tuple[Entries, Numbers]] = []
        for preference, text in zip(triggers.preferences.tolist(), texts, strict=True):
            if text:
                listed = entries(text, colons=1, skip_null=True)
                # A similarity that is no number counts as 1.
                lists.append((listed, preference * np.where(np.isnan(listed.first), 1.0, listed.first)))
        return normalized(merged(query, arena, self._ids, lists, self._count, largest=False), self._normalizes)


class Alike(Fetched):
    """The user's row, what the items in it are, and the items that are such: score = preference of that times the
    item's. The user's own items are left out."""

    colons = ":"

    def __init__(
        self, at: Binding, conf: UserCollaborativeFilterRecall, users: Read, kinds: Read, items: Read, delimiter: str
    ) -> None:
        super().__init__(at, conf, conf.seconds(3))
        self._users, self._kinds, self._items, self._delimiter = users, kinds, items, delimiter
        self._normalizes = conf.normalizes

    async def gather(self, query: Query) -> tuple[set[str], dict[str, float], list[str | None]] | None:
        (text,) = await self._users((query.uid,))
        triggers = Triggers(text or "", TRIGGERS_MAX, query)
        preferences: dict[str, float] = {}
        if triggers.ids:
            for preference, kinds in zip(triggers.preferences.tolist(), await self._kinds(triggers.ids), strict=True):
                for kind in (kinds or "").split(self._delimiter) if self._delimiter else [kinds]:
                    if kind:
                        preferences[kind] = preferences.get(kind, 0.0) + preference
        if not preferences:
            return None
        return set(triggers.ids), preferences, await self._items(list(preferences))

    def found(self, query: Query, arena: Arena, got: tuple[set[str], dict[str, float], Sequence[str | None]]) -> Found:
        own, preferences, texts = got
        lists: list[tuple[Entries, Numbers]] = []
        for preference, text in zip(preferences.values(), texts, strict=True):
            if text:
                listed = entries(text)
                scores = np.where(np.isnan(listed.last), listed.first, listed.last)
                lists.append((listed, preference * np.where(np.isnan(scores), 1.0, scores)))
        found = merged(query, arena, self._ids, lists, self._count + len(own), largest=False)
        others = np.array([id not in own for id in query.ids(found.rows)], np.bool_)
        return normalized(
            Found(found.rows[others][: self._count], found.scores[others][: self._count]), self._normalizes
        )


def normalized(found: Found, normalizes: bool) -> Found:
    """Scores divided by the first and largest, where that is positive."""
    if normalizes and len(found.scores) and found.scores[0] > 0:
        return found._replace(scores=found.scores / found.scores[0])
    return found
