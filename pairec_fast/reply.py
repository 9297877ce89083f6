"""order -> row -> item id -> reply."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.snapshot import Snapshot

ENOUGH, SHORT = (200, "success"), (299, "items size not enough")


class Item(msgspec.Struct, omit_defaults=True):
    """`retrieve_id` is the recall that found it; `extra` what `OutputFields` asks for.

    `explain`, of a request with `debug`: algorithm -> feature -> [its value, what it adds to the raw score].
    """

    item_id: str
    score: float
    retrieve_id: str
    extra: dict[str, Any] | None = None
    explain: dict[str, Any] | None = None


class Reply(msgspec.Struct):
    """Of `/api/rec/feed`. `code` 200, or 299 with fewer items than asked for."""

    code: int
    msg: str
    request_id: str
    size: int
    experiment_id: str
    items: list[Item]
    logs: list[str] | msgspec.UnsetType = msgspec.UNSET


class Writer:
    """Makes replies of one scene. `sources` names the recalls; `outputs` the algorithm columns."""

    def __init__(self, snapshot: Snapshot, sources: list[str], outputs: list[str], fields: list[str]) -> None:
        self._id, self._columns = snapshot.items.ids.id, snapshot.items.columns
        self._sources, self._outputs = sources, outputs
        # Entries without exactly one colon are skipped, as PAI-Rec does.
        self._fields = [tuple(field.split(":")) for field in fields if field.count(":") == 1]

    def items(self, arena: Arena, size: int) -> list[Item]:
        """The first `size` of `arena.order`."""
        slots = arena.order[: min(size, arena.order_count)]
        rows, scores = arena.row[slots].tolist(), arena.score[slots].tolist()
        sources = arena.source[slots].tolist()
        items = [
            Item(self._id(row), score if abs(score) <= 1.7e308 else 0.0, self._sources[source])
            for row, score, source in zip(rows, scores, sources, strict=True)
        ]
        if self._fields:
            for item, row, slot in zip(items, rows, slots.tolist(), strict=True):
                item.extra = self._extra(arena, row, slot)
        return items

    def recalled(self, arena: Arena, size: int) -> list[Item]:
        """The first `size` candidates as they came, with the scores of recall."""
        count = min(size, arena.count)
        rows, sources = arena.row[:count].tolist(), arena.source[:count].tolist()
        scores = arena.recall_score[:count].tolist()
        return [
            Item(self._id(row), score, self._sources[source])
            for row, score, source in zip(rows, scores, sources, strict=True)
        ]

    def algo_scores(self, arena: Arena, slot: int) -> dict[str, float]:
        return {name: arena.algo_score[column, slot].item() for column, name in enumerate(self._outputs)}

    def algo_scores_of_each(self, arena: Arena, slots: NDArray[np.int32]) -> list[dict[str, float]]:
        """`algo_scores` of each slot, in a fraction of the time."""
        columns = arena.algo_score[: len(self._outputs), slots].T.tolist()
        return [dict(zip(self._outputs, scores, strict=True)) for scores in columns]

    def _extra(self, arena: Arena, row: int, slot: int) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        for kind, name in self._fields:
            if kind == "item":
                column = self._columns.get(name)
                extra[name] = None if column is None else column.value(row)
            elif kind == "score" and name == "*":
                extra["algo_scores"] = self.algo_scores(arena, slot)
            elif kind == "score":
                extra[name] = self.algo_scores(arena, slot).get(name, 0.0)
        return extra
