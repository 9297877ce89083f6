"""Redis is read within its time limits, and comes back by itself after a restart."""

from __future__ import annotations

import asyncio
import time

import pytest

from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.metrics import Metrics
from pairec_fast.store import RedisConf, Stores
from tests.services.process import lasting_port
from tests.test_store import Confs


def conf(server, **fields):
    return RedisConf(port=server.port, **fields)


@pytest.fixture
def stores(redis_server):
    with Stores(Confs({"r": conf(redis_server, connect_timeout=500, read_timeout=500)})) as stores:
        yield stores


def ask(stores, coroutine):
    return stores.run(coroutine).result(20)


def test_each_layout_of_pairec_is_read(stores, redis_server):
    client = redis_server.client
    client.mset({"hot:1": "i1:0.5,i2", "hot:2": "雪"})
    client.hset("user", mapping={"age": "31", "city": ""})
    client.rpush("shown", "a", "b", "c")
    one = stores.redis("r")
    assert ask(stores, one.get("hot:1")) == "i1:0.5,i2" and ask(stores, one.get("none")) is None
    assert ask(stores, one.mget(["hot:2", "none", "user", "hot:1"])) == ["雪", None, None, "i1:0.5,i2"]
    assert ask(stores, one.hgetall("user")) == {"age": "31", "city": ""} and ask(stores, one.hgetall("none")) == {}
    assert ask(stores, one.hmget("user", ["city", "sex", "age"])) == ["", None, "31"]
    assert ask(stores, one.lrange("shown", 0, 1)) == ["a", "b"] and ask(stores, one.lrange("none")) == []
    assert ask(stores, one.mget([])) == [] and ask(stores, one.hmget("user", [])) == []
    assert ask(stores, one.read([("GET", "hot:2"), ("HLEN", "user")])) == ["雪", 2]
    assert ask(stores, one.read([])) == []


def test_an_exposure_is_written_trimmed_and_given_its_life_in_one_round(stores, redis_server):
    one = stores.redis("r")
    for number in range(5):
        key, entry = "seen:u1", f'{{"item_ids":["{number}"]}}'
        write = one.write([("LPUSH", key, entry), ("LTRIM", key, 0, 2), ("EXPIRE", key, 60)])
        assert ask(stores, write) == [min(number + 1, 4), True, True]
    assert redis_server.client.lrange("seen:u1", 0, -1) == [f'{{"item_ids":["{n}"]}}'.encode() for n in (4, 3, 2)]
    assert 0 < redis_server.client.ttl("seen:u1") <= 60
    assert ask(stores, one.write([("DEL", "seen:u1")])) == [1]


def test_of_several_reads_each_may_be_refused_by_itself(stores, redis_server):
    redis_server.client.set("text", "a")
    redis_server.client.hset("hash", mapping={"a": "1"})
    one = stores.redis("r")
    first, second, third = ask(stores, one.read_each([("HGETALL", "text"), ("HGETALL", "hash"), ("HGETALL", "none")]))
    assert isinstance(first, StoreError) and "WRONGTYPE" in str(first) and (second, third) == ({"a": "1"}, {})
    assert ask(stores, one.read_each([])) == []
    with pytest.raises(StoreError, match="WRONGTYPE"):  # of all of them: then nothing came, and it is an error
        ask(stores, one.read_each([("HGETALL", "text"), ("LRANGE", "text", 0, 1)]))


def test_a_key_of_the_wrong_type_is_an_error_of_that_read_alone(stores, redis_server):
    redis_server.client.rpush("list", "a")
    one = stores.redis("r")
    for _ in range(20):
        with pytest.raises(StoreError, match=r"RedisConfs\.r: WRONGTYPE"):
            ask(stores, one.get("list"))
    assert ask(stores, one.lrange("list")) == ["a"]


def test_bytes_that_are_no_text_and_keys_that_cannot_be_encoded_do_no_harm(stores, redis_server):
    redis_server.client.set("bytes", b"a\xff,b")
    one = stores.redis("r")
    assert ask(stores, one.get("bytes")) == "a�,b"
    assert ask(stores, one.get("\ud800")) is None
    assert ask(stores, one.get("nul\0key\r\nGET x")) is None


