"""Side pipelines: lines of their own beside the main one, and how what they find joins it."""

from __future__ import annotations

import json

import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.messages import RecommendRequest
from tests.services.easyrec import EasyrecServer, score
from tests.test_experiment_match import group, layer, room, scene
from tests.test_rank import LOOKUP, asked, eas, easyrec, general

OWN = {"RankAlgoList": ["own"], "RankScore": "${own}"}
HOT = {"Name": "few", "RecallType": "UserGlobalHotRecall", "RecallCount": 3,
       "DaoConf": {"AdapterType": "local", "TableName": "hot"}}  # fmt: skip
GIVEN = [{"item_id": "a", "boost": 3, "color": "red"}, {"item_id": "b", "boost": 2}, {"item_id": "c", "boost": 9}]


def beside(world, *pipelines, recalls=("few",), rank=None, algos=(), **sections):
    """A scene whose main line has the three hottest items, all with score 5, and these side pipelines."""
    world.scene["list"] = {"RecallNames": list(recalls), "OutputFields": ["item:color", "item:boost"]}
    world.conf["RecallConfs"].append(HOT)
    world.conf["FilterNames"] = {"default": []}
    world.conf["SortNames"] = {"default": ["ItemRankScore"]}
    world.conf["RankConf"]["home_feed"] = rank or {"RankScore": "5"}
    world.conf["AlgoConfs"] += [LOOKUP, *algos]
    world.conf["PipelineConfs"] = {"home_feed": list(pipelines)}
    world.conf |= sections
    return world.engine()


def context(**fields):
    return {"Name": "side", "RecallNames": ["ContextItemRecall"], "RankConf": OWN} | fields


def told(reply):
    return [(item.item_id, item.score, item.retrieve_id) for item in reply.items]


def ask(engine, items=GIVEN, size=20, **more):
    return asked(engine, items, size=size, **more)


def hottest(world):
    with beside(world) as engine:
        ids = [item.item_id for item in ask(engine, []).items]
    assert len(ids) == 3
    world.conf["RecallConfs"].remove(HOT)
    world.conf["AlgoConfs"].remove(LOOKUP)
    return ids


@pytest.fixture
def server():
    with EasyrecServer() as server:
        yield server


# ---- joining


@pytest.mark.parametrize("remote", [False, True], ids=["local", "awaiting"])
def test_other_items_come_with_score_recall_and_properties_and_the_same_item_only_gives_its_properties(
    world, server, remote
):
    """With a model server in a pipeline nobody needs, the same line runs on the stores' loop."""
    first, *others = hottest(world)
    idle = {"Name": "idle", "RecallNames": ["hot"], "FilterNames": ["none"], "RankConf": easyrec(["ctr"], "${ctr}")}
    world.conf["FilterConfs"].append({"Name": "none", "FilterType": "AdjustCountFilter", "RetainNum": 1})
    sides = [context(), idle] if remote else [context()]
    with beside(world, *sides, algos=[eas(server)]) as engine:
        assert engine._scene("home_feed", "list").awaits is remote
        given = [*GIVEN, {"item_id": first, "boost": 50, "color": "blue"}]
        reply = ask(engine, given)
        found = {item.item_id: item for item in reply.items}
        main = [(one, 5.0, "few") for one in (first, *others)]
        new = [("a", 3.0, "ContextItemRecall"), ("b", 2.0, "ContextItemRecall"), ("c", 9.0, "ContextItemRecall")]
        assert sorted(told(reply)) == sorted(main + new)
        assert [found[one].extra["color"] for one in ("a", "b", first, others[0])] == ["red", None, "blue", None]
        assert [found[one].extra["boost"] for one in ("a", "b", first, others[0])] == [3.0, 2.0, 50.0, None]
        assert reply.items[0].item_id == "c" and reply.items[-1].item_id == "b"
        assert not reply.degraded and bool(server.requests) is remote


def test_nothing_of_a_pipeline_is_cut_before_it_joins(world):
    given = [{"item_id": f"x{place}", "boost": place} for place in range(40)]
    with beside(world, context(SortNames=["ItemRankScore"])) as engine:
        assert told(ask(engine, given, size=2))[1] == ("x38", 38.0, "ContextItemRecall")
        assert len(ask(engine, given, size=100).items) == 43


def test_what_a_pipelines_sort_leaves_out_does_not_join(world):
    """Its order is also the one that equal scores keep."""
    world.conf["FilterConfs"].append({"Name": "two", "FilterType": "AdjustCountFilter", "RetainNum": 2})
    side = context(FilterNames=["two"], SortNames=["ItemRankScore"])
    with beside(world, side) as engine:
        assert sorted(one[0] for one in told(ask(engine))[-2:]) == ["a", "b"]
        assert len(told(ask(engine))) == 5


