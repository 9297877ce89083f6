"""The ASGI callable, driven in process: what every route answers, and to what."""

from __future__ import annotations

import asyncio
import json
import re
import uuid

import numpy as np
import pytest

from pairec_fast.app import App
from pairec_fast.compress import decoded, encoded
from pairec_fast.errors import ConfigError
from tests.test_metrics import parsed
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, RECALL, RECOMMEND, RERANK, ask, suite


def is_uuid(text: str) -> bool:
    return uuid.UUID(text).version == 4


# What is answered


@pytest.mark.parametrize("case", suite("http"), ids=lambda case: case["id"])
def test_shared_cases_of_http(app, case):
    given, expected = case["input"], case["expected"]
    answer = ask(app, given["path"], given["body"], method=given["method"])
    assert answer.status == expected["status"]
    if "text" in expected:
        assert answer.body.decode() == expected["text"]
        return
    if case["match"] == "exact":
        assert answer.json == expected["json"]
    assert answer.json.items() >= expected["json"].items()
    assert answer.json["msg"].startswith(expected.get("msg_prefix", ""))
    if "request_id" in expected:
        assert is_uuid(answer.json["request_id"])


def test_feed_answers_in_the_order_of_pairec(app):
    answer = ask(app, FEED, FIRST | {"request_id": "r1"})
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json) == ["code", "msg", "request_id", "size", "experiment_id", "items"]
    head = {key: value for key, value in answer.json.items() if key != "items"}
    assert head == {"code": 200, "msg": "success", "request_id": "r1", "size": 3, "experiment_id": ""}
    assert all(list(item) == ["item_id", "score", "retrieve_id"] for item in answer.json["items"])
    scores = [item["score"] for item in answer.json["items"]]
    assert scores == sorted(scores, reverse=True)
    again = ask(app, FEED, FIRST).json
    assert again["items"] == answer.json["items"] and is_uuid(again["request_id"])


def test_recommend_answers_without_scores_and_always_with_a_new_request_id(app):
    answer = ask(app, RECOMMEND, FIRST | {"request_id": "r1", "item_list": [{}]}).json
    assert list(answer) == ["code", "msg", "request_id", "size", "items"] and is_uuid(answer["request_id"])
    assert all(list(item) == ["item_id", "item_type", "retrieve_id"] for item in answer["items"])
    feed = ask(app, FEED, FIRST).json["items"]
    assert [(item["item_id"], item["item_type"]) for item in answer["items"]] == [(one["item_id"], "") for one in feed]


def test_recall_answers_in_recall_order_with_an_empty_list_of_errors(app):
    answer = ask(app, RECALL, FIRST | {"request_id": "r1"}).json
    assert list(answer) == ["code", "msg", "request_id", "size", "items", "errors"] and is_uuid(answer["request_id"])
    assert (answer["code"], answer["size"], answer["errors"]) == (200, 3, [])
    assert all(list(item) == ["item_id", "retrieve_id"] for item in answer["items"])
    more = ask(app, RECALL, FIRST | {"size": 1000}).json
    assert (more["code"], more["msg"]) == (299, "items size not enough")
    assert more["items"][:3] == answer["items"] and more["size"] == len(more["items"])


@pytest.mark.parametrize("path", [FEED, RECOMMEND, RECALL])
def test_no_size_means_ten_and_fewer_items_than_asked_for_is_code_299(app, path):
    for request in (FIRST | {"size": 0}, FIRST | {"size": -5}, {"uid": "u00042", "scene_id": "home_feed"}):
        assert ask(app, path, request).json["size"] == 10
    for size in (1000, 10**6, 2**63 - 1):
        answer = ask(app, path, FIRST | {"size": size}).json
        assert (answer["code"], answer["msg"]) == (299, "items size not enough")
        assert 10 < answer["size"] == len(answer["items"]) <= 1000


@pytest.mark.parametrize("path", [FEED, RECOMMEND, RECALL])
def test_an_unknown_scene_gives_no_items_and_an_unknown_category_the_default_one(app, path):
    for scene in ("nope", "default_scene", "", "x" * 100_000, 'a"\n{}'):
        answer = ask(app, path, FIRST | {"scene_id": scene}).json
        assert (answer["code"], answer["size"], answer["items"]) == (299, 0, [])
    assert ask(app, path, FIRST | {"category": "nope"}).json["items"] == ask(app, path, FIRST).json["items"]