def test_a_huge_value_comes_whole_or_late_and_the_next_answer_is_the_right_one(redis_server):
    redis_server.client.set("huge", b"x" * (64 << 20))
    redis_server.client.set("small", "s")
    with Stores(
        Confs({"r": conf(redis_server, read_timeout=5000), "hasty": conf(redis_server, read_timeout=1)})
    ) as all_:
        assert len(ask(all_, all_.redis("r").get("huge"))) == 64 << 20
        hasty = all_.redis("hasty")
        with pytest.raises(StoreError):
            ask(all_, hasty.get("huge"))
        assert ask(all_, all_.redis("r").get("small")) == "s"


def test_a_redis_that_does_not_answer_at_start_is_an_error_of_the_configuration(redis_server):
    port = lasting_port()
    with Stores(Confs({"r": RedisConf(port=port, password="secret")})) as stores:
        with pytest.raises(ConfigError, match=r"RedisConfs\.r: it must answer when the engine starts") as raised:
            stores.redis("r")
        assert "secret" not in str(raised.value)
    with Stores(Confs({"r": conf(redis_server)})) as stores:
        redis_server.freeze()
        begin = time.monotonic()
        with pytest.raises(ConfigError, match=r"no answer within 150 ms|Timeout"):
            stores.redis("r")
        assert time.monotonic() - begin < 1.0
        redis_server.thaw()
        assert ask(stores, stores.redis("r").get("x")) is None, "tried again when asked for again"


def test_a_wrong_password_is_told_and_not_repeated(tmp_path):
    from tests.services.process import offer
    from tests.services.redis import Redis

    class Locked(Redis):
        @property
        def url(self):
            return f"redis://:right@127.0.0.1:{self.port}/0"

        @url.setter
        def url(self, _):
            pass

    with offer(lambda: Locked(tmp_path, requirepass="right")) as server:
        server.start()
        for password in ("", "wrongword"):
            with Stores(Confs({"r": conf(server, password=password)})) as stores:
                with pytest.raises(ConfigError, match=r"NOAUTH|Authentication|WRONGPASS|invalid") as raised:
                    stores.redis("r")
                assert "wrongword" not in str(raised.value)
        with Stores(Confs({"r": conf(server, password="right", db_num=3)})) as stores:
            assert ask(stores, stores.redis("r").get("x")) is None


def test_a_dead_redis_costs_a_few_requests_their_deadline_and_then_nothing(redis_server):
    metrics = Metrics()
    with Stores(Confs({"r": conf(redis_server)}), metrics) as stores:
        one = stores.redis("r")
        redis_server.freeze()
        waited = []
        for _ in range(40):
            begin = time.monotonic()
            with pytest.raises(StoreError):
                ask(stores, one.get("x"))
            waited.append(time.monotonic() - begin)
        assert sorted(waited)[len(waited) // 2] < 0.02, "most fail at once"
        assert sum(second > 0.05 for second in waited) <= 8, "a few are late"
        redis_server.thaw()
        redis_server.client.set("x", "1")
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                assert ask(stores, one.get("x")) == "1"
                break
            except StoreError:
                time.sleep(0.05)
        else:
            raise AssertionError("it did not come back")


def test_after_a_restart_the_first_read_succeeds(stores, redis_server):
    one = stores.redis("r")
    assert ask(stores, one.mget(["a", "b"])) == [None, None]
    redis_server.kill()
    redis_server.start()
    redis_server.client.set("a", "1")
    assert ask(stores, one.mget(["a", "b"])) == ["1", None]


def test_late_answers_are_never_given_to_the_next_question(redis_server):
    """A connection whose reader went away must not be used again: its next answer is to the former question."""
    client = redis_server.client
    client.mset({f"k{number}": f"v{number}" for number in range(100)})
    with Stores(Confs({"r": conf(redis_server, max_idle=2, read_timeout=2000)})) as stores:
        one = stores.redis("r")

        async def hasty(number):
            try:
                return await asyncio.wait_for(one.get(f"k{number}"), 0.0004 * (number % 4))
            except (TimeoutError, StoreError):
                return None

        async def work():
            return await asyncio.gather(*(hasty(number) for number in range(100)))

        found = []
        for _ in range(10):
            found += ask(stores, work())
            time.sleep(0.02)
        assert all(value in (None, f"v{at % 100}") for at, value in enumerate(found))


def test_many_at_once_share_few_connections(redis_server):
    redis_server.client.set("x", "1")
    with Stores(Confs({"r": conf(redis_server, max_idle=3, read_timeout=5000)})) as stores:
        one = stores.redis("r")

        async def work():
            return await asyncio.gather(*(one.get("x") for _ in range(500)))

        assert ask(stores, work()) == ["1"] * 500
        clients = redis_server.client.info("clients")["connected_clients"]
        assert clients <= 3 + 2
