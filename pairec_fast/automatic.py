"""What is done of a recommendation after its answer has left: the automatic callback, and what filters record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from pairec_fast.callback import Record, encode, invoked, kept_of, without_empty
from pairec_fast.config import CallBackConfig
from pairec_fast.core import Arena
from pairec_fast.errors import NotReadyError, RequestError
from pairec_fast.inquiry import Inquiry
from pairec_fast.logs import Logs, finish
from pairec_fast.messages import RecommendRequest
from pairec_fast.properties import loaded_each
from pairec_fast.query import Query
from pairec_fast.reply import Item
from pairec_fast.scene import Scene
from pairec_fast.store import Stores


def nothing() -> None:
    pass


class Automatic:
    """Automatic callbacks, which go into the same logs as explicit ones."""

    def __init__(self, logs: Logs, stores: Stores) -> None:
        self._logs, self._stores = logs, stores

    def of(
        self, inquiry: Inquiry, scene: Scene, query: Query, request: RecommendRequest, request_id: str, arena: Arena,
        items: list[Item],
        *, scored: bool = True,
    ) -> Callable[[], None]:  # fmt: skip
        """The automatic callback, with everything it needs taken out of the arena now."""
        conf = scene.logged
        automatic, rate = scene.callback_conf.auto_invoke_call_back, scene.callback_conf.auto_invoke_call_back_rate
        if conf is None or not items or not (automatic or request.debug):
            return nothing
        if automatic and not invoked(request_id, rate):
            self._logs.count("automatic", scene.name, len(items), 0, "sampled_out")
            return nothing
        kept = kept_of(len(items), conf.item_size, conf.item_size_rate, request_id)
        slots = arena.order[kept]
        rows = arena.row[slots]
        algo_scores = scene.writer.algo_scores(arena, slots) if scored else [{} for _ in kept]

        def after() -> None:
            entries = loaded_each(scene.item_properties, rows)
            for entry, place, scores in zip(entries, kept, algo_scores, strict=True):
                entry |= {"item_id": items[place].item_id, "score": items[place].score, "algo_scores": scores}
            features = query.user_features if conf.use_user_features else query.context
            record = Record(
                scene.name, request_id, int(time.time()), query.uid, without_empty(features), {}, entries,
                fingerprint=scene.snapshot.fingerprint, positions=kept,
            )  # fmt: skip
            if not inquiry.logs(scene.name):
                self._keep(conf, record, len(items))
                return
            seen = inquiry.see(conf, record, query.kinds, debug=request.debug)
            with contextlib.suppress(NotReadyError):  # closed meanwhile
                self._stores.run(seen).add_done_callback(lambda _: self._keep(conf, record, len(items)))

        return after

    def _keep(self, conf: CallBackConfig, record: Record, offered: int) -> None:
        """Log what an automatic callback left. The recommendation is sound: what cannot be logged is only counted."""
        kept = len(record.items)
        try:
            payload = encode(record)
        except RequestError:
            self._logs.count("automatic", record.scene, offered, kept, "dropped", "invalid")
            return
        with contextlib.suppress(RequestError):  # too large, and counted
            finish(self._logs.put(conf, "automatic", record.scene, payload, offered, kept))


def recorded(scene: Scene, query: Query, arena: Arena, count: int, after: Callable[[], None]) -> Callable[[], None]:
    """`after`, and before it what the scene's recorders have to do with the first `count` of the order."""
    records = [one(query, arena, arena.order[:count]) for one in scene.recorders]
    work = [one for one in records if one is not None]
    if not work:
        return after

    def both() -> None:
        for one in work:
            one()
        after()

    return both
