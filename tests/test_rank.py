"""Rank: algorithms of several kinds beside each other, the formula over their outputs, and general rank before it."""

from __future__ import annotations

import pytest

from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from tests.services.easyrec import CLASSES, OUTPUTS, TOKEN, EasyrecServer, score

IDS = [f"i{row:06d}" for row in range(1, 9)]


@pytest.fixture
def server():
    with EasyrecServer() as server:
        yield server


def eas(server, name="ctr", model="single", function="easyrecResponseFunc", **settings):
    conf = {
        "Processor": "EasyRec", "Url": server.url(model), "Auth": TOKEN, "ResponseFuncName": function, "Timeout": 5000
    }  # fmt: skip
    return {"Name": name, "Type": "EAS", "EasConf": conf | settings}


LOOKUP = {"Name": "own", "Type": "LOOKUP", "LookupConf": {"FieldName": "boost"}}


def ranked(world, rank, *algos, **sections):
    """A world whose category `list` ranks the items of the request, and shows every output."""
    world.scene["list"] = {"RecallNames": ["ContextItemRecall"], "OutputFields": ["score:*"]}
    world.conf["FilterNames"] = {"default": []}
    world.conf["SortNames"] = {"default": ["ItemRankScore"]}
    world.conf["RankConf"]["home_feed"] = rank
    world.conf["AlgoConfs"] += algos
    world.conf |= sections
    return world.engine()


def asked(engine, items=IDS, **more):
    entries = [one if isinstance(one, dict) else {"item_id": one} for one in items]
    request = {"uid": "u00042", "scene_id": "home_feed", "category": "list", "size": len(items), "item_list": entries}
    return engine.recommend(request | more)


def scores(reply):
    return {item.item_id: item.score for item in reply.items}


def outputs(reply):
    return {item.item_id: item.extra["algo_scores"] for item in reply.items}


def easyrec(algos, formula, **more):
    return {"RankAlgoList": algos, "RankScore": formula, "Processor": "EasyRec", **more}


# ---- algorithms


def test_a_model_server_orders_the_list(world, server):
    with ranked(world, easyrec(["ctr"], "${ctr}"), eas(server)) as engine:
        reply = asked(engine)
        assert scores(reply) == {one: score(one) for one in IDS} and not reply.degraded
        assert [item.item_id for item in reply.items] == sorted(IDS, key=score, reverse=True)


@pytest.mark.parametrize(("batch", "sizes"), [(0, [8]), (3, [2, 3, 3]), (8, [8]), (1, [1] * 8)])
def test_batches_are_as_large_as_configured_and_all_come_back(world, server, batch, sizes):
    with ranked(world, easyrec(["ctr"], "${ctr}", BatchCount=batch), eas(server)) as engine:
        assert scores(asked(engine)) == {one: score(one) for one in IDS}
    assert sorted(len(request.item_ids) for request in server.requests) == sizes
    assert sorted(one for request in server.requests for one in request.item_ids) == sorted(IDS)


def test_forests_lookups_and_model_servers_are_scored_beside_each_other(world, server):
    rank = easyrec(["ranker", "own", "two"], "${ranker} + 10 * ${own} + ${two_ctr} * ${two_cvr}")
    two = eas(server, "two", "multiple", "easyrecMutValResponseFunc")
    with ranked(world, {"RankAlgoList": ["ranker"], "RankScore": "${ranker}"}) as engine:
        forest = scores(asked(engine))
    world.conf["RankConf"]["home_feed"] = rank
    with ranked(world, rank, LOOKUP, two) as engine:
        given = [
            {"item_id": one, "boost": 0.25 * place} if place else {"item_id": one} for place, one in enumerate(IDS)
        ]
        reply = asked(engine, given)
        for place, one in enumerate(IDS):
            own = 0.25 * place if place else 0.5
            expected = {"ranker": forest[one], "own": own, "two_ctr": score(one, "ctr"), "two_cvr": score(one, "cvr")}
            assert outputs(reply)[one] == expected
            by_hand = forest[one] + 10 * own + score(one, "ctr") * score(one, "cvr")
            assert scores(reply)[one] == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(
    ("model", "function"),
    [
        ("classes", "easyrecMutClassificationResponseFunc"),
        ("torch_classes", "torchrecMutClassificationResponseFunc"),
    ],
)
def test_classes_are_numbered_outputs_and_a_list_that_formulas_can_read(world, server, model, function):
    rank = easyrec(["m"], "maxValue(${m_label}) + ${m_watch}", ASTType="antlr")
    with ranked(world, rank, eas(server, "m", model, function)) as engine:
        reply = asked(engine)
        for one in IDS:
            labels = [score(one, f"label{place}") for place in range(CLASSES)]
            shown = outputs(reply)[one]
            assert [shown[f"m_label_{place}"] for place in range(CLASSES)] == labels
            assert shown["m_watch"] == score(one, "watch")
            assert scores(reply)[one] == max(labels) + score(one, "watch")


