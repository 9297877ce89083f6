"""RankScore in both languages, over columns: the contract's cases, the antlr language, and what failures leave."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import Failure, compile
from pairec_fast.expression.antlr import antlr
from tests import expressions

CASES = [
    case
    for case in json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]
    if case["suite"] == "rank_score_expression"
]
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_contract(case):
    given, expected = case["input"], case["expected"]
    score = given.get("score", 0.0)
    names = {**given["properties"], **given["algo_scores"], "current_score": score}
    expected = expected["score"] if isinstance(expected, dict) else expected
    formula = compile(given["expr"], given["ASTType"])
    assert formula.value(names, score) == expected
    out = np.full(3, score)
    columns = {name: (np.zeros(3, np.int32), [value]) for name, value in names.items()}
    formula.evaluate(columns, out)
    assert out.tolist() == [expected] * 3


NAMES = {"x": 3, "zero": 0, "ctr-1": 0.5, "s": "abc", "l": [1, 5, 2.5], "b": True, "none": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${x} + x", 6.0),
        ("${ctr-1} * 2", 1.0),
        ("2 ^ 3 ^ 2", 64.0),  # to the left
        ("2 * 3 ** 2", 18.0),
        ("-2 ^ 2", 4.0),  # a prefix binds tighter
        ("4*-1", -4.0),
        ("- -x", 3.0),
        ("7.5 % 2", 1.5),
        ("++x", 4.0),
        ("~x", -4.0),
        ("1 << 3 | 1", 9.0),
        ("1e3 + .5 + 1_0", 1010.5),
        ("x > 1 ? 10 : 20", 10.0),
        ("x < 1 ? 1/zero : 2", 2.0),  # the side that is not taken may fail
        ("x > 1 && b ? 1 : 2", 1.0),
        ("x < 1 || !b ? 1 : 2", 2.0),
        ("zero == 0 ? 1 : 2", 1.0),
        ("s == 'abc' ? 3 : 4", 3.0),
        ("(s in ('abc', 'd')) ? 1 : 2", 1.0),
        ("(x in (3)) ? 1 : 2", 1.0),
        ("'2024-01-02' > '2024-01-01 23:59:59' ? 1 : 2", 1.0),
        ("missing + 1", 1.0),
        ("l[1] * 2", 10.0),
        ("maxIndex(${l})", 1.0),
        ("maxValue(l) + len(l) + len(s)", 11.0),
        ("log(exp(2))", 2.0),
        ("log10(100) + sqrt(16) + abs(-1)", 7.0),
        ("max(x, 5) - min(x, 5)", 2.0),
        ("hash32('hello world') % 100", 83.0),
        ("len(tostring(x) + 'é')", 3.0),
        # failures are 0
        ("x / zero", 0.0),
        ("5 + x % zero", 0.0),
        ("1 + s", 0.0),
        ("none + 1", 0.0),
        ("x ? 1 : 2", 0.0),
        ("l[3]", 0.0),
        ("l[0 - 1]", 0.0),
        ("maxIndex(l) + 1", 0.0),  # an integer is no number for the operators
        ("maxIndex(x)", 0.0),
        ("log(s)", 0.0),
        # so is what is no number, or not a number
        ("hash(s)", 0.0),
        ("x > 1", 0.0),
        ("s", 0.0),
        ("log(0 - 1)", 0.0),
        ("log(zero)", -INF),
    ],
)
def test_antlr_meaning(text, expected):
    formula = compile(text, "antlr")
    assert formula.value(NAMES) == expected
    out = np.full(2, 9.0)
    formula.evaluate({name: (np.zeros(2, np.int32), [value]) for name, value in NAMES.items()}, out)
    assert out.tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 0, "empty expression"),
        ("1 2", 2, "an operator is missing"),
        ("1 +", 3, "an operand is missing at the end"),
        ("(1", 0, "this parenthesis is not closed"),
        ("l[1", 1, "this [ is not closed"),
        ("x > 1 ? 2", 6, "the : of this ? is missing"),
        ("${x", 0, "${ is not closed"),
        ("a = 1", 2, "'=' is not part of the language"),
        ("a + #b", 4, "'#' is not part of the language"),
        ("a.b", 1, "'.' is not part of the language"),
        ("'a", 0, "this text is not closed"),
        ("1f", 0, "'1f' is not a number"),
        ("1 + 1/0", 5, "division by zero"),
        ("near(1)", 0, "unknown function near; known are abs, exp, hash"),
        ("max(1)", 0, "max takes 2 or more arguments, got 1"),
        ("x in (x, 1)", 5, "a list has numbers, texts and booleans alone"),
        ("-" * 101 + "1", 0, "'--' is not"),
    ],
)
def test_a_bad_expression_is_refused_with_a_caret_under_the_place(text, place, what):
    if text.startswith("--"):
        text, place, what = "- " * 101 + "1", 200, "more than 100 open parentheses and prefixes"
    with pytest.raises(ConfigError) as refused:
        compile(text, "antlr")
    message, line, caret = str(refused.value).split("\n")
    assert what in message
    assert line == "  " + text
    assert caret == " " * (place + 2) + "^"


def test_another_language_and_too_many_names_are_refused():
    with pytest.raises(ConfigError, match='ASTType "antlar" is unknown'):
        compile("1", "antlar")
    with pytest.raises(ConfigError, match="input must be 0 to 63, got 64"):
        compile("+".join(f"${{n{k}}}" for k in range(65)))


def test_names_come_in_order_of_first_use():
    for ast_type in ("", "antlr"):
        assert compile("${b}+${a}*${b}", ast_type).names == ("b", "a")


def test_a_row_that_fails_keeps_its_score_with_the_default_parser_and_is_0_with_antlr():
    columns = {"a": np.array([1.0, 2.0, NAN]), "b": np.array([2.0, 0.0, 4.0])}
    for ast_type, expected in (("", [0.5, 7.0, 0.0]), ("antlr", [0.5, 0.0, 0.0])):
        out = np.full(3, 7.0)
        compile("${a}/${b}", ast_type).evaluate(columns, out)
        assert out.tolist() == expected


def test_texts_count_in_the_default_parser_where_they_are_numeric():
    columns = {"t": (np.array([0, 1, -1], np.int32), ["2.5", "x"])}
    out = np.zeros(3)
    compile("${t} + 1").evaluate(columns, out)
    assert out.tolist() == [3.5, 1.0, 1.0]


LEAVES = [
    *(f"${{{name}{name}}}" for name in "fghijbtuvlo"),
    "none",
    "1",
    "2",
    "0",
    "2.5",
    "'x'",
    "true",
    "k",
    "('x', 2.5)",
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
    "({} >= {})",
    "({} && {})",
    "({} || {})",
    "({} ? {} : {})",
    "({} in {})",
    "({} in (1, 'x'))",
    "({} & {})",
    "({} << {})",
    "(-{})",
    "(!{})",
    "(~{})",
    "{}[{}]",
    "abs({})",
    "exp({})",
    "log({})",
    "log10({})",
    "sqrt({})",
    "max({}, {})",
    "min({}, {})",
    "len({})",
    "tostring({})",
    "hash({})",
    "hash32({})",
    "maxIndex({})",
    "maxValue({})",
]


@pytest.mark.parametrize("seed", range(12))
def test_columns_say_for_every_row_what_the_meaning_says(seed):
    rng = np.random.default_rng(seed)
    writer = expressions.Writer(rng, LEAVES, FORMS)
    evaluated = 0
    while evaluated < 60:
        try:
            text = writer.write()
            expression, formula = antlr(text), compile(text, "antlr")
        except ConfigError:
            continue  # a constant part that always fails
        evaluated += 1
        count = int(rng.choice([0, 1, 2, 30]))
        columns = {name * 2: column for name, column in expressions.table(rng, count).items()}
        expressions.agree(expression, columns, count, {"k": 3})
        out = np.full(count, 9.0)
        formula.evaluate(columns, out)
        if "k" not in formula.names:
            assert out.tolist() == [formula.value(item) for item in expressions.rows(columns, count)]
        assert not np.isnan(out).any()


def test_a_failure_is_never_raised_to_the_caller():
    with pytest.raises(Failure):
        antlr("x / zero").value(NAMES)
    assert compile("x / zero", "antlr").value(NAMES) == 0.0
