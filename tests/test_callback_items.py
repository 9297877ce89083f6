"""What callbacks tell of items: what the request, its loads and its transforms gave them, whoever they are."""

from __future__ import annotations

import json

import pytest

from pairec_fast.errors import ConfigError, RequestError
from tests.worlds import FIRST, LOGGED, own_snapshots

CALLED = "home_feed_callback"


def transforms(*features, store="user"):
    return {"FeatureDaoConf": {"FeatureStore": store}, "Features": list(features)}


def feature(kind, store, name="", source="", **more):
    return {"FeatureType": kind, "FeatureStore": store, "FeatureName": name, "FeatureSource": source, **more}


def called(world):
    """What the log has: of the user, and of each item by its id."""
    ((user, *items),) = world.records()
    return json.loads(user["user_features"]), [(item["item_id"], json.loads(item["item_features"])) for item in items]


def configured(world, *features, user=(), local=False):
    columns = {"FeatureStore": "item", "AdapterType": "local", "FeatureKey": "item:id", "ItemSelectFields": "price"}
    some = [transforms(*features, store="item")]
    world.conf["FeatureConfs"][CALLED] = {"FeatureLoadConfs": [{"FeatureDaoConf": columns}, *some] if local else some}
    world.conf["UserFeatureConfs"][CALLED] = {"FeatureLoadConfs": [transforms(*user)]}


def test_transforms_of_the_callbacks_scene_act_on_what_was_sent(world):
    user = [feature("raw_feature", "user", "years", "user:age"), feature("delete_feature", "user", source="age")]
    compose = feature("compose_feature", "item", "both", "user:years,item:kind,item:id")
    configured(world, compose, feature("delete_feature", "item", source="kind"), user=user)
    listed = [{"item_id": "i000001", "kind": "a", "n": 2**60}, {"item_id": "nobody"}, {"item_id": "i000001"}]
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"item_list": listed, "features": {"age": 7, "no": ""}})
    seen, items = called(world)
    assert seen == {"uid": "u00042", "years": 7}
    assert items == [
        ("i000001", {"both": "both_7_a_i000001", "n": 2**60}),
        ("nobody", {"both": "both_7__nobody"}),
        ("i000001", {"both": "both_7__i000001"}),  # the same item once more, as it was sent the second time
    ]


def test_columns_of_local_loads_lie_over_what_was_sent_and_feed_transforms(world):
    configured(world, feature("raw_feature", "item", "text", "item:price"), local=True)
    with world.engine() as engine:
        listed = [{"item_id": "i000012", "price": -1, "x": [1]}, {"item_id": "unknown", "price": -1}]
        assert engine.callback(LOGGED | {"item_list": listed})
        price = engine.snapshot.items.columns["price"].value(engine.snapshot.items.ids.find("i000012"))
    _, ((_, known), (_, unknown)) = called(world)
    assert known["price"] == pytest.approx(price) and known["text"] == str(int(price)) and known["x"] == [1]
    assert unknown == {"price": -1, "text": "-1"}


def test_a_removed_item_is_told_of_as_a_stranger(world, shared_world):
    own_snapshots(world, shared_world)
    configured(world, feature("compose_feature", "item", "me", "item:id"), local=True)
    with world.engine() as engine:
        engine.remove_items(["i000012"])
        assert engine.callback(LOGGED | {"item_list": [{"item_id": "i000012", "x": 1}, {"item_id": "i000013"}]})
    _, ((_, gone), (_, there)) = called(world)
    assert gone == {"me": "me_i000012", "x": 1} and there["me"] == "me_i000013" and "price" in there


def test_more_items_than_there_is_room_for_are_done_in_parts(world):
    world.conf["LimitConf"] = {"CandidatesMax": 64}
    world.callback["ItemSize"] = 0
    configured(world, feature("compose_feature", "item", "me", "item:id,item:n"))
    ids = [f"stranger {number}" if number % 3 else f"i{number:06d}" for number in range(300)]
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"item_list": [{"item_id": id, "n": n} for n, id in enumerate(ids)]})
    _, items = called(world)
    assert items == [(id, {"me": f"me_{id}_{n}", "n": n}) for n, id in enumerate(ids)]


def test_features_that_cannot_be_used_are_refused_as_without_transforms(world):
    configured(world, feature("compose_feature", "item", "me", "item:id"))
    with world.engine() as engine, pytest.raises(RequestError, match="complex_type_features"):
        engine.callback(LOGGED | {"complex_type_features": [1]})
    assert world.records() == []


