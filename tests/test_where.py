"""A recall of the nearest items finds those whose columns say what is asked for, whatever came since the base."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pairec_fast import items
from pairec_fast.binding import Binding
from pairec_fast.build import build
from pairec_fast.core import Arena, MappedFile
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


LISTS = 'lists = ["genre", "stock", "shelf"]\n'


@pytest.fixture(params=["", LISTS], ids=["made", "stored"])
def folder(request, tmp_path):
    """Lists are made by each process that binds, or stored: no answer may tell."""
    rng = np.random.default_rng(1)
    lines = [f"b{row},{row % 2},{GENRES[row % 3]},shelf {row // 30}\n" for row in range(COUNT)]
    (tmp_path / "items.csv").write_text("item_id,stock,genre,shelf\n" + "".join(lines))
    (tmp_path / "users.csv").write_text("user_id,likes\n" + "".join(f"u{row},{GENRES[row % 3]}\n" for row in range(6)))
    (tmp_path / "events.csv").write_text(
        "user_id,item_id,timestamp\n" + "".join(f"u{row % 6},b{row},{row}\n" for row in range(100))
    )
    for side, rows in (("users", 6), ("items", COUNT)):
        np.save(tmp_path / f"{side}.npy", rng.normal(size=(rows, WIDTH)).astype(np.float32))
    (tmp_path / "world.toml").write_text(WORLD + request.param)
    build(tmp_path / "world.toml", tmp_path / "snapshots")
    return tmp_path / "snapshots"


class Asked:
    """A recall bound to a snapshot that follows items.log."""

    def __init__(self, folder, k=COUNT + SPARE, **conf):
        self.snapshot = Snapshot.load(folder, spare=SPARE)
        self.live = Live(self.snapshot)
        self.recall = HnswRecall("near", HnswConf("taste", **conf), k).bind(Binding(self.snapshot))

    def query(self, uid="u1", context=None, item_id=""):
        return Query(self.snapshot, uid, 10, context or {}, history_max=100, item_id=item_id)

    def found(self, uid="u1", context=None, item_id=""):
        arena = Arena(1000, items_max=self.snapshot.overlay.capacity)
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


def test_two_items_of_a_genre_that_comes_later_are_both_found(folder):
    asked = Asked(folder, where=[Where("genre", user="wanted")])
    for name in ("new", "newer"):
        items.add(folder, [{"item_id": name, "genre": "opera", "stock": 1, "vectors": {"taste": [0.5] * WIDTH}}])
        asked.live.update()
    assert set(asked.found(context={"wanted": "opera"})) == {"new", "newer"}


def test_a_removed_item_does_not_come_back_by_a_list(folder):
    """Lists say which rows have a value; whether a row still counts only the index knows."""
    one, any_ = (Asked(folder, where=[where]) for where in (Where("genre", "noir"), Where("genre", user="wanted")))
    wanted = {"wanted": "noir"}
    assert {"b1", "b4"} <= set(one.found()) == set(any_.found(context=wanted))
    items.remove(folder, ["b1", "b4"])
    for asked in (one, any_):
        asked.live.update()
        assert set(asked.found(context=wanted)) == base(lambda row: row % 3 == 1) - {"b1", "b4"}
    items.add(folder, [{"item_id": "b4", "genre": "noir", "stock": 1, "vectors": {"taste": [0.5] * WIDTH}}])
    for asked in (one, any_):
        asked.live.update()
        assert set(asked.found(context=wanted)) == base(lambda row: row % 3 == 1) - {"b1"}


LONG = 2_600  # a value of fewer than a 256th of the items is listed and has no bits


@pytest.mark.parametrize("kind", ["flat", "partition", "hnsw"])
def test_stored_lists_give_the_answers_of_those_made(tmp_path, kind):
    """Rare and common values, none, zeros of both signs, fractions that float32 rounds, and whatever a user may say."""
    if kind == "hnsw":
        pytest.importorskip("hnswlib")
    rng = np.random.default_rng(7)
    shops = [f"s{min(int(shop), 400)}" for shop in rng.zipf(1.3, LONG)]
    prices = [("", "0.0", "-0.0", "0.1", "2.5", "1e30")[place] for place in rng.integers(0, 6, LONG)]
    rows = [f"b{row},{'' if row % 7 == 0 else shops[row]},{prices[row]}\n" for row in range(LONG)]
    (tmp_path / "items.csv").write_text("item_id,shop,price\n" + "".join(rows))
    (tmp_path / "users.csv").write_text("user_id\nu0\nu1\n")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nu0,b0,1\n")
    vectors = rng.normal(size=(LONG, WIDTH)).astype(np.float32)
    vectors[::11] = 0  # no place in the index
    np.save(tmp_path / "items.npy", vectors)
    np.save(tmp_path / "users.npy", rng.normal(size=(2, WIDTH)).astype(np.float32))
    folders = []
    for name, lists in (("made", ""), ("stored", 'lists = ["shop", "price"]\n')):
        world = WORLD.replace('"flat"', f'"{kind}"').replace("k = 40", "k = 20") + lists
        (tmp_path / "world.toml").write_text(world)
        folders.append(tmp_path / name)
        build(tmp_path / "world.toml", folders[-1])
    having = {name: {f"b{row}" for row in range(LONG) if shops[row] == name and row % 7 and row % 11} for name in shops}
    shop = next(name for name in sorted(having) if 3 <= len(having[name]) <= 8)
    said = ["s1", "s2", shop, "s9999", "s0", "", "\ud800", 0, 0.0, -0.0, 0.1, float(np.float32(0.1)), 2.5, 1e30, True]
    said += [float("nan"), float("inf"), 10**400, [1], None]
    for where in (
        *(Where("shop", value) for value in ("s1", shop)), *(Where("price", value) for value in (0, 0.1, 2.5, 3.5)),
        Where("shop", user="said"), Where("price", user="said"),
    ):  # fmt: skip
        made, stored = (Asked(folder, 50, where=[where]) for folder in folders)
        for step in ("built", "changed"):
            for value in said if where.user else [None]:
                context = {"said": value}
                assert stored.found("u1", context) == made.found("u1", context), (where, value, step)
                assert stored.recall.told(stored.query("u1", context)) == made.recall.told(made.query("u1", context))
            for folder, asked in zip(folders, (made, stored), strict=True):
                new = {"shop": shop, "price": 0.1, "vectors": {"taste": [1.0] * WIDTH}}
                items.add(folder, [{"item_id": "n1", **new}, {"item_id": "n2", **new, "shop": "s9999"}])
                items.remove(folder, [f"b{row}" for row in range(0, LONG, 5)])
                asked.live.update()
    left = {id for id in having[shop] if int(id[1:]) % 5}
    asked = Asked(folders[1], 50, where=[Where("shop", user="said")])
    assert set(asked.found("u1", {"said": shop})) == having[shop] != left
    asked.live.update()
    assert set(asked.found("u1", {"said": shop})) == left | {"n1"}
    assert asked.found("u1", {"said": "s9999"}) == ["n2"]


@pytest.mark.parametrize("folder", [LISTS], indirect=True)
def test_filters_of_stored_lists_are_views_of_the_mapped_file(folder):
    asked = Asked(folder, where=[Where("shelf", user="shelf")])
    lists = asked.snapshot.vectors["taste"].lists["shelf"]
    whole = lists.places
    while not isinstance(whole, memoryview):
        whole = whole.base
    assert isinstance(whole.obj, MappedFile)
    for shelf in range(10):
        chosen = asked.recall.choose(asked.query(context={"shelf": f"shelf {shelf}"}))
        assert len(chosen) == 30
        assert np.shares_memory(chosen.places, lists.places) and not chosen.places.flags.writeable
    only = Asked(folder, where=[Where("shelf", "shelf 4")])
    kept = only.recall.choose(only.query()).places
    assert kept.tolist() == list(range(120, 150))
    assert np.shares_memory(kept, only.snapshot.vectors["taste"].lists["shelf"].places)