def test_feed_reranks_the_list_of_the_request(app):
    listed = [{"item_id": "i000345"}, {"item_id": "i000012", "score": 0.5, "anything": [1]}]
    answer = ask(app, FEED, RERANK | {"item_list": listed}).json
    assert answer["code"] == 200 and {item["item_id"] for item in answer["items"]} == {"i000012", "i000345"}
    assert {item["retrieve_id"] for item in answer["items"]} == {"ContextItemRecall"}


@pytest.mark.parametrize(
    "listed",
    [
        None, [], [None], [{}], [{"item_id": None}], [{"item_id": ""}], [{"item_id": True}], [{"item_id": ["i000012"]}],
        [{"item_id": {"a": 1}}], [{"item_id": "unknown"}], [{"item_id": 5}], [{"score": 1}], [{"item_id": "x" * 9_999}],
    ],
    ids=lambda listed: json.dumps(listed)[:40],
)  # fmt: skip
def test_entries_that_name_no_item_are_left_out(app, listed):
    answer = ask(app, FEED, RERANK | {"item_list": listed}).json
    assert (answer["code"], answer["items"]) == (299, [])
    good = [{"item_id": "i000012"}, {"item_id": "i000345"}]
    assert ask(app, FEED, RERANK | {"item_list": [*(listed or []), *good]}).json["size"] == 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("score", [None, "x", [1], {}, True, 10**300, -1e300, 1e-300, 2**70])
def test_scores_of_listed_items_may_be_anything(app, score):
    listed = [{"item_id": "i000012", "score": score}, {"item_id": "i000345", "score": 1}]
    assert ask(app, FEED, RERANK | {"item_list": listed}).json["size"] == 2


def test_output_fields_become_extra(app):
    item = ask(app, FEED, RERANK | {"item_list": [{"item_id": "i000012"}]}).json["items"][0]
    assert list(item) == ["item_id", "score", "retrieve_id", "extra"]
    assert list(item["extra"]) == [
        "price",
        "nope",
        "algo_scores",
        "ranker",
    ]  # `score:nope` and `item:nope` share a name
    assert item["extra"]["price"] > 0 and item["extra"]["nope"] == 0
    assert item["extra"]["algo_scores"] == {"ranker": item["score"]} and item["extra"]["ranker"] == item["score"]


def test_debug_adds_logs_and_explanations_and_nothing_else(app):
    plain, debug = (ask(app, FEED, FIRST | {"request_id": "r", "debug": flag}).json for flag in (False, True))
    logs = [line for line in debug.pop("logs") if "\tslowest=" not in line]
    assert all(item.pop("explain") for item in debug["items"])
    assert debug == plain
    models = [line for line in logs if "\tmodel=" in line]
    assert len(models) == 1 and " bytes an item, " in models[0] and "; shared " in models[0]
    logs.remove(models[0])
    searches = [line for line in logs if "\trecall=" in line]
    assert searches == ["[INFO] requestId=r\trecall=vectors\tstrategy=none"], "nobody's vector"
    logs.remove(searches[0])
    assert logs[0].startswith("[INFO] requestId=r\tscene=home_feed\tcategory=default")
    assert all(re.match(r"\[INFO\] requestId=r\tmodule=\w+\tcost=\d+\.\d{3}(\t|$)", line) for line in logs[1:])
    assert "logs" not in ask(app, FEED, FIRST | {"scene_id": "nope", "debug": True}).json


