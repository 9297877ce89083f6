"""The demo world: repeatable, plausible, and silent about why anybody clicked."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pairec_fast.errors import ConfigError

pytest.importorskip("pyarrow")

from pairec_fast.learn import measure, world
from pairec_fast.learn.table import read_table

NAMES = ("items", "users", "impressions")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    world.generate(directory, items=2_000, users=1_000, seed=7)
    return {name: read_table(directory / f"{name}.parquet") for name in NAMES}


def digest(directory):
    return [hashlib.sha256((directory / f"{name}.parquet").read_bytes()).hexdigest() for name in NAMES]


def number(column):
    """Row numbers out of ids such as i000123."""
    return np.array([int(word[1:]) for word in column.vocabulary])[column.codes]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        world.generate(tmp_path / name, items=150, users=30, seed=seed, days=5)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert not set(digest(tmp_path / "a")) & set(digest(tmp_path / "c"))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(f"{name}.parquet" for name in NAMES)


def test_slices_do_not_depend_on_who_watches(tmp_path):
    seen = []
    world.generate(tmp_path / "a", items=150, users=30, days=5)
    world.generate(tmp_path / "b", items=150, users=30, days=5, progress=lambda done, total: seen.append((done, total)))
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)


def test_nothing_hidden_is_written(small):
    assert {name: frame.names for name, frame in small.items()} == {
        "items": ["item_id", "title", "category", "brand", "price", "published", "age_days", "in_stock"],
        "users": ["user_id", "gender", "age", "city", "member_days"],
        "impressions": [
            "request_id", "user_id", "item_id", "timestamp", "hour", "device", "position", "clicked",
        ],
    }  # fmt: skip


def test_ids_are_rows_and_columns_are_plausible(small):
    items, users = small["items"], small["users"]
    assert items.text("item_id").values()[:2] == ["i000000", "i000001"] and len(items) == 2_000
    assert users.text("user_id").values()[-1] == "u00999" and len(users) == 1_000
    assert len(items.text("category").vocabulary) == 40
    assert 40 <= len(items.text("brand").vocabulary) <= 100
    assert items.numbers("price").min() > 0
    assert 0.9 < items.numbers("in_stock").mean() < 0.99
    assert 0.1 < (users.text("gender").codes < 0).mean() < 0.2
    assert 0.05 < np.isnan(users.numbers("age")).mean() < 0.15


def test_impressions_are_requests_of_up_to_twenty_different_items_in_time(small):
    frame = small["impressions"]
    request, item = number(frame.text("request_id")), number(frame.text("item_id"))
    position, timestamp = frame.numbers("position"), frame.numbers("timestamp")
    assert 120 * 1_000 < len(frame) < 260 * 1_000, "about 190 rows a user"
    assert (np.diff(timestamp) >= 0).all() and (np.diff(request) >= 0).all()
    assert timestamp.min() >= world.END - 30 * 86_400 and timestamp.max() < world.END
    np.testing.assert_array_equal(frame.numbers("hour"), timestamp // 3600 % 24)
    assert len(np.unique(request * 10_000 + item)) == len(frame), "no item twice in a request"
    starts = np.flatnonzero(np.diff(request, prepend=-1))
    assert (position[starts] == 1).all() and position.max() == 20
    assert (np.delete(np.diff(position, prepend=0), starts) == 1).all(), "positions leave no gap"
    published = small["items"].numbers("published")
    assert (timestamp >= published[item]).all(), "nothing is shown before it exists"


def test_clicks_are_few_and_fall_with_position(small):
    frame = small["impressions"]
    clicked, position = frame.numbers("clicked"), frame.numbers("position")
    assert set(np.unique(clicked)) == {0, 1}
    assert 0.05 < clicked.mean() < 0.08
    rate = [clicked[(position > low) & (position <= low + 5)].mean() for low in (0, 5, 10, 15)]
    assert rate[0] > rate[1] > rate[2] > rate[3] and rate[0] > 3 * rate[3]
    item = number(frame.text("item_id"))
    favourite = np.argsort(-np.bincount(item))[:20]
    high, low = (
        np.bincount(item[part], clicked[part], 2_000) / np.bincount(item[part], minlength=2_000).clip(1)
        for part in (position <= 5, position > 10)
    )
    assert (high[favourite] > low[favourite]).mean() > 0.8, "the same item is clicked less further down"


def test_few_items_get_most_impressions_and_few_users_make_most_requests(small):
    frame = small["impressions"]
    shown = np.sort(np.bincount(number(frame.text("item_id")), minlength=2_000))[::-1]
    assert 0.10 < shown[:20].sum() / shown.sum() < 0.6
    made = np.sort(np.bincount(number(frame.text("user_id")), minlength=1_000))[::-1]
    assert made[:100].sum() / made.sum() > 0.25 and made[-1] > 0


def test_yesterdays_clicks_tell_todays_and_categories_tell_more_with_gender(small):
    """A model has something to find: popularity is well above chance, and people differ."""
    frame = small["impressions"]
    item, clicked, timestamp = number(frame.text("item_id")), frame.numbers("clicked"), frame.numbers("timestamp")
    past = timestamp < world.END - 6 * 86_400
    rate = (np.bincount(item[past], clicked[past], 2_000) + 1.3) / (np.bincount(item[past], minlength=2_000) + 20)
    assert measure.auc(clicked[~past], rate[item[~past]]) > 0.65
    gender = small["users"].text("gender").codes[number(frame.text("user_id"))]
    kind = small["items"].text("category").codes[item]
    known = gender >= 0
    cell = gender[known] * 40 + kind[known]
    shown = np.bincount(cell, minlength=80).reshape(2, 40)
    taste = (np.bincount(cell, clicked[known], 80).reshape(2, 40) + 1) / (shown + 15)
    assert np.median(np.abs(np.log(taste[0] / taste[1]))) > 0.15, "the two genders click on different categories"


@pytest.mark.parametrize(("items", "users"), [(100, 10), (101, 500), (30_000, 10)])
def test_any_shape_of_world_can_be_made(tmp_path, items, users):
    world.generate(tmp_path, items=items, users=users, days=2)
    assert len(read_table(tmp_path / "items.parquet")) == items
    assert len(read_table(tmp_path / "users.parquet")) == users
    assert len(read_table(tmp_path / "impressions.parquet")) > users * 20


def test_rows_grow_with_users_not_with_items(tmp_path):
    rows = {}
    for items, users in ((500, 100), (5_000, 100), (500, 400)):
        world.generate(tmp_path, items=items, users=users, days=3)
        rows[items, users] = len(read_table(tmp_path / "impressions.parquet"))
    assert 0.5 < rows[500, 100] / rows[5_000, 100] < 2.0
    assert 2.0 < rows[500, 400] / rows[500, 100] < 8.0


def test_failure_leaves_no_half_file(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.generate(tmp_path, items=150, users=30, days=5, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.parquet", "users.parquet"]


@pytest.mark.parametrize(("name", "value"), [("items", 99), ("users", 0), ("days", 1)])
def test_too_small_a_world_is_refused(tmp_path, name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}; at least"):
        world.generate(tmp_path, **{name: value})
