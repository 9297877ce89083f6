"""Scene: one pipeline, bound to one snapshot. Everything is resolved here; a request only walks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np

from pairec_fast import filter as filters
from pairec_fast import recall as recalls
from pairec_fast import rerank as reranks
from pairec_fast.binding import Binding, Fetching, Loading, Stage, apart
from pairec_fast.config import CategoryConfig, Config, FeatureLoadConfig, RankConfig
from pairec_fast.core import Arena, Shown, in_order
from pairec_fast.errors import ConfigError, Problem, SnapshotError
from pairec_fast.fallback import Fallback
from pairec_fast.items.live import Live
from pairec_fast.load import Load, loads, local_columns
from pairec_fast.pipeline import Pipeline
from pairec_fast.query import Query
from pairec_fast.reply import Writer, shown_of
from pairec_fast.score import Algorithms, General, Model, Outputs, Score, general_of
from pairec_fast.score.algorithms import Servers
from pairec_fast.snapshot import Column, Snapshot
from pairec_fast.store import Stores

KINDS = SimpleNamespace(recall=recalls.KINDS, filter=filters.KINDS, sort=reranks.KINDS)
SOURCES_MAX = 255  # `source` is one byte a candidate
SHARED_MAX = 4096  # a recall is another one in each list of recalls it is in, and experiments may have many
REHEARSED = 512  # candidates that a model is timed with


class Refusals:
    """Collects what refuses to be bound, as `with refusals:` around each part, so that one start shows all of it.

    `partial`: the configuration lacks what is wrong in it.
    """

    def __init__(self, partial: bool = False) -> None:
        self.errors: list[ConfigError] = []
        self.partial = partial

    def add(self, message: str) -> None:
        self.errors.append(ConfigError(message))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, ConfigError):
            return False
        self.errors.append(error)
        return True


class Shared:
    """Recalls, filters and loads that scenes have in common: what an experiment leaves as it is configured is bound
    once, so that its caches, and what it reads again from time to time, are there once for all variants of a scene.

    Of entries of `config` alone, and `SHARED_MAX` at most.
    """

    def __init__(self, config: Config) -> None:
        features = (*config.user_feature_confs.values(), *config.feature_confs.values())
        loads = (load for conf in features for load in conf.feature_load_confs)
        entries = (*config.recall_confs, *config.filter_confs, *loads)
        self._confs = {id(conf): conf for conf in entries}  # held, so that none gets the id of another
        self._bound: dict[tuple[Any, ...], Any] = {}

    def key(self, conf: Any, at: Binding, *more: Any) -> tuple[Any, ...] | None:
        """What `conf` is bound by; None if it is not to be shared."""
        if id(conf) not in self._confs or at.outputs != ():
            return None
        params = tuple(sorted((name, repr(value)) for name, value in at.params.items()))
        return id(conf), at.scene, at.category, at.source, tuple(at.sources), at.last, params, *more

    def get(self, key: tuple[Any, ...] | None) -> Any:
        return None if key is None else self._bound.get(key)

    def put(self, key: tuple[Any, ...] | None, bound: Any) -> None:
        if key is not None and len(self._bound) < SHARED_MAX:
            self._bound[key] = bound


def _nothing(query: Query, arena: Arena) -> None:
    """Stands for a stage that was refused."""


def _at_hand(stage: Stage) -> bool:
    return not isinstance(stage, Fetching | Loading)


class Scene:
    """The stages of one scene and category, in order, each a function of (query, arena).

    What refuses, for a name the snapshot does not have or because it does not act in this version, goes into
    `refusals`; the scene is not to be used then.

    Raises:
        SnapshotError: the snapshot's parts do not fit each other.
    """

    def __init__(
        self, config: Config, snapshot: Snapshot, name: str, category: str, algorithms: Algorithms,
        refusals: Refusals, stores: Any = None, params: Mapping[str, Any] | None = None, shared: Shared | None = None,
    ) -> None:  # fmt: skip
        self._shared, self._asked = shared or Shared(config), 0
        self.name, self.category, self.snapshot = name, category, snapshot
        self.conf: CategoryConfig = config.scene_confs[name].get(category, CategoryConfig())
        # The callback flags and the fallback are read from category `default`, whatever the request names.
        self.callback_conf = config.scene_confs[name].get("default", CategoryConfig())
        self.logged, self.debugged = config.call_back_confs.get(name), config.debug_confs.get(name)
        self.feature_logged = config.feature_log_confs.get(name)
        self.fallback: Fallback | None = None
        with refusals:
            if (fallback := self.callback_conf.fallback_config) is not None:
                self.fallback = Fallback(fallback, snapshot, f"SceneConfs.{name}.default.FallbackConfig")
        pipelines = config.pipeline_confs.get(name, ())
        own, beside = config.recalls(name, category) or [], [one for conf in pipelines for one in conf.recall_names]
        # Those of side pipelines have numbers behind the scene's own: all meet in one arena.
        self.sources = [*own, *(one for one in dict.fromkeys(beside) if one not in own)]
        if len(self.sources) > SOURCES_MAX:
            more = f", with those of PipelineConfs.{name}" if pipelines else ""
            told = f"SceneConfs.{name}.{category}.RecallNames: {len(self.sources)} recalls{more}; at most {SOURCES_MAX}"
            refusals.add(told)
        at = Binding(
            snapshot, self.sources, scene=name, category=category, stores=stores, directory=config.directory,
            filter=self._filter, sort=self._sort, params=params or {},
        )  # fmt: skip
        self._at, self._binding, self._refusals = at, list[str](), refusals
        confs: dict[str, Any] = {
            "recall": config.recall_confs,
            "filter": config.filter_confs,
            "sort": config.sort_confs,
        }
        built_in: dict[str, Any] = {
            "recall": recalls.ContextItemRecall(), "filter": filters.UniqueFilter(), "sort": reranks.ItemRankScore()
        }  # fmt: skip
        self._known = {
            kind: {conf.name: conf for conf in confs[kind]} | {one.name: one} for kind, one in built_in.items()
        }
        self.recalls = [self._sound("recall", one, replace(at, source=place)) for place, one in enumerate(own)]
        names = config.filters(name)
        self.filters = [self._sound("filter", one, at) for one in names]
        # What is answered in overload: lists for all, and the filters, as far as nothing is awaited for them.
        hot = [recalls.UserGlobalHotRecall is type(self._known["recall"].get(one)) for one in own]
        popular = [stage for stage, is_hot in zip(self.recalls, hot, strict=True) if is_hot and _at_hand(stage)]
        self.popular = [*popular, *filter(_at_hand, self.filters)] if popular else []
        self.repeats = self._sees_repeats(names)
        # Also of filters that this scene does not use: in PAI-Rec every answer is recorded by all of them.
        self.recorders = list[Any]()
        for conf in config.filter_confs:
            with refusals:
                recorder = conf.recorder(at) if hasattr(conf, "recorder") else None
                self.recorders += [recorder] if recorder is not None else []
        outputs, rank, where = Outputs(), config.rank_conf.get(name, RankConfig()), f"RankConf.{name}"
        self._at = at = replace(at, outputs=outputs)
        self.general, self.score = list[General](), Score([], RankConfig(), Outputs(), snapshot, where)
        with refusals:
            self.general = self._general(config, algorithms, outputs)
        with refusals:
            self.score = Score(
                [algorithms.of(algo, rank, where) for algo in rank.rank_algo_list], rank, outputs, snapshot, where
            )
        self.pipelines = [
            Pipeline(
                conf, f"PipelineConfs.{name}[{place}]", at, self._sound, self._sees_repeats(conf.filter_names),
                refusals, algorithms, outputs,
            )
            for place, conf in enumerate(pipelines)
        ]  # fmt: skip
        scores = [self.score, *(one.score for one in self.general if one.score is not None)]
        scores += [score for one in self.pipelines for score in one.scores]
        self.width = max(score.width for score in scores)
        remotes = any(score.remotes for score in scores)
        if remotes:
            outputs.leave_room()
        sorts = config.sorts(name, category)
        self.reranks: list[Stage] = [
            lambda query, arena: in_order(arena)
        ]  # what a chain without a score sort begins with
        self.reranks += [
            self._sound("sort", one, replace(at, last=place + 1 == len(sorts))) for place, one in enumerate(sorts)
        ]
        for pipeline in self.pipelines:
            pipeline.sort(at)
        later = [*(action for one in self.general for action in one.actions), *self.reranks]
        self.fetching_recall = [one for one in (*self.recalls, *self.filters) if isinstance(one, Fetching)]
        fetching: list[Any] = self.fetching_recall + [one for one in later if isinstance(one, Fetching)]
        self.fetching_early, self.fetching_late = apart(fetching)
        loading = any(isinstance(stage, Loading) for stage in (*self.recalls, *self.filters, *later))
        self.awaits = bool(fetching) or loading or remotes or any(one.awaits for one in self.pipelines)
        self.algos = outputs.capacity
        self.writer = Writer(self.score.outputs, list(self.conf.output_fields))
        self.user_loads, self.loads = list[Load](), list[Load]()
        with refusals:
            self.user_loads = loads(config.user_feature_confs, name, "UserFeatureConfs", at, shared=self._shared)
        with refusals:
            self.loads = loads(config.feature_confs, name, "FeatureConfs", at, shared=self._shared)
        features = config.feature_confs.get(name)
        self.loads_together = features is not None and features.asyn_load_feature
        all_loads = [*self.user_loads, *self.loads, *(load for one in self.general for load in one.loads)]
        self.awaits = self.awaits or any(load.awaits for load in all_loads)
        self.item_properties, self.user_properties = dict[str, Column](), dict[str, Column]()
        with refusals:
            self.item_properties = properties(config.feature_confs, name, "item", snapshot)
        with refusals:
            self.user_properties = properties(config.user_feature_confs, name, "user", snapshot)
        self.shown: Shown | None = None
        if self.logged is not None:
            self.shown = shown_of(name, snapshot, self.item_properties, self.writer.outputs)
        # They lead back here, and a scene goes when nobody holds it.
        del self._at, self._known, self._binding, self._refusals, self._shared

    def _sound(self, kind: str, name: str, at: Binding) -> Stage:
        """As `_bound`; nothing, if it refuses."""
        with self._refusals:
            return self._bound(kind, name, at)
        return _nothing

    def _sees_repeats(self, names: Sequence[str]) -> bool:
        """Of a chain of filters; unknown ones are refused elsewhere."""
        known = self._known["filter"]
        return filters.sees_repeats([one for one in names if one in known], known)

    def _general(self, config: Config, algorithms: Algorithms, outputs: Outputs) -> list[General]:
        """The general rank; the cold-start one behind it, which is only looked at where there is a general one."""
        name, found = self.name, list[General]()
        for section, confs in (
            ("GeneralRankConfs", config.general_rank_confs),
            ("ColdStartGeneralRankConfs", config.cold_start_general_rank_confs),
        ):
            conf = confs.get(name)
            if conf is None:
                break
            found.append(general_of(conf, self._at, algorithms, outputs, f"{section}.{name}"))
        return found

    def _bound(self, kind: str, name: str, at: Binding) -> Stage:
        """A recall, filter or sort of the configuration, by name; one that leads back to itself is refused."""
        section = f"{kind.capitalize()}Confs"
        if name not in self._known[kind] and self._refusals.partial:
            return _nothing  # it is not there because it is wrong, and that was said
        if name not in self._known[kind]:
            known = ", ".join(sorted(self._known[kind]))
            raise ConfigError(f'{section}: no {kind} is named "{name}"; there are {known}')
        mark = f"{section}.{name}"
        if mark in self._binding:
            raise ConfigError(f"{mark}: leads back to itself, through {' and '.join(self._binding)}")
        conf, self._asked = self._known[kind][name], self._asked + 1
        # One that another uses may be in the chain as well, and what it fetched must not be taken twice.
        key, asked = self._shared.key(conf, at) if not self._binding else None, self._asked
        if (known := self._shared.get(key)) is not None:
            return cast(Stage, known)
        self._binding.append(mark)
        try:
            stage: Stage = conf.bind(at)
        finally:
            self._binding.pop()
        if asked == self._asked:  # else it uses others, which may be configured otherwise in another variant
            self._shared.put(key, stage)
        return stage

    def _filter(self, name: str) -> Stage:
        return self._bound("filter", name, self._at)

    def _sort(self, name: str) -> Stage:
        return self._bound("sort", name, replace(self._at, last=False))


def properties(confs: dict[str, Any], scene: str, side: str, snapshot: Snapshot) -> dict[str, Column]:
    """Columns that the local loads of a scene's feature configuration select: name -> column.

    Raises:
        ConfigError: another table, or a column the table lacks.
    """
    chosen: dict[str, Column] = {}
    section = "FeatureConfs" if side == "item" else "UserFeatureConfs"
    chosen_loads: Iterable[FeatureLoadConfig] = confs[scene].feature_load_confs if scene in confs else ()
    for place, load in enumerate(chosen_loads):
        dao = load.feature_dao_conf
        if dao.adapter_type == "local" and (dao.feature_store == "item") == (side == "item"):
            chosen |= local_columns(dao, snapshot, f"{section}.{scene}.FeatureLoadConfs[{place}]")
    return chosen


Scenes = dict[tuple[str, str], Scene]  # by name and category
Make = Callable[[Config, str, str, Mapping[str, Any]], Scene]  # with parameters of experiments


def bind(
    config: Config, snapshot: Snapshot, stores: Any = None, servers: Servers | None = None,
    refusals: Refusals | None = None,
) -> tuple[Scenes, Make]:  # fmt: skip
    """Every scene and category of the configuration, and what makes another of one, with parts of it overridden.

    `servers` are the model servers that were asked before.

    Raises:
        ConfigError: all that refuses, each at its place in the file, unless it is collected in `refusals`.
        SnapshotError: a model that cannot reproduce its own golden scores.
    """
    collected = Refusals() if refusals is None else refusals
    algorithms = Algorithms(config.algo_confs, snapshot, {} if servers is None else servers)
    shared = Shared(config)
    scenes = {
        (name, category): Scene(config, snapshot, name, category, algorithms, collected, stores, shared=shared)
        for name, categories in config.scene_confs.items()
        for category in categories
    }
    if refusals is None and collected.errors:
        raise config.report.located(collected.errors)
    for model in algorithms.models.values():
        rehearse(model, model.model, snapshot)

    def make(changed: Config, name: str, category: str, params: Mapping[str, Any]) -> Scene:
        """Raises ConfigError: all that refuses."""
        known, refused = set(algorithms.models), Refusals()
        scene = Scene(changed, snapshot, name, category, algorithms, refused, stores, params, shared)
        if refused.errors:
            raise ConfigError("\n".join(f"experiments of {name}: {error}" for error in refused.errors))
        for added in set(algorithms.models) - known:
            rehearse(algorithms.models[added], algorithms.models[added].model, snapshot)
        return scene

    return scenes, make


def logged(config: Config, snapshot: Snapshot) -> dict[str, tuple[dict[str, Column], ...]]:
    """What is loaded for explicit callbacks, of users and of items, by scene.

    Raises:
        ConfigError: as `properties`.
    """
    confs = config.user_feature_confs, config.feature_confs
    return {
        scene: tuple(
            properties(conf, f"{scene}_callback", side, snapshot)
            for conf, side in zip(confs, ("user", "item"), strict=True)
        )
        for scene in config.call_back_confs
    }


def rehearse(model: Model, name: str, snapshot: Snapshot) -> None:
    """Score the golden queries of a model, folded and not, and let it measure which is faster.

    Raises:
        SnapshotError: no golden queries, or one bit differs from what was given when the snapshot was built.
    """
    golden = snapshot.golden.get(name)
    if golden is None:
        raise SnapshotError(f"{snapshot.directory}: manifest.json names no golden queries of model {name!r}")
    count = max(golden.items.shape[1], min(len(snapshot.items), REHEARSED))
    score = Score([model], RankConfig(), Outputs(), snapshot, "")
    arena = Arena(count, items_max=len(snapshot.items), width=score.width, algos=len(model.outputs))
    for user, rows, expected in zip(golden.users, golden.items, golden.scores, strict=True):
        uid = snapshot.users.ids.id(int(user)) if user >= 0 else ""
        query = Query(snapshot, uid, count, {}, history_max=1 << 30)
        arena.reset()
        arena.count = len(rows)
        arena.row[: len(rows)] = rows
        for fold_from in (len(rows) + 1, 0):
            model.request.fold_from = fold_from
            score.features(query, arena)
            score.score(query, arena)
            given = arena.algo_score[0, : len(rows)]
            if given.tobytes() == expected.tobytes():
                continue
            slot = int((given != expected).argmax())
            raise SnapshotError(
                f"{snapshot.directory}: model {name!r} gives {given[slot]!r} for user {uid!r}, item "
                f"{snapshot.items.ids.id(int(rows[slot]))!r}; {expected[slot]!r} was given when it was built. "
                "The features are not what the model was trained on."
            )
    arena.count = count
    arena.row[:] = np.linspace(0, len(snapshot.items) - 1, count).astype(np.int32)  # apart, as candidates are
    score.measure(query, arena)


def snapshot_of(config: Config) -> Path:
    """The snapshot directory that the configuration names. Raises ConfigError: none."""
    if config.snapshot_conf is None:
        raise ConfigError('SnapshotConf: missing; it names the snapshot directory, as {"Directory": ...}')
    return config.path(config.snapshot_conf.directory)


def guests_of(config: Config) -> int:
    """How many items a request may bring that the snapshot lacks: none, where no recall of a scene brings such."""
    open_ones = {conf.name for conf in config.recall_confs if getattr(conf, "brings_guests", False)} | {
        "ContextItemRecall"
    }
    used = {name for scene in config.scene_confs.values() for conf in scene.values() for name in conf.recall_names}
    used |= {name for confs in config.pipeline_confs.values() for conf in confs for name in conf.recall_names}
    # A callback may name any item, and where loads or transforms act they give it properties.
    loading = (
        confs.get(f"{scene}_callback") for scene in config.call_back_confs
        for confs in (config.user_feature_confs, config.feature_confs)
    )  # fmt: skip
    called = any(
        load.features or load.feature_dao_conf.adapter_type != "local"
        for conf in loading if conf is not None for load in conf.feature_load_confs
    )  # fmt: skip
    any_recall = config.experiment_conf is not None  # which may give a scene any
    return config.limit_conf.candidates_max if open_ones & used or called or any_recall else 0


class Prepared(NamedTuple):
    """`live` None: there is no snapshot, or it does not fit. `problems` are those of everything, in order."""

    config: Config
    live: Live | None
    scenes: dict[tuple[str, str], Scene]
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


def examine(
    path: str | os.PathLike[str], check: Callable[[Config], Iterable[ConfigError]] | None = None,
    others: Callable[[Config, Scenes, Make], Iterable[ConfigError]] | None = None,
) -> Prepared:  # fmt: skip
    """Do everything but serve, and find all that is wrong: in the file, and between it and the snapshot it names.

    `check` looks at what else is needed to start, once the file itself is sound; `others` at what the scenes may be
    made into, once they are sound.

    Raises:
        ConfigError: the file cannot be read, or is no JSON object.
    """
    config = Config.examine(path, KINDS)
    refusals = Refusals(partial=bool(config.report.error_count))
    live: Live | None = None
    scenes: dict[tuple[str, str], Scene] = {}
    if not any(one.severity == "error" and one.path.startswith("SnapshotConf") for one in config.problems):
        with refusals:
            live, scenes = _served(config, refusals, others)
    if check is not None and not refusals.partial:
        refusals.errors += check(config)
    problems = sorted((*config.problems, *config.report.located(refusals.errors).problems), key=lambda one: one[1:3])
    return Prepared(config, live, scenes, tuple(problems))


def _served(
    config: Config, refusals: Refusals, others: Callable[[Config, Scenes, Make], Iterable[ConfigError]] | None
) -> tuple[Live | None, Scenes]:
    """What would be served, as far as it can be."""
    directory = snapshot_of(config)
    try:
        snapshot = Snapshot.load(directory, spare=config.limit_conf.new_items_max, guests=guests_of(config))
        with Stores(config) as stores:
            scenes, make = bind(config, snapshot, stores, refusals=refusals)
            if others is not None and not (refusals.errors or refusals.partial):
                refusals.errors += others(config, scenes, make)
        if not config.scene_confs and not refusals.partial:
            refusals.add("SceneConfs: no scene")
        with refusals:
            logged(config, snapshot)
        live = Live(snapshot)
        live.update()
    except (SnapshotError, OSError) as error:
        refusals.add(f"SnapshotConf.Directory: {error}")
        return None, {}
    return live, scenes


def prepare(path: str | os.PathLike[str]) -> tuple[Config, Live, dict[tuple[str, str], Scene]]:
    """Load a configuration and its snapshot, verify, bind and bring them up to items.log: everything but serving.

    Raises:
        ConfigError: all that is wrong, each with its place; also a snapshot that does not fit.
    """
    prepared = examine(path)
    if not prepared.sound or prepared.live is None:
        raise ConfigError.of(problem for problem in prepared.problems if problem.severity == "error")
    return prepared.config, prepared.live, prepared.scenes