@pytest.mark.parametrize("features", [
    {"hour": 10**308, "device": {"x": 1}, "gender": [1], "age": -(2**63)},
    {"history": [1, None, "i000012", ["x"], {}]}, {"history": "i000012,,nope,"}, {"history": 5}, {"history": {}},
    {"hour": "12", "device": "é" * 10_000, "": "", "uid": "other", "\0": None},
], ids=str)  # fmt: skip
def test_features_may_be_anything(app, features):
    typed = [
        None, {}, {"name": "hour", "type": "int", "values": 10**300}, {"name": "q", "type": None}, {"Name": "", "x": 1},
        {"name": "device", "type": "list<string>", "values": [1, "a", None]}, {"name": "x", "type": "map<int,int>"},
    ]  # fmt: skip
    answer = ask(app, FEED, FIRST | {"features": features, "complex_type_features": typed}).json
    assert (answer["code"], answer["size"]) == (200, 3)


@pytest.mark.parametrize("path", [FEED, RECOMMEND, RECALL])
def test_an_error_carries_the_request_id_from_where_it_is_known(app, path):
    empty, broken, nobody = (ask(app, path, body).json for body in ("", "{", '{"request_id":"r1"}'))
    assert list(empty) == list(broken) == list(nobody) == ["code", "msg", "request_id"]
    assert (nobody["code"], nobody["msg"]) == (400, "uid not empty")
    assert empty["request_id"] == ""
    if path == FEED:  # fixed by a successful parse
        assert (broken["request_id"], nobody["request_id"]) == ("", "r1")
    else:  # made before anything is checked
        assert is_uuid(broken["request_id"]) and is_uuid(nobody["request_id"])


# Paths, methods, probes


def test_methods_and_query_strings_do_not_matter(app):
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
        assert ask(app, FEED, FIRST, method=method, query="uid=x&size=9").json["size"] == 3
        assert ask(app, "/ping", method=method, query="a=b").body == b"success"


