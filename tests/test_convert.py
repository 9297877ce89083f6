"""Conversions of values and times: Go's grammar, which configurations were written against."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairec_fast.expression.convert import (
    INT_MIN,
    to_float,
    to_int,
    to_int_array,
    to_string,
    to_string_array,
    to_time,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("value", "as_int", "as_float", "as_string"),
    [
        (True, -9, -9.0, "?"),
        (None, -9, -9.0, "?"),
        ([1], -9, -9.0, "?"),
        (42, 42, 42.0, "42"),
        (-3.9, -3, -3.9, "-3.9"),
        (3.0, 3, 3.0, "3"),
        (-0.0, 0, -0.0, "-0"),
        (1e21, INT_MIN, 1e21, "1" + "0" * 21),
        (1e-7, 0, 1e-7, "0.0000001"),
        (NAN, INT_MIN, NAN, "NaN"),
        (INF, INT_MIN, INF, "+Inf"),
        (2.0**63, INT_MIN, 2.0**63, "9223372036854776000"),
        (np.float32(0.5), 0, 0.5, "0.5"),
        (np.int64(7), 7, 7.0, "7"),
        (np.bool_(True), -9, -9.0, "?"),
        ("+5", 5, 5.0, "+5"),
        ("-007", -7, -7.0, "-007"),
        ("9223372036854775808", -9, 2.0**63, "9223372036854775808"),
        (" 5", -9, -9.0, " 5"),
        ("5\n", -9, -9.0, "5\n"),
        ("1_000", -9, 1000.0, "1_000"),
        ("1__0", -9, -9.0, "1__0"),
        ("_1", -9, -9.0, "_1"),
        ("1_.5", -9, -9.0, "1_.5"),
        ("42.5", -9, 42.5, "42.5"),
        (".5", -9, 0.5, ".5"),
        ("5.", -9, 5.0, "5."),
        (".", -9, -9.0, "."),
        ("1e5", -9, 1e5, "1e5"),
        ("1E-2", -9, 0.01, "1E-2"),
        ("1e400", -9, -9.0, "1e400"),
        ("1e-400", -9, 0.0, "1e-400"),
        ("0x10", -9, -9.0, "0x10"),
        ("0x10p0", -9, 16.0, "0x10p0"),
        ("-0X1.8P1", -9, -3.0, "-0X1.8P1"),
        ("0x_1p-1", -9, 0.5, "0x_1p-1"),
        ("0x1p99999", -9, -9.0, "0x1p99999"),
        ("Infinity", -9, INF, "Infinity"),
        ("-inf", -9, -INF, "-inf"),
        ("nAn", -9, NAN, "nAn"),
        ("-nan", -9, -9.0, "-nan"),
        ("٣", -9, -9.0, "٣"),
        ("", -9, -9.0, ""),
    ],
)
def test_conversions_follow_go_and_not_python(value, as_int, as_float, as_string):
    assert to_int(value, -9) == as_int
    np.testing.assert_equal(to_float(value, -9.0), as_float)
    assert to_string(value, "?") == as_string


def test_conversions_to_lists():
    assert to_string_array(["a", "", 1, 2.5, True, None, ["b"]]) == ["a", "1", "2.5"]
    assert to_int_array(["a", "7", 1, 2.5, True]) == [0, 7, 1, 2, 0]
    assert to_string_array("a") == to_int_array(7) == to_int_array(None) == []


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("2024-01-01", "2024-01-01 00:00:00"),
        ("2024-01-01 10:01", "2024-01-01 10:01:00"),
        ("2024-01-01 9:01", "2024-01-01 09:01:00"),
        ("2024-01-01T10:00:00Z", "2024-01-01 10:00:00"),
        ("2024-01-01T10:00:00+08:00", "2024-01-01 02:00:00"),
        ("2024-01-01T10:00:00.25+08:00", "2024-01-01 02:00:00.25"),
        ("2024-01-01 10:00:00-01:30", "2024-01-01 11:30:00"),
        ("2024-01-01T10Z", "2024-01-01 10:00:00"),
        ("2024-01-01T10:30+0800", "2024-01-01 02:30:00"),
        ("2024-01-01T10:30:05.5+0800", "2024-01-01 02:30:05.500"),
        ("Mon Jan  1 10:00:00 2024", "2024-01-01 10:00:00"),
        ("Mon Jan 11 10:00:00 UTC 2024", "2024-01-11 10:00:00"),
        ("Mon Jan 01 10:00:00 -0700 2024", "2024-01-01 17:00:00"),
        ("3:04PM", "0000-01-01 15:04:00"),
        ("12:04AM", "0000-01-01 00:04:00"),
        ("2024-02-29", "2024-02-29 00:00"),
    ],
)
def test_time_texts(text, same_as):
    assert to_time(text) is not None
    assert to_time(text) == to_time(same_as)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-1-1", "2024-02-30", "2024-01-01 24:00:00", "2024-01-01 10:60", "2024-01-01 10:00:60",
     "20240101", "2024-01-01T10:00:00", "13:04PM", "3:04pm", " 2024-01-01", "2024-01-01\n", 20240101, None, True,
     "Foo Jan  1 10:00:00 2024"],
)  # fmt: skip
def test_texts_that_are_no_time(text):
    assert to_time(text) is None


def test_times_compare_across_formats_and_order():
    ordered = ["3:04PM", "0001-01-01", "1969-12-31 23:59:59.999999999", "1970-01-01", "2024-01-01T00:00:00.000000001Z"]
    times = [to_time(text) for text in ordered]
    assert times == sorted(times) and len(set(times)) == len(times)
