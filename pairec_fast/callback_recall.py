"""Which recall finds the items of a callback: the scene `<scene>_callback` may have recalls, and they are asked.

*Source*: PAI-Rec (PAIREC 9.3, 8).
"""

from __future__ import annotations

import numpy as np

from pairec_fast.bound import Bound
from pairec_fast.callback import Record, item_features
from pairec_fast.limits import LimitConf
from pairec_fast.logs import Waits
from pairec_fast.query import Query
from pairec_fast.walk import Walker


def recalled(bound: Bound, walker: Walker, limits: LimitConf, record: Record) -> Waits[dict[str, str]]:
    """The name of the recall that finds it, by item id, of those items of `record` that are found.

    What several recalls bring counts as the first one's; in PAI-Rec, as that of the one that is done last. Filters do
    not act. The record's features are the user's: what the callback loads is among them.

    Raises:
        ConfigError: experiments make of the scene what cannot be bound.
    """
    name = f"{record.scene}_callback"
    params = bound.match(name, record.uid, {}).params
    scene, _ = bound.variants.of(name, "default", params)
    if scene is None or not scene.recalls:
        return {}
    query = Query(
        scene.snapshot, record.uid, len(record.items), record.features, history_max=limits.history_max,
        request_id=record.request_id, sources=scene.sources, places=limits.candidates_max, params=params,
    )  # fmt: skip
    arena = yield from walker.found(scene, query)
    try:
        wanted = np.array([query.row(entry["item_id"]) for entry in record.items], np.int32)
        slots = np.flatnonzero(np.isin(arena.row[: arena.count], wanted)).astype(np.int32)
        return dict(zip(query.ids(arena.row[slots]), query.recall_names(arena, slots), strict=True))
    finally:
        walker.give(arena)


def name_recalls(bound: Bound, walker: Walker, limits: LimitConf, record: Record) -> Waits[None]:
    """Let the record tell of its items what PAI-Rec tells of an item that a recall has found. Its score is 0: the
    callback's own `score` is a property.
    """
    names = yield from recalled(bound, walker, limits, record)
    if names:
        record.items = [item_features(entry, names.get(entry["item_id"], ""), 0.0) for entry in record.items]
