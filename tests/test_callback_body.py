"""The short way of an ordinary callback: the bytes of the long way, or none at all."""

from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.app import App
from pairec_fast.callback import Record, encode, without_empty
from pairec_fast.core import CallbackBody, read_segments
from pairec_fast.expression.convert import to_string
from pairec_fast.messages import CallbackRequest, decode, with_texts
from pairec_fast.query import merged_features
from tests.worlds import CALLBACK, LOGGED, ask

FIRST = b'"uid":"u","request_id":"r","scene_id":"s"'


def body(item_list=b'[{"item_id":"a"}]', **fields: bytes) -> bytes:
    more = b"".join(b',"%s":%s' % (name.encode(), value) for name, value in fields.items())
    return b"{" + FIRST + b',"item_list":' + item_list + more + b"}"


def long_way(body: bytes, kept: int) -> bytes:
    request = decode(body, CallbackRequest)
    items = [entry | {"item_id": to_string(entry["item_id"], "")} for entry in request.item_list[:kept]]
    features = without_empty(merged_features(with_texts(request.features), request.complex_type_features))
    return encode(
        Record(
            request.scene_id, request.request_id, 7, request.uid, features, request.request_info, items,
            fingerprint="f", positions=list(range(len(items))),
        )
    )  # fmt: skip


def agree(body: bytes) -> bool:
    """Whether the body is ordinary; if it is, both ways make the same of it."""
    short = CallbackBody.read(body)
    if short is None:
        return False
    request = decode(body, CallbackRequest)
    assert (short.uid, short.request_id, short.scene_id) == (request.uid, request.request_id, request.scene_id)
    assert short.items == len(request.item_list) and short.body is body
    for kept in {0, 1, short.items}:
        assert short.record(7, "f", kept) == long_way(body, kept)
    return True


def test_a_small_body_by_hand():
    short = CallbackBody.read(body(features=b'{"a":1,"b":""}'))
    assert short is not None and (short.uid, short.request_id, short.scene_id, short.items) == ("u", "r", "s", 1)
    assert short.record(7, "f", 1) == (
        b"\x9a\xa1s\xa1r\x07\xa1u\x81\xa1a\x01\x80\x91\x81\xa7item_id\xa1a\xa0\xa1f\x91\x00"
    )
    for kept in (-1, 2):
        with pytest.raises(ValueError, match=f"kept must be 0 to 1, the number of items, got {kept}"):
            short.record(7, "f", kept)


ORDINARY = [
    body(), body(debug=b"true"), body(complex_type_features=b"[ ]"), body(features=b"{}", request_info=b"{}"),
    b" \n\t\r" + body().replace(b":", b" : ").replace(b",", b"\n,\t") + b" \r\n", body(b'[{"item_id":12}]'),
    body(b'[{"item_id":-18446744073,"x":1}]'), body(b'[{"x":{"y":[1,[2,{"z":null}]]},"item_id":"a"}]'),
    body(features=b'{"a":"","b":"x","c":"","d":["",""],"e":[],"f":false,"g":null,"":1}'),
    body(features=b'{"history":["a","b"],"city":"\xe7\x94\xb5\xe5\xbd\xb1"}'),
    body(features=rb'{"a\"b":"\\ \/ \b\f\n\r\t \u0000 \u00e9 \u20ac \ud83d\ude00 \uFFFF"}'),
    body(request_info=b'{"' + b"k" * 40 + b'":"' + b"v" * 70_000 + b'","w":"' + b"w" * 300 + b'"}'),
    body(features=b"{" + b",".join(b'"f%d":%d' % (n, n) for n in range(64)) + b"}"),
    body(b"[" + b",".join(b'{"item_id":"i%d"}' % n for n in range(70_00)) + b"]"),
    body(request_info=b'{"x":[' + b",".join(b"%d" % n for n in range(20)) + b"]}"),
]  # fmt: skip


