"""PAI-Rec's MultiRecallMixSort over arrays."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.rerank import mix
from tests import reference_rerank as reference
from tests.orders import order, ordered, values

NOTHING = np.empty(0, np.int32)


def rule(count, slots, places=(), *, capacity=None, random=False, own=None):
    match = np.zeros(count, np.uint8)
    match[list(slots)] = 1
    capacity = len(places) if capacity is None else capacity
    return match, capacity, random, values(*places) if places else NOTHING, own


def mixed(count, rules, size, slots=None, **conf):
    arena = ordered(count, slots=slots)
    mix(arena, rules, size, **conf)
    return order(arena)


def test_fixed_places_are_filled_in_order_and_the_rest_flows_around_them():
    assert mixed(6, [rule(6, [3, 4, 5], [1, 3])], 4) == [3, 0, 4, 1]


def test_with_fewer_candidates_than_places_nothing_moves():
    assert mixed(3, [rule(3, [2], [1])], 4) == [0, 1, 2]


def test_who_finds_no_room_in_its_rule_is_like_any_other():
    assert mixed(4, [rule(4, [0, 1, 2, 3], [2])], 3) == [1, 0, 2]


def test_places_beyond_the_page_take_nobody():
    assert mixed(4, [rule(4, [2, 3], [9, 1])], 3) == [2, 0, 1]


def test_the_first_rule_with_room_takes_a_candidate_and_a_later_rule_may_cover_its_place():
    """Both rules want place 1; who lost it is unused, and fills a gap only when nobody of no rule is left."""
    assert mixed(3, [rule(3, [0], [1]), rule(3, [0, 1], [1])], 3) == [1, 2, 0]


def test_remaining_candidates_follow_when_asked_for():
    assert mixed(5, [rule(5, [4], [1])], 2) == [4, 0]
    assert mixed(5, [rule(5, [4], [1])], 2, remain=True) == [4, 0, 1, 2, 3]


def test_candidates_may_say_their_places():
    own = values(-1, 3, 0, 2, 1)
    assert mixed(5, [rule(5, [1, 3], capacity=2, own=own)], 4) == [0, 3, 1, 2]
    assert mixed(5, [rule(5, [0, 1], capacity=2, own=own)], 4) == [2, 3, 0, 4], "the places said are one list"


def test_random_places_lie_one_in_each_part_of_the_page():
    """Ten candidates for ten places in thirty: parts of three, nobody else's place is taken."""
    for seed in range(50):
        page = mixed(40, [rule(40, range(30, 40), capacity=10, random=True)], 30, seed=seed)
        places = [page.index(slot) for slot in range(30, 40)]
        assert [place // 3 for place in places] == list(range(10))
    assert (
        len({tuple(mixed(40, [rule(40, range(30, 40), capacity=10, random=True)], 30, seed=s)) for s in range(9)}) > 5
    )


def test_a_full_page_ends_what_is_random():
    full = [rule(20, range(10), [1, 2, 3, 4, 5]), rule(20, range(10, 20), capacity=5, random=True)]
    assert mixed(20, full, 5) == [0, 1, 2, 3, 4]


def test_more_random_places_than_the_page_has_do_not_divide_by_nothing():
    assert sorted(mixed(9, [rule(9, range(9), capacity=9, random=True)], 4)) == [0, 1, 2, 3]


def test_more_rules_than_candidates_are_no_harm():
    rules = [rule(2, [0], [2])] + [rule(2, [], [1]) for _ in range(50)]
    assert mixed(2, rules, 2) == [1, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("seed", range(60))
def test_mix_agrees_with_reference(count, seed):
    rng = np.random.default_rng([count, seed])
    size, rules, readable = int(rng.integers(1, count + 2)), [], []
    for _ in range(rng.integers(0, 4)):
        slots = np.flatnonzero(rng.random(count) < 0.5).tolist()
        random, own = bool(rng.integers(2)), None
        places = rng.integers(1, count + 3, rng.integers(0, 6)).tolist()
        capacity = len(places)
        if random or not places:
            capacity, places = int(rng.integers(0, size + 2)), []
            own = rng.integers(-1, count + 2, count).astype(np.int32)
        rules.append(rule(count, slots, places, capacity=capacity, random=random, own=own))
        readable.append((slots, capacity, random, places, {} if own is None else dict(enumerate(own.tolist()))))
    slots, remain = rng.permutation(count).tolist(), bool(rng.integers(2))
    expected = reference.mix_sort(slots, readable, size, remain, seed)
    assert mixed(count, rules, size, slots, remain=remain, seed=seed) == expected


def test_what_does_not_fit_is_refused():
    arena = ordered(3)
    for rules, size, message in (
        ([], 0, "size must be positive, got 0"),
        ([rule(2, [0], [1])], 3, "match has 2 slots, the arena 3"),
        ([rule(3, [0], [0])], 3, "a place is 0; the first is 1"),
        ([rule(3, [0], capacity=1, own=values(1))], 3, "own_place has 1 slots, the arena 3"),
    ):
        with pytest.raises(ValueError, match=message):
            mix(arena, rules, size)
