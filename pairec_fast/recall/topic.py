"""Items of the topics that a user likes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.query import Query
from pairec_fast.recall.fetched import Fetched
from pairec_fast.recall.found import NOTHING, Found, entries, rows_of
from pairec_fast.recall.kind import Dao, Live, TopicDao
from pairec_fast.recall.reading import Read, reader

TOPICS_MAX = 200


class UserTopicRecall(Live, frozen=True, rename="pascal", kw_only=True):
    """The user's topics, each with a share of `recall_count` by its weight, and the first items of each.

    `UserTopicDaoConf`: Redis by `RedisPrefix` and the uid (`topic:weight,...`), then by `RedisPrefix` and the topic; in
    SQL columns `user_id`, `topics` of `UserTopicTable` and `topic`, `item_ids` of `TopicItemTable`.
    *Source*: PAI-Rec, `UserTopicRecall`.
    """

    user_topic_dao_conf: TopicDao

    @property
    def dao(self) -> Dao:
        return self.user_topic_dao_conf

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such store or table."""
        where, dao = f"{self.where}.UserTopicDaoConf", self.user_topic_dao_conf
        users = reader(at, dao, where, table=dao.user_topic_table, key="user_id", value="topics")
        topics = reader(at, dao, where, table=dao.topic_item_table, key="topic", value="item_ids")
        return Topics(at, self, users, topics)


class Topics(Fetched):
    """The user's row, then the rows of the topics in it."""

    def __init__(self, at: Binding, conf: Live, users: Read, topics: Read) -> None:
        super().__init__(at, conf, conf.seconds(2))
        self._users, self._topics = users, topics

    async def gather(self, query: Query) -> tuple[list[int], list[str | None]] | None:
        (text,) = await self._users((query.uid,))
        listed = entries(text or "")
        count = min(len(listed), TOPICS_MAX)
        weights = np.maximum(np.where(np.isnan(listed.first), 1.0, listed.first)[:count], 0.0)
        if not count or not (total := weights.sum()) > 0:
            return None
        shares = np.floor(self._count * (weights / total) + 0.5).astype(int).tolist()
        return shares, await self._topics([listed.id(place) for place in range(count)])

    def found(self, query: Query, arena: Arena, got: tuple[Sequence[int], Sequence[str | None]]) -> Found:
        rows, scores = [NOTHING.rows], [NOTHING.scores]
        for share, text in zip(*got, strict=True):
            listed = entries(text or "")
            places = np.arange(min(share, len(listed)), dtype=np.int32)
            score = np.where(np.isnan(listed.last), listed.first, listed.last)[places]
            rows.append(rows_of(query, self._ids, listed, places))
            scores.append(np.where(np.isnan(score), 0.0, score))
        return Found(np.concatenate(rows)[: self._count], np.concatenate(scores)[: self._count])