def test_a_pipeline_without_candidates_stops_and_the_answer_is_the_main_lines(world):
    feature = {"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureName": "m", "FeatureSource": "user:uid"}
    loads = [{"FeatureDaoConf": {"FeatureStore": "item"}, "Features": [feature]}]
    with beside(world, context(FeatureLoadConfs=loads, FilterNames=["in_stock"])) as engine:
        assert len(ask(engine, []).items) == 3


def test_a_main_line_without_candidates_leaves_those_of_its_pipelines(world):
    with beside(world, context(), recalls=[]) as engine:
        assert [one[:2] for one in told(ask(engine))] == [("c", 9.0), ("a", 3.0), ("b", 2.0)]


def test_without_a_rank_the_score_is_that_of_recall(world):
    given = [{"item_id": "a", "score": 7}, {"item_id": "b", "score": 1}]
    with beside(world, {"Name": "side", "RecallNames": ["ContextItemRecall"]}) as engine:
        reply = told(ask(engine, given))
        assert reply[0] == ("a", 7.0, "ContextItemRecall") and reply[-1] == ("b", 1.0, "ContextItemRecall")


def test_two_pipelines_join_in_their_order_and_bring_an_item_once(world):
    feature = {
        "FeatureType": "raw_feature", "FeatureStore": "item", "FeatureName": "color", "FeatureSource": "user:mood"
    }  # fmt: skip
    loads = [{"FeatureDaoConf": {"FeatureStore": "item"}, "Features": [feature]}]
    twice = {"RankAlgoList": ["own"], "RankScore": "2 * ${own}"}
    with beside(world, context(), context(Name="second", RankConf=twice, FeatureLoadConfs=loads)) as engine:
        reply = ask(engine, features={"mood": "happy"})
        assert [one for one in told(reply) if one[2] != "few"] == [
            ("c", 9.0, "ContextItemRecall"), ("a", 3.0, "ContextItemRecall"), ("b", 2.0, "ContextItemRecall")
        ]  # fmt: skip
        assert {item.extra["color"] for item in reply.items if item.retrieve_id != "few"} == {"happy"}


def test_general_rank_and_loads_of_a_pipeline_are_its_own(world):
    coarse = general({"RankAlgoList": ["own"], "RankScore": "${own}"}, [("sort", "ItemRankScore"), ("filter", "two")])
    world.conf["FilterConfs"].append({"Name": "two", "FilterType": "AdjustCountFilter", "RetainNum": 2})
    feature = {"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureName": "w", "FeatureSource": "user:mood"}
    loads = [{"FeatureDaoConf": {"FeatureStore": "item"}, "Features": [feature]}]
    rank = {"RankAlgoList": ["own"], "RankScore": "${own} + ${w}"}
    with beside(world, context(GeneralRankConf=coarse, FeatureLoadConfs=loads, RankConf=rank)) as engine:
        reply = told(ask(engine, features={"mood": 30}))
        assert [one[:2] for one in reply[:2]] == [("c", 39.0), ("a", 33.0)] and len(reply) == 5


def test_candidates_of_a_pipeline_have_nothing_of_those_that_were_filtered_out_before(world):
    """They take their places, where what the request said of them lies."""
    world.conf["FilterConfs"].append({"Name": "one", "FilterType": "AdjustCountFilter", "RetainNum": 1})
    side = {"Name": "side", "RecallNames": ["few"], "RankConf": {"RankScore": "1"}}
    given = [{"item_id": one, "color": "red", "boost": 8} for one in "abcdef"]
    with beside(world, side, recalls=["ContextItemRecall"]) as engine:
        assert len(ask(engine, given).items) == 9
    world.conf["RecallConfs"].remove(HOT)
    world.conf["AlgoConfs"].remove(LOOKUP)
    filters = {"home_feed": ["one"]}
    world.conf["LimitConf"] = {"CandidatesMax": 6}
    with beside(world, side, recalls=["ContextItemRecall"], FilterNames=filters) as engine:
        reply = ask(engine, given)
        assert [item.retrieve_id for item in reply.items] == ["ContextItemRecall"] + 3 * ["few"]
        extras = [(item.extra["color"], item.extra["boost"]) for item in reply.items]
        assert extras == [("red", 8.0)] + 3 * [(None, None)]


