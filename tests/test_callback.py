"""The feature log: what a callback leaves, how much of it is kept, and that every item is accounted for."""

from __future__ import annotations

import gc
import json
import math
import time
import weakref

import msgspec
import numpy as np
import pytest

from pairec_fast.app import App
from pairec_fast.callback import Record, draw, encode, invoked, thinned
from pairec_fast.config import Config
from pairec_fast.core import Arena, expand, read_segments
from pairec_fast.errors import NotReadyError, RequestError
from pairec_fast.messages import CallbackRequest, RecommendRequest, decode, with_texts
from pairec_fast.properties import loaded, loaded_each
from pairec_fast.reply import Writer
from pairec_fast.scene import KINDS
from tests.test_metrics import parsed
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, RECALL, ask, own_snapshots, suite

HEAD = ["request_id", "scene", "request_time", "user_id"]
USER = [*HEAD, "user_features", "request_info", "module"]
ITEM = [*HEAD, "module", "item_id", "raw_features", "generate_features", "context_features", "item_features"]


def written(items=(), **fields):
    record = Record("s", "r", 7, fields.pop("uid", "u"), fields.pop("features", {}), {}, list(items))
    return [json.loads(row) for row in expand(encode(record))]


OUTCOMES = ("offered", "sampled_out", "accepted", "dropped")


def counts(engine, prefix="log_items") -> dict[str, float]:
    """Items, or with prefix `log` callbacks, offered, sampled out, accepted and dropped so far.

    Every test that asks also checks the counting law, of items and of callbacks, and of the latter to their end.
    """
    metrics = parsed(engine.metrics.text(engine.gauges()))
    totals = {
        unit: {
            name: sum(value for key, value in metrics.items() if key.startswith(f"pairec_{unit}_{name}_total"))
            for name in OUTCOMES
        }
        for unit in ("log", "log_items")
    }
    for unit, of in totals.items():
        assert of["offered"] == of["sampled_out"] + of["accepted"] + of["dropped"], (unit, of)
    ends = ("delivered_total", "in_spill", "in_ring", "dead_letter_total")
    assert totals["log"]["accepted"] == sum(metrics[f"pairec_log_{name}"] for name in ends)
    reasons = {key.split('reason="')[1].split('"')[0] for key in metrics if key.startswith("pairec_log_dropped_total")}
    assert reasons <= {"full", "too_large", "closed", "invalid"}
    return totals[prefix]


# Sampling


@pytest.mark.parametrize("case", suite("callback_sampling"), ids=lambda case: case["id"])
def test_shared_cases_of_callback_sampling(case):
    count, rate = case["input"]["items"], case["input"]["ItemSizeRate"]
    starts = set()
    for number in range(300):
        kept = thinned(count, rate, f"request {number}")
        assert len(kept) == case["expected"]["kept"] and kept == sorted(set(kept))
        assert kept[0] >= 0 and kept[-1] < count
        step = count / len(kept)
        assert kept[0] < step and all(abs(place - kept[0] - k * step) <= 1 for k, place in enumerate(kept))
        starts.add(kept[0])
    assert starts == set(range(math.ceil(count / case["expected"]["kept"]))), "every start comes up"


def test_samples_are_repeatable_and_uniform():
    assert thinned(100, 7, "r1") == thinned(100, 7, "r1") and thinned(0, 50, "r") == []
    draws = [draw(f"request {number}", "invoke") for number in range(4000)]
    assert min(draws) >= 0 and max(draws) < 1
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)  # four standard deviations
    assert draw("r", "invoke") != draw("r", "start")
    for rate in (0, 100, 101, -1):
        assert all(invoked(f"request {number}", rate) for number in range(100))
    for rate in (1, 10, 99):
        hits = sum(invoked(f"request {number}", rate) for number in range(4000))
        assert hits / 40 == pytest.approx(rate, abs=4 * math.sqrt(rate * (100 - rate) / 4000))


def test_what_is_kept_of_a_callback_does_not_depend_on_why_it_ran():
    """One draw for both would start every sample of a low rate near the front."""
    ran = [request for number in range(20_000) if invoked(request := f"request {number}", 10)]
    starts = [thinned(100, 10, request)[0] for request in ran]
    for place in range(10):
        assert starts.count(place) == pytest.approx(len(ran) / 10, abs=5 * math.sqrt(len(ran) * 0.09))


