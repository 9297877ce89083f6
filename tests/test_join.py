"""What a side pipeline found comes behind the main line's candidates, each item once."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import Arena, Overlay, join, keep, set_order
from tests import reference

ITEMS = 500


def filled(overlay, row, *, size=64, algos=1, number=0):
    """Candidates `row` with scores; every value of a candidate tells its row and `number`, which tells the arena."""
    arena = Arena(size, items_max=overlay.capacity, algos=algos)
    arena.follow(overlay)
    count = arena.count = len(row)
    arena.row[:count] = row
    arena.place[:count] = np.arange(count)
    arena.source[:count] = number
    arena.recall_score[:count] = arena.row[:count] + number / 8
    arena.scored = True
    arena.score[:count] = -arena.recall_score[:count]
    arena.algo_score[:, :] = 99.0
    for algo in range(algos):
        arena.algo_score[algo, :count] = arena.recall_score[:count] * (algo + 2)
    return arena


def ordered(arena, slots=None):
    slots = range(arena.count) if slots is None else slots
    set_order(arena, np.array(list(slots), np.int32))
    return arena


def content(arena):
    """Of each slot: row, and which arena all of its values came from; they agree."""
    found = []
    for slot in range(arena.count):
        row, number = int(arena.row[slot]), int(arena.source[slot])
        assert arena.recall_score[slot] == row + number / 8 == -arena.score[slot]
        found.append((row, number))
    return found


@pytest.fixture
def overlay():
    return Overlay(ITEMS, 16)


def test_items_that_are_not_there_come_behind_in_their_order_and_the_others_change_nothing(overlay):
    into = filled(overlay, [7, 3, 9], algos=2)
    other = ordered(filled(overlay, [3, 5, 4, 7], algos=2, number=1), [2, 0, 1, 3])
    assert join(into, other).tolist() == [3, 1, 4, 0]
    assert content(into) == [(7, 0), (3, 0), (9, 0), (4, 1), (5, 1)]
    assert into.algo_score[:, :5].tolist() == [
        [2 * 7, 2 * 3, 2 * 9, 2 * 4.125, 2 * 5.125],
        [3 * 7, 3 * 3, 3 * 9, 3 * 4.125, 3 * 5.125],
    ]
    assert other.row[:4].tolist() == [3, 5, 4, 7] and other.order_count == 4


def test_what_the_other_has_not_ordered_does_not_come(overlay):
    into = filled(overlay, [1])
    assert join(into, ordered(filled(overlay, [2, 3, 4]), [1])).tolist() == [1]
    assert into.row[:2].tolist() == [1, 3] and into.count == 2
    assert join(into, filled(overlay, [2, 3])).tolist() == [] and into.count == 2


@pytest.mark.parametrize(("own", "others"), [(1, 3), (3, 1)])
def test_outputs_the_other_arena_has_no_room_for_are_zero(overlay, own, others):
    into = filled(overlay, [1], algos=own)
    join(into, ordered(filled(overlay, [8], algos=others)))
    assert into.algo_score[:, 1].tolist() == [8.0 * (algo + 2) if algo < others else 0.0 for algo in range(own)]


def test_who_comes_takes_a_place_that_no_candidate_has(overlay):
    into = filled(overlay, [1, 2, 3, 4], size=5)
    keep(into, np.array([0, 1, 0, 1], np.uint8))
    assert into.place[:2].tolist() == [1, 3]
    assert join(into, ordered(filled(overlay, [5, 6, 7, 8]))).tolist() == [2, 3, 4, -1]
    assert into.place[:5].tolist() == [1, 3, 0, 2, 4] and into.row[:5].tolist() == [2, 4, 5, 6, 7]


def test_an_item_that_got_another_row_meanwhile_is_the_same_item(overlay):
    row = overlay.add(3)
    into = filled(overlay, [3])
    assert join(into, ordered(filled(overlay, [row, 4]))).tolist() == [0, 1]
    assert into.row[:2].tolist() == [3, 4]


@pytest.mark.parametrize("own", [0, 1, 31, 64])
@pytest.mark.parametrize("others", [0, 1, 33, 64])
@pytest.mark.parametrize("seed", range(3))
def test_join_agrees_with_reference(overlay, own, others, seed):
    """Few items, so most of them meet; and filters have left holes in the places."""
    rng = np.random.default_rng([own, others, seed])
    into = filled(overlay, rng.integers(0, 90, own), size=72)
    keep(into, rng.integers(0, 4, own).astype(np.uint8))
    other = filled(overlay, rng.permutation(90)[:others], number=1)
    order = rng.permutation(others)[: rng.integers(0, others + 1)]
    ordered(other, order)
    kept, coming = content(into), content(other)
    expected, targets = reference.join(kept, [coming[slot] for slot in order], 72)
    assert join(into, other).tolist() == targets and content(into) == expected
    assert len(set(into.place[: into.count].tolist())) == into.count


def test_arenas_that_cannot_be_joined_are_refused(overlay):
    into, other = filled(overlay, [1]), ordered(filled(overlay, [2]))
    with pytest.raises(ValueError, match="another one that follows the same overlay"):
        join(into, into)
    with pytest.raises(ValueError, match="the same overlay"):
        join(into, ordered(filled(Overlay(ITEMS, 16), [2])))
    other.row[0] = ITEMS + 16
    with pytest.raises(ValueError, match=r"arena.row\[0\] is 516"):
        join(into, other)
    other.row[0], other.count = 2, 0
    with pytest.raises(ValueError, match=r"other.order\[0\] is 0"):
        join(into, other)
    other.count, into.place[0] = 1, 64
    with pytest.raises(ValueError, match=r"arena.place\[0\] is 64"):
        join(into, other)
    into.place[0], into.scored = 0, False
    with pytest.raises(ValueError, match="scores must live in both"):
        join(into, other)
    assert into.count == 1
