"""Which recall found the items of a callback, where the callback's scene has recalls."""

from __future__ import annotations

import json

import pytest

from pairec_fast.errors import ConfigError
from tests.test_callback_items import CALLED, called
from tests.test_experiment_match import group, layer, room, scene
from tests.test_pipeline import HOT
from tests.worlds import FIRST, LOGGED


def asked(world, *names, **more):
    """A world whose callbacks ask these recalls."""
    world.conf["RecallConfs"].append(HOT)
    world.conf["SceneConfs"][CALLED] = {"default": {"RecallNames": list(names)}}
    world.conf |= more
    return world


def sent(engine, *entries):
    listed = [{"item_id": one} if isinstance(one, str) else one for one in entries]
    assert engine.callback(LOGGED | {"item_list": listed})


def found(name):
    return {"recall_name": name, "recall_score": 0, name: 0}


@pytest.fixture
def hottest(world):
    """The three that `few` brings."""
    with asked(world, "few").engine() as engine:
        reply = engine.recommend({"uid": "u1", "scene_id": CALLED, "size": 9})
    del world.conf["SceneConfs"][CALLED]
    world.conf["RecallConfs"].remove(HOT)
    return [item.item_id for item in reply.items]


def test_an_item_that_a_recall_finds_tells_of_it_and_others_do_not(world, hottest):
    first, second, third = hottest
    # A filter would drop what the user was shown; only the recalls are asked.
    shown = {"item_id": third, "recall_name": "mine", "score": 7}
    with asked(world, "few", "hot", FilterNames={CALLED: ["shown"]}).engine() as engine:
        coldest = engine.snapshot.items.ids.id(0)
        sent(engine, second, "stranger", first, shown, second)
        assert coldest not in hottest
    _, items = called(world)
    assert items == [
        (second, found("few")), ("stranger", {}), (first, found("few")),
        (third, found("few") | {"recall_name": "mine", "score": 7}), (second, found("few")),
    ]  # fmt: skip


def test_without_such_a_scene_nothing_is_told_of_recalls(world, hottest):
    with world.engine() as engine:
        sent(engine, *hottest)
    assert called(world)[1] == [(one, {}) for one in hottest]


def test_the_recall_named_first_counts(world, hottest):
    with asked(world, "hot", "few").engine() as engine:
        sent(engine, *hottest)
    assert called(world)[1] == [(one, found("hot")) for one in hottest]


def test_automatic_callbacks_tell_of_it_too(world, hottest):
    world.scene["default"] |= {"AutoInvokeCallBack": True, "RecallNames": ["few"]}
    world.conf["FilterNames"] = {"default": []}
    with asked(world, "few").engine() as engine:
        world.conf["RecallConfs"].remove(HOT)
        shown = [item.item_id for item in engine.recommend(FIRST).items]
    assert sorted(shown) == sorted(hottest)
    for _, properties in called(world)[1]:
        assert properties["recall_name"] == "few" and properties["few"] == properties["recall_score"] == 0
        assert properties["score"] != 0 and properties["algo_scores"]


def test_an_experiment_of_the_callbacks_scene_chooses_the_recalls(world, hottest):
    path = world.folder / "ab.json"
    params = json.dumps({"default.RecallNames": ["few"]})
    path.write_text(json.dumps(scene(CALLED, room(1, layer(1, group(1, config=params))))))
    with asked(world, "hot", ExperimentConf={"File": str(path)}).engine() as engine:
        sent(engine, hottest[0])
    assert called(world)[1] == [(hottest[0], found("few"))]


def redis(port):
    dao = {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "p:"}
    custom = {"Name": "custom", "RecallType": "UserCustomRecall", "RecallCount": 5, "DaoConf": dao}
    return custom, {"r": {"Host": "127.0.0.1", "Port": port, "ReadTimeout": 500}}


def test_lists_of_a_live_store_name_recalls_and_items_the_snapshot_lacks(world, redis_server):
    redis_server.client.set("p:u00042", "stranger:alien:0.5,i000003::2")
    custom, confs = redis(redis_server.port)
    world.conf["RecallConfs"].append(custom)
    with asked(world, "custom", RedisConfs=confs).engine() as engine:
        sent(engine, "stranger", "i000003", "i000004")
    assert called(world)[1] == [("stranger", found("alien")), ("i000003", found("custom")), ("i000004", {})]


def test_a_recall_that_is_late_is_counted_and_the_callback_logged_without_it(world, hottest, redis_server):
    custom, confs = redis(redis_server.port)
    world.conf["RecallConfs"].append(custom)
    with asked(world, "custom", "few", RedisConfs=confs).engine() as engine:
        redis_server.freeze()
        try:
            sent(engine, hottest[0], "stranger")
        finally:
            redis_server.thaw()
        (told,) = (line for line in engine.metrics_text().split("\n") if line.startswith("pairec_degraded_total"))
        assert all(f'{label}="{value}"' in told for label, value in (("scene", CALLED), ("stage", "custom")))
        assert 'reason="timeout"' in told and told.endswith(" 1")
    assert called(world)[1] == [(hottest[0], found("few")), ("stranger", {})]


def test_a_recall_that_is_not_defined_is_refused_there_too(world):
    with pytest.raises(
        ConfigError, match=r'SceneConfs\.home_feed_callback\.default\.RecallNames\[0\]: unknown recall "fe'
    ):
        asked(world, "fev").engine()