def test_outputs_that_no_expression_names_are_there_too(world, server):
    rank = easyrec(["t"], "${t_ctr}")
    with ranked(world, rank, eas(server, "t", "torch", "torchrecMutValResponseFunc")) as engine:
        for _ in range(2):  # the first answer names them, the second finds them named
            for one, shown in outputs(asked(engine)).items():
                assert shown == {f"t_{name}": score(one, name) for name in OUTPUTS}


def test_a_lookup_reads_the_item_before_the_user_and_half_where_neither_has_a_number(world):
    rank = {"RankAlgoList": ["own"], "RankScore": "${own}"}
    items = [
        {"item_id": "a", "boost": 2},
        {"item_id": "b", "boost": "3"},
        {"item_id": "c"},
        {"item_id": "d", "boost": True},
    ]
    with ranked(world, rank, LOOKUP) as engine:
        assert scores(asked(engine, items)) == {"a": 2.0, "b": 0.5, "c": 0.5, "d": 0.5}
        assert scores(asked(engine, items, features={"boost": "0.75"})) == {"a": 2.0, "b": 0.5, "c": 0.75, "d": 0.5}
        assert scores(asked(engine, ["a"], features={"boost": "much"})) == {"a": 0.5}


# ---- what fails


@pytest.mark.parametrize(
    ("failure", "why"), [("status 500", "error"), ("garbage", "error"), ("exception", "error"), ("hang", "timeout")]
)
def test_one_failing_algorithm_does_not_void_the_others(world, server, failure, why):
    rank = easyrec(["own", "ctr", "cvr"], "1 + ${own} + 10 * ${ctr} + 100 * ${cvr}")
    with EasyrecServer() as sound:
        engine = ranked(world, rank, LOOKUP, eas(server, Timeout=200, RetryTimes=1), eas(sound, "cvr"))
        server.fail(failure)
        reply = asked(engine)
        assert reply.degraded == [f"ctr: {why}"] and reply.code == 200
        assert scores(reply) == {one: 1.5 + 100 * score(one) for one in IDS}
        counted = f'degraded_total{{scene="home_feed",stage="ctr",reason="{why}"}} 1'
        assert counted in engine.metrics.text()
        again = asked(engine)
        assert not again.degraded
        assert scores(again) == {one: pytest.approx(1.5 + 110 * score(one), abs=1e-9) for one in IDS}
        engine.close()


def test_a_batch_that_fails_costs_its_own_items_alone(world, server):
    with ranked(world, easyrec(["ctr"], "${ctr} + 1", BatchCount=4), eas(server, RetryTimes=1)) as engine:
        server.fail("status 500")
        reply = asked(engine)
        assert reply.degraded == ["ctr: error"]
        plain = [one for one, value in scores(reply).items() if value == 1.0]
        assert len(plain) == 4 and all(
            value == 1 + score(one) for one, value in scores(reply).items() if one not in plain
        )


