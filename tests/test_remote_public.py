"""Requests and answers of model servers, held to the message definitions that the public EAS client ships."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from pairec_fast.query import merged_features
from pairec_fast.remote import Server, answers, easyrec, features
from tests.services.easyrec import CLASSES, OUTPUTS, TOKEN, EasyrecServer, score

torchrec = pytest.importorskip("eas_prediction.torchrec_predict_pb2", reason="eas-prediction is not installed")
easyrec_pb = pytest.importorskip("eas_prediction.easyrec_predict_pb2")
tensors = pytest.importorskip("eas_prediction.pytorch_predict_pb2")
tf_tensors = pytest.importorskip("eas_prediction.tf_request_pb2")


def parsed(body: bytes) -> tuple[str, object]:
    """Which kind a feature has for the public definitions, and its value in plain Python."""
    message = torchrec.PBFeature()
    message.ParseFromString(body)
    kind = message.WhichOneof("value")
    value = getattr(message, kind)
    if kind.endswith("_map"):
        return kind, dict(value.map_field)
    if kind.endswith("_list"):
        return kind, list(value.features)
    if kind.endswith("_lists"):
        return kind, [list(row.features) for row in value.lists]
    return kind, value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7, "int_feature"),
        (0, "int_feature"),
        (-1, "int_feature"),
        (2**31 - 1, "int_feature"),
        (-(2**31), "int_feature"),
        (2**31, "long_feature"),
        (-(2**31) - 1, "long_feature"),
        (-(2**63), "long_feature"),
        (2**63 - 1, "long_feature"),
        (0.25, "double_feature"),
        (-0.0, "double_feature"),
        (math.inf, "double_feature"),
        ("", "string_feature"),
        ("北京 🌊", "string_feature"),
        ([1, -2, 3], "int_list"),
        ([1, 2**40], "long_list"),
        (["a", "", "β"], "string_list"),
        ([0.5, -1.5], "double_list"),
        ([[1], [], [2, 3]], "int_lists"),
        ([[2**40], [1]], "long_lists"),
        ([["a"], ["b", "c"]], "string_lists"),
        ([[0.5], [1.5, 2.5]], "double_lists"),
        ({"a": "x", "": ""}, "string_string_map"),
        ({"a": 1, "b": -1}, "string_int_map"),
        ({"a": 2**40}, "string_long_map"),
        ({"a": 0.5}, "string_double_map"),
        ({1: "x", -1: "y"}, "int_string_map"),
        ({2**40: 0.5}, "long_double_map"),
    ],
)
def test_a_value_without_a_type_takes_the_kind_of_its_own(value, kind):
    body = features.feature(value)
    assert body is not None
    assert parsed(body) == (kind, value)


@pytest.mark.parametrize(
    "value", [True, None, [], {}, [1, "a"], [1, 2.5], [True], {"a": [1]}, {"a": True}, 2**63, [[]]]
)
def test_a_value_of_no_kind_is_left_out(value):
    assert features.feature(value) is None


@pytest.mark.parametrize(
    ("kind", "values", "field", "expected"),
    [
        ("string", 5, "string_feature", "5"),
        ("int", 5, "int_feature", 5),
        ("int", 2**40, "long_feature", 2**40),
        ("int64", 5, "long_feature", 5),
        ("float", 0.5, "float_feature", 0.5),
        ("float", 1e300, "float_feature", math.inf),
        ("double", 5, "double_feature", 5.0),
        ("list<string>", ["a", 1], "string_list", ["a", "1"]),
        ("list<int>", [1, 2], "int_list", [1, 2]),
        ("list<int>", [1, 2**40], "long_list", [1, 2**40]),
        ("list<int64>", [1, 2], "long_list", [1, 2]),
        ("list<float>", [0.5], "float_list", [0.5]),
        ("list<double>", [1, 0.1], "double_list", [1.0, 0.1]),
        ("list<int>", [], "int_list", []),
        ("list<list<float>>", [[0.5], []], "float_lists", [[0.5], []]),
        ("list<list<double>>", [[0.1, 2]], "double_lists", [[0.1, 2.0]]),
        *(
            (
                f"map<{key},{value}>",
                {"7": 1},
                f"{'long' if key == 'int64' else key}_{'long' if value == 'int64' else value}_map",
                {("7" if key == "string" else 7): "1" if value == "string" else 1},
            )
            for key in ("string", "int", "int64")
            for value in ("string", "int", "int64", "float", "double")
        ),
        ("map<int,int>", {str(2**40): 1}, "long_int_map", {2**40: 1}),
        ("map<string,int>", {}, "string_int_map", {}),
    ],
)
def test_a_complex_type_chooses_the_kind(kind, values, field, expected):
    merged = merged_features({}, [{"name": "x", "type": kind, "values": values}])
    body = features.feature(merged["x"], kind)
    assert body is not None
    assert parsed(body) == (field, expected)


def test_a_type_that_no_longer_fits_gives_way_to_the_value():
    """A load may have overwritten the request's feature."""
    assert parsed(features.feature("Beijing", "list<int64>")) == ("string_feature", "Beijing")
    assert parsed(features.feature([1.5], "map<string,int>")) == ("double_list", [1.5])


