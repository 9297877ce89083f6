"""Filters that count: what is kept, in what order, and that nothing is kept twice or loops for ever."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import pick
from tests import reference_filters as reference

COUNTS = [0, 1, 2, 15, 16, 17, 64, 300]
U2I, HOT, NEW = 0, 1, 2


def int32(values):
    return np.array(values, np.int32)


def uint8(values):
    return np.array(values, np.uint8)


def float64(values):
    return np.array(values, np.float64)


def fixed(source, count):
    return source, count, 0, False


def up_to(source, count):
    return source, count, 0, True


def drawn(rng, count, sources, *, nasty=False, repeats=1.0):
    """Columns item, source, score of `count` candidates. Few distinct scores, so that ties decide."""
    item = rng.integers(0, max(1, int(count * repeats)), count).astype(np.int32)
    source = rng.integers(0, sources, count).astype(np.uint8)
    score = rng.integers(0, 6, count).astype(np.float64)
    if nasty:
        score = rng.choice(float64([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]), count)
    return item, source, score


def items_of(item, source, score):
    return [reference.Item(slot, int(item[slot]), int(source[slot]), float(score[slot])) for slot in range(len(item))]


def merged(item, source, score, place=None):
    """The columns after UniqueFilter: item, source, score float64, place, Merged; and what the twin has for them."""
    place = int32(range(len(item))) if place is None else place
    slots, chains = pick.merge(item, place, source, score)
    twins = reference.merge(items_of(item, source, score), place)
    assert slots.tolist() == [twin.slot for twin in twins]
    for slot, twin in enumerate(twins):
        twin.slot = slot
    return (item[slots], source[slots], score[slots].astype(np.float64), place[slots], chains), twins


def draw_shares(rng, sources):
    return [
        (int(rng.integers(-1, sources + 1)), int(rng.integers(0, 30)), int(rng.integers(0, 4)), bool(rng.integers(2)))
        for _ in range(rng.integers(1, 6))
    ]


def same(one, other):
    """Equal, a NaN equalling itself, and what sorts as minus infinity equalling a NaN."""
    one, other = (np.where(np.isnan(float64(scores)), -np.inf, float64(scores)) for scores in (one, other))
    np.testing.assert_array_equal(one, other)


# UniqueFilter


def test_the_first_candidate_of_an_item_stays_and_knows_all_its_recalls():
    slots, chains = pick.merge(int32([7, 8, 7, 7]), int32([0, 1, 2, 3]), uint8([0, 0, 1, 2]), float64([1, 2, 5, 7]))
    assert slots.tolist() == [0, 1]
    assert chains.scores(0) == [(0, 1.0), (1, 5.0), (2, 7.0)]
    assert chains.scores(1) == [(0, 2.0)]


def test_the_last_score_of_a_recall_that_brings_an_item_twice_counts():
    _, chains = pick.merge(int32([7, 7, 7]), int32([0, 1, 2]), uint8([0, 1, 1]), float64([1, 2, 3]))
    assert chains.scores(0) == [(0, 1.0), (1, 3.0)]


def test_places_that_an_earlier_filter_emptied_are_no_candidates():
    slots, chains = pick.merge(int32([7, 8, 7]), int32([2, 5, 9]), uint8([3, 4, 5]), float64([1, 2, 3]))
    assert slots.tolist() == [0, 1]
    assert chains.scores(2) == [(3, 1.0), (5, 3.0)]
    assert chains.scores(5) == [(4, 2.0)]


def test_candidates_that_a_filter_put_into_another_order_are_merged_in_that_order():
    slots, chains = pick.merge(int32([7, 8, 7, 7]), int32([9, 5, 2, 4]), uint8([0, 1, 2, 3]), float64([1, 2, 3, 4]))
    assert slots.tolist() == [0, 1]
    assert chains.scores(9) == [(0, 1.0), (2, 3.0), (3, 4.0)]


@pytest.mark.parametrize("place", [[0, 0], [3, 3], [-1, 0], [2**31 - 1, 0]])
def test_places_that_would_lead_in_a_circle_are_refused(place):
    with pytest.raises(ValueError, match=r"place\[\d\] is -?\d+"):
        pick.merge(int32([1, 1]), int32(place), uint8([0, 0]), float64([0, 0]))


def test_a_place_that_nothing_came_to_is_refused():
    _, chains = pick.merge(int32([7, 8]), int32([0, 2]), uint8([0, 0]), float64([1, 2]))
    for place in (-1, 1, 3):
        with pytest.raises(ValueError, match="where no candidate came"):
            chains.scores(place)
        with pytest.raises(ValueError, match=r"place\[0\] is"):
            pick.priority_of_many(
                uint8([0]), float64([1]), pick.Shares([fixed(0, 1)]), place=int32([place]), merged=chains
            )


# AdjustCountFilter


def test_few_enough_candidates_are_not_even_shuffled():
    assert pick.adjust_count(3, 3, shuffled=True, seed=1).tolist() == [0, 1, 2]
    assert pick.adjust_count(3, 9).tolist() == [0, 1, 2]


def test_the_first_stay_unless_shuffled():
    assert pick.adjust_count(100, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_a_shuffle_is_repeatable_and_agrees_with_reference(count, seed):
    slots = pick.adjust_count(count, count // 2, shuffled=True, seed=seed)
    assert slots.tolist() == reference.adjust_count(count, count // 2, True, seed)


def test_every_candidate_is_as_likely_to_stay():
    times = np.zeros(10)
    for seed in range(4000):
        times[pick.adjust_count(10, 3, shuffled=True, seed=seed)] += 1
    assert abs(times / 4000 - 0.3).max() < 0.035  # 4.8 standard deviations of one slot's share


# CompletelyFairFilter


def test_recalls_take_turns_with_their_best():
    source, score = uint8([U2I] * 3 + [HOT] * 3), float64([1, 3, 2, 10, 30, 20])
    assert pick.completely_fair(source, score, 5).tolist() == [4, 1, 5, 2, 3]


def test_an_exhausted_recall_gives_its_turn_to_the_last_one():
    source, score = uint8([0, 1, 1, 1, 2, 2, 2]), float64([9, 8, 7, 6, 5, 4, 3])
    # 0 has one candidate: the last recall, 2, stands first from then on, and the second place is the next to choose.
    assert pick.completely_fair(source, score, 7).tolist() == [0, 1, 4, 2, 5, 3, 6]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("nasty", [False, True])
def test_completely_fair_agrees_with_reference(count, nasty):
    for trial in range(5):
        rng = np.random.default_rng(count * 10 + trial)
        item, source, score = drawn(rng, count, rng.integers(1, 9), nasty=nasty)
        for retain in (0, 1, count // 2, count, count + 5):
            kept = pick.completely_fair(source, score.astype(np.float64), retain)
            assert kept.tolist() == reference.completely_fair(items_of(item, source, score), retain)


# PriorityAdjustCountFilter


def test_recalls_without_a_share_are_dropped_and_fixed_ones_give_their_best():
    source, score = uint8([U2I, HOT, NEW, U2I, HOT, U2I]), float64([1, 5, 9, 3, 7, 2])
    assert pick.priority(source, score, pick.Shares([fixed(HOT, 1), fixed(U2I, 2)])).tolist() == [4, 3, 5]


def test_accumulating_shares_count_what_others_of_their_kind_took():
    source, score = uint8([U2I] * 3 + [HOT] * 5 + [NEW] * 5), float64(range(13))
    shares = pick.Shares([up_to(U2I, 5), fixed(NEW, 2), up_to(HOT, 5)])
    assert pick.priority(source, score, shares).tolist() == [2, 1, 0, 12, 11, 7, 6]


def test_an_accumulating_share_that_is_full_already_takes_nothing():
    """PAI-Rec stops the request there: a slice that ends before it begins."""
    source, score = uint8([U2I] * 5 + [HOT] * 5), float64(range(10))
    assert pick.priority(source, score, pick.Shares([up_to(U2I, 4), up_to(HOT, 2)])).tolist() == [4, 3, 2, 1]


def test_a_recall_with_two_shares_gives_no_candidate_twice():
    source, score = uint8([U2I] * 5), float64(range(5))
    assert pick.priority(source, score, pick.Shares([fixed(U2I, 2), fixed(U2I, 4)])).tolist() == [4, 3, 2, 1]


def test_equal_scores_are_decided_by_the_seed():
    source, score = uint8([U2I] * 40), np.zeros(40)
    shares = pick.Shares([fixed(U2I, 5)])
    kept = [tuple(pick.priority(source, score, shares, seed=seed).tolist()) for seed in range(20)]
    assert len(set(kept)) > 15
    assert kept[7] == tuple(pick.priority(source, score, shares, seed=7).tolist())
    assert all(slot < 20 for one in kept for slot in one), "the second half does not move"


def test_a_value_may_be_used_once_more_than_its_quota_and_the_rest_fills_up():
    source, score = uint8([U2I] * 10), float64(range(10, 0, -1))
    codes = int32([[0] * 8 + [1] * 2])  # quotas of 5: four of value 0, one of value 1
    kept = pick.priority(source, score, pick.Shares([up_to(U2I, 5)]), codes=codes, least=1)
    assert kept.tolist() == [0, 1, 2, 3, 4]
    kept = pick.priority(source, score, pick.Shares([up_to(U2I, 8)]), codes=codes, least=1)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 6, 8]  # seven of value 0: a quota of six and one; then value 1


def test_places_that_quotas_leave_are_filled_recall_by_recall():
    source, score = uint8([U2I] * 6 + [HOT] * 6), float64(range(12, 0, -1))
    codes = int32([[0] * 12])
    codes[0, 11] = 1
    kept = pick.priority(source, score, pick.Shares([up_to(U2I, 4), up_to(HOT, 12)]), codes=codes, least=1)
    assert sorted(kept.tolist()) == sorted(set(kept.tolist()))
    assert kept.tolist() == reference.priority(
        items_of(int32(range(12)), source, score), [up_to(U2I, 4), up_to(HOT, 12)], 0, codes.tolist(), 1
    )


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("nasty", [False, True])
@pytest.mark.parametrize("fields", [0, 1, 3])
def test_priority_agrees_with_reference(count, nasty, fields):
    for trial in range(8):
        rng = np.random.default_rng(count * 100 + trial)
        item, source, score = drawn(rng, count, 4, nasty=nasty)
        shares = draw_shares(rng, 4)
        codes = rng.integers(-2, 4, (fields, count)).astype(np.int32)
        least = int(rng.integers(0, 4))
        kept = pick.priority(
            source, score.astype(np.float64), pick.Shares(shares), seed=trial, codes=codes if fields else None,
            least=least,
        )  # fmt: skip
        assert kept.tolist() == reference.priority(items_of(item, source, score), shares, trial, codes.tolist(), least)


# PriorityAdjustCountFilterV2


def test_what_two_recalls_brought_serves_the_first_that_has_a_place_with_its_score_there():
    item, source = int32([1, 2, 3, 1]), uint8([HOT, HOT, U2I, U2I])
    (_, source, score, place, chains), _ = merged(item, source, float64([-1, 5, 4, 11]))
    kept = pick.priority_of_many(source, score, pick.Shares([up_to(U2I, 3), up_to(HOT, 9)]), place=place, merged=chains)
    assert [one.tolist() for one in kept] == [[0, 2, 1], [U2I, U2I, HOT], [11.0, 4.0, 5.0]]


def test_a_candidate_is_used_once_however_many_recalls_have_a_place_for_it():
    item, source = int32([1, 1, 1]), uint8([U2I, HOT, NEW])
    (_, source, score, place, chains), _ = merged(item, source, float64([1, 2, 3]))
    shares = pick.Shares([fixed(NEW, 5), fixed(HOT, 5), fixed(U2I, 5)])
    kept = pick.priority_of_many(source, score, shares, place=place, merged=chains)
    assert [one.tolist() for one in kept] == [[0], [NEW], [3.0]]


def test_nothing_merged_is_the_same_as_places_without_chains():
    source, score = uint8([HOT, U2I, HOT]), float64([1, 2, 3])
    shares = pick.Shares([fixed(HOT, 1), fixed(U2I, 1)])
    assert [one.tolist() for one in pick.priority_of_many(source, score, shares)] == [[2, 1], [HOT, U2I], [3.0, 2.0]]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("nasty", [False, True])
def test_priority_of_many_agrees_with_reference(count, nasty):
    for trial in range(8):
        rng = np.random.default_rng(count * 100 + trial)
        (_, source, score, place, chains), twins = merged(*drawn(rng, count, 5, nasty=nasty, repeats=0.5))
        shares = draw_shares(rng, 5)
        slots, sources, scores = pick.priority_of_many(
            source, score, pick.Shares(shares), seed=trial, place=place, merged=chains
        )
        expected = reference.priority_of_many(twins, shares, trial)
        assert list(zip(slots.tolist(), sources.tolist(), strict=True)) == [(slot, at) for slot, at, _ in expected]
        same(scores, [one[2] for one in expected])


# SnakeFilter


def weighted(source, weight):
    return source, 0, weight, False


def snaked(columns, shares, retain, skips=False):
    item, source, score, place, chains = columns
    slots, sources, scores, which, *visits = pick.snake(
        item, source, score, pick.Shares(shares), retain, skips=skips, place=place, merged=chains
    )
    kept = list(zip(slots.tolist(), sources.tolist(), scores.tolist(), strict=True))
    told = [[] for _ in kept]
    for at, *visit in zip(which.tolist(), *(column.tolist() for column in visits), strict=True):
        if at < len(kept):
            told[at].append(tuple(visit))
    return kept, told


def plain(source, score):
    return int32(range(len(source))), uint8(source), float64(score), None, None


def test_the_snake_takes_so_many_of_each_recall_a_round():
    columns = plain([U2I] * 5 + [HOT] * 5, range(10))
    kept, told = snaked(columns, [weighted(U2I, 1), weighted(HOT, 2)], 7)
    assert [slot for slot, *_ in kept] == [4, 9, 8, 3, 7, 6, 2]
    assert told[1] == [(HOT, 0, 9.0)]


def test_a_recall_without_candidates_leaves_its_turn_to_the_next():
    columns = plain([U2I] * 3 + [NEW] * 3, range(6))
    kept, _ = snaked(columns, [weighted(U2I, 1), weighted(-1, 3), weighted(HOT, 3), weighted(NEW, 1)], 4)
    assert [slot for slot, *_ in kept] == [2, 5, 1, 4]


def test_a_duplicate_is_passed_over_and_the_round_filled_up():
    item, source = int32([1, 2, 3, 1, 4]), uint8([U2I, U2I, U2I, HOT, HOT])
    columns, _ = merged(item, source, float64([9, 8, 7, 9, 1]))
    shares = [weighted(U2I, 1), weighted(HOT, 1)]
    kept, told = snaked(columns, shares, 3)
    assert [(slot, source) for slot, source, _ in kept] == [(0, U2I), (3, HOT), (1, U2I)]
    assert told[0] == [(U2I, 0, 9.0), (HOT, 0, 9.0)]
    kept, _ = snaked(columns, shares, 3, skips=True)
    assert [(slot, source) for slot, source, _ in kept] == [(0, U2I), (1, U2I), (3, HOT)]


def test_a_candidate_counts_for_the_recall_that_reaches_it_first():
    item, source = int32([1, 1, 2]), uint8([U2I, HOT, HOT])
    columns, _ = merged(item, source, float64([1, 50, 20]))
    kept, told = snaked(columns, [weighted(HOT, 2), weighted(U2I, 1)], 5)
    assert kept == [(0, HOT, 50.0), (1, HOT, 20.0)]
    assert told[0] == [(HOT, 0, 50.0), (U2I, 0, 1.0)]


def test_an_item_that_was_not_merged_is_kept_once_all_the_same():
    columns = int32([5, 5, 6]), uint8([U2I, HOT, HOT]), float64([1, 2, 1]), None, None
    kept, told = snaked(columns, [weighted(U2I, 1), weighted(HOT, 2)], 9)
    assert [slot for slot, *_ in kept] == [0, 2]
    assert told[0] == [(U2I, 0, 1.0), (HOT, 0, 2.0)]


def test_weights_of_zero_end_the_snake_instead_of_turning_it_for_ever():
    assert snaked(plain([U2I] * 3, range(3)), [weighted(U2I, 0)], 2) == ([], [])


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("nasty", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_snake_agrees_with_reference(count, nasty, skips):
    for trial in range(8):
        rng = np.random.default_rng(count * 100 + trial)
        columns = drawn(rng, count, 5, nasty=nasty, repeats=0.4)
        shares = draw_shares(rng, 5)
        retain = int(rng.integers(0, count + 2))
        if trial % 2:
            columns, twins = merged(*columns)
        else:  # without UniqueFilter, the item alone tells that two candidates are one
            columns, twins = (*columns[:2], columns[2].astype(np.float64), None, None), items_of(*columns)
        kept, told = snaked(columns, shares, retain, skips)
        expected, expected_told = reference.snake(twins, shares, retain, skips)
        assert [one[:2] for one in kept] == [one[:2] for one in expected]
        same([one[2] for one in kept], [one[2] for one in expected])
        assert [[visit[:2] for visit in one] for one in told] == [[visit[:2] for visit in one] for one in expected_told]


# GroupWeightCountFilter


def test_groups_share_the_places_by_their_scores_and_keep_their_order():
    code, score = int32([3, 7, 3, 7, 3, 7, 3, 7]), float64([3, 1, 3, 1, 3, 1, 3, 1])
    assert pick.group_weight(code, score, 4, weight=1, softmax=False).tolist() == [0, 2, 4, 1]


def test_a_group_at_its_limit_leaves_its_places_to_the_others():
    code, score = int32([0] * 8 + [1] * 8 + [2] * 8), float64([9] * 8 + [2] * 8 + [1] * 8)
    kept = pick.group_weight(code, score, 10, weight=1, softmax=False, most=4)
    assert kept.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17]


def test_values_that_are_too_frequent_are_thinned_before_groups_are_made():
    code, score = int32([0] * 6), np.ones(6)
    kept = pick.group_weight(code, score, 4, weight=1, limits=[(int32([5, 5, 5, 6, 6, 6]), 2)])
    assert kept.tolist() == [0, 1, 3, 4]


def test_few_enough_candidates_stay_whatever_the_limits():
    assert pick.group_weight(int32([0, 0]), np.ones(2), 2, weight=1, limits=[(int32([0, 0]), 1)]).tolist() == [0, 1]


def test_groups_that_may_not_shrink_end_the_trimming_instead_of_looping_for_ever():
    """Four groups of at least two are more than five places: PAI-Rec turns in a circle here."""
    code = int32([0, 1, 2, 3] * 3)
    assert len(pick.group_weight(code, np.ones(12), 5, weight=1, least=2)) == 8


def test_too_few_candidates_after_the_limits_end_the_filling_instead_of_looping_for_ever():
    kept = pick.group_weight(int32([0] * 9), np.ones(9), 5, weight=1, limits=[(int32([0] * 9), 3)])
    assert kept.tolist() == [0, 1, 2]


@pytest.mark.parametrize("weight", [0.0, 1e300, -1.0, float("nan")])
@pytest.mark.parametrize("softmax", [False, True])
def test_sums_that_are_no_numbers_still_fill_the_places(weight, softmax):
    rng = np.random.default_rng(1)
    code = rng.integers(0, 5, 50).astype(np.int32)
    kept = pick.group_weight(code, rng.normal(size=50), 20, weight=weight, softmax=softmax)
    assert len(kept) == len(set(kept.tolist())) == 20


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("softmax", [False, True])
def test_group_weight_agrees_with_reference(count, softmax):
    for trial in range(20):
        rng = np.random.default_rng(count * 100 + trial)
        code = rng.integers(-3, 6, count).astype(np.int32)
        score = rng.integers(-8, 30, count) / 8  # exact in binary: sums do not depend on their order
        limits = [
            (rng.integers(0, 4, count).astype(np.int32), int(rng.integers(0, 40))) for _ in range(rng.integers(0, 3))
        ]
        conf = {
            "weight": float(rng.choice([0.0, 0.25, 1.0])), "least": int(rng.integers(0, 4)),
            "most": int(rng.integers(0, 12)), "softmax": softmax, "limits": limits,
        }  # fmt: skip
        retain = int(rng.integers(0, count + 2))
        kept = pick.group_weight(code, score, retain, **conf)
        twin = reference.group_weight(
            code.tolist(), score.tolist(), retain, **conf | {"limits": [(one.tolist(), top) for one, top in limits]}
        )
        assert kept.tolist() == twin


# DiversityAdjustCountFilter


def test_each_expression_takes_its_best_and_nothing_twice():
    matches = uint8([[1, 1, 0, 0, 1], [1, 1, 1, 1, 1]])
    shares = pick.Shares([fixed(0, 2), up_to(0, 4)])
    # The second looks at its four best, and two of them are used.
    assert pick.diversity_adjust(matches, float64([5, 4, 3, 2, 1]), shares).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", COUNTS)
def test_diversity_adjust_agrees_with_reference(count):
    for trial in range(10):
        rng = np.random.default_rng(count * 100 + trial)
        shares = draw_shares(rng, 3)
        matches = rng.integers(0, 2, (len(shares), count)).astype(np.uint8)
        score = rng.integers(0, 5, count).astype(np.float64)
        kept = pick.diversity_adjust(matches, score, pick.Shares(shares), seed=trial)
        assert kept.tolist() == reference.diversity_adjust(matches, score.tolist(), shares, trial)


# DimensionFieldUniqueFilter


def test_the_first_of_each_value_stays_and_all_without_one():
    assert pick.unique_codes(int32([4, -1, 4, 5, -1, 5, 9])).tolist() == [0, 1, 3, 4, 6]


@pytest.mark.parametrize("count", COUNTS)
def test_unique_codes_agrees_with_reference(count):
    code = np.random.default_rng(count).integers(-1, max(1, count // 2), count).astype(np.int32)
    assert pick.unique_codes(code).tolist() == reference.unique_codes(code.tolist())


# All


@pytest.mark.parametrize("share", [(256, 1, 1, True), (-2, 1, 1, True)])
def test_a_source_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="source must be -1 to 255"):
        pick.Shares([share])


@pytest.mark.parametrize("share", [(0, -1, 1, True), (0, 2**31, 1, True), (0, 1, -1, True)])
def test_counts_and_weights_below_zero_are_refused(share):
    with pytest.raises(ValueError, match="must be 0 to 2147483647"):
        pick.Shares([share])


def test_columns_of_different_lengths_are_refused():
    shares = pick.Shares([fixed(0, 1)])
    with pytest.raises(ValueError, match="columns of"):
        pick.priority(uint8([0]), float64([1, 2]), shares)
    with pytest.raises(ValueError, match="columns of"):
        pick.snake(int32([0]), uint8([0, 1]), float64([1, 2]), shares, 1)
    with pytest.raises(ValueError, match="codes of 1 fields and 1 candidates"):
        pick.priority(uint8([0, 0]), float64([1, 2]), shares, codes=int32([[0]]))
    with pytest.raises(ValueError, match="matches of 2 shares"):
        pick.diversity_adjust(uint8([[1, 1], [1, 1]]), float64([1, 2]), shares)
    with pytest.raises(ValueError, match="limits of 1 candidates"):
        pick.group_weight(int32([0, 0]), float64([1, 2]), 1, weight=1, limits=[(int32([1]), 1)])


def test_a_workspace_that_shrank_in_use_does_not_remember():
    """Workspaces are reused: a large request before must not change the answer of a small one."""
    for count in (300, 2, 40, 0, 40):
        source, score = uint8([0, 1] * count)[:count], float64(range(count))
        shares = [weighted(0, 1), weighted(1, 2)]
        assert snaked(plain(source, score), shares, 20) == reference.snake(
            items_of(int32(range(count)), source, score), shares, 20, False
        )
