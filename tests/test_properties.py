"""What a request knows of candidates: by name, as columns, whatever filters do, and for items nobody knows."""

from __future__ import annotations

import asyncio
import time

import msgspec
import numpy as np
import pytest

from pairec_fast import Engine
from pairec_fast.core import Arena, add, keep, select
from pairec_fast.core.columns import MISSING, column_of
from pairec_fast.expression import Condition, mask
from pairec_fast.properties import Given
from pairec_fast.query import Query
from pairec_fast.scene import KINDS
from pairec_fast.snapshot import Snapshot


@pytest.fixture(scope="module")
def snapshot(shared_world):
    return Snapshot.load(shared_world.parent / "snapshots", guests=3)


def walked(snapshot, ids, *, repeats=False):
    query = Query(snapshot, "u00001", 10, {"a": "", "b": 1}, history_max=10, sources=["one", "two"], places=16)
    arena = Arena(16, items_max=snapshot.overlay.capacity)
    arena.reset(repeats)
    arena.follow(snapshot.overlay)
    for source, some in enumerate(ids):
        rows = np.array([query.row(id) for id in some], np.int32)
        add(arena, rows, np.arange(len(some), dtype=np.float64) / 3, source)
    return query, arena


def test_what_a_request_gives_goes_with_its_candidate_through_every_filter(snapshot):
    query, arena = walked(snapshot, [["i000001", "i000002", "i000003"], ["i000004", "x"]])
    query.given.put("rank", arena.place[:5].copy(), np.arange(5.0))
    query.given.put("word", np.array([4, 0], np.int32), (np.array([0, 1], np.int32), ["last", "first"]))
    assert keep(arena, np.array([1, 0, 1, 1, 1], np.uint8)) == 1
    select(arena, np.array([3, 0, 2], np.int32))
    properties = query.properties(arena)
    assert properties["rank"].tolist() == [4.0, 0.0, 3.0]
    slots = np.arange(3, dtype=np.int32)
    assert properties.of_each("word", slots) == ["last", "first", MISSING]
    assert query.ids(arena.row[:3]) == ["x", "i000001", "i000004"]
    assert properties["recall_name"][0].tolist() == [1, 0, 1]
    assert properties.of_each("two", slots) == [1 / 3, MISSING, 0.0], "scores keep their 64 bits"
    assert "nothing" not in properties and "rank" in properties


def test_a_given_value_lies_over_the_snapshots_and_leaves_the_rest(snapshot):
    query, arena = walked(snapshot, [["i000001", "i000002", "x"]])
    price = snapshot.items.columns["price"].values[arena.row[:2]].astype(float).tolist()
    query.given.put("price", np.array([1], np.int32), np.array([-5.0]))
    assert query.properties(arena).of_each("price", np.arange(3)) == [price[0], -5.0, MISSING]
    query.given.put("price", np.array([2], np.int32), column_of(["dear"]))
    assert query.properties(arena).of_each("price", np.arange(3)) == [price[0], -5.0, "dear"]


def test_what_pairec_implies_stands_where_a_candidate_has_no_property_of_that_name(snapshot):
    query, arena = walked(snapshot, [["i000001", "i000002"], ["i000003"]])
    slots = np.arange(3)
    query.given.put("recall_name", np.array([1], np.int32), column_of(["mine"]))
    query.given.put("one", np.array([2], np.int32), np.array([7.0]))
    properties = query.properties(arena)
    assert properties.of_each("recall_name", slots) == ["one", "mine", "two"]
    assert properties.of_each("one", slots) == [0.0, 1 / 3, 7.0] and properties.of_each("two", slots)[2] == 0.0
    query.given.drop("recall_name")
    assert query.properties(arena).of_each("recall_name", slots) == ["one", "one", "two"]


def test_of_a_guest_everything_is_missing_and_conditions_say_so(snapshot):
    query, arena = walked(snapshot, [["i000001", "x"]])
    conditions = [Condition(name="in_stock", operator="is_null")]
    assert mask(conditions, query.properties(arena), arena.count).tolist() == [0, 1]
    assert len({query.row("x"), query.row("y"), query.row("z")}) == 3
    assert query.row("one more") == -1, "no room"
    assert query.row("") == -1 and Query(snapshot, "u", 1, {}, history_max=1).row("\ud800") == -1


@pytest.mark.parametrize("seed", range(5))
def test_select_is_indexing(snapshot, seed):
    rng = np.random.default_rng(seed)
    _, arena = walked(snapshot, [[f"i{row:06d}" for row in rng.permutation(12)]])
    arena.algo_score[0, :12] = rng.random(12)
    arena.score[:12] = rng.random(12)
    arena.scored = True
    columns = [column[:12].copy() for column in (arena.row, arena.place, arena.source, arena.recall_score, arena.score)]
    algo = arena.algo_score[0, :12].copy()
    slots = rng.permutation(12)[: rng.integers(0, 13)].astype(np.int32)
    select(arena, slots)
    assert arena.count == len(slots)
    live = (arena.row, arena.place, arena.source, arena.recall_score, arena.score)
    for before, after in zip(columns, live, strict=True):
        assert after[: arena.count].tolist() == before[slots].tolist()
    assert arena.algo_score[0, : arena.count].tolist() == algo[slots].tolist()


@pytest.mark.parametrize("slots", [[0, 0], [3], [-1], [0, 1, 2, 0]])
def test_slots_that_are_not_live_or_given_twice_are_refused(snapshot, slots):
    _, arena = walked(snapshot, [["i000001", "i000002", "i000003"]])
    with pytest.raises(ValueError, match="slots"):
        select(arena, np.array(slots, np.int32))