def test_without_a_rank_score_the_score_stays_that_of_recall(world, server):
    rank = {"RankAlgoList": ["ctr"], "Processor": "EasyRec"}
    with ranked(world, rank, eas(server)) as engine:
        reply = asked(engine, [{"item_id": "a", "score": 3}, {"item_id": "b", "score": 5}])
        assert scores(reply) == {"b": 5.0, "a": 3.0} and outputs(reply)["a"] == {"ctr": score("a")}


def test_no_candidates_are_not_asked_about(world, server):
    with ranked(world, easyrec(["ctr"], "${ctr}"), eas(server)) as engine:
        reply = asked(engine, [], size=3)
        assert reply.code == 299 and not reply.items and not server.requests


# ---- what is asked


TYPED = [
    {"name": "tags", "type": "list<int64>", "values": [1, 2]},
    {"name": "weights", "type": "map<string,float>", "values": {"a": 0.5}},
    {"name": "level", "type": "int", "values": 7},
]


def test_the_user_is_sent_in_the_types_the_request_gave(world, server):
    with ranked(world, easyrec(["ctr"], "${ctr}"), eas(server)) as engine:
        features = {
            "hour": 21,
            "device": "ios",
            "empty": "",
            "list": [1, 2],
            "map": {"a": 1},
            "vip": True,
            "big": 2**40,
        }
        asked(engine, features=features, complex_type_features=TYPED)
    user = server.requests[0].user
    assert user["uid"] == (3, "u00042") and user["device"] == (3, "ios")
    assert user["hour"] == (5, 21.0) and user["big"] == (5, float(2**40))  # numbers of plain features are doubles
    assert user.keys().isdisjoint({"empty", "list", "map", "vip"})  # what has no kind is left out
    assert user["level"] == (1, 7) and user["tags"][0] == 22 and user["weights"][0] == 14
    assert user["gender"][0] == 3  # of the snapshot's user, loaded


def test_items_are_sent_as_the_lists_of_names_say(world, server):
    rank = easyrec(["ctr"], "${ctr}", ContextFeatures=["price", "nowhere"], ItemFeatures=["category", "boost"])
    with ranked(world, rank, eas(server)) as engine:
        asked(engine, [{"item_id": IDS[0], "boost": 2}, {"item_id": "stranger"}])
        prices = engine.snapshot.items.columns["price"].values[engine.snapshot.items.ids.find(IDS[0])]
    request = server.requests[0]
    assert request.context == {"price": [(5, prices), (3, "")], "nowhere": [(3, ""), (3, "")]}
    assert request.items.keys() == {"category", "boost"}
    assert request.items["category"][0][0] == 3 and request.items["category"][1] == (3, "")
    assert request.items["boost"][0] in ((5, 2.0), (1, 2)) and request.items["boost"][1] == (3, "")


def test_a_star_sends_all_that_any_candidate_has_and_none_sends_none(world, server):
    rank = easyrec(["ctr"], "${ctr}", ContextFeatures=["price"], ItemFeatures=["*"])
    with ranked(world, rank, eas(server)) as engine:
        asked(engine, [{"item_id": IDS[0], "boost": 2.5}, {"item_id": IDS[1], "word": "x"}])
    request = server.requests[0]
    assert request.context.keys() == {"price"}
    assert {"category", "brand", "boost", "word", "recall_name"} <= request.items.keys()
    assert "price" not in request.items
    assert request.items["boost"] == [(5, 2.5), (5, 0.0)] and request.items["word"] == [(3, ""), (3, "x")]

    world.conf["AlgoConfs"] = world.conf["AlgoConfs"][:1]
    rank |= {"ContextFeatures": ["none"], "ItemFeatures": ["none"]}
    with ranked(world, rank, eas(server)) as engine:
        asked(engine)
    assert not server.requests[-1].context and not server.requests[-1].items


# ---- formulas


def test_rewrites_see_what_there_was_before_any_of_them(world):
    rank = {
        "RankAlgoList": ["own"], "RankScore": "${own} + 100 * ${swap}",
        "ScoreRewrite": {"own": "${own} * 2", "swap": "${own} + 1", "none": "1 / ${nothing}"},
    }  # fmt: skip
    with ranked(world, rank, LOOKUP) as engine:
        reply = asked(engine, [{"item_id": "a", "boost": 3}])
        assert outputs(reply)["a"] == {"own": 6.0, "swap": 4.0, "none": 0.0}
        assert scores(reply) == {"a": 406.0}


