"""Scenes as experiments change them: a configuration with parts of it overridden, bound once for each set.

Source: PAIREC.md 2.12.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from msgspec.structs import fields, replace

from pairec_fast.config import CategoryConfig, Config, PipelineConfig, RankConfig, SceneFeatureConfig
from pairec_fast.config.convert import Converter
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.errors import ConfigError, PairecError
from pairec_fast.experiment import GLOBAL_SCENE, Experiments, Params
from pairec_fast.metrics import Metrics
from pairec_fast.scene import KINDS, Make, Scene

LATE_MAX = (
    256  # variants kept that were bound when a request met them; beyond, the oldest is bound again when it is met
)
_LOADS = {"features.scene.name": "feature_confs", "user_features.scene.name": "user_feature_confs"}
_STAGED = [f"user_features.stage.{stage}.scene.name" for stage in ("base", "recall", "generalrank", "rank")]
_RANKS = {"generalRankConf": "general_rank_confs", "coldStartGeneralRankConf": "cold_start_general_rank_confs"}
_EXACT = {"filterNames", "rankconf", "rankscore", "user_features.multistage.on", *_LOADS, *_STAGED, *_RANKS}
_UNKNOWN = ""  # any category that is neither configured nor named by parameters: answered as `default_category`
_BEGINS = ("recall.", "filter.", "sort.", "pipelines.", "dpp_", "ssd_")
_BOUND = ("dpp_", "ssd_")  # what stages themselves look for in `Binding.params`
_ENDS = (".RecallNames", ".SortNames")

log = logging.getLogger("pairec_fast")


def overriding(params: Mapping[str, Any], category: str) -> Params:
    """Those of `params` that change what requests of a category are bound to; the others are read by each request."""
    names = _EXACT | {category + end for end in _ENDS}
    return Params({name: value for name, value in params.items() if name in names or name.startswith(_BEGINS)})


class Variants:
    """The scenes of one configuration, and what experiments make of them: bound at load, or when first met.

    Requests whose parameters override the same share a scene, and one that nothing overrides has the base scene.
    """

    def __init__(self, config: Config, scenes: Mapping[tuple[str, str], Scene], make: Make, metrics: Metrics) -> None:
        self._config, self._scenes, self._make, self._metrics = config, scenes, make, metrics
        self._made: dict[tuple[str, str, str], Scene] = {}
        self._late: dict[tuple[str, str, str], Scene | None] = {}  # None: it cannot be bound
        self._lock = threading.Lock()

    def bind(self, experiments: Experiments) -> list[Scene]:
        """Bind what requests may get, as far as `Experiments.variants` lists it. Answers the scenes.

        Raises:
            ConfigError: what some parameters say cannot be bound.
        """
        for name in experiments.scenes:
            if name == GLOBAL_SCENE:
                continue
            every, left_out = experiments.variants(name)
            for params in every:
                for category in self._categories(name, params):
                    self._bound(name, category, params, self._made)
            if left_out:
                log.warning("experiments of %s: up to %d more variants are bound when they are met", name, left_out)
        return list(self._made.values())

    def base(self, scene_id: str, category: str) -> Scene | None:
        """The scene of a request that is in no experiment. None: an unknown scene, or an unknown category of one
        without `default_category`."""
        return self._scenes.get((scene_id, category)) or self._scenes.get((scene_id, "default_category"))

    def of(self, scene_id: str, category: str, params: Params) -> tuple[Scene | None, bool]:
        """The scene of a request with these parameters; whether it is what they say, and not the base scene in its
        stead because they cannot be bound."""
        name, base = scene_id, self.base(scene_id, category)
        if not params:
            return base, True
        if not any(category + end in params for end in _ENDS):  # for those the category need not be configured
            if base is None:
                return None, True
            if base.category != category:
                category = _UNKNOWN
        key = name, category, params.key
        made = self._made.get(key) or self._late.get(key)
        if made is not None:
            return made, True
        with self._lock:
            if key not in self._late:
                while len(self._late) >= LATE_MAX:
                    del self._late[next(iter(self._late))]
                try:
                    self._bound(name, category, params, self._late)
                except Exception as error:
                    expected = isinstance(error, PairecError)
                    log.error("%s: requests are answered without it: %s", name, error, exc_info=not expected)
                    self._late[key] = None
            made = self._late[key]
        if made is not None:
            return made, True
        self._metrics.count("experiment_refused_total", scene=name)
        return base, False

    def _bound(self, name: str, category: str, params: Params, into: dict[Any, Any]) -> None:
        """Put the scene of these parameters into `into`, under all of them and under those that count."""
        counts = overriding(params, category)
        configured = "default_category" if category == _UNKNOWN else category
        key, whole = (name, configured, counts.key), (name, category, params.key)
        scene = self._made.get(key) or self._late.get(key)
        if scene is None and not counts:
            scene = self._scenes[name, configured]
        if scene is None:
            changed = overridden(self._config, name, configured, counts)
            # The rest is in `changed`; with it in the binding as well nothing could be shared between variants.
            own = Params({key: value for key, value in counts.items() if key.startswith(_BOUND)})
            scene = self._make(changed, name, configured, own)
        into[key] = into[whole] = scene

    def _categories(self, name: str, params: Params) -> list[str]:
        """Those of a scene that are configured, and those that parameters name."""
        configured = [category for scene, category in self._scenes if scene == name]
        ends = {end: [one.removesuffix(end) for one in params if one.endswith(end)] for end in _ENDS}
        named = [one for one in ends[".RecallNames"] if "." not in one]
        if "default_category" in configured:
            named += [_UNKNOWN, *(one for one in ends[".SortNames"] if "." not in one)]
        return list(dict.fromkeys([*configured, *named]))


def refused_variants(config: Config, scenes: Mapping[tuple[str, str], Scene], make: Make) -> list[ConfigError]:
    """What the experiments of a configuration would make of its scenes and cannot be bound, each once."""
    refused: dict[str, ConfigError] = {}

    def tried(changed: Config, name: str, category: str, params: Mapping[str, Any]) -> Scene:
        try:
            return make(changed, name, category, params)
        except ConfigError as error:
            for line in str(error).split("\n"):
                refused.setdefault(line, ConfigError(f"ExperimentConf.File: {line}"))
            return next(iter(scenes.values()))  # is not used: there are other variants to look at

    if config.experiments_path is not None:
        try:
            Variants(config, scenes, tried, Metrics()).bind(Experiments.load(config.experiments_path))
        except ConfigError as error:
            refused.setdefault(str(error), error)
    return list(refused.values())


def overridden(config: Config, scene: str, category: str, params: Params) -> Config:
    """The configuration that `params` give requests of one scene and category.

    Raises:
        ConfigError: an object that is none of its kind.
    """
    report = Report(Document(f"experiments of {scene}"))
    to = Converter(report)
    parts: dict[str, Any] = {}
    categories = config.scene_confs.get(scene, {})
    own = categories.get(category, categories.get("default_category", CategoryConfig()))
    if names := params.get_names(f"{category}.RecallNames"):
        own = replace(own, recall_names=tuple(names))
    parts["scene_confs"] = {**config.scene_confs, scene: {**categories, category: own}}
    if (names := params.get_names("filterNames")) is not None:
        parts["filter_names"] = {**config.filter_names, scene: tuple(names)}
    if (names := params.get_names(f"{category}.SortNames")) is not None:
        parts["sort_names"] = {**config.sort_names, scene: tuple(names)}
    for kind, registry in (("recall", KINDS.recall), ("filter", KINDS.filter), ("sort", KINDS.sort)):
        given = [(name, value) for name, value in params.items() if name.startswith(f"{kind}.")]
        if given:
            confs = {conf.name: conf for conf in getattr(config, f"{kind}_confs")}
            for key, value in given:
                name = key.partition(".")[2]
                entry = {**value, "Name": name} if isinstance(value, dict) else value
                confs[name] = STAGES[kind].take(entry, registry, (key,), to, report)
            parts[f"{kind}_confs"] = tuple(confs.values())
    _rank(config, scene, params, to, parts)
    pipelines = config.pipeline_confs.get(scene, ())
    changed_ones = tuple(_pipeline(conf, params, to) for conf in pipelines)
    if changed_ones != pipelines:
        parts["pipeline_confs"] = {**config.pipeline_confs, scene: changed_ones}
    for name, attribute in _LOADS.items():
        if wanted := params.get_string(name):
            confs = getattr(config, attribute)
            parts[attribute] = {**confs, scene: confs.get(wanted, SceneFeatureConfig())}
    if params.get_bool("user_features.multistage.on"):
        chosen = [config.user_feature_confs.get(params.get_string(name)) for name in _STAGED]
        every = tuple(load for conf in chosen if conf is not None for load in conf.feature_load_confs)
        parts["user_feature_confs"] = {**config.user_feature_confs, scene: SceneFeatureConfig(every)}
    report.raise_errors()
    return replace(config, **parts)


def _pipeline(conf: PipelineConfig, params: Params, to: Converter) -> PipelineConfig:
    """An empty list counts here: an experiment may switch a side pipeline off."""
    parts: dict[str, Any] = {}
    for field in fields(PipelineConfig):
        name = f"pipelines.{conf.name}.{field.encode_name}"
        if field.type == tuple[str, ...]:
            if (names := params.get_names(name)) is not None:
                parts[field.name] = tuple(names)
        elif field.name != "name" and isinstance(params.get(name), dict | list):
            parts[field.name] = to.take(params[name], field.type, (name,))
    return replace(conf, **parts) if conf.name and parts else conf


def _rank(config: Config, scene: str, params: Params, to: Converter, parts: dict[str, Any]) -> None:
    rank = config.rank_conf.get(scene, RankConfig())
    if (value := params.get_object("rankconf")) is not None:
        rank = to.take(value, RankConfig, ("rankconf",))
    if (text := params.get_string("rankscore")) and isinstance(rank, RankConfig):
        rank = replace(rank, rank_score=text)
    if rank is not config.rank_conf.get(scene):
        parts["rank_conf"] = {**config.rank_conf, scene: rank}
    for name, attribute in _RANKS.items():
        if (value := params.get_object(name)) is not None:
            kind = next(field.type for field in fields(Config) if field.name == attribute)
            confs = to.take({scene: value}, kind, (name,))
            parts[attribute] = {**getattr(config, attribute), **confs} if isinstance(confs, dict) else confs
