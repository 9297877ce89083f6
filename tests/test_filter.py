"""Which candidates may be shown: what is dropped, and that what stays keeps its order and its columns."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.filter import drop_exposed, keep_allowed
from pairec_fast.core.recall import add
from tests import reference

COUNTS = [0, 1, 2, 15, 16, 17, 63, 64, 65, 1000]


def rows(*numbers):
    return np.array(numbers, np.int32)


def filled(row, items):
    """An arena of `items` with candidates `row`; source and recall_score tell which slot each was."""
    arena = Arena(max(1, len(row)), items_max=items)
    for slot, one in enumerate(row):
        add(arena, rows(one), np.array([slot], np.float32), slot % 256)
    return arena


def check(arena, row, kept):
    """`kept` stayed, in order, each with the source and score of the slot it had."""
    place = [list(row).index(one) for one in kept]
    assert arena.row[: arena.count].tolist() == list(kept)
    assert arena.recall_score[: arena.count].tolist() == place
    assert arena.source[: arena.count].tolist() == [slot % 256 for slot in place]


def test_exposed_rows_are_dropped_and_the_gaps_closed():
    arena = filled([4, 2, 0, 3, 1], 5)
    assert drop_exposed(arena, rows(2, 1, 2)) == 2
    check(arena, [4, 2, 0, 3, 1], [4, 0, 3])


def test_rows_that_are_not_allowed_are_dropped_and_the_gaps_closed():
    arena = filled([4, 2, 0, 3, 1], 5)
    assert keep_allowed(arena, np.array([0, 255, 1, 0, 2], np.uint8)) == 2
    check(arena, [4, 2, 0, 3, 1], [4, 2, 1])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_drop_exposed_agrees_with_reference(count, share):
    rng = np.random.default_rng(count)
    row = rng.permutation(1000)[:count].astype(np.int32)
    exposed = rng.integers(0, 1000, int(3000 * share)).astype(np.int32)
    arena = filled(row, 1000)
    kept = reference.drop_exposed(row, exposed)
    assert drop_exposed(arena, exposed) == count - len(kept)
    check(arena, row, kept)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_keep_allowed_agrees_with_reference(count, share):
    rng = np.random.default_rng(count)
    row = rng.permutation(1000)[:count].astype(np.int32)
    allowed = (rng.random(1000) < share).astype(np.uint8)
    arena = filled(row, 1000)
    kept = reference.keep_allowed(row, allowed)
    assert keep_allowed(arena, allowed) == count - len(kept)
    check(arena, row, kept)


def test_a_mask_of_booleans_will_do():
    arena = filled([0, 1], 2)
    assert keep_allowed(arena, np.array([False, True])) == 1
    check(arena, [0, 1], [1])


def test_filters_follow_each_other():
    arena = filled(range(10), 10)
    assert drop_exposed(arena, rows(0, 9)) == 2
    assert keep_allowed(arena, np.array([1, 0] * 5, np.uint8)) == 4
    assert drop_exposed(arena, rows(2)) == 1
    check(arena, range(10), [4, 6, 8])


def test_an_exposure_does_not_outlive_its_call():
    arena = filled([0, 1], 2)
    assert drop_exposed(arena, rows(0)) == 1
    arena.reset()
    add(arena, rows(0, 1), np.zeros(2, np.float32), 0)
    assert drop_exposed(arena, rows(1)) == 1
    assert arena.row[: arena.count].tolist() == [0]


def test_what_was_dropped_is_not_recalled_again():
    """A later recall in the same request must not bring back what a filter removed."""
    arena = filled([0, 1], 3)
    drop_exposed(arena, rows(0))
    assert add(arena, rows(0, 2), np.zeros(2, np.float32), 0) == 1
    assert arena.row[: arena.count].tolist() == [1, 2]


def test_leftovers_of_keep_do_not_decide():
    """`keep` is scratch: whatever an earlier call or Python left there is written over."""
    arena = filled(range(4), 4)
    arena.keep[:] = [0, 7, 255, 2]
    assert drop_exposed(arena, rows(3)) == 1
    arena.keep[:] = 0
    assert keep_allowed(arena, np.ones(4, np.uint8)) == 0
    check(arena, range(4), [0, 1, 2])


def test_slots_beyond_count_are_not_looked_at():
    arena = filled([0, 1], 2)
    arena.count = 1
    arena.row[1] = -5
    assert drop_exposed(arena, rows(0)) == 1
    assert arena.count == 0


@pytest.mark.parametrize("row", [-1, 5, 2**31 - 1])
def test_an_exposed_row_beyond_the_item_table_is_refused(row):
    arena = filled([0, 1], 5)
    with pytest.raises(ValueError, match=rf"exposed\[1\] is {row}; rows here are 0 to 4"):
        drop_exposed(arena, rows(0, row))
    check(arena, [0, 1], [0, 1])


@pytest.mark.parametrize("row", [-1, 5, 2**31 - 1])
def test_a_candidate_that_python_put_beyond_the_item_table_is_refused(row):
    arena = filled([0, 1], 5)
    arena.row[1] = row
    with pytest.raises(ValueError, match=rf"arena\.row\[1\] is {row}; rows here are 0 to 4"):
        drop_exposed(arena, rows(0))
    with pytest.raises(ValueError, match=rf"arena\.row\[1\] is {row}; rows here are 0 to 4"):
        keep_allowed(arena, np.ones(5, np.uint8))


@pytest.mark.parametrize("items", [0, 1])
def test_a_column_shorter_than_the_item_table_is_refused(items):
    with pytest.raises(ValueError, match=r"arena\.row\[\d\] is \d; rows here"):
        keep_allowed(filled([0, 1], 2), np.ones(items, np.uint8))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_wrong_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        keep_allowed(filled([0], 1), np.ones(1, dtype))
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        drop_exposed(filled([0], 1), np.zeros(1, dtype))
