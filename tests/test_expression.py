"""RankScore: the grammar as PAI-Rec reads it, and the core program that computes it."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.expression import INPUTS_MAX, STACK_MAX, Program
from pairec_fast.errors import ConfigError
from pairec_fast.expression import RankScore
from pairec_fast.expression.convert import to_float
from tests import reference

CASES = [
    case
    for case in json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]
    if case["suite"] == "rank_score_expression"
]
NAN, INF = math.nan, math.inf


def score(text, values=None, before=-1.0):
    """One row, through the core."""
    values = values or {}
    expression = RankScore.compile(text)
    program = expression.bind(lambda name: ("constant", values[name]) if name in values else None)
    out = np.array([before])
    program.evaluate_columns([], out)
    return out[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_contract(case):
    given, expected = case["input"], case["expected"]
    if given["ASTType"] == "antlr":
        pytest.skip("antlr parser not built yet")
    arena = Arena(1, algos=2)
    arena.count = 1
    arena.recall_score[0] = given.get("score", 0.0)
    algos = list(given["algo_scores"])
    for j, name in enumerate(algos):
        arena.algo_score[j, 0] = given["algo_scores"][name]

    def resolve(name):
        if name == "current_score":
            return ("current_score",)
        if name in algos:
            return ("algo", algos.index(name))
        if name in given["properties"]:
            return ("column", np.array([to_float(given["properties"][name], 0.0)]))
        return None

    RankScore.compile(given["expr"]).bind(resolve).evaluate(arena)
    if isinstance(expected, dict):  # recall_score is current_score's second name: the arena keeps the one column
        assert arena.score[0] == expected["score"]
        assert arena.recall_score[0] == expected["algo_scores"]["recall_score"]
    elif case["match"] == "exact":
        assert arena.score[0] == expected
    else:
        assert arena.score[0] == pytest.approx(expected, rel=float(case["match"].removeprefix("approx:")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2^3^2", 64.0),
        ("10-4-3", 3.0),
        ("24/4/2*3", 9.0),
        ("2+3*4^2#9", 50.0),
        ("2*3#4", 6.0),
        ("0#0#7", 7.0),
        ("-3+5", 2.0),
        ("-2^2", -4.0),
        ("2*(-3)", -6.0),
        ("4*-1", -1.0),
        ("4--1", 3.0),
        ("4*+1", 1.0),
        ("2^-1", 0.0),
        ("4+*2", 4.0),
        ("*5+1", 1.0),
        ("(4+)*3", 12.0),
        ("()", 0.0),
        ("7.9%4.9", 3.0),
        ("-7%4", -3.0),
        ("(-7)%4", -3.0),
        ("7%(0-4)", 3.0),
        ("1_0__0.5_0", 100.5),
        ("1e3+5.", 1005.0),
        (" \t${ a b }\n* 2 ", 6.0),
        ("${+}+1", 9.0),
    ],
)
def test_operators_group_left_and_a_missing_operand_is_zero(text, expected):
    values = {" a b ": 3.0, "+": 8.0}
    assert score(text, values) == expected
    assert reference.rank_score(text, values) == expected


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 0, "empty"),
        ("  ", 2, "empty"),
        ("4*", 2, "missing at the end"),
        ("${a} * log(${b})", 7, "'l' is not part of the language"),
        ("1 2", 2, "operator is missing"),
        ("${a}${b}", 4, "operator is missing"),
        ("2*(1+3", 2, "not closed"),
        ("((1)", 0, "not closed"),
        ("(1))", 3, "no parenthesis is open"),
        ("1.2.3", 0, "not a number"),
        ("1 + 2e", 4, "not a number"),
        ("1e400", 0, "not a number"),
        ("2e-3", 0, "not a number"),
        (".5", 0, "not part of the language"),
        ("1 + ${a", 4, "not closed"),
        ("1 + $a", 4, "'$' is not part"),
        ("1\n+ é", 4, "'é' is not part"),
    ],
)
def test_a_bad_expression_is_refused_with_a_caret_under_the_place(text, place, what):
    with pytest.raises(ConfigError) as refused:
        RankScore.compile(text)
    message, line, caret = str(refused.value).split("\n")
    assert what in message
    assert line == "  " + text.replace("\n", " ")
    assert caret == " " * (place + 2) + "^"


def test_the_other_parser_is_refused_plainly():
    with pytest.raises(ConfigError, match='ASTType "antlr" is not available here yet'):
        RankScore.compile("1", "antlr")
    with pytest.raises(ConfigError, match='ASTType "antlar" is unknown'):
        RankScore.compile("1", "antlar")


def test_names_come_in_order_of_first_use_and_resolve_is_asked_once_each():
    expression = RankScore.compile("${b}+${a}*${b}-${c}")
    assert expression.names == ("b", "a", "c")
    asked = []
    expression.bind(asked.append)
    assert asked == ["b", "a", "c"]


def test_depth_is_refused_at_load_and_long_expressions_are_not_deep():
    deepest = "1+(" * (STACK_MAX - 1) + "1" + ")" * (STACK_MAX - 1)
    assert score(deepest) == STACK_MAX
    with pytest.raises(ConfigError, match="too deep"):
        RankScore.compile("1+(" * STACK_MAX + "1" + ")" * STACK_MAX)
    assert score("+".join(["1"] * 5000)) == 5000
    assert score("(" * 100 + "7" + ")" * 100) == 7
    with pytest.raises(ConfigError, match="open parentheses"):
        RankScore.compile("(" * 100_000)


@pytest.mark.parametrize("text", ["1/0", "5%0", "5%0.9", "1#(1/0)", "0*(1/0)", "1/${missing}", "(0-1)^0.5"])
def test_a_row_that_divides_by_zero_or_is_no_number_keeps_its_score(text):
    assert score(text, before=-1.0) == -1.0


def test_only_the_failed_rows_keep_their_score():
    arena = Arena(300)
    arena.count = 300
    arena.row[:] = np.arange(300)
    column = np.arange(300) % 3
    arena.score[:] = -7.0
    RankScore.compile("6/${x}").bind(lambda name: ("column", column)).evaluate(arena)
    np.testing.assert_array_equal(arena.score, np.where(column == 0, -7.0, 6.0 / np.maximum(column, 1)))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(1e300, 10.0, float(-(2**63) + 2**63 // 10 * 10)), (NAN, 1e300, 0.0), (1e300, -1.0, 0.0), (5.0, NAN, 5.0)],
)
def test_modulo_of_what_does_not_fit_an_int_is_defined(a, b, expected):
    """Out of range is the smallest int64, as PAI-Rec gets it; the smallest int64 % -1 must not trap."""
    assert score("${a}%${b}", {"a": a, "b": b}) == expected


TEXTS = [
    "${a}",
    "${a}*0.3+${b}^0.5",
    "${a}*(1+${b})",
    "${a}#${b}",
    "${a}/${b}-${c}%3",
    "${a}%${b}#${c}",
    "-${a}*-${b}^2",
    "((${a}+${b})/(${c}-1))^2#${a}",
    "${a}^${b}",
    "1/(${a}-${a}#${b})",
]


@pytest.mark.parametrize("count", [0, 1, 127, 128, 129, 500])
@pytest.mark.parametrize("text", TEXTS)
def test_agrees_with_reference_bit_for_bit_on_nasty_numbers(text, count):
    rng = np.random.default_rng(count)
    nasty = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-310, 1e308, INF, -INF, NAN, 2.0**63, -(2.0**63)])
    columns = [np.where(rng.random(count) < 0.5, rng.choice(nasty, count), rng.normal(0.0, 3.0, count)) for _ in "abc"]
    before = rng.random(count)
    out = before.copy()
    program = RankScore.compile(text).bind(lambda name: ("input", "abc".index(name)))
    program.evaluate_columns(columns, out)
    for k in range(count):
        expected = reference.rank_score(text, {name: columns[j][k] for j, name in enumerate("abc")})
        if expected is None or math.isnan(expected):
            expected = before[k]
        assert out[k].tobytes() == np.float64(expected).tobytes(), [column[k] for column in columns]


def test_random_expressions_agree_with_reference():
    """Operators and blanks thrown together, missing operands included: both parsers read the same thing."""
    rng = np.random.default_rng(7)
    pieces = ["${a}", "${b}", "2", "0.5", "0", *"+-*/%^#", *"+-*/%^#", "(", ")", " "]
    values = {"a": 1.5, "b": -2.0}
    accepted = 0
    for _ in range(6_000):
        text = "".join(rng.choice(pieces, rng.integers(1, 12)))
        try:
            ours = score(text, values, before=NAN)
        except ConfigError:
            continue
        accepted += 1
        expected = reference.rank_score(text, values)
        expected = NAN if expected is None else expected
        np.testing.assert_equal(ours, expected, text)  # NaN equals NaN, 0.0 is not -0.0
    assert accepted > 300


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_])
def test_item_columns_are_read_through_row_and_not_by_slot(dtype):
    rng = np.random.default_rng(3)
    column = rng.integers(0, 2 if dtype is np.bool_ else 100, 1000).astype(dtype)
    column.flags.writeable = False  # snapshot columns are mapped read-only
    arena = Arena(200, items_max=1000)
    arena.count = 150
    arena.row[:150] = rng.choice(1000, 150, replace=False)
    arena.score[150:] = 5.0
    RankScore.compile("${x}+1").bind(lambda name: ("column", column)).evaluate(arena)
    np.testing.assert_array_equal(arena.score[:150], column[arena.row[:150]].astype(np.float64) + 1)
    assert (arena.score[150:] == 5.0).all(), "slots beyond count are not ours"


def test_nan_in_an_item_column_is_a_missing_value_and_reads_as_zero():
    arena = Arena(2, items_max=2)
    arena.count = 2
    arena.row[:] = [1, 0]
    for dtype in (np.float32, np.float64):
        place = ("column", np.array([NAN, 4], dtype))
        RankScore.compile("${x}#9").bind({"x": place}.get).evaluate(arena)
        np.testing.assert_array_equal(arena.score, [4.0, 9.0])


def test_a_row_beyond_a_column_is_refused_and_nothing_is_read():
    arena = Arena(3, items_max=100)
    arena.count = 3
    program = RankScore.compile("${x}+${y}").bind(lambda name: ("column", np.zeros(50 if name == "x" else 10)))
    for row in (10, 99, -1):
        arena.row[:] = [0, 9, row]
        arena.score[:] = 1.0
        with pytest.raises(IndexError, match="beyond a column of 10 rows"):
            program.evaluate(arena)
        assert (arena.score == 1.0).all()


def test_the_program_keeps_its_columns_alive():
    program = RankScore.compile("${x}").bind(lambda name: ("column", np.full(100_000, 3.0)))
    arena = Arena(1)
    arena.count = 1
    np.full(100_000, 4.0)  # would land in the freed memory
    program.evaluate(arena)
    assert arena.score[0] == 3.0


def test_programs_that_cannot_run_are_refused():
    push = ("constant", 0)
    for ops, message in [
        ([], "one value"),
        ([push, push], "one value"),
        ([push, ("add", 0)], "two values"),
        ([("sine", 0)], "unknown op"),
        ([("float32", 0)], "unknown op"),
        ([("constant", 1)], "constant 1 of 1"),
        ([("column", 0)], "column 0 of 0"),
        ([("algo", -1)], "algo"),
        ([("input", INPUTS_MAX)], "input"),
        ([push] * (STACK_MAX + 1) + [("add", 0)] * STACK_MAX, "wait"),
    ]:
        with pytest.raises(ValueError, match=message):
            Program(ops, [1.0])
    for column in (np.zeros((2, 2)), np.zeros(4)[::2], np.zeros(4, ">f8"), np.zeros(4, np.int16), [1.0]):
        with pytest.raises(ValueError, match="column 0"):
            Program([("column", 0)], columns=[column])


def test_each_form_refuses_what_only_the_other_can_read():
    arena = Arena(1)
    out = np.zeros(1)
    with pytest.raises(ValueError, match="evaluate_columns"):
        Program([("input", 0)]).evaluate(arena)
    with pytest.raises(ValueError, match="algo 1; the arena has 1"):
        Program([("algo", 1)]).evaluate(arena)
    for op in ("algo", "current_score"):
        with pytest.raises(ValueError, match="reads an arena"):
            Program([(op, 0)]).evaluate_columns([], out)
    with pytest.raises(ValueError, match="reads 2 columns, got 1"):
        Program([("input", 1)]).evaluate_columns([out], out)
    for column in (np.zeros(2), np.zeros(1, np.float32), np.zeros((1, 1)), 1.0):
        with pytest.raises(ValueError, match="column 0 must be"):
            Program([("input", 0)]).evaluate_columns([column], out)


def test_one_program_serves_many_threads():
    program = RankScore.compile("${a}^0.5*${x}+${current_score}").bind(
        {"a": ("algo", 0), "x": ("column", np.arange(500.0)), "current_score": ("current_score",)}.get
    )
    wrong = []

    def walk(seed):
        rng = np.random.default_rng(seed)
        arena = Arena(500, items_max=500)
        for _ in range(50):
            arena.count = int(rng.integers(1, 501))
            arena.row[:] = rng.permutation(500)
            arena.algo_score[0] = rng.random(500)
            arena.recall_score[:] = rng.random(500)
            program.evaluate(arena)
            expected = arena.algo_score[0] ** 0.5 * arena.row + arena.recall_score
            if not np.allclose(arena.score[: arena.count], expected[: arena.count], rtol=1e-15, atol=0):
                wrong.append(seed)

    threads = [threading.Thread(target=walk, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