@pytest.mark.parametrize("request_id", ["", "r" * 100_000, "\ud800", "\0", "é" * 50], ids=ascii)
def test_any_request_id_can_be_drawn_for(request_id):
    assert 0 <= draw(request_id, "invoke") < 1 and len(thinned(10, 50, request_id)) == 5


# Records


@pytest.mark.parametrize("case", suite("callback_record"), ids=lambda case: case["id"])
def test_shared_cases_of_callback_records(case, world):
    given, expected = case["input"], case["expected"]
    if "properties" in given:
        assert written(features=given["properties"])[0]["user_features"] == expected["user_features_text"]
    elif "item_id" in expected:
        with world.engine() as engine:
            request = LOGGED | {"item_list": [given["item"]]}
            if "item_id" not in given["item"]:  # PAI-Rec writes `<nil>`
                with pytest.raises(RequestError, match=r"item_list\[0\]\.item_id must be a text"):
                    engine.callback(request)
                return
            assert engine.callback(request)
        assert world.records()[0][1]["item_id"] == str(given["item"]["item_id"])  # PAI-Rec: numbers as 1.2e+06
    else:
        item = {"item_id": given["item"]["id"], **given["item"]["properties"]}
        assert json.loads(written([item])[1]["item_features"]) == expected["features"]


def test_the_record_of_the_documented_example():
    user, item = written(
        [{"item_id": "113939841"}], uid="84603208", features={"age": 25, "city": "beijing", "type": "x", "none": ""}
    )
    assert user["user_features"] == '{"age":25,"city":"beijing","uid":84603208}'
    assert user["request_info"] == "{}" and item["item_features"] == "{}"
    assert list(user) == USER and list(item) == ITEM
    assert (user["module"], item["module"], item["raw_features"]) == ("user", "item", "")


def test_what_a_replay_needs_stands_behind_the_columns_of_pairec_and_only_where_it_is_known():
    known = Record("s", "r", 7, "u", {}, {}, [{"item_id": "a"}, {"item_id": "b"}], "e1", "f", [3, 0])
    user, *items = map(json.loads, expand(encode(known)))
    assert list(user) == [*USER, "experiment_id", "fingerprint"]
    assert (user["experiment_id"], user["fingerprint"]) == ("e1", "f")
    assert [list(item) for item in items] == [[*ITEM, "position"]] * 2
    assert [item["position"] for item in items] == [3, 0]
    without = [json.loads(row) for row in expand(encode(Record("s", "r", 7, "u", {}, {}, [{"item_id": "a"}])))]
    assert [list(row) for row in without] == [USER, ITEM]


def test_model_texts_are_fields_of_their_own_and_everything_else_is_a_feature():
    item = {"item_id": "a", "raw_features": "x", "generate_features": 5, "z": 20.0, "a": "<b>", "n": None}
    _, row = written([item])
    assert (row["raw_features"], row["generate_features"], row["context_features"]) == ("x", "", "")
    assert row["item_features"] == '{"a":"\\u003cb\\u003e","n":null,"z":20}'


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-Infinity", "+inf"])
def test_a_user_feature_that_json_lacks_empties_the_whole_text(value):
    user, item = written([{"item_id": "a", "x": value}], features={"x": value, "y": 1})
    assert user["user_features"] == ""
    assert json.loads(item["item_features"]) == {"x": value}  # of an item, text stays text


def test_integers_of_any_size_are_logged():
    user, item = written(
        [{"item_id": "a", "x": [2**80, -(2**70)]}], features={"x": 2**63, "y": {"z": 2**64}, "w": -(2**63)}
    )
    assert user["user_features"] == (
        '{"uid":"u","w":-9223372036854775808,"x":9223372036854775808,"y":{"z":18446744073709552000}}'
    )
    assert item["item_features"] == '{"x":[1.2089258196146292e+24,-1.1805916207174113e+21]}'


