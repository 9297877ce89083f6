"""What build makes of items.log: the same answers as the rows behind the tables gave."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from pairec_fast import Engine, Snapshot, SnapshotError, items
from pairec_fast.build import build
from pairec_fast.features import FeatureSchema
from pairec_fast.items.log import NAME
from pairec_fast.manifest import Feature
from tests.test_snapshot import EVENTS, ITEMS, USERS, WORLD

CATEGORIES = ["cup", "pot", "tea"]  # "pot" is of nothing the world was built from
FEATURES = [
    Feature("price", "item:price"),
    Feature("category", "item:category", CATEGORIES),
    Feature("age", "user:age"),
    Feature("item_clicks", "aggregate:item_clicks"),
    Feature("gender_category", "aggregate:gender_category"),
    Feature("gender_item", "aggregate:gender_item"),
    Feature("taste", "dot:taste"),
    Feature("i2i", "similarity:i2i"),
]
MORE = """
[[aggregates]]
name = "gender_item"
function = "mean"
of = "clicked"
by = ["user.gender", "item"]
[[models]]
name = "ranker"
file = "ranker.txt"
"""
CONFIG = {
    "SnapshotConf": {"Directory": ""},
    "SceneConfs": {"home": {"default": {"RecallNames": ["hot", "similar", "like", "ContextItemRecall"]}}},
    "RecallConfs": [
        {"Name": "hot", "RecallType": "UserGlobalHotRecall", "RecallCount": 2,
         "DaoConf": {"AdapterType": "local", "TableName": "hot"}},
        {"Name": "similar", "RecallType": "UserCollaborativeFilterRecall",
         "UserCollaborativeDaoConf": {"AdapterType": "local", "User2ItemTable": "history", "Item2ItemTable": "i2i"}},
        {"Name": "like", "RecallType": "ItemCollaborativeFilterRecall",
         "ItemCollaborativeDaoConf": {"AdapterType": "local", "Item2ItemTable": "i2i"}},
    ],
    "FilterConfs": [{"Name": "stock", "FilterType": "ItemStateFilter",
                     "ItemStateDaoConf": {"AdapterType": "local", "TableName": "items"},
                     "FilterParams": [{"Name": "category", "Operator": "not_equal", "Type": "string",
                                       "Value": "off"}]}],
    "FilterNames": {"default": ["stock"]},
    "AlgoConfs": [{"Name": "m", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "ranker"}}],
    "RankConf": {"home": {"RankAlgoList": ["m"], "RankScore": "${m} + 0.001 * ${price}"}},
    "SortConfs": [{"Name": "spread", "SortType": "DiversityRuleSort",
                   "DiversityRules": [{"Dimensions": ["category", "in_stock"], "IntervalSize": 1}]},
                  {"Name": "several", "SortType": "DiversityRuleSort",
                   "DiversityRules": [{"Dimensions": ["category", "in_stock"], "WindowSize": 4, "FrequencySize": 2}],
                   "MultiValueDimensionConf": [{"DimensionName": "category", "Delimiter": "e"}]}],
    "SortNames": {"default": ["ItemRankScore", "spread", "several"]},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name, text in (("items.csv", ITEMS + "e,9,tea,true\n"), ("users.csv", USERS), ("events.csv", EVENTS)):
        (tmp_path / name).write_text(text)
    (tmp_path / "world.toml").write_text(WORLD.replace('name = "hot"', 'name = "hot"\ncount = 3') + MORE)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "users.npy", rng.normal(size=(3, 5)).astype(np.float32))
    np.save(tmp_path / "items.npy", rng.normal(size=(5, 5)).astype(np.float32))
    x = rng.normal(size=(3000, len(FEATURES))) * 3
    x[:, 1] = rng.integers(0, 3, len(x))
    x[rng.random(x.shape) < 0.1] = np.nan
    y = np.nansum(x, axis=1) + rng.normal(size=len(x))
    data = lightgbm.Dataset(x, y, feature_name=[one.name for one in FEATURES], categorical_feature=[1])
    lightgbm.train({"verbose": -1, "num_leaves": 15}, data, 30).save_model(tmp_path / "ranker.txt")
    FeatureSchema(FEATURES).save(tmp_path / "features.json")
    build(tmp_path / "world.toml", tmp_path / "snapshots")
    return tmp_path


def engine_of(folder):
    return Engine.from_config(CONFIG | {"SnapshotConf": {"Directory": str(folder / "snapshots")}})


def answers(engine):
    """What everybody gets: ids, bits of scores, recalls, in order. The list names nothing that is ever gone: the next
    base does not know it, and an item that nobody knows is a candidate."""
    found = {}
    for uid in ("u", "v", "w", "nobody"):
        for looking_at in ("", "a", "c", "n1"):
            request = {"uid": uid, "scene_id": "home", "size": 100, "item_id": looking_at,
                       "features": {"history": ["n2", "c"]} if looking_at == "c" else {},
                       "item_list": [{"item_id": id} for id in ("n1", "n2", "b", "d", "a")]}  # fmt: skip
            items = engine.recommend(request).items
            found[uid, looking_at] = [(item.item_id, item.score, item.retrieve_id) for item in items]
    return found


def test_the_next_base_answers_as_the_log_did(folder):
    """Everything a candidate goes through: recalls, filter, features of every kind, scores to the bit, rules, reply.

    The statistics of what was chosen must be the same for that, so what is removed was never chosen.
    """
    snapshots, vector = folder / "snapshots", [0.5, -1.0, 2.0, 0.25, 1.0]
    with engine_of(folder) as engine:
        before = answers(engine)
        items.add(snapshots, [
            {"item_id": "n1", "price": 2.5, "category": "pot", "in_stock": 1, "vectors": {"taste": vector}},
            {"item_id": "n2", "in_stock": 0},
            {"item_id": "n3", "in_stock": 1, "category": "off"},
            {"item_id": "a", "price": 7.25},
            {"item_id": "d", "vectors": {"taste": vector[::-1]}},
        ])  # fmt: skip
        items.remove(snapshots, ["e", "n3"])
        items.add(snapshots, [{"item_id": "n1", "price": 3.0}, {"item_id": "a", "in_stock": 0}])
        items.add(snapshots, [{"item_id": "n3", "in_stock": 1, "category": "off"}, {"item_id": "e", "in_stock": 1}])
        items.remove(snapshots, ["e"])
        engine._bound.live.update()
        logged = answers(engine)
        assert logged != before
        assert {"n1", "n2"} < {id for found in logged.values() for id, _, _ in found}.difference({"e", "n3"})
    build(folder / "world.toml", snapshots)
    with engine_of(folder) as engine:
        assert engine._bound.live.added == 0 and len(engine.snapshot.items) == 7
        assert answers(engine) == logged


def test_the_log_is_taken_in_by_every_build_and_sources_may_know_only_the_log_s_items(folder):
    snapshots = folder / "snapshots"
    items.add(snapshots, [{"item_id": "n1", "in_stock": 1, "category": "pot"}])
    items.remove(snapshots, ["b"])
    (folder / "events.csv").write_text(EVENTS + "u,n1,170,1\n")
    for _ in range(2):
        snapshot = Snapshot.load(build(folder / "world.toml", snapshots))
        row = snapshot.items.ids.find("n1")
        assert row in snapshot.history.of(0) and snapshot.items.ids.find("b") == -1
        assert snapshot.manifest.items_sequence == 2
        assert snapshot.lists["hot"].of(0)[0].tolist()[:2] == [0, snapshot.items.ids.find("c")]
    (folder / "events.csv").write_text(EVENTS + "u,zzz,170,1\n")
    with pytest.raises(SnapshotError, match="'zzz' is not in the items table"):
        build(folder / "world.toml", snapshots)


def test_a_log_that_the_sources_have_caught_up_with_may_be_removed(folder):
    snapshots = folder / "snapshots"
    items.add(snapshots, [{"item_id": "n1", "in_stock": 1}])
    build(folder / "world.toml", snapshots)
    with engine_of(folder) as engine:
        (snapshots / NAME).unlink()
        assert items.add(snapshots, [{"item_id": "n2", "in_stock": 1}]) == 2
        engine._bound.live.update()
        assert engine.snapshot.items.ids.find("n2") >= 0
    (folder / "items.csv").write_text(ITEMS + "e,9,tea,true\nn1,1,tea,true\n")
    np.save(folder / "items.npy", np.ones((6, 5), np.float32))
    snapshot = Snapshot.load(build(folder / "world.toml", snapshots))
    assert snapshot.manifest.items_sequence == 2 and len(snapshot.items) == 7


def test_all_items_removed_is_refused_and_columns_the_table_lost_are_passed_over(folder):
    snapshots = folder / "snapshots"
    items.add(snapshots, [{"item_id": "n1", "in_stock": 1, "price": 4.0}])
    rows = [line.split(",") for line in (ITEMS + "e,9,tea,true").splitlines()]
    (folder / "items.csv").write_text("\n".join(",".join([*row[:1], *row[2:]]) for row in rows))
    world = (folder / "world.toml").read_text()
    (folder / "world.toml").write_text(world[: world.index("[[models]]")])
    snapshot = Snapshot.load(build(folder / "world.toml", snapshots))
    assert "price" not in snapshot.items.columns and snapshot.items.ids.find("n1") == 5
    items.remove(snapshots, ["a", "b", "c", "d", "e", "n1"])
    with pytest.raises(SnapshotError, match=r"items\.csv: items\.log removes every item"):
        build(folder / "world.toml", snapshots)
