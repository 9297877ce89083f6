"""Aggregates as of a time: what training rows read and what the snapshot's tables hold are the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from pairec_fast.errors import ConfigError
from pairec_fast.learn.aggregates import Aggregate
from pairec_fast.learn.spec import AggregateSpec
from tests import reference
from tests.positives import DAY, random_events, write_world

USERS, ITEMS = 7, 9


def made(folder, events, **fields):
    spec = {"name": "one", **fields}
    world, sources = write_world(folder, events, USERS, ITEMS, aggregates=[spec])
    return Aggregate(world.aggregates[0], sources)


def asked(*questions):
    """(user, item, day) apart, as arrays."""
    user, item, day = zip(*questions, strict=True)
    return np.array(user, np.int32), np.array(item, np.int32), np.array(day) * DAY


def test_share_age_and_lift_by_hand(tmp_path):
    """Users 0, 2 are of one gender, user 1 of the other. Item 1 is chosen twice by the first and never by the other."""
    events = [(0, 1, 1.0), (2, 1, 2.0), (1, 3, 3.0), (0, 3, 4.0)]
    at = asked((0, 1, 1.0), (0, 1, 2.0), (0, 1, 5.0), (0, 5, 5.0), (1, 1, 5.0))
    share = made(tmp_path, events, function="share", by=["item"])
    np.testing.assert_array_equal(share.at(*at), np.float32([np.nan, 1, 0.5, 0, 0.5]))
    age = made(tmp_path, events, function="age", by=["item"])
    np.testing.assert_array_equal(age.at(*at), np.float32([np.nan, 1, 4, np.nan, 4]))
    lift = made(tmp_path, events, function="lift", by=["user.gender", "item"], prior=1.0)
    answers = lift.at(*at)
    assert np.isnan(answers[0]), "before the first event nothing is usual"
    # 3 of 4 events are of the first gender, half of all are item 1: (2 + 0.5) / (3 + 1) / 0.5, and (0 + 0.5) / 2 / 0.5.
    np.testing.assert_allclose(answers[[2, 4]], [1.25, 0.5], rtol=2e-3)


@pytest.mark.parametrize("half_life", [0.0, 5.0])
@pytest.mark.parametrize("function", ["share", "lift", "age"])
def test_aggregates_agree_with_reference(tmp_path, function, half_life):
    half_life = 0.0 if function == "age" else half_life
    events = random_events(3, USERS, ITEMS, 60)
    by = ["user.gender", "item"] if function == "lift" else ["item"]
    aggregate = made(tmp_path, events, function=function, by=by, half_life_days=half_life, prior=10.0)
    # Also at the very time of an event: that event is not known yet.
    questions = [(user, item, day) for user in (0, 1, 6) for item in range(ITEMS) for day in (0.0, events[9][2], 41.0)]
    gender = [user % 2 for user in range(USERS)]
    expected = []
    for user, item, day in questions:
        if function == "lift":
            expected.append(reference.lift(events, gender, gender[user], item, day, 10.0, half_life))
        elif function == "share":
            expected.append(reference.share(events, lambda _, other, item=item: other == item, day, half_life))
        else:
            first = min((when for _, other, when in events if other == item and when < day), default=np.nan)
            expected.append(day - first)
    np.testing.assert_allclose(aggregate.at(*asked(*questions)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "by"),
    [("share", ["item"]), ("share", ["user.gender"]), ("lift", ["user.gender", "item"]), ("age", ["user"])],
)
def test_a_training_row_equals_the_snapshots_table_to_the_last_bit(tmp_path, function, by):
    half_life = 0.0 if function == "age" else 3.0
    aggregate = made(tmp_path, random_events(4, USERS, ITEMS, 80), function=function, by=by, half_life_days=half_life)
    user, item = (part.ravel().astype(np.int32) for part in np.mgrid[:USERS, :ITEMS])
    table = aggregate.table(41.0 * DAY)
    group = {"user": user, "item": item, "user.gender": user % 2}
    served = table[tuple(group[part] for part in by)]
    trained = aggregate.at(user, item, np.full(len(user), 41.0 * DAY))
    np.testing.assert_array_equal(trained.view(np.uint32), served.view(np.uint32))


def test_an_event_is_not_known_at_its_own_time(tmp_path):
    """Else a training row would hold its own answer."""
    aggregate = made(tmp_path, [(0, 1, 1.0), (1, 2, 2.0)], function="share", by=["item"])
    np.testing.assert_array_equal(aggregate.at(*asked((1, 2, 2.0), (1, 2, 2.1))), np.float32([0, 0.5]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"function": "share", "by": ["user.gender", "item"]}, "share is by one side"),
        ({"function": "lift", "by": ["item"]}, "lift is by one of each side"),
        ({"function": "age", "by": ["item"], "half_life_days": 3}, "age forgets nothing"),
        ({"function": "share", "by": ["item"], "of": "rating"}, "share has none"),
    ],
)
def test_what_an_aggregate_cannot_be_is_refused(tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        made(tmp_path, [(0, 1, 1.0)], **fields)


def test_defaults_are_the_studys():
    assert AggregateSpec(name="one", function="lift", by=["user.gender", "item"]).prior == 1000