def test_what_is_nested_too_deep_is_refused():
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    for refuse in (with_texts, lambda features: written(features=features)):
        with pytest.raises(RequestError, match="exceeded max depth"):
            refuse(deep)


def features_of(text: str) -> dict:
    """The features of a callback whose body holds them as `text`."""
    body = '{"uid":"u","FEATURES":{"x":0},"features":' + text + ',"item_list":[{"item_id":"a"}]}'
    return decode(body.encode(), CallbackRequest).features


@pytest.mark.parametrize("case", suite("callback_features"), ids=lambda case: case["id"])
def test_shared_cases_of_callback_features(case):
    value = features_of(case["input"]["features_json"])[case["input"]["key"]]
    assert value == case["expected"]["value"] and type(value) is type(case["expected"]["value"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('[1,"a",1e-7,2.0,1.50,-0,12E3]', ["1", "a", "1e-7", "2.0", "1.50", "-0", "12E3"]),
        ('[[1],[],["a",2.50]]', [["1"], [], ["a", "2.50"]]), ('[1,true]', [1, True]), ('["a",null]', ["a", None]),
        ('[{"a":1.5}]', [{"a": 1.5}]), ('[1,"lost",[2]]', [["2"]]), ('[[2],1]', [[2], 1]), ('[[2],true]', [[2], True]),
        ('[[1,null,true,{"b":1.0,"a":[2]}]]', [["1", "<nil>", "true", "map[a:[2] b:1.0]"]]), ("{}", {}), ("[]", []),
        ('{"a":1,"b":true,"c":null,"d":1.0}', {"a": "1", "b": "true", "c": "<nil>", "d": "1.0"}),
        ('{"a":1,"b":[2,"c"],"c":null}', {"a": ["1"], "b": ["2", "c"], "c": ["<nil>"]}),
        ('{"a":[[1,2]],"b":[1,true,[3]],"c":[]}', {"a": ["[[1 2]]"], "b": ["1", "true", "[3]"], "c": []}),
        ('{"a":{"b":1},"c":[1],"d":1}', {"a": {"b": "1"}, "c": ["1"], "d": 1}), ("null", None), ("true", True),
        ("5", 5), ("5.0", 5.0), ("9223372036854775807", 2**63 - 1), ("9223372036854775808", 2.0**63),
        ('[1,null,18446744073709551616]', [1, None, 2.0**64]), (r'["\ud800",1.0]', ["\ufffd", "1"]),
    ],
)  # fmt: skip
def test_lists_and_flat_objects_of_callback_features_hold_texts(given, expected):
    value = features_of(f'{{"x":{given}}}')["x"]
    assert value == expected and type(value) is type(expected)
    assert with_texts({"x": value}) == {"x": value}, "what is text already stays as it is"


# The automatic callback's parts, many at once


def test_what_is_loaded_for_many_items_is_what_is_loaded_for_each(world):
    with world.engine() as engine:
        scene = engine._scene("home_feed", "default")
        rows = np.random.default_rng(0).permutation(len(engine.snapshot.items)).astype(np.int32)
        assert scene.item_properties
        for each, row in zip(loaded_each(scene.item_properties, rows), rows.tolist(), strict=True):
            assert list(each.items()) == list(loaded({}, scene.item_properties, row).items())
        assert loaded_each({}, rows[:2]) == [{}, {}]


@pytest.mark.parametrize("outputs", [[], ["a"], ["a", "b"]], ids=len)
def test_scores_of_many_slots_are_those_of_each(outputs):
    arena = Arena(8, items_max=8, width=1, algos=2)
    arena.algo_score[:] = np.random.default_rng(0).random(arena.algo_score.shape)
    slots = np.array([5, 0, 7], np.int32)
    expected = [{name: arena.algo_score[at, slot] for at, name in enumerate(outputs)} for slot in slots]
    assert Writer(outputs, []).algo_scores(arena, slots) == expected


# The explicit callback


