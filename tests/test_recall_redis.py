"""Recalls whose lists lie in a Redis, by PAI-Rec's layouts."""

from __future__ import annotations

import json
import time

import pytest

from pairec_fast.errors import ConfigError
from tests.lives import Lives
from tests.services.process import lasting_port

pytest.importorskip("redis")

DAO = {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "p:"}


def conf(server, **fields):
    return {"RedisConfs": {"r": {"Host": "127.0.0.1", "Port": server.port, "ReadTimeout": 500, **fields}}}


RECALLS = [
    {"Name": "custom", "RecallType": "UserCustomRecall", "RecallCount": 4, "DaoConf": DAO},
    {"Name": "custom2", "RecallType": "UserCustomRecall", "RecallCount": 4, "DaoConf": DAO},
    {"Name": "everyone", "RecallType": "UserGlobalHotRecall", "RecallCount": 3, "DaoConf": DAO},
    {"Name": "group", "RecallType": "UserGroupHotRecall", "RecallCount": 5, "DaoConf": DAO,
     "Triggers": [{"TriggerKey": "tags"}, {"TriggerKey": "age2", "Boundaries": [20, 30]}]},
    {"Name": "alike", "RecallType": "ItemCollaborativeFilterRecall", "RecallCount": 3, "ItemCollaborativeDaoConf": DAO,
     "EnableMultipleItemId": True},
    {"Name": "u2i2i", "RecallType": "UserCollaborativeFilterRecall", "RecallCount": 4, "UserCollaborativeDaoConf": DAO},
    {"Name": "raw", "RecallType": "UserCollaborativeFilterRecall", "RecallCount": 4,
     "UserCollaborativeDaoConf": DAO | {"Normalization": "off"}},
    {"Name": "topics", "RecallType": "UserTopicRecall", "RecallCount": 10, "UserTopicDaoConf": DAO},
]  # fmt: skip


@pytest.fixture(scope="module")
def _lives(shop, tmp_path_factory, _redis_server):
    _redis_server.ensure()
    with Lives(shop, tmp_path_factory.mktemp("live"), RECALLS, **conf(_redis_server)) as lives:
        yield lives


@pytest.fixture
def lives(_lives, redis_server):
    _lives.put = redis_server.client.mset
    return _lives


def test_a_users_own_list_names_recalls_and_items_the_snapshot_lacks(lives):
    lives.put({"p:u00007": "i000003:other:0.5,stranger,i000001::2,,i000002:x"})
    assert lives.items("custom") == [
        ("i000003", 0.5, "other"), ("stranger", 0.0, "custom"), ("i000001", 2.0, "custom"), ("i000002", 0.0, "x")
    ]  # fmt: skip
    assert lives.items("custom", uid="nobody") == []


def test_a_longer_list_is_cut_after_its_first_half_was_shuffled(lives):
    lives.put({"p:u00007": ",".join(f"i{n:06}" for n in range(12))})
    seen = [tuple(id for id, *_ in lives.items("custom", request_id=f"r{number}")) for number in range(40)]
    first = {f"i{n:06}" for n in range(6)}
    assert all(len(set(one)) == 4 and set(one) <= first for one in seen), "the tail never moves up"
    assert len(set(seen)) > 10
    assert lives.items("custom", request_id="r1") == lives.items("custom", request_id="r1")


def test_entries_of_everyone_without_a_score_get_a_random_one_and_the_best_remain(lives):
    lives.put({"p:-1": "a,b::5,c::3,d::4"})
    for number in range(5):
        found = lives.items("everyone", request_id=f"r{number}")
        assert found == [("b", 5.0, "everyone"), ("d", 4.0, "everyone"), ("c", 3.0, "everyone")]
    lives.put({"p:-1": "a,b::5"})
    (first, score, _), second = lives.items("everyone", request_id="r")
    assert (first, second) == ("a", ("b", 5.0, "everyone")) and 0 <= score < 1, "not longer: not sorted"


def test_each_combination_of_a_users_groups_is_looked_up_and_the_best_of_all_remain(lives):
    lives.put({"p:x_20-30": "a::1,b::7", "p:y_20-30": "c::5,a::2,d::1", "p:z_20-30": "no", "p:NULL_NULL": "n"})
    features = {"tags": ["x", "y"], "age2": 25}
    assert [id for id, *_ in lives.items("group", features=features)] == ["b", "c", "a", "d"]
    assert lives.items("group") == [("n", 0.0, "group")]
    assert lives.items("group", features={"tags": "q"}) == []


def test_items_like_several(lives):
    lives.put({"p:i000001": "a::1,b::3", "p:i000002": "c::2,d::0.5"})
    assert [id for id, *_ in lives.items("alike", item_id="i000001,i000002")] == ["b", "c", "a"]
    assert lives.items("alike") == [] and lives.items("alike", item_id=",") == []


