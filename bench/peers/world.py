"""The world that is asked: the demo's data, a model of sixty features on it, and a scene that everybody can imitate.

25 features are of the user or the request, 25 of the item, 10 of both. 300 trees of 31 leaves, vectors of 64 dims, 500
candidates, of a category at most 3 among any 5, the best 20.

The demo trains vectors on clicks, so that of a million items one in thirteen has one, and their lengths differ by
orders of magnitude: hnswlib's graph finds two thirds of what is nearest there, whatever its effort. Here every item has
a vector, of `two_tower` of bench.recall, where every library finds what it is asked to. What was clicked most has the
longest one: as two towers learn it, and so that what is recalled is what the model knows something of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet

from bench.recall.sets import two_tower
from pairec_fast.build import build
from pairec_fast.learn.demo import world_text
from pairec_fast.learn.world import generate

SCENE, MODEL, VECTORS, DIM = "home_feed", "ranker", "tower", 64
RECALL = 0.90  # at 0.95 hnswlib takes more than twice as long
CANDIDATES, SIZE, WINDOW, WINDOW_MOST = 500, 20, 5, 3
GENDER_BRAND = "gender_brand_ctr"
TREES, LEAVES = 300, 31
LEARNING_RATE = 0.012  # so slow that the 300th tree still helps: training ends where a tree does not
# Brands are known by their rates, and splits by category are few: with LightGBM's defaults and 2,500 brands half of all
# splits are by brand, and then LightGBM takes five times as long, lleaves ten times.
SPARING = "max_cat_threshold = 8, cat_smooth = 200, cat_l2 = 200, min_data_per_group = 1000"
TRAIN_SHARE, HOLDOUT_SHARE = 0.10, 0.03  # of the time: so much is enough for as many trees

Aggregate = tuple[str, str, list[str], dict[str, Any]]  # name, function, by, further fields
_ALL: dict[str, dict[str, Any]] = {"": {}}
_DAYS = {f"_{days}d": {"window_days": days} for days in (1, 3, 7, 14)}


def _each(name: str, function: str, by: list[str], windows: dict[str, Any], **more: Any) -> list[Aggregate]:
    return [(f"{name}{suffix}", function, by, more | fields) for suffix, fields in windows.items()]


def _days(*days: int) -> dict[str, dict[str, Any]]:
    return _ALL | {name: _DAYS[name] for name in (f"_{one}d" for one in days)}


_USER = [
    *_each("user_ctr", "mean", ["user"], _days(1, 3, 7, 14), of="clicked"),
    *_each("user_clicks", "count", ["user"], _days(1, 3, 7, 14) | {"_recent": {"half_life_days": 3}}, positives=True),
    *_each("user_shown", "count", ["user"], _days(1, 7)),
    *_each("user_last_click_days", "recency", ["user"], _ALL, positives=True),
    *_each("user_last_days", "recency", ["user"], _ALL),
    *_each("user_first_days", "age", ["user"], _ALL),
    *_each("gender_ctr", "mean", ["user.gender"], _ALL, of="clicked"),
    *_each("city_ctr", "mean", ["user.city"], _ALL, of="clicked"),
]
_HALF_LIVES = {f"_h{days}": {"half_life_days": days} for days in (1, 3, 7)}
_ITEM = [
    *_each("item_shown", "count", ["item"], _days(3, 7)),
    *_each("item_clicks", "count", ["item"], _days(3, 7) | _HALF_LIVES, positives=True),
    *_each("item_ctr", "mean", ["item"], _days(3, 7, 14), of="clicked"),
    *_each("item_last_click_days", "recency", ["item"], _ALL, positives=True),
    *_each("item_last_days", "recency", ["item"], _ALL),
    *_each("item_first_days", "age", ["item"], _ALL),
    *_each("category_ctr", "mean", ["item.category"], _days(7), of="clicked"),
    *_each("category_clicks", "count", ["item.category"], {"_7d": _DAYS["_7d"]}, positives=True),
    *_each("brand_ctr", "mean", ["item.brand"], _days(7), of="clicked"),
]
_CROSS = [
    *_each("user_category_ctr", "mean", ["user", "item.category"], _days(7), of="clicked"),
    *_each("user_category_clicks", "count", ["user", "item.category"], _days(7), positives=True),
    *_each("gender_category_ctr", "mean", ["user.gender", "item.category"], _ALL, of="clicked"),
    *_each("gender_category_lift", "lift", ["user.gender", "item.category"], _ALL, positives=True),
    *_each("city_category_ctr", "mean", ["user.city", "item.category"], _ALL, of="clicked"),
    *_each("city_category_lift", "lift", ["user.city", "item.category"], _ALL, positives=True),
    *_each(GENDER_BRAND, "mean", ["user.gender", "item.brand"], _ALL, of="clicked"),
]
# In the model's order: items' first, so that a peer gathers them in one piece.
SOURCES = [
    *(f"item:{name}" for name in ("price", "category", "in_stock", "age_days")),
    *(f"aggregate:{name}" for name, *_ in _ITEM),
    *(f"user:{name}" for name in ("age", "gender", "city", "member_days")),
    *(f"context:{name}" for name in ("hour", "device")),
    *(f"aggregate:{name}" for name, *_ in _USER),
    *(f"aggregate:{name}" for name, *_ in _CROSS),
    f"dot:{VECTORS}",
]


def made(directory: Path, items: int, users: int, say: Callable[[str], None], trees: int = TREES) -> Path:
    """The configuration of the world in `directory`; data and snapshot are made unless they are there."""
    config, world = directory / "engine.json", directory / "world"
    if config.exists():
        return config
    if not (world / "impressions.parquet").exists():
        say(f"generating {items:,} items and {users:,} users")
        generate(world, items=items, users=users, seed=1)
    if not (world / "users.npy").exists():
        _give_vectors(world)
    (world / "world.toml").write_text(described(trees))
    last = [""]

    def progress(step: str, done: int, total: int) -> None:
        if step != last[0]:
            last[0] = step
            say(f"{step} ...")

    build(world / "world.toml", directory / "snapshots", say=say, progress=progress)
    partial = config.with_suffix(".partial")
    partial.write_text(json.dumps(engine_config(), indent=2) + "\n")
    partial.replace(config)
    return config


def _give_vectors(world: Path) -> None:
    """items.npy and users.npy; the items' table is put in another order, so that the longest vectors are the best's."""
    items = pyarrow.parquet.read_table(world / "items.parquet")
    events = pyarrow.parquet.read_table(world / "impressions.parquet", columns=["item_id", "clicked"])
    users = pyarrow.parquet.read_metadata(world / "users.parquet").num_rows
    vectors, asking = two_tower(items.num_rows, DIM, queries=users)
    place = pyarrow.compute.index_in(events["item_id"], items["item_id"]).to_numpy()
    # By clicks, then by how often it was shown.
    worth = np.bincount(place, events["clicked"].to_numpy() + 1e-4, minlength=items.num_rows)
    best_first, longest_first = (np.argsort(-each, kind="stable") for each in (worth, np.linalg.norm(vectors, axis=1)))
    order = np.empty(items.num_rows, np.int64)
    order[longest_first] = best_first
    partial = world / "items.partial"
    pyarrow.parquet.write_table(items.take(order), partial)
    partial.replace(world / "items.parquet")
    np.save(world / "items.npy", vectors)
    np.save(world / "users.npy", asking)  # last: who finds it finds all


def described(trees: int) -> str:
    """world.toml: the demo's tables and vectors, the aggregates above, and the model."""
    assert len(set(SOURCES)) == len(SOURCES) == 60, "sixty features, each once"
    parts = [
        world_text("world").partition("[[vectors]]")[0],
        f'[[vectors]]\nname = "{VECTORS}"\nusers = "users.npy"\nitems = "items.npy"\n',
        f"k = {CANDIDATES}\nrecall = {RECALL}\n",
    ]
    for name, function, by, more in (*_USER, *_ITEM, *_CROSS):
        fields = {"name": name, "function": function, "by": by, **more}  # JSON writes such values as TOML does
        parts.append("\n[[aggregates]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items()))
    parts.append(
        f'\n[[models]]\nname = "{MODEL}"\nobjective = "binary"\nrounds = {trees}\n'
        f"train_share = {TRAIN_SHARE}\nholdout_share = {HOLDOUT_SHARE}\n"
        f"params = {{ num_leaves = {LEAVES}, learning_rate = {LEARNING_RATE}, {SPARING} }}\nfeatures = [\n"
        + "".join(f'  {{ name = "{source.partition(":")[2]}", source = "{source}" }},\n' for source in SOURCES)
        + "]\n"
    )
    return "".join(parts)


def engine_config() -> dict[str, Any]:
    """The scene, without what no peer has: no metrics of PAI-Rec's, no callback."""
    load = {"AdapterType": "local", "FeatureStore": "user", "FeatureKey": "user:uid", "TableName": "users"}
    return {
        "ListenConf": {"HttpAddr": "127.0.0.1", "HttpPort": 0},
        "SnapshotConf": {"Directory": "snapshots"},
        "LimitConf": {"InFlightMax": 64},  # no peer refuses, so all sixteen connections are let in
        "SceneConfs": {SCENE: {"default": {"RecallNames": ["vectors"]}}},
        "RecallConfs": [
            {
                "Name": "vectors", "RecallType": "HnswRecall", "RecallCount": CANDIDATES,
                "HnswConf": {"Index": VECTORS},
            }
        ],
        "AlgoConfs": [{"Name": MODEL, "Type": "LIGHTGBM", "LightGBMConf": {"Model": MODEL}}],
        "RankConf": {SCENE: {"RankAlgoList": [MODEL], "RankScore": f"${{{MODEL}}}"}},
        "SortConfs": [
            {
                "Name": "spread", "SortType": "DiversityRuleSort",
                "DiversityRules": [{"Dimensions": ["category"], "WindowSize": WINDOW, "FrequencySize": WINDOW_MOST}],
            }
        ],
        "SortNames": {"default": ["ItemRankScore", "spread"]},
        "FeatureConfs": {},
        "UserFeatureConfs": {SCENE: {"FeatureLoadConfs": [{"FeatureDaoConf": load | {"UserSelectFields": "*"}}]}},
    }  # fmt: skip
