"""Features from Redis and PostgreSQL themselves reach answers and callbacks, and their absence stops neither."""

from __future__ import annotations

import json
import threading
import time

import pytest

from pairec_fast.errors import ConfigError
from tests.services.process import lasting_port
from tests.worlds import FIRST, LOGGED, World

pytest.importorskip("redis")
pytest.importorskip("psycopg_pool")

LOAD = "FeatureConfs.home_feed.FeatureLoadConfs"


def shown(world, *names):
    world.scene["default"]["OutputFields"] = [f"item:{name}" for name in names]


def load(store, adapter, features=(), **dao):
    dao = {"FeatureStore": store, "AdapterType": adapter, **dao}
    return {"FeatureDaoConf": dao, "Features": list(features)}


def put(world, section, *some, scene="home_feed"):
    known = world.conf.setdefault(section, {}).setdefault(scene, {"FeatureLoadConfs": []})
    known["FeatureLoadConfs"] = [*known["FeatureLoadConfs"], *some]


@pytest.fixture
def with_redis(world, redis_server) -> World:
    waits = {"ConnectTimeout": 300, "ReadTimeout": 300}
    world.conf["RedisConfs"] = {"r": {"Host": "127.0.0.1", "Port": redis_server.port, **waits}}
    return world


@pytest.fixture
def with_postgres(world, postgres):
    with postgres.connect() as connection:
        connection.execute("drop table if exists item_features, user_features, numbered, clicks")
        connection.execute("create table item_features (item_id text primary key, heat float8, word varchar, n bigint)")
        connection.execute(
            "insert into item_features select 'i' || lpad(k::text, 6, '0'), k / 4.0,"
            " case when k % 2 = 0 then 'w' || k end, 9007199254740993 from generate_series(0, 599) as k"
        )
        connection.execute("create table user_features (uid text primary key, mood text, age int)")
        connection.execute("insert into user_features values ('u00042', 'calm', null)")
        connection.execute("create table numbered (id bigint primary key, word text)")
        connection.execute("insert into numbered select k, 'n' || k from generate_series(1, 2000) as k")
        connection.execute(
            "create table clicks (uid text, item_id text, event text, play_time float8, timestamp bigint)"
        )
        connection.execute(
            "insert into clicks select 'u00042', 'i' || k, 'click', k, extract(epoch from now())::bigint - k * 60"
            " from generate_series(1, 9) as k"
        )
    world.conf["HologresConfs"] = {"pg": {"DSN": postgres.url}}
    yield world
    postgres.ensure()
    with postgres.connect() as connection:
        connection.execute("drop table if exists item_features, user_features, numbered, clicks")


def whole(engine, request=FIRST):
    """An answer that had to do without nothing: a tenth of a second may be too short on a busy machine."""
    for _ in range(20):
        reply = engine.recommend(request)
        if not reply.degraded:
            return reply
        time.sleep(0.2)
    raise AssertionError(reply.degraded)


PG = {"HologresName": "pg"}
ITEMS = {**PG, "HologresTableName": "item_features", "ItemFeatureKeyName": "item_id"}
USERS = {**PG, "HologresTableName": "user_features", "UserFeatureKeyName": "uid", "UserSelectFields": "mood,age"}


def test_what_redis_knows_of_user_and_items_is_seen_by_transforms_and_answers(with_redis, redis_server):
    world, client = with_redis, redis_server.client
    client.set("user:u00042", "city:bj,level:3")
    client.mset({f"item:i{row:06d}": json.dumps({"heat": row, "tags": ["a"]}) for row in range(600)})
    item_dao = {"RedisName": "r", "RedisPrefix": "item:", "RedisFieldType": "json"}
    both = {"FeatureType": "compose_feature", "FeatureStore": "item", "FeatureName": "both"}
    both["FeatureSource"] = "user:city,item:heat"
    put(world, "UserFeatureConfs", load("user", "redis", RedisName="r", RedisPrefix="user:"))
    put(world, "FeatureConfs", load("item", "redis", [both], **item_dao))
    shown(world, "heat", "tags", "both")
    with world.engine() as engine:
        reply = whole(engine, FIRST | {"size": 20})
        assert len(reply.items) == 20
        for item in reply.items:
            row = int(item.item_id[1:])
            assert item.extra == {"heat": float(row), "tags": ["a"], "both": f"both_bj_{row}"}


