"""Scene: one pipeline, bound to one snapshot. Everything is resolved here; a request only walks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast import filter as filters
from pairec_fast import recall as recalls
from pairec_fast import rerank as reranks
from pairec_fast.config import CategoryConfig, Config, FeatureLoadConfig
from pairec_fast.core import Arena, in_order
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.items.live import Live
from pairec_fast.query import Query
from pairec_fast.reply import Writer
from pairec_fast.score import Model, Score
from pairec_fast.snapshot import Column, Snapshot

KINDS = SimpleNamespace(recall=recalls.KINDS, filter=filters.KINDS, sort=reranks.KINDS)
SOURCES_MAX = 255  # `source` is one byte a candidate
REHEARSED = 512  # candidates that a model is timed with

Stage = Callable[[Query, Arena], None]


class Scene:
    """The stages of one scene and category, in order, each a function of (query, arena).

    Raises:
        ConfigError: a name the snapshot does not have, or a part that does not act in this version.
        SnapshotError: the snapshot's parts do not fit each other.
    """

    def __init__(self, config: Config, snapshot: Snapshot, name: str, category: str, models: dict[str, Model]) -> None:
        self.name, self.category, self.snapshot = name, category, snapshot
        self.conf: CategoryConfig = config.scene_confs[name].get(category, CategoryConfig())
        # The callback flags are read from category `default`, whatever the request names.
        self.callback_conf = config.scene_confs[name].get("default", CategoryConfig())
        self.sources = config.recalls(name, category) or []
        if len(self.sources) > SOURCES_MAX:
            raise ConfigError(
                f"SceneConfs.{name}.{category}.RecallNames: {len(self.sources)} recalls; at most {SOURCES_MAX}"
            )
        known = {conf.name: conf for conf in config.recall_confs} | {"ContextItemRecall": recalls.ContextItemRecall()}
        self.recalls: list[Stage] = [known[one].bind(snapshot, place) for place, one in enumerate(self.sources)]
        known = {conf.name: conf for conf in config.filter_confs} | {"UniqueFilter": filters.UniqueFilter()}
        self.filters: list[Stage] = [known[one].bind(snapshot) for one in config.filters(name)]
        rank = config.rank_conf.get(name)
        if rank and rank.score_rewrite:
            raise ConfigError(f"RankConf.{name}.ScoreRewrite is not available in this version")
        self.score = Score(
            [models[algo] for algo in rank.rank_algo_list] if rank else [],
            rank.rank_score if rank else "",
            snapshot,
            f"RankConf.{name}",
        )
        known = {conf.name: conf for conf in config.sort_confs} | {"ItemRankScore": reranks.ItemRankScore()}
        sorts = config.sorts(name, category)
        self.reranks: list[Stage] = [
            lambda query, arena: in_order(arena)
        ]  # what a chain without a score sort begins with
        self.reranks += [
            known[one].bind(snapshot, self.sources, last=place + 1 == len(sorts)) for place, one in enumerate(sorts)
        ]
        self.writer = Writer(snapshot, self.sources, self.score.outputs, list(self.conf.output_fields))
        self.item_properties = properties(config.feature_confs, name, "item", snapshot)
        self.user_properties = properties(config.user_feature_confs, name, "user", snapshot)

    def user_features(self, query: Query) -> dict[str, Any]:
        """The request's features, overlaid with the user columns that `UserFeatureConfs` loads."""
        return loaded(query.context, self.user_properties, query.user)


def properties(confs: dict[str, Any], scene: str, side: str, snapshot: Snapshot) -> dict[str, Column]:
    """Columns that the local loads of a scene's feature configuration select: name -> column.

    Raises:
        ConfigError: another adapter, another table, or a column the table lacks.
    """
    table = snapshot.items if side == "item" else snapshot.users
    chosen: dict[str, Column] = {}
    loads: Iterable[FeatureLoadConfig] = confs[scene].feature_load_confs if scene in confs else ()
    for place, load in enumerate(loads):
        dao = load.feature_dao_conf
        where = f"{'FeatureConfs' if side == 'item' else 'UserFeatureConfs'}.{scene}.FeatureLoadConfs[{place}]"
        if dao.adapter_type != "local" or load.features:
            raise ConfigError(f'{where}: only AdapterType "local" without transforms is available in this version')
        if (dao.feature_store == "item") != (side == "item"):
            continue
        if dao.table_name not in ("", table.name):
            raise ConfigError(
                f'{where}.FeatureDaoConf.TableName: "{dao.table_name}"; for this side it is "{table.name}"'
            )
        fields = dao.item_select_fields if side == "item" else dao.user_select_fields
        for field in table.columns if fields.strip() in ("", "*") else [part.strip() for part in fields.split(",")]:
            if field not in table.columns:
                raise ConfigError(
                    f'{where}.FeatureDaoConf: table "{table.name}" has no column "{field}"; '
                    f"it has {', '.join(sorted(table.columns))}"
                )
            chosen[field] = table.columns[field]
    return chosen


