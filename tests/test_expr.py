"""The language `expr`: what it means, what it refuses, and the same over columns."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import ROW, Failure, expr
from tests import expressions
from tests.expressions import FAILED

ITEM = {
    "a": 1,
    "f": 2.5,
    "two": 2.0,
    "s": "héllo",
    "l": [1, 2, 3],
    "n": None,
    "b": True,
    "nb": False,
    "m": {"k": 1},
    "z": 0,
}
NAMES = {"item": ITEM, "user": {}, "x": 7}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.x", None),
        ("missing", None),
        ("item?.x?.y.z", None),
        ("missing?.x", None),
        ("(item.x ?? 3) + 1", 4),
        ("1 + nil ?? 2", 3),  # ?? binds tightest
        ("1 / 2", 0.5),
        ("4 / 2", 2.0),
        ("1 / 0", math.inf),
        ("-5 % 3", -2),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 ** 2", -4.0),
        ("item.a + 1", 2),
        ("item.a + 1.5", 2.5),
        ("9223372036854775807 + 1", -(2**63)),
        ("item.s + 'x'", "héllox"),
        ("item.a == 1.0", True),
        ("item.a == '1'", False),
        ("item.b == 1", False),
        ("item.x == nil", True),
        ("item.l == [1.0, 2, 3]", True),
        ("1 < item.f < 3", True),
        ("3 > item.f > 2.6", False),
        ("item.two in [1, 2]", True),
        ("item.x in ['a']", False),
        ("item.x in [nil]", True),
        ("item.a in item.x", False),
        ("'k' in item.m", True),
        ("'a' in item", True),
        ("item.a not in [1]", False),
        ("item.f in 1..3", False),
        ("not true == false", True),
        ("true or false and false", True),
        ("item.b and item.a", 1),  # the right side is the answer, whatever it is
        ("item.b or item.x.y", True),
        ("item.nb and item.x.y", False),
        ("item.x and true", None),  # a constant side is left away
        ("item.x != nil and item.x.y > 1", False),
        ("item.nb ? item.x.y : 1", 1),
        ("item.a == 1 ? item.b ? 1 : 2 : 3", 1),
        ("if item.b { 1 } else { 2 }", 1),
        ("item.s contains 'h' && item.s startsWith 'hé' && item.s endsWith 'o'", True),
        ("item.x contains 'h'", False),
        ("item.s not contains 'z'", True),
        ("item.s matches '^h.*o$'", True),
        ("'a\\n' matches 'a$'", False),
        ("'٣' matches '^\\\\d$'", False),
        ("len(item.s)", 5),
        ("item.l[-1]", 3),
        ("item.l[1.9]", 2),
        ("item.l[1:]", [2, 3]),
        ("item.l[:-1]", [1, 2]),
        ("item['a' + '']", 1),
        ("item.x?.[0]", None),
        ("item.m[item.x]", None),
        ("any(item.l, # > 2)", True),
        ("all(item.l, {# > item.a})", False),
        ("filter(item.l, # > item.a)", [2, 3]),
        ("item.l | filter(# > 1) | map(# * 2) | sum()", 10),
        ("count(item.l, any(item.l, # > 2))", 3),
        ("any([{'x': 1}], .x == 1)", True),
        ("reduce(item.l, #acc + #, 10)", 16),
        ("find(item.l, # > 10)", None),
        ("let y = item.a; y in [1]", True),
        ("sort([3, 1, 2], 'desc')", [3, 2, 1]),
        ("max(item.a, x)", 7.0),  # PAI-Rec's, which gives a double
        ("round(2.567, 2)", 2.56),
        ("int('12') + int(1.9)", 13),
        ("string(1e6) + string(nil)", "1e+06<nil>"),
        ("hash('movie')", 6454754232697774446),
        ("'\\u00e9\\n' + `\\n`", "é\n\\n"),
        ("0x1F + 0b11 + 1_000", 1034),
        ("1 /* one */ + 1 // two", 2),
    ],
)
def test_meaning(text, expected):
    assert expressions.alike(expr(text).value(NAMES), expected) or expr(text).value(NAMES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "item.x.y",
        "item?.x.y",
        "item.x.y ?? 3",
        "item.a + 'x'",
        "item.x + 1",
        "item.x < 1",
        "item.s < 1",
        "item.f % 2",
        "item.a % item.z",
        "item.a in item.s",
        "item.a in ['a', 'b']",
        "not item.x",
        "item.x and item.b",
        "item.a or item.b",
        "item.x ? 1 : 2",
        "item.a contains 'h'",
        "item.l[3]",
        "item.l[-4]",
        "item.l['a']",
        "len(item.x)",
        "any(item.x, # > 1)",
        "any(item.l, #)",
        "lower(item.x)",
        "-item.s",
        "int(item.s)",
        "abs(item.b)",
        "item.l + item.l",
    ],
)
def test_what_fails_for_the_values_at_hand(text):
    with pytest.raises(Failure):
        expr(text).value(NAMES)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 0, "empty expression"),
        ("item.x >", 8, "an operand is missing at the end"),
        ("item.", 5, "a name is missing after the point"),
        ("a b", 2, "an operator is missing"),
        ("(a", 0, "this ( is not closed"),
        ("[1, 2", 0, "this [ is not closed"),
        ("len(item.x", 3, "this ( is not closed"),
        ("a ? b", 5, ": is missing"),
        ("a = 1", 2, "an operator is missing"),
        ("a + 'x", 4, "this text is not closed"),
        ("'a\\q'", 2, "\\q is no escape"),
        ("a @ b", 2, "'@' is not part of the language"),
        ("near(a)", 0, "unknown function near; known are abs, all, any"),
        ("1 + now()", 4, "the function now is not available here"),
        ("trim(a)", 0, "trim takes 2 arguments, got 1"),
        ("item.f(1)", 5, "values have no methods; f cannot be called"),
        ("a > 1 and 5 % 0 > 1", 12, "division by zero"),
        ("1 + 'a'", 2, "+ is not defined on int and string"),
        ("a matches '('", 10, "is not a regular expression"),
        ("a matches '(?=x)'", 10, "have no '(?='"),
        ("9223372036854775808", 0, "too large a number"),
        ("# > 1", 0, "an operand is missing here"),
        ("$env.a", 0, "$env is not available here"),
        ("(" * 101 + "a", 100, "more than 100 expressions inside one another"),
    ],
)
def test_a_bad_expression_is_refused_with_a_caret_under_the_place(text, place, what):
    with pytest.raises(ConfigError) as refused:
        expr(text)
    message, line, caret = str(refused.value).split("\n")
    assert what in message
    assert line == "  " + text.replace("\n", " ")
    assert caret == " " * (place + 2) + "^"


def test_a_long_chain_is_evaluated_or_refused_but_never_breaks_the_stack():
    chain = " or ".join(["item.a == 2"] * 200)
    assert expr(chain).value(NAMES) is False
    assert expr(chain).holds({"a": np.array([2.0, 1.0])}, 2, {"item": ROW})[0].tolist() == [True, False]
    with pytest.raises(ConfigError, match="more than 250 operations inside one another"):
        expr(" or ".join(["item.a == 2"] * 400))


def test_paths_are_the_properties_it_reads():
    expression = expr("item.a > user['b'] and any(item.l, # > properties.c) and len(item) > x")
    assert expression.paths == {
        ("item", "a"),
        ("user", "b"),
        ("item", "l"),
        ("properties", "c"),
        ("item", None),
        ("x", None),
    }


def test_a_row_as_a_whole_has_the_properties_it_has():
    columns = {"a": np.array([1.0, math.nan]), "t": (np.array([-1, 0], np.int32), ["x"])}
    for text, expected in [
        ("len(item)", [1, 1]),
        ("'a' in item", [True, False]),
        ("item['a' + item2]", [1.0, None]),
        ("item != nil and item?.t == 'x'", [False, True]),
        ("keys(item)[0]", ["a", "t"]),
    ]:
        vector = expr(text).vector(columns, 2, {"item": ROW, "item2": ""})
        assert expressions.values_of(vector) == expected, text


def test_columns_are_reached_through_the_row_alone_or_by_their_bare_names():
    columns = {"a": np.array([1.0, 2.0])}
    assert expressions.values_of(expr("a").vector(columns, 2, {"item": ROW})) == [None, None]
    assert expressions.values_of(expr("a + currentTime").vector(columns, 2, {"currentTime": 10})) == [11.0, 12.0]


def test_failures_are_of_single_rows():
    vector = expr("item.a > 1 ? item.t + '!' : 'none'").vector(
        {"a": np.array([2.0, 0.0, 2.0, math.nan]), "t": (np.array([0, -1, -1, 0], np.int32), ["x"])}, 4, {"item": ROW}
    )
    assert expressions.values_of(vector) == ["x!", "none", FAILED, FAILED]


PARTS = [
    *(f"item.{name}" for name in "fghijbtuvlo"),
    "item.none",
    *(f"user.{name}" for name in ("n", "f", "t", "l", "b", "nil", "m", "z")),
]
LEAVES = [
    *PARTS,
    *PARTS,
    "nil",
    "1",
    "2",
    "0",
    "2.5",
    "'x'",
    "'abc'",
    "true",
    "false",
    "[1, 2.5, 'x']",
    "['x', 'abc']",
    "now",
]
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
    "({} <= {} > {})",
    "({} >= {})",
    "({} and {})",
    "({} or {})",
    "not ({})",
    "-({})",
    "({} ? {} : {})",
    "({} ?? {})",
    "({} in {})",
    "({} not in [{}, {}])",
    "({} in ['x', 'abc', 'y'])",
    "({} contains {})",
    "({} startsWith {})",
    "({} matches 'b|x')",
    "({})[{}]",
    "({})[1:]",
    "({})?.k",
    "len({})",
    "int({})",
    "float({})",
    "string({})",
    "abs({})",
    "ceil({})",
    "upper({})",
    "any({}, # == {})",
    "filter({}, # > {})",
    "map({}, {})",
    "count({}, # in {})",
    "let y = {}; y == {}",
    "max({}, {})",
    "log({})",
    "pow({}, {})",
    "round({})",
    "hash({})",
    "hash32({})",
    "getString({}, {})",
    "haversine({}, {}, {}, {})",
    "s2CellID({}, {})",
    "geoHash({}, {})",
    "maxValue({})",
    "type({})",
    "sum({})",
    "bitand({}, {})",
]
SCALARS = {"item": ROW, "user": expressions.USER, "now": 5}


@pytest.mark.parametrize("seed", range(12))
def test_columns_say_for_every_row_what_the_meaning_says(seed):
    """Random expressions on random rows: missing values, mixed kinds, infinities, failures in branches not taken."""
    rng = np.random.default_rng(seed)
    writer = expressions.Writer(rng, LEAVES, FORMS)
    evaluated = 0
    while evaluated < 60:
        try:
            expression = expr(writer.write())
        except ConfigError:
            continue  # a constant part that always fails
        evaluated += 1
        count = int(rng.choice([0, 1, 2, 30]))
        expressions.agree(expression, expressions.table(rng, count), count, SCALARS)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_alone_agrees_on_many_columns(form):
    rng = np.random.default_rng(5)
    columns = expressions.table(rng, 40)
    for _ in range(25):
        parts = [str(part) for part in rng.choice(LEAVES, form.count("{}"))]
        try:
            expression = expr(form.format(*parts))
        except ConfigError:
            continue
        expressions.agree(expression, columns, 40, SCALARS)


@pytest.mark.parametrize("symbol", ["==", "!=", "<", "+", "/", "%", "**", "in", "or", "??", "contains"])
def test_operators_agree_on_every_pair_of_columns(symbol):
    rng = np.random.default_rng(6)
    columns = expressions.table(rng, 60)
    for left in "fghijbtuvlo":
        for right in "fghijbtuvlo":
            expressions.agree(expr(f"item.{left} {symbol} item.{right}"), columns, 60, SCALARS)


class Counted(list):
    """A vocabulary that counts how often it is asked."""

    asked = 0

    def __getitem__(self, code):
        Counted.asked += 1
        return super().__getitem__(code)

    def __iter__(self):
        raise AssertionError("a large vocabulary is not walked for a few rows")


@pytest.mark.parametrize(
    "text", ["item.t ?? 'none'", "item.t == 't7'", "item.t in ['t7', 't8']", "item.t + '!'", "item.b ? item.t : 'x'"]
)
def test_few_rows_of_a_large_vocabulary_ask_only_what_they_have(text):
    vocabulary = Counted(f"t{k}" for k in range(10_000))
    columns = {"t": (np.array([7, -1, 9_999, 7], np.int32), vocabulary), "b": np.array([True, True, False, True])}
    Counted.asked = 0
    got = expr(text).vector(columns, 4, {"item": ROW})
    assert Counted.asked <= 8
    rows = [{"t": "t7", "b": True}, {"b": True}, {"t": "t9999", "b": False}, {"t": "t7", "b": True}]
    expected = [expressions.means(expr(text).value, {"item": row}) for row in rows]
    assert expressions.values_of(got) == expected
