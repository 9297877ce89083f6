"""Rows as typed tuples: what each type takes, and what it refuses rather than lose something."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pairec_fast.sink.tuples import PUBLIC, TYPES, Column, Tuples, Unfit

TAKEN = [
    ("string", "text", "text"),
    ("string", "", ""),
    ("string", 20.0, "20"),
    ("string", 7, "7"),
    ("string", True, "true"),
    ("string", {"b": [1], "a": "<"}, '{"a":"\\u003c","b":[1]}'),
    ("tinyint", -128, -128),
    ("smallint", "32767", 32767),
    ("integer", 1_700_000_000, 1_700_000_000),
    ("integer", 3.0, 3),
    ("integer", "3.0", 3),
    ("integer", "12e2", 1200),
    ("bigint", 2**63 - 1, 2**63 - 1),
    ("bigint", "-9223372036854775808", -(2**63)),
    ("double", 0.1, 0.1),
    ("double", 2**53, 9007199254740992.0),
    ("double", 2**60, float(2**60)),
    ("double", "1e-3", 0.001),
    ("float", 0.5, 0.5),
    ("float", 0.1, 0.10000000149011612),
    ("float", 16777217, 16777216.0),
    ("decimal", "12345678901234567890.10", Decimal("12345678901234567890.10")),
    ("decimal", 0.1, Decimal("0.1")),
    ("decimal", 5, Decimal(5)),
    ("boolean", True, True),
    ("boolean", "FALSE", False),
    ("timestamp", 1_700_000_000_000_000, 1_700_000_000_000_000),
    ("timestamp", "1970-01-01T00:00:01.5Z", 1_500_000),
    ("timestamp", "1970-01-01T01:00:00+01:00", 0),
    ("timestamp", "253402271999000000", 253_402_271_999_000_000),
]

REFUSED = [
    ("string", float("nan"), "no JSON text"),
    ("tinyint", 128, "beyond 8 bits"),
    ("smallint", -32769, "beyond 16 bits"),
    ("integer", 2**31, "beyond 32 bits"),
    ("bigint", 2**63, "beyond 64 bits"),
    ("bigint", "1" * 40, "beyond 64 bits"),
    ("bigint", 1.5, "no integer"),
    ("bigint", "1.5", "no integer"),
    ("bigint", "1_000", "no integer"),
    ("bigint", " 1", "no integer"),
    ("bigint", True, "no integer"),
    ("bigint", float("inf"), "no integer"),
    ("bigint", [1], "no integer"),
    ("double", 2**53 + 1, "no number that a double holds"),
    ("double", 10**400, "no number that a double holds"),
    ("double", "1e400", "not finite"),
    ("double", "nan", "no number"),
    ("double", False, "no number"),
    ("float", 1e39, "beyond 32 bits"),
    ("decimal", "1,5", "no number"),
    ("decimal", True, "no number"),
    ("boolean", 1, "neither true nor false"),
    ("boolean", "yes", "neither true nor false"),
    ("boolean", [], "neither true nor false"),
    ("timestamp", 2**62, "beyond the years"),
    ("timestamp", "2024-02-30T00:00:00Z", "no time"),
    ("timestamp", "yesterday", "no integer"),
]


@pytest.mark.parametrize(("kind", "given", "expected"), TAKEN)
def test_a_value_is_converted_where_nothing_is_lost(kind, given, expected):
    (value,) = Tuples([Column("f", kind)]).values({"f": given, "other": object()})
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(("kind", "given", "rule"), REFUSED)
def test_a_value_its_type_cannot_hold_is_refused_with_field_value_and_rule(kind, given, rule):
    with pytest.raises(Unfit, match=rule) as refused:
        Tuples([Column("f", kind)]).values({"f": given})
    assert str(refused.value).startswith("f: ") and str(refused.value).endswith(f"({kind})")


@pytest.mark.parametrize("kind", TYPES)
def test_missing_and_null_are_null_and_empty_is_null_but_for_text(kind):
    tuples = Tuples([Column("f", kind)])
    assert tuples.values({}) == tuples.values({"f": None}) == [None]
    assert tuples.values({"f": ""}) == ["" if kind == "string" else None]


def test_null_is_refused_where_the_topic_allows_none():
    with pytest.raises(Unfit, match="f: is missing, and the topic allows no null"):
        Tuples([Column("f", "bigint", allow_null=False)]).values({"g": 1})


def test_values_come_in_the_order_of_the_columns():
    columns = [Column("b", "string"), Column("a", "bigint"), Column("c", "double")]
    assert Tuples(columns).values({"a": 1, "c": 2, "b": "x"}) == ["x", 1, 2.0]


def test_the_public_set_is_that_of_the_page():
    assert {column.name: column.type for column in PUBLIC if column.type != "string"} == {"request_time": "integer"}
    assert len(PUBLIC) == 12


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(Unfit) as refused:
        Tuples([Column("f", "bigint")]).values({"f": "x" * 10_000})
    assert len(str(refused.value)) < 200
