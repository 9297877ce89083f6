"""Filters over given candidates, bound as a scene binds them: suite filter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.config.convert import Converter
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core import Arena, IdMap, Overlay, add, build_slots
from pairec_fast.core.columns import MISSING, column_of
from pairec_fast.filter import KINDS
from pairec_fast.filter.kind import scores
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, History, Table


def run_filter(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What the filter leaves of `items`: of the answer, the parts that are expected."""
    case = Case(given["items"], given.get("user", {}))
    filters = {name: parsed({"Name": name} | conf) for name, conf in given.get("other_filters", {}).items()}
    chain = [parsed({"Name": "UniqueFilter", "FilterType": "UniqueFilter"})] if given.get("unique_filter_first") else []
    chain.append(parsed({"Name": "filter"} | given["filter"]))
    for conf in chain:
        case.run(conf.bind(case.binding(filters)))
    answer = case.answer()
    return {name: answer[name] for name in expected}


def parsed(conf: dict[str, Any]) -> Any:
    """An entry of FilterConfs, as the configuration reads it."""
    report = Report(Document("case"))
    struct = STAGES["filter"].take(conf, KINDS, 0, Converter(report), report)
    report.raise_errors()
    return struct


class Case:
    """Candidates [id, score, recall] or [id, score, recall, properties], of items that no snapshot knows."""

    def __init__(self, items: list[list[Any]], user: dict[str, Any], request_id: str = "") -> None:
        self.sources = list(dict.fromkeys(item[2] for item in items))
        self.snapshot: Any = without_items(len(items))
        self.query = Query(
            self.snapshot, user.get("uid", "user"), 10, user, history_max=10, sources=self.sources, places=len(items),
            request_id=request_id,
        )  # fmt: skip
        self.arena = Arena(max(1, len(items)), items_max=self.snapshot.overlay.capacity)
        self.arena.reset(True)
        self.arena.follow(self.snapshot.overlay)
        for id, score, source, *_ in items:
            row = np.array([self.query.row(id)], np.int32)
            add(self.arena, row, np.array([score], np.float64), self.sources.index(source))
        known = [(item[3] if len(item) > 3 else {}) for item in items]
        places = np.arange(len(items), dtype=np.int32)
        for name in dict.fromkeys(name for properties in known for name in properties):
            self.query.given.put(name, places, column_of([one.get(name, MISSING) for one in known]))

    def binding(self, filters: dict[str, Any] | None = None, **more: Any) -> Binding:
        """`filters` are those that another may lead to, by name."""
        known = filters or {}

        def bound(name: str) -> Stage:
            stage: Stage = known[name].bind(self.binding(known, **more))
            return stage

        return Binding(self.snapshot, self.sources, filter=bound, **more)

    def run(self, stage: Stage) -> None:
        stage(self.query, self.arena)

    def answer(self) -> dict[str, Any]:
        """PAI-Rec's items: ids, scores, recalls, and of those that were merged the scores of all their recalls."""
        count = self.arena.count
        ids = self.query.ids(self.arena.row[:count])
        told = self.query.properties(self.arena).of_each("snake_filter", np.arange(count, dtype=np.int32))
        merged = {}
        if self.query.merged is not None:
            places = self.arena.place[:count].tolist()
            all_scores = [self.query.merged.scores(place) for place in places]
            merged = {
                id: {self.sources[source]: score for source, score in one}
                for id, one in zip(ids, all_scores, strict=True)
                if len(one) > 1
            }
        return {
            "ids": ids,
            "scores": scores(self.arena).tolist(),
            "retrieve_ids": [self.sources[source] for source in self.arena.source[:count].tolist()],
            "count": count,
            "recall_scores": merged,
            "snake_filter": {id: text for id, text in zip(ids, told, strict=True) if text is not MISSING},
        }


def without_items(guests: int) -> Any:
    """What filters read of a snapshot that knows nothing, with room for so many items that a request brings."""
    text, offset = np.frombuffer(b"-", np.uint8), np.array([0, 1], np.uint64)
    ids = IdMap(text, offset, build_slots(text, offset))
    overlay = Overlay(1, guests)
    first = overlay.reserve(guests)
    nothing = History(np.zeros(2, np.int64), np.empty(0, np.int32))
    return SimpleNamespace(
        items=Table("items", ids, {}), users=Table("users", ids, {}), history=nothing, overlay=overlay,
        guests=range(first, first + guests), lists={}, follow=lambda update: None,
    )  # fmt: skip


def nothing_known(rows: int) -> Column:
    """A column of an item table in which every value is missing."""
    return Column("number", np.full(rows, np.nan), None)