@pytest.mark.parametrize("body", ORDINARY, ids=lambda body: body[40:100].decode(errors="replace"))
def test_ordinary_bodies_take_the_short_way_and_leave_the_same_record(body):
    assert agree(body)


NUMBERS = """
    0 1 127 128 255 256 65535 65536 4294967295 4294967296 9223372036854775807
    -1 -32 -33 -128 -129 -32768 -32769 -2147483648 -2147483649 -9223372036854775808 0.0 -0.0 1.0 0.1 1e5
    1E+5 1e-7 2.5e-300 5e-324 1.7976931348623157e308 0.30000000000000004 9007199254740993.0
"""


@pytest.mark.parametrize("number", NUMBERS.split())
def test_numbers_of_every_size_are_packed_as_the_long_way_packs_them(number):
    assert agree(body(features=b'{"x":%s}' % number.encode(), request_info=b'{"x":[%s ]}' % number.encode()))


DEEP = b'{"x":' + b"[" * 40 + b"]" * 40 + b"}"
NOT_ORDINARY = [
    b"", b"{", b"[]", b"null", body() + b"x", body()[:-1], body()[:-1] + b",}", body(b"[]"), body(b"null"), body(b"{}"),
    body(b'["a"]'), body(b"[{}]"), body(b'[{"item_id":""}]'), body(b'[{"item_id":1.5}]'), body(b'[{"item_id":true}]'),
    body(b'[{"item_id":null}]'), body(b'[{"item_id":"a"},]'), body(b'[{"item_id":"a","item_id":"b"}]'),
    body(b'[{"item_id":-0}]'), body(b'[{"item_id":99999999999999999999}]'), body(b'[{"Item_id":"a"}]'),
    body(unknown=b"1"), body(uid=b'"again"'), body(UID=b'"u"'), body(debug=b"1"), body(debug=b"truex"),
    body(complex_type_features=b"[1]"), body(complex_type_features=b"null"), body(request_info=b"null"),
    body(features=b"null"), body(features=b"[]"), body(features=b'{"a":{"b":1}}'), body(features=b'{"a":[1]}'),
    body(features=b'{"a":1,"a":2}'), body(features=b'{"a":1,"a":""}'), body(features=b'{"a":"","b":1,"a":3}'),
    body(request_info=b'{"x":{"a":1,"b":2,"a":3}}'), body(request_info=DEEP), body(features=b'{"x":1,}'),
    body(features=b'{"x" 1}'), body(features=b"{x:1}"), body(features=b'{"x":01}'), body(features=b'{"x":1.}'),
    body(features=b'{"x":.5}'), body(features=b'{"x":1e}'), body(features=b'{"x":+1}'), body(features=b'{"x":-}'),
    body(features=b'{"x":-0}'), body(features=b'{"x":1e400}'), body(features=b'{"x":1e-400}'),
    body(features=b'{"x":9223372036854775808}'), body(request_info=b'{"x":18446744073709551616}'),
    body(features=b'{"x":-9223372036854775809}'),
    body(features=b'{"x":NaN}'), body(features=b'{"x":0x10}'), body(features=b'{"x":1_0}'), body(features=b'{"x":tru}'),
    body(features=b'{"x":"\n"}'), body(features=b'{"x":"\0"}'), body(features=b'{"x":"\x1f"}'),
    body(features=b'{"x":"\xff"}'), body(features=b'{"\xed\xa0\x80":1}'), body(features=b'{"x":"\xc0\x80"}'),
    body(features=rb'{"x":"\ud800"}'), body(features=rb'{"x":"\udc00"}'), body(features=rb'{"x":"\ud800\u0041"}'),
    body(features=rb'{"x":"\u12"}'), body(features=rb'{"x":"\u+123"}'), body(features=rb'{"x":"\x41"}'),
    body().replace(b'"r"', b'""'), body().replace(b'"u"', b'""'), body().replace(b'"s"', b"1"),
    body(features=b"{" + b",".join(b'"f%d":%d' % (n, n) for n in range(65)) + b"}"),
]  # fmt: skip


