"""Candidates into the arena: each row once, the first recall to bring a row keeps it."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.index import VectorIndex
from pairec_fast.core.recall import Neighbours, add, nearest
from tests import reference


def rows(*numbers):
    return np.array(numbers, np.int32)


def floats(*numbers):
    return np.array(numbers, np.float32)


def candidates(arena):
    columns = (arena.row, arena.source, arena.recall_score)
    return list(zip(*(column[: arena.count].tolist() for column in columns), strict=True))


def random_table(rng, items, density, few=False):
    """Offsets, neighbours (some twice, some the row itself) and weights; `few` distinct weights make ties."""
    counts = rng.integers(0, density + 1, items)
    offset = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    neighbour = rng.integers(0, items, offset[-1]).astype(np.int32)
    weight = rng.integers(-2, 3, offset[-1]) if few else rng.normal(size=offset[-1])
    return offset, neighbour, weight.astype(np.float32)


def test_the_first_recall_to_bring_a_row_keeps_it():
    arena = Arena(10, items_max=10)
    assert add(arena, rows(3, 1), floats(0.5, 0.25), 1) == 2
    assert add(arena, rows(1, 7, 3, 7), floats(9, 8, 7, 6), 2) == 1
    assert candidates(arena) == [(3, 1, 0.5), (1, 1, 0.25), (7, 2, 8.0)]


def test_a_full_arena_takes_no_more_and_says_so():
    arena = Arena(3, items_max=10)
    assert add(arena, rows(0, 1, 2, 3, 4), floats(5, 4, 3, 2, 1), 0) == 3
    assert add(arena, rows(9), floats(1), 0) == 0
    assert candidates(arena) == [(0, 0, 5.0), (1, 0, 4.0), (2, 0, 3.0)]


def test_a_row_refused_by_a_full_arena_is_not_marked_as_seen():
    arena = Arena(1, items_max=3)
    add(arena, rows(0, 1), floats(1, 1), 0)
    arena.count = 0
    assert add(arena, rows(0, 1), floats(1, 1), 0) == 1
    assert arena.row[0] == 1, "row 0 was seen, row 1 was never a candidate"


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 300])
@pytest.mark.parametrize("items", [1, 16, 1000])
@pytest.mark.parametrize("candidates_max", [1, 16, 500])
def test_add_agrees_with_reference(count, items, candidates_max):
    """Three recalls one after the other, many rows twice."""
    rng = np.random.default_rng(count * 31 + items)
    arena, expected = Arena(candidates_max, items_max=items), []
    for source in (0, 7, 255):
        before = len(expected)
        row, score = rng.integers(0, items, count).astype(np.int32), rng.normal(size=count).astype(np.float32)
        expected = reference.add(expected, row, score, source, candidates_max)
        assert add(arena, row, score, source) == len(expected) - before
    assert candidates(arena) == expected


def test_scores_pass_unchanged_even_those_that_are_no_numbers():
    arena = Arena(4, items_max=4)
    scores = floats(np.nan, np.inf, -np.inf, -0.0)
    add(arena, rows(0, 1, 2, 3), scores, 0)
    np.testing.assert_array_equal(arena.recall_score.view(np.uint64), scores.astype(np.float64).view(np.uint64))


@pytest.mark.parametrize("row", [-1, 10, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [0, 16, 40])
def test_a_row_beyond_the_item_table_is_refused_and_none_of_the_others_added(row, place):
    arena = Arena(50, items_max=10)
    wrong = np.zeros(41, np.int32)
    wrong[place] = row
    with pytest.raises(ValueError, match=rf"rows\[{place}\] is {row}; rows here are 0 to 9"):
        add(arena, wrong, np.zeros(41, np.float32), 0)
    assert arena.count == 0


@pytest.mark.parametrize("source", [-1, 256, 2**31 - 1])
def test_a_source_that_is_no_byte_is_refused(source):
    table = Neighbours(np.array([0, 1]), rows(0), floats(1))
    with pytest.raises(ValueError, match=f"source must be 0 to 255, got {source}"):
        add(Arena(1), rows(0), floats(1), source)
    with pytest.raises(ValueError, match=f"source must be 0 to 255, got {source}"):
        table.add_similar(Arena(1), rows(0), 1, source)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match="2 rows, 1 scores"):
        add(Arena(4, items_max=4), rows(0, 1), floats(1), 0)


@pytest.mark.parametrize(
    ("row", "score"),
    [
        (np.zeros(2, np.int64), floats(1, 1)),
        (np.zeros(2, np.uint32), floats(1, 1)),
        (rows(0, 1), np.zeros(2, np.int64)),
        (np.zeros((2, 1), np.int32), floats(1, 1)),
        (np.zeros(4, np.int32)[::2], floats(1, 1)),
    ],
)
def test_wrong_dtypes_and_shapes_are_refused(row, score):
    with pytest.raises(ValueError, match=r"Buffer|contiguous"):
        add(Arena(4, items_max=4), row, score, 0)


def test_similar_items_by_hand():
    """0 -> 1 (0.5), 2 (0.25); 1 -> 2 (0.5). From 0 and 1 together: 2 has 0.75, 1 has 0.5."""
    table = Neighbours(np.array([0, 2, 3, 3]), rows(1, 2, 2), floats(0.5, 0.25, 0.5))
    assert table.items == 3 and table.neighbour.tolist() == [1, 2, 2]
    arena = Arena(5, items_max=3)
    assert table.add_similar(arena, rows(0, 1), 10, 4) == 2
    assert candidates(arena) == [(2, 4, 0.75), (1, 4, 0.5)]
    arena.reset()
    assert table.add_similar(arena, rows(0, 0), 1, 4) == 1, "an item seen twice counts twice"
    assert candidates(arena) == [(1, 4, 1.0)]
    arena.reset()
    assert table.add_similar(arena, rows(2), 10, 4) == 0, "no neighbours"
    assert table.add_similar(arena, rows(), 10, 4) == 0, "no history"
    assert table.add_similar(arena, rows(0), 0, 4) == 0, "none asked for"


def test_sums_can_be_divided_by_the_first_and_largest():
    table = Neighbours(np.array([0, 2, 3, 4]), rows(1, 2, 2, 0), floats(3.0, 1.0, 0.0, -2.0))
    arena = Arena(9, items_max=3)
    add(arena, rows(1), floats(7), 0)
    arena_before = candidates(arena)
    assert table.add_similar(arena, rows(0), 9, 1, normalize=True) == 1
    assert candidates(arena) == [*arena_before, (2, 1, 1.0)], "the item that was there is no measure"
    arena.reset()
    table.add_similar(arena, rows(0), 9, 1, normalize=True)
    assert candidates(arena) == [(1, 1, 1.0), (2, 1, np.float64(1.0) / 3.0)]
    for history, score in ((1, 0.0), (2, -2.0)):
        arena.reset()
        table.add_similar(arena, rows(history), 9, 1, normalize=True)
        assert [candidate[2] for candidate in candidates(arena)] == [score], "only by what is positive"


def test_equal_sums_go_by_row():
    table = Neighbours(np.array([0, 4, 4, 4, 4]), rows(3, 1, 2, 0), floats(1, 1, 1, 1))
    arena = Arena(4, items_max=4)
    table.add_similar(arena, rows(0), 3, 0)
    assert arena.row[: arena.count].tolist() == [0, 1, 2]


def test_what_another_recall_brought_counts_against_k_but_not_twice():
    table = Neighbours(np.array([0, 3, 3, 3, 3]), rows(1, 2, 3), floats(3, 2, 1))
    arena = Arena(4, items_max=4)
    add(arena, rows(1), floats(9), 0)
    assert table.add_similar(arena, rows(0), 2, 1) == 1
    assert candidates(arena) == [(1, 0, 9.0), (2, 1, 2.0)]


@pytest.mark.parametrize("few", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("history_count", [0, 1, 2, 50])
@pytest.mark.parametrize("k", [1, 15, 16, 17, 2**31 - 1])
def test_add_similar_agrees_with_reference(few, history_count, k):
    """History with repeats; sums to the last bit, because they are added in the same order."""
    rng = np.random.default_rng(k * 31 + history_count)
    table = random_table(rng, 200, 30, few)
    history = rng.integers(0, 200, history_count).astype(np.int32)
    arena = Arena(100, items_max=300)
    add(arena, rows(5, 6), floats(1, 1), 1)
    best = reference.most_similar(*table, history, k)
    similar, sums = zip(*best, strict=True) if best else ((), ())
    expected = reference.add([(5, 1, 1.0), (6, 1, 1.0)], similar, sums, 2, 100)
    assert Neighbours(*table).add_similar(arena, history, k, 2) == len(expected) - 2
    np.testing.assert_array_equal(arena.row[: arena.count], [row for row, _, _ in expected])
    np.testing.assert_array_equal(arena.recall_score[: arena.count], np.float32([score for _, _, score in expected]))


@pytest.mark.parametrize("few", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("touched", [127, 128, 129, 700, 2000])
@pytest.mark.parametrize("candidates_max", [100, 700, 5000])
@pytest.mark.parametrize("room", [2, 3], ids=["no room to sort digits in", "room"])
def test_many_sums_are_in_order_however_they_are_sorted(few, touched, candidates_max, room):
    """By digits where there is memory for it, else by comparing."""
    rng = np.random.default_rng(touched)
    items = touched * room - 2
    neighbour = rng.permutation(items)[:touched].astype(np.int32)
    weight = rng.integers(-2, 3, touched) if few else rng.normal(size=touched) * 10.0 ** rng.integers(-9, 9, touched)
    table = np.linspace(0, touched, items + 1).astype(np.int64), neighbour, weight.astype(np.float32)
    history = np.arange(items, dtype=np.int32)
    for k in (1, 50, 128, touched):
        arena = Arena(candidates_max, items_max=items)
        best = reference.most_similar(*table, history, k)[:candidates_max]
        assert Neighbours(*table).add_similar(arena, history, k, 2) == len(best)
        assert arena.row[: arena.count].tolist() == [row for row, _ in best]
        np.testing.assert_array_equal(arena.recall_score[: arena.count], np.float32([score for _, score in best]))


def test_a_sum_does_not_remember_the_request_before():
    table = Neighbours(np.array([0, 1, 1]), rows(1), floats(1))
    arena = Arena(2, items_max=2)
    for _ in range(3):
        arena.reset()
        table.add_similar(arena, rows(0), 1, 0)
        assert arena.recall_score[0] == 1.0


@pytest.mark.parametrize("row", [-1, 3, 2**31 - 1])
def test_a_history_beyond_the_table_is_refused(row):
    table = Neighbours(np.array([0, 0, 0, 0]), rows(), floats())
    with pytest.raises(ValueError, match=rf"history\[1\] is {row}; rows here are 0 to 2"):
        table.add_similar(Arena(1, items_max=10), rows(0, row), 1, 0)


def test_an_arena_for_fewer_items_than_the_table_is_refused():
    table = Neighbours(np.array([0, 0, 0, 0]), rows(), floats())
    with pytest.raises(ValueError, match="arena for 2 items, table of 3"):
        table.add_similar(Arena(1, items_max=2), rows(0), 1, 0)


def test_a_negative_k_is_refused():
    table = Neighbours(np.array([0, 1]), rows(0), floats(1))
    with pytest.raises(ValueError, match="k must not be negative, got -1"):
        table.add_similar(Arena(1), rows(0), -1, 0)


@pytest.mark.parametrize(
    ("offset", "neighbour", "weight"),
    [
        ([], [], []),
        ([0], [], []),  # no items
        ([1, 2], [0, 0], [1, 1]),
        ([0, 1], [0, 0], [1, 1]),
        ([0, 3], [0, 0], [1, 1]),
        ([0, 2, 1, 2], [0, 0], [1, 1]),
        ([0, 2], [0, 0], [1]),
        ([0, 1], [1], [1]),
        ([0, 1], [-1], [1]),
        ([0, 1], [0], [np.nan]),
        ([0, 2], [0, 0], [np.inf, -np.inf]),  # their sum is no number
    ],
)
def test_a_table_that_does_not_fit_together_is_refused(offset, neighbour, weight):
    with pytest.raises(ValueError, match=r"offset must|a neighbour is not a row|a weight is not finite"):
        Neighbours(np.array(offset, np.int64), rows(*neighbour), floats(*weight))


def test_the_table_keeps_its_arrays_alive():
    table = Neighbours(*random_table(np.random.default_rng(3), 2000, 50))
    gc.collect()
    arena = Arena(2000, items_max=2000)
    assert 0 < table.add_similar(arena, np.arange(2000, dtype=np.int32), 2000, 0) <= 2000


def test_nearest_adds_the_items_its_vectors_belong_to(tmp_path):
    vectors = np.eye(4, dtype=np.float32)
    VectorIndex.build(vectors, tmp_path / "v.index", kind="flat")
    index, rows = VectorIndex.load(tmp_path / "v.index"), np.array([2, 5, 7, 9], np.int32)
    arena = Arena(10, items_max=10)
    assert nearest(arena, index, rows, np.array([0, 3, 2, 1], np.float32), 3, 4, 1) == 3
    assert arena.row[:3].tolist() == [5, 7, 9]
    assert arena.recall_score[:3].tolist() == [3, 2, 1]
    assert nearest(arena, index, rows, np.zeros(4, np.float32), 3, 4, 1) == 0, "a zero query has no direction"
    assert nearest(arena, index, rows, np.array([1, 9, 9, 9], np.float32), 4, 4, 1) == 1, "three are candidates already"


def test_nearest_refuses_rows_beyond_the_arena_and_queries_of_another_length(tmp_path):
    VectorIndex.build(np.eye(3, dtype=np.float32), tmp_path / "v.index", kind="flat")
    index, query = VectorIndex.load(tmp_path / "v.index"), np.ones(3, np.float32)
    arena = Arena(10, items_max=3)
    for rows, message in (([0, 1], "2 rows, index of 3"), ([3, 1, 0], "rows lead beyond the 3 items")):
        with pytest.raises(ValueError, match=message):
            nearest(arena, index, np.array(rows, np.int32), query, 3, 1, 0)
    assert arena.count == 0
    rows = np.arange(3, dtype=np.int32)
    with pytest.raises(ValueError, match="query of 2 dimensions"):
        nearest(arena, index, rows, query[:2], 1, 1, 0)
    for k, effort in ((0, 1), (1, -1), (-1, 5)):
        with pytest.raises(ValueError, match="must be positive and effort"):
            nearest(arena, index, rows, query, k, effort, 0)
    with pytest.raises(ValueError, match=r"deny\[1\] is 3; rows here are 0 to 2"):
        nearest(arena, index, rows, query, 1, 0, 0, deny=np.array([0, 3], np.int32))
    other = VectorIndex.load(index.path).filter(np.ones(3, bool))
    with pytest.raises(ValueError, match="Filter of another index"):
        nearest(arena, index, rows, query, 1, 0, 0, allow=other)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "partition"])
def test_nearest_finds_what_a_search_finds_under_filters_too(tmp_path, kind):
    """It takes its memory from the same stock, so searches of all sizes take turns."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(8)
    vectors = rng.standard_normal((3_020, 20)).astype(np.float32)
    VectorIndex.build(vectors[:3_000], tmp_path / "v.index", kind=kind, k=20, queries=vectors[:10])
    index, arena = VectorIndex.load(tmp_path / "v.index", spare=20), Arena(4_000, items_max=4_000)
    for vector in vectors[3_000:]:
        index.append(vector)
    rows = rng.permutation(4_000).astype(np.int32)
    filters = [None, *(index.filter(rng.random(3_020) < share) for share in (0.9, 0.3, 0.01))]
    for turn in range(40):
        query, deny = rng.standard_normal(20).astype(np.float32), rng.choice(3_020, 10).astype(np.int32)
        k, effort, allow, mode = int(2 ** rng.integers(11)), [0, 1, 100][turn % 3], filters[turn % 4], turn % 2
        arena.reset()
        nearest(arena, index, rows, query, k, effort, 3, allow=allow, deny=deny, adaptive=mode)
        expected, scores = index.search(query, k, effort or None, allow, deny, ["budget", "recall"][mode])
        np.testing.assert_array_equal(arena.row[: arena.count], rows[expected])
        np.testing.assert_array_equal(arena.recall_score[: arena.count], scores)
