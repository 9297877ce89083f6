"""What an engine tells of its recommendations: PAI-Rec's metrics, the feature log, debug records, the lines of `debug`.

A request that nobody watches pays for one question a stage. Of one that is watched, arrays are taken on the way; all
text is made after the answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from pairec_fast.callback import source_of
from pairec_fast.config import Config, DebugConfig
from pairec_fast.config.convert import Converter
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core import Arena
from pairec_fast.core.columns import MISSING
from pairec_fast.items.live import Live
from pairec_fast.limits import STAGES, TOTAL
from pairec_fast.logs import Logs
from pairec_fast.measures import SceneMeasures
from pairec_fast.messages import go_json
from pairec_fast.metrics import Metrics
from pairec_fast.properties import loaded_each
from pairec_fast.query import Query
from pairec_fast.recall.hnsw import Nearest
from pairec_fast.records import Request, Shown, Watch, feature_log, is_logged, is_watched, ready
from pairec_fast.reply import Item
from pairec_fast.scene import Scene
from pairec_fast.sink.file import Files, Writer, to_console
from pairec_fast.stages import SceneMeter

ROWS_MAX = 50  # of one record in the ring, which is no larger than its ring allows


class Teller:
    """Made once an engine; `open` before the first request. What is told of a request is what its scene says."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._config, self._metrics = config, metrics
        self._enabled = config.prometheus_config.enable
        # Whether any request may be told of; of one with parameters of experiments, `debugConfig` may say so too.
        self.listens = bool(self._enabled or config.debug_confs or config.feature_log_confs)
        # By scene and sources: an experiment's variant of a scene may have other recalls.
        self._measures: dict[tuple[str, tuple[str, ...]], Counting] = {}
        self._files: dict[tuple[str, int], Files] = {}
        self._writer = Writer()

    def open(self, logs: Logs) -> None:
        """Tell into these."""
        self._logs = logs

    def watch(self, scene: Scene, query: Query) -> None:
        """Before the walk: let `query` be watched, if anybody wants to know."""
        measures = self._measures_of(scene)
        conf = self._debug_conf(scene, query) if self._config.debug_confs or query.params else None
        if conf is not None and conf.output_type and is_watched(conf, query.request_id, query.uid):
            records = Watch(scene.sources, scene.score.outputs, query.ids)
            query.watch = Watching(measures, records, conf)
        elif measures is not None:
            query.watch = measures

    def told(
        self, scene: Scene, query: Query, arena: Arena, items: Sequence[Item]
    ) -> Callable[[], None] | None:  # fmt: skip
        """After the walk: what is to be done after the answer, with everything it needs taken out of the arena now."""
        measures = self._measures_of(scene)
        if measures is not None:
            measures.of.walked(query.laps)
        feature_log = self._feature_log(scene, query, arena, items) if self._config.feature_log_confs else None
        watching = query.watch
        records = None
        if isinstance(watching, Watching):
            records = self._debug_records(scene, query, arena, len(items), watching)
        if feature_log is None or records is None:
            return feature_log or records

        def after() -> None:
            feature_log()
            records()

        return after

    def _debug_conf(self, scene: Scene, query: Query) -> DebugConfig | None:
        """The scene's, or what an experiment gives as the text of its parameter `debugConfig`."""
        text = query.params.get("debugConfig") if query.params else None
        given = debug_config(text) if isinstance(text, str) and text else None
        return given or scene.debugged

    def _measures_of(self, scene: Scene) -> Counting | None:
        """What `PrometheusConfig.Enable` asks for."""
        if not self._enabled:
            return None
        key = scene.name, tuple(scene.sources)
        measures = self._measures.get(key)
        if measures is None:
            made = SceneMeasures(self._metrics, scene.name, scene.sources, STAGES)
            measures = self._measures[key] = Counting(made, len(scene.sources))
        return measures

    def close(self, timeout: float) -> None:
        """Write what waits; the logs must be open still."""
        self._writer.close(timeout)

    def _feature_log(
        self, scene: Scene, query: Query, arena: Arena, items: Sequence[Item]
    ) -> Callable[[], None] | None:  # fmt: skip
        conf = scene.feature_logged
        source = None if conf is None else source_of(conf)
        if conf is None or source is None or not items or not is_logged(conf, query.request_id):
            return None
        slots = arena.order[: len(items)].copy()
        rows, algo_scores = arena.row[slots], scene.writer.algo_scores(arena, slots)
        given = {name: query.properties(arena).of_each(name, slots) for name in query.given}
        request = _request(scene, query)

        def after() -> None:
            loads = loaded_each(scene.item_properties, rows)
            for name, values in given.items():
                for load, value in zip(loads, values, strict=True):
                    if value is not MISSING:
                        load[name] = value
            shown = [
                Shown(item.item_id, item.retrieve_id, item.score, scores, properties)
                for item, scores, properties in zip(items, algo_scores, loads, strict=True)
            ]
            texts = feature_log(conf, request, query.user_features, shown)
            for place in range(0, len(texts), ROWS_MAX):
                self._logs.tell(source, "feature_log", scene.name, ready(query.uid, texts[place : place + ROWS_MAX]))

        return after

    def _debug_records(
        self, scene: Scene, query: Query, arena: Arena, size: int, watching: Watching
    ) -> Callable[[], None]:  # fmt: skip
        records, conf = watching.records, watching.conf
        records.ordered(arena, "recommend", size)
        request = _request(scene, query)

        def after() -> None:
            if not self._writer.put(lambda: self._write(conf, scene.name, request, records)):
                self._metrics.count("records_dropped_total", kind="debug", scene=scene.name)

        return after

    def _files_of(self, conf: DebugConfig) -> Files:
        place = conf.file_path or ".", conf.max_file_num
        if place not in self._files:
            self._files[place] = Files(self._config.path(place[0]), place[1])
        return self._files[place]

    def _write(self, conf: DebugConfig, scene: str, request: Request, records: Watch) -> None:
        """On the writer's thread."""
        source, files = source_of(conf), self._files_of(conf) if conf.output_type == "file" else None
        for module, record in records.rows(request):
            if source is not None:
                self._logs.tell(source, "debug", scene, ready(module, [go_json(record)]))
                continue
            if files is not None:
                files.write(record)
            elif conf.output_type == "console":
                to_console(record)
            else:
                continue  # a sink without a name
            self._metrics.count("records_total", kind="debug", scene=scene)


