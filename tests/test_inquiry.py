"""Model servers asked beside the walk: vectors for `/api/embedding`, and features for what is logged."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from pairec_fast.app import App
from pairec_fast.errors import ConfigError, RequestError
from tests.services.easyrec import DIMENSION, TOKEN, EasyrecServer, score
from tests.worlds import LOGGED, ask

EMBEDDING = "/api/embedding"


@pytest.fixture
def server():
    with EasyrecServer() as server:
        yield server


def eas(server, name, model, function, **settings):
    conf = {
        "Processor": "EasyRec", "Url": server.url(model), "Auth": TOKEN, "ResponseFuncName": function, "Timeout": 5000
    }  # fmt: skip
    return {"Name": name, "Type": "EAS", "EasConf": conf | settings}


# ---- /api/embedding


@pytest.fixture
def embedding(world, server):
    world.conf["AlgoConfs"].append(eas(server, "emb", "embedding", "torchrecEmbeddingResponseFunc", RetryTimes=1))
    world.conf["EmbeddingConfs"] = {"home_feed": {"RankConf": {"RankAlgoList": ["emb"], "Processor": "EasyRec"}}}
    with world.engine() as engine:
        yield engine


def vector(who):
    """With the digits of a float32."""
    return [float(str(np.float32(score(who, str(place))))) for place in range(DIMENSION)]


def test_a_user_has_a_vector_made_of_its_features(embedding, server):
    reply = embedding.embedding(
        {
            "uid": "u1", "scene_id": "home_feed", "request_id": "r1", "user_features": {"age": 30, "none": ""},
            "user_complex_type_features": [{"name": "tags", "type": "list<string>", "values": ["a"]}],
        }
    )  # fmt: skip
    assert (reply.code, reply.msg, reply.request_id) == (200, "success", "r1")
    assert reply.embedding == vector("u1") and reply.model_config == {"model_version": "v7"}
    user = server.requests[0].user
    assert user["uid"] == (3, "u1") and user["age"] == (5, 30.0) and user["tags"][0] == 23 and "none" not in user
    assert not server.requests[0].item_ids


def test_an_item_has_a_vector_and_goes_before_the_user(embedding, server):
    reply = embedding.embedding(
        {"uid": "u1", "item_id": "i7", "scene_id": "home_feed", "item_features": {"price": 5, "brand": "x", "l": [1]}}
    )
    assert reply.embedding == vector("i7")
    request = server.requests[0]
    assert request.item_ids == ["i7"] and not request.user
    assert request.context == {"price": [(5, 5.0)], "brand": [(3, "x")], "l": [(3, "")]}


def test_the_route_answers_as_pairec_does(embedding, server):
    app = App(embedding)
    said = ask(app, EMBEDDING, {"uid": "u1", "scene_id": "home_feed", "request_id": "r1"})
    assert said.status == 200 and said.json == {
        "code": 200, "msg": "success", "request_id": "r1", "embedding": vector("u1"),
        "model_config": {"model_version": "v7"},
    }  # fmt: skip
    server.fail("status 500")
    said = ask(app, EMBEDDING, {"uid": "u1", "scene_id": "home_feed", "request_id": "r2"})
    assert said.json == {"code": 500, "msg": "emb: status 500: out of order", "request_id": "r2", "embedding": None}
    said = ask(app, EMBEDDING, {"uid": "u1", "scene_id": "other", "request_id": "r3"})
    assert said.json == {"code": 500, "msg": "embeddings is empty", "request_id": "r3", "embedding": None}
    said = ask(app, EMBEDDING, {"scene_id": "home_feed", "request_id": "r4"})
    assert said.json == {"code": 400, "msg": "uid or item_id not empty", "request_id": "r4"}


def test_a_request_without_a_scene_is_refused(embedding):
    with pytest.raises(RequestError, match="scene_id not empty"):
        embedding.embedding({"uid": "u1"})


# ---- the callback's model call


def logging(world, server, model="single", function="easyrecResponseFunc", **conf):
    world.conf["AlgoConfs"].append(eas(server, "fg", model, function, RetryTimes=1))
    rank = {"RankAlgoList": ["fg"], "Processor": "EasyRec", "ContextFeatures": ["price"], "ItemFeatures": ["mood"]}
    world.callback |= {"RankConf": rank, "ItemSize": 0} | conf
    return world.engine()


def items_of(world):
    (rows,) = world.records()
    return {row["item_id"]: row for row in rows if row["module"] == "item"}


TWO = LOGGED | {"item_list": [{"item_id": "i000012", "mood": "gay"}, {"item_id": "stranger"}], "features": {"age": 30}}


@pytest.mark.parametrize(
    ("model", "function"),
    [
        ("single", "easyrecResponseFunc"),
        ("multiple", "easyrecMutValResponseFunc"),
        ("torch", "torchrecMutValResponseFunc"),
    ],
)
def test_what_a_model_made_of_each_item_is_logged_with_it(world, server, model, function):
    with logging(world, server, model, function) as engine:
        assert engine.callback(TWO)
    rows = items_of(world)
    for one, row in rows.items():
        assert row["generate_features"] == f"generated {one}" and row["raw_features"] == ""
        context = "" if model == "torch" else f'[{{"Value":{{"StringFeature":"context {one}"}}}}]'
        assert row["context_features"] == context
        assert "generate_features" not in json.loads(row["item_features"])
    (request,) = server.requests
    assert request.debug_level == 3 and request.item_ids == ["i000012", "stranger"]
    assert request.user["age"] == (1, 30) and request.user["uid"] == (3, "u00042")  # whole numbers stay whole here
    assert request.items["mood"] == [(3, "gay"), (3, "")]


@pytest.mark.parametrize(
    ("rate", "debug", "level", "raw"),
    [(100, False, 1, True), (0, False, 3, False), (100, True, 2, True), (0, True, 2, False)],
)
def test_raw_features_are_asked_for_at_their_rate(world, server, rate, debug, level, raw):
    with logging(world, server, RawFeatures=True, RawFeaturesRate=rate) as engine:
        assert engine.callback(TWO | {"debug": debug})
    assert server.requests[0].debug_level == level
    assert {row["raw_features"] for row in items_of(world).values()} == (
        {"raw i000012", "raw stranger"} if raw else {""}
    )


def test_a_rate_of_raw_features_is_drawn_from_the_request(world, server):
    with logging(world, server, RawFeatures=True, RawFeaturesRate=30) as engine:
        for _ in range(2):
            for place in range(60):
                assert engine.callback(TWO | {"request_id": f"r{place}"})
    levels = [request.debug_level for request in server.requests]
    assert levels[:60] == levels[60:] and 5 < levels[:60].count(1) < 32


@pytest.mark.parametrize("failure", ["status 500", "garbage", "drop"])
def test_a_failing_model_costs_its_features_and_not_the_record(world, server, failure):
    with logging(world, server) as engine:
        server.fail(failure)
        assert engine.callback(TWO)
        assert 'callback_model_failed_total{scene="home_feed",algo="fg"} 1' in engine.metrics.text()
    rows = items_of(world)
    assert len(rows) == 2 and {row["generate_features"] for row in rows.values()} == {""}


def test_an_algorithm_of_the_callbacks_own_is_asked_instead(world, server):
    world.conf["AlgoConfs"].append(eas(server, "fg_callback", "torch", "torchrecMutValResponseFuncDebug"))
    with logging(world, server) as engine:
        assert engine.callback(TWO)
    assert server.requests[0].path.endswith("/torch")
    assert items_of(world)["i000012"]["generate_features"] == "generated i000012"


def test_an_automatic_callback_is_seen_by_the_model_too(world, server):
    world.scene["default"] |= {"AutoInvokeCallBack": True}
    with logging(world, server, ItemSize=5) as engine:
        reply = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": 20})
        end = time.monotonic() + 10
        while not server.requests and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
    rows = items_of(world)
    assert list(rows) == [item.item_id for item in reply.items[:5]]
    assert {row["generate_features"] for row in rows.values()} == {f"generated {one}" for one in rows}


@pytest.mark.parametrize(
    ("settings", "conf", "says"),
    [
        ({"function": "torchrecEmbeddingResponseFunc"}, {}, r"has no twin that gives features"),
        (
            {},
            {"RankConf": {"RankAlgoList": ["ranker"], "Processor": "EasyRec"}},
            r"AlgoConfs\.ranker\.Type: CallBackConfs\.home_feed\.RankConf\.RankAlgoList asks a model server",
        ),
    ],
)
def test_a_model_that_gives_no_features_is_refused(world, server, settings, conf, says):
    with pytest.raises(ConfigError, match=says):
        logging(world, server, **settings, **conf)


def test_check_says_which_servers_cannot_be_asked(world, server, run):
    world.conf["AlgoConfs"].append(eas(server, "fg", "single", "easyrecUserEmbResponseFunc"))
    rank = {"RankAlgoList": ["fg"], "Processor": "EasyRec"}
    world.callback["RankConf"] = rank
    world.conf["EmbeddingConfs"] = {"home_feed": {"RankConf": rank}}
    code, _, said = run("check", world.write())
    assert code == 1
    assert "CallBackConfs.home_feed.RankConf.RankAlgoList: fg is read by easyrecUserEmbResponseFunc, which has" in said
    assert "EmbeddingConfs.home_feed.RankConf.RankAlgoList: fg gives no vectors" in said


def test_a_model_with_another_processor_is_not_asked_and_that_is_said(world, server):
    with logging(world, server, RankConf={"RankAlgoList": ["fg"]}) as engine:
        assert engine.callback(TWO)
        (said,) = [line for line in engine.config.unused if "CallBackConfs" in line]
    assert 'home_feed.RankConf: accepted, does not act here: only of models with the processor "EasyRec"' in said
    assert not server.requests and len(items_of(world)) == 2
