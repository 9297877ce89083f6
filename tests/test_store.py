"""Stores live on a loop of their own, start with the first use, and leave a dead server alone."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from pathlib import Path

import pytest

from pairec_fast.errors import ConfigError, NotReadyError, StoreError, StoreLate
from pairec_fast.metrics import Metrics
from pairec_fast.store import HologresConf, RedisConf, Stores, within
from pairec_fast.store.gate import FAILURES_MAX, REST_SECONDS, Gate


class Confs:
    """What of a configuration the stores read."""

    def __init__(self, redis=None, hologres=None, folder="."):
        self.redis_confs, self.hologres_confs, self.folder = redis or {}, hologres or {}, Path(folder)

    def path(self, text):
        return self.folder / text


class Down(Exception):
    pass


class Refused(Exception):
    pass


class Late(Exception):
    pass


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def gate(clock=None):
    metrics = Metrics()
    return Gate("RedisConfs.r", metrics, (Down,), (Refused,), clock=clock or Clock()), metrics


async def answers(value="yes"):
    return value


async def raises(error):
    raise error


async def never():
    await asyncio.Event().wait()


async def told(gate, make, seconds=1.0):
    """The error of one call, or what it returned."""
    try:
        return await gate.call(make, seconds)
    except StoreError as error:
        return str(error)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "pairec-stores"]


def test_no_thread_before_the_first_use_and_none_after_close():
    with Stores(Confs()) as stores:
        assert not threads()
        assert stores.run(answers()).result(5) == "yes"
        assert len(threads()) == 1
    assert not threads()
    stores.close()
    with pytest.raises(NotReadyError, match="closed"):
        stores.run(answers())


def test_stores_nobody_holds_take_their_thread_with_them():
    stores = Stores(Confs())
    assert stores.run(answers()).result(5) == "yes"
    gone = weakref.ref(stores)
    (thread,) = threads()
    del stores
    gc.collect()
    thread.join(5)
    assert gone() is None and not thread.is_alive()


def test_close_cancels_what_is_still_awaited():
    stores = Stores(Confs())
    waiting = stores.run(never())
    stores.close()
    assert waiting.cancelled()


def test_an_unknown_name_is_refused_with_the_nearest_one():
    confs = Confs({"main_redis": RedisConf()}, {"holo": HologresConf("dbname=x")})
    with Stores(confs) as stores:
        with pytest.raises(
            ConfigError, match=r'RedisConfs: RedisConfs has no "main_redsi" \(did you mean "main_redis"\?\)'
        ):
            stores.redis("main_redsi")
        with pytest.raises(
            ConfigError, match=r'RecallConfs\.a\.DaoConf\.HologresName: HologresConfs has no "pg"; it has "holo"'
        ):
            stores.postgres("pg", "RecallConfs.a.DaoConf.HologresName")
    with Stores(Confs()) as stores, pytest.raises(ConfigError, match='has no "r"; it has none'):
        stores.redis("r")


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("redis", "redis", lambda stores: stores.redis("r")),
        ("psycopg", "postgres", lambda stores: stores.postgres("p")),
        ("psycopg_pool", "postgres", lambda stores: stores.postgres("p")),
        ("lmdb", "lmdb", lambda stores: stores.lmdb("folder")),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, module, extra, use):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else object())
    confs = Confs({"r": RedisConf()}, {"p": HologresConf("dbname=x")})
    expected = rf"Python package {module} is not installed; `pip install 'pairec_fast\[{extra}\]'`"
    with Stores(confs) as stores, pytest.raises(ConfigError, match=expected):
        use(stores)


def test_passwords_are_in_no_repr():
    assert "secret" not in repr(RedisConf(password="secret")) + repr(HologresConf("postgres://u:secret@h/d"))


def test_what_is_late_is_not_waited_for_even_when_it_is_slow_to_give_up():
    """A client may need seconds to tell a server that its answer is no longer wanted."""
    gave_up = threading.Event()

    async def stubborn():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.3)
            gave_up.set()

    async def work():
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            await within(stubborn(), 0.05)
        return time.monotonic() - begin

    with Stores(Confs()) as stores:
        assert 0.05 <= stores.run(work()).result(5) < 0.25
        assert gave_up.wait(5), "it was cancelled all the same"


def test_a_cancelled_caller_is_not_held_up_either():
    async def stubborn():
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(1)

    async def work():
        task = asyncio.ensure_future(within(stubborn(), 20))
        await asyncio.sleep(0.05)
        task.cancel()
        begin = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - begin

    assert asyncio.run(work()) < 0.5


def test_failures_in_a_row_rest_a_store_and_one_trial_ends_the_rest():
    clock = Clock()
    one, metrics = gate(clock)

    async def work():
        for _ in range(FAILURES_MAX):
            assert await told(one, lambda: raises(Down("gone"))) == "RedisConfs.r: gone"
        assert "not asked for 0.2 s more, after 5 failures in a row; the last: gone" in await told(one, answers)
        clock.now += REST_SECONDS + 0.001
        assert await told(one, lambda: raises(Down("gone still"))) == "RedisConfs.r: gone still"
        clock.now += REST_SECONDS + 0.001
        assert "0.2 s more" in await told(one, answers), "the second rest is twice as long"
        clock.now += REST_SECONDS
        trial = asyncio.ensure_future(one.call(lambda: asyncio.sleep(0.05, "back"), 1.0))
        await asyncio.sleep(0.01)
        assert "not asked" in await told(one, answers), "one at a time while it is tried"
        assert await trial == "back"
        assert await told(one, answers) == "yes"
        for _ in range(FAILURES_MAX - 1):
            await told(one, lambda: raises(Down("gone")))
        assert await told(one, answers) == "yes", "the count starts anew after a success"

    asyncio.run(work())
    text = metrics.text()
    assert 'kind="resting"' in text and 'kind="down"' in text


def test_a_store_that_answers_with_errors_is_never_left_alone():
    one, _ = gate()

    async def work():
        for _ in range(3 * FAILURES_MAX):
            assert await told(one, lambda: raises(Refused("WRONGTYPE"))) == "RedisConfs.r: WRONGTYPE"
        assert await told(one, answers) == "yes"

    asyncio.run(work())


def test_lateness_counts_as_failure_whoever_noticed_it():
    one, _ = gate()

    async def work():
        for _ in range(FAILURES_MAX - 2):
            assert await told(one, never, 0.01) == "RedisConfs.r: no answer within 10 ms"
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.call(never, 60.0), 0.01)
        assert "the caller gave up waiting" in await told(one, answers)

    asyncio.run(work())


def test_what_a_client_gives_up_waiting_for_is_late_too():
    """Its own limits may end before ours; who reads `degraded` should not take a slow store for a broken one."""
    metrics = Metrics()
    one = Gate("RedisConfs.r", metrics, (Down,), (Refused,), late=(Late,))

    async def work():
        with pytest.raises(StoreLate, match=r"RedisConfs\.r: no answer within 10 ms"):
            await one.call(never, 0.01)
        with pytest.raises(StoreLate, match=r"RedisConfs\.r: reading took too long"):
            await one.call(lambda: raises(Late("reading took too long")), 1.0)
        with pytest.raises(StoreError) as raised:
            await one.call(lambda: raises(Down("gone")), 1.0)
        assert not isinstance(raised.value, StoreLate)

    asyncio.run(work())
    assert 'kind="late"} 2' in metrics.text() and 'kind="down"} 1' in metrics.text()


def test_an_error_of_our_own_is_not_taken_for_the_servers():
    one, _ = gate()
    with pytest.raises(TypeError):
        asyncio.run(one.call(lambda: raises(TypeError("bug")), 1.0))


def test_who_waits_for_what_ended_with_the_loop_hears_of_it():
    """Its last step was the loop's last: without one more the outcome would never reach the thread that waits."""

    async def ending():
        asyncio.get_running_loop().stop()
        return "done"

    async def trying_again():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    with Stores(Confs()) as stores:
        assert stores.run(ending()).result(5) == "done"
    with Stores(Confs()) as stores:
        stubborn = stores.run(trying_again())
        stores.run(asyncio.sleep(0)).result(5)
    assert stubborn.cancelled()
