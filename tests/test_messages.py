"""What a request may say: any bytes are a request or a refusal in PAI-Rec's words, and nothing else, at once."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.errors import RequestError
from pairec_fast.messages import (
    CallbackRequest,
    RecommendRequest,
    decode,
    error_answer,
    go_float,
    go_json,
    request_of,
)
from tests.worlds import suite


def refusal(body: bytes, kind=RecommendRequest) -> str:
    with pytest.raises(RequestError) as caught:
        decode(body, kind)
    assert caught.value.code == 400
    return str(caught.value)


# What is read


@pytest.mark.parametrize(
    ("body", "uid"),
    [
        ('{"uid":"a"}', "a"),
        ('{"UID":"a"}', "a"),
        ('{"Uid":"a","uid":"b"}', "b"),
        ('{"uid":"b","Uid":"a"}', "b"),  # an exact key counts, wherever it stands
        ('{"uid":"a","uid":"b"}', "b"),  # of two, the last
        ('{"UID":"a","Uid":"b"}', "b"),
        ('{"uid":null}', ""),
        ("null", ""),
        ("{}", ""),
        (' \n{"uid":"a"}\t', "a"),
        ('{"unknown":{"deep":[1,{}]},"uid":"a"}', "a"),
        ('{"\\u0075id":"a"}', "a"),
        ('{"uid":"\\ud83d\\ude00"}', "\U0001f600"),
        ('{"uid":"a\\u0000b"}', "a\0b"),
    ],
)
def test_keys_match_as_in_go(body, uid):
    assert decode(body.encode(), RecommendRequest) == RecommendRequest(uid=uid)


def test_every_field_is_read_under_its_name_in_any_case():
    values = {
        "uid": "u", "scene_id": "s", "size": -3, "request_id": "r", "category": "c", "features": {"a": [1, None]},
        "complex_type_features": [{"name": "x"}], "item_id": "i", "item_list": [{"item_id": 7}], "debug": True,
    }  # fmt: skip
    expected = RecommendRequest(**values)
    assert decode(json.dumps(values).encode(), RecommendRequest) == expected
    shouted = {name.upper(): value for name, value in values.items()}
    assert decode(json.dumps(shouted).encode(), RecommendRequest) == expected
    nulls = dict.fromkeys(values)
    assert decode(json.dumps(nulls).encode(), RecommendRequest) == RecommendRequest()


def test_requests_do_not_share_what_they_hold():
    first = decode(b'{"uid":"a"}', RecommendRequest)
    first.features["x"] = 1
    first.item_list.append({})
    assert decode(b'{"uid":"a"}', RecommendRequest) == RecommendRequest(uid="a")
    assert decode(b'{"UID":"a"}', RecommendRequest) == RecommendRequest(uid="a")


def test_null_entries_of_an_item_list_are_empty_objects():
    request = decode(b'{"item_list":[null,{"item_id":"a"}]}', CallbackRequest)
    assert request.item_list == [{}, {"item_id": "a"}]


@pytest.mark.parametrize(
    ("body", "uid"),
    [
        (b'{"uid":"a\xff"}', "a\ufffd"),
        (b'{"uid":"a\xc3"}', "a\ufffd"),
        (b'{"uid":"\\ud800"}', "\ufffd"),
        (b'{"uid":"\\uD800x"}', "\ufffdx"),
        (b'{"uid":"\\ud800\\u0041"}', "\ufffdA"),
        (b'{"uid":"\\udc00\\ud83d\\ude00"}', "\ufffd\U0001f600"),
        (b'{"uid":"\\ud83d\\ud83d\\ude00"}', "\ufffd\U0001f600"),
        (b'{"uid":"\\\\ud800","x":"\\ud800"}', "\\ud800"),  # an escaped backslash escapes nothing after it
        (b'{"uid":"\\\\\\ud800"}', "\\\ufffd"),
    ],
)
def test_text_that_is_not_unicode_becomes_the_replacement_character(body, uid):
    assert decode(body, RecommendRequest).uid == uid


@pytest.mark.parametrize("size", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_sizes_of_64_bits_are_read_exactly(size):
    assert decode(b'{"size":%d}' % size, RecommendRequest).size == size
    assert decode(b'{"Size":%d}' % size, RecommendRequest).size == size


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**308])
def test_big_integers_among_features_are_kept_as_long_as_a_double_reaches(number):
    assert decode(b'{"features":{"x":%d}}' % number, RecommendRequest).features == {"x": number}


# What is refused

STRUCT = "json: cannot unmarshal {} into Go struct field RecommendParam.{} of type {}"
OBJECT = "map[string]interface {}"


@pytest.mark.parametrize(
    ("body", "given", "field", "kind"),
    [
        ('{"uid":1}', "number", "uid", "string"),
        ('{"uid":1.5}', "number", "uid", "string"),
        ('{"UID":true}', "bool", "uid", "string"),
        ('{"uid":[]}', "array", "uid", "string"),
        ('{"uid":{}}', "object", "uid", "string"),
        ('{"uid":1,"scene_id":2}', "number", "uid", "string"),
        ('{"size":"1"}', "string", "size", "int"),
        ('{"size":1.5}', "number 1.5", "size", "int"),
        ('{"size":1.0}', "number 1.0", "size", "int"),
        ('{"size":9223372036854775808}', "number 9223372036854775808", "size", "int"),
        ('{"size":-9223372036854775809}', "number -9223372036854775809", "size", "int"),
        ('{"size":true}', "bool", "size", "int"),
        ('{"debug":1}', "number", "debug", "bool"),
        ('{"debug":"true"}', "string", "debug", "bool"),
        ('{"features":[]}', "array", "features", OBJECT),
        ('{"features":"{}"}', "string", "features", OBJECT),
        ('{"complex_type_features":{}}', "object", "complex_type_features", "[]interface {}"),
        ('{"item_list":{}}', "object", "item_list", "[]map[string]interface {}"),
        ('{"item_list":[{},1]}', "number", "item_list", OBJECT),
        ('{"item_list":["a"]}', "string", "item_list", OBJECT),
        ('{"item_list":[[]]}', "array", "item_list", OBJECT),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_in_the_words_of_go(body, given, field, kind):
    assert refusal(body.encode()) == STRUCT.format(given, field, kind)


def test_callback_fields_that_the_public_table_calls_strings_must_be_objects():
    for field in ("features", "request_info"):
        assert refusal(b'{"%s":"{}"}' % field.encode(), CallbackRequest) == STRUCT.replace(
            "RecommendParam", "CallBackParam"
        ).format("string", field, OBJECT)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "request body empty"),
        (b" ", "unexpected end of JSON input"),
        (b'{"uid":', "unexpected end of JSON input"),
        (b'{"uid":"a', "unexpected end of JSON input"),
        (b'{"uid":"a"', "unexpected end of JSON input"),
        (b"[]", "json: cannot unmarshal array into Go value of type web.RecommendParam"),
        (b'"x"', "json: cannot unmarshal string into Go value of type web.RecommendParam"),
        (b"1", "json: cannot unmarshal number into Go value of type web.RecommendParam"),
        (b"true", "json: cannot unmarshal bool into Go value of type web.RecommendParam"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b'{"uid":"a"} {}', "invalid character '{' after top-level value"),
        (b"{uid:1}", "invalid character 'u' looking for beginning of object key string"),
        (b"{'uid':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"uid":"a",}', "invalid character '}' looking for beginning of object key string"),
        (b'{"uid" "a"}', "invalid character '\"' after object key"),
        (b'{"uid":"a\nb"}', "invalid character '\\n' in string literal"),
        (b'{"uid":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"features":{"x":-Infinity}}', "invalid character 'I' looking for beginning of value"),
        (b'\xef\xbb\xbf{"uid":"a"}', "invalid character '\\ufeff' looking for beginning of value"),
        (b"\0", "invalid character '\\x00' looking for beginning of value"),
    ],
)
def test_what_is_no_json_object_is_refused_in_the_words_of_go(body, message):
    assert refusal(body) == message


@pytest.mark.parametrize(
    "body",
    [
        b'{"features":{"x":1e400}}',
        b'{"features":{"x":[-1e400]}}',
        b'{"features":{"x":%s}}' % (b"9" * 309),
        b'{"features":{"x":[{"y":-%s}]}}' % (b"9" * 4000),
        b'{"features":{"x":%s}}' % (b"9" * 1_000_000),
        b'{"uid":%s}' % (b"9" * 1_000_000),
        b'{"item_list":[{"score":%s}]}' % (b"9" * 400),
        b'{"features":{"x":%d}}' % (2**1024 - 1),
        b'{"features":{"x":-%d}}' % (2**1024 - 2**970),  # rounded to even, and that is 2**1024
        b'{"uid":"a","UNKNOWN":1,"features":{"x":%s}}' % (b"9" * 400),
    ],
    ids=lambda body: f"{len(body)} bytes",
)
def test_numbers_beyond_a_double_are_refused(body):
    assert "out of range" in refusal(body)


def test_the_largest_integers_that_are_a_double_when_rounded_are_taken():
    largest = 2**1024 - 2**970 - 1
    assert decode(b'{"features":{"x":%d}}' % largest, RecommendRequest).features == {"x": largest}


def test_long_runs_of_digits_in_texts_are_texts():
    assert decode(b'{"uid":"%s"}' % (b"9" * 400), RecommendRequest).uid == "9" * 400


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"features":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
    ],
    ids=["open", "features", "unknown", "objects"],
)
def test_deep_nesting_is_refused(body):
    assert refusal(body) == "exceeded max depth"


@pytest.mark.parametrize(
    "byte", [b"x", b"\xff", b'"', b"{", b"[", b" ", b"\\", b"9", b"\0", b'{"', b'"\\u', b"\\ud800"]
)
def test_a_megabyte_of_garbage_is_refused_at_once(byte):
    begin = time.process_time()
    refusal(byte * ((1 << 20) // len(byte)))
    refusal(b'{"uid":"' + byte * ((1 << 20) // len(byte)))
    assert time.process_time() - begin < 1  # seconds; about 0.02 each


KEYS = st.sampled_from(["uid", "UID", "size", "features", "item_list", "debug", "x"])
TOKENS = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"uid", b"\\", b"\\ud800", b"1e9", b"-", b" ", b"\xff"]
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
)


@given(
    st.binary(max_size=200)
    | JSON_LIKE.map(lambda value: json.dumps(value).encode())
    | st.lists(st.sampled_from(TOKENS), max_size=30).map(b"".join)
)
def test_any_bytes_are_a_request_or_a_refusal(body):
    for kind in (RecommendRequest, CallbackRequest):
        try:
            assert isinstance(decode(body, kind), kind)
        except RequestError as error:
            assert list(json.loads(error_answer(error))) == ["code", "msg", "request_id"]


def test_requests_from_python_are_checked_as_those_from_json():
    request = RecommendRequest(uid="a")
    assert request_of(request, RecommendRequest) is request
    assert request_of({"UID": "a", "features": {"x": (1, 2)}}, RecommendRequest).features == {"x": [1, 2]}
    loop: list = []
    loop.append(loop)
    for bad in (
        {"uid": 1},
        {"size": 2**64},
        {"features": {"x": object()}},
        {"features": {"x": loop}},
        {"uid": "\ud800"},
    ):
        with pytest.raises(RequestError):
            request_of(bad, RecommendRequest)


# What is written


@pytest.mark.parametrize("case", suite("json_encoding"), ids=lambda case: case["id"])
def test_shared_cases_of_json_encoding(case):
    value = {
        key: float(part) if key in case["input"]["float_keys"] else part
        for key, part in case["input"]["object"].items()
    }
    assert go_json(value) == case["expected"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (20.0, "20"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (-2.5, "-2.5"),
        (1e20, "100000000000000000000"), (123456789012345680000.0, "123456789012345680000"),
        (999999999999999900000.0, "999999999999999900000"), (1e21, "1e+21"), (1.5e300, "1.5e+300"),
        (1e-6, "0.000001"), (1.25e-6, "0.00000125"), (9.99e-7, "9.99e-7"), (1e-7, "1e-7"), (-1e-10, "-1e-10"),
        (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"), (2.0**53, "9007199254740992"),
    ],
)  # fmt: skip
def test_doubles_are_written_as_go_writes_them(value, text):
    assert go_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_read_back_the_same(value):
    text = go_float(value)
    assert float(text) == value and math.copysign(1, float(text)) == math.copysign(1, value)
    assert not text.endswith(".0") and "e0" not in text and "e+0" not in text and "e-0" not in text


def test_json_text_is_compact_sorted_and_escaped():
    value = {"b": [1, None, True, 'a"\\\n\x01<>&\u2028\u2029é'], "a": {}, "B": [], "\U0001f600": 1, "\uffff": 2}
    assert go_json(value) == (
        '{"B":[],"a":{},"b":[1,null,true,"a\\"\\\\\\n\\u0001\\u003c\\u003e\\u0026\\u2028\\u2029é"],"\uffff":2,"\U0001f600":1}'
    )
    assert go_json({10: 1, 9: 2}) == '{"10":1,"9":2}'  # sorted as texts


def test_one_number_that_json_lacks_makes_the_whole_text_empty():
    for value in (math.nan, math.inf, -math.inf):
        assert go_json({"a": 1, "b": [{"c": value}]}) == ""
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    assert go_json(deep) == ""


@given(JSON_LIKE)
def test_json_text_means_what_was_given(value):
    text = go_json(value)
    if text:
        assert json.loads(text, parse_int=float) == json.loads(json.dumps(value), parse_int=float)