def test_probes_answer_and_unknown_paths_do_not(app):
    assert ask(app, "/livez").status == ask(app, "/readyz").status == 200
    for path in ("/", "", "/nope", "/api/rec/feed/", "/API/REC/FEED", "//ping", "/api", "/\u0130\0", "*"):
        answer = ask(app, path, FIRST)
        assert (answer.status, answer.body) == (404, b"url not found route info")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_metrics_are_prometheus_text_whose_labels_are_bounded(app):
    def shape():
        answer = ask(app, "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return parsed(answer.body.decode())

    ask(app, "/nope"), ask(app, FEED, FIRST), ask(app, FEED, FIRST | {"scene_id": "nope"}), shape()
    before = shape()
    for number in range(50):
        ask(app, f"/nope/{number}")
        for path in (FEED, RECOMMEND, RECALL, CALLBACK):
            ask(app, path, LOGGED | {"scene_id": f"s{number}", "category": f"c{number}", "uid": f"u{number}"})
    after = shape()
    urls = {re.search('url="([^"]+)"', name)[1] for name in set(after) - set(before)}
    assert urls <= {RECOMMEND, RECALL, CALLBACK}
    unknown = 'pairec_requests_total{code="404",method="POST",host="",url="other"}'
    assert after[unknown] - before[unknown] == 50
    assert after['pairec_rec_duration_seconds_count{scene="home_feed",exp_id=""}'] > 0


# The rest of the surface


def test_route_paths_are_those_a_project_registers(app):
    answer = ask(app, "/route_paths", method="GET")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == ["/api/callback", "/api/embedding", "/api/rec/feed"]


@pytest.mark.parametrize(
    ("body", "msg", "request_id"),
    [
        ("", "request body empty", ""), ("{", "unexpected end of JSON input", ""),
        ('{"request_id":"r"}', "uid or item_id not empty", "r"),
        ('{"uid":"u","request_id":"r"}', "scene_id not empty", "r"),
        ('{"item_id":"i","request_id":"r"}', "scene_id not empty", "r"),
        ('{"uid":1}', "json: cannot unmarshal number into Go struct field EmbeddingParam.uid of type string", ""),
    ],
)  # fmt: skip
def test_an_embedding_is_asked_for_in_the_order_of_pairec(app, body, msg, request_id):
    assert ask(app, "/api/embedding", body).json == {"code": 400, "msg": msg, "request_id": request_id}


def test_without_a_model_of_embeddings_the_answer_is_that_of_pairec(app):
    answer = ask(app, "/api/embedding", {"UID": "u", "scene_id": "s", "user_features": {"a": 1}}).json
    assert is_uuid(answer.pop("request_id"))
    assert answer == {"code": 500, "msg": "embeddings is empty", "embedding": None}
    assert list(ask(app, "/api/embedding", {"item_id": "i", "scene_id": "s", "request_id": "r"}).json) == [
        "code", "msg", "request_id", "embedding"
    ]  # fmt: skip


REPLAY = {"user_id": "u", "item_ids": ["a", "b"], "item_features": ["{}", "{}"], "request_id": "r", "scene": "s"}


@pytest.mark.parametrize(
    ("items", "code", "msg", "request_id"),
    [
        ({"user_id": ""}, 400, "user_id not empty", ""), ({"item_ids": []}, 400, "item_ids not empty", ""),
        ({"item_features": ["{}"]}, 400, "item_ids length is not equal item_features", ""),
        ({"request_id": ""}, 400, "request_id not empty", ""),
        ({"item_ids": ["a", 1]}, 400,
         "json: cannot unmarshal number into Go struct field FeatureReplyData.item_ids of type string", ""),
        ({"USER_ID": "x", "item_ids": ["a", None]}, 500,
         "feature_reply does not act here: there is no feature consistency service to report to", "r"),
    ],
)  # fmt: skip
def test_a_feature_reply_is_checked_and_told_that_it_does_not_act(app, items, code, msg, request_id):
    body = {"datasource": {"type": "datahub", "job_id": 1}, "items": REPLAY | items}
    assert ask(app, "/api/feature_reply", body).json == {"code": code, "msg": msg, "request_id": request_id}


def test_items_of_recommend_have_the_type_of_their_recall(world):
    for conf in world.conf["RecallConfs"]:
        conf["ItemType"] = f"type of {conf['Name']}"
    with world.engine() as engine:
        items = ask(App(engine), RECOMMEND, FIRST | {"size": 50}).json["items"]
    assert len({item["item_type"] for item in items}) > 1
    assert all(item["item_type"] == f"type of {item['retrieve_id']}" for item in items)


def test_bare_routes_ignore_fields_they_do_not_have_whatever_those_hold(app):
    assert ask(app, RECOMMEND, FIRST | {"request_id": 5, "item_list": "x", "item_id": []}).json["code"] == 200


def test_debug_tells_where_items_were_moved(world):
    def moving(query, arena):
        places = arena.place[: arena.count].copy()
        query.given.put("_ORIGIN_POSITION_", places, np.arange(arena.count, dtype=np.float64))
        query.given.put("__traffic_control_id__", places[1:2], (np.zeros(1, np.int32), [{"a": 1}]))

    with world.engine() as engine:
        engine._scene("home_feed", "default").reranks.append(moving)
        app, most = App(engine), FIRST | {"size": 1000}
        plain, debug = (ask(app, FEED, most | {"debug": flag}).json["items"] for flag in (False, True))
    assert not any("origin_position" in item or "traffic_control_id" in item for item in plain)
    assert sorted(item["origin_position"] for item in debug) == list(range(len(debug)))
    (controlled,) = (item for item in debug if "traffic_control_id" in item)
    assert controlled["traffic_control_id"] == {"a": 1} and controlled["origin_position"] == 1
    assert "new_position" not in controlled


def test_custom_metrics_are_there_where_metrics_are_enabled(world):
    for enable, status in ((True, 200), (False, 404)):
        world.conf["PrometheusConfig"] = {"Enable": enable}
        with world.engine() as engine:
            engine.custom_metrics.count("orders_total", shop="a")
            answer = ask(App(engine), "/custom_metrics")
            assert answer.status == status
            assert not enable or parsed(answer.body.decode()) == {'orders_total{shop="a"}': 1}


# Compressed bodies


@pytest.mark.parametrize("codec", ["zstd", "lz4", "gzip"])
def test_a_compressed_request_is_read_and_its_answer_compressed_as_asked(app, codec):
    pytest.importorskip("zstandard")
    pytest.importorskip("lz4.frame")
    plain = ask(app, FEED, FIRST | {"size": 40, "request_id": "r"})
    assert plain.headers["vary"] == "accept-encoding" and "content-encoding" not in plain.headers
    body = encoded(json.dumps(FIRST | {"size": 40, "request_id": "r"}).encode(), codec)
    answer = ask(app, FEED, body, headers={"Content-Encoding": codec, "Accept-Encoding": f"br, {codec};q=0.5"})
    assert answer.headers["content-encoding"] == codec and len(answer.body) < len(plain.body)
    assert decoded(answer.body, codec, 1 << 20) == plain.body


def test_a_small_answer_is_sent_as_it_is(app):
    answer = ask(app, FEED, FIRST | {"size": 1}, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers and answer.json["size"] == 1


def test_the_limit_of_a_body_holds_for_what_it_is_decompressed_to(app):
    most = app.engine.limits.body_bytes_max
    answer = ask(app, FEED, encoded(b" " * (most + 1), "gzip"), headers={"Content-Encoding": "gzip"}).json
    assert answer == {"code": 400, "msg": f"request body larger than {most} bytes", "request_id": ""}


# Lines of requests


def lines_of(world, app_of, output: str) -> None:
    world.conf["LogConf"] = {"LogLevel": "INFO", "Output": output}
    with world.engine() as engine:
        app_of(App(engine))


def test_lines_of_requests_tell_their_begin_and_their_end(world, capsys):
    def asked(app):
        ask(app, FEED, json.dumps(FIRST | {"request_id": 'r"1'}, indent=1), query="a=b")
        ask(app, FEED, "{"), ask(app, "/ping")

    lines_of(world, asked, "console")
    lines = [line.partition(" [INFO] ")[2] for line in capsys.readouterr().err.splitlines()]
    body = json.dumps(FIRST | {"request_id": 'r"1'}, indent=1).replace("\n", "\\n")
    assert lines[0] == f'requestId=r\\"1\tevent=begin\turi=/api/rec/feed?a=b\taddress=:0\tbody={body}'
    assert re.fullmatch(r'requestId=r\\"1\tevent=end\turi=/api/rec/feed\?a=b\tcost=\d+', lines[1])
    assert lines[2] == "requestId=\tevent=begin\turi=/api/rec/feed\taddress=:0\tbody={" and len(lines) == 4


def test_lines_of_requests_go_to_a_file_where_the_configuration_says_so(world, monkeypatch):
    monkeypatch.chdir(world.folder)
    lines_of(world, lambda app: ask(app, FEED, FIRST), "file")
    (path,) = (world.folder / "log").glob("pairec.*.log")
    assert len(path.read_text().splitlines()) == 2


def test_without_a_level_no_line_is_made(world, capsys):
    world.conf["LogConf"] = {"LogLevel": "ERROR", "Output": "console"}
    with world.engine() as engine:
        ask(App(engine), FEED, FIRST)
        assert engine.request_log is None
    assert "event=begin" not in capsys.readouterr().err


# Life


async def lifespan(app, *kinds):
    inbox, outbox = [{"type": f"lifespan.{kind}"} for kind in kinds], []

    async def receive():
        return inbox.pop(0)

    async def send(message):
        outbox.append(message)

    await app({"type": "lifespan"}, receive, send)
    return outbox


def test_an_engine_that_cannot_be_made_stops_the_server_with_a_message(world, caplog):
    def make():
        raise ConfigError("engine.json:1:2: wrong")

    sent = asyncio.run(lifespan(App(make), "startup"))
    assert sent == [{"type": "lifespan.startup.failed", "message": "engine.json:1:2: wrong"}]
    assert "wrong" in caplog.text and "Traceback" not in caplog.text


def test_before_startup_and_after_shutdown_the_service_lives_but_is_not_ready(world):
    app = App(world.engine)

    def states():
        paths = ("/livez", "/ping", "/readyz", "/metrics", FEED, "/nope")
        return [ask(app, path, FIRST if path == FEED else b"").status for path in paths]

    assert states() == [200, 200, 503, 503, 503, 404]
    assert asyncio.run(lifespan(app, "startup", "shutdown"))[0] == {"type": "lifespan.startup.complete"}
    assert states() == [200, 200, 503, 200, 503, 404]
    assert ask(app, CALLBACK, LOGGED).status == 503