def loaded(given: dict[str, Any], columns: dict[str, Column], row: int) -> dict[str, Any]:
    """`given`, overlaid with the values of `columns` at `row`; a missing value, or row -1, changes nothing."""
    if row < 0 or not columns:
        return given
    values = ((name, column.value(row)) for name, column in columns.items())
    return given | {name: value for name, value in values if value is not None}


def loaded_each(columns: dict[str, Column], rows: NDArray[np.int32]) -> list[dict[str, Any]]:
    """`loaded` of nothing, for each of `rows`, none of which is -1."""
    given: list[dict[str, Any]] = [{} for _ in rows]
    for name, column in columns.items():
        for entry, value in zip(given, column.value_of_each(rows), strict=True):
            if value is not None:
                entry[name] = value
    return given


def bind(config: Config, snapshot: Snapshot) -> dict[tuple[str, str], Scene]:
    """Every scene and category of the configuration.

    Raises:
        ConfigError: as `Scene`; also an algorithm that cannot run here.
        SnapshotError: a model that cannot reproduce its own golden scores.
    """
    models: dict[str, Model] = {}
    used = {name for rank in config.rank_conf.values() for name in rank.rank_algo_list}
    for algo in config.algo_confs:
        if algo.name not in used:
            continue
        if algo.type != "LIGHTGBM" or algo.light_gbm_conf is None:
            raise ConfigError(
                f'AlgoConfs.{algo.name}: Type "{algo.type}" is not available in this version; '
                'use "LIGHTGBM" with LightGBMConf {"Model": ...}'
            )
        models[algo.name] = Model(algo.name, snapshot, algo.light_gbm_conf.model)
    scenes = {
        (name, category): Scene(config, snapshot, name, category, models)
        for name, categories in config.scene_confs.items()
        for category in categories
    }
    for algo in config.algo_confs:
        if algo.name in models and algo.light_gbm_conf is not None:
            rehearse(models[algo.name], algo.light_gbm_conf.model, snapshot)
    return scenes


def rehearse(model: Model, name: str, snapshot: Snapshot) -> None:
    """Score the golden queries of a model, folded and not, and let it measure which is faster.

    Raises:
        SnapshotError: no golden queries, or one bit differs from what was given when the snapshot was built.
    """
    golden = snapshot.golden.get(name)
    if golden is None:
        raise SnapshotError(f"{snapshot.directory}: manifest.json names no golden queries of model {name!r}")
    count = max(golden.items.shape[1], min(len(snapshot.items), REHEARSED))
    score = Score([model], "", snapshot, "")
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
    """The snapshot directory that the configuration names. Raises ConfigError: none, or one to be watched."""
    if config.snapshot_conf is None:
        raise ConfigError('SnapshotConf: missing; it names the snapshot directory, as {"Directory": ...}')
    if config.snapshot_conf.reload_seconds:
        raise ConfigError("SnapshotConf.ReloadSeconds is not available in this version; leave it out, or 0")
    return config.path(config.snapshot_conf.directory)


def prepare(path: str | os.PathLike[str]) -> tuple[Config, Live, dict[tuple[str, str], Scene]]:
    """Load a configuration and its snapshot, verify, bind and bring them up to items.log: everything but serving.

    Raises:
        ConfigError, SnapshotError: what is wrong; errors of the configuration begin with its path.
    """
    config = Config.load(path, KINDS)
    try:
        snapshot = Snapshot.load(snapshot_of(config), spare=config.limit_conf.new_items_max)
        scenes = bind(config, snapshot)
        live = Live(snapshot)
        live.update()
        return config, live, scenes
    except ConfigError as error:
        raise ConfigError(f"{os.fspath(path)}: {error}") from error