NAN = math.nan


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_a_column_is_what_its_values_are_one_by_one(count):
    rng = np.random.default_rng(count)
    words = ["", "a", "北京", 5, 2**40, -3, 0.25, ["x", "y"], True, {"a": 1}]
    columns = {
        "price": np.where(rng.random(count) < 0.3, NAN, rng.normal(size=count)),
        "whole": rng.normal(size=count).astype(np.float32),
        "stock": (rng.integers(-(2**62), 2**62, count) >> rng.integers(0, 62, count)),
        "small": rng.integers(0, 200, count).astype(np.uint8),
        "flag": rng.random(count) < 0.5,
        "tags": (rng.integers(-1, len(words), count).astype(np.int32), words),
    }
    bodies = {name: features.of_items(column, count) for name, column in columns.items()}
    message = torchrec.PBRequest()
    message.ParseFromString(easyrec.request(b"", [], bodies, bodies))
    for name, column in columns.items():
        for part in (message.context_features, message.item_features):
            sent = part[name].features
            assert len(sent) == count
            for place, one in enumerate(sent):
                if isinstance(column, tuple):
                    value = None if column[0][place] < 0 else column[1][column[0][place]]
                else:
                    value = column[place].item()
                kind, read = parsed(one.SerializeToString())
                if value is None or isinstance(value, bool) or value != value:
                    assert (kind, read) == ("string_feature", "")
                else:
                    assert read == value and kind == parsed(features.feature(value))[0]


@pytest.mark.parametrize(
    ("column", "zero"),
    [
        (np.array([NAN, 1.0]), ("double_feature", 0.0)),
        ((np.array([-1, 0], np.int32), [5]), ("int_feature", 0)),
        ((np.array([-1, 0], np.int32), ["x"]), ("string_feature", "")),
        ((np.array([-1, 0], np.int32), [[1]]), ("string_feature", "")),
        ((np.array([-1, -1], np.int32), []), ("string_feature", "")),
    ],
)
def test_a_star_fills_what_is_missing_with_the_zero_of_the_type_seen_first(column, zero):
    body = features.of_items(column, 2, features.default_of(column))
    message = torchrec.ContextFeatures()
    message.ParseFromString(body)
    assert parsed(message.features[0].SerializeToString()) == zero


