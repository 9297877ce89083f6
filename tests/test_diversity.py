"""PAI-Rec's DiversityRuleSort over arrays: rules, exclusions, dimensions with several values."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pairec_fast.core import Arena, in_order
from pairec_fast.core.rerank import DiversityRules, ValueLists
from tests import reference_rerank as reference
from tests.orders import order, ordered, values

HUGE = 2**31 - 1


def diversify(arena, rules, size, exclusions=(), **conf):
    """Rules are (values of each slot, interval, window, frequency, weight); exclusions (slots, positions from 1 on)."""
    arrays = []
    for slots, positions in exclusions:
        match, at = np.zeros(arena.count, np.uint8), np.zeros(max(positions), np.uint8)
        match[slots] = 1
        at[np.array(positions) - 1] = 1
        arrays.append((match, at))
    given = [(value, []) if isinstance(value, np.ndarray) else value for value, *_ in rules]
    DiversityRules([tuple(rule) for _, *rule in rules], **conf).apply(arena, size, given, arrays)


def lists_of(*sets):
    """A code for each, and the lists of the codes."""
    distinct = sorted({tuple(sorted(one)) for one in sets})
    offset = np.cumsum([0, *map(len, distinct)]).astype(np.int32)
    lists = ValueLists(offset, values(*(value for one in distinct for value in one)))
    return values(*(distinct.index(tuple(sorted(one))) for one in sets)), lists


def test_not_more_than_interval_of_one_value_in_a_row():
    arena = ordered(6)
    diversify(arena, [(values(1, 1, 1, 1, 2, 2), 2, 0, 0, 0.0)], 6)
    assert order(arena) == [0, 1, 4, 2, 3, 5]


def test_at_most_frequency_of_one_value_within_a_window():
    arena = ordered(6)
    diversify(arena, [(values(1, 1, 1, 2, 2, 3), 0, 3, 1, 0.0)], 6)
    assert order(arena) == [0, 3, 5, 1, 4, 2]


def test_size_plus_one_places_are_filled_and_the_rest_keeps_its_order():
    arena = ordered(6)
    diversify(arena, [(values(1, 1, 1, 2, 2, 2), 1, 0, 0, 0.0)], 2)
    assert order(arena) == [0, 3, 1, 2, 4, 5]


def test_when_none_passes_all_the_largest_sum_of_weights_wins_and_the_first_on_ties():
    """After row 0 nobody differs in both; 1 and 2 differ in the light value, 3 and 4 in the heavy one."""
    light, heavy = values(0, 1, 2, 0, 0), values(0, 0, 0, 3, 4)
    for weights, expected in (
        ((1.0, 2.0), [0, 3, 1, 2, 4]),
        ((0.0, 0.0), [0, 1, 2, 3, 4]),
        ((-2.0, -1.0), [0, 1, 2, 3, 4]),
    ):
        arena = ordered(5)
        diversify(arena, [(light, 1, 0, 0, weights[0]), (heavy, 1, 0, 0, weights[1])], 1)
        assert order(arena) == expected, "without a weight above zero the first"


def test_explore_looks_so_far_and_no_further():
    rule = (values(1, 1, 1, 2), 1, 0, 0, 0.0)
    for explore, expected in ((2, [0, 1, 2, 3]), (3, [0, 3, 1, 2]), (HUGE, [0, 3, 1, 2]), (0, [0, 3, 1, 2])):
        arena = ordered(4)
        diversify(arena, [rule], 1, explore=explore)
        assert order(arena) == expected


def test_explore_counts_places_that_are_taken_already():
    """After 0 and 2, candidate 3 lies two behind 1 as it did before 2 was taken."""
    arena = ordered(5)
    diversify(arena, [(values(1, 1, 2, 3, 1), 1, 0, 0, 0.0)], 4, explore=2)
    assert order(arena) == [0, 2, 1, 3, 4]
    arena = ordered(5)
    diversify(arena, [(values(1, 2, 1, 2, 1), 0, 3, 1, 0.0)], 4, explore=1)
    assert order(arena) == [0, 1, 2, 3, 4]


def test_sources_apart_are_appended_at_the_end_in_their_order():
    arena = ordered(6, sources=[9, 0, 0, 255, 0, 9])
    diversify(arena, [(values(1, 1, 1, 2, 2, 2), 1, 0, 0, 0.0)], 6, apart={9, 255})
    assert order(arena) == [1, 4, 2, 0, 3, 5]
    arena = ordered(3, sources=[9, 9, 9], slots=[2, 0, 1])
    diversify(arena, [(values(1, 1, 1), 1, 0, 0, 0.0)], 3, apart={9})
    assert order(arena) == [2, 0, 1], "when all are apart nothing moves"


def test_without_rules_nothing_moves_not_even_what_is_apart():
    arena = ordered(3, sources=[1, 0, 0])
    diversify(arena, [], 3, apart=[1])
    assert order(arena) == [0, 1, 2]


def test_who_is_excluded_from_a_place_stands_elsewhere():
    arena = ordered(4)
    diversify(arena, [(values(1, 2, 3, 4), 1, 0, 0, 0.0)], 4, [([0, 1], [1]), ([2], [2])])
    assert order(arena) == [2, 0, 1, 3]


def test_when_all_are_excluded_the_first_starts_and_later_the_rest_follows():
    arena = ordered(4)
    diversify(arena, [(values(1, 1, 1, 2), 1, 0, 0, 0.0)], 4, [([0, 1, 2, 3], [1])])
    assert order(arena) == [0, 3, 1, 2]
    arena = ordered(4)
    diversify(arena, [(values(1, 1, 1, 2), 1, 0, 0, 0.0)], 4, [([0, 1, 2, 3], [2])])
    assert order(arena) == [0, 1, 2, 3]


def test_two_lists_are_alike_when_they_share_a_value():
    code, lists = lists_of({1, 2}, {2, 3}, {4}, {1, 4})
    arena = ordered(4)
    diversify(arena, [((None, [(code, lists)]), 1, 0, 0, 0.0)], 4)
    assert order(arena) == [0, 2, 1, 3]
    arena = ordered(4)
    diversify(arena, [((values(1, 2, 1, 1), [(code, lists)]), 1, 0, 0, 0.0)], 4)
    assert order(arena) == [0, 1, 2, 3], "and when the other dimensions are alike too"


@pytest.mark.parametrize("size", [-(2**31), -1, 0, 1, HUGE])
def test_any_size_ends_and_keeps_every_candidate(size):
    arena = ordered(5)
    diversify(arena, [(values(1, 1, 1, 2, 2), 1, HUGE, HUGE - 1, 0.0)], size, explore=HUGE)
    assert order(arena) == ([0, 3, 1, 4, 2] if size == HUGE else [0, 3, 1, 2, 4] if size == 1 else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 17, 60])
@pytest.mark.parametrize("seed", range(60))
def test_diversify_agrees_with_reference(count, seed):
    rng = np.random.default_rng(seed * 100 + count)
    rules, given, readable = [], [], []
    for _ in range(rng.integers(1, 4)):
        plain = rng.integers(-2, rng.integers(-1, 6), count).astype(np.int32)
        several = [set(rng.integers(0, 6, rng.integers(1, 4)).tolist()) for _ in range(count)]
        kind = rng.integers(3) if count else 0
        given.append((None if kind == 2 else plain, [] if kind == 0 else [lists_of(*several)]))
        readable.append(
            [
                int(plain[slot]) if kind == 0 else (several[slot], 0 if kind == 2 else int(plain[slot]))
                for slot in range(count)
            ]
        )
        words = ("IntervalSize", "WindowSize", "FrequencySize")
        rule = dict(zip(words, rng.integers(0, [4, 9, 4]).tolist(), strict=True))
        rules.append({**rule, "Weight": float(rng.choice([0.0, 0.5, 1.0, 2.5, -1.0]))})
    sources, slots = rng.integers(0, 4, count).tolist(), rng.permutation(count).tolist()
    size, explore = int(rng.integers(0, count + 3)), int(rng.choice([0, 0, 1, 3, 1000]))
    apart = set(rng.choice(4, rng.integers(0, 3), replace=False).tolist()) if seed % 2 else set()
    exclusions = [
        (np.flatnonzero(rng.random(count) < 0.5).tolist(), rng.integers(1, count + 3, 4).tolist())
        for _ in range(rng.integers(0, 3) if seed % 3 else 0)
    ]
    arena = ordered(count, sources, slots)
    diversify(
        arena, [(given[at], *rule.values()) for at, rule in enumerate(rules)], size, exclusions, apart=apart,
        explore=explore,
    )  # fmt: skip
    items = [(slot, sources[slot], [column[slot] for column in readable]) for slot in slots]
    read = [(positions, slots) for slots, positions in exclusions]
    assert order(arena) == reference.diversity_sort(items, rules, size, explore, apart, read)


@pytest.mark.parametrize("apart", [(), (1,)])
@pytest.mark.parametrize("seed", range(5))
def test_values_by_row_act_as_the_same_values_by_slot(apart, seed):
    """They are read when they are needed: what changes in between is seen."""
    rng = np.random.default_rng(seed)
    count, tables = 50, [np.zeros(200, np.int32) for _ in range(2)]
    rules = [(1, 0, 0, 0.5), (0, 5, 2, 1.0)]
    kernel = DiversityRules(rules, apart, by_row=tables)
    slots = rng.permutation(count).tolist()
    row, source = rng.permutation(200)[:count], rng.integers(0, 3, count)
    for table in tables:
        table[:] = rng.integers(0, 4, 200)
    orders = []
    for given in (None, [(table[row], []) for table in tables]):
        arena = ordered(count, slots=slots)
        arena.row[:count], arena.source[:count] = row, source
        kernel.apply(arena, 20, given)
        orders.append(order(arena))
    assert orders[0] == orders[1] and orders[0] != slots and sorted(orders[0]) == list(range(count))


def test_values_by_row_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="arrays of 1 rules; there are 2"):
        DiversityRules([(1, 0, 0, 0.0)] * 2, by_row=[values(1)])
    arena = Arena(3, items_max=9)
    arena.count = 3
    arena.row[:3] = [0, 2, 1]
    in_order(arena)
    with pytest.raises(ValueError, match=r"arena\.row\[1\] is 2; rows here are 0 to 1"):
        DiversityRules([(1, 0, 0, 0.0)] * 2, by_row=[values(1, 2), values(1, 2, 3)]).apply(arena, 3)
    with pytest.raises(ValueError, match="values of 0 rules; there are 1"):
        DiversityRules([(1, 0, 0, 0.0)]).apply(arena, 3)


@pytest.mark.parametrize("source", [-1, 256])
def test_a_source_that_is_no_byte_is_refused(source):
    with pytest.raises(ValueError, match=f"a source must be 0 to 255, got {source}"):
        DiversityRules([], apart=[0, source])


def test_a_weight_that_has_no_order_is_refused():
    with pytest.raises(ValueError, match="a weight must not be NaN"):
        DiversityRules([(1, 0, 0, np.nan)])


def test_arrays_that_do_not_fit_are_refused():
    arena, rules = ordered(3), DiversityRules([(1, 0, 0, 0.0)])
    lists = lists_of({1}, {2}, {3})[1]
    for given, exclusions, message in (
        ([], [], "values of 0 rules; there are 1"),
        ([(values(1, 2), [])], [], "values has 2 slots, the arena 3"),
        ([(None, [(values(0, 1), lists)])], [], "codes has 2 slots, the arena 3"),
        ([(None, [(values(0, 1, 3), lists)])], [], r"codes\[2\] is 3; rows here are 0 to 2"),
        ([(values(1, 2, 3), [])], [(np.ones(2, np.uint8), np.ones(1, np.uint8))], "match has 2 slots, the arena 3"),
    ):
        with pytest.raises(ValueError, match=message):
            rules.apply(arena, 3, given, exclusions)
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        rules.apply(arena, 3, [(np.zeros(3, np.int64), [])])
    arena.count = 2
    with pytest.raises(ValueError, match=r"arena\.order\[2\] is 2; rows here are 0 to 1"):
        rules.apply(arena, 3, [(values(1, 2), [])])


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        ([], [], "offsets must lead from 0 to the 0 values"),
        ([0, 1], [1, 2], "offsets must lead from 0 to the 2 values"),
        ([1, 2], [1, 2], "offsets must lead from 0"),
        ([0, 0, 1], [1], "list 0 lies at 0 to 0; it needs a value"),
        ([0, 3, 2], [1, 2], "list 0 lies at 0 to 3; it needs a value"),
        ([0, 2], [2, 2], "list 0 has 2 behind 2"),
    ],
)
def test_lists_that_are_none_are_refused(offset, value, message):
    with pytest.raises(ValueError, match=message):
        ValueLists(values(*offset), values(*value))


def test_lists_keep_their_arrays_alive():
    lists = ValueLists(np.arange(100_001, dtype=np.int32), np.arange(100_000, dtype=np.int32) // 50_000)
    gc.collect()
    np.full(100_001, 7, np.int32)  # would be given the freed memory
    arena = ordered(3)
    diversify(arena, [((None, [(values(0, 1, 99_999), lists)]), 1, 0, 0, 0.0)], 3)
    assert order(arena) == [0, 2, 1]