def test_preferences_times_similarities_are_summed_over_the_users_items(lives):
    """t1 counts 2, t2 has no score and counts 1. a: 2 * 0.5 + 1 * 1; b: 2 * 0.25; c: similarity unreadable, so 2."""
    lives.put({
        "p:u00007": "t1:2,t2,t3:0.1", "t1": "a:0.5,b:0.25,c:?,bad,null:9,:4", "t2": "a:1,i000004:0.125", "p:t3": "d:9",
    })  # fmt: skip
    expected = [("a", 2.0), ("c", 2.0), ("b", 0.5), ("i000004", 0.125)]
    assert sorted((id, score) for id, score, _ in lives.items("raw")) == sorted(expected)
    assert lives.items("raw")[2:] == [("b", 0.5, "raw"), ("i000004", 0.125, "raw")]
    assert [score for _, score, _ in lives.items("u2i2i")] == [1.0, 1.0, 0.25, 0.0625]
    assert lives.items("raw", uid="nobody") == []


def test_topics_share_by_weight(lives):
    lives.put({"p:u00007": "t1:3,t2:1,t3:0,t4:-2", "p:t1": ",".join(f"a{n}" for n in range(20)), "p:t2": "b1,b2,b3,b4"})
    assert [id for id, *_ in lives.items("topics")] == [*(f"a{n}" for n in range(8)), "b1", "b2", "b3"][:10]


def test_a_value_of_the_wrong_type_or_size_leaves_the_answer_without_that_recall(lives, redis_server):
    client = redis_server.client
    client.rpush("p:u00007", "a", "b")
    reply = lives.ask("custom")
    assert reply.items == [], "a list is no text: MGET says there is nothing"
    client.delete("p:u00007")
    client.set("p:u00007", b"\xff\xfe,i000001,\x00:\x00,::::,a:b:c:d")
    assert [id for id, *_ in lives.items("custom")] == ["��", "i000001", "\0"]
    client.set("p:u00007", "x," * (4 << 20))
    begin = time.monotonic()
    lives.ask("custom")
    assert time.monotonic() - begin < 5


