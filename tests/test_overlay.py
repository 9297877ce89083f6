"""Which rows stand for which items since the snapshot was built, and what the kernels make of it."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pairec_fast.core import Arena, Cross, Crosses, Neighbours, Overlay, add, drop_exposed


def rows(*numbers):
    return np.array(numbers, np.int32)


def recalled(arena):
    return arena.row[: arena.count].tolist()


def test_a_changed_row_leads_to_its_last_row_and_a_removed_one_nowhere():
    overlay = Overlay(4, spare=3)
    assert overlay.add(1) == 4
    overlay.move(1, 4)
    assert overlay.add(1) == 5
    overlay.move(4, 5)  # whoever holds the row in between is led on
    overlay.move(2, -1)
    assert [overlay.resolve(row) for row in range(6)] == [0, 5, -1, 3, 5, 5]
    assert [overlay.base_of(row) for row in range(6)] == [0, 1, 2, 3, 1, 1]
    assert overlay.add() == 6 and overlay.base_of(6) == -1
    assert overlay.bases(rows(6, 5, 2, 1, 0)).tolist() == [1, 1, 0]


@pytest.mark.parametrize("base", [True, False])
def test_an_item_that_changes_while_a_request_runs_is_a_candidate_once(base):
    overlay = Overlay(2, spare=3)
    arena = Arena(8, items_max=5)
    arena.follow(overlay)
    row = 1 if base else overlay.add()
    add(arena, rows(row), np.ones(1, np.float32), 0)
    overlay.move(row, later := overlay.add(row))
    assert add(arena, rows(row, later), np.ones(2, np.float32), 1) == 0
    assert recalled(arena) == [row], "as it was when the request came to it"
    with pytest.raises(ValueError, match=f"first is {later}; -1, or the first row of an item"):
        overlay.add(later)


def test_rows_beyond_the_spare_and_moves_backward_are_refused():
    overlay = Overlay(2, spare=1)
    overlay.add()
    with pytest.raises(ValueError, match="all 1 spare rows are taken"):
        overlay.add()
    for row, to in ((1, 0), (1, 1), (3, -1), (-1, -1), (0, 3)):
        with pytest.raises(ValueError, match="cannot move"):
            overlay.move(row, to)
    with pytest.raises(ValueError, match="base must be positive"):
        Overlay(0)
    with pytest.raises(ValueError, match="an overlay of 3 rows, an arena for 2"):
        Arena(1, items_max=2).follow(overlay)


@pytest.mark.parametrize("items", [1, 63, 64, 65, 1000])
def test_recall_takes_the_row_that_stands_for_an_item_and_no_more_than_k(items):
    rng = np.random.default_rng(items)
    overlay, now = Overlay(items, spare=items), list(range(items))
    for row in range(items):
        if rng.random() < 0.3:
            now[row] = -1
            overlay.move(row, -1)
        elif rng.random() < 0.3:
            now[row] = overlay.add(row)
            overlay.move(row, now[row])
    arena = Arena(items, items_max=2 * items)
    arena.follow(overlay)
    asked = rng.integers(0, items, 2 * items).astype(np.int32)
    for k in (0, 1, items, 1 << 30):
        arena.reset()
        add(arena, asked, np.ones(len(asked), np.float32), 0, k)
        there = [now[row] for row in asked if now[row] >= 0][:k]
        assert recalled(arena) == list(dict.fromkeys(there))


def test_neighbours_that_are_gone_leave_their_places_to_others():
    table = Neighbours(np.array([0, 3, 3, 3, 3]), rows(1, 2, 3), np.array([3, 2, 1], np.float32))
    overlay = Overlay(4, spare=2)
    arena = Arena(8, items_max=6)
    arena.follow(overlay)
    overlay.move(1, -1)
    overlay.move(2, overlay.add(2))
    assert table.add_similar(arena, rows(0), 2, 0) == 2
    assert recalled(arena) == [4, 3]


def test_similarity_of_a_changed_item_is_that_of_its_base_row_and_a_new_one_has_none():
    table = Neighbours(np.array([0, 1, 1]), rows(1), np.array([3], np.float32))
    overlay = Overlay(2, spare=2)
    arena = Arena(4, items_max=4)
    arena.follow(overlay)
    overlay.move(1, overlay.add(1))
    overlay.add()
    arena.row[:3], arena.count = (1, 2, 3), 3
    Crosses([(0, Cross.similarity(table))]).fill(arena, -1, rows(0))
    assert arena.features[:3, 0].tolist() == [3, 3, 0]


def test_a_group_that_came_after_the_values_has_those_of_the_last():
    cross = Cross.cell(np.array([[2, 1]], np.float32), None, group := rows(0, 0, -1))
    group[0] = 7  # a text that no row had when the aggregate was made
    arena = Arena(4, items_max=3)
    arena.row[:3], arena.count = (0, 1, 2), 3
    Crosses([(0, cross)]).fill(arena, 0, rows())
    np.testing.assert_array_equal(arena.features[:3, 0], [1, 2, np.nan])


@pytest.mark.parametrize("looked_up_before", [True, False])
def test_an_item_shown_stays_hidden_when_it_changes_between_look_up_and_recall(looked_up_before):
    overlay = Overlay(3, spare=2)
    arena = Arena(4, items_max=5)
    arena.follow(overlay)
    shown = rows(1)
    if not looked_up_before:
        add(arena, rows(0, 1, 2), np.ones(3, np.float32), 0)
    overlay.move(1, overlay.add(1))
    if looked_up_before:
        add(arena, rows(0, 1, 2), np.ones(3, np.float32), 0)
    drop_exposed(arena, shown)
    assert recalled(arena) == [0, 2]


def test_readers_see_an_item_as_it_was_or_as_it_is():
    """Values are written before the row is led to: whoever arrives finds them."""
    items, spare = 64, 5_000
    overlay = Overlay(items, spare=spare)
    value = np.zeros(items + spare, np.int32)
    value[:items] = 1
    arena, stop, wrong = Arena(items, items_max=items + spare), threading.Event(), []
    arena.follow(overlay)

    def read():
        everything, score = np.arange(items, dtype=np.int32), np.ones(items, np.float32)
        while not stop.is_set():
            arena.reset()
            add(arena, everything, score, 0)
            found = value[arena.row[: arena.count]]
            if arena.count != items or not found.all():
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    for change in range(spare):
        origin = change % items
        row = overlay.add(origin)
        value[row] = 1
        last = row - items
        overlay.move(origin, row)
        if last >= items:
            overlay.move(last, row)
    stop.set()
    reader.join()
    assert not wrong