def test_an_item_that_divides_by_zero_keeps_its_score_and_others_do_not_mind(world):
    rank = {"RankAlgoList": ["own"], "RankScore": "1 / ${own}"}
    with ranked(world, rank, LOOKUP) as engine:
        items = [{"item_id": "a", "boost": 0, "score": 9}, {"item_id": "b", "boost": 4, "score": 9}]
        assert scores(asked(engine, items)) == {"a": 9.0, "b": 0.25}


@pytest.mark.parametrize("ast_type", ["", "antlr"])
def test_formulas_read_properties_of_the_request_and_the_score_so_far(world, ast_type):
    rank = {
        "RankAlgoList": ["ranker"],
        "RankScore": "${current_score} + 10 * ${boost} + ${recall_score}",
        "ASTType": ast_type,
    }
    with ranked(world, rank) as engine:
        items = [{"item_id": IDS[0], "boost": 0.5, "score": 2}, {"item_id": IDS[1], "score": 3}]
        assert scores(asked(engine, items)) == {IDS[0]: 9.0, IDS[1]: 6.0}


# ---- general rank


def general(rank=None, actions=(), **more):
    return {
        "RankConf": rank or {},
        "ActionConfs": [dict(zip(("ActionType", "ActionName"), one, strict=True)) for one in actions],
        **more,
    }


def test_a_general_rank_scores_sorts_and_leaves_its_scores_to_the_rank(world, server):
    rank = easyrec(["ctr"], "${ctr} + ${own}")
    coarse = general({"RankAlgoList": ["own"], "RankScore": "${own} * 100"}, [("sort", "ItemRankScore")])
    with ranked(world, rank, LOOKUP, eas(server), GeneralRankConfs={"home_feed": coarse}) as engine:
        items = [{"item_id": one, "boost": place} for place, one in enumerate(IDS)]
        reply = asked(engine, items)
        assert scores(reply) == {one: score(one) + place for place, one in enumerate(IDS)}
        assert server.requests[0].item_ids == IDS[::-1]  # the order that the general rank made
    world.conf["RankConf"]["home_feed"] = {}
    with ranked(world, {}, GeneralRankConfs={"home_feed": coarse}) as engine:
        assert scores(asked(engine, items)) == {one: 100.0 * place for place, one in enumerate(IDS)}


def test_filters_of_a_general_rank_drop_candidates_with_their_scores(world):
    coarse = general(
        {"RankAlgoList": ["own"], "RankScore": "${own}"}, [("sort", "ItemRankScore"), ("filter", "in_stock")]
    )
    with ranked(world, {}, LOOKUP, GeneralRankConfs={"home_feed": coarse}) as engine:
        items = [{"item_id": one, "boost": place} for place, one in enumerate(IDS)]
        stock = engine.snapshot.items.columns["in_stock"].values
        here = [one for one in IDS if stock[engine.snapshot.items.ids.find(one)]]
        reply = asked(engine, items)
        assert scores(reply) == {one: float(IDS.index(one)) for one in here}


def test_without_algorithms_a_general_rank_only_acts(world):
    coarse = general(None, [("filter", "in_stock")])
    with ranked(world, {}, GeneralRankConfs={"home_feed": coarse}) as engine:
        assert {item.score for item in asked(engine, [{"item_id": one, "score": 7} for one in IDS]).items} == {7.0}


