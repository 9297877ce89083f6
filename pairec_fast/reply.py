"""order -> row -> item id -> reply, and what the log keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Shown
from pairec_fast.core.columns import MISSING
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, Snapshot

ENOUGH, SHORT = (200, "success"), (299, "items size not enough")


class Item(msgspec.Struct, omit_defaults=True):
    """`retrieve_id` is the recall that found it; `extra` what `OutputFields` asks for.

    Of a request with `debug`: where traffic control has moved it, if it has; and `explain`: algorithm -> feature ->
    [its value, what it adds to the raw score].
    """

    item_id: str
    score: float
    retrieve_id: str
    origin_position: Any = None
    new_position: Any = None
    traffic_control_id: Any = None
    extra: dict[str, Any] | None = None
    explain: dict[str, Any] | None = None


class Reply(msgspec.Struct):
    """Of `/api/rec/feed`. `code` 200, or 299 with fewer items than asked for.

    `degraded`, ours: what the answer had to do without, each as `name: why`; left out when there is nothing.
    """

    code: int
    msg: str
    request_id: str
    size: int
    experiment_id: str
    items: list[Item]
    logs: list[str] | msgspec.UnsetType = msgspec.UNSET
    degraded: list[str] | msgspec.UnsetType = msgspec.UNSET


def by_name(outputs: Sequence[str], scores: NDArray[np.float64]) -> list[dict[str, float]]:
    """Of `scores` [outputs, items], those of each item."""
    return [dict(zip(outputs, each, strict=True)) for each in scores.T.tolist()]


def shown_of(scene: str, snapshot: Snapshot, columns: Mapping[str, Column], outputs: Sequence[str]) -> Shown | None:
    """What makes records of recommendations whose items have no properties but `columns` of the snapshot.

    None where an entry would not be flat, or a column have the name of what is said of every item.
    """
    named = columns.keys() & {"item_id", "score", "algo_scores"}
    if named or any(column.kind == "vector" for column in columns.values()):
        return None
    stored = {name: (one.values, one.texts.stored if one.texts is not None else None) for name, one in columns.items()}
    return Shown(scene, snapshot.fingerprint, snapshot.items.ids, stored, tuple(outputs))


_POSITIONS = {
    "origin_position": "_ORIGIN_POSITION_",
    "new_position": "_NEW_POSITION_",
    "traffic_control_id": "__traffic_control_id__",
}


class Writer:
    """Makes replies of one scene. `outputs` names the algorithm columns."""

    def __init__(self, outputs: Sequence[str], fields: list[str]) -> None:
        self.outputs = outputs
        # Entries without exactly one colon are skipped, as PAI-Rec does.
        self._fields = [tuple(field.split(":")) for field in fields if field.count(":") == 1]

    def items(self, query: Query, arena: Arena, size: int) -> list[Item]:
        """The first `size` of `arena.order`."""
        slots = arena.order[: min(size, arena.order_count)]
        ids, scores = query.ids(arena.row[slots]), arena.score[slots].tolist()
        items = [
            Item(id, score if abs(score) <= 1.7e308 else 0.0, name)
            for id, score, name in zip(ids, scores, query.recall_names(arena, slots), strict=True)
        ]
        if self._fields:
            self._put_extra(items, query, arena, slots)
        return items

    def recalled(self, query: Query, arena: Arena, size: int) -> list[Item]:
        """The first `size` candidates as they came, with the scores of recall."""
        count = min(size, arena.count)
        ids, names = query.ids(arena.row[:count]), query.recall_names(arena, slice(count))
        scores = arena.recall_score[:count].tolist()
        return [Item(id, score, name) for id, score, name in zip(ids, scores, names, strict=True)]

    def algo_scores(self, arena: Arena, slots: NDArray[np.int32]) -> list[dict[str, float]]:
        """The outputs of all algorithms for each slot, by name."""
        outputs = tuple(self.outputs)  # once: a model server's first answer may add to them meanwhile
        return by_name(outputs, arena.algo_score[: len(outputs), slots])

    def put_positions(self, items: list[Item], query: Query, arena: Arena) -> None:
        """What `debug` adds: properties of the items under names of PAI-Rec's."""
        properties, slots = query.properties(arena), arena.order[: len(items)]
        for field, name in _POSITIONS.items():
            if name in properties:
                for item, value in zip(items, properties.of_each(name, slots), strict=True):
                    setattr(item, field, None if value is MISSING else value)

    def _put_extra(self, items: list[Item], query: Query, arena: Arena, slots: NDArray[np.int32]) -> None:
        properties = query.properties(arena)
        scores = self.algo_scores(arena, slots)
        for item in items:
            item.extra = {}
        for kind, name in self._fields:
            values: list[Any]
            if kind == "item":
                values = properties.of_each(name, slots)
            elif kind == "score":
                values = scores if name == "*" else [one.get(name, 0.0) for one in scores]
            else:
                continue
            key = "algo_scores" if (kind, name) == ("score", "*") else name
            for item, value in zip(items, values, strict=True):
                assert item.extra is not None
                item.extra[key] = None if value is MISSING else value