def test_an_explicit_callback_leaves_the_user_and_then_its_items_in_order(world):
    ids = [f"i{number:06d}" for number in (7, 3, 500)] + ["unknown", "7"]
    before = int(time.time())
    with world.engine() as engine:
        request = {
            "uid": "u00042", "scene_id": "home_feed", "request_id": "r1", "request_info": {"b": 1, "a": "<"},
            "features": {"age": "7", "empty": "", "x": 1.0, "n": [2**60]},
            "complex_type_features": [{"name": "y", "type": "int", "values": "5"}],
            "item_list": [{"item_id": id, "place": place} for place, id in enumerate(ids)],
        }  # fmt: skip
        assert ask(App(engine), CALLBACK, request).json == {"code": 200, "msg": "success", "request_id": "r1"}
        assert counts(engine)["accepted"] == 5
    ((user, *items),) = world.records()
    assert list(user) == [*USER, "fingerprint"] and [list(item) for item in items] == [[*ITEM, "position"]] * 5
    assert user["fingerprint"] and [item["position"] for item in items] == list(range(5))
    assert user["user_features"] == '{"age":7,"n":["1152921504606846976"],"uid":"u00042","x":1,"y":5}'
    assert user["request_info"] == '{"a":"\\u003c","b":1}'
    assert [item["item_id"] for item in items] == ids
    assert [item["item_features"] for item in items] == [f'{{"place":{place}}}' for place in range(5)]
    assert len({tuple(row[name] for name in HEAD) for row in (user, *items)}) == 1
    assert before <= user["request_time"] <= time.time() and user["scene"] == "home_feed"


def test_features_that_the_callback_scene_loads_are_joined(world):
    for name in ("FeatureConfs", "UserFeatureConfs"):
        world.conf[name]["home_feed_callback"] = world.conf[name]["home_feed"]
    with world.engine() as engine:
        known, unknown = {"item_id": "i000012", "price": -1}, {"item_id": "unknown", "price": -1}
        assert engine.callback(LOGGED | {"item_list": [known, unknown], "features": {"age": -1, "hour": 3}})
        price = engine.snapshot.items.columns["price"].value(engine.snapshot.items.ids.find("i000012"))
    ((user, *items),) = world.records()
    features = json.loads(user["user_features"])
    assert features["age"] > 0 and features["hour"] == 3 and features["gender"]
    assert json.loads(items[0]["item_features"])["price"] == pytest.approx(price)
    assert json.loads(items[1]["item_features"]) == {"price": -1}


@pytest.mark.parametrize("size", [0, 1, 20, 300, 1000])
def test_item_size_cuts_an_explicit_callback_and_the_rest_is_counted(world, size):
    world.callback |= {"ItemSize": size, "ItemSizeRate": 10}  # the rate is for automatic ones
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"item_list": [{"item_id": f"{n}"} for n in range(300)]})
        kept = min(size or 300, 300)
        assert counts(engine) == {"offered": 300, "sampled_out": 300 - kept, "accepted": kept, "dropped": 0}
    ((_, *items),) = world.records()
    assert [item["item_id"] for item in items] == [f"{n}" for n in range(kept)]


def test_a_scene_without_a_configured_callback_accepts_and_logs_nothing(world):
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"scene_id": "other"})
        assert counts(engine)["offered"] == 0
    assert world.records() == []


@pytest.mark.parametrize("id", [None, "", True, [], {}, ["a"]], ids=repr)
def test_an_item_without_an_id_is_refused_and_nothing_is_logged(world, id):
    with world.engine() as engine:
        answer = ask(App(engine), CALLBACK, LOGGED | {"item_list": [{"item_id": "a"}, {"item_id": id}]}).json
        assert (answer["code"], answer["request_id"]) == (400, "")
        assert answer["msg"].startswith("item_list[1].item_id must be a text that is not empty, got ")
        assert counts(engine)["offered"] == 0
    assert world.records() == []


@pytest.mark.parametrize("case", suite("callback"), ids=lambda case: case["id"])
def test_shared_cases_of_callbacks_without_items(case, world):
    with world.engine() as engine:
        for listed in (None, []):
            with pytest.raises(RequestError, match="recommend item list not empty"):
                engine.callback(LOGGED | {"item_list": listed})
        with pytest.raises(RequestError, match="uid not empty"):
            engine.callback({})
        assert engine.recommend(FIRST | {"scene_id": "nope", "debug": True}).items == []  # nothing to log
        assert counts(engine)["offered"] == 0
    assert world.records() == []