def test_a_request_says_who_asks_about_what():
    user = easyrec.user_part({"uid": "u1", "age": 30, "vip": True, "tags": ["a"]}, {"tags": "list<string>"})
    price = features.of_items(np.array([1.5, NAN]), 2)
    body = easyrec.request(
        user, ["i1", "i2"], {"price": price}, {"cost": price}, debug_level=100, meta={"request_id": "r1"}
    )
    message = torchrec.PBRequest()
    message.ParseFromString(body)
    assert message.debug_level == 100 and list(message.item_ids) == ["i1", "i2"]
    assert dict(message.meta_data) == {"request_id": "r1"}
    assert sorted(message.user_features) == ["age", "tags", "uid"]
    assert message.user_features["age"].int_feature == 30
    assert message.context_features["price"].features[0].double_feature == 1.5
    assert message.item_features["cost"].features[1].string_feature == ""


def tensor(shape, values, dtype=1, module=tf_tensors):
    array = module.ArrayProto(dtype=dtype)
    array.array_shape.dim.extend(shape)
    {1: array.float_val, 2: array.double_val, 3: array.int_val, 7: array.string_val, 9: array.int64_val}[dtype].extend(
        values
    )
    return array


def test_an_answer_of_easyrec_is_read_whole():
    message = easyrec_pb.PBResponse(error_msg="", outputs=["ctr", "cvr"], item_ids=["b", "a"])
    message.results["a"].scores.extend([0.1, 0.2])
    message.results["b"].scores.extend([0.3, 0.4])
    message.results["none"].scores.extend([])
    message.generate_features["a"] = "g"
    message.raw_features["b"] = "r"
    message.context_features["a"].features.add().string_feature = "x"
    message.context_features["a"].features.add().int_feature = -5
    message.tf_outputs["probs"].CopyFrom(tensor([2, 3], [1, 2, 3, 4, 5, 6]))
    message.tf_outputs["ids"].CopyFrom(tensor([2], [b"x", b"y"], 7))
    message.tf_outputs["counts"].CopyFrom(tensor([2], [-1, 2**31 - 1], 3))
    message.tf_outputs["wide"].CopyFrom(tensor([2], [-1, 2**62], 9))
    message.tf_outputs["fine"].CopyFrom(tensor([1], [0.1], 2))
    answer = easyrec.read_easyrec(message.SerializeToString())
    assert {one: answer.results.of(one).tolist() for one in answer.results.entries} == {
        "a": [0.1, 0.2], "b": [0.3, 0.4], "none": []
    }  # fmt: skip
    assert answer.results.of("other") is None
    assert answer.outputs == ["ctr", "cvr"] and answer.item_ids == ["b", "a"] and answer.status == 0
    assert answer.generate_features == {"a": "g"} and answer.raw_features == {"b": "r"}
    assert features.go_text(answer.context_features["a"]) == (
        '[{"Value":{"StringFeature":"x"}},{"Value":{"IntFeature":-5}}]'
    )
    assert answer.arrays["probs"].shape == (2, 3) and answer.arrays["probs"].values.tolist() == [1, 2, 3, 4, 5, 6]
    assert answer.arrays["ids"].texts == [b"x", b"y"]
    assert answer.arrays["counts"].values.tolist() == [-1, 2**31 - 1]
    assert answer.arrays["wide"].values.tolist() == [-1, float(2**62)]
    assert answer.arrays["fine"].values.tolist() == [0.1]


def test_an_answer_of_torchrec_is_read_whole():
    message = torchrec.PBResponse(item_ids=["a", "b"])
    message.map_outputs["probs"].CopyFrom(tensor([2, 2], [1, 2, 3, 4], module=tensors))
    message.map_outputs["fine"].CopyFrom(tensor([2], [0.1, 0.2], 2, tensors))
    message.generate_features["a"] = "g"
    message.raw_features["b"] = "r"
    message.pass_through_data["model_version"] = "v7"
    answer = easyrec.read_torchrec(message.SerializeToString())
    assert answer.arrays["probs"].values.tolist() == [1, 2, 3, 4] and answer.arrays["probs"].shape == (2, 2)
    assert answer.arrays["fine"].values.tolist() == [0.1, 0.2]
    assert answer.item_ids == ["a", "b"] and answer.generate_features == {"a": "g"}
    assert answer.raw_features == {"b": "r"} and answer.pass_through == {"model_version": "v7"}


