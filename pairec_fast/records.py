"""What is told of a recommendation beside its callback: the feature log, and debug records of what each stage left.

Both are taken out of the arena while it is this request's, as arrays, and become text after the answer. They go through
the sinks of callbacks as rows that are ready; what no sink takes in time is dropped and counted. Sampling is drawn from
the request id, so it can be repeated. *Source*: PAIREC 11.1, 11.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.callback import draw, item_features
from pairec_fast.core import Arena
from pairec_fast.expression.convert import to_string
from pairec_fast.messages import go_json

_encode = msgspec.msgpack.Encoder().encode


def ready(key: str, rows: Sequence[str]) -> bytes:
    """The bytes of a record whose rows are ready (csrc/expand.hpp): `key` is that of its messages."""
    return _encode((key, rows))


class Shown(NamedTuple):
    """An item of the answer, with what is known of it."""

    item_id: str
    source: str
    score: float
    algo_scores: dict[str, float]
    properties: dict[str, Any]


class Request(NamedTuple):
    """What every record of a request repeats. `exp_id` is None without experiments."""

    request_id: str
    scene: str
    exp_id: str | None
    time: int
    uid: str


class FeatureLogConf(Protocol):
    """`FeatureLogConfs` of a scene."""

    @property
    def rate(self) -> int: ...
    @property
    def user_features(self) -> str: ...
    @property
    def item_features(self) -> str: ...
    @property
    def split_user_item_logs(self) -> bool: ...


def is_logged(conf: FeatureLogConf, request_id: str) -> bool:
    """Whether the feature log has this request: `rate` percent; 0 and 100 are always."""
    return conf.rate in (0, 100) or draw(request_id, "feature log") * 100 < conf.rate


def feature_log(
    conf: FeatureLogConf, request: Request, user: Mapping[str, Any], items: Sequence[Shown]
) -> list[str]:  # fmt: skip
    """The rows of the feature log: one an item, and before them the user's own if the configuration splits them."""
    if not items:
        return []
    shared: dict[str, Any] = {
        "request_id": request.request_id, "scene_id": request.scene, "request_time": request.time,
        "user_id": request.uid,
    }  # fmt: skip
    if request.exp_id is not None:
        shared["exp_id"] = request.exp_id
    chosen = _fields(conf.user_features, user, user)
    text = go_json(chosen) if chosen else ""
    with_user = shared | {"user_features": text} if text else shared
    rows = [with_user] if conf.split_user_item_logs else []
    head = shared if conf.split_user_item_logs else with_user
    for position, item in enumerate(items, 1):
        features: dict[str, Any] = {
            "retrieve_id": item.source, "score": item.score, "algo_score": item.algo_scores or None,
        }  # fmt: skip
        all_features = item_features(item.properties, item.source, item.score)
        features |= _fields(conf.item_features, item.properties, all_features)
        row = head | {"item_id": item.item_id, "position": str(position)}
        if text := go_json(features):
            row["item_features"] = text
        rows.append(row)
    return [go_json(row) for row in rows]


def _fields(names: str, values: Mapping[str, Any], everything: Mapping[str, Any]) -> dict[str, Any]:
    """`*` is all, "" nothing, a list between commas those named: null where there is none."""
    if names == "*":
        return dict(everything)
    return {name: values.get(name) for name in names.split(",")} if names else {}


class DebugConf(Protocol):
    """`DebugConfs` of a scene."""

    @property
    def rate(self) -> int: ...
    @property
    def debug_users(self) -> Sequence[str]: ...


def is_watched(conf: DebugConf, request_id: str, uid: str) -> bool:
    """Whether debug records are made of this request: of the users named, and of `rate` percent."""
    return uid in conf.debug_users or draw(request_id, "debug records") * 100 < conf.rate


class Watch:
    """Takes what each stage left of one request, and makes debug records of it later.

    `sources` names the recalls, `outputs` the algorithm columns; `ids_of` gives the item ids of rows.
    """

    def __init__(
        self, sources: Sequence[str], outputs: Sequence[str], ids_of: Callable[[NDArray[np.int32]], list[str]]
    ) -> None:
        self._sources, self._outputs, self._ids_of = sources, outputs, ids_of
        self._seen: list[_Seen] = []

    def recalled(self, arena: Arena, module: str) -> None:
        """After recall or a filter, where candidates have the scores of recall. `module` is "recall" or "filter"."""
        count = arena.count
        self._take(module, arena, np.arange(count, dtype=np.int32), arena.recall_score, algos=False)

    def ranked(self, arena: Arena, module: str) -> None:
        """After general_rank or rank: every candidate, in the order it has in the arena."""
        self._take(module, arena, np.arange(arena.count, dtype=np.int32), arena.score, algos=True)

    def ordered(self, arena: Arena, module: str, size: int) -> None:
        """After sort, or of the answer ("recommend"): the first `size` of the order."""
        self._take(module, arena, arena.order[: min(size, arena.order_count)].copy(), arena.score, algos=True)

    def _take(self, module: str, arena: Arena, slots: NDArray[np.int32], score: NDArray[Any], *, algos: bool) -> None:
        outputs = arena.algo_score[: len(self._outputs), slots].T.copy() if algos else None
        self._seen.append(_Seen(module, arena.row[slots], arena.source[slots], score[slots], outputs))

    def rows(self, request: Request) -> Iterable[tuple[str, dict[str, Any]]]:
        """Each record with its module: one for each stage and recall, in their order."""
        for seen in self._seen:
            ids = self._ids_of(seen.row)
            for source, name in enumerate(self._sources):
                slots = np.flatnonzero(seen.source == source)
                if len(slots) == 0:
                    continue
                record: dict[str, Any] = {
                    "request_id": request.request_id, "module": seen.module, "scene_id": request.scene,
                    "request_time": request.time, "uid": request.uid, "retrieveid": name,
                    "items": ",".join(self._item(seen, slot, ids[slot]) for slot in slots.tolist()),
                }  # fmt: skip
                if request.exp_id is not None:
                    record["exp_id"] = request.exp_id
                yield seen.module, record

    def _item(self, seen: _Seen, slot: int, item_id: str) -> str:
        score = float(str(seen.score[slot]))  # the shortest digits of what it is, float32 or double
        text = f"{item_id}:{to_string(score, '')}"
        if seen.module == "recall":
            return f"{text}:"  # where PAI-Rec has the item's `trigger_id`, which is usually empty
        if seen.algo_score is None:
            return text
        scores = dict(zip(self._outputs, seen.algo_score[slot].tolist(), strict=False))
        if not scores:
            return f"{text}:{'{}' if seen.module == 'recommend' else 'null'}"
        written = go_json(scores)
        return f"{text}:{written}" if written else text


class _Seen(NamedTuple):
    module: str
    row: NDArray[np.int32]
    source: NDArray[np.uint8]
    score: NDArray[Any]
    algo_score: NDArray[np.float64] | None  # [slots, outputs]
