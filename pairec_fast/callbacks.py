"""What callbacks leave in the log: those that are sent, and those that follow an answer by themselves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from pairec_fast.bound import Bound
from pairec_fast.callback import Record, check_ids, encode, invoked, kept_of, packed, without_empty
from pairec_fast.callback_items import Called, Filled, later, properties_of
from pairec_fast.callback_recall import name_recalls
from pairec_fast.config import CallBackConfig
from pairec_fast.core import Arena, CallbackBody, ShownItems
from pairec_fast.errors import NotReadyError, OverloadedError, RequestError
from pairec_fast.expression.convert import to_string
from pairec_fast.limits import LimitConf
from pairec_fast.logs import Logs, Waits, finish
from pairec_fast.messages import CallbackRequest, RecommendRequest, decode, request_of
from pairec_fast.query import Query, kinds_of
from pairec_fast.reply import Item, by_name
from pairec_fast.scene import Scene
from pairec_fast.store import Stores
from pairec_fast.walk import Walker


class Callbacks:
    """Makes records, and puts them into the logs. `closed` refuses those that are sent."""

    def __init__(self, logs: Logs, stores: Stores, walker: Walker, limits: LimitConf) -> None:
        self.logs, self.stores, self._walker, self._limits = logs, stores, walker, limits
        self.closed = False
        # Of what was bound when; not itself, which would keep a snapshot that has been replaced.
        self._taken: tuple[float, dict[str, Callable[[CallbackBody], bool]]] = 0.0, {}

    def at_once(self, bound: Bound, body: CallbackBody) -> bool:
        """What `explicit` does, where there is nothing to look up and nothing to wait for. False: it is for `explicit`,
        and nothing has happened."""
        since, takers = self._taken
        if since != bound.time:
            takers = self._takers(bound)
            self._taken = bound.time, takers
        take = takers.get(body.scene_id)
        return take is not None and not self.closed and take(body)

    def _takers(self, bound: Bound) -> dict[str, Callable[[CallbackBody], bool]]:
        confs, fingerprint = bound.config.call_back_confs, bound.snapshot.fingerprint
        found = {
            scene: self.logs.taker(conf, scene, fingerprint)
            for scene, conf in confs.items()
            if self._is_ordinary(bound, scene)
        }
        return {scene: take for scene, take in found.items() if take is not None}

    @staticmethod
    def _is_ordinary(bound: Bound, scene: str) -> bool:
        """Whether nothing is added to what a callback of the scene brings."""
        features = bound.callback_features.get(scene)
        adds = (features is not None and features.acts) or bound.inquiry.logs(scene)
        return not adds and bound.experiments is None

    def explicit(self, bound: Bound, request: CallbackRequest | CallbackBody | dict[str, Any]) -> Waits[bool]:
        """Log a callback that was sent. A scene without `CallBackConfs` logs nothing.

        Raises:
            RequestError, NotReadyError: as `Engine.callback`.
        """
        if isinstance(request, CallbackBody) and self._is_ordinary(bound, request.scene_id):
            return self._ordinary(bound, request)
        return self._decoded(bound, request)

    def _decoded(self, bound: Bound, request: CallbackRequest | CallbackBody | dict[str, Any]) -> Waits[bool]:
        """What `explicit` does, of anything that is to be looked at."""
        if isinstance(request, CallbackBody):
            request = decode(request.body, CallbackRequest)  # what is loaded is laid over what was sent
        request = request_of(request, CallbackRequest)
        for field in ("uid", "request_id", "scene_id"):
            if not getattr(request, field):
                raise RequestError(f"{field} not empty")
        if not request.item_list:
            raise RequestError("recommend item list not empty")
        ids = [to_string(entry.get("item_id"), "") for entry in request.item_list]
        if "" in ids:
            place = ids.index("")
            given = request.item_list[place].get("item_id")
            raise RequestError(f"item_list[{place}].item_id must be a text that is not empty, got {given!r:.100}")
        if self.closed:
            raise NotReadyError("the engine is closed")
        conf = bound.config.call_back_confs.get(request.scene_id)
        if conf is None:
            return True
        offered, kept = len(request.item_list), min(len(request.item_list), conf.item_size or len(request.item_list))
        try:
            features = bound.callback_features[request.scene_id]
            record = yield from features.record(self._walker, self._limits, request, ids[:kept])
            if features.recalls:
                yield from name_recalls(bound, self._walker, self._limits, record)
            record.experiment_id = bound.match(request.scene_id, request.uid, request.features).exp_id
            if bound.inquiry.logs(request.scene_id):
                kinds = kinds_of(request.complex_type_features)
                seen = self.stores.admit(bound.inquiry.see(conf, record, kinds, debug=request.debug))
                yield seen
                seen.result()
            payload = encode(record)
        except RequestError:
            self.logs.count("explicit", request.scene_id, offered, kept, "dropped", "invalid")
            raise
        except OverloadedError:
            self.logs.count("explicit", request.scene_id, offered, kept, "dropped", "full")
            raise
        return (yield from self.logs.put(conf, "explicit", request.scene_id, payload, offered, kept))

    def _ordinary(self, bound: Bound, body: CallbackBody) -> Waits[bool]:
        """What `explicit` does, of a body that is already known to be sound."""
        if self.closed:
            raise NotReadyError("the engine is closed")
        conf = bound.config.call_back_confs.get(body.scene_id)
        if conf is None:
            return True
        kept = min(body.items, conf.item_size or body.items)
        try:
            check_ids(body.request_id, body.scene_id, body.uid, kept)
        except RequestError:
            self.logs.count("explicit", body.scene_id, body.items, kept, "dropped", "invalid")
            raise
        payload = body.record(int(time.time()), bound.snapshot.fingerprint, kept)
        return (yield from self.logs.put(conf, "explicit", body.scene_id, payload, body.items, kept))

    def automatic(
        self, bound: Bound, scene: Scene, query: Query, request: RecommendRequest, request_id: str, arena: Arena,
        items: list[Item], *, scored: bool = True,
    ) -> Callable[[], None]:  # fmt: skip
        """What is to be done after the answer: everything it needs is taken out of the arena now."""
        conf = scene.logged
        automatic, rate = scene.callback_conf.auto_invoke_call_back, scene.callback_conf.auto_invoke_call_back_rate
        if conf is None or not items or not (automatic or request.debug):
            return nothing
        if automatic and not invoked(request_id, rate):
            self.logs.count("automatic", scene.name, len(items), 0, "sampled_out")
            return nothing
        kept = kept_of(len(items), conf.item_size, conf.item_size_rate, request_id)
        shown = self._shown(bound, scene, query, arena, kept) if scored else None
        taken = None
        if shown is None:
            slots = arena.order[kept]
            scores_of = scene.writer.algo_scores(arena, slots) if scored else [{} for _ in kept]
            taken = arena.row[slots], arena.place[slots], scores_of

        def after() -> None:
            if shown is not None:
                payload = _recorded(shown, conf, query, scene.name, len(kept))
                if payload is not None:
                    self._put(conf, scene.name, payload, len(items), len(kept))
                    return
            if taken is not None:
                rows, places, algo_scores = taken
            else:
                assert shown is not None
                rows = places = shown.rows  # nothing is given at places
                algo_scores = by_name(scene.writer.outputs, shown.algo_scores)
            entries = properties_of(query, scene.item_properties, rows, places)
            for entry, place, scores in zip(entries, kept, algo_scores, strict=True):
                entry |= {"item_id": items[place].item_id, "score": items[place].score, "algo_scores": scores}
            features = without_empty(query.user_features if conf.use_user_features else query.context)
            callback = bound.callback_features[scene.name]

            def tell(record: Record) -> None:
                if not bound.inquiry.logs(scene.name):
                    self._keep(conf, record, len(items))
                    return
                seen = bound.inquiry.see(conf, record, query.kinds, debug=request.debug)
                try:
                    asked = self.stores.admit(seen)
                except (NotReadyError, OverloadedError) as error:
                    reason = "full" if isinstance(error, OverloadedError) else "closed"
                    self.logs.count("automatic", scene.name, len(items), len(kept), "dropped", reason)
                    return
                asked.add_done_callback(lambda _: self._keep(conf, record, len(items)))

            def keep(filled: Filled | None) -> None:
                user, shown = filled or (features, entries)
                record = Record(
                    scene.name, request_id, int(time.time()), query.uid, user, {}, shown,
                    experiment_id=query.experiment_id, fingerprint=scene.snapshot.fingerprint, positions=kept,
                )  # fmt: skip
                if callback.recalls:
                    later(name_recalls(bound, self._walker, self._limits, record), lambda _: tell(record))
                else:
                    tell(record)

            called = Called(request_id, query.uid, features, [items[place].item_id for place in kept], entries)
            later(callback.filled(self._walker, self._limits, called), keep)

        return after

    def _shown(
        self, bound: Bound, scene: Scene, query: Query, arena: Arena, kept: list[int]
    ) -> ShownItems | None:  # fmt: skip
        """The items to be told of, if there is no more to be said of them than the snapshot and the scores do."""
        shown, given = scene.shown, query.given
        if shown is None or given or given.drops or shown.outputs != len(scene.writer.outputs):
            return None
        if bound.callback_features[scene.name].acts or bound.inquiry.logs(scene.name):
            return None
        return shown.items(arena, kept)

    def _keep(self, conf: CallBackConfig, record: Record, offered: int) -> None:
        """Log what an automatic callback left. The recommendation is sound: what cannot be logged is only counted."""
        kept = len(record.items)
        try:
            payload = encode(record)
        except RequestError:
            self.logs.count("automatic", record.scene, offered, kept, "dropped", "invalid")
            return
        self._put(conf, record.scene, payload, offered, kept)

    def _put(self, conf: CallBackConfig, scene: str, payload: bytes, offered: int, kept: int) -> None:
        with contextlib.suppress(RequestError):  # too large, and counted
            finish(self.logs.put(conf, "automatic", scene, payload, offered, kept))


def _recorded(shown: ShownItems, conf: CallBackConfig, query: Query, scene: str, kept: int) -> bytes | None:
    """The record of an automatic callback; None where only `encode` can make it, or say why not."""
    try:
        check_ids(query.request_id, scene, query.uid, kept)
        features = packed(without_empty(query.user_features if conf.use_user_features else query.context))
    except RequestError:
        return None
    return shown.record(query.request_id, query.uid, features, query.experiment_id, int(time.time()))


def nothing() -> None:
    """After an answer that no callback follows."""


def both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """One after the other, whatever comes of the first."""

    def then() -> None:
        try:
            first()
        finally:
            second()

    return then


def recorded(scene: Scene, query: Query, arena: Arena, count: int, after: Callable[[], None]) -> Callable[[], None]:
    """`after`, and before it what the scene's recorders have to do with the first `count` of the order."""
    records = [one(query, arena, arena.order[:count]) for one in scene.recorders]
    work = [one for one in records if one is not None]
    if not work:
        return after

    def then() -> None:
        for one in work:
            one()
        after()

    return then
