"""From values to the matrix the forest reads: user values, item rows, cross features."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.features import Cross, Crosses
from pairec_fast.core.recall import Neighbours, add
from pairec_fast.core.simd import isas
from pairec_fast.errors import SnapshotError
from pairec_fast.features import table_and_newest
from tests import reference

NAN = np.nan
NONE = np.empty(0, np.int32)


def rows(*numbers):
    return np.array(numbers, np.int32)


def floats(*numbers):
    return np.array(numbers, np.float32)


def arena_of(row, items_max, width):
    arena = Arena(max(1, len(row)), items_max=items_max, width=width)
    add(arena, np.asarray(row, np.int32), np.zeros(len(row), np.float32), 0)
    return arena


def same_bits(actual, expected):
    np.testing.assert_array_equal(np.float32(actual).view(np.uint32), np.float32(expected).view(np.uint32))


def random_table(rng, items):
    offset = np.concatenate([[0], np.cumsum(rng.integers(0, 20, items))]).astype(np.int64)
    neighbour = rng.integers(0, items, offset[-1]).astype(np.int32)
    return offset, neighbour, rng.normal(size=offset[-1]).astype(np.float32)


def test_dot_cell_and_similarity_by_hand():
    dot = Cross.dot(floats([1, 2], [3, 4]), floats([10, 1], [0, -1], [5, 5]))
    same_bits(dot.pairs(rows(0, 0, 1, -1), rows(0, 1, 2, 0)), [12, -2, 35, NAN])

    values = floats([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    cell = Cross.cell(values, rows(1, -1, 0), rows(2, 0, -1, 2))
    same_bits(cell.pairs(rows(0, 0, 0, 1, 2, -1), rows(0, 1, 2, 0, 3, 0)), [0.6, 0.4, NAN, NAN, 0.3, NAN])
    same_bits(Cross.cell(values, None, None).pairs(rows(1, 0), rows(0, 2)), [0.4, 0.3])

    similarity = Cross.similarity(Neighbours(np.array([0, 2, 3, 3]), rows(1, 2, 2), floats(0.5, 0.25, 0.5)))
    offset, history = np.array([0, 2, 2, 4]), rows(0, 1, 0, 0)
    group, items = rows(0, 0, 0, 1, 2, 2), rows(2, 1, 0, 1, 1, 0)
    same_bits(similarity.histories(Arena(1, items_max=3), offset, history, group, items), [0.75, 0.5, 0, NAN, 1.0, 0])
    table = Neighbours(np.array([0, 2, 3, 3]), rows(1, 2, 2), floats(0.5, 0.25, 0.5))
    newest = Cross.similarity(table, 1).histories(Arena(1, items_max=3), offset, history, group, items)
    same_bits(newest, [0.5, 0, 0, NAN, 0.5, 0])
    mean = Cross.similarity(table, 5).histories(Arena(1, items_max=3), offset, history, group, items)
    same_bits(mean, [0.375, 0.25, 0, NAN, 0.5, 0])  # a history shorter than 5 is divided by its own length


def test_columns_by_hand():
    """A cell into the third of six columns; the others are left alone."""
    crosses = Crosses([(2, Cross.cell(floats([7, 8, 9]), None, None))])
    arena = arena_of([2, 0], 3, 6)
    arena.features[...] = -1
    crosses.fill(arena, 0, NONE)
    same_bits(arena.features, [[-1, -1, 9, -1, -1, -1], [-1, -1, 7, -1, -1, -1]])
    crosses.fill(arena, -1, NONE)
    same_bits(arena.features[:, 2], [NAN, NAN])


@pytest.mark.parametrize("dimensions", [0, 1, 15, 16, 17, 64])
def test_dot_agrees_with_reference_to_the_last_bit(dimensions):
    """Sums in double in order of dimension, on every machine: a training row equals the served one."""
    rng = np.random.default_rng(dimensions)
    users, items = (rng.normal(size=(count, dimensions)).astype(np.float32) * 1e10 for count in (7, 50))
    user, item = rng.integers(-1, 7, 200).astype(np.int32), rng.integers(0, 50, 200).astype(np.int32)
    expected = [reference.cross_dot(users, items, *pair) for pair in zip(user, item, strict=True)]
    same_bits(Cross.dot(users, items).pairs(user, item), expected)


@pytest.mark.parametrize("grouped", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 500])
def test_cell_agrees_with_reference(grouped, count):
    rng = np.random.default_rng(count)
    values = rng.normal(size=(4, 6)).astype(np.float32)
    values[1, 2] = NAN
    user_group = rng.integers(-1, 4, 30).astype(np.int32) if grouped[0] else None
    item_group = rng.integers(-1, 6, 80).astype(np.int32) if grouped[1] else None
    user = rng.integers(-1, 30 if grouped[0] else 4, count).astype(np.int32)
    item = rng.integers(0, 80 if grouped[1] else 6, count).astype(np.int32)
    expected = [reference.cross_cell(values, user_group, item_group, *pair) for pair in zip(user, item, strict=True)]
    same_bits(Cross.cell(values, user_group, item_group).pairs(user, item), expected)


@pytest.mark.parametrize("newest", [0, 1, 2, 29, 30, 1000])
def test_histories_agree_with_reference_also_where_groups_come_and_go(newest):
    rng = np.random.default_rng(5)
    table = random_table(rng, 60)
    offset = np.array([0, 0, 1, 30, 30, 90], np.int64)  # two empty histories, one of a single row, long ones
    history = rng.integers(0, 60, 90).astype(np.int32)
    group, items = rng.integers(0, 5, 400).astype(np.int32), rng.integers(0, 60, 400).astype(np.int32)
    expected = [
        reference.cross_similarity(*table, history[offset[one] : offset[one + 1]], item, newest)
        for one, item in zip(group, items, strict=True)
    ]
    cross = Cross.similarity(Neighbours(*table), newest)
    same_bits(cross.histories(Arena(1, items_max=60), offset, history, group, items), expected)
    assert cross.histories(Arena(1, items_max=60), np.zeros(1, np.int64), NONE, NONE, NONE).shape == (0,)
    same_bits(cross.histories(Arena(1, items_max=60), np.zeros(2, np.int64), NONE, rows(0), rows(1)), [NAN])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40])
@pytest.mark.parametrize("user", [-1, 0, 6])
@pytest.mark.parametrize("history_count", [0, 1, 30])
def test_crosses_agree_with_reference(count, user, history_count):
    rng = np.random.default_rng(count * 31 + history_count)
    users, vectors = rng.normal(size=(7, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    cells, item_group = rng.normal(size=(7, 3)).astype(np.float32), rng.integers(-1, 3, 40).astype(np.int32)
    one, other = random_table(rng, 40), random_table(rng, 40)
    history = rng.integers(0, 40, history_count).astype(np.int32)
    row = rng.permutation(40)[:count]
    arena = arena_of(row, 50, 12)
    cross = [
        (1, Cross.similarity(Neighbours(*one))),
        (2, Cross.dot(users, vectors)),
        (8, Cross.cell(cells, None, item_group)),
        (5, Cross.similarity(Neighbours(*other), 3)),  # the second must not see the sums of the first
    ]
    Crosses(cross).fill(arena, user, history)
    twins = [
        (1, lambda item: reference.cross_similarity(*one, history, item)),
        (2, lambda item: reference.cross_dot(users, vectors, user, item)),
        (8, lambda item: reference.cross_cell(cells, None, item_group, user, item)),
        (5, lambda item: reference.cross_similarity(*other, history, item, 3)),
    ]
    for column, twin in twins:
        same_bits(arena.features[:count, column], [twin(int(item)) for item in row])
    assert not arena.features[:count, [0, 3, 4, 6, 7, 9, 10, 11]].any(), "other columns are left alone"


@pytest.mark.parametrize("level", isas())
@pytest.mark.parametrize("width", [1, 3, 4, 5, 16, 63, 64, 67, 130])
def test_inner_products_are_summed_in_order_of_dimension_at_every_level(monkeypatch, level, width):
    """Blocks, what is left of them, and dimensions beyond the last four."""
    monkeypatch.setenv("PAIREC_ISA", level)
    rng = np.random.default_rng(width)
    users = (rng.normal(size=(3, width)) * 10.0 ** rng.integers(-20, 15, (3, width))).astype(np.float32)
    vectors = (rng.normal(size=(90, width)) * 10.0 ** rng.integers(-20, 15, (90, width))).astype(np.float32)
    vectors[7], vectors[8, 0], vectors[9, -1] = 0, np.inf, np.nan
    cross = Cross.dot(users, vectors)
    for count in (0, 1, 3, 15, 16, 17, 31, 32, 36, 37, 53, 90):
        row = rng.permutation(90)[:count].astype(np.int32)
        arena = arena_of(row, 90, 1)
        Crosses([(0, cross)]).fill(arena, 2, NONE)
        same_bits(arena.features[:count, 0], [reference.cross_dot(users, vectors, 2, int(item)) for item in row])


@pytest.mark.parametrize("newest", [0, 7, 25, 26])
def test_a_served_row_equals_the_training_row(newest):
    """`pairs` and `histories` make the training set, `fill` the request: one feature, the same bits."""
    rng = np.random.default_rng(8)
    users, vectors = rng.normal(size=(3, 17)).astype(np.float32), rng.normal(size=(40, 17)).astype(np.float32)
    similarity, dot = Cross.similarity(Neighbours(*random_table(rng, 40)), newest), Cross.dot(users, vectors)
    history, items = rng.integers(0, 40, 25).astype(np.int32), np.arange(40, dtype=np.int32)
    arena = arena_of(items, 40, 2)
    Crosses([(0, similarity), (1, dot)]).fill(arena, 2, history)
    scratch, group = Arena(1, items_max=40), np.zeros(40, np.int32)
    same_bits(arena.features[:, 0], similarity.histories(scratch, np.array([0, 25]), history, group, items))
    same_bits(arena.features[:, 1], dot.pairs(np.full(40, 2, np.int32), items))


def test_crosses_keep_their_arrays_alive():
    size = 20_000
    cross = Cross.dot(np.full((1, 4), 2, np.float32), np.full((size, 4), 3, np.float32))
    crosses = Crosses([(1, cross)])
    del cross
    gc.collect()
    np.full((size, 4), 9, np.float32)  # would be given the freed memory
    arena = arena_of(range(size), size, 2)
    crosses.fill(arena, 0, NONE)
    assert (arena.features == [0, 24]).all()


def small():
    """Two users, three items, a table of three items."""
    table = Neighbours(np.array([0, 1, 1, 1]), rows(2), floats(1))
    dot = Cross.dot(np.ones((2, 1), np.float32), np.ones((3, 1), np.float32))
    return Crosses([(1, dot), (2, Cross.similarity(table))])


@pytest.mark.parametrize(
    ("row", "user", "history", "message"),
    [
        (3, 0, [], r"arena\.row\[0\] is 3; rows here are 0 to 2"),
        (-1, 0, [], r"arena\.row\[0\] is -1; rows here are 0 to 2"),
        (0, 2, [], "user must be -1 to 1, got 2"),
        (0, -2, [], "user must be -1 to 1, got -2"),
        (0, 0, [1, 3], r"history\[1\] is 3; rows here are 0 to 2"),
        (0, 0, [-1], r"history\[0\] is -1; rows here are 0 to 2"),
    ],
)
def test_rows_beyond_the_plans_tables_are_refused(row, user, history, message):
    arena = arena_of([0], 10, 3)
    arena.row[0] = row
    with pytest.raises(ValueError, match=message):
        small().fill(arena, user, rows(*history))


def test_a_history_is_not_looked_at_without_a_similarity():
    crosses = Crosses([(0, Cross.cell(floats([4]), None, None))])
    arena = arena_of([0], 1, 1)
    crosses.fill(arena, 0, rows(77))
    assert arena.features[0, 0] == 4
    Crosses([]).fill(arena, 99, rows(77))  # nor a user without a cross feature


def test_an_arena_too_small_is_refused():
    """Sums are kept per item: an arena for fewer items would be written beyond its end."""
    with pytest.raises(ValueError, match="arena for 2 items, item-to-item table of 3"):
        small().fill(Arena(1, items_max=2, width=3), 0, NONE)
    with pytest.raises(ValueError, match="features are 2 wide; 3 or more is right"):
        small().fill(Arena(1, items_max=3, width=2), 0, NONE)


@pytest.mark.parametrize("columns", [[-1], [1, 1]])
def test_a_column_that_cannot_be_filled_is_refused(columns):
    one = Cross.cell(floats([1]), None, None)
    with pytest.raises(ValueError, match=r"column -?\d is negative or taken twice"):
        Crosses([(column, one) for column in columns])
    with pytest.raises(ValueError, match="column 1: no Cross"):
        Crosses([(1, None)])


def test_a_cross_made_of_nothing_reads_nothing():
    with pytest.raises(ValueError, match=r"users are 0 to 0; rows here are -1 to -1"):
        Cross().pairs(rows(0), rows(0))


@pytest.mark.parametrize(("user_group", "item_group"), [([2], [0]), ([-2], [0]), ([0], [3]), ([0], [-2])])
def test_a_group_beyond_the_values_is_refused(user_group, item_group):
    with pytest.raises(ValueError, match=r"(user|item)_group has groups -?\d to -?\d; right are -1 to"):
        Cross.cell(np.zeros((2, 3), np.float32), rows(*user_group), rows(*item_group))


def test_vectors_of_different_length_are_refused():
    with pytest.raises(ValueError, match="user vectors have 2 dimensions, item vectors 3"):
        Cross.dot(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(("user", "item"), [(2, 0), (-2, 0), (0, 3), (0, -1)])
def test_pairs_beyond_the_tables_are_refused(user, item):
    for cross in (
        Cross.dot(np.zeros((2, 1), np.float32), np.zeros((3, 1), np.float32)),
        Cross.cell(np.zeros((2, 3), np.float32), None, None),
        Cross.cell(np.zeros((9, 9), np.float32), np.zeros(2, np.int32), np.zeros(3, np.int32)),
    ):
        with pytest.raises(ValueError, match="rows here are"):
            cross.pairs(rows(0, user), rows(0, item))
        with pytest.raises(ValueError, match="2 users, 1 items"):
            cross.pairs(rows(0, 0), rows(0))


@pytest.mark.parametrize(
    ("offset", "history", "group", "items", "message"),
    [
        ([0, 1], [0], [1], [0], r"group\[0\] is 1; rows here are 0 to 0"),
        ([0, 1], [0], [-1], [0], r"group\[0\] is -1; rows here are 0 to 0"),
        ([0, 1], [0], [0], [3], r"items\[0\] is 3; rows here are 0 to 2"),
        ([0, 1], [3], [0], [0], r"history\[0\] is 3; rows here are 0 to 2"),
        ([0, 2], [0], [0], [0], "offset must rise from 0 or more to at most 1"),
        ([-1, 1], [0], [0], [0], "offset must rise"),
        ([0, 1, 0], [0], [0], [0], "offset must rise"),
        ([], [0], [], [], "offset must rise"),
        ([0, 1], [0], [0, 0], [0], "2 groups, 1 items"),
    ],
)
def test_histories_that_do_not_fit_together_are_refused(offset, history, group, items, message):
    cross = Cross.similarity(Neighbours(np.array([0, 0, 0, 0]), NONE, floats()))
    with pytest.raises(ValueError, match=message):
        cross.histories(Arena(1, items_max=3), np.array(offset, np.int64), rows(*history), rows(*group), rows(*items))


def test_similarity_needs_histories_and_an_arena_of_its_size():
    table = Neighbours(np.array([0, 0, 0, 0]), NONE, floats())
    with pytest.raises(ValueError, match="similarity needs histories"):
        Cross.similarity(table).pairs(rows(0), rows(0))
    with pytest.raises(ValueError, match="arena for 2 items, table of 3"):
        Cross.similarity(table).histories(Arena(1, items_max=2), np.array([0, 1]), rows(0), rows(0), rows(0))
    with pytest.raises(ValueError, match="only similarity reads histories"):
        Cross.cell(floats([1]), None, None).histories(Arena(1), np.array([0, 1]), rows(0), rows(0), rows(0))


def test_a_negative_newest_is_refused():
    with pytest.raises(ValueError, match="newest must not be negative, got -1"):
        Cross.similarity(Neighbours(np.array([0, 0]), NONE, floats()), -1)


@pytest.mark.parametrize("name", ["i2i:", "i2i:0", "i2i:-1", "i2i:x", "i2i:1:2", "i2i:99999999999"])
def test_a_newest_that_is_no_count_is_refused(name):
    with pytest.raises(SnapshotError, match='such as "i2i:10"'):
        table_and_newest(name)


def test_wrong_dtypes_are_refused():
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        Cross.dot(np.zeros((1, 1)), np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        small().fill(arena_of([0], 3, 3), 0, np.zeros(3))


def test_a_number_that_is_a_category_is_its_place_in_the_categories():
    from pairec_fast.features import model_values, number
    from pairec_fast.snapshot import Column

    codes = {"3": 0, "10": 1, "2.5": 2}
    values = model_values(Column("number", np.array([10.0, 3.0, 2.5, 4.0, np.nan]), None), codes)
    np.testing.assert_array_equal(values, np.array([1, 0, 2, np.nan, np.nan], np.float32))
    np.testing.assert_array_equal(model_values(Column("number", np.array([3, 10]), None), codes), [0, 1])
    assert [number(given, codes) for given in (3, 3.0, "3", 2.5)] == [0, 0, 0, 2]
    assert all(np.isnan(number(given, codes)) for given in (4, None, True, [], "x"))
