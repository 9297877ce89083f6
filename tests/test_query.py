"""Who asks: typed features take their type, histories their order."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.errors import RequestError
from pairec_fast.query import feature_type, item_ids, merged_features, recent
from tests.worlds import suite


@pytest.mark.parametrize("case", suite("complex_type_features"), ids=lambda case: case["id"])
def test_shared_cases_of_complex_type_features(case):
    merged = merged_features({}, case["input"]["complex_type_features"])
    expected = case["expected"]
    if "absent" in expected:
        assert not set(expected["absent"]) & set(merged)
        assert merged.items() >= expected["present"].items()
        return
    value = expected["value"]
    if expected["type"].startswith("map<int"):
        value = {int(key): part for key, part in value.items()}
    assert merged == {expected["feature"]: value}
    assert feature_type(case["input"]["complex_type_features"][0]["type"]) == expected["type"]
    kinds = {"float64": float, "int64": int}
    assert isinstance(merged[expected["feature"]], kinds.get(expected["type"], object))


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("string", 5, "5"), ("string", [1], ""), ("int", "7", 7), ("int", "7.5", 0), ("int", 7.9, 7), ("int", True, 0),
        ("double", "1e3", 1000.0), ("float", None, 0.0), ("list<string>", [1, "a", None], ["1", "a", ""]),
        ("list<int64>", ["1", 2.5, {}], [1, 2, 0]), ("list<list<double>>", [[1, "2"], 3, []], [[1.0, 2.0], []]),
        ("map<string,string>", {"a": 1}, {"a": "1"}), ("map<int64,double>", {"1": "x"}, {1: 0.0}),
        ("map<int,int>", {"a": 1, "2": 3}, {0: 1, 2: 3}), ("", {"raw": [1]}, {"raw": [1]}), ("int", 10**300, -(2**63)),
        ("int64", 2**53 + 1, 2**53), ("int64", str(2**53 + 1), 2**53 + 1), ("string", 2**53 + 1, str(2**53)),
        ("float", 0.123456789, 0.12345679), ("list<float>", [0.1, 1e39, "x"], [0.1, float("inf"), 0.0]),
        ("list<bool>", [True], [True]), ("map<double,int>", {"1": "x"}, {"1": "x"}), ("list<list<int>>", 3, 3),
    ],
)  # fmt: skip
def test_typed_values_go_through_the_conversions_of_pairec(kind, given, expected):
    merged = merged_features({"x": "before"}, [{"name": "x", "type": kind, "values": given}])
    assert merged == {"x": expected} and type(merged["x"]) is type(expected)


@pytest.mark.parametrize("kind", ["list<int>", "list<list<float>>", "map<string,int>"])
def test_a_container_that_is_none_is_dropped(kind):
    assert merged_features({"x": "before"}, [{"name": "x", "type": kind, "values": "text"}]) == {"x": "before"}


def test_later_entries_win_keys_match_without_case_and_the_request_stays_as_it_was():
    features = {"a": 1}
    typed = [{"name": "a", "values": 2}, {"name": "b"}, {"NAME": "a", "Type": "int", "values": 3.7, "Values": 4}, None]
    assert merged_features(features, typed) == {"a": 3, "b": None, "": None}
    assert features == {"a": 1} and merged_features(features, []) is features


@pytest.mark.parametrize(
    ("typed", "message"),
    [([5], "expected objects, got 5"), ([{"name": 3}], "name must be a text, got 3"), ([{"type": []}], "type must be")],
)
def test_an_entry_of_another_shape_is_refused_as_the_whole_request(typed, message):
    with pytest.raises(RequestError, match=message):
        merged_features({}, typed)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("list<list<float>>", "list<list<float32>>"), ("list<string>", "list<string>"), ("double", "float64"),
        ("map<int64,float>", "map<int64,float32>"), ("map<float,int>", ""), ("list<list<int>>", ""), ("bool", ""),
    ],
)  # fmt: skip
def test_a_declared_type_is_the_type_of_the_value(kind, expected):
    assert feature_type(kind) == expected


def test_item_ids_of_a_history_are_texts_of_a_list_or_between_commas():
    assert item_ids(["a", 1, None, "b", ["c"]]) == ["a", "b"]
    assert item_ids("a,,b,") == ["a", "b"]
    assert item_ids(None) == item_ids(5) == item_ids({"a": 1}) == item_ids("") == []


@pytest.mark.parametrize(
    ("known", "shown", "most", "expected"),
    [
        ([], [], 3, []), ([1, 2, 3, 4], [], 3, [2, 3, 4]), ([], [1, 1, 2], 3, [1, 2]), ([1, 2, 3], [2], 3, [1, 3, 2]),
        ([1, 2, 3], [4, 1, 4], 2, [1, 4]), ([1, 2], [3], 1, [3]),
    ],
)  # fmt: skip
def test_recent_history_ends_with_what_was_shown_last(known, shown, most, expected):
    assert recent(np.array(known, np.int32), np.array(shown, np.int32), most).tolist() == expected
