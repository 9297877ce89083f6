"""The language `expression`: what it means, what it refuses, and the same over columns."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import Failure, govaluate
from tests import expressions
from tests.expressions import FAILED

NAMES = {"a": 1, "f": 2.5, "s": "héllo", "t": "x", "l": ["a", 1, 2.0], "n": None, "b": True, "nb": False, "odd-name": 5,
         "a b": 6, "x.y": 9, "hash": 7}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", 7.0),
        ("2 ** 3 ** 2", 64.0),  # to the left, as everything here
        ("-2 ** 2", 4.0),
        ("10 / 2 * 5", 25.0),
        ("7.5 % 2", 1.5),
        ("-7 % 4", -3.0),
        ("7 % 0", math.nan),
        ("-1 / 0", -math.inf),
        ("0x1F", 31.0),
        ("a + 's'", "1s"),
        ("'a' + 1234567", "a1.234567e+06"),
        ("'a' + 123456", "a123456"),
        ("'a' + 0.00001", "a1e-05"),
        ("b + 's'", "trues"),
        ("n + 's'", "<nil>s"),
        ("l + 's'", "[a 1 2]s"),
        ("a == 1", True),
        ("a == '1'", False),
        ("a == b", False),
        ("(1, 2) == (1, 2)", True),
        ("'b' > 'a'", True),
        ("a in (1, 2)", True),
        ("a IN (1, 2)", True),
        ("s in ('a', 'héllo')", True),
        ("1 in l", True),
        ("'1' in l", False),
        ("s =~ '^h.l'", True),
        ("s !~ 'z'", True),
        ("!b", False),
        ("~f", -3.0),
        ("1 | 2 & 4", 0.0),  # one level, to the left
        ("1 << 2 + 1", 8.0),
        ("-1 >> 1", 2.0**63),  # shifts are unsigned
        ("a << -1", 0.0),
        ("true || false && false", True),
        ("b || missing", True),  # what decides on the left leaves the right alone
        ("nb && missing", False),
        ("b ? 1 : 2", 1.0),
        ("nb ? 1", None),
        ("b ? n : 2", 2.0),  # : looks whether the left side is nil
        ("nb ? 1 : nb ? 2 : 3", 3.0),
        ("n ?? 5", 5.0),
        ("n ?? 2 + 3", 5.0),
        ("[odd-name] + [a b] + [x.y]", 20.0),
        ("[hash]", 7.0),
        ("''", ""),
        ("'a\\'b'", "a'b"),
        ("()", None),
        ("1, 2", [1.0, 2.0]),
        ("getString('', a)", 1.0),
    ],
)
def test_meaning(text, expected):
    assert expressions.alike(govaluate(text).value(NAMES), expected)


@pytest.mark.parametrize(
    "text",
    [
        "missing",
        "missing ?? 5",
        "b && missing",
        "a && b",
        "nb || 5",
        "a ? 1 : 2",
        "b ? 1 : nb ? 2 : 3",
        "!a",
        "-s",
        "b + 1",
        "n + 1",
        "s > 1",
        "b > nb",
        "a in (1)",
        "a in s",
        "a =~ '1'",
        "a =~ s",
        "1 < 2 && a",
        "hash(s) + 1",
        "getString(n)",
        "s2CellID(a, f) + 1",
        "b & nb",
    ],
)
def test_what_fails_for_the_values_at_hand(text):
    with pytest.raises(Failure):
        govaluate(text).value(NAMES)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 0, "empty expression"),
        ("a +", 3, "an operand is missing at the end"),
        ("a b", 2, "an operator is missing"),
        ("(a", 0, "this parenthesis is not closed"),
        ("a)", 1, "no parenthesis is open here"),
        ("a == -b && 2*-a", 12, "unknown operator '*-'; put a blank between two operators"),
        ("a = 1", 2, "unknown operator '='"),
        ("1e3", 0, "'1e': use digits and one point"),
        ("1.2.3", 0, "'1.2.3' is not a number"),
        ("near(a)", 0, "unknown function near; known are geoHash"),
        ("1 + hash", 4, "hash is a function; write [hash] for the name"),
        ("max(a)", 0, "max takes 2 arguments, got 1"),
        ("a.b + 1", 0, "items have no parts; write [a.b]"),
        ("a + 'x", 4, "this text is not closed"),
        ("a + [x", 4, "[ is not closed"),
        ("a @ b", 2, "'@' is not part of the language"),
        ("s =~ '('", 5, "is not a regular expression"),
        ("a > 0 && 'x' - 1 > 0", 13, "a number is needed on both sides"),
        ("- -a", 2, "one prefix is allowed"),
        ("(" * 101 + "a", 100, "more than 100 open parentheses"),
    ],
)
def test_a_bad_expression_is_refused_with_a_caret_under_the_place(text, place, what):
    with pytest.raises(ConfigError) as refused:
        govaluate(text)
    message, line, caret = str(refused.value).split("\n")
    assert what in message
    assert line == "  " + text
    assert caret == " " * (place + 2) + "^"


@pytest.fixture
def shanghai(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_quoted_date_is_unix_seconds_of_local_time(shanghai):
    for text, seconds in [
        ("2020-01-01", 1577808000.0),
        ("2020-01-01T00:00:00Z", 1577836800.0),
        ("2020-01-01 10:00", 1577844000.0),
        ("2020-01-01 10:00:00+08:00", 1577844000.0),
    ]:
        assert govaluate(f"'{text}'").value({}) == seconds
    assert govaluate("'2020-01-01' > '2019-01-01'").value({}) is True
    assert govaluate("d == '2020-01-01'").value({"d": "2020-01-01"}) is False  # a name's text stays a text
    assert govaluate("'10:00'").value({}) == "10:00"


def test_names_are_those_it_reads():
    expression = govaluate("b + max(a, b) > 1 ? [x y] : true")
    assert expression.names == ("b", "a", "x y")


def test_a_name_that_some_rows_lack_fails_for_those_rows_alone():
    vector = govaluate("price > 10 ? 'dear' : 'cheap'").vector({"price": np.array([20.0, math.nan, 1.0])}, 3)
    assert expressions.values_of(vector) == ["dear", FAILED, "cheap"]
    column = govaluate("price * 2").column({"price": np.array([20.0, math.nan, 1.0])}, 3)
    np.testing.assert_array_equal(column, [40.0, math.nan, 2.0])


def test_scalars_hide_columns_and_a_column_of_another_length_is_refused():
    columns = {"a": np.arange(3.0), "b": np.arange(3.0)}
    np.testing.assert_array_equal(govaluate("a + b").column(columns, 3, {"b": 10}), [10.0, 11.0, 12.0])
    with pytest.raises(ValueError, match=r"'a' has shape \(3,\); the table has 2 rows"):
        govaluate("a").column(columns, 2)
    with pytest.raises(ValueError, match="'a' is <U1; use bool, a number, or codes and a vocabulary"):
        govaluate("a").column({"a": np.array(["x"])}, 1)


LEAVES = [*"fghijbtuvlo", "n", "none", "1", "2", "0", "2.5", "'x'", "'abc'", "true", "false", "(1, 2.5, 'x')", "s"]
FORMS = [
    "({} + {})",
    "({} - {})",
    "({} * {})",
    "({} / {})",
    "({} % {})",
    "({} ** {})",
    "({} == {})",
    "({} != {})",
    "({} < {})",
    "({} <= {})",
    "({} > {})",
    "({} >= {})",
    "({} && {})",
    "({} || {})",
    "({} ? {} : {})",
    "({} ?? {})",
    "({} in {})",
    "({} in ({}, {}))",
    "({} & {})",
    "({} | {})",
    "({} ^ {})",
    "({} << {})",
    "({} >> {})",
    "!({})",
    "-({})",
    "~({})",
    "({} =~ 'b')",
    "max({}, {})",
    "min({}, {})",
    "pow({}, {})",
    "log({})",
    "log2({})",
    "log10({})",
    "round({})",
    "round({}, {})",
    "hash({})",
    "hash32({})",
    "getString({}, {})",
    "trim({}, {})",
    "replace({}, {}, {})",
    "toFloat64({})",
    "haversine({}, {}, {}, {})",
    "sphereDistance({}, {}, {}, {})",
    "s2CellID({}, {})",
    "geoHash({}, {})",
    "geoHash({}, {}, {})",
    "maxIndex({})",
    "maxValue({})",
    "s2CellNeighbors({}, {})",
    "trimPrefix({}, {})",
]


@pytest.mark.parametrize("seed", range(12))
def test_columns_say_for_every_row_what_the_meaning_says(seed):
    """Random expressions on random rows: missing values, mixed kinds, infinities, failures in branches not taken."""
    rng = np.random.default_rng(seed)
    writer = expressions.Writer(rng, LEAVES, FORMS)
    evaluated = 0
    while evaluated < 60:
        try:
            expression = govaluate(writer.write())
        except ConfigError:
            continue  # a constant part that always fails
        evaluated += 1
        count = int(rng.choice([0, 1, 2, 30]))
        expressions.agree(expression, expressions.table(rng, count), count, {"s": "abc", "n": None, "k": 3})


@pytest.mark.parametrize("form", FORMS)
def test_every_form_alone_agrees_on_every_pair_of_columns(form):
    rng = np.random.default_rng(5)
    columns = expressions.table(rng, 40)
    for _ in range(25):
        parts = [str(part) for part in rng.choice(LEAVES, form.count("{}"))]
        try:
            expression = govaluate(form.format(*parts))
        except ConfigError:
            continue
        expressions.agree(expression, columns, 40, {"s": "abc", "n": None})


@pytest.mark.parametrize("symbol", ["==", "!=", "<", "+", "%", "**", "in", "||", "??", "^"])
def test_operators_agree_on_every_pair_of_columns(symbol):
    rng = np.random.default_rng(6)
    columns = expressions.table(rng, 60)
    for left in "fghijbtuvlo":
        for right in "fghijbtuvlo":
            expressions.agree(govaluate(f"{left} {symbol} {right}"), columns, 60, {})