def test_a_dead_redis_costs_the_features_and_not_the_answer(with_redis, redis_server):
    world = with_redis
    put(world, "UserFeatureConfs", load("user", "redis", RedisName="r"))
    put(world, "FeatureConfs", load("item", "redis", RedisName="r"))
    with world.engine() as engine:
        whole(engine)
        redis_server.kill()
        begin = time.perf_counter()
        reply = engine.recommend(FIRST)
        assert time.perf_counter() - begin < 1.5 and len(reply.items) == 3
        assert [entry.split(":")[0].split(".")[0] for entry in reply.degraded] == ["UserFeatureConfs", "FeatureConfs"]
        assert reply.degraded[1] == f"{LOAD}[1]: error"
        assert 'stage="FeatureConfs.home_feed.FeatureLoadConfs[1]"' in engine.metrics.text()


def test_a_redis_that_is_not_there_at_start_is_refused(world):
    world.conf["RedisConfs"] = {"r": {"Host": "127.0.0.1", "Port": lasting_port()}}
    put(world, "FeatureConfs", load("item", "redis", RedisName="r"))
    with pytest.raises(ConfigError, match="it must answer when the engine starts"):
        world.engine()


def test_one_hash_of_another_type_does_not_cost_the_others(with_redis, redis_server):
    world, client = with_redis, redis_server.client
    with client.pipeline() as pipeline:
        for row in range(600):
            pipeline.hset(f"i{row:06d}", mapping={"heat": str(row)})
        pipeline.execute()
    put(world, "FeatureConfs", load("item", "redis", RedisName="r", RedisDataType="hash", ItemSelectFields="heat"))
    shown(world, "heat")
    with world.engine() as engine:
        first, *others = (item.item_id for item in whole(engine).items)
        client.delete(first)
        client.rpush(first, "a list")
        reply = engine.recommend(FIRST)
        known = {item.item_id: item.extra["heat"] for item in reply.items}
        assert known == {first: None} | {id: str(int(id[1:])) for id in others}
        assert len(reply.degraded) == 1 and reply.degraded[0].startswith(f"{LOAD}[1]: 1 of ")


def test_rows_of_items_and_of_the_user_and_a_null_takes_the_users_property_away(with_postgres):
    world = with_postgres
    text = {"FeatureType": "new_feature", "FeatureStore": "item", "FeatureName": "age", "Normalizer": "expr"}
    text["Expression"] = "user.age ?? user.mood"
    put(world, "UserFeatureConfs", load("user", "hologres", **USERS))
    put(world, "FeatureConfs", load("item", "hologres", [text], ItemSelectFields="item_id,heat,word,n", **ITEMS))
    shown(world, "heat", "word", "n", "age")
    with world.engine() as engine:
        reply = whole(engine, FIRST | {"size": 50, "features": {"age": 30}})
        assert len(reply.items) == 50
        for item in reply.items:
            row = int(item.item_id[1:])
            word = f"w{row}" if row % 2 == 0 else None
            assert item.extra == {"heat": row / 4, "word": word, "n": 9007199254740993, "age": "calm"}


def test_a_slow_postgres_costs_a_tenth_of_a_second_and_its_features(with_postgres, postgres):
    world = with_postgres
    put(world, "FeatureConfs", load("item", "hologres", ItemSelectFields="heat", **ITEMS))
    shown(world, "heat")
    with world.engine() as engine:
        assert whole(engine).items[0].extra["heat"] is not None
        with postgres.connect() as other:
            other.execute("lock table item_features in access exclusive mode")
            begin = time.perf_counter()
            reply = engine.recommend(FIRST)
            assert 0.09 < time.perf_counter() - begin < 1 and len(reply.items) == 3
            assert reply.items[0].extra["heat"] is None
            assert " keys" in reply.degraded[0] and "item_features" not in reply.degraded[0]
            assert 'reason="partly"' in engine.metrics.text()
            other.rollback()
        assert whole(engine).items[0].extra["heat"] is not None


