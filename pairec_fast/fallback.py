"""What is answered when a recommendation comes late, or brings too few items. *Source*: PAIREC 3.3.

Where PAI-Rec reads a view of FeatureStore, a list of the snapshot stands: the one that `TableName` names under
`AdapterType` "local", or one of the name of the view. The request's own list joins in either way.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

from pairec_fast.config import FallbackConfig
from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_float, to_string
from pairec_fast.reply import Item
from pairec_fast.snapshot import Ranked, Snapshot, pick

CONTEXT, FALLBACK = "ContextItemRecall", "Fallback"


class Fallback:
    """Attributes:

    seconds: how long a recommendation may take; 0 is for ever.
    completes: whether answers that are too short are filled up.
    lists: whether there is a list beside that of a request.
    """

    def __init__(self, conf: FallbackConfig, snapshot: Snapshot, where: str) -> None:
        """Raises ConfigError: the list that is named is not there, or is one of groups."""
        self.seconds, self.completes = conf.timeout / 1000, conf.complete_items_if_need
        self._find: Callable[[str], int] = snapshot.items.ids.find
        table, name = None, conf.raw.get("TableName") or ""
        view = conf.raw.get("FeatureStoreViewName") or ""
        if conf.raw.get("AdapterType") == "local":
            table = pick(snapshot.lists, name, f"{where}.TableName")
        elif view in snapshot.lists:
            table = snapshot.lists[view]
        self._scores = _scores(table, snapshot, f'{where}: the list "{name or view}"') if table is not None else {}
        self.lists = bool(self._scores)
        self._best = sorted(self._scores, key=lambda id: -self._scores[id])

    def popular(self, size: int) -> list[Item]:
        """The `size` best of the list; fewer where it has fewer."""
        there = (id for id in self._best if self._find(id) >= 0)  # not removed since
        return [Item(id, self._scores[id], FALLBACK) for id in islice(there, size)]

    def items(
        self, request_id: str, item_list: list[dict[str, Any]], size: int, without: Collection[str] = ()
    ) -> list[Item]:
        """At most `size` items: first those of both lists by the sum of their scores, then the request's own, then the
        others; of the latter two which come first is drawn from the request id."""
        given: dict[str, float] = {}
        for entry in item_list:
            id = to_string(entry.get("item_id"), "")
            if id and id not in without:
                given[id] = given.get(id, 0.0) + to_float(entry.get("score"), 0.0)
        both = [Item(id, score + self._scores[id], CONTEXT) for id, score in given.items() if id in self._scores]
        both.sort(key=lambda item: -item.score)
        own = [Item(id, score, CONTEXT) for id, score in given.items() if id not in self._scores]
        dice = random.Random(request_id)
        dice.shuffle(own)
        items = (both + own)[:size]
        if len(items) == size:
            return items
        others = list(self._scores)
        dice.shuffle(others)
        for id in others:
            if id not in given and id not in without and self._find(id) >= 0:  # not removed since
                items.append(Item(id, self._scores[id], FALLBACK))
                if len(items) == size:
                    break
        return items


def _scores(table: Ranked, snapshot: Snapshot, what: str) -> dict[str, float]:
    if table.by:
        raise ConfigError(f'{what} is by "{table.by}"; a fallback needs one for all')
    rows, scores = table.of(0)
    return {
        snapshot.items.ids.id(row): score for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    }  # fmt: skip