def test_candidates_of_cold_start_recalls_are_ranked_apart_and_come_behind(world):
    """`hot` is taken out: its items get another formula, and stand behind all others when the rank does nothing."""
    coarse = general({"RankAlgoList": ["own"], "RankScore": "1000 + ${current_score}"}, [("sort", "ItemRankScore")])
    cold = general({"RankAlgoList": ["own"], "RankScore": "${current_score}"}, [("sort", "ItemRankScore")]) | {
        "RecallNames": ["hot"]
    }
    world.conf["FilterNames"] = {"default": ["UniqueFilter"]}
    world.conf["SortNames"] = {"default": []}
    world.conf["RankConf"]["home_feed"] = {}
    world.conf["AlgoConfs"].append(LOOKUP)
    world.conf["SortNames"] = {"home_feed": ["spread"], "default": ["spread"]}
    world.conf["SortConfs"][0]["DiversityRules"][0]["FrequencySize"] = 1000
    request = {"uid": "u00042", "scene_id": "home_feed", "size": 1000}
    with world.engine() as engine:
        plain = {item.item_id: item for item in engine.recommend(request).items}
    world.conf |= {"GeneralRankConfs": {"home_feed": coarse}, "ColdStartGeneralRankConfs": {"home_feed": cold}}
    with world.engine() as engine:
        items = engine.recommend(request).items
    assert {item.item_id for item in items} == plain.keys()
    hot = [item.retrieve_id == "hot" for item in items]
    assert 0 < sum(hot) < len(hot) and hot == sorted(hot)
    for item in items:
        more = 0 if item.retrieve_id == "hot" else 1000
        assert item.retrieve_id == plain[item.item_id].retrieve_id
        assert item.score == pytest.approx(plain[item.item_id].score + more, abs=1e-9)
    warm, late = ([item.score for item in items if (item.retrieve_id == "hot") is cold] for cold in (False, True))
    assert warm == sorted(warm, reverse=True) and late == sorted(late, reverse=True)


def test_a_general_rank_may_ask_a_model_server(world, server):
    coarse = general(easyrec(["ctr"], "${ctr}"), [("sort", "ItemRankScore")])
    with ranked(world, {}, eas(server), GeneralRankConfs={"home_feed": coarse}) as engine:
        assert scores(asked(engine)) == {one: score(one) for one in IDS}
        server.fail("status 500", 2)
        assert asked(engine).degraded == ["ctr: error"]


# ---- configuration


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"Processor": "TensorFlow"},
            r'AlgoConfs\.ctr\.EasConf\.Processor: only "EasyRec" is served here, got "TensorFlow"',
        ),
        ({"EndpointType": "VIPSERVER"}, r'EasConf\.EndpointType: "VIPSERVER" is not served here'),
        (
            {"ResponseFuncName": "easyrecResponseFun"},
            r'ResponseFuncName: unknown "easyrecResponseFun" \(did you mean "easyrec',
        ),
        ({"Url": "model.example"}, r'AlgoConfs\.ctr\.EasConf: expected "http://HOST/PATH"'),
        ({"Auth": "a\r\nb"}, r"AlgoConfs\.ctr\.EasConf: header Authorization"),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused_when_it_is_bound(world, server, change, says):
    with pytest.raises(ConfigError, match=says):
        ranked(world, easyrec(["ctr"], "${ctr}"), eas(server, **change))


