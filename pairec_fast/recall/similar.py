"""Items like those the user chose, or like the one being looked at."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Neighbours
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.kind import Dao, positive
from pairec_fast.snapshot import pick


class UserCollaborativeFilterRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """The user's history through an item-to-item table: score = sum of weights, divided by the largest.

    `UserCollaborativeDaoConf`: `User2ItemTable` is "history", `Item2ItemTable` an item-to-item table.
    `TriggerCount`, ours: only that many of the newest items of the history are used; 0 uses all.
    *Source*: PAI-Rec, `UserCollaborativeFilterRecall`, with a preference of 1 for each item of the history.
    """

    name: str
    user_collaborative_dao_conf: Dao
    recall_count: int = 200
    trigger_count: int = 0

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such table, or a count that is none."""
        where, snapshot, source = f"RecallConfs.{self.name}", at.snapshot, at.source
        dao = self.user_collaborative_dao_conf.local(f"{where}.UserCollaborativeDaoConf")
        if dao.user2_item_table != "history":
            raise ConfigError(
                f'{where}.UserCollaborativeDaoConf.User2ItemTable: "{dao.user2_item_table}"; a snapshot has "history"'
            )
        table: Neighbours = pick(
            snapshot.neighbours, dao.item2_item_table, f"{where}.UserCollaborativeDaoConf.Item2ItemTable"
        )
        count, newest = positive(self.recall_count, where), self.trigger_count
        if newest < 0:
            raise ConfigError(f"{where}.TriggerCount must not be negative, got {newest}")

        def recall(query: Query, arena: Arena) -> None:
            before = arena.count
            if table.add_similar(arena, query.history[-newest:], count, source):  # -0: all
                scores = arena.recall_score[before : arena.count]
                if (largest := scores[0]) > 0:  # best first
                    scores /= largest

        return recall


class ItemCollaborativeFilterRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """The neighbours of the request's `item_id`. *Source*: PAI-Rec, `ItemCollaborativeFilterRecall`."""

    name: str
    item_collaborative_dao_conf: Dao
    recall_count: int = 200

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such table."""
        where, snapshot, source = f"RecallConfs.{self.name}", at.snapshot, at.source
        dao = self.item_collaborative_dao_conf.local(f"{where}.ItemCollaborativeDaoConf")
        table: Neighbours = pick(
            snapshot.neighbours, dao.item2_item_table, f"{where}.ItemCollaborativeDaoConf.Item2ItemTable"
        )
        count, find, overlay = positive(self.recall_count, where), snapshot.items.ids.find, snapshot.overlay

        def recall(query: Query, arena: Arena) -> None:
            row = find(query.item_id) if query.item_id else -1
            if row >= 0 and (row := overlay.base_of(row)) >= 0:
                table.add_similar(arena, np.array([row], np.int32), count, source)

        return recall
