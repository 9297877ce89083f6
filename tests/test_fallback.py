"""What is answered when a recommendation comes late, or brings too few items."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pairec_fast.app import App
from pairec_fast.config import FallbackConfig
from pairec_fast.errors import ConfigError
from pairec_fast.fallback import Fallback
from pairec_fast.snapshot import Snapshot
from tests.test_metrics import parsed
from tests.worlds import FEED, FIRST, RECOMMEND, ask


class Slow:
    """A stage that waits for a store which takes its time."""

    def __init__(self, seconds: float) -> None:
        self.name, self.timeout, self.seconds, self.fetched = "slow", 60.0, seconds, threading.Event()

    async def fetch(self, query) -> None:
        await asyncio.sleep(self.seconds)
        self.fetched.set()

    def __call__(self, query, arena) -> None:
        pass


def slowed(engine, seconds: float) -> Slow:
    scene, slow = engine._scene("home_feed", "default"), Slow(seconds)
    scene.filters.append(slow)
    scene.fetching_late = scene.fetching_recall = [slow]
    scene.awaits = True
    return slow


def with_fallback(world, **conf) -> None:
    world.scene["default"]["FallbackConfig"] = {"AdapterType": "local", "TableName": "hot", **conf}


@pytest.fixture(scope="module")
def snapshot(shop):
    return Snapshot.load(next(path for path in (shop / "snapshots").iterdir() if path.is_dir()))


def fallback(snapshot, **raw) -> Fallback:
    return Fallback(FallbackConfig(raw={"AdapterType": "local", "TableName": "hot", **raw}), snapshot, "here")


def test_items_of_both_lists_come_first_then_the_request_s_own_then_the_others(snapshot):
    known = fallback(snapshot)
    rows, scores = snapshot.lists["hot"].of(0)
    ids, score_of = [snapshot.items.ids.id(row) for row in rows], dict(enumerate(scores.tolist()))
    given = [
        {"item_id": "own", "score": 5}, {"item_id": ids[3], "score": 1}, {"item_id": ids[0], "score": "100"},
        {"item_id": "twice", "score": 1}, {"item_id": "twice", "score": 2}, {"score": 3}, {"item_id": ""},
    ]  # fmt: skip
    items = known.items("r1", given, 8)
    assert [(item.item_id, item.retrieve_id) for item in items[:2]] == [
        (ids[0], "ContextItemRecall"), (ids[3], "ContextItemRecall")
    ]  # fmt: skip
    assert [item.score for item in items[:2]] == [pytest.approx(100 + score_of[0]), pytest.approx(1 + score_of[3])]
    assert {(item.item_id, item.score) for item in items[2:4]} == {("own", 5.0), ("twice", 3.0)}
    assert all(item.retrieve_id == "Fallback" and item.item_id in ids for item in items[4:]) and len(items) == 8
    assert len({item.item_id for item in items}) == 8
    assert known.items("r1", given, 8) == items and known.items("r1", given, 1) == items[:1]
    assert {tuple(item.item_id for item in known.items(f"r{n}", [], 3)) for n in range(20)} != {("",)}
    assert len({tuple(item.item_id for item in known.items(f"r{n}", [], 3)) for n in range(20)}) > 5, "drawn"


def test_what_the_answer_has_already_is_left_out(snapshot):
    every = fallback(snapshot).items("r", [{"item_id": "own"}], 10**6)
    left = fallback(snapshot).items("r", [{"item_id": "own"}], 10**6, {"own", every[-1].item_id})
    assert {item.item_id for item in every} - {item.item_id for item in left} == {"own", every[-1].item_id}


def test_a_list_of_the_view_s_name_stands_for_it_and_without_one_the_request_s_list_is_all(snapshot):
    view = {"AdapterType": "", "TableName": "", "FeatureStoreViewName": "hot"}
    assert len(fallback(snapshot, **view).items("r", [], 5)) == 5
    bare = fallback(snapshot, **(view | {"FeatureStoreViewName": "elsewhere"}))
    assert [item.item_id for item in bare.items("r", [{"item_id": "a"}], 5)] == ["a"]


def test_a_list_that_is_not_there_or_is_one_of_groups_is_refused(snapshot):
    with pytest.raises(ConfigError, match=r'here\.TableName: the snapshot has no "hott"'):
        fallback(snapshot, TableName="hott")
    grouped = next(name for name, table in snapshot.lists.items() if table.by)
    with pytest.raises(ConfigError, match="a fallback needs one for all"):
        fallback(snapshot, TableName=grouped)


def test_a_late_recommendation_is_answered_with_the_fallback_and_still_logged(world):
    with_fallback(world, Timeout=50)
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine:
        slow = slowed(engine, 0.6)
        begin = time.monotonic()
        answer = ask(App(engine), FEED, FIRST | {"request_id": "r1", "size": 3}).json
        took = time.monotonic() - begin
        assert 0.04 < took < 0.5 and (answer["code"], answer["size"]) == (200, 3)
        assert {item["retrieve_id"] for item in answer["items"]} == {"Fallback"}
        assert answer["degraded"] == ["recommendation: timeout"]
        assert slow.fetched.wait(10)
        told = parsed(engine.metrics_text())
        assert told['pairec_fallback_total{scene="home_feed"}'] == 1
        deadline = time.monotonic() + 10
        while "log_accepted_total" not in engine.metrics_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    ((user, *items),) = world.records()
    assert user["request_id"] == "r1" and len(items) == 3
    assert all(item["item_id"].startswith("i") for item in items)


def test_a_recommendation_in_time_is_answered_as_it_is(world):
    with world.engine() as engine:
        plain = engine.recommend(FIRST).items
    with_fallback(world, Timeout=30_000)
    with world.engine() as engine:
        slowed(engine, 0.01)
        reply = engine.recommend(FIRST)
        assert reply.items == plain and not reply.degraded
        assert "fallback_total" not in engine.metrics_text()


def test_a_walk_that_awaits_nothing_needs_no_timer(world):
    with_fallback(world, Timeout=1)
    with world.engine() as engine:
        assert {item.retrieve_id for item in engine.recommend(FIRST).items}.isdisjoint({"Fallback"})


@pytest.mark.parametrize("completes", [False, True])
def test_short_answers_are_filled_up_where_the_configuration_says_so(world, completes):
    with_fallback(world, CompleteItemsIfNeed=completes)
    world.scene["few"] = {"RecallNames": ["ContextItemRecall"]}
    request = FIRST | {"category": "few", "size": 5, "item_list": [{"item_id": "i000012"}, {"item_id": "i000013"}]}
    with world.engine() as engine:
        answer = ask(App(engine), FEED, request).json
        bare = ask(App(engine), RECOMMEND, request).json
    assert (answer["code"], answer["size"]) == ((200, 5) if completes else (299, 2))
    assert {item["item_id"] for item in answer["items"][:2]} == {"i000012", "i000013"}
    assert len({item["item_id"] for item in answer["items"]}) == answer["size"] == len(answer["items"])
    assert bare["code"] == 299, "the bare route has no fallback"


def test_a_late_recommendation_that_fails_is_said_and_harms_nobody(world, caplog):
    with_fallback(world, Timeout=20)
    with world.engine() as engine:
        slow = slowed(engine, 0.2)
        engine._scene("home_feed", "default").filters.append(lambda query, arena: 1 / 0)
        assert len(engine.recommend(FIRST).items) == 3
        assert slow.fetched.wait(10)
        deadline = time.monotonic() + 10
        while "a late recommendation failed" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