@pytest.mark.parametrize(
    ("rank", "says"),
    [
        ({"RankAlgoList": ["ctr"], "RankScore": "${ctr}"}, r'RankConf\.home_feed\.Processor: expected "EasyRec"'),
        (easyrec(["ctr"], "${ctr"), r"RankConf\.home_feed\.RankScore: \$\{ is not closed"),
        (easyrec(["ctr"], "${ctr}", ScoreRewrite={"x": "a b"}), r"RankConf\.home_feed\.ScoreRewrite\.x: "),
        (easyrec(["ctx"], "1"), r'RankAlgoList\[0\]: unknown algorithm "ctx" \(did you mean "ctr"\?\)'),
        (easyrec(["ctr", "ctr"], "1"), r"two outputs have one name"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(world, server, rank, says):
    with pytest.raises(ConfigError, match=says):
        ranked(world, rank, eas(server))


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        (
            general(None, [("sort", "ItemRankScor")]),
            r"GeneralRankConfs\.home_feed\.ActionConfs\[0\]\.ActionName: unknown sort",
        ),
        (general(None, [("drop", "x")]), r'ActionConfs\[0\]\.ActionType: expected "sort" or "filter", got "drop"'),
        (general({"RankAlgoList": ["rankr"]}), r'RankConf\.RankAlgoList\[0\]: unknown algorithm "rankr"'),
        (
            general({"RankAlgoList": ["ranker"], "RankScore": "1", "ScoreRewrite": {"a": "1"}}),
            r"a general rank has none",
        ),
    ],
)
def test_a_general_rank_that_cannot_be_is_refused(world, conf, says):
    with pytest.raises(ConfigError, match=says):
        ranked(world, {}, GeneralRankConfs={"home_feed": conf})


@pytest.mark.parametrize("kind", ["FAISS", "SELDON", "TFSERVING"])
def test_a_service_of_the_cloud_is_refused_with_what_would_be_right(world, kind):
    with pytest.raises(ConfigError, match=rf'AlgoConfs\.x\.Type: "{kind}" is not served here; use "LIGHTGBM"'):
        ranked(world, {"RankAlgoList": ["x"]}, {"Name": "x", "Type": kind})


def test_what_does_not_act_is_said(world):
    world.conf["ColdStartRankConfs"] = {"home_feed": {"RecallName": "hot", "AlgoName": "ranker"}}
    world.conf["EmbeddingConfs"] = {"home_feed": {"DataSource": {"Name": "log", "Type": "datahub"}}}
    with world.engine() as engine:
        said = "\n".join(engine.config.unused)
    assert "ColdStartRankConfs: accepted, does not act here" in said
    assert "EmbeddingConfs.home_feed.DataSource: accepted, does not act here: vectors are not recorded" in said


def test_a_general_rank_loads_features_of_its_own_first(world):
    coarse = general({"RankAlgoList": ["own"], "RankScore": "${own} + ${mood}"})
    feature = {
        "FeatureType": "raw_feature",
        "FeatureStore": "item",
        "FeatureName": "mood",
        "FeatureSource": "user:mood",
    }
    coarse["FeatureLoadConfs"] = [{"FeatureDaoConf": {"FeatureStore": "item"}, "Features": [feature]}]
    with ranked(world, {}, LOOKUP, GeneralRankConfs={"home_feed": coarse}) as engine:
        items = [{"item_id": "a", "boost": 3}, {"item_id": "b", "boost": 5}]
        assert scores(asked(engine, items, features={"mood": 30})) == {"a": 33.0, "b": 35.0}


# ---- parameters of experiments


@pytest.mark.parametrize(
    ("ast_type", "params", "expected"),
    [
        ("", {"price": 0.5}, [0.5 + 3, 0.5 + 3]),  # a parameter that is a number goes before the item
        ("", {"price": "0.5", "w": "x"}, [0.5 + 3, 0.5 + 3]),
        ("", {"price": 0, "price2": 9}, [2.0 + 3, 4.0 + 3]),  # 0 and what is no number do not
        ("", {"price": "much"}, [2.0 + 3, 4.0 + 3]),
        ("antlr", {"price": 0.5}, [2.0 + 3, 4.0 + 3]),  # here the item goes first
    ],
)
def test_parameters_stand_in_for_names(world, ast_type, params, expected):
    rank = {"RankAlgoList": [], "RankScore": "${boost} + ${current_score}", "ASTType": ast_type}
    with ranked(world, rank) as engine:
        scene = engine._scene("home_feed", "list")
        named = {name.replace("price", "boost"): value for name, value in params.items()}
        items = [{"item_id": "a", "boost": 2, "score": 3}, {"item_id": "b", "boost": 4, "score": 3}]
        query = Query(
            scene.snapshot, "u1", 2, {}, history_max=1, item_list=items, sources=scene.sources, places=10, params=named
        )
        arena = Arena(10, items_max=scene.snapshot.overlay.capacity, algos=scene.score.outputs.capacity)
        arena.follow(scene.snapshot.overlay)
        for stage in scene.recalls:
            stage(query, arena)
        scene.score.score(query, arena)
        assert arena.score[:2].tolist() == expected
