"""Aggregates: what was known strictly before a time."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import aggregate
from tests import reference


def ask(events, questions, **options):
    keys, times, values = (np.array(part) for part in zip(*events, strict=True)) if events else (np.empty(0),) * 3
    at_keys, at_times = (np.array(part) for part in zip(*questions, strict=True))
    return aggregate(keys, times, values, at_keys, at_times, **options)


def test_an_event_counts_only_after_its_own_time():
    number, total, last = ask([(1, 10.0, 5.0), (1, 20.0, 7.0)], [(1, 10.0), (1, 10.5), (1, 20.0), (1, 21.0), (2, 99.0)])
    assert number.tolist() == [0, 1, 1, 2, 0]
    assert total.tolist() == [0, 5, 5, 12, 0]
    np.testing.assert_array_equal(last, [np.nan, 10, 10, 20, np.nan])


def test_a_window_forgets_what_is_older_and_keeps_its_edge():
    events = [(0, 0.0, 1.0), (0, 5.0, 2.0), (0, 9.0, 4.0)]
    number, total, _ = ask(events, [(0, 10.0), (0, 15.0), (0, 15.1), (0, 100.0)], window=10.0)
    assert number.tolist() == [3, 2, 1, 0]
    assert total.tolist() == [7, 6, 4, 0]


def test_half_life_halves_the_weight_of_an_event():
    number, total, _ = ask([(3, 0.0, 8.0), (3, 10.0, 2.0)], [(3, 10.0), (3, 20.0)], half_life=10.0)
    np.testing.assert_allclose(number, [0.5, 0.75])
    np.testing.assert_allclose(total, [4.0, 3.0])


@pytest.mark.parametrize("options", [{}, {"window": 7.0}, {"half_life": 3.0}], ids=["all", "window", "half_life"])
@pytest.mark.parametrize("count", [0, 1, 2, 17, 500])
def test_aggregate_agrees_with_reference_on_ties_and_gaps(count, options):
    """Few distinct times, so that events and questions often meet; keys that only one side has."""
    rng = np.random.default_rng(count)
    keys, times = rng.integers(0, 5, count), rng.integers(0, 30, count).astype(float)
    values = rng.integers(-3, 4, count).astype(float)
    at_keys, at_times = rng.integers(0, 7, 300), rng.integers(0, 35, 300).astype(float)
    found = aggregate(keys, times, values, at_keys, at_times, **options)
    expected = reference.aggregate(keys, times, values, at_keys, at_times, **options)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_a_short_half_life_over_a_long_time_neither_overflows_nor_loses_the_recent():
    days = np.arange(0, 5000.0)
    number, _, _ = aggregate(np.zeros(5000), days, np.ones(5000), np.zeros(2), np.array([3.0, 5000.0]), half_life=1.0)
    np.testing.assert_allclose(number, [0.875, 1.0])


@pytest.mark.parametrize("options", [{"window": 1.0, "half_life": 1.0}, {"window": -1.0}, {"half_life": -2.0}])
def test_options_that_contradict_are_refused(options):
    with pytest.raises(ValueError, match="one of them may be positive"):
        ask([(0, 0.0, 0.0)], [(0, 1.0)], **options)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 keys, 1 times"):
        aggregate(np.zeros(2), np.zeros(1), np.zeros(2), np.zeros(1), np.zeros(1))