@pytest.mark.parametrize("body", NOT_ORDINARY, ids=lambda body: body[40:100].decode(errors="backslashreplace"))
def test_what_is_not_ordinary_is_left_to_the_long_way(body):
    assert CallbackBody.read(body) is None


TEXT = st.text(max_size=12) | st.sampled_from(["", "<&>", "a" * 31, "a" * 32, "é" * 16, "\u2028", "\U0001f600"])
SCALAR = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.recursive(
    SCALAR | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
ITEM = st.builds(
    lambda before, id, after: before | {"item_id": id} | after,
    st.dictionaries(TEXT, VALUE, max_size=2), TEXT.filter(bool) | st.integers(-(2**63), 2**63 - 1),
    st.dictionaries(TEXT, VALUE, max_size=2),
)  # fmt: skip
REQUEST = st.fixed_dictionaries(
    {name: TEXT.filter(bool) for name in ("uid", "request_id", "scene_id")}
    | {"item_list": st.lists(ITEM, min_size=1, max_size=3)},
    optional={
        "features": st.dictionaries(TEXT, SCALAR | TEXT | st.lists(TEXT, max_size=3), max_size=5),
        "request_info": st.dictionaries(TEXT, VALUE, max_size=3),
        "debug": st.booleans(),
        "complex_type_features": st.just([]),
    },
)


@given(REQUEST, st.booleans(), st.sampled_from([None, 1]), st.integers(0, 1000))
def test_any_ordinary_request_takes_the_short_way(request, ascii, indent, seed):
    fields = list(request.items())
    random.Random(seed).shuffle(fields)
    assert agree(json.dumps(dict(fields), ensure_ascii=ascii, indent=indent).encode())


def test_a_damaged_body_never_leaves_another_record_than_the_long_way():
    """`agree` also fails where the long way would refuse what the short way took."""
    rng = random.Random(1)
    whole, ordinary, times = [body for body in ORDINARY if len(body) < 1000], 0, 3000
    alphabet = b'{}[]",:\\u0123456789eE+-.truefalsn \x00\x1f\x7f\x80\xc3\xed\xa0\xff'
    for _ in range(times):
        damaged = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(damaged))
            end = place + rng.choice((0, 0, 1, 1, 2, 9))
            damaged[place:end] = bytes(rng.choice(alphabet) for _ in range(rng.choice((0, 1, 1, 2))))
        ordinary += agree(bytes(damaged))
    assert times / 50 < ordinary < times / 2  # about a seventeenth


@pytest.mark.parametrize("loads", [False, True], ids=["as sent", "with loaded features"])
def test_over_http_both_ways_leave_the_same_record(world, loads):
    """A key of another case makes a body take the long way."""
    if loads:
        for name in ("FeatureConfs", "UserFeatureConfs"):
            world.conf[name]["home_feed_callback"] = world.conf[name]["home_feed"]
    world.callback["ItemSize"] = 2
    sent = LOGGED | {"features": {"a": "", "b": 1.5}, "item_list": [{"item_id": f"i{n:06d}", "n": n} for n in range(3)]}
    long = {("UID" if name == "uid" else name): value for name, value in sent.items()}
    with world.engine() as engine:
        for request in (sent, long):
            assert ask(App(engine), CALLBACK, request).json == {"code": 200, "msg": "success", "request_id": "r1"}
        text = engine.metrics.text(engine.gauges())
    assert 'pairec_log_items_accepted_total{source="explicit",scene="home_feed"} 4' in text
    assert 'pairec_log_items_sampled_out_total{source="explicit",scene="home_feed"} 2' in text
    short, long_ = (msgspec.msgpack.decode(payload) for payload, _, _ in read_segments(world.log))
    assert short[:2] + short[3:] == long_[:2] + long_[3:] and abs(short[2] - long_[2]) <= 1
