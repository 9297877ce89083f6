"""Strict JSON with places: bad text is refused at its line and column, good text knows where everything stands."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.config.positions import DEPTH_MAX, quote, read, render
from pairec_fast.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "path", "place"),
    [
        ('{"a": 1}', (), (1, 1)),
        ('  {"a": 1}', (), (1, 3)),
        ('{"a": 1}', ("a",), (1, 7)),
        ('{"a": {"b": [1,  22, {"c": null}]}}', ("a", "b", 1), (1, 18)),
        ('{"a": {"b": [1,  22, {"c": null}]}}', ("a", "b", 2, "c"), (1, 28)),
        ('{"a":\n\t\t[true,\n\tfalse]}', ("a", 1), (3, 2)),  # a tab is one column
        ('{"a":\r\n [1,\r\n  2]}', ("a", 1), (3, 3)),  # CRLF is one line end
        ('{"名前": "値", "é😀": 5}', ("é😀",), (1, 19)),  # columns are characters, neither bytes nor UTF-16 units
        ('{"\\u0061\\n": 7}', ("a\n",), (1, 14)),  # keys as they mean, places as they are written
        ('{"a": 1, "a": {"b": 2}}', ("a", "b"), (1, 21)),  # the last of two counts
        ('\ufeff{"a": 1}', ("a",), (1, 7)),  # editors do not count the byte order mark
    ],
)
def test_place_of_a_value_is_exact_to_the_column(text, path, place):
    assert read(text.encode(), "x").place(path) == place


def test_place_of_a_key_is_where_its_quote_opens():
    document = read(b'{"a":\n  {"b" : 1}}', "x")
    assert document.place(("a", "b"), key=True) == (2, 4)
    assert document.place(("a", "b")) == (2, 10)
    assert document.place(("a", "c")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: the file is empty; expected a JSON object"),
        (" \n\t", "1:1: the file is empty; expected a JSON object"),
        ("\ufeff", "1:1: the file is empty; expected a JSON object"),
        ('{"a": 1 "b": 2}', "1:9: expected ',' or '}', got \"\\\"\""),
        ("[1 2]", "1:4: expected ',' or ']', got \"2\""),
        ('{"a": 1', "1:8: expected ',' or '}', got the end of the file"),
        ('{\n  "a": 1,\n}', "2:9: a comma before the closing bracket is not JSON"),
        ("[1,]", "1:3: a comma before the closing bracket is not JSON"),
        ('{"a" 1}', "1:6: expected ':' after the key, got \"1\""),
        ("{a: 1}", '1:2: expected a key in double quotes, got "a"'),
        ("{'a': 1}", '1:2: expected a key in double quotes, got "\'"'),
        ('{"a": // why\n1}', "1:7: expected a value, got a comment, which JSON does not have"),
        ('{"a": 1 # why\n}', "1:9: expected ',' or '}', got a comment, which JSON does not have"),
        ('{"a": NaN}', '1:7: expected a value, got "N"'),
        ('{"a": 01}', "1:8: expected ',' or '}', got \"1\""),
        ('{"a": 1.}', "1:8: expected ',' or '}', got \".\""),
        ('{"a": +1}', '1:7: expected a value, got "+"'),
        ('{"a": 1e999}', "1:7: the number is too large for float64"),
        ('{"a": ' + "9" * 100_000 + "}", "1:7: the number is too large for float64"),
        ('{"a": ١}', '1:7: expected a value, got "١"'),  # digits, but not JSON's
        ('{"a": "b\n"}', "1:7: the text that starts here has no closing quote"),
        ('{"a": "b', "1:7: the text that starts here has no closing quote"),
        ('{"a": "b\t"}', "1:9: a control character (0x09) inside text; write \\u0009"),
        ('{"a": "b\\x"}', '1:9: unknown escape "\\\\x"; write \\\\ for a backslash'),
        ('{"a": "\\u12"}', '1:8: unknown escape "\\\\u"; write \\\\ for a backslash'),
        ('{"a": 1}\n}', '2:1: expected the end of the file, got "}"'),
        ('{"a": truefalse}', "1:11: expected ',' or '}', got \"f\""),
    ],
)
def test_bad_syntax_is_refused_at_its_place(text, message):
    with pytest.raises(ConfigError) as caught:
        read(text.encode(), "engine.json")
    assert str(caught.value) == f"engine.json:{message}"


def test_bytes_that_are_not_utf8_are_refused_at_their_place():
    with pytest.raises(ConfigError, match=r"^x:2:9: not UTF-8: byte 0xff at offset 11$"):
        read('{\n  "é": "'.encode() + b'\xff"}', "x")


def test_reader_agrees_with_the_standard_library_on_everything_else():
    text = (
        ' {"a" :[1,-0,2.5e-3 , 1E5,true,false,null,"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00"],"":{} ,"b":[]}\r\n'
    )
    assert read(text.encode(), "x").value == json.loads(text)


def test_lone_surrogates_become_the_replacement_character():
    """Go does so; kept, they would fail much later, when a record is encoded."""
    assert read(b'["\\ud800", "\\udc00x", "\\ud83d\\ude00"]', "x").value == ["\ufffd", "\ufffdx", "😀"]


def test_nesting_is_limited_long_before_the_stack_is():
    read(b"[" * DEPTH_MAX + b"1" + b"]" * DEPTH_MAX, "x")
    with pytest.raises(ConfigError, match=rf"^x:1:{DEPTH_MAX + 2}: nested deeper than {DEPTH_MAX} levels"):
        read(b"[" * 500_000, "x")
    with pytest.raises(ConfigError, match="expected a value"):
        read(b"{" + b'"a":{' * 20 + b'"a":', "x")


def test_names_in_messages_stay_on_one_line():
    assert quote('a"\n\u2028\ud800') == '"a\\"\\n\\u2028\\ud800"'
    assert len(quote("x" * 1_000_000)) == 62
    assert render(("SceneConfs", "home_feed", "a.b", 3, "")) == 'SceneConfs.home_feed["a.b"][3][""]'


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(st.text(alphabet='{}[]",:\\u01e.-+ntrfalse \n\t/' + string.ascii_letters, max_size=60))
def test_any_text_reads_as_the_standard_library_or_fails_with_a_place(text):
    def refuse(word):
        raise ValueError(word)

    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        with pytest.raises(ConfigError, match=r"^x:\d+:\d+: "):
            read(text.encode(), "x")
    else:
        if "\\u" not in text and "e" not in text.lower():  # surrogates and infinities are stricter here
            assert read(text.encode(), "x").value == expected


@given(_json)
def test_every_place_points_at_what_is_there(value):
    text = json.dumps(value, indent=2, ensure_ascii=False)
    document = read(text.encode(), "x")
    lines = text.split("\n")

    def visit(part, path):
        line, column = document.place(path)
        written = lines[line - 1][column - 1 :]
        if isinstance(part, dict):
            assert written.startswith("{")
            for key, inner in part.items():
                line, column = document.place((*path, key), key=True)
                assert lines[line - 1][column - 1 :].startswith(json.dumps(key, ensure_ascii=False))
                visit(inner, (*path, key))
        elif isinstance(part, list):
            assert written.startswith("[")
            for at, inner in enumerate(part):
                visit(inner, (*path, at))
        else:
            assert written.startswith(json.dumps(part, ensure_ascii=False))

    visit(value, ())