def test_a_failing_server_says_why():
    message = easyrec_pb.PBResponse(error_msg="no such model", status_code=2)
    with pytest.raises(answers.AnswerError, match="status 2: no such model"):
        answers.read("easyrecResponseFunc", message.SerializeToString(), ["a"])


def test_every_kind_of_feature_prints_as_the_go_struct_does():
    message = torchrec.ContextFeatures()
    add = message.features.add
    add().float_feature = 0.1
    add().double_feature = 20.0
    add().long_feature = 2**40
    add().int_list.features.extend([1, -2])
    add().float_lists.lists.add().features.extend([0.1])
    add().string_list.features.extend(["<a>"])
    add().int_string_map.map_field[7] = "x"
    add().string_float_map.map_field["b"] = 0.1
    add().double_list.SetInParent()
    add()
    body = [one.SerializeToString() for one in message.features]
    assert features.go_text(body) == (
        '[{"Value":{"FloatFeature":0.1}},{"Value":{"DoubleFeature":20}},{"Value":{"LongFeature":1099511627776}},'
        '{"Value":{"IntList":{"features":[1,-2]}}},{"Value":{"FloatLists":{"lists":[{"features":[0.1]}]}}},'
        '{"Value":{"StringList":{"features":["\\u003ca\\u003e"]}}},{"Value":{"IntStringMap":{"map_field":{"7":"x"}}}},'
        '{"Value":{"StringFloatMap":{"map_field":{"b":0.1}}}},{"Value":{"DoubleList":{}}},{"Value":null}]'
    )


@pytest.mark.parametrize("model", ["single", "multiple", "classes", "torch", "torch_classes"])
def test_the_public_client_and_ours_get_the_same_from_the_test_server(model):
    """So the server that other tests ask is one that the public client can talk to."""
    from eas_prediction import PredictClient
    from eas_prediction.easyrec_request import EasyRecRequest
    from eas_prediction.torchrec_request import TorchRecRequest

    ids = ["i1", "i2", "i3"]
    request = easyrec.request(easyrec.user_part({"uid": "u1"}), ids, {}, {})
    function = {
        "single": "easyrecResponseFunc",
        "multiple": "easyrecMutValResponseFunc",
        "classes": "easyrecMutClassificationResponseFunc",
        "torch": "torchrecMutValResponseFunc",
        "torch_classes": "torchrecMutClassificationResponseFunc",
    }[model]
    with EasyrecServer() as server:
        theirs = TorchRecRequest() if model.startswith("torch") else EasyRecRequest()
        theirs.add_feed(request)
        client = PredictClient(server.url().partition("/api/")[0], model)
        client.set_token("")
        client.init()
        client.connection_pool.headers = {"Authorization": TOKEN}
        client.headers = {"Authorization": TOKEN}
        public = client.predict(theirs)
        ours = Server("m", server.url(model), TOKEN, function, milliseconds=5000)
        scored = asyncio.run(ours.ask(request, ids))
        assert server.requests[0].item_ids == server.requests[1].item_ids == ids
    for place, one in enumerate(ids):
        if model == "single":
            assert scored.scores[""][place] == public.results[one].scores[0] == score(one)
        elif model == "multiple":
            assert [scored.scores[f"_{name}"][place] for name in public.outputs] == list(public.results[one].scores)
        elif model == "torch":
            for name in OUTPUTS:
                array = public.map_outputs[name]
                assert scored.scores[f"_{name}"][place] == [*array.float_val, *array.double_val][place]
        else:
            arrays = public.map_outputs if model == "torch_classes" else public.tf_outputs
            row = list(arrays["label"].float_val[place * CLASSES : (place + 1) * CLASSES])
            assert scored.lists["_label"][place].tolist() == row
            assert [scored.scores[f"_label_{label}"][place] for label in range(CLASSES)] == row
            assert scored.scores["_watch"][place] == arrays["watch"].float_val[place]
