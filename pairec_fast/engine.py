"""Engine: a request walks the line, a callback goes into the log, snapshot and configuration are swapped."""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pairec_fast.bound import Bound
from pairec_fast.callback import data_sources
from pairec_fast.callback_items import CallbackFeatures
from pairec_fast.callbacks import Callbacks, both, nothing, recorded
from pairec_fast.config import Config
from pairec_fast.config.frozen import frozen
from pairec_fast.core import Arena, CallbackBody, in_order
from pairec_fast.core.meter import Laps
from pairec_fast.errors import ConfigError, NotReadyError, OverloadedError, RequestError
from pairec_fast.experiment import NOTHING, Experiments
from pairec_fast.inquiry import EmbeddingReply, Inquiry
from pairec_fast.items import add, remove
from pairec_fast.items.live import Live, keep_up
from pairec_fast.logs import Logs, Waits, awaited, finish
from pairec_fast.manifest import read_manifest, resolve
from pairec_fast.measures import RequestMeasures
from pairec_fast.messages import CallbackRequest, EmbeddingRequest, RecommendRequest, request_of
from pairec_fast.metrics import Metrics
from pairec_fast.push import push_of
from pairec_fast.query import Query, kinds_of, merged_features
from pairec_fast.reply import ENOUGH, SHORT, Item, Reply
from pairec_fast.scene import KINDS, Scene, bind, guests_of, snapshot_of
from pairec_fast.score.algorithms import Servers
from pairec_fast.slots import place
from pairec_fast.snapshot import Snapshot
from pairec_fast.stages import Meters
from pairec_fast.store import Stores
from pairec_fast.telling import Teller, debug_logs
from pairec_fast.textlog import request_log
from pairec_fast.variants import Variants
from pairec_fast.walk import Walker

SIZE_DEFAULT = 10  # PAI-Rec's, for a size of 0 or less


def _item_types(config: Config) -> dict[str, str]:
    """The `ItemType` of each recall, which `/api/recommend` tells."""
    entries = [{key.lower(): value for key, value in entry.items()} for entry in config.raw.get("RecallConfs") or ()]
    return {entry["name"]: entry["itemtype"] for entry in entries if entry.get("itemtype")}


def _text(engine: Engine | None) -> str:
    return "" if engine is None or engine.closed else engine.metrics.text(engine.gauges(), own=True)


def _live(engine: Engine | None) -> Live | None:
    """Asked for some times a second, by a thread that also lets other workers show this one's gauges."""
    if engine is None or engine.closed:
        return None
    engine.metrics.tick(engine.gauges)
    return engine._bound.live


