"""What the recall benchmark counts, chooses and calls right; nothing is timed."""

from __future__ import annotations

import numpy as np
import pytest

from bench.recall.sets import augmented, exact, made
from bench.recall.sweep import Point, recall_of, smallest, unbeaten


def test_recall_is_the_mean_share_of_right_rows_found():
    right = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)
    assert recall_of([np.array([4, 3, 9, 9]), np.array([5, 6, 7, 8])], right) == 0.75


def test_recall_leaves_out_rows_that_are_not_there():
    """A filter may allow fewer than k, or none."""
    right = np.array([[3, -1, -1], [-1, -1, -1]], np.int32)
    assert recall_of([np.array([3]), np.array([], np.int32)], right) == 1.0
    assert recall_of([np.array([-1]), np.array([], np.int32)], right) == 0.5


@pytest.mark.parametrize("step", [1, 2, 3, 63, 64, 65, 999, 1000])
def test_smallest_effort_is_found_to_a_64th(step):
    asked = []

    def reached(effort):
        asked.append(effort)
        return float(effort >= step)

    effort = smallest(reached, 1, 1000, 0.5)
    assert step <= effort <= step + step // 63
    assert min(asked) >= 1 and max(asked) <= 1000


def test_smallest_effort_is_none_where_the_most_falls_short():
    assert smallest(lambda effort: effort / 1000, 10, 900, 0.95) is None
    assert smallest(lambda effort: effort / 1000, 10, 900, 0.9) == 900
    assert smallest(lambda effort: 1.0, 500, 5000, 0.9) == 500


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100_001])
@pytest.mark.parametrize("filtered", [False, True])
def test_exact_agrees_with_sorting_everything_over_chunks(count, filtered):
    """Few distinct scores, so that of many equals some are kept; k more than there are is filled up with -1."""
    rng = np.random.default_rng(count)
    base = rng.integers(-3, 4, (count, 2)).astype(np.float32)
    queries = rng.integers(-2, 3, (3, 2)).astype(np.float32)
    allow = rng.random(count) < 0.5 if filtered else None
    rows = exact(base, queries, 8, allow)
    allowed = np.arange(count) if allow is None else np.flatnonzero(allow)
    assert rows.shape == (3, 8)
    for found, query in zip(rows, queries, strict=True):
        score = base[allowed] @ query
        kept = min(8, len(allowed))
        assert (found[kept:] == -1).all()
        assert np.isin(found[:kept], allowed).all() and len(np.unique(found[:kept])) == kept
        np.testing.assert_array_equal(base[found[:kept]] @ query, np.sort(score)[::-1][:kept])


def test_nearest_augmented_are_the_largest_inner_products():
    rng = np.random.default_rng(0)
    base, query = rng.standard_normal((50, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    distance = np.square(augmented(base) - np.append(query, 0)).sum(axis=1)
    np.testing.assert_array_equal(np.argsort(distance), np.argsort(-(base @ query)))


@pytest.mark.parametrize("name", ["neutral-50", "neutral-50x8", "two-tower-50x32"])
def test_sets_have_the_size_their_name_says_and_are_the_same_each_time(name):
    base, queries = made(name)
    assert base.shape == (50, int(name.partition("x")[2] or 64)) and base.dtype == queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(base, made(name)[0])


@pytest.mark.parametrize("name", ["", "glove-5", "neutral-", "neutral-5x"])
def test_a_set_that_is_not_is_refused_by_name(name):
    with pytest.raises(SystemExit, match="no set"):
        made(name)


def test_a_curve_keeps_what_no_other_point_beats():
    def point(recall, us):
        return Point("index", "", 1, recall, us, us)

    curve = unbeaten([point(0.9, 10), point(0.8, 20), point(0.95, 30), point(0.95, 40), point(0.7, 5)])
    assert [(each.recall, each.p50_us) for each in curve] == [(0.7, 5), (0.9, 10), (0.95, 30)]