def test_keys_that_are_numbers_are_compared_as_such_and_in_batches(with_postgres):
    world = with_postgres
    world.scene["default"]["RecallNames"] = ["ContextItemRecall"]
    world.conf["FilterNames"] = {"default": ["UniqueFilter"]}
    dao = {**PG, "HologresTableName": "numbered", "ItemFeatureKeyName": "id", "ItemSelectFields": "word"}
    put(world, "FeatureConfs", load("item", "hologres", **dao))
    shown(world, "word")
    ids = [*(str(number) for number in range(1, 1400)), "x", "'; drop table numbered", "1e3", "99999999999999999999"]
    with world.engine() as engine:
        request = FIRST | {"size": 1000, "item_list": [{"item_id": id} for id in reversed(ids)]}
        reply = whole(engine, request)
        known = {item.item_id: item.extra["word"] for item in reply.items}
        assert len(known) == 1000
        assert all(word == (f"n{id}" if id.isdigit() and len(id) < 9 else None) for id, word in known.items())
        assert sum(word is not None for word in known.values()) > 900


@pytest.mark.parametrize(
    ("dao", "told"),
    [
        ({"HologresTableName": "nothing"}, 'relation "nothing" does not exist'),
        ({"ItemFeatureKeyName": "nothing"}, 'column "nothing" does not exist'),
        ({"ItemSelectFields": "heat,"}, "syntax error"),
        ({"ItemFeatureKeyName": ""}, "the key's column is missing"),
    ],
)
def test_what_postgres_refuses_is_refused_at_start_and_says_where(with_postgres, dao, told):
    put(with_postgres, "FeatureConfs", load("item", "hologres", **ITEMS | dao))
    with pytest.raises(ConfigError, match=r"FeatureConfs\.home_feed\.FeatureLoadConfs\[1\]\.FeatureDaoConf.*" + told):
        with_postgres.engine()
    assert "pairec-stores" not in {thread.name for thread in threading.enumerate()}, "nothing is left open"


@pytest.mark.parametrize(("offline", "expected"), [("", "i1;i2;i3"), ("clicks", "i1;i2")])
def test_a_sequence_of_postgres_becomes_properties_of_the_user(with_postgres, offline, expected):
    """The newest online row is the newest offline one as well: it counts twice until repeats go, as in PAI-Rec."""
    world = with_postgres
    dao = {**PG, "HologresTableName": "clicks", "UserFeatureKeyName": "uid", "FeatureType": "sequence_feature"}
    dao |= {"SequenceName": "clicked", "SequenceLength": 3, "SequenceOfflineTableName": offline}
    text = {
        "FeatureType": "raw_feature",
        "FeatureStore": "item",
        "FeatureName": "seen",
        "FeatureSource": "user:clicked",
    }
    put(world, "UserFeatureConfs", load("user", "hologres", **dao))
    put(world, "FeatureConfs", load("item", "", [text]))
    shown(world, "seen")
    with world.engine() as engine:
        assert {item.extra["seen"] for item in whole(engine).items} == {expected}


def test_callbacks_record_what_stores_and_transforms_gave(with_redis, redis_server):
    world, client = with_redis, redis_server.client
    client.set("user:u00042", "city:bj,uid_level:3")
    client.mset({"i000012": "heat:5,word:x", "stranger": "heat:7"})
    feature = {"FeatureType": "compose_feature", "FeatureStore": "item", "FeatureName": "both"}
    feature["FeatureSource"] = "user:city,item:heat,item:position"
    user = load("user", "redis", RedisName="r", RedisPrefix="user:", FeatureAsyncLoad=True)
    put(world, "UserFeatureConfs", user, scene="home_feed_callback")
    put(world, "FeatureConfs", load("item", "redis", [feature], RedisName="r"), scene="home_feed_callback")
    listed = [{"item_id": "i000012", "position": 1, "word": "sent"}, {"item_id": "stranger"}, {"item_id": "i000013"}]
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"item_list": [*listed, listed[0]], "features": {"a": "", "b": "2"}})
    ((told, *items),) = world.records()
    assert json.loads(told["user_features"]) == {"b": 2, "city": "bj", "uid": "u00042", "uid_level": 3}
    known = [json.loads(item["item_features"]) for item in items]
    first = {"position": 1, "heat": 5, "word": "x", "both": "both_bj_5_1"}
    assert known == [first, {"heat": 7, "both": "both_bj_7_"}, {"both": "both_bj__"}, first]
    assert [item["item_id"] for item in items] == ["i000012", "stranger", "i000013", "i000012"]


