"""Sorts through the stages that a configuration binds: suites sort, dpp and ssd."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.config.convert import Converter
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core import Arena, add, in_order
from pairec_fast.core.columns import MISSING, column_of
from pairec_fast.query import Query
from pairec_fast.rerank import KINDS
from pairec_fast.snapshot import Column, Snapshot
from tests.contract.engines import demo

ITEMS_MAX = 512
UID = "uid of no properties"


@cache
def snapshot() -> Snapshot:
    """The demo world's: the items of a case are strangers to it, so all they have is what the case gives."""
    return Snapshot.load(demo() / "snapshots", guests=ITEMS_MAX)


def stage_of(sort: dict[str, Any], at: Binding) -> Stage:
    """A sort's entry of SortConfs, read as a configuration reads it, and bound."""
    entry, document = {"Name": "case", **sort}, Document("case")
    document.value = {"SortConfs": [entry]}
    report = Report(document)
    conf = STAGES["sort"].take(entry, KINDS, 0, Converter(report), report)
    report.raise_errors()
    bound: Stage = conf.bind(at)
    return bound


class Walk:
    """A request up to its sorts. `items` are [id, score, retrieve_id] or [id, score, retrieve_id, properties]."""

    def __init__(self, items: list[list[Any]], user: dict[str, Any], size: int, params: dict[str, Any]) -> None:
        self.ids = [id for id, *_ in items]
        sources = list(dict.fromkeys(retrieve_id for _, _, retrieve_id, *_ in items))
        count = max(1, len(items))
        self.query = Query(
            snapshot(), UID, size, user, history_max=1, request_id="case", sources=sources, places=count, params=params
        )
        self.arena = Arena(count, items_max=snapshot().overlay.capacity)
        self.arena.reset()
        self.arena.follow(snapshot().overlay)
        for id, score, retrieve_id, *_ in items:
            add(
                self.arena,
                np.array([self.query.row(id)], np.int32),
                np.array([score], float),
                sources.index(retrieve_id),
            )
        assert self.arena.count == len(items), "an id is given twice"
        self.arena.score[: len(items)] = [score for _, score, *_ in items]
        self.arena.scored = True
        given = [dict(*more) for _, _, _, *more in items]
        for name in dict.fromkeys(name for one in given for name in one):
            column = column_of([one.get(name, MISSING) for one in given])
            self.query.given.put(name, self.arena.place[: len(items)], column)
        in_order(self.arena)

    def binding(self, **more: Any) -> Binding:
        return Binding(snapshot(), self.query.sources, params=self.query.params, **more)

    def order(self) -> list[int]:
        return self.arena.order[: self.arena.order_count].tolist()


def run_sort(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """What of a sort's outcome the case speaks of."""
    items = given.get("items", [])
    walk = Walk(items, given.get("user", {}), given.get("size", len(items) or 10), given.get("params", {}))
    called: list[str] = []

    def named(name: str) -> Stage:
        return lambda query, arena: called.append(name)

    stage = stage_of(given["sort"], walk.binding(sort=named))
    begin = time.monotonic()
    stage(walk.query, walk.arena)
    seconds = time.monotonic() - begin
    order, scores = walk.order(), walk.arena.score.tolist()
    ids = [walk.ids[slot] for slot in order]

    def properties(name: str) -> list[Any]:
        values = walk.query.properties(walk.arena).of_each(name, np.array(order, np.int32))
        return [None if value is MISSING else value for value in values]

    measured: dict[str, Callable[[], Any]] = {
        "ids": lambda: ids,
        "scores": lambda: [scores[slot] for slot in order],
        "scores_first3": lambda: [scores[slot] for slot in order[:3]],
        "length": lambda: len(ids),
        "no_null": lambda: None not in ids,
        "unique": lambda: len(set(ids)) == len(ids),
        "sort_called": lambda: called[0] if called else None,
        "terminates_within_seconds": lambda: max(seconds, expected["terminates_within_seconds"]),
    }
    return {name: measured[name]() if name in measured else properties(name) for name in expected}


def run_dpp(given: dict[str, Any]) -> dict[str, Any]:
    conf = {"Alpha": given["alpha"], "WindowSize": given["window"]}
    return _chosen("DPPSort", "DPPConf", "dpp_", conf, given)


def run_ssd(given: dict[str, Any]) -> dict[str, Any]:
    conf = {"WindowSize": given["window"], "Gamma": given["gamma"], "UseSSDStar": given.get("use_ssd_star", False)}
    return _chosen("SSDSort", "SSDConf", "ssd_", conf, given)


# What a case may say beside the above: keys of the configuration by the case's.
KEYS = {
    "abort_run_count": "AbortRunCount",
    "candidate_count": "CandidateCount",
    "min_score_percent": "MinScorePercent",
    "emb_missed_threshold": "EmbMissedThreshold",
    "filter_retrieve_ids": "FilterRetrieveIds",
}
NORMS = {"DPPSort": "norm_relevance_score", "SSDSort": "norm_quality_score"}


def _chosen(kind: str, key: str, prefix: str, conf: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The order that a sort gives vectors which are a column of the items."""
    embeddings, scores = given["embeddings"], given["scores"]
    retrieve_ids = given.get("retrieve_ids", [""] * len(scores))
    walk = Walk(
        [[f"case {at}", score, source] for at, (score, source) in enumerate(zip(scores, retrieve_ids, strict=True))],
        {}, given["size"], {f"{prefix}{name}": value for name, value in given.items() if name in NORMS.values()},
    )  # fmt: skip
    dim = max((len(one) for one in embeddings if one), default=1)
    table = np.zeros((snapshot().overlay.capacity, dim), np.float32)
    for row, vector in zip(walk.arena.row.tolist(), embeddings, strict=False):
        table[row] = vector or 0.0
    entry = {
        "SortType": kind,
        key: conf | {
            "DaoConf": {"AdapterType": "local"},
            "EmbeddingColumn": "embedding of the case",
            "NormalizeEmb": str(given.get("normalize_emb", True)).lower(),
            "EnsurePositiveSim": str(given.get("ensure_positive_sim", True)).lower(),
            **{KEYS[name]: value for name, value in given.items() if name in KEYS},
        },
    }  # fmt: skip
    columns: Any = snapshot().items.columns
    columns["embedding of the case"] = Column("vector", table, None)
    try:
        stage_of(entry, walk.binding())(walk.query, walk.arena)
    finally:
        del columns["embedding of the case"]
    return {"indices": walk.order()}
