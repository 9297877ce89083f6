"""Requests that wait for live stores: how many at once, what is said while a store is away, and when it all ends."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time

import pytest

from pairec_fast import ConfigError, NotReadyError, OverloadedError
from pairec_fast.app import App
from pairec_fast.store import Stores
from tests.test_fallback import slowed, with_fallback
from tests.test_store import Confs
from tests.worlds import FEED, FIRST, LOGGED, RECALL, ask


async def answered(app, count: int, path: str = FEED) -> list[int]:
    """The statuses of that many requests at once."""

    async def one() -> int:
        got = []
        body = b'{"uid": "u00042", "scene_id": "home_feed", "category": "default", "size": 3}'

        async def receive():
            return {"type": "http.request", "body": body}

        async def send(message):
            got.append(message)

        await app({"type": "http", "path": path, "headers": []}, receive, send)
        return got[0]["status"]

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


@pytest.mark.parametrize("path", [FEED, RECALL])
def test_no_more_than_so_many_wait_for_live_stores_and_others_are_answered_503(world, path):
    world.conf["LimitConf"] = {"AwaitingMax": 3, "InFlightMax": 100}
    with world.engine() as engine:
        slowed(engine, 0.2)
        scene = engine._scene("home_feed", "default")
        engine._bound.scenes["home_feed", "default_category"] = scene
        app = App(engine)
        assert asyncio.run(answered(app, 8, path)) == [200] * 3 + [503] * 5
        assert asyncio.run(answered(app, 3, path)) == [200] * 3, "the count goes down again"
        assert engine.stores._awaiting == 0


def test_what_needs_no_store_is_answered_however_many_wait(world):
    world.conf["LimitConf"] = {"AwaitingMax": 1}
    world.scene["local"] = {"RecallNames": ["hot"]}
    with world.engine() as engine:
        slow = slowed(engine, 0.5)
        waiting = threading.Thread(target=engine.recommend, args=(FIRST,))
        waiting.start()
        while not engine.stores._awaiting:
            time.sleep(0.001)
        with pytest.raises(OverloadedError, match="1 requests wait"):
            engine.recommend(FIRST)
        assert engine.recommend(FIRST | {"category": "local"}).size == 3 and not slow.fetched.is_set()
        waiting.join()


def test_walks_whose_fallback_has_been_answered_count_until_they_are_over(world):
    """They hold an arena each; with a short fallback nothing else would bound them."""
    world.conf["LimitConf"] = {"AwaitingMax": 2}
    with_fallback(world, Timeout=1)
    with world.engine() as engine:
        slow = slowed(engine, 0.3)
        for _ in range(2):
            assert engine.recommend(FIRST).degraded == ["recommendation: timeout"]
        assert ask(App(engine), FEED, FIRST).status == 503
        slow.fetched.wait(5)
        deadline = time.monotonic() + 5
        while engine.stores._awaiting and time.monotonic() < deadline:
            time.sleep(0.01)
        assert engine.stores._awaiting == 0 and engine.recommend(FIRST).size == 3


def test_requests_that_wait_when_the_engine_is_closed_are_answered_503(world, caplog):
    with world.engine() as engine:
        slowed(engine, 30)
        app = App(engine)

        async def scenario():
            waiting = asyncio.create_task(answered(app, 3))
            while engine.stores._awaiting < 3:
                await asyncio.sleep(0.001)
            await asyncio.get_running_loop().run_in_executor(None, engine.close)
            return await asyncio.wait_for(waiting, 10)

        assert asyncio.run(scenario()) == [503] * 3
    assert "Traceback" not in caplog.text


def test_a_password_in_the_address_of_a_model_server_is_refused_without_being_told(world):
    url = "http://user:s3cret@10.0.0.1/model"
    conf = {"Processor": "EasyRec", "Url": url, "ResponseFuncName": "easyrecResponseFunc"}
    world.conf["AlgoConfs"].append({"Name": "far", "Type": "EAS", "EasConf": conf})
    world.conf["RankConf"]["home_feed"] = {"RankAlgoList": ["far"], "RankScore": "${far}", "Processor": "EasyRec"}
    with pytest.raises(ConfigError, match=r"AlgoConfs\.far\.EasConf: expected .*10\.0\.0\.1/model") as caught:
        world.engine()
    assert "s3cret" not in str(caught.value)


def test_a_model_server_that_callbacks_do_not_reach_is_told_now_and_then(world, caplog):
    conf = {"Processor": "EasyRec", "Url": "http://127.0.0.1:9/x", "ResponseFuncName": "easyrecMutValResponseFunc"}
    world.conf["AlgoConfs"].append({"Name": "far", "Type": "EAS", "EasConf": conf})
    world.callback["RankConf"] = {"RankAlgoList": ["far"], "Processor": "EasyRec"}
    with world.engine() as engine:
        for number in range(20):
            assert engine.callback(LOGGED | {"request_id": f"r{number}"})
    assert len([line for line in caplog.messages if "127.0.0.1:9" in line]) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_told_instead_of_waiting_for_a_loop_that_nobody_runs():
    async def nothing():
        return None

    with Stores(Confs()) as stores:
        stores.run(nothing()).result()
        child = os.fork()
        if child == 0:
            try:
                stores.run(nothing())
            except NotReadyError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert stores.run(nothing()).result(5) is None


def test_requests_go_on_while_a_store_that_a_new_configuration_names_is_tried_out():
    """A reload may wait for seconds until a store that is down has not answered; the event loop must not."""

    class Silent:
        async def start(self) -> None:
            await asyncio.sleep(1.0)

        async def close(self) -> None: ...

    async def nothing():
        return None

    with Stores(Confs()) as stores:
        stores.run(nothing()).result()
        trying = threading.Thread(target=lambda: stores._tried("RedisConfs.r", Silent))
        trying.start()
        time.sleep(0.05)
        begin = time.monotonic()
        stores.run(nothing()).result(5)
        assert time.monotonic() - begin < 0.5 and trying.is_alive()
        trying.join()


class Jitter:
    """Comes back after a while of its own, so that requests overtake each other at every stage."""

    name, timeout = "jitter", 5.0

    def __init__(self) -> None:
        self.dice = random.Random(1)

    async def fetch(self, query) -> None:
        await asyncio.sleep(self.dice.random() / 200)
        query.fetched[self] = query.uid

    async def load(self, query, arena) -> None:
        await asyncio.sleep(self.dice.random() / 200)

    def __call__(self, query, arena) -> None:
        assert query.fetched[self] == query.uid


def test_requests_that_wait_side_by_side_keep_their_items_guests_and_properties_apart(world):
    world.scene["own"] = {"RecallNames": ["ContextItemRecall"], "OutputFields": ["item:tag"]}
    world.conf["FilterNames"]["default"] = ["UniqueFilter"]
    wrong = []
    with world.engine() as engine:
        scene, jitter = engine._scene("home_feed", "own"), Jitter()
        scene.filters.append(jitter)
        scene.fetching_late, scene.awaits = [jitter], True

        def ask_often(user: int) -> None:
            for turn in range(15):
                tags = {f"i{(7 * turn + at) % 600:06d}" if at % 2 else f"guest{user}_{turn}_{at}": f"{user} {turn} {at}"
                        for at in range(1 + turn % 9)}  # fmt: skip
                items = [{"item_id": id, "tag": tag} for id, tag in tags.items()]
                request = {"uid": f"u{user:05d}", "scene_id": "home_feed", "category": "own", "item_list": items}
                found = {item.item_id: item.extra["tag"] for item in engine.recommend(request).items}
                if found != tags:
                    wrong.append((tags, found))

        threads = [threading.Thread(target=ask_often, args=(user,)) for user in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert engine.stores._awaiting == 0 and len(engine._walker._arenas) <= 12
    assert wrong == []
