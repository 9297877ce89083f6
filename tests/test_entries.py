"""Lists of items in one text are split as PAI-Rec splits them, and merged by rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.core import Arena, Entries, IdMap, Overlay, build_slots, in_turn, merge
from pairec_fast.expression.convert import to_float
from tests import reference_recall as reference


def number(text):
    return to_float(text, math.nan)


def seen(found):
    """What an `Entries` says, as the slow twin does."""
    codes, labels = found.labels()
    texts = [labels[code] if code >= 0 else "" for code in codes.tolist()]
    ids = [found.id(at) for at in range(len(found))]
    return list(zip(ids, texts, found.first.tolist(), found.last.tolist(), strict=True))


def same(left, right):
    np.testing.assert_equal(left, right)  # NaN equals NaN


def idmap(*ids):
    data = [id.encode() for id in ids]
    text = np.frombuffer(b"".join(data), np.uint8)
    offset = np.cumsum([0, *map(len, data)]).astype(np.uint64)
    return IdMap(text, offset, build_slots(text, offset))


def test_the_three_forms_of_an_entry():
    nan = math.nan
    found = Entries("a,b:hot,c:hot:0.5,d::2,e:", number=number)
    expected = [
        ("a", "", nan, nan),
        ("b", "hot", nan, nan),
        ("c", "hot", nan, 0.5),
        ("d", "", nan, 2.0),
        ("e", "", nan, nan),
    ]
    same(seen(found), expected)
    assert Entries("a,b:1,c:1:2").labels()[0].tolist() == [-1, 0, 0]


def test_pairs_alone_are_kept_where_pairs_are_asked_for():
    found = Entries("a:0.5,b,c:1:2,:3,null:4,d:x,e:2", colons=1, skip_null=True, number=number)
    assert [found.id(at) for at in range(len(found))] == ["a", "d", "e"]
    same(found.first.tolist(), [0.5, math.nan, 2.0])


@pytest.mark.parametrize(
    "text",
    ["", ",", ":", "a", ":1", "a:", "a::", "a:::", ",,a,,", "a:b:c:d", "a" * 5000, "雪:雨:1,é", "a\0b:1", "a:+1,b:-.5",
     "x:5.,a:1e400,b:1e-400,c:0x1p3,d:1_0,e:inf,f:-Infinity,g:nan,h:1e,i:+-1,j: 1,k:1 ,l:--1,m:.,n:+,o:1e5,p:1E+5"],
)  # fmt: skip
@pytest.mark.parametrize("colons", [-1, 0, 1, 2])
def test_nasty_texts_agree_with_reference(text, colons):
    same(seen(Entries(text, colons=colons, number=number)), reference.entries(text, colons=colons))


@given(st.text("ab:,;.1e+-_null", max_size=60), st.sampled_from([",", ";"]), st.integers(-1, 2), st.booleans())
def test_any_text_agrees_with_reference(text, separator, colons, skip_null):
    found = Entries(text, separator=separator, colons=colons, skip_null=skip_null, number=number)
    same(seen(found), reference.entries(text, separator, colons, skip_null))


def test_no_more_entries_than_asked_for_are_looked_at():
    assert len(Entries("a," * 1000, most=7)) == 7 and len(Entries("a", most=0)) == 0
    assert len(Entries("a" * 9, most=3)) == 1


@pytest.mark.parametrize("separator", ["", ";;", "：", ":"])
def test_a_separator_that_is_no_single_ascii_character_is_refused(separator):
    with pytest.raises(ValueError, match="separator must be one ASCII character"):
        Entries("a", separator=separator)


def test_ids_become_rows_and_those_put_later_count():
    ids = idmap("a", "b", "雪")
    assert Entries("雪,b:1,nowhere,a,b").rows(ids).tolist() == [2, 1, -1, 0, 1]
    ids.put("new", 3)
    ids.put("b", -1)
    assert Entries("new:1,b,a").rows(ids).tolist() == [3, -1, 0]
    assert Entries("").rows(ids).tolist() == []


def test_more_labels_than_can_be_told_apart_count_as_none():
    found = Entries(",".join(f"i{n}:l{n % 5}" for n in range(20)))
    codes, labels = found.labels(3)
    assert labels == ["l0", "l1", "l2"] and codes.tolist() == [n % 5 if n % 5 < 3 else -1 for n in range(20)]
    with pytest.raises(IndexError, match="entry 20 of 20"):
        found.id(20)


def rows(*numbers):
    return np.array(numbers, np.int32)


def pairs(found):
    return list(zip(*(part.tolist() for part in found), strict=True))


def test_weights_of_a_row_are_summed_or_the_largest_counts():
    arena = Arena(10, items_max=5)
    weights = np.array([0.5, 1.0, 0.75, 9.0, 0.25])
    assert pairs(merge(arena, rows(3, 1, 3, -1, 2), weights, 2)) == [(3, 1.25), (1, 1.0)]
    best = merge(arena, rows(3, 1, 3, -1, 2), weights, 9, largest=True)
    assert pairs(best) == [(1, 1.0), (3, 0.75), (2, 0.25)]
    assert arena.count == 0


def test_lists_give_one_each_in_turn_and_no_row_twice():
    arena = Arena(10, items_max=9)
    taken = in_turn(arena, rows(1, 2, 3, 1, 4, -1, 5), np.array([0, 3, 3, 5, 7]), 4)
    assert taken.tolist() == [0, 4, 6, 1], "rows 1, 4, 5 and 2: the second list of four is empty"


def test_items_that_are_gone_take_no_places():
    arena, overlay = Arena(10, items_max=4), Overlay(4, 0)
    overlay.move(1, -1)
    arena.follow(overlay)
    assert pairs(merge(arena, rows(0, 1, 2), np.array([1.0, 9.0, 2.0]), 2)) == [(2, 2.0), (0, 1.0)]
    assert in_turn(arena, rows(1, 0, 2), np.array([0, 3]), 2).tolist() == [1, 2]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 300])
@pytest.mark.parametrize("k", [0, 1, 5, 1000])
@pytest.mark.parametrize("largest", [False, True])
def test_merging_agrees_with_reference(count, k, largest):
    """Few weights, so that ties are many."""
    rng = np.random.default_rng(count * 7 + k)
    row, weight = rng.integers(-1, 40, count).astype(np.int32), rng.integers(-2, 3, count).astype(np.float64)
    arena = Arena(2000, items_max=40)
    found = merge(arena, row, weight, k, largest=largest)
    assert pairs(found) == reference.merged(row.tolist(), weight.tolist(), largest, k)
    lists = [part.tolist() for part in np.array_split(np.arange(count), 4)]
    offset = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    expected = reference.in_turn([[(row[at].item(), at) for at in one] for one in lists], k)
    assert in_turn(arena, row, offset, k).tolist() == [at for _, at in expected]


@pytest.mark.parametrize(
    ("row", "weight", "k", "says"),
    [(rows(5), [1.0], 1, r"rows\[0\] is 5; rows here are below 5"), (rows(1, 2), [1.0], 1, "2 rows, 1 weights"),
     (rows(1), [1.0], -1, "k must not be negative"), (rows(1), [math.nan], 1, r"weights\[0\] is not a number")],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(row, weight, k, says):
    with pytest.raises(ValueError, match=says):
        merge(Arena(3, items_max=5), row, np.array(weight), k)


@pytest.mark.parametrize("offset", [[], [0], [0, 1], [1, 2], [0, 2, 1, 2], [0, 3]])
def test_offsets_that_are_none_are_refused(offset):
    with pytest.raises(ValueError, match="offset must run from 0"):
        in_turn(Arena(3, items_max=5), rows(1, 2), np.array(offset, np.int64), 1)
