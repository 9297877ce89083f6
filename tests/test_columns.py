"""Texts and rows of stores as columns: what the kernel reads is what its slow twin reads, value for value."""

from __future__ import annotations

import datetime
import decimal
import json
import random
import threading
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.core.columns import (
    MISSING,
    column_of,
    columns_of,
    hashes,
    integers,
    plain,
    prefixed,
    read_objects,
    read_pairs,
    read_vectors,
    rows_by_key,
    texts,
    values_of,
)
from pairec_fast.expression.convert import to_float
from pairec_fast.replies import from_json
from tests import reference_columns as reference

PIECES = [
    "0", "-0", "1", "12", "1_0", "_1", "1_", "1__0", "0x1p3", "0X_Ap-2", "0x_.8p1", "0x.8p1", "0x1", "1e5", "1E+5",
    "1e",
    "1e999", "-1e999", "1e-999", "5e-324", "1e-400", "0x1p-2000", "0x1p2000", ".5", "5.", ".", "+1", "+-1", "--1",
    "inf",
    "-Inf", "+INFINITY", "infinit", "nan", "NaN", "-nan", " 1", "1 ", "1,5", "", "abc", "é", "\0", "1\0", "2024-01-01",
    "9007199254740993", "123456789012345678901234567890", "0.1", "3.141592653589793238462643", "1e22", "1e23", "0e0",
    "-.0", "١", "1e1_0", "1e_1", "0b1", "0o7", "1.5p3", "infinity", "i", "n", "-", "+", "e5", "x",
]  # fmt: skip


def listed(column):
    """Values with their types; NaN as a text, so that it equals itself."""
    if isinstance(column, tuple):
        column = [MISSING if code < 0 else column[1][code] for code in column[0].tolist()]
    else:
        column = [MISSING if value != value else value for value in column.tolist()]
    return [(type(value), repr(value)) for value in column]


def assert_same(got, expected):
    assert list(got) == list(expected)
    for name, column in got.items():
        assert isinstance(column, tuple) == isinstance(expected[name], tuple), name
        assert listed(column) == listed(expected[name]), name
        if isinstance(column, tuple):
            assert column[0].dtype == np.int32
            assert [repr(one) for one in column[1]] == [repr(one) for one in expected[name][1]], "and in the same order"


@pytest.mark.parametrize("text", PIECES)
def test_a_text_is_a_number_where_go_takes_it_for_one(text):
    columns, names = read_pairs([f"a:{text}", "a:x"], ";", 10)
    assert names == 1
    assert_same(columns, {"a": reference.column_of([reference.numeric(text), "x"])})


@given(
    st.lists(st.none() | st.text(alphabet="ab:;,.01_xéen\0+-", max_size=30), max_size=8),
    st.sampled_from([",", ";", ";;"]),
)
def test_any_pairs_are_read_as_the_twin_reads_them(rows, delimiter):
    expected = reference.columns_of([reference.pairs(text, delimiter) if text else None for text in rows])
    columns, names = read_pairs(rows, delimiter, 1000)
    assert names == expected[1]
    assert_same(columns, expected[0])


def assert_objects(rows, most=1000):
    """As msgspec and the long way read them; only rows that these refuse, or hardly any text has, may be odd."""
    values, refused = [], []
    for row, text in enumerate(rows):
        try:
            values.append(from_json(text) if text else None)
        except (ValueError, OverflowError):
            values.append(None)
            refused.append(row)
    columns, _, odd = read_objects(rows, most)
    assert set(refused) <= set(odd)
    kept = [None if row in odd else one for row, one in enumerate(values)]
    assert_same(columns, reference.columns_of(kept, most)[0])
    return [row for row in odd if row not in refused]


SCALARS = (
    st.none() | st.booleans() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**70), 2**70) | st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 2**63, 2**64, 0, -0.0])
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=3)
)
OBJECTS = st.dictionaries(st.sampled_from(["a", "b", "é", "", 'x"\n']) | st.text(max_size=2), VALUES, max_size=5)