def test_a_full_ring_refuses_and_what_was_accepted_is_there_once(world):
    world.conf["LogRingConf"] |= {"RingBytes": 1 << 16, "BlockMilliseconds": 0}
    world.callback["ItemSize"] = 0
    listed = [{"item_id": f"{n}", "text": "x" * 60} for n in range(60)]
    with world.engine() as engine, world.no_disk():
        app, acknowledged, refused = App(engine), [], 0
        for number in range(30):
            answer = ask(app, CALLBACK, LOGGED | {"request_id": f"r{number}", "item_list": listed})
            if answer.status == 200:
                acknowledged.append(f"r{number}")
            else:
                refused += 1
                assert answer.status == 503 and answer.headers["retry-after"] in ("1", "2", "3")
                assert answer.json == {"code": 503, "msg": "overloaded", "request_id": f"r{number}"}
        assert refused and acknowledged
        assert counts(engine) == {
            "offered": 60 * 30,
            "sampled_out": 0,
            "accepted": 60 * len(acknowledged),
            "dropped": 60 * refused,
        }
    assert [record[0]["request_id"] for record in world.records()] == acknowledged


def test_a_callback_obeys_the_configuration_and_the_snapshot_of_its_moment(world, shared_world):
    """What an ordinary callback needs is looked up beforehand."""
    folder = own_snapshots(world, shared_world)
    listed = LOGGED | {"item_list": [{"item_id": f"i{n}"} for n in range(5)]}
    world.callback["ItemSize"] = 4
    with world.engine() as engine:
        app = App(engine)
        ask(app, CALLBACK, listed)
        world.callback["ItemSize"] = 2
        engine.reconfigure(Config.parse(world.conf, KINDS))
        ask(app, CALLBACK, listed)
        old = weakref.ref(engine.snapshot)
        engine.swap(folder / (folder / "CURRENT").read_text().strip())
        for _ in range(100):  # who follows the items may be about to let it go
            gc.collect()
            if old() is None:
                break
            time.sleep(0.05)
        assert old() is None, "no callback has come since, and nothing holds it"
        ask(app, CALLBACK, listed)
        assert counts(engine) == {"offered": 15, "sampled_out": 7, "accepted": 8, "dropped": 0}
    assert [len(record) - 1 for record in world.records()] == [4, 2, 2]


def test_a_callback_that_cannot_be_encoded_is_refused_and_counted_as_invalid(world):
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    with world.engine() as engine:
        for part in ({"features": deep}, {"request_info": deep}, {"item_list": [{"item_id": "a", "x": deep}]}):
            with pytest.raises(RequestError, match="exceeded max depth"):
                engine.callback(CallbackRequest(**(LOGGED | part)))
        assert counts(engine, "log") == {"offered": 3, "sampled_out": 0, "accepted": 0, "dropped": 3}
        labels = '{source="explicit",scene="home_feed",reason="invalid"}'
        assert parsed(engine.metrics.text())["pairec_log_dropped_total" + labels] == 3
    assert world.records() == []


@pytest.mark.parametrize("depth", [400, 600, 980, 2000])
@pytest.mark.parametrize("first", ["1", str(2**70), "0." + "9" * 400], ids=["small", "large", "digits"])
def test_deep_nesting_beside_any_number_is_logged_or_refused(world, depth, first):
    """Large integers are replaced before they are written, which takes more of the stack than writing does."""
    nested = f'{{"n": {first}, "x": {"[" * depth}{"]" * depth}}}'
    with world.engine() as engine:
        for part in ("request_info", "features"):
            reply = ask(App(engine), CALLBACK, json.dumps(LOGGED)[:-1] + f', "{part}": {nested}}}')
            taken = reply.json["msg"] == "success"
            assert reply.status == 200 and (taken or reply.json["msg"] == "exceeded max depth"), reply
            assert taken or depth > 400
    assert all(len(rows) == 2 for rows in world.records()), "what was taken can be read"