class Engine:
    """One configuration on one snapshot, at a time. `recommend` may be called from any number of threads."""

    def __init__(self, config: Config, verified: Path | None = None) -> None:
        """Load the snapshot, bind every scene, open the logs.

        `verified` is a snapshot whose checksums somebody has verified just now, to be used instead of the configured
        one: so that the workers of one server serve the same.

        Raises:
            ConfigError, SnapshotError: cannot serve; nothing is left open.
        """
        self._first, self.limits = config, config.limit_conf  # what cannot change while running is held against it
        self.metrics = Metrics(config.prometheus_config.subsystem or "pairec", place())
        self.item_types = _item_types(config)
        self.custom_metrics = Metrics("")  # an embedder's own, at `/custom_metrics`
        told = config.prometheus_config.raw
        self.requests = RequestMeasures(
            self.metrics, enable=config.prometheus_config.enable, seconds=told.get("ReqDurBuckets") or (),
            request_bytes=told.get("ReqSizeBuckets") or (), response_bytes=told.get("RespSizeBuckets") or (),
        )  # fmt: skip
        self.stores = Stores(config, self.metrics, self.limits.awaiting_max)
        self._walker = Walker(self.limits, self.metrics, self.stores)
        self.servers: Servers = {}
        self._meters = Meters(self.metrics)
        self.closed = self.reload_failed = False
        self._swapping = threading.Lock()
        self.request_log = request_log(config.log_conf, config.path("log"), self.metrics)
        self._teller = Teller(config, self.metrics)
        try:
            self._bind(config, self._load(config, verified or snapshot_of(config), verify=verified is None))
            self.logs = Logs(config, self.metrics)
        except ConfigError as error:
            self.stores.close()
            raise config.report.located([error]) from error
        except BaseException:
            self.stores.close()
            raise
        self._callbacks = Callbacks(self.logs, self.stores, self._walker, self.limits)
        self._teller.open(self.logs)
        itself = weakref.ref(self)  # so that an engine nobody holds any more can go
        threading.Thread(target=keep_up, args=(lambda: _live(itself()),), name="pairec-items", daemon=True).start()
        self._pusher = push_of(told, config.run_mode, self.metrics, lambda: _text(itself()))

    @classmethod
    def from_config(cls, source: str | os.PathLike[str] | dict[str, Any], verified: Path | None = None) -> Engine:
        """An engine from a configuration file, or from a dict whose relative paths start at the working directory.

        Raises:
            ConfigError: all that is wrong with the configuration, at once.
            SnapshotError: the snapshot is missing, altered, or does not fit.
        """
        if isinstance(source, dict):
            return cls(Config.parse(source, KINDS), verified)
        return cls(Config.load(source, KINDS), verified)

    @property
    def config(self) -> Config:
        """The current one."""
        return self._bound.config

    @property
    def snapshot(self) -> Snapshot:
        """The current one."""
        return self._bound.snapshot

    def swap(self, directory: str | os.PathLike[str]) -> None:
        """Make another snapshot current: loaded, rehearsed and brought up to items.log aside, then swapped as one;
        requests in flight keep the old one.

        Raises:
            ConfigError, SnapshotError: it does not fit; the old one keeps serving.
        """
        with self._swapping:
            self._bind(self.config, self._load(self.config, Path(directory)), walk=True)

    def reconfigure(self, config: Config) -> None:
        """Make another configuration current, on the snapshot that it names: as `swap`.

        Raises:
            ConfigError, SnapshotError: it cannot serve, or changes what cannot change while running; the old one keeps
                serving.
        """
        with self._swapping:
            try:
                if refused := frozen(self._first, config, data_sources(self._first), data_sources(config)):
                    raise config.report.located(refused)
                directory = resolve(snapshot_of(config))
                known = (self.snapshot.directory, self.snapshot.fingerprint) == (
                    directory,
                    read_manifest(directory).fingerprint,
                )
                self._bind(config, self._load(config, directory, verify=not known), walk=True)
            except ConfigError as error:
                raise config.report.located([error]) from error

    def add_items(self, items: Iterable[Any]) -> int:
        """`pairec_fast.items.add` beside the current snapshot; this engine serves them when the call returns."""
        return self._changed(add, items)

    def remove_items(self, ids: Iterable[str]) -> int:
        """`pairec_fast.items.remove` beside the current snapshot; this engine shows them no more when it returns."""
        return self._changed(remove, ids)

    def close(self, timeout: float = 10.0) -> None:
        """Stop logging: every accepted record is in a closed segment afterwards. `timeout` in seconds. Idempotent."""
        self.closed = self._callbacks.closed = True
        if self._pusher is not None:
            self._pusher.stop()
        self.stores.close(self.servers.values())
        begin = time.monotonic()
        self._teller.close(timeout / 2)
        if self.request_log is not None:
            self.request_log.close(timeout / 4)
        self.logs.close(max(0.0, timeout - (time.monotonic() - begin)))
        self.metrics.publish(self.gauges())
        self.metrics.release()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def recommend(self, request: RecommendRequest | dict[str, Any]) -> Reply:
        """Answer a request of `/api/rec/feed`.

        Raises:
            RequestError: a field that cannot be used.
            NotReadyError: closed.
            OverloadedError: too many requests wait for live stores.
        """
        reply, after = self.feed(request_of(request, RecommendRequest))
        after()
        return reply

    async def recommend_async(self, request: RecommendRequest | dict[str, Any]) -> Reply:
        """As `recommend`, for callers on an event loop. Local data needs no awaiting: it runs to completion."""
        reply, after = await awaited(self.feed_waits(request_of(request, RecommendRequest)))
        after()
        return reply

    def feed(self, request: RecommendRequest) -> tuple[Reply, Callable[[], None]]:
        """As `recommend`, and what is to be done after the answer has left: the automatic callback."""
        return finish(self.feed_waits(request))

    def feed_waits(
        self, request: RecommendRequest, *, fallback: bool = True, filtered: bool = True, popular: bool = False
    ) -> Waits[tuple[Reply, Callable[[], None]]]:
        """As `feed`, for who waits in a way of its own. Without `fallback`, `FallbackConfig` does not act. `filtered`:
        filters of experiments see the request's features, which they do not on `/api/recommend`. `popular`: there is
        no time for more than what is popular.

        Raises:
            OverloadedError: the scene has nothing popular; or as `recommend`.
        """
        request_id = request.request_id or str(uuid.uuid4())
        scene_id, category = request.scene_id or "default_scene", request.category or "default"
        features = merged_features(request.features, request.complex_type_features)
        if not request.uid:
            raise RequestError("uid not empty", request_id=request_id)
        laps = Laps()
        bound = self._current()
        match, is_variant = NOTHING, True
        if bound.experiments is None:
            scene = bound.variants.base(scene_id, category)
        else:
            match = bound.match(scene_id, request.uid, features if filtered else {})
            scene, is_variant = bound.variants.of(scene_id, category, match.params)
        size = min(request.size, self.limits.size_max) if request.size > 0 else SIZE_DEFAULT
        wanted = request.size if request.size > 0 else SIZE_DEFAULT
        reply = Reply(200, "", request_id, 0, match.exp_id, [])
        after = nothing
        if scene is not None:
            query = self._query(scene, request, request_id, size, features, laps)
            if match is not NOTHING:
                query.experiment_id, query.params = match.exp_id, match.params
            if not is_variant:
                query.degraded.append("experiment: refused")
        if scene is not None and popular:
            after = self._popular(reply, scene, query)
        elif scene is not None:
            if self._teller.listens or match is not NOTHING:
                self._teller.watch(scene, query)
            instead = scene.fallback if fallback else None
            arena: Arena | None
            if instead is None:
                if scene.awaits:
                    arena = yield from self._walker.walk(scene, query)
                else:
                    arena = self._walker.walk_here(scene, query)
            else:
                arena = yield from self._walker.walk_within(
                    scene, query, instead.seconds, lambda late: self._late(bound, scene, query, request, late)
                )
            if arena is not None:
                after = self._answer(reply, bound, scene, query, request, arena)
            else:
                reply.degraded = ["recommendation: timeout"]
            if instead is not None and (arena is None or (instead.completes and len(reply.items) < size)):
                known = {item.item_id for item in reply.items}
                reply.items += instead.items(request_id, request.item_list, size - len(known), known)
                self.metrics.count("fallback_total", scene=scene_id)
        reply.size = len(reply.items)
        reply.code, reply.msg = ENOUGH if reply.size >= wanted else SHORT
        meter = self._meters.of("" if scene is None else scene.name)
        if reply.code != 200:
            meter.short.add()
        meter.answers.add()
        return reply, after

    def _answer(
        self, reply: Reply, bound: Bound, scene: Scene, query: Query, request: RecommendRequest, arena: Arena
    ) -> Callable[[], None]:  # fmt: skip
        """Put what a walk has brought into `reply`, and give its arena back. Returns what is to be done afterwards."""
        items = reply.items = scene.writer.items(query, arena, query.size)
        query.laps.last(len(items))
        meter = self._meters.of(scene.name, scene.awaits)
        meter.observe(query.laps, query.request_id)
        if query.degraded:
            reply.degraded = query.degraded
        if request.debug:
            scene.writer.put_positions(items, query, arena)
            reply.logs = debug_logs(query.request_id, scene, bound.live, query, meter)
            slots = arena.order[: len(items)]
            own = [item for item, slot in zip(items, slots.tolist(), strict=True) if slot < query.own_end]
            for model, matrix in scene.score.matrices(query, arena, slots[slots < query.own_end]) if own else ():
                for item, why in zip(own, model.explained(matrix), strict=True):
                    item.explain = (item.explain or {}) | {model.name: why}
        after = self._callbacks.automatic(bound, scene, query, request, query.request_id, arena, items)
        if scene.recorders:
            after = recorded(scene, query, arena, len(items), after)
        if self._teller.listens or query.watch is not None:
            told = self._teller.told(scene, query, arena, items)
            after = after if told is None else both(after, told)
        self._walker.give(arena)
        return after

    def _popular(self, reply: Reply, scene: Scene, query: Query) -> Callable[[], None]:
        """Put what is popular into `reply`. Nothing is logged for training: no model has chosen it."""
        after = nothing
        if scene.popular:
            arena = self._walker.popular(scene, query)
            reply.items = scene.writer.recalled(query, arena, query.size)
            if scene.recorders:
                after = recorded(scene, query, arena, len(reply.items), after)
            self._walker.give(arena)
        elif scene.fallback is not None and scene.fallback.lists:
            reply.items = scene.fallback.popular(query.size)
        else:
            raise OverloadedError(f'the scene "{scene.name}" has nothing popular to be answered by')
        reply.degraded = [*query.degraded, "recommendation: overload"]
        self.metrics.count("degraded_total", scene=scene.name, stage="recommendation", reason="overload")
        return after

    def _late(
        self, bound: Bound, scene: Scene, query: Query, request: RecommendRequest, arena: Arena
    ) -> None:  # fmt: skip
        """A recommendation whose fallback has been answered: thrown away, but for what it leaves in the logs."""
        if not self.closed:
            unseen = Reply(200, "", query.request_id, 0, query.experiment_id, [])
            self._answer(unseen, bound, scene, query, request, arena)()

    def recall(self, request: RecommendRequest) -> tuple[Reply, Callable[[], None]]:
        """As `recall_waits`; waits in this thread."""
        return finish(self.recall_waits(request))

    def recall_waits(self, request: RecommendRequest) -> Waits[tuple[Reply, Callable[[], None]]]:
        """Recall and filters only, in recall order: `/api/recall`. With enough items, the automatic callback follows.

        Raises:
            RequestError: a field that cannot be used.
        """
        request_id = request.request_id or str(uuid.uuid4())
        if not request.uid:
            raise RequestError("uid not empty", request_id=request_id)
        bound = self._current()
        scene = bound.variants.base(request.scene_id or "default_scene", request.category or "default_category")
        wanted = request.size if request.size > 0 else SIZE_DEFAULT
        items: list[Item] = []
        after = nothing
        if scene is not None:
            query = self._query(scene, request, request_id, min(wanted, self.limits.size_max), {})
            arena = yield from self._walker.recall(scene, query)
            in_order(arena)
            items = scene.writer.recalled(query, arena, query.size)
            if len(items) >= wanted:
                after = self._callbacks.automatic(bound, scene, query, request, request_id, arena, items, scored=False)
                if scene.recorders:
                    after = recorded(scene, query, arena, len(items), after)
            self._walker.give(arena)
        code, msg = ENOUGH if len(items) >= wanted else SHORT
        return Reply(code, msg, request_id, len(items), "", items), after

    def embedding(self, request: EmbeddingRequest | dict[str, Any]) -> EmbeddingReply:
        """The vector of an item or of a user: `/api/embedding`.

        Raises:
            RequestError: a field that cannot be used.
            NotReadyError: closed.
        """
        return finish(self.embedding_waits(request))

    def embedding_waits(self, request: EmbeddingRequest | dict[str, Any]) -> Waits[EmbeddingReply]:
        """As `embedding`, for who waits in a way of its own."""
        request = request_of(request, EmbeddingRequest)
        if self.closed:
            raise NotReadyError("the engine is closed")
        asked = self.stores.admit(self._bound.inquiry.embedding(request, request.request_id or str(uuid.uuid4())))
        yield asked
        return asked.result()

    def callback(self, request: CallbackRequest | dict[str, Any]) -> bool:
        """Log a callback: `/api/callback`. A scene without `CallBackConfs` logs nothing.

        False if the log is full, or if the configured durability was not reached in time: then it may be written yet.
        Waits in this thread, as long as `LogRingConf` says.

        Raises:
            RequestError: a field that cannot be used, or too large for the log.
            NotReadyError: closed.
        """
        return finish(self.callback_waits(request))

    async def callback_async(self, request: CallbackRequest | dict[str, Any]) -> bool:
        """As `callback`, but what waits is the coroutine."""
        return await awaited(self.callback_waits(request))

    def callback_at_once(self, body: CallbackBody) -> bool:
        """Log a callback that nothing is to be added to, into a log that has space. False: nothing has happened."""
        return self._callbacks.at_once(self._bound, body)

    def callback_waits(self, request: CallbackRequest | CallbackBody | dict[str, Any]) -> Waits[bool]:
        """As `callback`, for who waits in a way of its own."""
        return self._callbacks.explicit(self._bound, request)

    def metrics_text(self) -> str:
        """What `/metrics` shows."""
        return self.metrics.text(self.gauges())

    def gauges(self) -> dict[str, float]:
        """What `/metrics` shows beside counters: the logs' own figures, the age of snapshot and configuration, and how
        many items there are."""
        bound = self._bound
        return {
            "snapshot_time_seconds": bound.snapshot.time,
            "config_time_seconds": bound.time,
            f'config_info{{fingerprint="{bound.config.fingerprint}"}}': 1,
            "reload_failed": float(self.reload_failed),
            **self._meters.gauges(),
            **bound.live.gauges(),
            **self.logs.gauges(),
        }

    def _query(
        self, scene: Scene, request: RecommendRequest, request_id: str, size: int, features: dict[str, Any],
        laps: Laps | None = None,
    ) -> Query:  # fmt: skip
        return Query(
            scene.snapshot, request.uid, size, features, history_max=self.limits.history_max, item_id=request.item_id,
            item_list=request.item_list, request_id=request_id, sources=scene.sources,
            places=self.limits.candidates_max, user_columns=scene.user_properties,
            kinds=kinds_of(request.complex_type_features) if request.complex_type_features else None, laps=laps,
        )  # fmt: skip

    def _current(self) -> Bound:
        """What a request is answered by, from beginning to end.

        Raises:
            NotReadyError: closed.
        """
        if self.closed:
            raise NotReadyError("the engine is closed")
        return self._bound

    def _scene(self, scene_id: str, category: str) -> Scene | None:
        return self._current().variants.base(scene_id, category)

    def _load(self, config: Config, directory: Path, *, verify: bool = True) -> Snapshot:
        return Snapshot.load(directory, verify=verify, spare=self.limits.new_items_max, guests=guests_of(config))

    def _changed(self, log: Callable[[Path, Iterable[Any]], int], what: Iterable[Any]) -> int:
        live = self._bound.live
        sequence = log(live.snapshot.directory.parent, what)
        live.update()
        while (now := self._bound.live) is not live:  # another was made current meanwhile
            live = now
            live.update()
        return sequence

    def _bind(self, config: Config, snapshot: Snapshot, *, walk: bool = False) -> None:
        """Make current; with `walk`, every scene has answered before."""
        scenes, make = bind(config, snapshot, self.stores, self.servers)
        if not scenes:
            raise ConfigError("SceneConfs: no scene")
        variants, path = Variants(config, scenes, make, self.metrics), config.experiments_path
        experiments = None if path is None else Experiments.load(path)
        every = {*scenes.values(), *(variants.bind(experiments) if experiments is not None else ())}
        callback_features = {
            name: CallbackFeatures(config, snapshot, self.stores, name) for name in config.call_back_confs
        }
        live = Live(snapshot)
        live.update()
        if walk:
            for scene in every:
                self._rehearse(scene)
        inquiry = Inquiry(config, self.servers, self.metrics)
        self._meters.bind(config.limit_conf.budget_microseconds, [(scene.name, scene.awaits) for scene in every])
        self.has_popular = any(scene.popular or (scene.fallback and scene.fallback.lists) for scene in every)
        self._bound = Bound(
            config, time.time(), snapshot, live, scenes, variants, experiments, callback_features, inquiry
        )

    def _rehearse(self, scene: Scene) -> None:
        """Answer somebody known and somebody unknown, so that what cannot answer does not come to answer anybody. Live
        stores are not asked: whether they answer says nothing about a configuration."""
        users = scene.snapshot.users.ids
        for uid in ("", *([users.id(0)] if len(users) else [])):
            if not scene.awaits:
                query = self._query(scene, RecommendRequest(uid=uid), "", SIZE_DEFAULT, {})
                arena = finish(self._walker.walk(scene, query))
                scene.writer.items(query, arena, SIZE_DEFAULT)
                self._walker.give(arena)
