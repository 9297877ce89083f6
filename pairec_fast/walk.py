"""The line: a query goes through the stages of its scene, from left to right, over one arena."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from pairec_fast.binding import Fetching, Loading, Stage
from pairec_fast.core import Arena, in_order
from pairec_fast.errors import NotReadyError, StoreLate
from pairec_fast.limits import LimitConf
from pairec_fast.load import Load
from pairec_fast.logs import Waits
from pairec_fast.metrics import Metrics
from pairec_fast.pipeline import Pipeline
from pairec_fast.query import Query
from pairec_fast.scene import Scene
from pairec_fast.score import Score
from pairec_fast.score.general import General, Split
from pairec_fast.store import Stores, within
from pairec_fast.warned import Warned

log = logging.getLogger("pairec_fast")
Value = TypeVar("Value")


def _outcome(walked: Future[Arena]) -> Arena:
    """Raises NotReadyError: the engine was closed meanwhile."""
    try:
        return walked.result()
    except CancelledError:
        raise NotReadyError("the engine was closed while it was awaited") from None


async def _ended(walked: Future[Arena], seconds: float) -> None:
    """Until the walk is over, for `seconds` at most; the walk goes on."""
    waiting = asyncio.wrap_future(walked)
    waiting.add_done_callback(lambda walk: walk.cancelled() or walk.exception())  # told elsewhere, and not twice
    await asyncio.wait([waiting], timeout=seconds)


class Walker:
    """Walks for any number of threads, each request over an arena of its own.

    Local data needs no awaiting: such a request runs to completion in the thread that asks. What a scene asks of live
    stores is awaited on their loop, and the walk then runs there.
    """

    def __init__(self, limits: LimitConf, metrics: Metrics, stores: Stores) -> None:
        self._limits, self._metrics, self._stores = limits, metrics, stores
        self._arenas: list[Arena] = []  # that no request uses now
        self._warned = Warned()

    def walk(self, scene: Scene, query: Query) -> Waits[Arena]:
        """The whole line."""
        if scene.awaits:
            walked = self._stores.admit(self._awaiting(scene, query))
            yield walked
            return _outcome(walked)
        return self.walk_here(scene, query)

    def walk_here(self, scene: Scene, query: Query) -> Arena:
        """The whole line, of a scene that awaits nothing."""
        for load in scene.user_loads:
            load(query, None)
        sides = [(pipeline, query.beside()) for pipeline in scene.pipelines]
        arena = self._recall_here(scene, query)
        laps, watch = query.laps, query.watch
        if scene.general:
            _at_once(self._general(scene, scene.general, query, arena))
        laps.lap(arena)
        for load in scene.loads:
            load(query, arena)
        scene.score.features(query, arena)
        laps.lap(arena)
        scene.score.score(query, arena)
        for pipeline, side in sides:
            self._join(query, arena, side, _at_once(self._beside(scene, pipeline, side)))
        laps.lap(arena)
        if watch is not None:
            watch("score", arena)
        for rerank in scene.reranks:
            rerank(query, arena)
        laps.ordered(arena)
        if watch is not None:
            watch("rerank", arena)
        return arena

    def walk_within(
        self, scene: Scene, query: Query, seconds: float, late: Callable[[Arena], None]
    ) -> Waits[Arena | None]:  # fmt: skip
        """As `walk`; None after `seconds` of a walk that awaits. It is called `late` with, on the stores' loop, when it
        is over."""
        if not scene.awaits or seconds <= 0:
            return (yield from self.walk(scene, query))
        walked = self._stores.admit(self._awaiting(scene, query))
        yield self._stores.run(_ended(walked, seconds))
        if walked.done():
            return _outcome(walked)

        def ended(walked: Future[Arena]) -> None:
            try:
                late(_outcome(walked))
            except NotReadyError:
                return
            except Exception:  # its request has long been answered
                log.exception("%s: a late recommendation failed", scene.name)

        walked.add_done_callback(ended)
        return None

    def recall(self, scene: Scene, query: Query) -> Waits[Arena]:
        """Recall and filters alone; PAI-Rec loads nothing for them."""
        if scene.awaits:
            walked = self._stores.admit(self._recalling(scene, query, scene.fetching_recall))
            yield walked
            return _outcome(walked)
        return self._recall_here(scene, query)

    def _recall_here(self, scene: Scene, query: Query) -> Arena:
        arena, laps, watch = self._take(scene, scene.repeats), query.laps, query.watch
        for recall in scene.recalls:
            recall(query, arena)
        laps.lap(arena)
        if watch is not None:
            watch("recall", arena)
        for filter_ in scene.filters:
            filter_(query, arena)
        laps.lap(arena)
        if watch is not None:
            watch("filter", arena)
        return arena

    def popular(self, scene: Scene, query: Query) -> Arena:
        """What is popular with everyone, filtered as far as nothing is awaited for that, in the order of its list."""
        arena = self._take(scene, scene.repeats)
        for stage in scene.popular:
            stage(query, arena)
        in_order(arena)
        return arena

    def found(self, scene: Scene, query: Query) -> Waits[Arena]:
        """Recall alone, each item once, from the recall named first."""
        if scene.awaits:
            found = self._stores.run(self._finding(scene, query))
            yield found
            return found.result()
        arena = self._take(scene, False)
        for recall in scene.recalls:
            recall(query, arena)
        return arena

    async def _finding(self, scene: Scene, query: Query) -> Arena:
        fetching: list[Any] = [stage for stage in scene.recalls if isinstance(stage, Fetching)]
        await asyncio.gather(*(self._within(scene.name, stage, stage.fetch(query), query) for stage in fetching))
        arena = self._take(scene, False)
        await self._through(scene, scene.recalls, query, arena)
        return arena

    def loaded(
        self, scene: str, loads: list[Load], query: Query, arena: Arena | None, *, together: bool
    ) -> Future[None]:
        """What `load` awaits, on the stores' loop."""
        return self._stores.admit(self.load(scene, loads, query, arena, together=together))

    def give(self, arena: Arena) -> None:
        """Take back the arena of a walk that is over."""
        self._arenas.append(arena)

    def _take(self, scene: Scene, repeats: bool) -> Arena:
        """An empty arena, made anew when a snapshot outgrew those that are free."""
        items = scene.snapshot.overlay.capacity
        width, algos = scene.width, scene.algos
        try:
            arena = self._arenas.pop()
            fits = arena.items_max >= items and arena.width >= width and arena.algos >= algos
            if not fits:
                width, algos = max(width, arena.width), max(algos, arena.algos)
        except IndexError:
            fits = False
        if not fits:
            arena = Arena(self._limits.candidates_max, items_max=items, width=width, algos=algos)
        arena.reset(repeats)
        arena.follow(scene.snapshot.overlay)
        return arena

    async def _recalling(self, scene: Scene, query: Query, fetching: list[Any]) -> Arena:
        """What the query asks of live stores is awaited first, all at once; what the candidates ask, just before the
        stage that uses it. What is late or fails, the answer goes without."""
        await asyncio.gather(*(self._within(scene.name, stage, stage.fetch(query), query) for stage in fetching))
        arena = self._take(scene, scene.repeats)
        for stage, stages in (("recall", scene.recalls), ("filter", scene.filters)):
            await self._through(scene, stages, query, arena)
            query.laps.lap(arena)
            if query.watch is not None:
                query.watch(stage, arena)
        return arena

    async def _awaiting(self, scene: Scene, query: Query) -> Arena:
        # What reads nothing that is loaded of the user begins beside those loads.
        loading = self.load(scene.name, scene.user_loads, query, None, together=True)
        early = (self._within(scene.name, stage, stage.fetch(query), query) for stage in scene.fetching_early)
        await asyncio.gather(loading, *early)
        if scene.pipelines:
            sides = [query.beside() for _ in scene.pipelines]
            beside = (self._beside(scene, one, side) for one, side in zip(scene.pipelines, sides, strict=True))
            arena, others = await asyncio.gather(self._ranking(scene, query), asyncio.gather(*beside))
            for side, other in zip(sides, others, strict=True):
                self._join(query, arena, side, other)
        else:
            arena = await self._ranking(scene, query)
        query.laps.lap(arena)
        if query.watch is not None:
            query.watch("score", arena)
        await self._through(scene, scene.reranks, query, arena)
        query.laps.ordered(arena)
        if query.watch is not None:
            query.watch("rerank", arena)
        return arena

    async def _ranking(self, scene: Scene, query: Query) -> Arena:
        """The main line from recall to rank."""
        arena = await self._recalling(scene, query, scene.fetching_late)
        if scene.general:
            await self._general(scene, scene.general, query, arena)
        query.laps.lap(arena)
        await self.load(scene.name, scene.loads, query, arena, together=scene.loads_together)
        scene.score.features(query, arena)
        query.laps.lap(arena)
        await self._score(scene, scene.score, query, arena)
        return arena

    async def _beside(self, scene: Scene, pipeline: Pipeline, query: Query) -> Arena:
        """A side pipeline, over an arena of its own, to be given back. Nothing awaits where the scene does not."""
        if fetching := pipeline.fetching:
            await asyncio.gather(*(self._within(scene.name, stage, stage.fetch(query), query) for stage in fetching))
        arena = self._take(scene, pipeline.repeats)
        await self._through(scene, pipeline.recalls, query, arena)
        if arena.count == 0:
            arena.begin_scores()
            return arena
        await self._through(scene, pipeline.filters, query, arena)
        if pipeline.general:
            await self._general(scene, pipeline.general, query, arena)
        await self.load(scene.name, pipeline.loads, query, arena, together=False)
        pipeline.score.features(query, arena)
        await self._score(scene, pipeline.score, query, arena)
        await self._through(scene, pipeline.reranks, query, arena)
        return arena

    def _join(self, query: Query, arena: Arena, side: Query, other: Arena) -> None:
        query.join(arena, side, other)
        self.give(other)

    async def load(self, scene: str, loads: list[Load], query: Query, arena: Arena | None, *, together: bool) -> None:
        """All at once, then each applied in order; or one after the other, where each may need the one before.

        What runs aside is begun first and applied when it is seen to be done. Its task knows nothing of the query, so
        that it may outlive the request; it is let run to its own deadline, for a call that is broken off counts
        against the store.
        """
        for load in loads:
            if load.aside:
                task = asyncio.ensure_future(within(load.begin(query), load.timeout))
                task.add_done_callback(_heard)
                query.running[load] = task
        awaiting = [load for load in loads if load.awaits and not load.aside]
        if together and awaiting:
            await asyncio.gather(*(self._within(scene, load, load.load(query, arena), query) for load in awaiting))
        for load in loads:
            if load.aside:
                continue
            if load.awaits and not together:
                await self._within(scene, load, load.load(query, arena), query)
            self._settle(scene, query)
            self._apply(scene, load, query, arena)
        self._settle(scene, query)

    def _apply(self, scene: str, load: Load, query: Query, arena: Arena | None) -> None:
        told = len(query.degraded)
        load(query, arena)
        for _ in query.degraded[told:]:
            self._metrics.count("degraded_total", scene=scene, stage=load.name, reason="partly")

    def _settle(self, scene: str, query: Query) -> None:
        """Apply the loads that ran aside and are done, in the order they are configured in."""
        for load, task in list(query.running.items()):
            if not task.done() or task.cancelled():
                continue
            del query.running[load]
            error = task.exception()
            if error is None:
                query.fetched[load] = task.result()
            elif isinstance(error, Exception):
                self._missed(scene, load, error, query)
            self._apply(scene, load, query, None)

    async def _score(self, scene: Scene, score: Score, query: Query, arena: Arena) -> None:
        """Model servers are asked all at once; one that fails leaves its own outputs 0, and not those of others."""
        if score.remotes and arena.count:
            await asyncio.gather(
                *(self._within(scene.name, one, one.load(query, arena), query) for one in score.remotes)
            )
        score.score(query, arena)

    async def _general(self, scene: Scene, ranks: Sequence[General], query: Query, arena: Arena) -> None:
        """General rank, of the candidates of cold-start recalls apart. Nothing awaits where the scene does not."""
        arena.begin_scores()
        split = None
        if len(ranks) > 1 and (takes := ranks[1].takes) is not None:
            split = Split(arena, takes)
        for place, general in enumerate(ranks):
            if place and split is not None:
                split.turn()
            await self.load(scene.name, general.loads, query, arena, together=True)
            if general.score is not None:
                general.score.features(query, arena)
                await self._score(scene, general.score, query, arena)
            await self._through(scene, general.actions, query, arena)
        if split is not None:
            split.join()
        if query.watch is not None:
            query.watch("general", arena)

    async def _through(self, scene: Scene, stages: Sequence[Stage], query: Query, arena: Arena) -> None:
        for stage in stages:
            if isinstance(stage, Loading):
                await self._within(scene.name, stage, stage.load(query, arena), query)
            stage(query, arena)

    async def _within(
        self, scene: str, stage: Fetching | Loading | Load, got: Coroutine[Any, Any, None], query: Query
    ) -> None:
        """Await `got` for the stage's timeout; count and name what comes of it if it is nothing."""
        query.laps.pause()
        try:
            await within(got, stage.timeout)
        except Exception as error:
            self._missed(scene, stage, error, query)
        finally:
            query.laps.resume()

    def _missed(self, scene: str, stage: Fetching | Loading | Load, error: Exception, query: Query) -> None:
        why = "timeout" if isinstance(error, TimeoutError | StoreLate) else "error"
        self._warned(scene, stage.name, str(error) or f"no answer within {stage.timeout * 1000:g} ms")
        if (told := f"{stage.name}: {why}") not in query.degraded:  # a side pipeline may miss the same
            query.degraded.append(told)
        self._metrics.count("degraded_total", scene=scene, stage=stage.name, reason=why)


def _at_once(running: Coroutine[Any, Any, Value]) -> Value:
    """Run what awaits nothing."""
    try:
        running.send(None)
    except StopIteration as ended:
        value: Value = ended.value
        return value
    running.close()
    raise AssertionError("a scene that awaits nothing has awaited")


def _heard(task: asyncio.Future[Any]) -> None:
    """Take the error of a task that nobody asks any more, which asyncio would print."""
    if not task.cancelled():
        task.exception()