def test_an_automatic_callback_tells_what_transforms_made_and_took_away(world):
    world.scene["default"]["AutoInvokeCallBack"] = True
    features = [
        feature("compose_feature", "item", "both", "user:uid,item:id"),
        feature("delete_feature", "item", source="item:price"),
        feature("new_feature", "user", "k", Normalizer="const_value", FeatureValue="v"),
    ]
    local = world.conf["FeatureConfs"]["home_feed"]["FeatureLoadConfs"]
    local.append(transforms(*features, store="item"))
    world.callback["UseUserFeatures"] = True
    with world.engine() as engine:
        ids = [item.item_id for item in engine.recommend(FIRST).items]
    user, items = called(world)
    assert user["k"] == "v"
    for id, (item_id, properties) in zip(ids, items, strict=True):
        assert item_id == id and properties["both"] == f"both_u00042_{id}"
        assert "price" not in properties and properties["category"] and "recall_name" not in properties


def test_an_automatic_callback_tells_of_strangers_what_was_made_of_them_and_no_columns(world):
    """A spare row of a column of whole numbers holds zeros; they are nobody's."""
    world.scene["default"] |= {"AutoInvokeCallBack": True, "RecallNames": ["ContextItemRecall"]}
    world.conf["FilterNames"] = {"default": ["UniqueFilter"]}
    me = feature("compose_feature", "item", "me", "item:id")
    world.conf["FeatureConfs"]["home_feed"]["FeatureLoadConfs"].append(transforms(me, store="item"))
    with world.engine() as engine:
        assert len(engine.recommend(FIRST | {"item_list": [{"item_id": "x"}, {"item_id": "i000012"}]}).items) == 2
    known = dict(called(world)[1])
    assert known["x"] == {"me": "me_x", "score": known["x"]["score"], "algo_scores": known["x"]["algo_scores"]}
    assert known["i000012"]["me"] == "me_i000012" and "price" in known["i000012"]


def test_a_local_load_of_the_user_lies_over_what_stood_before_it(world):
    """In FeatureConfs it comes after recall; what the request says of the same name is gone then."""
    made = feature("new_feature", "user", "gender", Normalizer="const_value", FeatureValue="made")
    local = {"FeatureStore": "user", "AdapterType": "local", "TableName": "users", "UserSelectFields": "gender"}
    world.conf["FeatureConfs"]["home_feed"]["FeatureLoadConfs"] += [transforms(made), {"FeatureDaoConf": local}]
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback["UseUserFeatures"] = True
    with world.engine() as engine:
        engine.recommend(FIRST)
        users = engine.snapshot.users
        gender = users.columns["gender"].value(users.ids.find("u00042"))
    assert called(world)[0]["gender"] == gender


@pytest.mark.parametrize(
    ("section", "dao", "told"),
    [
        ("FeatureConfs", {"FeatureStore": "item", "TableName": "users"}, '"users"; for this side it is "items"'),
        ("FeatureConfs", {"FeatureStore": "user", "TableName": "items"}, '"items"; for this side it is "users"'),
        ("UserFeatureConfs", {"FeatureStore": "user", "UserSelectFields": "nope"}, 'has no column "nope"'),
        ("FeatureConfs", {"FeatureStore": "item", "FeatureKey": "item:author"}, '"item:author"; of a local table'),
    ],
)  # fmt: skip
def test_a_local_load_of_another_table_column_or_key_is_refused(world, section, dao, told):
    world.conf[section]["home_feed"]["FeatureLoadConfs"].append({"FeatureDaoConf": {"AdapterType": "local"} | dao})
    with pytest.raises(ConfigError, match=told):
        world.engine()


def test_transforms_of_the_user_reach_the_triggers_of_recalls(world):
    """Lists by group are found by what the user is after the loads, not by what the snapshot says."""
    world.scene["default"]["RecallNames"] = ["group_hot"]

    def ids(engine, uid):
        return [item.item_id for item in engine.recommend(FIRST | {"uid": uid, "size": 1000}).items]

    with world.engine() as engine:
        users = engine.snapshot.users
        gender = {uid: users.columns["gender"].value(users.ids.find(uid)) for uid in (f"u{n:05d}" for n in range(50))}
        one, other = (
            next(uid for uid in gender if gender[uid] == kind) for kind in sorted(set(gender.values()) - {None})[:2]
        )
        listed = set(ids(engine, one)), set(ids(engine, other))
    assert listed[0] != listed[1]
    made = feature("new_feature", "user", "gender", Normalizer="const_value", FeatureValue=gender[other])
    world.conf["UserFeatureConfs"]["home_feed"]["FeatureLoadConfs"].append(transforms(made))
    with world.engine() as engine:
        assert set(ids(engine, one)) == listed[1]