def test_ids_that_every_row_repeats_are_refused_before_they_fill_the_memory_of_a_reader(world):
    world.callback["ItemSize"] = 0
    world.conf["LogRingConf"]["RingBytes"] = 1 << 26
    with world.engine() as engine:
        for size, items, taken in ((500_000, 20_000, False), (500_000, 80, True), (100, 20_000, True)):
            request = LOGGED | {"request_id": "r" * size, "item_list": [{"item_id": "1"}] * items}
            reply = ask(App(engine), CALLBACK, request)
            assert reply.status == 200 and reply.json["code"] == (200 if taken else 400), reply.body[:100]
        assert counts(engine, "log") == {"offered": 3, "sampled_out": 0, "accepted": 2, "dropped": 1}
    assert [len(rows) for rows in world.records()] == [81, 20_001]


def test_what_a_caller_in_this_process_gives_that_no_json_has_is_refused_and_counted(world):
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine:
        for value in ("\ud800", object(), 2**2000):
            with pytest.raises(RequestError):
                engine.callback(CallbackRequest(**LOGGED, features={"x": value}))
        assert len(engine.recommend(RecommendRequest(**FIRST, features={"x": "\ud800"})).items) == 3
        assert counts(engine, "log") == {"offered": 4, "sampled_out": 0, "accepted": 0, "dropped": 4}


def test_a_callback_that_the_log_could_never_take_is_refused_for_good(world):
    world.conf["LogRingConf"]["RingBytes"] = 1 << 16
    with world.engine() as engine:
        answer = ask(App(engine), CALLBACK, LOGGED | {"item_list": [{"item_id": "a", "x": "y" * 10_000}]})
        assert answer.status == 200 and answer.json["code"] == 400
        assert answer.json["msg"].startswith("callback of 10")
        assert counts(engine)["dropped"] == 1
        assert engine.callback(LOGGED)
    assert len(world.records()) == 1


def test_a_closed_engine_logs_no_more_and_says_so(world):
    engine = world.engine()
    _, after = engine.feed(RecommendRequest(**FIRST, debug=True))
    assert engine.callback(LOGGED)
    engine.close()
    engine.close()
    with pytest.raises(NotReadyError):
        engine.callback(LOGGED)
    after()
    assert counts(engine) == {"offered": 4, "sampled_out": 0, "accepted": 1, "dropped": 3}
    assert len(world.records()) == 1


def test_a_disk_sink_that_two_scenes_share_is_one_log(world):
    world.conf["CallBackConfs"]["other"] = world.callback
    with world.engine() as engine:
        assert engine.callback(LOGGED) and engine.callback(LOGGED | {"scene_id": "other"})
    assert [record[0]["scene"] for record in world.records()] == ["home_feed", "other"]
    assert len(list((world.folder / "ring").glob("*/*/*.ring"))) == 1


# The automatic callback


def test_an_automatic_callback_logs_what_was_answered(world):
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine:
        reply = engine.recommend(FIRST | {"request_id": "r1", "features": {"hour": 3, "empty": ""}})
    ((user, *items),) = world.records()
    assert (user["request_id"], user["user_id"], user["request_info"]) == ("r1", "u00042", "{}")
    features = json.loads(user["user_features"])
    assert features["hour"] == 3 and features["gender"] and "empty" not in features
    assert [item["item_id"] for item in items] == [item.item_id for item in reply.items]
    for item, answered in zip(items, reply.items, strict=True):
        features = json.loads(item["item_features"])
        assert features["score"] == answered.score and features["algo_scores"] == {"ranker": answered.score}
        assert features["price"] > 0 and features["category"]


def test_without_use_user_features_only_those_of_the_request_are_logged(world):
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback["UseUserFeatures"] = False
    with world.engine() as engine:
        engine.recommend(FIRST | {"features": {"hour": 3}})
    ((user, *_),) = world.records()
    assert user["user_features"] == '{"hour":3,"uid":"u00042"}'