@given(st.lists(st.none() | OBJECTS, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_any_objects_are_read_as_the_long_way_reads_them(rows, ascii, indent):
    dumped = [None if row is None else json.dumps(row, ensure_ascii=ascii, indent=indent) for row in rows]
    dumped = [None if text is None or any("\ud800" <= one <= "\udfff" for one in text) else text for text in dumped]
    assert assert_objects(dumped) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "}", "{}", "null", "nul", "[]", "1", '"a"', "{a:1}", "{'a':1}", '{"a":1,}', '{"a":1}}', '{"a":01}',
        '{"a":1.}',
        '{"a":.5}', '{"a":+1}', '{"a":-}', '{"a":1e}', '{"a":1e999}', '{"a":1e-999}', '{"a":-0}',
        '{"a":[-0,-0.0,1,1e2]}',
        '{"a":tru}', '{"a":"\\x"}', '{"a":"\\ud800"}', '{"a":"\\udc00\\ud800"}', '{"a":"\\ud83d\\ude00"}', '{"a":"b',
        '{"\\u0061":1,"a":2}', '{"a":1,"a":"x"}', '{"a":"x","a":1}', '{"a":"\t"}', '{"a":"\x7f"}',
        ' \n{"a" : 1 , "b":\t2}\r ',
        '{"a":[}', '{"a":[1,]}', '{"a":{"b":}}', '{"a":{"b" 1}}', '{"a":[[[]]]}', '{"a":[{"b":"\\n"},{}]}',
        '{"a":1 2}', '{"a"}',
        '{"a":[9007199254740993,9007199254740992]}', '{"a":NaN}', '{"a":Infinity}', '\ufeff{"a":1}', '{"a":1}\0',
        '{"a":[1',
        '{"a":{', '{"a":{"b"', '{"a":{"b":1', '{"a":[,]}', '{,}', '{"a":{,}}',
    ],
)  # fmt: skip
def test_what_is_no_object_is_odd_and_leaves_nothing_behind(text):
    assert assert_objects(['{"a":1}', text, '{"b":"x"}']) == []


def test_only_what_is_nested_deep_or_very_long_is_odd_though_it_is_right():
    deep, long = '{"a":' + "[" * 33 + "]" * 33 + "}", '{"a":' + "1" * 101 + "}"
    assert assert_objects([deep, long, '{"a":2}']) == [0, 1]
    assert assert_objects(['{"a":' + "[" * 32 + "]" * 32 + "}", '{"a":' + "1" * 100 + "}"]) == []


def test_a_flipped_byte_never_makes_a_wrong_value():
    rng = random.Random(5)
    whole = '{"a":1.5,"b":"x\\u00e9y","c":[1,{"d":null}],"e":true,"f":-12,"g":9007199254740993}'
    for _ in range(3000):
        text = list(whole)
        for _ in range(rng.randint(1, 3)):
            text[rng.randrange(len(text))] = rng.choice('{}[]:,"\\0123456789.eE+-tfnulabx \n')
        if rng.random() < 0.2:
            text = text[: rng.randrange(len(text))]
        assert_objects([whole, "".join(text)])


def test_no_more_columns_than_asked_for_and_all_names_are_counted():
    columns, names = read_pairs([f"{row}:1,x:2" for row in range(50)], ",", 10)
    assert names == 51 and len(columns) == 10 and list(columns)[:2] == ["0", "x"]
    columns, names, odd = read_objects(['{"a":1,"b":2}', '{"c":"d"}'], 2)
    assert list(columns) == ["a", "b"] and names == 3 and odd == []
    assert columns_of([{"a": 1.0, "b": 2.0}, {"c": 3.0}], 2)[1] == 3


def test_nothing_at_all_is_no_column():
    for rows in ([], [None], ["", None]):
        assert read_pairs(rows, ",", 10) == ({}, 0) and read_objects(rows, 10) == ({}, 0, [])
        assert columns_of([None for _ in rows]) == ({}, 0)
    with pytest.raises(ValueError, match="delimiter must not be empty"):
        read_pairs([], "", 10)
    with pytest.raises(UnicodeEncodeError):
        read_pairs(["\ud800:1"], ",", 10)
    with pytest.raises(TypeError):
        read_pairs([b"a:1"], ",", 10)
    with pytest.raises(TypeError, match="expected dicts, got list"):
        columns_of([[1]])


def test_a_number_beside_texts_keeps_its_sign_and_its_place():
    columns, _ = read_pairs(["a:x", "a:-0", "a:0", "a:x", "a:nan", "a:nan"], ",", 10)
    codes, words = columns["a"]
    assert codes.tolist() == [0, 1, 2, 0, 3, 3] and repr(words) == "['x', -0.0, 0.0, nan]"


VALUE = SCALARS | st.just(MISSING) | st.just([1]) | st.floats() | st.sampled_from([True, 1, 1.0, "1", 0.0, -0.0])


@given(st.lists(VALUE, max_size=10))
def test_values_of_any_kind_keep_their_types(values):
    got = column_of(values)
    expected = reference.column_of(values)
    assert isinstance(got, tuple) == isinstance(expected, tuple)
    if isinstance(got, tuple):
        given = [MISSING if code < 0 else got[1][code] for code in got[0].tolist()]
        assert [type(one) for one in given] == [type(one) for one in values]
        assert all(one == other or one != one for one, other in zip(given, values, strict=True))
    else:
        np.testing.assert_array_equal(got.view(np.int64), expected.view(np.int64))


@given(
    st.lists(
        st.none() | st.dictionaries(st.sampled_from("abc"), st.floats(0, 1) | st.text(max_size=2), max_size=3),
        max_size=6,
    )
)
def test_objects_of_python_are_columns_too(entries):
    columns, names = columns_of(entries)
    expected = reference.columns_of(entries)
    assert names == expected[1]
    assert_same(columns, expected[0])


