"""In what order candidates are shown: the best, and PAI-Rec's DiversityRuleSort."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.recall import add
from pairec_fast.core.rerank import DiversityRules, top_k
from tests import reference

CASES = json.loads((Path(__file__).parent / "contract" / "pairec-cases.json").read_text())["cases"]
HUGE = 2**31 - 1


def values(*numbers):
    return np.array(numbers, np.int32)


def order(arena):
    return arena.order[: arena.order_count].tolist()


def filled(score, row=None):
    arena = Arena(max(1, len(score)), items_max=max(1, len(score)))
    arena.count = len(score)
    arena.row[: len(score)] = range(len(score)) if row is None else row
    arena.score[: len(score)] = score
    return arena


def ordered(count, sources=None, slots=None):
    """Rows 0 to `count` in the order of `slots` (as they lie, by default), each from its source."""
    arena = Arena(max(1, count), items_max=max(1, count))
    slots = list(range(count)) if slots is None else slots
    for row in range(count):
        add(arena, values(row), np.zeros(1, np.float32), sources[row] if sources else 0)
    for place, slot in enumerate(slots):
        arena.score[slot] = -place
    top_k(arena, max(1, count))
    assert order(arena) == slots
    return arena


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


# DiversityRules: (value of each row, interval, window, frequency, weight)


def test_not_more_than_interval_of_one_value_in_a_row():
    arena = ordered(6)
    DiversityRules([(values(1, 1, 1, 1, 2, 2), 2, 0, 0, 0.0)]).apply(arena, 6)
    assert order(arena) == [0, 1, 4, 2, 3, 5]


def test_at_most_frequency_of_one_value_within_a_window():
    arena = ordered(6)
    DiversityRules([(values(1, 1, 1, 2, 2, 3), 0, 3, 1, 0.0)]).apply(arena, 6)
    assert order(arena) == [0, 3, 5, 1, 4, 2]


def test_size_plus_one_places_are_filled_and_the_rest_keeps_its_order():
    arena = ordered(6)
    DiversityRules([(values(1, 1, 1, 2, 2, 2), 1, 0, 0, 0.0)]).apply(arena, 2)
    assert order(arena) == [0, 3, 1, 2, 4, 5]


def test_when_none_passes_all_the_largest_sum_of_weights_wins_and_the_first_on_ties():
    """After row 0 nobody differs in both; 1 and 2 differ in the light value, 3 and 4 in the heavy one."""
    light, heavy = values(0, 1, 2, 0, 0), values(0, 0, 0, 3, 4)
    arena = ordered(5)
    DiversityRules([(light, 1, 0, 0, 1.0), (heavy, 1, 0, 0, 2.0)]).apply(arena, 1)
    assert order(arena) == [0, 3, 1, 2, 4]
    arena = ordered(5)
    DiversityRules([(light, 1, 0, 0, 0.0), (heavy, 1, 0, 0, 0.0)]).apply(arena, 1)
    assert order(arena) == [0, 1, 2, 3, 4], "without weights the first"


def test_explore_looks_at_so_many_candidates_and_no_further():
    rule = (values(1, 1, 1, 2), 1, 0, 0, 0.0)
    for explore, expected in ((2, [0, 1, 2, 3]), (3, [0, 3, 1, 2]), (HUGE, [0, 3, 1, 2]), (0, [0, 3, 1, 2])):
        arena = ordered(4)
        DiversityRules([rule], explore=explore).apply(arena, 1)
        assert order(arena) == expected


def test_sources_apart_are_appended_at_the_end_in_their_order():
    arena = ordered(6, sources=[9, 0, 0, 255, 0, 9])
    DiversityRules([(values(1, 1, 1, 2, 2, 2), 1, 0, 0, 0.0)], apart={9, 255}).apply(arena, 6)
    assert order(arena) == [1, 4, 2, 0, 3, 5]


def test_without_rules_nothing_moves_not_even_what_is_apart():
    arena = ordered(3, sources=[1, 0, 0])
    DiversityRules([], apart=[1]).apply(arena, 3)
    assert order(arena) == [0, 1, 2]


@pytest.mark.parametrize("size", [-(2**31), -1, 0, 1, HUGE])
def test_any_size_ends_and_keeps_every_candidate(size):
    arena = ordered(5)
    DiversityRules([(values(1, 1, 1, 2, 2), 1, HUGE, HUGE - 1, 0.0)], explore=HUGE).apply(arena, size)
    assert order(arena) == ([0, 3, 1, 4, 2] if size == HUGE else [0, 3, 1, 2, 4] if size == 1 else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 16, 17, 60])
@pytest.mark.parametrize("seed", range(40))
def test_diversify_agrees_with_reference(count, seed):
    rng = np.random.default_rng(seed * 100 + count)
    rules, columns = [], []
    for _ in range(rng.integers(1, 4)):
        columns.append(rng.integers(-2, rng.integers(-1, 6), count).astype(np.int32))
        words = ("IntervalSize", "WindowSize", "FrequencySize")
        rule = dict(zip(words, rng.integers(0, [4, 9, 4]).tolist(), strict=True))
        rules.append({**rule, "Weight": float(rng.choice([0.0, 0.5, 1.0, 2.5, -1.0]))})
    sources, slots = rng.integers(0, 4, count).tolist(), rng.permutation(count).tolist()
    size, explore = int(rng.integers(0, count + 3)), int(rng.choice([0, 0, 1, 3, 1000]))
    apart = set(rng.choice(4, rng.integers(0, 3), replace=False).tolist()) if seed % 2 else set()
    arena = ordered(count, sources, slots)
    DiversityRules(
        [(column, *rule.values()) for column, rule in zip(columns, rules, strict=True)], apart, explore
    ).apply(arena, size)
    items = [(slot, sources[slot], [column[slot] for column in columns]) for slot in slots]
    assert order(arena) == reference.diversity_sort(items, rules, size, explore, apart)


def item_text(value):
    """PAIREC 0.4: text as is, ints printed, doubles truncated, everything else and missing empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(int(value)) if isinstance(value, float) else str(value)