class Counting:
    """Called after each stage of a request that is measured. `of` is what measures its scene."""

    __slots__ = ("_sources", "of")

    def __init__(self, of: SceneMeasures, sources: int) -> None:
        self.of, self._sources = of, sources

    def __call__(self, stage: str, arena: Arena) -> None:
        if stage == "recall":
            self.of.recalled(arena.count_sources(self._sources))


class Watching:
    """Called after each stage of a request of which debug records are made, and which may be measured."""

    __slots__ = ("_measures", "conf", "records")

    def __init__(self, measures: Counting | None, records: Watch, conf: DebugConfig) -> None:
        self._measures, self.records, self.conf = measures, records, conf

    def __call__(self, stage: str, arena: Arena) -> None:
        if self._measures is not None:
            self._measures(stage, arena)
        if stage in ("recall", "filter"):
            self.records.recalled(arena, stage)
        elif stage == "score":
            self.records.ranked(arena, "rank")
        elif stage == "general":
            self.records.ranked(arena, "general_rank")
        elif stage == "rerank":
            self.records.ordered(arena, "sort", arena.order_count)


def _request(scene: Scene, query: Query) -> Request:
    return Request(query.request_id, scene.name, query.experiment_id or None, int(time.time()), query.uid)


@lru_cache(64)
def debug_config(text: str) -> DebugConfig | None:
    """A `DebugConfig` out of its JSON text, by the rules of the configuration; None if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    report = Report(Document("debugConfig"))
    conf: DebugConfig = Converter(report).struct(value, DebugConfig, ())
    return None if report.error_count else conf


def debug_logs(request_id: str, scene: Scene, live: Live, query: Query, meter: SceneMeter) -> list[str]:
    """How many items came and went since the snapshot was built; of each stage its time and how much of it was waiting,
    in milliseconds, the candidates it got and left, and its budget; how vectors were searched, how each model is fed,
    and the slowest requests of the last minutes that this worker answered."""
    begin = f"[INFO] requestId={request_id}"
    lines = [
        f"{begin}\tscene={scene.name}\tcategory={scene.category}\tsnapshot={scene.snapshot.fingerprint}"
        f"\titems={live.count}\tadded={live.added}\tremoved={len(live.removed)}"
    ]
    laps = query.laps
    for stage, (ns, waited, came, went) in zip(STAGES, laps.stages, strict=True):
        cost = f"\tcost={ns / 1e6:.3f}\twait={waited / 1e6:.3f}\tin={came}\tout={went}"
        lines.append(f"{begin}\tmodule={stage}{cost}{_budget(meter, stage)}")
    lines.append(f"{begin}\tmodule={TOTAL}\tcost={laps.nanoseconds / 1e6:.3f}{_budget(meter, TOTAL)}")
    lines += [f"{begin}\t{recall.told(query)}" for recall in scene.recalls if isinstance(recall, Nearest)]
    lines += [f"{begin}\tmodel={model}" for model in scene.score.models]
    return lines + [f"{begin}\t{slow}" for slow in meter.lines()]


def _budget(meter: SceneMeter, stage: str) -> str:
    return f"\tbudget={meter.budgets[stage] / 1e3:.3f}" if stage in meter.budgets else ""
