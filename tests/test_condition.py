"""Conditions: the meaning on one user and one item, and the same answers over whole columns."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import Condition, check, depends_on_user, mask, matches
from pairec_fast.expression.convert import INT_MIN

CASES = [
    case
    for case in json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]
    if case["suite"] == "filter_condition"
]
NAN, INF = math.nan, math.inf


def conditions_of(*written):
    return msgspec.convert(list(written), list[Condition])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_contract(case):
    given = case["input"]
    conditions = conditions_of(*given["conditions"])
    assert matches(conditions, given["user"], given["item"]) is case["expected"]
    # The same item as a table of one row; every property a vocabulary of one, lists included.
    columns = {name: (np.zeros(1, np.int32), [value]) for name, value in given["item"].items()}
    assert mask(conditions, columns, 1, given["user"]).tolist() == [case["expected"]]


def holds(operator, type_, value, item, user=None, domain="item"):
    written = {"Name": "a", "Domain": domain, "Operator": operator, "Type": type_, "Value": value}
    return matches(conditions_of(written), user or {}, item)


def test_no_condition_holds_and_all_must():
    assert matches([], {}, {}) is True
    yes = {"Name": "a", "Operator": "is_not_null"}
    no = {"Name": "b", "Operator": "is_not_null"}
    assert matches(conditions_of(yes, yes), {}, {"a": 1})
    assert not matches(conditions_of(yes, no), {}, {"a": 1})


def test_unknown_operators_are_dropped_as_if_not_written():
    unknown = {"Name": "a", "Operator": "resembles", "Value": 1}
    assert matches(conditions_of(unknown), {}, {})
    for type_ in ("or", "and"):  # an OR of nothing is false, so a dropped condition is not a true one
        nested = {"Operator": "bool", "Type": type_, "Configs": [unknown]}
        assert matches(conditions_of(nested), {}, {}) is (type_ == "and")
        assert mask(conditions_of(nested), {}, 2).tolist() == [type_ == "and"] * 2


def test_unknown_domain_is_true_for_values_and_an_error_for_null_tests():
    assert holds("equal", "string", "x", {}, domain="context")
    assert not holds("is_null", "", None, {}, domain="context")
    assert not holds("is_not_null", "", None, {"a": 1}, domain="context")
    error = {"Name": "a", "Domain": "context", "Operator": "is_null"}
    true = {"Name": "a", "Operator": "is_not_null"}
    for configs, expected in (([error, true], False), ([true, error], True)):  # an error ends the list, true ends an OR
        conditions = conditions_of({"Operator": "bool", "Configs": configs})
        assert matches(conditions, {}, {"a": 1}) is expected
        assert mask(conditions, {"a": np.ones(1)}, 1).tolist() == [expected]


def expression(text, domain="", **others):
    return {"Operator": "expression", "Domain": domain, "Value": text, **others}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("item.x >", "an operand is missing at the end (character 9)\n  item.x >\n          ^"),
        ("item.x > len(item.y", "this ( is not closed (character 13)"),
        ("near(item.x)", "unknown function near; known are "),
        ("1 + 1", "a condition must be true or false; this is always 2"),
        (["item.x"], "the Value of an expression must be a text, got ['item.x']"),
    ],
)
def test_an_expression_that_is_none_is_refused_with_its_path_and_a_caret(text, what):
    inner = {"Operator": "bool", "Configs": [expression(text)]}
    conditions = conditions_of({"Name": "a", "Operator": "is_null"}, inner)
    for evaluate in (lambda: matches(conditions, {}, {}), lambda: mask(conditions, {}, 3)):
        with pytest.raises(ConfigError):
            evaluate()
    with pytest.raises(ConfigError) as refusal:
        check(conditions, "Conds")
    assert str(refusal.value).startswith(f"Conds[1].Configs[0].Value: {what}")


def test_an_expression_sees_the_user_the_item_and_the_properties_of_its_domain():
    user, item = {"list": [42, 43], "n": 1}, {"size": 42}
    for text, domain, expected in [
        ("properties.size in [42, 43]", "", True),
        ("item.size in properties.list", "user", True),
        ("properties.size in user.list", "user", False),  # the user has no size: nil is in no list of numbers
        ("!item.sold_out and item.size in user.list", "", False),  # nil is no boolean
        ("item.sold_out == nil and user.list != nil ? item.size in user.list : true", "", True),
        ("size == 42", "", False),  # there are no bare names
        ("item.size", "", False),
        ("item.size in user.list", "context", True),  # value tests of an unknown Domain are not looked at
    ]:
        conditions = conditions_of(expression(text, domain))
        assert matches(conditions, user, item) is expected, text
        assert mask(conditions, {"size": np.array([42.0])}, 1, user).tolist() == [expected], text


def test_an_expression_that_fails_ends_the_list_even_in_an_or():
    true = {"Name": "a", "Operator": "is_not_null"}
    for configs, expected in (([expression("item.x > 1"), true], False), ([true, expression("item.x > 1")], True)):
        conditions = conditions_of({"Operator": "bool", "Configs": configs})
        assert matches(conditions, {}, {"a": 1}) is expected
        assert mask(conditions, {"a": np.ones(1)}, 1).tolist() == [expected]


def test_an_unknown_domain_counts_neither_in_an_and_nor_in_an_or():
    context = {"Name": "a", "Domain": "context", "Operator": "equal", "Type": "string", "Value": "x"}
    for type_ in ("or", "and"):
        conditions = conditions_of({"Operator": "bool", "Type": type_, "Configs": [context]})
        assert matches(conditions, {}, {}) is (type_ == "and")
        assert mask(conditions, {}, 1).tolist() == [type_ == "and"]


@pytest.mark.parametrize(
    ("operator", "type_", "value", "left", "expected"),
    [
        ("equal", "int", "x", "x", False),  # two different defaults
        ("equal", "int", "-1", "x", True),  # and what happens when the value is the default
        ("not_equal", "int", "x", "y", False),
        ("equal", "float", 1, 1, False),
        ("not_equal", "float", 1, 2, False),
        ("in", "int", ["x", 5], 0, True),  # an element that is no int is 0
        ("in", "int", ["x"], "y", False),
        ("in", "int64", [1], 1, False),
        ("in", "string", 5, "5", False),
        ("not_in", "string", 5, "5", True),
        ("not_in", "int64", [1], 2, False),
        ("contains", "[]int", "7", [7], False),
        ("contains", "[]string", ["x"], "x", False),
        ("not_contains", "[]string", [], ["x"], False),
        ("greaterThan", "int", 5, "x", False),
        ("greaterThan", "int", INT_MIN, "x", True),
        ("greaterThan", "float", 0, "x", True),  # the smallest positive double
        ("greaterThan", "float", "x", 1e308, False),
        ("less", "int", 5, "42.5", False),
        ("less", "int", 43, 42.5, True),
        ("less", "int64", 5, "x", True),
        ("less", "time", "2024-01-01", 5, False),
        ("greater", "string", "1", "2", False),
    ],
)
def test_operands_that_do_not_convert(operator, type_, value, left, expected):
    assert holds(operator, type_, value, {"a": left}) is expected


def test_a_referenced_text_is_not_read_as_a_reference_or_a_literal_again():
    item = {"a": ["x"], "b": "x"}
    assert not holds("contains", "[]string", "user.r", item, {"r": "x"}), "a text on the user's side is no list"
    assert not holds("equal", "string", "user.r", {"a": "x", "b": "x"}, {"r": "item.b"})
    assert holds("equal", "string", "user.r", {"a": "item.b"}, {"r": "item.b"})


def test_depends_on_user_sees_both_sides_and_nested_conditions():
    item = {"Name": "a", "Operator": "equal", "Type": "int", "Value": "item.b"}
    literal = {"Name": "a", "Operator": "equal", "Type": "string", "Value": "the user.x"}
    reference = {"Name": "a", "Operator": "in", "Type": "int", "Value": "user.x"}
    domain = {"Name": "a", "Domain": "user", "Operator": "is_null"}
    written, properties = expression("item.a > user.b"), expression("properties.a > 1", "user")
    dropped = {"Name": "a", "Domain": "user", "Operator": "resembles"}
    items_own = (expression("item.user > 1"), expression("properties.a > 1"))
    assert not depends_on_user(conditions_of(item, literal, dropped, *items_own))
    for condition in (reference, domain, written, properties):
        assert depends_on_user(conditions_of(item, condition))
        assert depends_on_user(conditions_of({"Operator": "bool", "Configs": [literal, condition]}))


# --- the vectorised form against the scalar ---

TEXTS = ["", "1", "2", "-1", "2.5", "x", "nan", "2024-01-01", "2024-01-01 10:00", "item.b", "9223372036854775807"]
NUMBERS = [0.0, -0.0, 1.0, 2.0, 2.5, -1.0, NAN, INF, -INF, 1e19, -1e19, 2.0**53 + 2, 2.0**63, 5e-324]
INTS = [0, 1, 2, -1, 2**53 + 1, 2**63 - 1, -(2**63), -(2**31)]
LITERALS = [*TEXTS, *NUMBERS, *INTS, True, None, [], [1, "2", 2.5], ["x", "1", ""], [-1, 0], "user.n", "user.t",
            "user.l", "user.none", "item.f", "item.g", "item.t", "item.u", "item.i", "item.b", "item.none"]  # fmt: skip
OPERATORS = ["equal", "not_equal", "in", "not_in", "greater", "greaterThan", "less", "lessThan", "contains",
             "not_contains", "is_null", "is_not_null", "resembles"]  # fmt: skip
TYPES = ["string", "int", "int64", "float", "time", "[]string", "[]int", ""]
USER = {"n": 2, "t": "2.5", "l": ["1", 2, "x"], "a": None}


def random_columns(rng, count):
    codes = rng.integers(-1, len(TEXTS), count).astype(np.int32)
    lists = [["1"], [], [1, "x"], ["", "2"]]
    return {
        "f": rng.choice(np.array(NUMBERS), count),
        "g": rng.choice(np.array([0, 0.1, 1, 2, NAN, INF, 2.5]), count).astype(np.float32),
        "i": rng.choice(np.array(INTS, np.int64), count),
        "j": rng.integers(-3, 3, count).astype(np.int32),
        "c": rng.integers(0, 4, count).astype(np.uint8),
        "b": rng.random(count) < 0.5,
        "t": (codes, TEXTS),
        "u": (rng.permutation(codes), TEXTS),
        "l": (rng.integers(-1, len(lists), count).astype(np.int32), lists),
    }


def item_of(columns, row):
    item = {}
    for name, column in columns.items():
        if isinstance(column, tuple):
            if column[0][row] >= 0:
                item[name] = column[1][column[0][row]]
        elif (value := column[row].item()) == value:
            item[name] = value
    return item


def agree(conditions, columns, items, user=USER):
    count = len(items)
    answers = mask(conditions, columns, count, user)
    assert answers.dtype == np.uint8 and answers.shape == (count,)
    expected = [matches(conditions, user, item) for item in items]
    assert answers.tolist() == expected, conditions


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["f", "g", "i", "b", "t", "l", "none"])
def test_every_operator_and_type_on_every_column_agrees_with_the_scalar(operator, name):
    rng = np.random.default_rng(1)
    columns = random_columns(rng, 25)
    items = [item_of(columns, row) for row in range(25)]
    for type_ in TYPES:
        for value in LITERALS:
            written = Condition(name=name, operator=operator, type=type_, value=value)
            agree([written], columns, items)


EXPRESSIONS = [
    "item.i > 0",
    "item.f in [0, 1, 2.5]",
    "item.t contains 'x'",
    "item.t == 'x' or item.j < user.n",
    "properties.l != nil",
    "item.none ?? true",
    "item.b",
    "not item.b",
    "any(item.l, # == 1)",
    "item.t in user.l",
    "len(item.l) > 1 ? item.b : item.f == item.g",
    "item.i % item.j == 1",
    "item.u + 'y' == user.t",
]


def random_condition(rng, depth=0):
    if rng.random() < 0.15:
        return expression(str(rng.choice(EXPRESSIONS)), str(rng.choice(["", "item", "user", "context"])))
    if depth < 3 and rng.random() < 0.3:
        configs = [random_condition(rng, depth + 1) for _ in range(rng.integers(0, 4))]
        return {"Operator": "bool", "Type": str(rng.choice(["", "or", "and", "xor"])), "Configs": configs}
    return {
        "Name": str(rng.choice([*"fgijcbtula", "none", "n"])),
        "Domain": str(rng.choice(["", "item", "item", "user", "context"])),
        "Operator": str(rng.choice(OPERATORS)),
        "Type": str(rng.choice(TYPES)),
        "Value": LITERALS[rng.integers(len(LITERALS))],
    }


@pytest.mark.parametrize("seed", range(8))
def test_random_lists_of_conditions_agree_with_the_scalar(seed):
    rng = np.random.default_rng(seed)
    for count in (0, 1, 2, 40):
        columns = random_columns(rng, count)
        items = [item_of(columns, row) for row in range(count)]
        for _ in range(40):
            conditions = conditions_of(*(random_condition(rng) for _ in range(rng.integers(0, 4))))
            agree(conditions, columns, items, USER if rng.random() < 0.8 else {})


def test_few_rows_of_a_large_vocabulary_ask_only_what_they_have(monkeypatch):
    vocabulary = [str(k) for k in range(10_000)]
    codes = np.array([5, -1, 9_999, 5], np.int32)
    asked = []
    module = sys.modules[mask.__module__]  # by its name, `mask` is the function
    monkeypatch.setattr(module, "comparison", lambda c, right: lambda left: asked.append(left) or left == "5")
    condition = conditions_of({"Name": "t", "Operator": "in", "Type": "string", "Value": ["5"]})
    assert mask(condition, {"t": (codes, vocabulary)}, 4).tolist() == [1, 0, 0, 1]
    assert len(asked) == 3


def test_a_long_list_is_converted_once_and_not_per_value():
    """50,000 texts against a list of 20,000: a list converted per value would take hours."""
    vocabulary = [str(k) for k in range(50_000)]
    codes = np.arange(50_000, dtype=np.int32)
    written = {"Name": "t", "Operator": "in", "Type": "string", "Value": vocabulary[::5] + vocabulary[::3]}
    answers = mask(conditions_of(written), {"t": (codes, vocabulary)}, 50_000)
    np.testing.assert_array_equal(answers, (codes % 5 == 0) | (codes % 3 == 0))


def test_columns_that_do_not_fit_are_refused_by_name():
    condition = conditions_of({"Name": "a", "Operator": "is_null"})
    with pytest.raises(ValueError, match=r"'a' has shape \(3,\); the table has 2 rows"):
        mask(condition, {"a": np.zeros(3)}, 2)
    with pytest.raises(ValueError, match="codes and a vocabulary"):
        mask(condition, {"a": np.array(["x", "y"])}, 2)