@pytest.mark.parametrize("separator", [",", ";", ";;"])
def test_vectors_are_read_as_the_twin_reads_them(separator):
    rng = np.random.default_rng(3)
    for dims in (1, 2, 64):
        rows = [[str(rng.normal() * 10.0 ** rng.integers(-40, 40)), *rng.choice(PIECES, dims - 1)] for _ in range(20)]
        given = [separator.join(row).replace("{", "") for row in rows]
        given = [f"{{{text}}}" if at % 2 else text for at, text in enumerate(given)]
        if all(len(text.strip("{}").split(separator)) == dims for text in given):
            with np.errstate(over="ignore"):
                expected = [[to_float(part, 0.0) for part in text.strip("{}").split(separator)] for text in given]
                expected = np.array(expected).astype(np.float32)
            got = read_vectors(given, separator)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))
    assert read_vectors([], ",").shape == (0, 0) and read_vectors([""], ",").tolist() == [[0.0]]
    with pytest.raises(ValueError) as error:
        read_vectors(["1,2", "3,4", "5"], ",")
    assert error.value.args == (2, "1 numbers, others have 2")


def test_null_is_a_value_or_missing_as_is_asked():
    assert columns_of([{"a": None}, {"a": 1.0}])[0]["a"][1] == [None, 1.0]
    np.testing.assert_array_equal(columns_of([{"a": None}, {"a": 1.0}], nulls=False)[0]["a"], [np.nan, 1.0])
    assert columns_of([{"a": None}], nulls=False) == ({}, 1)


def test_integers_are_doubles_where_that_is_asked():
    entries = [{"a": 1}, {"a": True}, {"b": 2}]
    assert listed(columns_of(entries, doubles=True)[0]["a"])[:2] == [(float, "1.0"), (bool, "True")]
    assert columns_of(entries, doubles=True)[0]["b"].tolist()[2] == 2.0
    assert values_of([{"a": 1}, {}], "a") == [1, MISSING]


def test_of_several_rows_with_one_key_the_last_counts():
    rows = [("a", 1, None), ("b", decimal.Decimal("2.5"), "x"), ("a", 3, "y")]
    assert rows_by_key(["b", "a", "c"], ["n", "t"], rows) == [{"n": 2.5, "t": "x"}, {"n": 3, "t": "y"}, None]
    assert rows_by_key(["a"], ["n", "n"], [("a", 1, 2)]) == [{"n": 2}]
    for narrow in [("a",)], [("a", 1, 2)]:
        with pytest.raises(ValueError, match="expected 2 values"):
            rows_by_key(["a"], ["n"], narrow)


def test_an_error_among_hashes_stays_and_empty_values_are_none():
    error = ValueError("x")
    assert hashes(["a", "b"], [["1", None], [None, ""], error]) == [{"a": "1"}, None, error]
    assert hashes([], [{"a": "1"}, {}]) == [{"a": "1"}, {}]
    with pytest.raises(ValueError, match="expected 2 values, got 1"):
        hashes(["a", "b"], [["1"]])


def test_keys_that_a_number_cannot_hold_are_not_asked_for():
    keys = [
        "0",
        "-0",
        "01",
        "7",
        "-8",
        "32767",
        "32768",
        "-32768",
        "-32769",
        "",
        "-",
        "x",
        "1.0",
        "١",
        "9" * 30,
        "--1",
        "+1",
    ]
    assert integers(keys, -(2**15), 2**15 - 1) == ["0", "7", "-8", "32767", "-32768"]
    assert integers([str(2**63 - 1), str(2**63), str(-(2**63))], -(2**63), 2**63 - 1) == [str(2**63 - 1), str(-(2**63))]
    assert prefixed("p:", ["a", ""]) == ["p:a", "p:"] and texts([b"a\xff", None]) == ["a\ufffd", None]


def test_values_of_sql_are_those_that_properties_have():
    assert plain(decimal.Decimal("1.5")) == 1.5 and plain(b"a\xff") == "a\ufffd" and plain(None) is None
    assert plain(datetime.datetime(2026, 1, 2, 3, 4, 5)) == "2026-01-02 03:04:05"
    assert plain([1, "a"]) == ["1", "a"] and plain({"a": [1]}) == '{"a":[1]}' and plain([{"a": 1}]) == '[{"a":1}]'
    assert plain(uuid.UUID(int=1)).endswith("01")


def test_many_threads_may_read_at_once():
    rows = [json.dumps({"a": number, "b": f"w{number % 7}", "c": [number]}) for number in range(500)]
    expected, wrong = reference.columns_of([from_json(text) for text in rows])[0], []

    def work():
        for _ in range(20):
            try:
                assert_same(read_objects(rows, 10)[0], expected)
            except AssertionError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
