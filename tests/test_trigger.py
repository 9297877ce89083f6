"""The group of a user as text, and the groups that stand for a user of several values."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from pairec_fast.recall.trigger import LOOKUPS_MAX, SEVERAL, Trigger, lookup_ids, trigger_id
from tests.contract.recalls import run_cache, run_trigger

CASES = json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]


@pytest.mark.parametrize("case", [c for c in CASES if c["suite"] == "group_hot_trigger"], ids=lambda case: case["id"])
def test_pairecs_own_cases_of_groups_hold(case):
    assert run_trigger(case["input"], case["expected"]) == case["expected"]


@pytest.mark.parametrize("case", [c for c in CASES if c["suite"] == "cache"], ids=lambda case: case["id"])
def test_pairecs_own_cases_of_the_cache_hold(case):
    assert run_cache(case["input"]) == case["expected"]


AGE = Trigger("age", boundaries=(20, 30, 40))


@pytest.mark.parametrize(
    ("value", "text"),
    [(-5, "<=20"), (20, "<=20"), (21, "20-30"), (30, "20-30"), (31, "30-40"), (40, "30-40"), (41, ">40"),
     (20.9, "<=20"), ("25", "20-30"), ("25.5", "<=20"), ("", "<=20"), (True, "<=20"), ([25], "<=20"), (2**70, "<=20"),
     (None, "NULL")],
)  # fmt: skip
def test_a_number_lies_between_its_boundaries(value, text):
    """`2**70` is the smallest of the 64-bit integers when Go is done with it."""
    assert trigger_id([AGE], {"age": value}) == text


def test_one_boundary_has_two_sides():
    one = Trigger("age", boundaries=(7,))
    assert [one.text({"age": age}) for age in (7, 8)] == ["<=7", ">7"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("Male", "Male"), (3, "3"), (3.5, "3.5"), (4.0, "4"), (True, "none"), (None, "none"), ({}, "none"), ([], "none"),
     (["a"], "a"), (["a", 2, None, True, ""], f"a{SEVERAL}2"), ("", "")],
)  # fmt: skip
def test_what_is_no_text_has_the_default(value, text):
    assert trigger_id([Trigger("x", "none")], {"x": value}) == text


def test_a_missing_feature_is_null_and_no_trigger_is_no_text():
    assert trigger_id([Trigger("a"), Trigger("b", "other")], {}) == "NULL_other"
    assert trigger_id([], {"a": 1}) == "" and lookup_ids("") == [""]


def test_each_combination_of_lists_is_looked_up_the_first_slowest():
    group = trigger_id([Trigger("a"), Trigger("b"), Trigger("c")], {"a": ["1", "2"], "b": "x", "c": [3, 4]})
    assert lookup_ids(group) == ["1_x_3", "1_x_4", "2_x_3", "2_x_4"]


def test_values_come_apart_at_underscores_only_where_there_is_a_list():
    assert lookup_ids(trigger_id([Trigger("a")], {"a": "x_y"})) == ["x_y"]
    assert lookup_ids(trigger_id([Trigger("a")], {"a": ["x_y", "z"]})) == ["x_y", "x_z"]


def test_lists_of_a_request_cannot_multiply_without_end():
    many = [str(number) for number in range(400)]
    group = trigger_id([Trigger("a"), Trigger("a"), Trigger("a")], {"a": many})
    expected = ["_".join(one) for one in itertools.islice(itertools.product(many, repeat=3), LOOKUPS_MAX)]
    assert lookup_ids(group) == expected