def test_automatic_callbacks_record_what_was_loaded_for_the_answer(with_redis, redis_server):
    world, client = with_redis, redis_server.client
    client.set("u00042", "city:bj")
    client.mset({f"i{row:06d}": f"heat:{row}" for row in range(600)})
    put(world, "UserFeatureConfs", load("user", "redis", RedisName="r"))
    put(world, "FeatureConfs", load("item", "redis", RedisName="r"))
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback["UseUserFeatures"] = True
    with world.engine() as engine:
        shown_ids = [item.item_id for item in engine.recommend(FIRST).items]
    ((told, *items),) = world.records()
    assert json.loads(told["user_features"])["city"] == "bj"
    assert [item["item_id"] for item in items] == shown_ids
    assert [json.loads(item["item_features"])["heat"] for item in items] == [int(id[1:]) for id in shown_ids]
    assert all("price" in json.loads(item["item_features"]) for item in items), "and of the snapshot what it loads"


@pytest.mark.parametrize("alive", [True, False])
def test_automatic_callbacks_go_through_the_loads_of_their_scene_too(with_redis, redis_server, alive):
    """Nobody waits for that: the answer has left, and what cannot be loaded in time is missing in the record."""
    world, client = with_redis, redis_server.client
    client.mset({f"i{row:06d}": f"heat:{row}" for row in range(600)})
    put(world, "FeatureConfs", load("item", "redis", RedisName="r"), scene="home_feed_callback")
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine:
        if not alive:
            redis_server.kill()
        shown_ids = [item.item_id for item in engine.recommend(FIRST).items]
        deadline = time.monotonic() + 10
        while not engine.logs.gauges().get("ring_pushed_total") and time.monotonic() < deadline:
            time.sleep(0.01)
    ((_, *items),) = world.records()
    known = [json.loads(item["item_features"]) for item in items]
    assert [item["item_id"] for item in items] == shown_ids and all("price" in one for one in known)
    assert [one.get("heat") for one in known] == [int(id[1:]) if alive else None for id in shown_ids]


def test_a_callback_that_is_still_loading_when_the_engine_closes_is_in_the_log(with_redis, redis_server):
    world = with_redis
    world.conf["RedisConfs"]["r"] |= {"ReadTimeout": 5000}
    put(world, "FeatureConfs", load("item", "redis", RedisName="r"), scene="home_feed_callback")
    world.scene["default"]["AutoInvokeCallBack"] = True
    with world.engine() as engine:
        redis_server.freeze()
        shown_ids = [item.item_id for item in engine.recommend(FIRST).items]
        begin = time.monotonic()
    assert time.monotonic() - begin < 3
    redis_server.thaw()
    ((_, *items),) = world.records()
    assert [item["item_id"] for item in items] == shown_ids


def test_loads_that_run_aside_never_disturb_what_is_written_of_other_requests(with_redis, redis_server):
    """They end on the stores' thread while other threads read the same users' properties for their records."""
    world, client = with_redis, redis_server.client
    client.mset({f"u{row:05d}": ",".join(f"f{name}:{row}" for name in range(200)) for row in range(200)})
    aside = load("user", "redis", RedisName="r", FeatureAsyncLoad=True, CacheFeaturesName="set")
    put(world, "UserFeatureConfs", aside, load("user", "redis", RedisName="r", FeatureAsyncLoad=True))
    put(world, "FeatureConfs", load("user", "", LoadFromCacheFeaturesName="set"))
    world.scene["default"]["AutoInvokeCallBack"] = True
    world.callback["UseUserFeatures"] = True
    failures, rounds = [], 25

    def ask(first):
        for number in range(rounds):
            try:
                engine.recommend(FIRST | {"uid": f"u{(first * rounds + number) % 200:05d}"})
            except Exception as error:
                failures.append(error)

    with world.engine() as engine:
        threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = [json.loads(user["user_features"]) for user, *_ in world.records()]
    assert not failures and len(records) == 8 * rounds
    for user in records:
        known = [value for name, value in user.items() if name[0] == "f"]
        assert known in ([], [int(user["uid"][1:])] * 200), "all of it in time, or nothing; and nobody else's"
    assert sum("f0" in user for user in records) > rounds, "in time for many, however busy the machine is"
