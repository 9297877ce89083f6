"""The kernel that reads what an answer has once an item, against a reader of one field at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import map_of_doubles
from pairec_fast.remote import wire
from tests.services.easyrec import doubles, entry, put


def reference(message, field):
    """`map_of_doubles` by `wire.fields`: id -> its scores, and every other field; None for what is no such message."""
    found, rest = {}, b""
    try:
        for number, kind, value in wire.fields(message):
            if number != field:
                heads = {wire.VARINT: wire.varint, wire.BYTES: lambda value: wire.varint(len(value)) + value}
                rest += wire.varint(number << 3 | kind) + heads.get(kind, bytes)(value)
                continue
            if kind != wire.BYTES:
                return None
            halves = {1: b"", 2: b""}
            for half, how, part in wire.fields(value):
                if half in halves:
                    if how != wire.BYTES:
                        return None
                    halves[half] = part
            scores = wire.floats([(how, one) for at, how, one in wire.fields(halves[2]) if at == 1], "<f8")
            found[halves[1].decode("utf-8", "replace")] = scores.tobytes()
    except wire.WireError:
        return None
    return found, rest


def read(message, field):
    given = map_of_doubles(message, field)
    if given is None:
        return None
    entries, values, ends, rest = given
    starts = np.concatenate([[0], ends[:-1]])
    return {one: values[starts[place] : ends[place]].tobytes() for one, place in entries.items()}, rest


def test_an_answer_of_two_items_by_hand():
    body = b"\x0a\x0d\x0a\x01a\x12\x08" + b"\x09" + np.float64(0.5).tobytes()[:7]  # cut off within the number
    assert map_of_doubles(body, 1) is None
    body = put(8, "ctr") + entry(1, "a", put(1, doubles([0.5, 2]))) + entry(1, "b", b"") + b"\x30\x00"
    entries, values, ends, rest = map_of_doubles(body, 1)
    assert entries == {"a": 0, "b": 1} and values.tolist() == [0.5, 2] and ends.tolist() == [2, 2]
    assert rest == put(8, "ctr") + b"\x30\x00"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        entry(1, "", b""),
        entry(1, "a", put(1, doubles([1]))) + entry(1, "a", put(1, doubles([2, 3]))),  # the last counts
        entry(
            1, "a", b"\x09" + doubles([1]) + put(1, doubles([2])) + put(2, "x") + b"\x18\x05"
        ),  # one by one, and more
        put(1, put(2, put(1, doubles([1]))) + put(1, "late key")),
        put(1, put(1, "two") + put(1, "keys") + put(2, b"")),
        put(1, b"\x0a\x01\xff" + put(2, b"")),  # no UTF-8
        entry(1, "a", put(1, b"1234567")),  # no whole number
        entry(1, "a", b"\x08\x01"),
        b"\x08\x01",  # field 1 is a number
        put(1, b"\x08\x01"),
        put(1, b"\x0a\x7f"),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a" + b"\xff" * 10,
        b"\x0b\x0c",
        b"\x35\x00\x00\x00",
        put(1 << 29, "a number that no field has"),
        b"\x8a\x80\x80\x80\x80\x80\x01\x00",  # 1 only when it is cut to 32 bits
    ],
)
def test_nasty_messages_read_as_the_reference_reads_them(body):
    assert read(body, 1) == reference(body, 1)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_messages_read_as_the_reference_reads_them(seed):
    rng = np.random.default_rng(seed)
    sound = b"".join(
        entry(1, f"i{place}", put(1, doubles(rng.random(place % 4).tolist()))) + entry(9, "i", "raw")
        for place in range(6)
    )
    agreed = 0
    for _ in range(500):
        body = bytearray(sound)
        for at in rng.integers(0, len(body), rng.integers(0, 3)):
            body[at] = rng.integers(0, 256)
        damaged = bytes(body[: rng.integers(0, len(body) + 1)])
        given, expected = read(damaged, 1), reference(damaged, 1)
        assert (given is None) == (expected is None)
        if given is not None:
            assert given[0] == expected[0]
            agreed += 1
    assert agreed > 20