def test_a_model_explains_only_what_it_has_ranked(world):
    ranker = {"RankAlgoList": ["ranker"], "RankScore": "${ranker}"}
    with beside(world, context(), rank=ranker) as engine:
        explained = {item.item_id: item.explain is not None for item in ask(engine, debug=True).items}
        assert len(explained) == 6
        assert {one for one, has in explained.items() if not has} == {"a", "b", "c"}


def test_what_fails_in_a_pipeline_is_named_and_the_rest_is_answered(world, server):
    side = context(RankConf=easyrec(["ctr", "own"], "1 + ${ctr} + ${own}"))
    with beside(world, side, algos=[eas(server, Timeout=300, RetryTimes=1)]) as engine:
        ids = ["a", "b"]
        given = [{"item_id": one, "boost": 2} for one in ids]
        scored = {one: sum_ for one, sum_, source in told(ask(engine, given)) if source == "ContextItemRecall"}
        assert scored == {one: pytest.approx(3 + score(one)) for one in ids}
        server.fail("status 500")
        reply = ask(engine, given)
        assert {one[1] for one in told(reply)} == {5.0, 3.0} and len(reply.items) == 5
        assert [line.partition(":")[0] for line in reply.degraded] == ["ctr"]


def test_recall_alone_runs_no_pipeline(world):
    with beside(world, context()) as engine:
        asked_for = RecommendRequest(uid="u1", scene_id="home_feed", category="list", size=9, item_list=GIVEN)
        reply, _ = engine.recall(asked_for)
        assert {item.retrieve_id for item in reply.items} == {"few"}


# ---- live recalls


def test_a_recall_in_redis_may_name_others_that_get_numbers_of_the_main_line(world, redis_server):
    redis_server.client.mset({"p:u00042": "x1:alien:0.5,x2::2", "q:u00042": "y1:comet:4"})
    custom = {"RecallType": "UserCustomRecall", "RecallCount": 5}
    dao = {"AdapterType": "redis", "RedisName": "r"}
    world.conf["RecallConfs"] += [
        {"Name": name, "DaoConf": dao | {"RedisPrefix": prefix}} | custom
        for name, prefix in (("custom", "p:"), ("own_list", "q:"))
    ]
    side = {"Name": "side", "RecallNames": ["custom"]}
    redis = {"r": {"Host": "127.0.0.1", "Port": redis_server.port, "ReadTimeout": 500}}
    with beside(world, side, recalls=["own_list"], RedisConfs=redis, rank={"RankScore": "${current_score}"}) as engine:
        for _ in range(3):
            assert told(ask(engine, [])) == [("y1", 4.0, "comet"), ("x2", 2.0, "custom"), ("x1", 0.5, "alien")]


# ---- experiments


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"pipelines.side.RecallNames": []}, {}),
        ({"pipelines.side.RecallNames": ["ContextItemRecall", "hottest"]}, {"a": 3.0, "b": 2.0, "c": 9.0, "hot": 0.5}),
        ({"pipelines.side.FilterNames": ["one"]}, {"a": 3.0}),
        ({"pipelines.side.RankConf": {"RankScore": "7"}}, {"a": 7.0, "b": 7.0, "c": 7.0}),
        ({"pipelines.side.GeneralRankConf": general(None, [("filter", "one")])}, {"a": 3.0}),
        ({"pipelines.other.RecallNames": []}, {"a": 3.0, "b": 2.0, "c": 9.0}),
        ({"pipelines.side.SortNames": ["nothing_red"]}, {"a": 3.0, "b": 2.0, "c": 9.0}),
    ],
)  # fmt: skip
def test_an_experiment_overrides_parts_of_a_pipeline_by_its_name(world, params, expected):
    world.conf["FilterConfs"].append({"Name": "one", "FilterType": "AdjustCountFilter", "RetainNum": 1})
    world.conf["SortConfs"].append({"Name": "nothing_red", "SortType": "ItemRankScore"})
    world.conf["RecallConfs"].append(HOT | {"Name": "hottest", "RecallCount": 4})
    path = world.folder / "ab.json"
    path.write_text(json.dumps(scene("home_feed", room(1, layer(1, group(1, config=json.dumps(params)))))))
    with beside(world, context(), ExperimentConf={"File": str(path)}) as engine:
        reply = ask(engine)
        found = {one: points for one, points, source in told(reply) if source not in ("few", "hottest")}
        fourth = [one[1] for one in told(reply) if one[2] == "hottest"]
        assert found | ({"hot": fourth[0]} if fourth else {}) == expected


# ---- configuration


def problems(world, *pipelines, **sections):
    with pytest.raises(ConfigError) as caught:
        beside(world, *pipelines, **sections)
    return [line.removeprefix("configuration: ") for line in str(caught.value).split("\n")]


