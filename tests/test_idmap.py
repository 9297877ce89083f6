"""Item id -> row and back."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pairec_fast.core.idmap import IdMap, build_slots
from tests import reference


def packed(ids):
    """Text and offsets of `ids`, as a snapshot keeps them."""
    encoded = [id.encode() for id in ids]
    offset = np.zeros(len(ids) + 1, np.uint64)
    offset[1:] = np.cumsum([len(one) for one in encoded], dtype=np.uint64)
    return np.frombuffer(b"".join(encoded), np.uint8), offset


def make(ids):
    text, offset = packed(ids)
    return IdMap(text, offset, build_slots(text, offset))


def test_three_ids_by_hand():
    ids = make(["b", "aa", "c"])
    assert len(ids) == 3
    assert [ids.find(id) for id in ("b", "aa", "c")] == [0, 1, 2]
    assert [ids.find(id) for id in ("", "a", "aaa", "ba", "B")] == [-1] * 5
    assert [ids.id(row) for row in range(3)] == ["b", "aa", "c"]
    assert ids.offset.tolist() == [0, 1, 3, 4]


NASTY = {
    "none": [],
    "only the empty id": [""],
    "the empty id between others": ["a", "", "b"],
    "prefixes of each other": ["a" * length for length in range(40)],
    "zeros, which no length may hide": ["\0" * length for length in range(1, 26)],
    "zeros at the end": ["a", "a\0", "a\0\0", "\0a", "a\0b"],
    "not ASCII": ["é", "e\u0301", "商品", "商", "🎬", "🎬🎬", "\U0010ffff", "ÿ", "ß", "ss"],
    "the same but for the last byte of a word": [f"1234567{end}" for end in "012345678"],
    "the same but for the first byte": [f"{begin}2345678901234567" for begin in "abcdef"],
    "long": ["x" * 100_000, "x" * 99_999 + "y", "y" + "x" * 99_999],
}


@pytest.mark.parametrize("ids", NASTY.values(), ids=NASTY)
def test_agrees_with_reference_on_ids_that_are_nearly_the_same(ids):
    known = make(ids)
    asked = [*ids, *(id + "\0" for id in ids), *(id[:-1] for id in ids), *(id[1:] for id in ids), "", "nobody"]
    assert [known.find(id) for id in asked] == [reference.find(ids, id) for id in asked]
    assert [known.id(row) for row in range(len(ids))] == ids


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33])
def test_slots_are_a_power_of_two_and_at_most_half_used_so_a_search_ends(count):
    slots = build_slots(*packed([str(row) for row in range(count)]))
    assert len(slots) & (len(slots) - 1) == 0
    assert np.count_nonzero(slots) == count <= len(slots) / 2


@pytest.mark.parametrize("style", ["{}", "item-{:08d}", "{:x}", "https://shop/商品/{}?page=1"])
def test_100_000_ids_are_found_and_their_neighbours_are_not(style):
    ids = [style.format(number) for number in range(100_000)]
    known = make(ids)
    np.testing.assert_array_equal(known.find_all(ids), np.arange(100_000))
    assert known.find_all([style.format(number) for number in range(100_000, 200_000)]).size == 0
    assert known.id(99_999) == ids[99_999]


def test_find_all_keeps_the_order_and_leaves_out_what_is_unknown_or_no_text():
    known = make(["a", "b", "c"])
    rows = known.find_all(["c", "x", None, 3, b"a", "a", "", "c", "\ud800"])
    assert rows.dtype == np.int32 and rows.tolist() == [2, 0, 2]
    assert known.find_all([]).tolist() == []
    assert known.find_each(["c", "x", None, 3, b"a", "a", "\ud800"]).tolist() == [2, -1, -1, -1, -1, 0, -1]


def test_a_lone_surrogate_is_no_id_and_no_error():
    """JSON can say it (`"\\ud800"`), UTF-8 cannot: a request with one must not fail the lookup."""
    assert make(["a", "?"]).find("\ud800") == -1


@pytest.mark.parametrize("ids", [["a", "a"], ["", ""], ["a", "b", "商", "c", "商"], [*map(str, range(5000)), "17"]])
def test_an_id_that_occurs_twice_is_refused_with_its_later_row(ids):
    later = len(ids) - 1
    with pytest.raises(ValueError, match=f"row {later}: id '{ids[-1]}' occurs twice") as caught:
        build_slots(*packed(ids))
    assert caught.value.args[1] == later


def test_an_id_that_is_no_utf_8_and_occurs_twice_is_still_told():
    text, offset = np.frombuffer(b"\xff\xff", np.uint8), np.array([0, 1, 2], np.uint64)
    with pytest.raises(ValueError, match="row 1: id '\ufffd' occurs twice"):
        build_slots(text, offset)


@pytest.mark.parametrize("row", [-1, 2, 2**31 - 1])
def test_a_row_that_is_none_has_no_id(row):
    with pytest.raises(IndexError, match=f"row {row} of 2"):
        make(["a", "b"]).id(row)


def test_the_map_keeps_its_arrays_alive():
    known = make([f"item {row}" for row in range(10_000)])
    gc.collect()
    np.full(200_000, 0xFFFFFFFF, np.uint64)  # would be given the freed memory
    assert known.find("item 9999") == 9999 and known.id(1234) == "item 1234"


def test_read_only_arrays_will_do():
    """A snapshot is mapped read-only."""
    text, offset = packed(["a", "b"])
    slots = build_slots(text, offset)
    for array in (text, offset, slots):
        array.flags.writeable = False
    assert IdMap(text, offset, slots).find("b") == 1


def uint64(*numbers):
    return np.array(numbers, np.uint64)


@pytest.mark.parametrize("offset", [(), (0, 3, 2), (0, 1, 4), (5, 5), (2**63, 2**63), (0, 2**64 - 1)])
def test_offsets_that_leave_the_text_are_refused(offset):
    text = np.frombuffer(b"abc", np.uint8)
    with pytest.raises(ValueError, match="offset must"):
        build_slots(text, uint64(*offset))
    with pytest.raises(ValueError, match="offset must"):
        IdMap(text, uint64(*offset), np.zeros(4, np.uint64))


@pytest.mark.parametrize("size", [0, 1, 3, 6])
def test_slots_that_are_no_power_of_two_are_refused(size):
    text, offset = packed(["a"])
    with pytest.raises(ValueError, match=f"slots must have a power of two entries, at least 2, got {size}"):
        IdMap(text, offset, np.zeros(size, np.uint64))


@pytest.mark.parametrize(
    "slots",
    [
        (1, 2),  # none is empty: a search for an unknown id would never end
        (3, 0),  # row 2 of 2
        (0xFFFFFFFF, 0),  # row -2 as int32
        (1 << 32, 0),  # a hash without a row
    ],
)
def test_slots_that_are_not_those_of_the_ids_are_refused(slots):
    text, offset = packed(["a", "b"])
    with pytest.raises(ValueError, match="slots are not those of 2 ids"):
        IdMap(text, offset, uint64(*slots))


@pytest.mark.parametrize(("place", "dtype"), [(0, np.int8), (1, np.int64), (1, np.uint32), (2, np.int64)])
def test_wrong_dtypes_are_refused(place, dtype):
    text, offset = packed(["a", "b"])
    arrays = [text, offset, build_slots(text, offset)]
    arrays[place] = arrays[place].astype(dtype)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        IdMap(*arrays)


@pytest.mark.parametrize("wrong", [None, 3, b"a"])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(TypeError):
        make(["a"]).find(wrong)


def test_ids_put_later_stand_before_those_of_the_arrays():
    ids = make(["a", "b"])
    ids.put("c", 2)
    ids.put("a", 3)
    ids.put("b", -1)
    ids.put("nowhere", -1)
    assert [ids.find(id) for id in ("a", "b", "c", "nowhere", "d")] == [3, -1, 2, -1, -1]
    assert ids.find_all(["b", "a", "d", "c"]).tolist() == [3, 2]
    assert [ids.id(row) for row in range(4)] == ["a", "b", "c", "a"] and len(ids) == 2
    assert [ids.base(id) for id in ("a", "b", "c")] == [0, 1, -1]
    with pytest.raises(ValueError, match="row 9 for 'e'; 4 is the next"):
        ids.put("e", 9)
    with pytest.raises(IndexError):
        ids.id(4)
    with pytest.raises(IndexError):
        ids.id(-1)


@pytest.mark.parametrize("ids", NASTY.values(), ids=NASTY)
def test_ids_of_many_rows_are_those_of_each(ids):
    known = make(ids)
    rows = np.random.default_rng(1).integers(0, max(len(ids), 1), 50 if ids else 0).astype(np.int32)
    for some in (rows, rows[::-2], rows[:0]):
        assert known.id_each(some) == [ids[row] for row in some]
    known.put("later", len(ids))
    assert known.id_each(np.array([len(ids)], np.int32)) == ["later"]
    for beyond in (-1, len(ids) + 1, 2**31 - 1):
        with pytest.raises(IndexError, match=f"row {beyond} of"):
            known.id_each(np.array([beyond], np.int32))
