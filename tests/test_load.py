"""Loads: what a store has under the keys of the user and the candidates becomes properties, in time or not at all."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from pairec_fast.binding import Binding
from pairec_fast.config import SceneFeatureConfig
from pairec_fast.config.convert import Converter
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core.columns import MISSING
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.limits import LimitConf
from pairec_fast.load import loads
from pairec_fast.load.load import NAMES_MAX
from pairec_fast.load.sequence import Sequences
from pairec_fast.metrics import Metrics
from pairec_fast.replies import from_json, user_csv
from pairec_fast.store import Stores
from pairec_fast.walk import Walker
from tests.contract.filters import Case
from tests.test_store import Confs


class Client:
    """A Redis of texts and hashes in this process, as slow or as broken as a test wants."""

    def __init__(self, texts=None, hashes=None, slow=0.0, fails=False):
        self.texts, self.hashes, self.slow, self.fails = texts or {}, hashes or {}, slow, fails
        self.asked = []

    async def mget(self, names):
        self.asked.append(list(names))
        await asyncio.sleep(self.slow)
        if self.fails:
            raise StoreError("it is down")
        return [self.texts.get(name) for name in names]

    async def read_each(self, commands):
        self.asked.append(commands)
        await asyncio.sleep(self.slow)
        return [self._answer(*command) for command in commands]

    def _answer(self, word, name, *fields):
        if name in self.texts:
            return StoreError("WRONGTYPE")
        known = self.hashes.get(name, {})
        return known if word == "HGETALL" else [known.get(field) for field in fields]


class FakeStores:
    def __init__(self, **clients):
        self.redis = clients.__getitem__


def bound(confs, stores, section="FeatureConfs", snapshot=None, **scene):
    report = Report(Document("case"))
    conf = Converter(report).take({"FeatureLoadConfs": confs} | scene, SceneFeatureConfig, (section,))
    report.raise_errors()
    return loads({"s": conf}, "s", section, Binding(snapshot, stores=stores, scene="s"))


def redis(store="item", features=(), **dao):
    dao = {"FeatureStore": store, "AdapterType": "redis", "RedisName": "r", **dao}
    return {"FeatureDaoConf": dao, "Features": list(features)}


def case_of(user=None, ids=("i1", "i2", "i3")):
    return Case([[id, 0.5, "hot", {"author": f"a{id[1:]}"}] for id in ids], {"uid": "u1", **(user or {})})


def walk(some, case, *, together=False, items=True):
    walker = Walker(LimitConf(), Metrics(), None)
    asyncio.run(walker.load("s", some, case.query, case.arena if items else None, together=together))
    return case.query


def items_of(case):
    """The properties that the request has of each candidate, without `author`."""
    properties, slots = case.query.properties(case.arena), np.arange(case.arena.count, dtype=np.int32)
    names = [name for name in case.query.given if name != "author"]
    values = {name: properties.of_each(name, slots) for name in names}
    return [{name: values[name][slot] for name in names if values[name][slot] is not MISSING} for slot in slots]


def test_pairs_of_users_stay_text():
    text = "a:1,b:x:y,c:,:d,e,f:1e3"
    assert user_csv(text, ",") == {"a": "1", "b": "x:y", "c": "", "f": "1e3"}
    assert user_csv("", ",") == {}


def test_numbers_of_json_are_doubles_unless_that_would_change_them():
    values = from_json('{"a":1,"b":9007199254740993,"c":[1,{"d":2}],"e":null,"f":true,"a":3}')
    assert values == {"a": 3.0, "b": 9007199254740993, "c": [1.0, {"d": 2.0}], "e": None, "f": True}
    assert type(values["a"]) is float and type(values["b"]) is int and from_json("null") == {}


@pytest.mark.parametrize("text", ["", "{", "[1]", '"a"', "{" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, '{"a":1e999}'])
def test_what_is_no_json_object_is_refused_and_nothing_worse(text):
    with pytest.raises(ValueError):
        from_json(text)


def test_items_are_asked_once_a_key_and_the_rest_stays_as_it_was():
    client = Client({"p:i1": "price:2.5,kind:x", "p:i3": ""})
    case = case_of(ids=["i1", "i2", "i3"])
    walk(bound([redis(RedisPrefix="p:")], FakeStores(r=client)), case)
    assert client.asked == [["p:i1", "p:i2", "p:i3"]]
    assert items_of(case) == [{"price": 2.5, "kind": "x"}, {}, {}] and case.query.degraded == []


@pytest.mark.parametrize(
    ("key", "asked"),
    [("item:author", ["a1", "a2", "a3"]), ("item:nothing", [""]), ("user:city", ["bj"]), ("item:recall_name", ["hot"])],
)
def test_candidates_are_looked_up_by_any_property(key, asked):
    client = Client({name: "x:1" for name in asked})
    case = case_of({"city": "bj"})
    walk(bound([redis(FeatureKey=key)], FakeStores(r=client)), case)
    assert client.asked == [asked] and items_of(case) == [{"x": 1.0}] * 3


@pytest.mark.parametrize(
    ("key", "asked"), [("", "u1"), ("user:uid", "u1"), ("user:age", "31"), ("item:age", "31"), ("user:none", None)]
)
def test_the_user_is_looked_up_by_any_property_and_not_without_one(key, asked):
    client = Client({"31": "x:1", "u1": "x:1"})
    case = case_of({"age": 31.0})
    query = walk(bound([redis("user", FeatureKey=key)], FakeStores(r=client)), case)
    assert client.asked == ([[asked]] if asked else [])
    assert query.user_features.get("x") == ("1" if asked else None)


def test_a_key_without_its_side_is_refused_and_of_an_unknown_adapter_does_not_matter():
    with pytest.raises(ConfigError, match=r'FeatureConfs\.s\.FeatureLoadConfs\[0\].*FeatureKey: "uid"; `user:NAME`'):
        bound([redis(FeatureKey="uid")], FakeStores(r=Client()))
    assert bound([redis(AdapterType="tablestore", FeatureKey="uid")], None) == []


@pytest.mark.parametrize("adapter", ["tablestore", "", "featurestore", "be"])
def test_an_adapter_that_is_not_here_loads_nothing_and_transforms(adapter):
    feature = {"FeatureType": "new_feature", "FeatureName": "k", "Normalizer": "const_value", "FeatureValue": "v"}
    some = bound([redis("user", [feature], AdapterType=adapter, FeatureType="sequence_feature")], None)
    assert len(some) == 1 and not some[0].awaits
    assert walk(some, case_of()).user_features["k"] == "v"


@pytest.mark.parametrize("uid", ["u1", "u2"])
def test_the_default_key_stands_for_a_user_who_has_nothing(uid):
    client = Client({"p:u1": "x:mine", "nobody": "x:default"})
    case = case_of({"uid": uid})
    query = walk(bound([redis("user", RedisPrefix="p:", RedisDefaultKey="nobody")], FakeStores(r=client)), case)
    assert query.user_features["x"] == ("mine" if uid == "u1" else "default")
    by_none = bound([redis("user", FeatureKey="user:none", RedisDefaultKey="nobody")], FakeStores(r=client))
    assert walk(by_none, case_of()).user_features["x"] == "default"


@pytest.mark.parametrize("fields", ["", "*", "a, b"])
def test_hashes_are_read_whole_or_by_their_fields(fields):
    client = Client(hashes={"i1": {"a": "1", "b": "", "c": "3"}, "i2": {}})
    case = case_of()
    walk(bound([redis(RedisDataType="hash", ItemSelectFields=fields)], FakeStores(r=client)), case)
    whole = {"a": "1", "b": "", "c": "3"}
    assert items_of(case) == [{"a": "1"} if fields == "a, b" else whole, {}, {}]


def test_a_key_of_another_type_or_wrong_json_costs_that_key_alone_and_is_told_of():
    case = case_of()
    client = Client({"i2": "text"}, {"i1": {"a": "1"}, "i3": {"a": "3"}})
    walk(bound([redis(RedisDataType="hash")], FakeStores(r=client)), case)
    assert items_of(case) == [{"a": "1"}, {}, {"a": "3"}]
    assert case.query.degraded == ["FeatureConfs.s.FeatureLoadConfs[0]: 1 of 3 keys"]

    case, client = case_of(), Client({"i1": '{"a":1}', "i2": "{", "i3": '["a"]'})
    some = bound([redis(RedisFieldType="json", CacheSize=10)], FakeStores(r=client))
    walk(some, case)
    assert items_of(case) == [{"a": 1.0}, {}, {}] and "2 of 3 keys" in case.query.degraded[0]
    client.texts["i2"] = '{"a":2}'
    case = case_of()
    walk(some, case)
    assert client.asked[1] == ["i2", "i3"] and items_of(case)[1] == {"a": 2.0}, "what could not be read was not kept"


def test_json_null_is_a_value_of_the_user_and_of_items():
    client = Client({"u1": '{"a":null,"b":1}', "i1": '{"a":null}'})
    dao = {"RedisFieldType": "json"}
    case = case_of({"a": "before"})
    query = walk(bound([redis("user", **dao), redis(**dao)], FakeStores(r=client)), case)
    assert query.user_features["a"] is None and query.user_features["b"] == 1.0
    assert items_of(case) == [{"a": None}, {}, {}]


def test_a_text_of_very_many_names_takes_a_bounded_number_of_columns():
    text = ",".join(f"n{number}:1" for number in range(3 * NAMES_MAX))
    case = case_of(ids=["i1"])
    walk(bound([redis()], FakeStores(r=Client({"i1": text}))), case)
    assert len(items_of(case)[0]) == NAMES_MAX and "3000 properties" in case.query.degraded[0]


def test_a_cache_serves_known_keys_and_only_the_rest_is_asked():
    """PAI-Rec gives the fetched values of a partial hit to the wrong items."""
    client = Client({"i1": "x:1", "i2": "x:2", "i3": "x:3"})
    some = bound([redis(CacheSize=10)], FakeStores(r=client))
    walk(some, case_of(ids=["i2"]))
    case = case_of(ids=["i1", "i2", "i3"])
    walk(some, case)
    assert client.asked == [["i2"], ["i1", "i3"]] and [one["x"] for one in items_of(case)] == [1.0, 2.0, 3.0]


def test_a_user_without_features_is_asked_for_again():
    client = Client()
    some = bound([redis("user", CacheSize=10)], FakeStores(r=client))
    walk(some, case_of())
    client.texts["u1"] = "x:1"
    assert walk(some, case_of()).user_features["x"] == "1"
    client.texts["u1"] = "x:2"
    assert walk(some, case_of()).user_features["x"] == "1" and len(client.asked) == 2


def test_no_candidates_ask_nothing():
    client = Client()
    walk(bound([redis(), redis(FeatureKey="item:author")], FakeStores(r=client)), case_of(ids=[]))
    assert client.asked == []


@pytest.mark.parametrize("together", [False, True])
def test_what_several_loads_say_is_applied_in_the_configured_order(together):
    slow, quick = Client({"u1": "x:slow", "slow": "y:1"}, slow=0.05), Client({"u1": "x:quick"})
    confs = [redis("user", RedisName="slow"), redis("user", RedisName="quick")]
    confs += [redis("user", RedisName="slow", FeatureKey="user:x")]
    query = walk(bound(confs, FakeStores(slow=slow, quick=quick)), case_of(), together=together)
    assert query.user_features["x"] == "quick", "not of who answered last"


def test_a_failing_load_is_named_and_its_transforms_act():
    feature = {"FeatureType": "raw_feature", "FeatureName": "k", "FeatureSource": "user:uid"}
    some = bound(
        [redis("user", [feature]), redis("user", RedisName="up")],
        FakeStores(r=Client(fails=True), up=Client({"u1": "x:1"})),
    )
    query = walk(some, case_of(), together=True)
    assert query.degraded == ["FeatureConfs.s.FeatureLoadConfs[0]: error"]
    assert query.user_features["k"] == "u1" and query.user_features["x"] == "1"


def aside(**more):
    return redis("user", FeatureAsyncLoad=True, **more)


def test_what_runs_aside_is_not_waited_for_and_applied_when_it_is_there():
    client, case = Client({"u1": "x:1"}, slow=0.05), case_of()
    feature = {"FeatureType": "raw_feature", "FeatureName": "k", "FeatureSource": "user:x"}
    first = bound([aside() | {"Features": [feature]}], FakeStores(r=client), "UserFeatureConfs")

    async def both():
        walker, query = Walker(LimitConf(), Metrics(), None), case.query
        begin = time.perf_counter()
        await walker.load("s", first, query, None, together=True)
        assert time.perf_counter() - begin < 0.04 and "x" not in query.user_features and len(query.running) == 1
        await asyncio.sleep(0.08)
        await walker.load("s", [], query, case.arena, together=False)
        assert query.user_features["x"] == "1" and query.user_features["k"] == "1", "its transforms come after it"
        assert not query.running and query.user_value("x") == "1"

    asyncio.run(both())


@pytest.mark.parametrize("slow", [0.03, 0.5])
def test_a_cached_set_is_waited_for_a_little(slow):
    client, case = Client({"u1": "x:1,y:2"}, slow=slow), case_of({"x": "mine"})
    first = bound([aside(CacheFeaturesName="set")], FakeStores(r=client), "UserFeatureConfs")
    second = bound([redis("user", AdapterType="", LoadFromCacheFeaturesName="set")], None)

    async def both():
        walker, query = Walker(LimitConf(), Metrics(), None), case.query
        await walker.load("s", first, query, None, together=True)
        assert query.user_features["x"] == "mine"
        begin = time.perf_counter()
        await walker.load("s", second, query, case.arena, together=False)
        return time.perf_counter() - begin

    waited = asyncio.run(both())
    query = case.query
    if slow < 0.15:
        assert query.user_features["x"] == "1" and query.user_features["y"] == "2" and query.degraded == []
    else:
        assert query.user_features["x"] == "mine" and 0.14 < waited < 0.3
        assert query.degraded == ['FeatureConfs.s.FeatureLoadConfs[0]: "set" is not there yet']


def test_a_set_that_nobody_copies_stays_out_of_the_users_properties():
    some = bound([redis("user", CacheFeaturesName="set")], FakeStores(r=Client({"u1": "x:1"})))
    query = walk(some, case_of())
    assert "x" not in query.user_features and query.cached_sets == {"set": {"x": "1"}}


def test_a_set_is_waited_for_by_a_load_of_the_same_section_that_stands_first():
    confs = [redis("user", AdapterType="", LoadFromCacheFeaturesName="set"), aside(CacheFeaturesName="set")]
    some = bound(confs, FakeStores(r=Client({"u1": "x:1"}, slow=0.03)), "UserFeatureConfs")
    assert walk(some, case_of(), together=True).user_features["x"] == "1"


def test_what_ran_aside_touches_nothing_of_a_request_that_is_over():
    """Its answer is being written by another thread by then."""
    client, case = Client({"u1": "x:1"}, slow=0.05), case_of()
    some = bound(
        [aside(), aside(RedisName="down")], FakeStores(r=client, down=Client(slow=0.05, fails=True)), "UserFeatureConfs"
    )

    async def both():
        query = case.query
        await Walker(LimitConf(), Metrics(), None).load("s", some, query, None, together=True)
        tasks, before = (
            list(query.running.values()),
            (dict(query.user_features), dict(query.fetched), list(query.degraded)),
        )
        await asyncio.sleep(0.15)
        assert all(task.done() for task in tasks)
        assert (query.user_features, query.fetched, query.degraded) == before

    asyncio.run(both())


def test_what_ran_aside_and_failed_is_told_where_it_is_missed():
    some = bound([aside()], FakeStores(r=Client(fails=True)), "UserFeatureConfs")
    case = case_of()

    async def both():
        walker = Walker(LimitConf(), Metrics(), None)
        await walker.load("s", some, case.query, None, together=True)
        await asyncio.sleep(0.01)
        await walker.load("s", [], case.query, case.arena, together=False)

    asyncio.run(both())
    assert case.query.degraded == ["UserFeatureConfs.s.FeatureLoadConfs[0]: error"]


def test_lmdb_is_a_text_a_key(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    with lmdb.open(str(tmp_path / "features")) as env, env.begin(write=True) as writing:
        writing.put(b"u:u1", b'{"age":7,"bad":"\xff"}')
        writing.put(b"u:i1", b"price:2,x:a:b")
        writing.put(b"u:i2", b"\xff:1")
    dao = {"AdapterType": "lmdb", "TableName": "features", "RedisPrefix": "u:"}
    with Stores(Confs(folder=tmp_path)) as stores:
        case = case_of()
        query = walk(bound([redis("user", RedisFieldType="json", **dao), redis(**dao)], stores), case)
        assert query.user_features["age"] == 7.0 and query.user_features["bad"] == "\ufffd"
        assert items_of(case) == [{"price": 2.0}, {"\ufffd": 1.0}, {}]
        with pytest.raises(ConfigError, match="TableName is missing"):
            bound([redis(AdapterType="lmdb")], stores)


def test_live_adapters_without_stores_are_refused():
    for adapter in ("redis", "lmdb", "hologres"):
        with pytest.raises(ConfigError, match=f"{adapter} needs live stores"):
            bound([redis(AdapterType=adapter)], None)


class Rows:
    """What Sequences needs of the stores: statements are accepted, and answered with these rows."""

    def __init__(self, online, offline=()):
        self.online, self.offline, self.asked = online, offline, []

    def postgres(self, name):
        return self

    def run(self, coroutine):
        outcome = asyncio.run(coroutine)

        class Done:
            def result(self):
                return outcome

        return Done()

    async def check(self, statement, args, where):
        return None

    async def rows(self, statement, args=(), timeout=0.0):
        if "pg_typeof" in statement:
            return [("text",)]
        self.asked.append((statement, args))
        found = self.offline if "offline" in statement else self.online
        if isinstance(found, Exception):
            raise found
        return found


def sequences(stores, **dao):
    report = Report(Document("case"))
    dao = {
        "SequenceName": "clicks",
        "SequenceLength": 5,
        "HologresTableName": "online",
        "UserFeatureKeyName": "uid",
        **dao,
    }
    conf = Converter(report).take({"FeatureLoadConfs": [{"FeatureDaoConf": dao}]}, SceneFeatureConfig, ("s",))
    report.raise_errors()
    found = Sequences(
        Binding(None, stores=stores), conf.feature_load_confs[0].feature_dao_conf, "here", lambda: 10_000_000.9
    )
    (values,), unsure = asyncio.run(found.get(["u1"]))
    return (values, unsure[0]) if unsure else values


def test_a_sequence_is_joined_newest_first():
    stores = Rows([("a", "click", 9_999_990, 1.5), ("b", "buy", 9_999_980, 2), ("a", "click", 9_999_970, 9.0)])
    assert sequences(stores) == {
        "clicks": "a;b", "clicks__item_id": "a;b", "clicks__timestamp": "9999990;9999980", "clicks__event": "click;buy",
        "clicks__play_time": "1.50;2.00", "clicks__ts": "10;20",
    }  # fmt: skip
    ((statement, args),) = stores.asked
    assert "ORDER BY timestamp DESC LIMIT 5" in statement and args == [["u1"], 10_000_000 - 5 * 86_400]
    assert sequences(Rows([])) == {"clicks": ""}, "an empty one has no other properties"


def test_a_sequence_is_asked_for_each_time_whatever_the_cache():
    stores = Rows([("a", "click", 9_999_990, 1.5)])
    dao = {"SequenceName": "clicks", "SequenceLength": 5, "HologresTableName": "online", "UserFeatureKeyName": "uid"}
    dao |= {"AdapterType": "hologres", "FeatureType": "sequence_feature", "CacheSize": 10}
    some = bound([redis("user", **dao)], stores)
    for _ in range(2):
        assert walk(some, case_of()).user_features["clicks"] == "a"
    assert len(stores.asked) == 2


def test_columns_delimiter_and_short_plays_are_the_configured_ones():
    stores = Rows(
        [
            ("a", "play", 9_999_990, "x", 900.0),
            ("b", "play", 9_999_980, None, 1000.0),
            ("c", "play", 9_999_970, "y", 1000.5),
            ("d", "click", 9_999_960, None, 0.0),
        ]
    )
    given = sequences(
        stores,
        SequenceDelim="|",
        SequencePlayTime="play:1000;buy:1",
        SequenceDimFields="author",
        SequenceEvent="play, click",
        ItemFeatureKeyName="item",
        EventFeatureKeyName="what",
        TimestampFeatureKeyName="at",
        PlayTimeFeatureKeyName="ms",
        TsFeatureKeyName="age",
    )
    assert given == {
        "clicks": "c|d", "clicks__item": "c|d", "clicks__at": "9999970|9999960", "clicks__what": "play|click",
        "clicks__ms": "1000.50|0.00", "clicks__age": "30|40", "clicks__author": "y|",
    }  # fmt: skip
    assert stores.asked[0][1][:2] == [["u1"], ["play", "click"]]


def test_offline_rows_follow_the_online_ones_that_are_not_older():
    online = [(f"n{age}", "click", 9_999_999 - age) for age in range(4)]
    offline = [("o2", "click", 9_999_997), ("n0", "click", 9_999_990), ("o9", "click", 9_999_980), ("o10", "x", 1)]
    given = sequences(
        Rows(online, offline), SequenceOfflineTableName="offline", NoUsePlayTimeField=True, SequenceLength=6
    )
    assert given["clicks"] == "n0;n1;n2;o2;o9" and "clicks__play_time" not in given
    half = sequences(Rows(StoreError("late"), offline), SequenceOfflineTableName="offline", NoUsePlayTimeField=True)
    assert half[1] == "late" and half[0]["clicks"] == "o2;n0;o9;o10"
    assert sequences(Rows(StoreError("late"))) == (None, "late")


@pytest.mark.parametrize(
    ("dao", "told"),
    [
        ({"SequenceName": ""}, "SequenceName is missing"), ({"SequenceLength": 0}, "must be positive, got 0"),
        ({"SequencePlayTime": "play"}, '"play"; `event:milliseconds`'), ({"SequencePlayTime": "a:1;b:x"}, '"b:x"'),
        ({"UserFeatureKeyName": ""}, "the key's column is missing"), ({"HologresTableName": "a b"}, "a name as in SQL"),
    ],
)  # fmt: skip
def test_a_sequence_that_cannot_be_is_refused_with_its_field(dao, told):
    with pytest.raises(ConfigError, match=told):
        sequences(Rows([]), **dao)
