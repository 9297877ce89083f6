"""Vectors and weights of live stores: asked for once, kept, and done without when they do not come."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from pairec_fast.binding import Fetching, Loading
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.rerank.live import Fetched
from pairec_fast.store import HologresConf, RedisConf, Stores
from tests.contract.sorts import Walk, stage_of
from tests.test_store import Confs

ITEMS = [["case a", 0.9, "r"], ["case b", 0.8, "r"], ["case c", 0.7, "ad"], ["case d", 0.6, "r"], ["case e", 0.5, "r"]]
VECTORS = {"case a": "{1,0}", "case b": "{1,0.01}", "case c": "{0.5,0.5}", "case d": "{0,1}"}


class Asked:
    """A store that remembers what it was asked."""

    def __init__(self, texts):
        self.texts, self.ids = texts, []

    async def __call__(self, ids):
        self.ids.append(list(ids))
        there = [id for id in ids if id in self.texts]
        return there, [self.texts[id] for id in there]


def of(fetched, *ids):
    table, rows = asyncio.run(fetched.of(ids))
    return [table[row].tolist() if row >= 0 else None for row in rows]


# kept


def test_a_vector_is_asked_for_once_and_a_missing_one_each_time():
    now, ask = [0.0], Asked({"a": "{1,2}", "b": "3,4"})
    fetched = Fetched(ask, ",", 60.0, clock=lambda: now[0])
    assert of(fetched, "a", "b", "x") == [[1, 2], [3, 4], None]
    assert of(fetched, "b", "x", "a", "b") == [[3, 4], None, [1, 2], [3, 4]]
    assert ask.ids == [["a", "b", "x"], ["x"]]
    now[0] = 60.0
    ask.texts["a"] = "{5,6}"
    assert of(fetched, "a") == [[5, 6]], "kept so long and no longer"


def test_what_a_request_was_given_stays_when_others_push_it_out():
    fetched = Fetched(Asked({str(at): f"{at},{at}" for at in range(2000)}), ",", 60.0, entries_max=1000)
    table, rows = asyncio.run(fetched.of(["1", "2"]))
    before = table[rows].copy()
    for begin in range(0, 2000, 100):
        ids = [str(at) for at in range(begin, begin + 100)]
        assert of(fetched, *ids) == [[at, at] for at in range(begin, begin + 100)]
        assert len(fetched._rows) <= 1000
    assert table[rows].tobytes() == before.tobytes()


def test_vectors_of_different_lengths_are_an_error():
    with pytest.raises(StoreError, match="the vector of item 'b' has 1 numbers, others have 2"):
        of(Fetched(Asked({"a": "1,2", "b": "3"}), ",", 60.0), "a", "b")


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [("{1,2.5}", ",", [1, 2.5]), ("1|2", "|", [1, 2]), ("{1,x}", ",", [1, 0]), ("", ",", [0])],
)
def test_texts_of_vectors_are_read_as_upstream(text, separator, expected):
    assert of(Fetched(Asked({"a": text}), separator, 60.0), "a") == [expected]


# in sorts


@pytest.fixture
def tables(postgres):
    with postgres.connect() as connection:
        connection.execute("drop table if exists emb, weights")
        connection.execute("create table emb (id text primary key, v real[], t text)")
        for id, text in VECTORS.items():
            connection.execute("insert into emb values (%s, %s, %s)", (id, text, text.strip("{}").replace(",", "|")))
        connection.execute("create table weights (item text, weight float8)")
        connection.execute("insert into weights values ('case a', 0.1), ('i000003', 7), ('case b', null)")
    with Stores(Confs(hologres={"pg": HologresConf(postgres.url)})) as stores:
        yield stores, postgres
    postgres.ensure()
    with postgres.connect() as connection:
        connection.execute("drop table if exists emb, weights")


def spread(sort, stores, *, size=3, user=None, **conf):
    walk = Walk(ITEMS, user or {}, size, {})
    stage = stage_of({"SortType": f"{sort}Sort", f"{sort}Conf": conf}, walk.binding(stores=stores))
    assert isinstance(stage, Loading) and not isinstance(stage, Fetching)
    return walk, stage


def run(walk, stage):
    asyncio.run(stage.load(walk.query, walk.arena))
    stage(walk.query, walk.arena)
    return [walk.ids[slot][-1] for slot in walk.order()]


TABLE = {"DaoConf": {"HologresName": "pg"}, "TableName": "emb", "TablePKey": "id", "EmbeddingColumn": "v", "Alpha": 0.1}


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_vectors_of_a_table_decide_and_one_that_is_missing_is_drawn(tables, sort):
    """b looks like a, so d comes before it; e has no vector."""
    more = {"Gamma": 9.0} if sort == "SSD" else {}
    for column, separator in (("v", ""), ("t", "|")):
        conf = TABLE | {"EmbeddingColumn": column, "EmbeddingSeparator": separator, "CandidateCount": 4} | more
        order = run(*spread(sort, tables[0], size=2, FilterRetrieveIds=["ad"], **conf))
        assert order[0] == "a" and order[1] in "de" and order[2] == "c"
    assert len(run(*spread(sort, tables[0], size=5, EmbMissedThreshold=0.1, **TABLE))) == 5


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_without_its_vectors_a_sort_leaves_the_order(tables, sort):
    walk, stage = spread(sort, tables[0], **TABLE)
    stage(walk.query, walk.arena)  # as after a load that was late
    assert walk.order() == [0, 1, 2, 3, 4]
    walk, stage = spread(sort, tables[0], **TABLE)
    tables[1].kill()
    with pytest.raises(StoreError):
        asyncio.run(stage.load(walk.query, walk.arena))
    stage(walk.query, walk.arena)
    assert walk.order() == [0, 1, 2, 3, 4]


def test_nothing_is_loaded_for_users_who_do_not_meet_the_condition(tables):
    vip = {"Conditions": [{"Name": "vip", "Domain": "user", "Operator": "equal", "Type": "string", "Value": "1"}]}
    for user, loaded in (({"vip": "1"}, 1), ({}, 0)):
        walk, stage = spread("SSD", tables[0], user=user, Condition=vip, **TABLE)
        run(walk, stage)
        assert len(walk.query.fetched) == loaded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TableName": "nope"}, 'relation "nope" does not exist'),
        ({"EmbeddingColumn": "v; drop table emb"}, "EmbeddingColumn: expected a name as in SQL"),
        ({"TablePKey": ""}, "TablePKey: expected a name as in SQL"),
        ({"DaoConf": {"HologresName": "pq"}}, 'has no "pq"'),
    ],
)
def test_tables_that_cannot_be_read_are_refused_at_bind(tables, change, message):
    with pytest.raises(ConfigError, match=message):
        spread("DPP", tables[0], **TABLE | change)


def test_vectors_of_redis_are_found_by_prefix_and_id(redis_server):
    for id, text in VECTORS.items():
        redis_server.client.set(f"emb:{id}", text)
    with Stores(Confs(redis={"r": RedisConf("127.0.0.1", redis_server.port)})) as stores:
        conf = {"DaoConf": {"AdapterType": "redis", "RedisName": "r", "RedisPrefix": "emb:"}, "Gamma": 9.0}
        walk, stage = spread("SSD", stores, size=2, CandidateCount=4, **conf)
        assert run(walk, stage)[0] == "a"
        table, rows = next(iter(walk.query.fetched.values()))[1]
        assert np.array_equal(table[rows[:2]], np.array([[1, 0], [1, 0.01]], np.float32))


def test_weights_of_a_table_multiply_and_are_read_again(tables):
    stores, postgres = tables
    dao = {"AdapterType": "hologres", "HologresName": "pg", "HologresTableName": "weights", "ItemFieldName": "item",
           "WeightFieldName": "weight"}  # fmt: skip
    sort = {"SortType": "BoostScoreByWeight", "TimeInterval": 1, "BoostScoreByWeightDao": dao}
    items = [*ITEMS[:2], ["i000003", 2.0, "r"]]
    walk = Walk(items, {}, 3, {})
    stage = stage_of(sort, walk.binding(stores=stores))

    def scores():
        walk.arena.score[:3] = [1.0, 1.0, 2.0]
        stage(walk.query, walk.arena)
        return walk.arena.score[:3].tolist()

    assert scores() == [0.1, 1.0, 14.0], "of an item that the snapshot lacks, of one without a weight, of one it has"
    with postgres.connect() as connection:
        connection.execute("update weights set weight = 5 where item = 'case a'")
    until = time.monotonic() + 20
    while scores()[0] != 5.0:
        assert time.monotonic() < until
        time.sleep(0.1)
    postgres.kill()
    time.sleep(1.1)
    assert [scores()[0] for _ in range(3)] == [5.0] * 3, "what was read last stays"
    postgres.ensure()
    for change, message in (
        ({"HologresTableName": "nope"}, 'relation "nope" does not exist'),
        ({"WeightFieldName": "a b"}, "WeightFieldName: expected a name as in SQL"),
    ):
        with pytest.raises(ConfigError, match=message):
            stage_of(sort | {"BoostScoreByWeightDao": dao | change}, walk.binding(stores=stores))
