"""Filters that ask live stores: what they drop, that they keep everything when nothing comes, and what they write."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest

from pairec_fast.binding import Binding
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.filter.history import RedisHistory, SqlHistory, go_json
from pairec_fast.filter.rows import BATCH
from pairec_fast.store import HologresConf, RedisConf, Stores
from tests.contract.filters import Case, parsed
from tests.contract.sorts import snapshot
from tests.test_store import Confs

pytest.importorskip("redis")
psycopg = pytest.importorskip("psycopg")
pytest.importorskip("psycopg_pool")


def items(*ids):
    return [[id, float(len(ids) - place), "a"] for place, id in enumerate(ids)]


class Live:
    """A filter bound to live stores, asked as the walk asks it."""

    def __init__(self, stores, conf, scene="home"):
        self.stores, self.scene = stores, scene
        self.conf = parsed({"Name": "f"} | conf)
        self.at = Case([[id, 1.0, id] for id in "filer"], {}).binding(stores=stores, scene=scene)
        self.stage = self.conf.bind(self.at)

    def left(self, candidates, user=None, error=None):
        """What stays of the candidates; the request they were asked for is in `case` afterwards."""
        self.case = Case(candidates, user or {})  # all its items are guests, whatever the snapshot

        async def walk():
            if hasattr(self.stage, "fetch"):
                await self.stage.fetch(self.case.query)
            if hasattr(self.stage, "load"):
                await self.stage.load(self.case.query, self.case.arena)

        if error:
            with pytest.raises(StoreError, match=error):
                self.stores.run(walk()).result(20)
        else:
            self.stores.run(walk()).result(20)
        self.case.run(self.stage)
        return self.case.answer()["ids"]

    def record(self, candidates, user=None, size=None):
        """Write down the answer of all candidates, and wait until that is done."""
        case = Case(candidates, user or {})
        case.query.size = len(candidates) if size is None else size
        recorder = self.conf.recorder(self.at)
        if recorder is None:
            return False
        work = recorder(case.query, case.arena, np.arange(len(candidates), dtype=np.int32))
        if work is None:
            return False
        before = []
        run = self.stores.run
        self.stores.run = lambda coroutine: before.append(run(coroutine)) or before[-1]
        try:
            work()
        finally:
            del self.stores.run
        for future in before:
            future.result(20)
        return True


# Exposures in Redis


@pytest.fixture
def with_redis(redis_server):
    conf = RedisConf(port=redis_server.port, connect_timeout=500, read_timeout=500)
    with Stores(Confs({"r": conf})) as stores:
        yield stores


def shown(**more):
    dao = {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "exp_"}
    return {"FilterType": "User2ItemExposureFilter", "DaoConf": dao, "WriteLog": True, **more}


def entry(*ids, age=0):
    return json.dumps({"item_ids": list(ids), "timestamp": int(time.time()) - age}, separators=(",", ":"))


def test_what_an_answer_showed_is_not_shown_again(with_redis, redis_server):
    live = Live(with_redis, shown(TimeInterval=60))
    assert live.left(items("a", "b", "c"), {"uid": "u1"}) == ["a", "b", "c"]
    assert live.record(items("b", "<c>"), {"uid": "u1"})
    assert live.left(items("a", "b", "<c>"), {"uid": "u1"}) == ["a"]
    assert live.left(items("a", "b"), {"uid": "u2"}) == ["a", "b"]


def test_the_layout_is_that_of_pairec(with_redis, redis_server):
    live = Live(with_redis, shown(TimeInterval=60, MaxItems=2))
    for at in range(3):
        live.record(items(f"i{at}", "<b>"), {"uid": "u1"})
    client = redis_server.client
    assert client.llen("exp_u1") == 2 and 0 < client.ttl("exp_u1") <= 60
    newest = client.lindex("exp_u1", 0).decode()
    stamp = json.loads(newest)["timestamp"]
    assert newest == f'{{"item_ids":["i2","\\u003cb\\u003e"],"timestamp":{stamp}}}'
    assert abs(stamp - time.time()) < 5


def test_entries_that_are_too_old_or_too_many_or_no_json_do_not_count(with_redis, redis_server):
    client = redis_server.client
    client.rpush("exp_u1", entry("a"), "no json", "[1]", entry("b", age=30), entry("c", age=90), entry("d"), entry("e"))
    live = Live(with_redis, shown(TimeInterval=60, MaxItems=6))
    assert live.left(items("a", "b", "c", "d", "e"), {"uid": "u1"}) == ["c", "e"]
    client.delete("exp_u2")
    client.rpush("exp_u2", *[entry(f"i{at}") for at in range(120)])
    assert Live(with_redis, shown()).left(items("i99", "i100"), {"uid": "u2"}) == ["i100"]  # a hundred without MaxItems


def test_marking_keeps_all_and_says_which(with_redis, redis_server):
    redis_server.client.rpush("exp_u1", entry("b"))
    live = Live(with_redis, shown(OnlyLogUserExposeFlag=True))
    assert live.left(items("a", "b"), {"uid": "u1"}) == ["a", "b"]
    slots = np.arange(2, dtype=np.int32)
    marks = live.case.query.properties(live.case.arena).of_each("_is_exposure_", slots)
    assert marks[1] == 1 and type(marks[1]) is int and marks[0] != 1


def test_scenes_that_are_excluded_write_nothing(with_redis, redis_server):
    assert not Live(with_redis, shown(WriteLogExcludeScenes=["home"])).record(items("a"))
    assert not Live(with_redis, shown(WriteLog=False)).record(items("a"))
    assert not Live(with_redis, shown()).record([])
    assert redis_server.client.keys() == []


def test_an_answer_that_is_short_clears_the_history_in_its_scene_alone(with_redis, redis_server):
    conf = shown(ClearLogIfNotEnoughScene="home")
    redis_server.client.rpush("exp_u1", entry("a"))
    assert Live(with_redis, conf, scene="other").record(items("b"), {"uid": "u1"}, size=5)
    assert redis_server.client.llen("exp_u1") == 2
    assert Live(with_redis, conf).record(items("b"), {"uid": "u1"}, size=1)
    assert redis_server.client.llen("exp_u1") == 3
    assert Live(with_redis, conf).record(items("b"), {"uid": "u1"}, size=5)
    assert redis_server.client.llen("exp_u1") == 0


def test_a_user_who_meets_the_conditions_starts_anew(with_redis, redis_server):
    redis_server.client.rpush("exp_u1", entry("a"))
    conf = shown(Conditions=[{"Name": "fresh", "Operator": "equal", "Type": "string", "Domain": "user", "Value": "1"}])
    live = Live(with_redis, conf | {"FilterType": "User2ItemExposureWithConditionFilter"})
    assert live.left(items("a", "b"), {"uid": "u1", "fresh": "0"}) == ["b"]
    assert live.left(items("a", "b"), {"uid": "u1", "fresh": "1"}) == ["a", "b"]
    deadline = time.monotonic() + 10
    while redis_server.client.exists("exp_u1") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not redis_server.client.exists("exp_u1")


def test_keys_of_users_and_of_items_may_be_written_by_expressions(with_redis, redis_server):
    conf = shown(
        GenerateUserDataExpr='sprintf("%s_%v", uid, context.features.page)',
        GenerateItemDataExpr='item_id == "z" ? "" : sprintf("g%s", item.group)',
    )
    live = Live(with_redis, conf)
    group = [["x", 3.0, "a", {"group": "1"}], ["y", 2.0, "a", {"group": "2"}], ["z", 1.0, "a", {"group": "1"}]]
    user = {"uid": "u1", "page": "top"}
    live.record(group[:1] + group[2:], user)
    assert json.loads(redis_server.client.lindex("exp_u1_top", 0))["item_ids"] == ["g1", "z"]
    assert live.left([*group, ["w", 0.5, "a", {"group": "1"}]], user) == ["y"]


def test_a_key_that_cannot_be_written_keeps_all_and_writes_nothing(with_redis, redis_server):
    live = Live(with_redis, shown(GenerateUserDataExpr="context.features.missing"))
    assert live.left(items("a"), {"uid": "u1"}) == ["a"]
    assert not live.record(items("a"), {"uid": "u1"})


def test_a_store_that_is_down_keeps_all(with_redis, redis_server):
    live = Live(with_redis, shown())
    redis_server.client.rpush("exp_u1", entry("a"))
    redis_server.kill()
    try:
        assert live.left(items("a", "b"), {"uid": "u1"}, error="RedisConfs.r") == ["a", "b"]
    finally:
        redis_server.ensure()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"DaoConf": {"AdapterType": "mysql"}}, '"mysql" is not available in this version; use "redis" or "hologres"'),
        ({"DaoConf": {"AdapterType": "redis", "RedisName": "s"}}, 'no "s"'),
        ({"GenerateItemDataFuncName": "mine"}, "write it as GenerateItemDataExpr"),
        ({"GenerateUserDataExpr": "uid +"}, "GenerateUserDataExpr: "),
    ],
)
def test_what_cannot_be_had_is_refused_at_load(with_redis, change, told):
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        Live(with_redis, shown() | change)


def test_without_stores_a_live_filter_is_refused():
    with pytest.raises(ConfigError, match="there are no live stores here"):
        Live(None, shown())


# PostgreSQL


@pytest.fixture
def tables(postgres):
    with postgres.connect() as connection:
        connection.execute("drop table if exists seen, blocked, own, state")
        connection.execute("create table seen (uid text, item text, create_time int4)")
        connection.execute("create table blocked (item_id text, kind text)")
        connection.execute("create table own (user_id text, item_ids text)")
        connection.execute(
            "create table state (item_id text primary key, status int, price float8, tags text[], note text, "
            "live boolean, until timestamp, cost numeric)"
        )
        yield connection
        postgres.ensure()
    with postgres.connect() as connection:
        connection.execute("drop table if exists seen, blocked, own, state")


@pytest.fixture
def with_postgres(postgres, tables):
    tables.commit()
    with Stores(Confs(hologres={"pg": HologresConf(postgres.url)})) as stores:
        yield stores


def holo(table):
    return {"AdapterType": "hologres", "HologresName": "pg", "HologresTableName": table}


def test_exposures_in_a_table_are_read_and_written_as_pairec_does(with_postgres, tables):
    conf = shown() | {"DaoConf": holo("public.seen"), "TimeInterval": 60, "MaxItems": 2}
    live = Live(with_postgres, conf)
    live.record(items("a", "b"), {"uid": "u1"})
    uid, item, created = tables.execute("select uid, item, create_time from seen").fetchone()
    assert (uid, item) == ("u1", "a,b") and abs(created - time.time()) < 5
    tables.execute("insert into seen values ('u1', 'c', %s), ('u2', 'd', %s)", (created - 90, created))
    tables.commit()
    assert live.left(items("a", "b", "c", "d"), {"uid": "u1"}) == ["c", "d"]
    conf["ClearLogIfNotEnoughScene"] = "home"
    assert Live(with_postgres, conf).record(items("e"), {"uid": "u1"}, size=2)
    tables.commit()
    assert tables.execute("select uid from seen").fetchall() == [("u2",)]


@pytest.mark.parametrize("table", ["seen; drop table seen", "no such", "", '"a"; --'])
def test_a_table_that_is_no_name_never_gets_into_a_statement(with_postgres, table):
    with pytest.raises(ConfigError, match="expected a name as in SQL"):
        Live(with_postgres, shown() | {"DaoConf": holo(table)})


def test_a_table_that_is_not_there_is_refused_at_load(with_postgres):
    with pytest.raises(ConfigError, match="nowhere"):
        Live(with_postgres, shown() | {"DaoConf": holo("nowhere")})


def state(*params, **more):
    dao = {**holo("state"), "ItemFieldName": "item_id", "SelectFields": "status, price, tags, note, live, until, cost"}
    dao |= more.pop("dao", {})
    return {"FilterType": "ItemStateFilter", "ItemStateDaoConf": dao, "FilterParams": list(params), **more}


def condition(name, operator, value, type="int", **more):
    return {"Name": name, "Operator": operator, "Type": type, "Value": value, **more}


ON = condition("status", "equal", 1)


def fill(tables, *rows):
    for row in rows:
        names = ", ".join(row)
        tables.execute(f"insert into state ({names}) values ({', '.join(['%s'] * len(row))})", list(row.values()))
    tables.commit()


def test_items_are_kept_by_what_their_rows_say(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 1}, {"item_id": "b", "status": 0}, {"item_id": "c"})
    live = Live(with_postgres, state(ON))
    assert live.left(items("a", "b", "c", "unknown")) == ["a"]
    assert Live(with_postgres, state()).left(items("a", "b", "c", "unknown")) == ["a", "b", "c", "unknown"]


def test_rows_become_properties_of_their_kind(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 1, "price": 2.5, "tags": ["x", "y"], "live": True, "cost": "1.25",
                  "until": "2026-01-02 03:04:05"})  # fmt: skip
    live = Live(with_postgres, state(ON))
    assert live.left(items("a")) == ["a"]
    properties, slot = live.case.query.properties(live.case.arena), np.zeros(1, np.int32)
    found = {name: properties.of_each(name, slot)[0] for name in ("status", "price", "tags", "live", "cost", "until")}
    assert found == {"status": 1, "price": 2.5, "tags": ["x", "y"], "live": True, "cost": 1.25,
                     "until": "2026-01-02 03:04:05"}  # fmt: skip
    assert type(found["status"]) is int and found["live"] is True and "note" not in live.case.query.given


def test_conditions_see_the_user_and_the_row_alone(with_postgres, tables):
    fill(tables, {"item_id": "a", "price": 5.0}, {"item_id": "b", "price": 50.0})
    live = Live(with_postgres, state(condition("price", "less", "user.budget", "float")))
    assert live.left(items("a", "b"), {"budget": 10}) == ["a"]
    own = [["a", 1.0, "r", {"mine": "1"}]]
    assert Live(with_postgres, state(condition("mine", "equal", "1", "string"))).left(own) == []


def test_defaults_stand_for_rows_that_are_not_there(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 0})
    live = Live(with_postgres, state(ON, dao={"DefaultFieldValues": {"status": 1, "note": "new"}}))
    assert live.left(items("a", "unknown")) == ["unknown"]
    assert live.case.query.properties(live.case.arena).of_each("note", np.zeros(1, np.int32)) == ["new"]


def test_rows_that_do_not_meet_the_clause_are_not_there(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 1, "note": "50% off"}, {"item_id": "b", "status": 1, "note": "full"})
    live = Live(with_postgres, state(ON, dao={"WhereClause": "note like '50%'"}))
    assert live.left(items("a", "b")) == ["a"]


def test_more_candidates_than_a_statement_takes_are_asked_in_several(with_postgres, tables):
    ids = [f"i{at}" for at in range(2 * BATCH + 1)]
    tables.execute("insert into state (item_id, status) select 'i' || n, n % 2 from generate_series(0, 5000) as n")
    tables.commit()
    assert Live(with_postgres, state(ON)).left(items(*ids)) == ids[1::2]


def test_rows_are_remembered_and_so_is_that_there_is_none(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 1})
    live = Live(with_postgres, state(ON, ItemStateCacheSize=10))
    assert live.left(items("a", "b")) == ["a"]
    tables.execute("update state set status = 0")
    fill(tables, {"item_id": "b", "status": 1})
    assert live.left(items("a", "b")) == ["a"]
    assert Live(with_postgres, state(ON)).left(items("a", "b")) == ["b"]


@pytest.mark.parametrize(
    ("layout", "put"),
    [
        ({"RedisDataType": "hash"}, lambda client, key, status: client.hset(key, mapping={"status": status, "x": "y"})),
        ({"RedisFieldType": "json"}, lambda client, key, status: client.set(key, json.dumps({"status": status}))),
        ({"RedisFieldType": "csv"}, lambda client, key, status: client.set(key, f"status:{status},odd:1:2,x:y")),
        ({"RedisValueDelimeter": ";"}, lambda client, key, status: client.set(key, f"x:y;status:{status}")),
    ],
)
@pytest.mark.parametrize("fields", ["", "status"])
def test_rows_may_lie_in_redis_as_item_features_do(with_redis, redis_server, layout, put, fields):
    for id, status in (("a", 1), ("b", 0)):
        put(redis_server.client, f"s_{id}", status)
    if "RedisDataType" not in layout:
        redis_server.client.set("s_d", "no row: in any layout")
    dao = {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "s_", "SelectFields": fields, **layout}
    conf = {"FilterType": "ItemStateFilter", "ItemStateDaoConf": dao, "FilterParams": [ON]}
    live = Live(with_redis, conf)
    assert live.left(items("a", "b", "c", "d")) == ["a"]
    assert ("x" in live.case.query.given) is (not fields and "json" not in layout.values())
    defaults = conf | {"ItemStateDaoConf": {**dao, "DefaultFieldValues": {"status": 1}}}
    assert Live(with_redis, defaults).left(items("a", "b", "c")) == ["a", "c"]


def test_a_where_clause_in_redis_is_refused(with_redis):
    dao = {"AdapterType": "redis", "RedisName": "r", "WhereClause": "x = 1"}
    with pytest.raises(ConfigError, match="Redis has no SQL"):
        Live(with_redis, {"FilterType": "ItemStateFilter", "ItemStateDaoConf": dao})


def test_rows_may_be_looked_up_by_an_expression(with_postgres, tables):
    fill(tables, {"item_id": "berlin_a_r", "status": 1}, {"item_id": "b", "status": 1})
    key = 'item.item_id == "a" ? sprintf("%s_%s_%s", user.city, item.item_id, item.recall_name) : nil'
    live = Live(with_postgres, state(ON, GenerateUserDataExpr=key))
    candidates = [["a", 2.0, "r"], ["b", 1.0, "r"]]
    assert live.left(candidates, {"city": "berlin"}) == ["a", "b"]
    assert live.left(candidates, {"city": "rome"}) == ["b"]


def test_a_table_that_is_locked_keeps_what_it_was_asked_for(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 0}, {"item_id": "b", "status": 0})
    live = Live(with_postgres, state(ON, ItemStateCacheSize=10))
    assert live.left(items("a")) == []
    tables.execute("lock table state in access exclusive mode")
    begin = time.monotonic()
    assert live.left(items("a", "b"), error="1 of 2 candidates kept without an answer") == ["b"]
    assert time.monotonic() - begin < 2
    tables.rollback()


@pytest.mark.parametrize(
    ("dao", "told"),
    [
        ({"SelectFields": "status, nothing"}, "nothing"),
        ({"WhereClause": "status ="}, "syntax error"),
        ({"ItemFieldName": "item_id, 1"}, "expected a name as in SQL"),
        ({"HologresName": "other"}, 'no "other"'),
        ({"AdapterType": "featurestore"}, '"featurestore" is not available in this version'),
    ],
)
def test_a_state_table_that_is_not_as_asked_for_is_refused_at_load(with_postgres, dao, told):
    with pytest.raises(ConfigError, match=told):
        Live(with_postgres, state(ON, dao=dao))


def test_transforms_are_applied_before_conditions_which_then_see_all_properties(with_postgres, tables):
    fill(tables, {"item_id": "a", "status": 1}, {"item_id": "b", "status": 2})
    made = {"FeatureType": "new_feature", "FeatureStore": "item", "FeatureName": "twice", "Normalizer": "expr",
            "Expression": "item.status * 2"}  # fmt: skip
    live = Live(with_postgres, state(condition("twice", "equal", 4), condition("mine", "equal", 1), Features=[made]))
    candidates = [[id, 1.0, "r", {"mine": 1.0}] for id in ("a", "b")]
    assert live.left(candidates) == ["b"]


def test_values_to_be_spread_may_lie_in_a_table(with_postgres, tables):
    fill(tables, *({"item_id": f"i{at}", "status": int(at >= 8)} for at in range(10)))
    dao = {**holo("state"), "ItemKeyField": "item_id", "DistinctFields": ["status"]}
    conf = {
        "FilterType": "PriorityAdjustCountFilter", "EnsureDiversity": True, "DiversityMinCount": 1,
        "AdjustCountConfs": [{"RecallName": "f", "Count": 6, "Type": "accumulator"}], "DiversityDaoConf": dao,
    }  # fmt: skip
    candidates = [[f"i{at}", 10.0 - at, "f"] for at in range(10)]
    live = Live(with_postgres, conf)
    assert live.left(candidates) == ["i0", "i1", "i2", "i3", "i4", "i8"]
    again = Live(with_postgres, conf | {"EnsureDiversity": False})
    tables.execute("lock table state in access exclusive mode")
    assert live.left(candidates) == ["i0", "i1", "i2", "i3", "i4", "i8"], "remembered"
    assert again.left(candidates) == ["i0", "i1", "i2", "i3", "i4", "i5"], "nothing is asked where nothing is spread"
    tables.rollback()


def test_blocked_items_are_dropped_and_the_list_is_read_again(with_postgres, tables):
    tables.execute("insert into blocked values ('a', 'bad'), ('b', 'good'), (null, 'bad')")
    tables.commit()
    conf = {
        "FilterType": "ItemCustomFilter", "DaoConf": holo("blocked"), "TimeInterval": 1,
        "FilterVal": {"SelectCol": "item_id", "WhereClause": "kind like 'bad%'"},
    }  # fmt: skip
    live = Live(with_postgres, conf)
    assert live.left(items("a", "b")) == ["b"]
    tables.execute("update blocked set kind = 'bad' where item_id = 'b'")
    tables.commit()
    live.stage._due = 0.0
    deadline = time.monotonic() + 10
    while live.left(items("a", "b", "c")) != ["c"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert live.left(items("a", "b", "c")) == ["c"]


def test_a_list_is_bound_to_a_snapshot_with_room_for_guests(with_postgres, tables):
    """Whose rows have no id before a request gives them one."""
    tables.execute("insert into blocked values ('i000003', 'bad')")
    tables.commit()
    conf = {"FilterType": "ItemCustomFilter", "DaoConf": holo("blocked"), "FilterVal": {"SelectCol": "item_id"}}
    stage = parsed({"Name": "f"} | conf).bind(Binding(snapshot(), stores=with_postgres))
    assert np.flatnonzero(stage._allowed == 0).tolist() == [snapshot().items.ids.find("i000003")]


def test_the_list_of_before_stays_while_the_store_is_down(with_postgres, tables, postgres):
    tables.execute("insert into blocked values ('a', 'bad')")
    tables.commit()
    conf = {"FilterType": "ItemCustomFilter", "DaoConf": holo("blocked"), "FilterVal": {"SelectCol": "item_id"}}
    live = Live(with_postgres, conf)
    tables.execute("drop table blocked")
    tables.commit()
    with_postgres.run(live.stage._read_again()).result(20)
    assert live.left(items("a", "b")) == ["b"]


def test_a_users_own_list_is_dropped_for_that_user(with_postgres, tables):
    tables.execute("insert into own values ('u1', 'a,,b'), ('u1', 'c'), ('u2', null)")
    tables.commit()
    live = Live(with_postgres, {"FilterType": "User2ItemCustomFilter", "DaoConf": holo("own"), "ItemStateCacheSize": 5})
    assert live.left(items("a", "b", "c", "d"), {"uid": "u1"}) == ["d"]
    assert live.left(items("a", "b"), {"uid": "u2"}) == live.left(items("a", "b"), {"uid": "u3"}) == ["a", "b"]
    tables.execute("delete from own")
    tables.commit()
    assert live.left(items("a", "d"), {"uid": "u1"}) == ["d"]


def test_a_users_own_list_may_lie_in_redis(with_redis, redis_server):
    redis_server.client.set("no_u1", "a,b")
    dao = {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "no_"}
    live = Live(with_redis, {"FilterType": "User2ItemCustomFilter", "DaoConf": dao})
    assert live.left(items("a", "b", "c"), {"uid": "u1"}) == ["c"]


# Without a server


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_an_entry_is_written_with_one_clock():
    """The age of an entry is measured by the clock that wrote it."""
    commands = []

    class Store:
        async def write(self, given):
            commands.extend(given)

        async def lrange(self, key, first, last):
            return [commands[0][2]]

    clock = Clock()
    history = RedisHistory(Store(), "p", 5, 30, clock)
    asyncio.run(history.write("u", ["a"]))
    assert commands == [
        ("LPUSH", "pu", '{"item_ids":["a"],"timestamp":1000}'),
        ("LTRIM", "pu", 0, 4),
        ("EXPIRE", "pu", 30),
    ]
    clock.now = 1030
    assert asyncio.run(history.read("u")) == {"a"}
    clock.now = 1031
    assert asyncio.run(history.read("u")) == set()


def test_json_is_written_as_go_writes_it():
    assert go_json({"a": ["<é&\u2028>"]}) == '{"a":["\\u003cé\\u0026\\u2028\\u003e"]}'


def test_sql_has_no_limit_where_none_is_given():
    assert (
        "LIMIT" not in SqlHistory(None, "t", 0, 0, "w")._select
        and "LIMIT 3" in SqlHistory(None, "t", 3, 0, "w")._select
    )


# In an engine


@pytest.fixture
def shop_with_redis(world, redis_server):
    """A configuration whose answers are remembered in Redis."""
    world.conf["RedisConfs"] = {"r": {"Host": "127.0.0.1", "Port": redis_server.port, "ReadTimeout": 500}}
    world.conf["FilterConfs"] = [{"Name": "shown", **shown(TimeInterval=60)}]
    world.conf["FilterNames"] = {"home_feed": ["UniqueFilter", "shown"]}
    return world


def asked(engine, size=5, **more):
    reply = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": size} | more)
    return reply, [item.item_id for item in reply.items]


def written(server, count):
    """Wait until so many answers are written down; `recommend` does not."""
    deadline = time.monotonic() + 10
    while server.client.llen("exp_u00042") < count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert server.client.llen("exp_u00042") == count


def test_an_engine_shows_nothing_twice(shop_with_redis, redis_server):
    with shop_with_redis.engine() as engine:
        seen = []
        for at in range(4):
            reply, ids = asked(engine)
            assert reply.code == 200 and len(ids) == 5
            seen += ids
            written(redis_server, at + 1)
    assert len(seen) == len(set(seen)) == 20
    newest = json.loads(redis_server.client.lindex("exp_u00042", 0))
    assert newest["item_ids"] == seen[-5:]


def test_a_scene_without_the_filter_writes_its_answers_as_well(shop_with_redis, redis_server):
    shop_with_redis.conf["FilterNames"] = {"home_feed": ["UniqueFilter"]}
    with shop_with_redis.engine() as engine:
        assert asked(engine)[1] == asked(engine)[1]
        written(redis_server, 2)


def test_an_engine_answers_without_its_store_and_says_so(shop_with_redis, redis_server):
    with shop_with_redis.engine() as engine:
        _, first = asked(engine)
        written(redis_server, 1)
        redis_server.kill()
        try:
            reply, ids = asked(engine)
            assert ids == first and reply.code == 200
            assert reply.degraded == ["shown: error"]
        finally:
            redis_server.ensure()


def test_recall_alone_is_remembered_when_it_has_enough(shop_with_redis, redis_server):
    from pairec_fast.messages import RecommendRequest

    with shop_with_redis.engine() as engine:
        reply, after = engine.recall(RecommendRequest(uid="u00042", scene_id="home_feed", category="default", size=3))
        assert redis_server.client.llen("exp_u00042") == 0, "nothing is written before the answer has left"
        after()
        written(redis_server, 1)
        entry = json.loads(redis_server.client.lindex("exp_u00042", 0))
        assert entry["item_ids"] == [item.item_id for item in reply.items]
        reply, after = engine.recall(
            RecommendRequest(uid="u00042", scene_id="home_feed", category="default", size=5000)
        )
        after()
        assert reply.code == 299
        time.sleep(0.1)
        written(redis_server, 1)
