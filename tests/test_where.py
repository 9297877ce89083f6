"""A recall of the nearest items finds those whose columns say what is asked for, whatever came since the base."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pairec_fast import items
from pairec_fast.build import build
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.items.live import Live
from pairec_fast.query import Query
from pairec_fast.recall.hnsw import HnswConf, HnswRecall
from pairec_fast.recall.where import Where
from pairec_fast.snapshot import Snapshot

COUNT, WIDTH, SPARE = 300, 8, 50
GENRES = ("drama", "noir", "western")
WORLD = """
[items]
file = "items.csv"
id = "item_id"
[users]
file = "users.csv"
id = "user_id"
[interactions]
file = "events.csv"
[[vectors]]
name = "taste"
users = "users.npy"
items = "items.npy"
kind = "flat"
k = 40
recall = 1.0
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    lines = [f"b{row},{row % 2},{GENRES[row % 3]}\n" for row in range(COUNT)]
    (tmp_path / "items.csv").write_text("item_id,stock,genre\n" + "".join(lines))
    (tmp_path / "users.csv").write_text("user_id,likes\n" + "".join(f"u{row},{GENRES[row % 3]}\n" for row in range(6)))
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{row % 6},b{row},{row}\n" for row in range(100))
    )
    for side, rows in (("users", 6), ("items", COUNT)):
        np.save(tmp_path / f"{side}.npy", rng.normal(size=(rows, WIDTH)).astype(np.float32))
    (tmp_path / "world.toml").write_text(WORLD)
    build(tmp_path / "world.toml", tmp_path / "snapshots")
    return tmp_path / "snapshots"


class Asked:
    """A recall bound to a snapshot that follows items.log."""

    def __init__(self, folder, k=COUNT + SPARE, **conf):
        self.snapshot = Snapshot.load(folder, spare=SPARE)
        self.live = Live(self.snapshot)
        self.recall = HnswRecall("near", HnswConf("taste", **conf), k).bind(self.snapshot, 0)

    def query(self, uid="u1", context=None, item_id=""):
        return Query(self.snapshot, uid, 10, context or {}, history_max=100, item_id=item_id)

    def found(self, uid="u1", context=None, item_id=""):
        arena = Arena(1000, items_max=COUNT + SPARE)
        arena.follow(self.snapshot.overlay)
        self.recall(self.query(uid, context, item_id), arena)
        return [self.snapshot.items.ids.id(row) for row in arena.row[: arena.count].tolist()]


def base(wanted):
    return {f"b{row}" for row in range(COUNT) if wanted(row)}


def test_a_value_a_users_column_and_a_requests_feature(folder):
    assert set(Asked(folder, where=[Where("genre", "noir")]).found()) == base(lambda row: row % 3 == 1)
    both = Asked(folder, where=[Where("genre", "noir"), Where("stock", 1)])
    assert set(both.found()) == base(lambda row: row % 3 == 1 and row % 2)
    likes = Asked(folder, where=[Where("genre", user="likes"), Where("stock", 0)])
    for user in range(3):
        assert set(likes.found(f"u{user}")) == base(lambda row, user=user: row % 3 == user and row % 2 == 0)
    asked = Asked(folder, where=[Where("stock", user="stocked")])
    assert set(asked.found(context={"stocked": 1})) == base(lambda row: row % 2)
    for nothing in ({}, {"stocked": 7}, {"stocked": [1]}, {"stocked": None}):
        assert asked.found(context=nothing) == []


def test_the_best_of_those_in_order(folder):
    vectors, users = np.load(folder.parent / "items.npy"), np.load(folder.parent / "users.npy")
    rows = [row for row in np.argsort(-(vectors @ users[1])) if row % 3 == 2]
    for mode in ("budget", "recall"):
        asked = Asked(folder, 20, where=[Where("genre", "western")], mode=mode)
        assert asked.found() == [f"b{row}" for row in rows[:20]]
        assert re.fullmatch(
            "recall=near\tkind=flat\tstrategy=(list|scan)\tallowed=100", asked.recall.told(asked.query())
        )


def test_items_that_come_change_and_go_are_found_by_what_they_say_now(folder):
    for where, uid in (([Where("genre", "noir"), Where("stock", 1)], "u0"), ([Where("genre", user="likes")], "u1")):
        asked = Asked(folder, where=where)
        asked.live.update()
        before = set(asked.found(uid))
        vector = {"vectors": {"taste": [1.0] * WIDTH}}
        name = where[0].value or "any"
        items.add(folder, [
            {"item_id": f"{name}1", "genre": "noir", "stock": 1, **vector},
            {"item_id": f"{name}2", "genre": "drama", "stock": 1, **vector},
            {"item_id": "b7", "genre": "drama"},  # was noir and in stock
            {"item_id": "b9", "genre": "noir"},  # was drama and in stock
        ])  # fmt: skip
        items.remove(folder, ["b13"])
        asked.live.update()
        assert set(asked.found(uid)) == before - {"b7", "b13"} | {f"{name}1", "b9"}
        again = Asked(folder, where=where)
        again.live.update()
        assert set(again.found(uid)) == set(asked.found(uid))
        items.add(folder, [{"item_id": "b7", "genre": "noir"}, {"item_id": "b9", "genre": "drama"}])


def test_a_genre_that_comes_later_is_found(folder):
    asked = Asked(folder, where=[Where("genre", user="wanted")])
    assert asked.found(context={"wanted": "opera"}) == []
    items.add(folder, [{"item_id": "new", "genre": "opera", "stock": 1, "vectors": {"taste": [0.5] * WIDTH}}])
    asked.live.update()
    assert asked.found(context={"wanted": "opera"}) == ["new"]


def test_shown_items_are_passed_over_and_like_an_item_is_itself_and_its_nearest(folder):
    asked = Asked(folder, 5, skip_shown=True)
    best = asked.found()
    found = asked.found(context={"history": [*best[:3], "nobody"]})
    assert found[:2] == best[3:] and len(found) == 5 and not set(best[:3]) & set(found)
    vectors = np.load(folder.parent / "items.npy")
    like = Asked(folder, 5, item_vector=True)
    assert like.found(item_id="b17") == [f"b{row}" for row in np.argsort(-(vectors @ vectors[17]))[:5]]
    assert like.found(item_id="nobody") == like.found() == []
    assert like.recall.told(like.query()) == "recall=near\tstrategy=none"


def test_conditions_that_cannot_hold_are_named(folder):
    for where, message in (
        ([Where("gnere", "noir")], r'Where\[0\]\.Column: the snapshot has no "gnere" \(did you mean "genre"\?\)'),
        ([Where("genre", "nior")], r"Where\[0\]\.Value: no item has 'nior'"),
        ([Where("genre", 1)], r"Where\[0\]\.Value: 1; the column holds texts"),
        ([Where("stock", 1), Where("stock", "1")], r"Where\[1\]\.Value: '1'; the column holds numbers"),
        ([Where("genre")], r"Where\[0\]: one of Value and User is needed, not none"),
        ([Where("genre", "noir", "likes")], r"Where\[0\]: one of Value and User is needed, not both"),
        ([Where("genre", user="likes"), Where("stock", user="stocked")], r"Where: 2 conditions name a user; one may"),
    ):
        with pytest.raises(ConfigError, match=r"RecallConfs\.near\.HnswConf\." + message):
            Asked(folder, where=where)
