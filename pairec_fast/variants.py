"""Scenes as experiments change them: a configuration with parts of it overridden, bound once for each set.

Source: PAIREC.md 2.12.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import fields, replace

from pairec_fast.config import CategoryConfig, Config, RankConfig, SceneFeatureConfig
from pairec_fast.config.convert import Converter
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.experiment import Params
from pairec_fast.scene import KINDS, Scene

Make = Callable[[Config, str, str, Params], Scene]
_LOADS = {"features.scene.name": "feature_confs", "user_features.scene.name": "user_feature_confs"}
_STAGED = [f"user_features.stage.{stage}.scene.name" for stage in ("base", "recall", "generalrank", "rank")]
_RANKS = {"generalRankConf": "general_rank_confs", "coldStartGeneralRankConf": "cold_start_general_rank_confs"}
_EXACT = {"filterNames", "rankconf", "rankscore", "user_features.multistage.on", *_LOADS, *_STAGED, *_RANKS}
_BEGINS = ("recall.", "filter.", "sort.", "dpp_", "ssd_", "ensure_diversity_min_count")
_ENDS = (".RecallNames", ".SortNames")


def overrides(params: Mapping[str, Any]) -> bool:
    """Whether any of `params` changes what a scene is bound to; the others are only names in formulas."""
    return any(name in _EXACT or name.startswith(_BEGINS) or name.endswith(_ENDS) for name in params)


class Variants:
    """The scenes of one configuration, and what experiments make of them: bound at load, or when first met."""

    def __init__(self, config: Config, scenes: Mapping[tuple[str, str], Scene], make: Make) -> None:
        self._config, self._scenes, self._make = config, scenes, make
        self._made: dict[tuple[str, str, str], Scene] = {}
        self._lock = threading.Lock()

    def of(self, scene_id: str, category: str, params: Params | None = None) -> Scene | None:
        """The scene of a request. None: an unknown scene, or an unknown category of one without `default_category`.

        Raises:
            ConfigError: what the parameters say cannot be bound.
        """
        scene = self._scenes.get((scene_id, category)) or self._scenes.get((scene_id, "default_category"))
        if scene is None or not params:
            return scene
        key = scene.name, scene.category, params.key
        made = self._made.get(key)
        if made is not None:
            return made
        with self._lock:
            if key not in self._made:
                changed = overridden(self._config, scene.name, scene.category, params) if overrides(params) else None
                self._made[key] = scene if changed is None else self._make(changed, scene.name, scene.category, params)
            return self._made[key]


def overridden(config: Config, scene: str, category: str, params: Params) -> Config:
    """The configuration that `params` give requests of one scene and category.

    Raises:
        ConfigError: an object that is none of its kind.
    """
    report = Report(Document(f"parameters of {scene}"))
    to = Converter(report)
    parts: dict[str, Any] = {}
    if names := params.get_names(f"{category}.RecallNames"):
        categories = config.scene_confs[scene]
        changed = replace(categories.get(category, CategoryConfig()), recall_names=tuple(names))
        parts["scene_confs"] = {**config.scene_confs, scene: {**categories, category: changed}}
    if (names := params.get_names("filterNames")) is not None:
        parts["filter_names"] = {**config.filter_names, scene: tuple(names)}
    if (names := params.get_names(f"{category}.SortNames")) is not None:
        parts["sort_names"] = {**config.sort_names, scene: tuple(names)}
    for kind, registry in (("recall", KINDS.recall), ("filter", KINDS.filter), ("sort", KINDS.sort)):
        given = {name.partition(".")[2]: value for name, value in params.items() if name.startswith(f"{kind}.")}
        if given:
            confs = {conf.name: conf for conf in getattr(config, f"{kind}_confs")}
            for name, value in given.items():
                entry = {**value, "Name": name} if isinstance(value, dict) else value
                confs[name] = STAGES[kind].take(entry, registry, 0, to, report)
            parts[f"{kind}_confs"] = tuple(confs.values())
    _rank(config, scene, params, to, parts)
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
