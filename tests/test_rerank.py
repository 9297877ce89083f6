"""In what order candidates are shown: the best of all, and the best of what is in order already."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.rerank import order_by, order_by_score, set_order, top_k
from tests import reference
from tests.orders import filled, order, ordered, values

HUGE = 2**31 - 1


# top_k


def test_the_best_come_first_and_equal_scores_by_row():
    arena = filled([0.5, 2.0, 0.5, -1.0], row=[9, 1, 3, 0])
    top_k(arena, 3)
    assert order(arena) == [1, 2, 0]
    top_k(arena, 1)
    assert order(arena) == [1]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 5000, HUGE])
@pytest.mark.parametrize("scores", ["ties", "distinct", "nasty", "all NaN"])
def test_top_k_agrees_with_reference(count, size, scores):
    rng = np.random.default_rng(count * 31 + size)
    score = {
        "ties": rng.integers(0, 4, count).astype(float),
        "distinct": rng.normal(size=count),
        "nasty": rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, 1.7e308, -1.7e308], count),
        "all NaN": np.full(count, np.nan),
    }[scores]
    row = rng.permutation(count)
    arena = filled(score, row)
    top_k(arena, size)
    assert order(arena) == reference.top_k(score, row, size).tolist()


def test_a_nan_becomes_minus_infinity_and_sorts_last():
    """A comparison with NaN is neither way: left alone it would break the sort, not only misplace one item."""
    arena = filled([np.nan, -np.inf, -1e300, np.nan], row=[0, 1, 2, 3])
    top_k(arena, 4)
    assert order(arena) == [2, 0, 1, 3]
    assert arena.score.tolist() == [-np.inf, -np.inf, -1e300, -np.inf]


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_not_positive_is_refused(size):
    with pytest.raises(ValueError, match=f"size must be positive, got {size}"):
        top_k(Arena(1), size)


def test_an_empty_arena_has_an_empty_order():
    arena = filled([1.0, 2.0])
    top_k(arena, 2)
    arena.count = 0
    top_k(arena, 2)
    assert order(arena) == []


# order_by


def test_equal_keys_stay_in_their_order_and_what_is_left_out_is_gone():
    arena = ordered(5, slots=[4, 2, 0, 3, 1])
    order_by(arena, np.array([1.0, 2.0, 1.0, 2.0, 1.0]))
    assert order(arena) == [3, 1, 4, 2, 0]
    order_by(arena, np.array([1.0, 2.0, 1.0, 2.0, 1.0]), descending=False, size=2)
    assert order(arena) == [4, 2]
    order_by(arena, np.zeros(5))
    assert order(arena) == [4, 2], "a sort orders what the sort before it left"


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 1000])
@pytest.mark.parametrize("size", [1, 15, 16, 17, HUGE])
@pytest.mark.parametrize("descending", [True, False])
def test_order_by_agrees_with_a_stable_sort(count, size, descending):
    rng = np.random.default_rng(count * 31 + size % 97)
    slots = rng.permutation(count).tolist()
    key = rng.choice([0.0, -0.0, 1.5, np.inf, -np.inf], count)
    arena = ordered(count, slots=slots)
    order_by(arena, key, descending=descending, size=size)
    assert order(arena) == sorted(slots, key=lambda slot: -key[slot] if descending else key[slot])[:size]


@pytest.mark.parametrize("count", [127, 128, 129, 1000])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("kind", ["any bits", "float32", "one", "last bits", "signs"])
def test_many_keys_are_ordered_to_the_last_bit(count, descending, kind):
    """From 128 on they are ordered by their bytes; of float32 keys some bytes are the same in all."""
    rng = np.random.default_rng(count)
    key = {
        "any bits": rng.integers(0, 2**63, count).view(np.float64) * rng.choice([-1, 1], count),
        "float32": rng.random(count, np.float32).astype(np.float64),
        "one": np.full(count, 0.5),
        "last bits": 1e9 + rng.integers(0, 30, count) * 2.0**-23,
        "signs": rng.choice([-5e-324, -0.0, 0.0, 5e-324], count),
    }[kind]
    key = np.where(key == key, key, 1.0)
    slots = rng.permutation(count).tolist()
    arena = ordered(count, slots=slots)
    order_by(arena, key, descending=descending)
    assert order(arena) == sorted(slots, key=lambda slot: -key[slot] if descending else key[slot])


def test_scores_that_are_no_number_come_last_and_read_as_minus_infinity():
    arena = ordered(4, slots=[3, 2, 1, 0])
    arena.score[:4] = [np.nan, 1.0, np.nan, 2.0]
    order_by_score(arena, 3)
    assert order(arena) == [3, 1, 2]
    assert arena.score[:4].tolist() == [-np.inf, 1.0, -np.inf, 2.0]


def test_an_order_can_be_set_to_some_of_the_candidates():
    arena = ordered(4)
    set_order(arena, values(2, 0))
    assert order(arena) == [2, 0]
    set_order(arena, values())
    assert order(arena) == []


def test_orders_that_do_not_fit_are_refused():
    arena = ordered(3)
    with pytest.raises(ValueError, match="2 keys for 3 candidates"):
        order_by(arena, np.zeros(2))
    with pytest.raises(ValueError, match="size -1"):
        order_by(arena, np.zeros(3), size=-1)
    with pytest.raises(ValueError, match="size must be positive, got 0"):
        order_by_score(arena, 0)
    with pytest.raises(ValueError, match="4 slots for 3 candidates"):
        set_order(arena, values(0, 1, 2, 0))
    with pytest.raises(ValueError, match=r"slots\[1\] is 3; rows here are 0 to 2"):
        set_order(arena, values(0, 3))
    arena.count = 2
    with pytest.raises(ValueError, match=r"arena\.order\[2\] is 2; rows here are 0 to 1"):
        order_by_score(arena)