@pytest.mark.parametrize(
    ("automatic", "rate", "debug", "share"),
    [
        (False, 0, False, 0.0), (False, 1, True, 1.0), (True, 0, False, 1.0), (True, 100, False, 1.0),
        (True, 30, False, 0.3), (True, 30, True, 0.3),
    ],
)  # fmt: skip
def test_who_is_logged_depends_on_flags_rate_and_request_id_alone(world, automatic, rate, debug, share):
    world.scene["default"] |= {"AutoInvokeCallBack": automatic, "AutoInvokeCallBackRate": rate}
    asked = [f"r{number}" for number in range(200)]
    with world.engine() as engine:
        for request_id in asked:
            ask(App(engine), FEED, FIRST | {"request_id": request_id, "debug": debug})
        totals = counts(engine)
    logged = [record[0]["request_id"] for record in world.records()]
    assert len(logged) / 200 == pytest.approx(share, abs=0.13 if 0 < share < 1 else 0)
    assert logged == [one for one in asked if share and (not automatic or invoked(one, rate))]
    assert totals["accepted"] == 3 * len(logged) and totals["offered"] == (600 if share else 0)


@pytest.mark.parametrize(("size", "rate", "kept"), [(0, 0, 40), (10, 0, 10), (0, 25, 10), (20, 33, 7), (1, 1, 1)])
def test_item_size_and_rate_thin_an_automatic_callback_evenly(world, size, rate, kept):
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback |= {"ItemSize": size, "ItemSizeRate": rate}
    with world.engine() as engine:
        answered = [item.item_id for item in engine.recommend(FIRST | {"size": 40, "request_id": "r1"}).items]
        assert counts(engine) == {"offered": 40, "sampled_out": 40 - kept, "accepted": kept, "dropped": 0}
    ((_, *items),) = world.records()
    places = [answered.index(item["item_id"]) for item in items]
    assert len(places) == kept and places == thinned(size or 40, rate, "r1")


def test_an_automatic_callback_too_large_for_the_log_is_dropped_and_counted(world):
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.conf["LogRingConf"]["RingBytes"] = 1 << 16
    with world.engine() as engine:
        assert len(engine.recommend(FIRST | {"features": {"x": "y" * 100_000}}).items) == 3
        assert counts(engine) == {"offered": 3, "sampled_out": 0, "accepted": 0, "dropped": 3}
    assert world.records() == []


def test_a_record_says_where_its_items_stood_and_what_they_scored(world):
    """Of a thinned callback the places in the log are not those the user saw."""
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback |= {"ItemSize": 20, "ItemSizeRate": 25}
    with world.engine() as engine:
        answered = engine.recommend(FIRST | {"size": 40, "request_id": "r1"}).items
        assert engine.callback(LOGGED | {"item_list": [{"item_id": f"{n}"} for n in range(30)]})
        fingerprint = engine.snapshot.fingerprint
    decode = msgspec.msgpack.Decoder(Record).decode
    automatic, explicit = (decode(payload) for payload, _, _ in read_segments(world.log))
    assert len(automatic.positions) == len(automatic.items) == 5 and automatic.positions == thinned(20, 25, "r1")
    for place, item in zip(automatic.positions, automatic.items, strict=True):
        assert (item["item_id"], item["score"]) == (answered[place].item_id, answered[place].score)
    assert explicit.positions == list(range(20))
    assert automatic.fingerprint == explicit.fingerprint == fingerprint and automatic.experiment_id == ""


def test_a_record_from_before_positions_can_be_read(world):
    old = msgspec.msgpack.encode(["s", "r", 7, "u", {}, {}, [{"item_id": "a"}], "", "f"])
    assert [list(json.loads(row)) for row in expand(old)] == [[*USER, "fingerprint"], ITEM]
    assert msgspec.msgpack.decode(old, type=Record).positions == []


def test_recall_with_enough_items_is_logged_and_one_with_fewer_is_not(world):
    world.scene["default"] |= {"AutoInvokeCallBack": True}
    with world.engine() as engine:
        app = App(engine)
        for size in (3, 10**6):
            status, _, _, after = app.handle(RECALL, json.dumps({**FIRST, "size": size}).encode())
            assert status == 200
            if after is not None:
                after()
    logged = [row for record in world.records() for row in record if row["module"] == "item"]
    assert len(logged) == 3
    assert all(json.loads(row["item_features"])["algo_scores"] == {} for row in logged)
