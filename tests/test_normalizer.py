"""Normalizers: the contract's cases, the clock, chance, and failures as empty texts."""

from __future__ import annotations

import json
import math
import random
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import ROW, normalizer

CASES = [
    case
    for case in json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]
    if case["suite"] == "normalizer"
]


def at(column, row):
    """The value of one row of a column; None where it is missing."""
    if isinstance(column, tuple):
        codes, vocabulary = column
        return vocabulary[codes[row]] if codes[row] >= 0 else None
    value = column[row].item()
    return value if value == value else None


def check(case, value):
    expected, match = case["expected"], case["match"]
    if match.startswith("approx"):
        assert math.isclose(value, expected, rel_tol=float(match.partition(":")[2]))
    elif match == "exact":
        assert value == expected and type(value) is type(expected)
    elif "length" in expected:
        assert len(value) == expected["length"] and value[-1] == expected["last"]
    else:
        scale = 1000 if "milliseconds" in expected["equals"] else 1
        assert expected["type"] == "float" and type(value) is float
        assert abs(value - time.time() * scale) <= scale


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_contract(case):
    given = case["input"]
    computes = normalizer(given["normalizer"], given["expression"])
    check(case, computes.value(given["params"]))
    columns = {name: (np.zeros(2, np.int32), [value]) for name, value in given["params"].items()}
    check(case, at(computes.column(columns, 2), 1))


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_the_time_of_day_is_that_of_the_process(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for moment in (0.0, 1704067199.0, 1704067200.0, 1735603200.0, 1793370600.5):
            local = datetime.fromtimestamp(moment, ZoneInfo(zone))
            for name, expected in [
                ("hour_in_day", local.hour),
                ("weekday", local.weekday()),
                ("month", local.month),
                ("week", local.isocalendar().week),
            ]:
                computes = normalizer(name, clock=lambda moment=moment: moment)
                assert computes.value({}) == expected
                assert computes.column({}, 3).tolist() == [expected] * 3
    finally:
        monkeypatch.undo()
        time.tzset()


def test_random_is_drawn_for_each_row_from_0_to_99_and_repeats_with_its_seed():
    computes = normalizer("random", randomness=random.Random(1))
    column = computes.column({}, 5000)
    assert set(column.tolist()) == set(range(100))
    assert {computes.value({}) for _ in range(5000)} == set(range(100))
    again = normalizer("random", randomness=random.Random(1))
    np.testing.assert_array_equal(again.column({}, 5000), column)


def test_const_value_is_its_text_for_the_user_and_null_for_items():
    computes = normalizer("const_value", text="home")
    assert computes.value({"x": 1}) == "home"
    codes, vocabulary = computes.column({}, 2)
    assert [vocabulary[code] for code in codes] == [None, None]


def test_a_failure_is_the_empty_text():
    for name, text in (("expression", "price * 2"), ("expr", "price * 2")):
        computes = normalizer(name, text)
        assert computes.value({}) == ""
        assert computes.value({"price": "x"}) == ""
        column = computes.column({"price": np.array([1.5, math.nan])}, 2)
        assert [at(column, 0), at(column, 1)] == [3.0, ""]
        assert at(computes.column({}, 1), 0) == ""


def test_expr_sees_the_row_the_user_and_the_time():
    computes = normalizer("expr", "user.index - item.index + currentTime")
    scalars = {"item": ROW, "user": {"index": 13}, "currentTime": 100}
    column = computes.column({"index": np.array([5, 8])}, 2, scalars)
    assert column.dtype == np.int64 and column.tolist() == [108, 105]


def test_nil_is_missing_in_a_column():
    column = normalizer("expr", "item.x").column({"x": np.array([1.0, math.nan])}, 2, {"item": ROW})
    assert [at(column, 0), at(column, 1)] == [1.0, None]


def test_what_is_no_normalizer_is_refused():
    with pytest.raises(
        ConfigError, match='unknown Normalizer "holiday"; known are hour_in_day, weekday, month, week, random'
    ):
        normalizer("holiday")
    with pytest.raises(ConfigError, match="an operand is missing at the end"):
        normalizer("expr", "a +")
