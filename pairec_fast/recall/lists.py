"""Lists that are looked up: of a user, and of an item."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Neighbours, add
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import Found, best_first, bring, entries, half_shuffled, rows_of, scored
from pairec_fast.recall.kind import Dao, Live, UserItemDao
from pairec_fast.recall.reading import Read, reader
from pairec_fast.snapshot import Column, pick

Keys = Callable[[Query], Sequence[str]]


class Listed(Fetched):
    """The lists of some keys, one after the other: best first, or in their order, then cut."""

    def __init__(
        self, at: Binding, conf: Live, read: Read, keys: Keys, *, sort: bool, reads_user: bool = False
    ) -> None:
        super().__init__(at, conf, conf.seconds())
        self._read, self._keys, self._sort, self.reads_user = read, keys, sort, reads_user

    def cache_key(self, query: Query) -> str:
        return "_".join(self._keys(query))

    async def gather(self, query: Query) -> str | None:
        keys = self._keys(query)
        return ",".join(text for text in await self._read(keys) if text) if keys else None

    def found(self, query: Query, arena: Arena, got: str) -> Found:
        listed = entries(got)
        scores = scored(listed)
        places = best_first(scores, self._count) if self._sort else half_shuffled(len(listed), self._count, query)
        codes, labels = listed.labels()
        return Found(rows_of(query, self._ids, listed, places), scores[places], codes[places], labels)


class UserCustomRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """The user's own list. Longer than `recall_count`: its first half is shuffled, then it is cut.

    `DaoConf`: Redis by `RedisPrefix` and the uid; in SQL columns `user_id` and `item_ids` of `HologresTableName`;
    local: `TableName` is a text column of the users.
    *Source*: PAI-Rec, `UserCustomRecall`.
    """

    dao_conf: Dao

    @property
    def dao(self) -> Dao:
        return self.dao_conf

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store, table or column."""
        where = f"{self.where}.DaoConf"
        if self.dao_conf.checked(where) == "local":
            return self._local(at, f"{where}.TableName")
        read = reader(at, self.dao_conf, where, key="user_id", value="item_ids")
        return Listed(at, self, read, lambda query: (query.uid,), sort=False)

    def _local(self, at: Binding, where: str) -> Stage:
        column: Column = pick(at.snapshot.users.columns, self.dao_conf.table_name, where)
        if column.kind != "text":
            raise ConfigError(f"{where}: users.{self.dao_conf.table_name} is a {column.kind}; expected texts of items")
        ids, count, source = at.snapshot.items.ids, self.checked(), at.source

        def recall(query: Query, arena: Arena) -> None:
            text = column.value(query.user) if query.user >= 0 else None
            if text:
                listed = entries(text)
                places = half_shuffled(len(listed), count, query)
                codes, labels = listed.labels()
                found = Found(listed.rows(ids)[places], scored(listed)[places], codes[places], labels)
                bring(query, arena, found, source)

        return recall


class ItemCollaborativeFilterRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """Items like the request's `item_id`, or like several, with `MultipleItemIdDelimiter` between them.

    `ItemCollaborativeDaoConf`: Redis by `RedisPrefix` and the id; in SQL columns `item_id` and `item_ids` of
    `Item2ItemTable`; local: `Item2ItemTable` is an item-to-item table of the snapshot, whose weights are summed.
    *Source*: PAI-Rec, `ItemCollaborativeFilterRecall`.
    """

    item_collaborative_dao_conf: UserItemDao
    enable_multiple_item_id: bool = False
    multiple_item_id_delimiter: str = ","

    @property
    def dao(self) -> Dao:
        return self.item_collaborative_dao_conf

    def items(self, query: Query) -> list[str]:
        """The ids that the request names."""
        if not query.item_id:
            return []
        if not self.enable_multiple_item_id:
            return [query.item_id]
        return [id for id in query.item_id.split(self.multiple_item_id_delimiter or ",") if id]

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store or table."""
        where, dao = f"{self.where}.ItemCollaborativeDaoConf", self.item_collaborative_dao_conf
        if dao.checked(where) != "local":
            read = reader(at, dao, where, table=dao.item2_item_table, key="item_id", value="item_ids")
            return Listed(at, self, read, self.items, sort=True)
        snapshot, count, source = at.snapshot, self.checked(), at.source
        table: Neighbours = pick(snapshot.neighbours, dao.item2_item_table, f"{where}.Item2ItemTable")
        find, overlay = snapshot.items.ids.find, snapshot.overlay

        def recall(query: Query, arena: Arena) -> None:
            rows = [find(id) for id in self.items(query)]
            bases = [base for row in rows if row >= 0 and (base := overlay.base_of(row)) >= 0]
            if bases:
                table.add_similar(arena, np.array(bases, np.int32), count, source)

        return recall


class MockRecall(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """`recall_count` random 32-bit ids with random scores in [0, 1), drawn from a hash of the request's id.

    *Source*: PAI-Rec, `MockRecall`.
    """

    name: str
    recall_count: int = 200

    @property
    def brings_guests(self) -> bool:
        return True

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a count that is not positive."""
        if self.recall_count <= 0:
            raise ConfigError(f"RecallConfs.{self.name}.RecallCount must be positive, got {self.recall_count}")

        def recall(query: Query, arena: Arena) -> None:
            seed = int.from_bytes(query.request_id.encode(errors="replace")[-16:], "little")
            draw = np.random.default_rng(seed)
            ids = draw.integers(0, 1 << 32, self.recall_count, dtype=np.uint64).tolist()
            rows = np.array([query.row(str(id)) for id in ids], np.int32)
            known = rows >= 0
            add(arena, rows[known], draw.random(self.recall_count)[known], at.source)

        return recall