def test_scores_stay_with_their_candidates_when_a_filter_comes_after_rank(snapshot):
    _, arena = walked(snapshot, [["i000001", "i000002", "i000003"]])
    arena.score[:3], arena.scored = [0.1, 0.2, 0.3], True
    keep(arena, np.array([0, 1, 1], np.uint8))
    assert arena.score[:2].tolist() == [0.2, 0.3]


def test_repeats_are_kept_where_a_filter_wants_them(snapshot):
    _, arena = walked(snapshot, [["i000001", "i000002"], ["i000002"]], repeats=True)
    assert arena.count == 3 and arena.source[:3].tolist() == [0, 0, 1]


def test_user_features_are_the_requests_without_empty_texts_and_the_uid(snapshot):
    query, _ = walked(snapshot, [[]])
    assert query.user_features == {"b": 1, "uid": "u00001"}


def test_values_of_many_kinds_keep_their_types():
    values = [1, True, 1.0, "1", [1], MISSING, None, [1]]
    codes, texts = column_of(values)
    given = Given(8)
    given.put("x", np.arange(8, dtype=np.int32), (codes, texts))
    codes, texts = given.of("x", np.arange(8, dtype=np.int32))
    got = [texts[code] if code >= 0 else MISSING for code in codes]
    assert [(type(a), a) for a in got] == [(type(a), a) for a in values]
    assert column_of([0.5, MISSING]).tolist()[0] == 0.5, "numbers alone are numbers"


class Remote(msgspec.Struct, frozen=True, rename="pascal"):
    """A recall that awaits: as slow as `Slow` seconds, for `Timeout` seconds at most."""

    name: str
    slow: float = 0.0
    timeout: float = 0.2
    fails: bool = False
    brings_guests = True

    def bind(self, at):
        return Awaited(self, at.source)


class Awaited:
    def __init__(self, conf, source):
        self.conf, self.source, self.name, self.timeout = conf, source, conf.name, conf.timeout

    async def fetch(self, query):
        await asyncio.sleep(self.conf.slow)
        if self.conf.fails:
            raise OSError("gone")
        query.fetched[self] = ["x", "i000005"]

    def __call__(self, query, arena):
        rows = np.array([query.row(id) for id in query.fetched.get(self, [])], np.int32)
        add(arena, rows, np.ones(len(rows)), self.source)


@pytest.fixture
def awaiting(shared_world, monkeypatch):
    """Makes an engine of recalls that await, each given its fields."""
    monkeypatch.setitem(KINDS.recall, "Remote", Remote)
    engines = []

    def make(*confs):
        names = [f"r{place}" for place in range(len(confs))]
        recalls = [{"Name": name, "RecallType": "Remote", **conf} for name, conf in zip(names, confs, strict=True)]
        document = {
            "SnapshotConf": {"Directory": str(shared_world.parent / "snapshots")},
            "RecallConfs": recalls,
            "SceneConfs": {"home_feed": {"default": {"RecallNames": names}}},
            "SortNames": {"default": ["ItemRankScore"]},
        }  # fmt: skip
        engines.append(Engine.from_config(document))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def test_recalls_that_await_do_so_together_and_a_late_one_is_named(awaiting):
    engine = awaiting({"Slow": 0.15}, {"Slow": 0.15}, {"Slow": 5.0}, {"Fails": True})
    begin = time.perf_counter()
    reply = engine.recommend({"uid": "u1", "scene_id": "home_feed", "size": 2})
    assert time.perf_counter() - begin < 2.0, "not one after the other, and not as long as the last"
    assert [item.item_id for item in reply.items] == ["x", "i000005"], "of one score, in the order of recall"
    assert sorted(reply.degraded) == ["r2: timeout", "r3: error"]
    assert 'degraded_total{scene="home_feed",stage="r2",reason="timeout"} 1' in engine.metrics.text({})


class Slowly:
    """A load of the user's features that takes its time."""

    name, timeout, awaits, aside, on_item = "user", 5.0, True, False, False

    async def load(self, query, arena):
        await asyncio.sleep(0.3)

    def __call__(self, query, arena):
        query.user_features["loaded"] = 1


@pytest.mark.parametrize("reads_user", [False, True])
def test_what_reads_nothing_of_the_user_begins_beside_the_loads_of_the_user(awaiting, monkeypatch, reads_user):
    seen = []

    async def fetch(self, query):
        seen.append("loaded" in query.user_features)
        await asyncio.sleep(0.3)

    monkeypatch.setattr(Awaited, "reads_user", reads_user, raising=False)
    monkeypatch.setattr(Awaited, "fetch", fetch)

    def loads(confs, scene, section, at, **more):
        return [Slowly()] * section.startswith("User")

    monkeypatch.setattr("pairec_fast.scene.loads", loads)
    engine = awaiting({"Timeout": 5.0}, {"Timeout": 5.0})
    engine.recommend({"uid": "u1", "scene_id": "home_feed", "size": 2})
    assert seen == [reads_user, reads_user], "who reads what is loaded waits for it, and nobody else"


def test_an_event_loop_serves_others_while_a_request_awaits(awaiting):
    engine = awaiting({"Slow": 0.1, "Timeout": 5.0})

    async def many():
        asked = [engine.recommend_async({"uid": "u1", "scene_id": "home_feed", "size": 2}) for _ in range(20)]
        return await asyncio.gather(*asked)

    begin = time.perf_counter()
    assert all(len(reply.items) == 2 for reply in asyncio.run(many()))
    assert time.perf_counter() - begin < 1.9, "twenty one after the other take two seconds"