def test_a_redis_that_dies_is_named_in_the_answer_and_costs_no_deadline_for_long(lives, redis_server):
    redis_server.freeze()
    waited = []
    for _ in range(12):
        begin = time.monotonic()
        reply = lives.ask("custom")
        waited.append(time.monotonic() - begin)
        assert reply.code == 299 and reply.items == [] and reply.degraded[0].startswith("custom: ")
    assert sorted(waited)[len(waited) // 2] < 0.1 and max(waited) < 1
    redis_server.thaw()
    redis_server.client.set("p:u00007", "i000001")
    until = time.monotonic() + 20
    while lives.items("custom") == []:
        assert time.monotonic() < until, "it did not come back"
        time.sleep(0.05)


def test_a_recalls_own_limit_is_over_all_of_its_fetch(shop, tmp_path, redis_server):
    slow = RECALLS[0] | {"TimeoutMilliseconds": 40}
    with Lives(shop, tmp_path, [slow], **conf(redis_server, ReadTimeout=3000)) as lives:
        redis_server.freeze()
        begin = time.monotonic()
        reply = lives.ask("custom")
        assert 0.03 < time.monotonic() - begin < 0.5
        assert reply.degraded == ["custom: timeout"]
        redis_server.thaw()


def test_a_redis_that_does_not_answer_is_late_and_told_of_once(shop, tmp_path, redis_server, caplog):
    """Not a line with every request: the log of a busy server would be full of them while a store is down."""
    with Lives(shop, tmp_path, RECALLS[:2], **conf(redis_server, ReadTimeout=40)) as lives:
        redis_server.freeze()
        assert lives.ask("custom").degraded == ["custom: timeout"]
        for _ in range(8):
            assert len(lives.ask("custom").degraded) == 1
        assert lives.ask("custom2").degraded[0].startswith("custom2: ")
        redis_server.thaw()
    told = [record.getMessage() for record in caplog.records if "RedisConfs.r" in record.getMessage()]
    assert len(told) == 2 and told[0].startswith("custom: custom: ") and told[1].startswith("custom2: custom2: ")


@pytest.mark.parametrize("adapter", ["localCache", "redis"])
def test_what_was_found_is_kept_and_shared(shop, tmp_path, redis_server, adapter):
    config = {"localCache": {"defaultExpiration": 60, "cleanupInterval": 60},
              "redis": {"host": "127.0.0.1", "port": redis_server.port, "maxIdle": 4}}[adapter]  # fmt: skip
    cache = {"CacheAdapter": adapter, "CacheConfig": json.dumps(config), "CachePrefix": "c:", "CacheTime": 50}
    recalls = [RECALLS[0] | cache, RECALLS[5] | cache | {"CachePrefix": "cf:"}]
    client = redis_server.client
    client.mset({"p:u00007": "i000001::2,stranger::1,i000002:other:0.5", "i000001": "x:1,y:0.5"})
    with Lives(shop, tmp_path, recalls, **conf(redis_server)) as lives:
        first, computed = lives.items("custom"), lives.items("u2i2i")
        assert [entry[:2] for entry in first] == [("i000001", 2.0), ("stranger", 1.0), ("i000002", 0.5)]
        assert computed == [("x", 1.0, "u2i2i"), ("y", 0.5, "u2i2i")]
        if adapter == "redis":
            until = time.monotonic() + 5
            while client.get("cf:u00007") is None and time.monotonic() < until:
                time.sleep(0.01)
            assert client.get("c:u00007") == b"i000001::2.0,stranger::1.0,i000002::0.5"
            assert client.get("cf:u00007") == b"x:1.0,y:0.5" and 0 < client.ttl("c:u00007") <= 50
        client.delete("p:u00007", "i000001")
        again = lives.items("custom")
        assert [entry[:2] for entry in again] == [entry[:2] for entry in first]
        assert lives.items("u2i2i") == computed
        assert lives.items("custom", uid="u00008") == [], "another user's is another's"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"CacheAdapter": "memcache"}, r'RecallConfs\.custom\.CacheAdapter: unknown "memcache"'),
        ({"CacheAdapter": "localCache", "CacheConfig": "{"}, r"RecallConfs\.custom\.CacheConfig: expected JSON"),
        ({"CacheAdapter": "redis", "CacheConfig": "[]"}, r"RecallConfs\.custom\.CacheConfig: expected JSON"),
        ({"CacheAdapter": "redis", "CacheConfig": '{"port": "x"}'}, r"RecallConfs\.custom\.CacheConfig"),
        ({"TimeoutMilliseconds": -1}, r"RecallConfs\.custom\.TimeoutMilliseconds: must not be negative"),
        ({"RecallCount": 0}, r"RecallConfs\.custom\.RecallCount:? must be positive"),
        ({"DaoConf": DAO | {"RedisName": "rr"}}, r'RedisName: unknown name "rr" in RedisConfs \(did you mean "r"\?\)'),
        ({"DaoConf": DAO | {"AdapterType": "mysql"}}, r'AdapterType: "mysql" is not available here; known are "local"'),
    ],
)
def test_what_cannot_work_is_refused_at_start(shop, tmp_path, redis_server, change, says):
    with pytest.raises(ConfigError, match=says):
        Lives(shop, tmp_path, [RECALLS[0] | change], **conf(redis_server))


def test_an_engine_does_not_start_on_a_redis_that_is_not_there(shop, tmp_path):
    dead = {"RedisConfs": {"r": {"Host": "127.0.0.1", "Port": lasting_port(), "Password": "secret"}}}
    with pytest.raises(ConfigError, match=r"RedisConfs\.r: it must answer when the engine starts") as raised:
        Lives(shop, tmp_path, [RECALLS[0]], **dead)
    assert "secret" not in str(raised.value)


def test_what_lists_name_is_told_and_is_a_property_and_belongs_to_that_request_alone(shop, tmp_path, redis_server):
    redis_server.client.mset({"p:u1": "a:hot:1,b:cold:2,i000001", "p:u2": "c:cold:3,d::4,e:everyone:5"})
    named = {"Name": "f", "FilterType": "DimensionFieldUniqueFilter", "Dimension": "recall_name"}
    more = conf(redis_server) | {"FilterConfs": [named]}
    with Lives(shop, tmp_path, RECALLS[:1], **more) as lives:
        assert [one[2] for one in lives.items("custom", uid="u1")] == ["hot", "cold", "custom"]
        assert [one[2] for one in lives.items("custom", uid="u2")] == ["cold", "custom", "everyone"]
    two = [RECALLS[0] | {"Name": "one"}, RECALLS[2]]
    scenes = {"s": {"default": {"RecallNames": ["one", "everyone"]}}}
    with Lives(shop, tmp_path, two, **more | {"SceneConfs": scenes, "SortNames": {"s": []}}) as lives:
        assert [one[2] for one in lives.items("s", uid="u2")] == ["cold", "one", "everyone"]
    more["FilterNames"] = {"s": ["f"]}
    with Lives(shop, tmp_path, two, **more | {"SceneConfs": scenes, "SortNames": {"s": []}}) as lives:
        redis_server.client.set("p:u2", "c:cold:3,d::4,e:cold:5,f:warm:6,g::7")
        assert sorted(one[0] for one in lives.items("s", uid="u2")) == ["c", "d", "f"]