def diversity_cases():
    kernel = {"SortType", "DiversityRules", "DiversitySize", "ExploreItemSize", "ExcludeRecalls"}
    for case in CASES:
        if case["suite"] == "sort" and case["input"]["sort"].get("SortType") == "DiversityRuleSort":
            more = sorted(set(case["input"]["sort"]) - kernel)
            marks = [pytest.mark.skip(reason=f"needs {', '.join(more)}: the stage's business, not the kernel's")]
            yield pytest.param(case, id=case["id"], marks=marks if more else [])


@pytest.mark.parametrize("case", list(diversity_cases()))
def test_cases_of_pai_rec(case):
    sort, items = case["input"]["sort"], case["input"]["items"]
    recalls = sorted({recall for _, _, recall, *_ in items})
    rules, texts = [], []
    for rule in sort["DiversityRules"]:
        properties = [more[0] if more else {} for _, _, _, *more in items]
        text = ["_".join(item_text(one.get(name)) for name in rule["Dimensions"]) for one in properties]
        codes = {one: code for code, one in enumerate(dict.fromkeys(text))}
        numbers = (rule.get(name, 0) for name in ("IntervalSize", "WindowSize", "FrequencySize", "Weight"))
        rules.append((values(*(codes[one] for one in text)), *numbers))
        texts.append(text)
    size = min(sort.get("DiversitySize", 0), len(items)) or case["input"]["size"]
    excluded, explore = sort.get("ExcludeRecalls", []), sort.get("ExploreItemSize", 0)
    arena = ordered(len(items), [recalls.index(recall) for _, _, recall, *_ in items])
    DiversityRules(rules, {recalls.index(name) for name in excluded if name in recalls}, explore).apply(arena, size)
    assert [items[slot][0] for slot in order(arena)] == case["expected"]["ids"]
    named = [(id, recall, [text[place] for text in texts]) for place, (id, _, recall, *_) in enumerate(items)]
    twin = reference.diversity_sort(named, sort["DiversityRules"], size, explore, excluded)
    assert twin == case["expected"]["ids"], "the slow twin reads PAI-Rec as its tests do"


def test_a_case_of_pai_rec_is_found():
    assert sum(not case.marks for case in diversity_cases()) >= 5


@pytest.mark.parametrize("source", [-1, 256])
def test_a_source_that_is_no_byte_is_refused(source):
    with pytest.raises(ValueError, match=f"a source must be 0 to 255, got {source}"):
        DiversityRules([], apart=[0, source])


@pytest.mark.parametrize("rule", [(None, 1, 0, 0, 0.0), (values(1), 1, 0, 0, np.nan)])
def test_a_rule_without_values_or_with_a_weight_that_has_no_order_is_refused(rule):
    with pytest.raises(ValueError, match="a rule needs an array of values and a weight that is not NaN"):
        DiversityRules([rule])


@pytest.mark.parametrize("items", [0, 2])
def test_values_for_fewer_items_than_the_candidates_have_are_refused(items):
    rules = DiversityRules([(values(1, 2, 3), 1, 0, 0, 0.0), (np.zeros(items, np.int32), 1, 0, 0, 0.0)])
    with pytest.raises(ValueError, match=rf"arena\.row\[{items}\] is {items}; rows here are 0 to {items - 1}"):
        rules.apply(ordered(3), 3)


def test_an_order_of_slots_that_do_not_live_is_refused():
    """Python can write `order`, or take candidates away after it was made."""
    arena = ordered(3)
    arena.count = 2
    with pytest.raises(ValueError, match=r"arena\.order\[2\] is 2; rows here are 0 to 1"):
        DiversityRules([(values(1, 2, 3), 1, 0, 0, 0.0)]).apply(arena, 3)


def test_wrong_dtypes_are_refused():
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        DiversityRules([(np.zeros(3, np.int64), 1, 0, 0, 0.0)])


def test_rules_keep_their_arrays_alive():
    rules = DiversityRules([(np.arange(100_000, dtype=np.int32) // 50_000, 1, 0, 0, 0.0)])
    gc.collect()
    np.full(100_000, 7, np.int32)  # would be given the freed memory
    arena = Arena(3, items_max=100_000)
    add(arena, values(0, 1, 99_999), np.zeros(3, np.float32), 0)
    top_k(arena, 3)
    rules.apply(arena, 3)
    assert order(arena) == [0, 2, 1]