def test_every_name_in_a_pipeline_must_be_defined(world):
    side = {"Name": "side", "RecallNames": ["fev"], "FilterNames": ["in_stok"], "SortNames": ["spred"],
            "RankConf": {"RankAlgoList": ["rankr"]},
            "GeneralRankConf": {"RankConf": {"RankAlgoList": ["x"]}}}  # fmt: skip
    where = "PipelineConfs.home_feed[1]."
    assert sorted(problems(world, context(), side)) == sorted([
        f'{where}RecallNames[0]: unknown recall "fev" (did you mean "few"?)',
        f'{where}FilterNames[0]: unknown filter "in_stok" (did you mean "in_stock"?)',
        f'{where}SortNames[0]: unknown sort "spred" (did you mean "spread"?)',
        f'{where}RankConf.RankAlgoList[0]: unknown algorithm "rankr" (did you mean "ranker"?)',
        f'{where}GeneralRankConf.RankConf.RankAlgoList[0]: unknown algorithm "x"',
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"RankConf": {"RankScore": "1 +"}}, "[0].RankConf.RankScore: an operand is missing at the end (character 4)"),
        (
            {"GeneralRankConf": {"RankConf": {"RankAlgoList": ["own"], "RankScore": "(1"}}},
            "[0].GeneralRankConf.RankConf.RankScore: ",
        ),
        (
            {"GeneralRankConf": general({"RankAlgoList": ["own"], "RankScore": "1", "ScoreRewrite": {"a": "1"}})},
            "[0].GeneralRankConf.RankConf.ScoreRewrite: a general rank has none; leave it out",
        ),
        (
            {"GeneralRankConf": {"ActionConfs": [{"ActionType": "drop", "ActionName": "x"}]}},
            '[0].GeneralRankConf.ActionConfs[0].ActionType: expected "sort" or "filter", got "drop"',
        ),
        ({"RankConf": []}, "[0].RankConf: expected an object, got a list of 0"),
        ({"RecallNames": "few"}, '[0].RecallNames: expected a list, got text "few"'),
        (
            {"FeatureLoadConfs": [{"FeatureDaoConf": {"AdapterType": "redis", "RedisName": "r", "FeatureKey": "uid"}}]},
            '[0].FeatureLoadConfs[0].FeatureDaoConf.RedisName: unknown name "r" in RedisConfs',
        ),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused_with_its_place(world, fields, says):
    assert [line for line in problems(world, context(**fields)) if f"PipelineConfs.home_feed{says}" in line]


def test_recalls_of_scene_and_pipelines_together_have_one_byte(world):
    many = [HOT | {"Name": f"hot{place}"} for place in range(255)]
    world.conf["RecallConfs"] += many
    side = {"Name": "side", "RecallNames": [one["Name"] for one in many]}
    lines = problems(world, side)
    expected = "256 recalls, with those of PipelineConfs.home_feed; at most 255"
    assert any(expected in line for line in lines)
    world.conf["RecallConfs"] = [one for one in world.conf["RecallConfs"] if one["Name"] not in ("hot254", "few")]
    world.conf["AlgoConfs"].remove(LOOKUP)
    for category in ("default", "default_category"):
        del world.scene[category]["RecallNames"]
    side["RecallNames"] = side["RecallNames"][:254]
    with beside(world, side) as engine:
        assert len(engine._scene("home_feed", "list").sources) == 255


def test_what_does_not_act_or_cannot_be_meant_is_said(world):
    load = {"FeatureDaoConf": {"FeatureStore": "item", "AdapterType": "redys"}}
    cold = {"RecallName": "few", "AlgoName": "own"}
    sides = [context(ColdStartRankConf=cold, FeatureLoadConfs=[load]), context(), {"Name": "empty"}]
    with beside(world, *sides) as engine:
        said = [line.removeprefix("configuration: ") for line in (*engine.config.warnings, *engine.config.unused)]
        about = [line.removeprefix("PipelineConfs.home_feed") for line in said if line.startswith("PipelineConfs")]
        assert sorted(about) == sorted([
            '[0].FeatureLoadConfs[0].FeatureDaoConf.AdapterType: unknown AdapterType "redys" (did you mean "redis"?): '
            "nothing is loaded, Features alone act",
            '[1].Name: "side" is already the name of PipelineConfs.home_feed[0]; experiments change both',
            "[2]: RecallNames is missing or empty: it brings nothing",
            "[0].ColdStartRankConf: accepted, does not act here",
        ])  # fmt: skip
        assert len(ask(engine).items) == 6
