"""Recalls whose lists lie in a PostgreSQL, by PAI-Rec's tables."""

from __future__ import annotations

import math
import time

import pytest

from pairec_fast.errors import ConfigError
from tests.lives import Lives

pytest.importorskip("psycopg_pool")

DAO = {"AdapterType": "hologres", "HologresName": "pg"}
TRIGGERS = DAO | {"HologresTableName": "pf_events", "Limit": 50, "WeightExpression": "1"}


def real_time(**fields):
    own = {key: fields.pop(key) for key in ("Item2ItemTable", "MergeMode", "SimilarItemIdField",
                                            "SimilarItemScoreField", "I2ICacheSize") if key in fields}  # fmt: skip
    return {"RecallType": "RealTimeU2IRecall", "RecallCount": 6,
            "RealTimeUser2ItemDaoConf": {"UserTriggerDaoConf": TRIGGERS | fields, **own}}  # fmt: skip


RECALLS = [
    {"Name": "custom", "RecallType": "UserCustomRecall", "DaoConf": DAO | {"HologresTableName": "public.PF_users"}},
    {"Name": "everyone", "RecallType": "UserGlobalHotRecall", "RecallCount": 3,
     "DaoConf": DAO | {"HologresTableName": "pf_hot"}},
    {"Name": "by_rows", "RecallType": "UserGlobalHotRecall", "RecallCount": 2,
     "DaoConf": DAO | {"HologresTableName": "pf_scores", "ItemIdField": "item", "ItemScoreField": "score"}},
    {"Name": "group", "RecallType": "UserGroupHotRecall", "DaoConf": DAO | {"HologresTableName": "pf_hot"},
     "Triggers": [{"TriggerKey": "tags"}]},
    {"Name": "alike", "RecallType": "ItemCollaborativeFilterRecall",
     "ItemCollaborativeDaoConf": DAO | {"Item2ItemTable": "pf_alike"}},
    {"Name": "u2i2i", "RecallType": "UserCollaborativeFilterRecall", "UserCollaborativeDaoConf":
     DAO | {"User2ItemTable": "pf_users", "Item2ItemTable": "pf_similar", "Normalization": "off"}},
    {"Name": "u2x2i", "RecallType": "UserCollaborativeFilterRecall", "UserCollaborativeDaoConf":
     DAO | {"User2ItemTable": "pf_users", "Item2XTable": "pf_kinds", "X2ItemTable": "pf_of_kind", "XKey": "kind",
            "XDelimiter": "|", "Normalization": "off"}},
    {"Name": "topics", "RecallType": "UserTopicRecall", "RecallCount": 4,
     "UserTopicDaoConf": DAO | {"UserTopicTable": "pf_topics", "TopicItemTable": "pf_of_topic"}},
    {"Name": "recent"} | real_time(EventWeight="buy:4;view:1", EventPlayTime="view:1000"),
    {"Name": "fading"} | real_time(WeightExpression="exp((eventTime - currentTime) / 3600)", WeightMode="max"),
    {"Name": "diverse"} | real_time(PropertyFields=["kind"], DiversityRules=[{"Dimensions": ["kind"], "Size": 1}],
                                    WhereClause="event <> 'like%'"),
    {"Name": "similar"} | real_time(Item2ItemTable="pf_similar", EventWeight="buy:4;view:1", I2ICacheSize=100),
    {"Name": "in_turn"} | real_time(Item2ItemTable="pf_similar", MergeMode="snake", EventWeight="buy:4;view:1"),
    {"Name": "pairs"} | real_time(Item2ItemTable="pf_pairs", SimilarItemIdField="other", SimilarItemScoreField="sim"),
    {"Name": "new", "RecallType": "ColdStartRecall", "RecallCount": 2, "ColdStartDaoConf": DAO | {
        "HologresTableName": "pf_items", "PrimaryKey": "id", "WhereClause": "made > '${time}'", "TimeInterval": 3600}},
    {"Name": "mine", "RecallType": "ColdStartRecall", "RecallCount": 5, "ColdStartDaoConf": DAO | {
        "HologresTableName": "pf_items", "PrimaryKey": "id", "OrderBy": "made desc",
        "WhereClause": "city = '${user.town}' and id like '${context.features.start}%'"}},
    {"Name": "since", "RecallType": "ColdStartRecall", "RecallCount": 5, "ColdStartDaoConf": DAO | {
        "HologresTableName": "pf_items", "PrimaryKey": "id", "OrderBy": "id", "WhereClause": "made_at > ${time}",
        "TimeInterval": 3600}},
]  # fmt: skip

NEW = RECALLS[14]["ColdStartDaoConf"]

TABLES = """
drop table if exists pf_users, pf_hot, pf_scores, pf_alike, pf_similar, pf_kinds, pf_of_kind, pf_topics, pf_of_topic,
    pf_events, pf_pairs, pf_items;
create table pf_users (user_id text, item_ids text);
insert into pf_users values ('u00007', 't1:2,t2'), ('u9', null);
create table pf_hot (trigger_id text, item_ids text);
insert into pf_hot values ('-1', 'a::1,b::2,i000001::3,d::0.5'), ('x', 'e::1'), ('y', 'f::3,e::9');
create table pf_scores (item bigint, score numeric);
insert into pf_scores values (1, 0.5), (2, 2.5), (3, 1.5), (4, null);
create table pf_alike (item_id text, item_ids text[]);
insert into pf_alike values ('i000001', array['a:x:1', 'b:x:2']);
create table pf_similar (item_id text, similar_item_ids text);
insert into pf_similar values ('t1', 'a:0.5,b:0.25'), ('t2', 'a:1,c:0.125'), ('bought', 'x:r:0.5,y:r:0.25'),
    ('seen', 'x:1,z:0.75');
create table pf_kinds (item_id text, kind text);
insert into pf_kinds values ('t1', 'k1|k2'), ('t2', 'k2');
create table pf_of_kind (kind text, item_ids text);
insert into pf_of_kind values ('k1', 'a::1,t1::9'), ('k2', 'a::1,b::2');
create table pf_topics (user_id text, topics text);
insert into pf_topics values ('u00007', 'k1:3,k2:1');
create table pf_of_topic (topic text, item_ids text);
insert into pf_of_topic values ('k1', 'a,b,c,d'), ('k2', 'e,f');
create table pf_events (user_id text, item_id text, event text, play_time float8, timestamp bigint, kind text);
insert into pf_events select 'u00007', item, event, played, extract(epoch from now())::bigint - ago, kind from (values
    ('seen', 'view', 5000, 60, 'k1'), ('bought', 'buy', 0, 7200, 'k1'), ('glanced', 'view', 999, 30, 'k2'),
    ('seen', 'view', 5000, 3600, 'k1')) as t(item, event, played, ago, kind);
create table pf_pairs (item_id text, other bigint, sim float4);
insert into pf_pairs values ('seen', 11, 0.5), ('seen', 12, 0.25), ('bought', 11, 0.75);
create table pf_items (id text, city text, made timestamptz, made_at bigint);
insert into pf_items select 'n' || n, case when n % 2 = 0 then 'ulm' else 'köln' end, now() - n * interval '10 minutes',
    extract(epoch from now())::bigint - n * 600 from generate_series(1, 12) as n;
"""


@pytest.fixture(scope="module")
def tables(_postgres):
    _postgres.ensure()
    with _postgres.connect() as connection:
        connection.execute(TABLES)
    yield _postgres
    _postgres.ensure()
    with _postgres.connect() as connection:
        connection.execute(TABLES.split(";")[0])


@pytest.fixture(scope="module")
def _lives(shop, tmp_path_factory, tables):
    slow = [one | {"TimeoutMilliseconds": 5000} for one in RECALLS]
    with Lives(shop, tmp_path_factory.mktemp("live"), slow, HologresConfs={"pg": {"DSN": tables.url}}) as lives:
        yield lives


@pytest.fixture
def lives(_lives, postgres):
    return _lives


def pairs(found):
    return [(id, score) for id, score, _ in found]


def test_lists_of_users_of_everyone_of_groups_and_of_items(lives):
    assert pairs(lives.items("custom")) == [("t1", 0.0), ("t2", 0.0)]
    assert lives.items("custom", uid="u9") == [] and lives.items("custom", uid="' or true --") == []
    assert pairs(lives.items("everyone")) == [("i000001", 3.0), ("b", 2.0), ("a", 1.0)]
    assert pairs(lives.items("by_rows")) == [("2", 2.5), ("3", 1.5)]
    assert pairs(lives.items("group", features={"tags": ["x", "y", "z"]})) == [("e", 9.0), ("f", 3.0)]
    assert lives.items("alike", item_id="i000001") == [("b", 2.0, "x"), ("a", 1.0, "x")]


def test_users_to_items_to_items_and_by_what_items_are(lives):
    assert pairs(lives.items("u2i2i")) == [("a", 2.0), ("b", 0.5), ("c", 0.125)]
    # k1 counts 2 and k2 counts 3: a is 2 + 3, b is 6, and t1 is the user's own.
    assert pairs(lives.items("u2x2i")) == [("b", 6.0), ("a", 5.0)]
    assert [id for id, _ in pairs(lives.items("topics"))] == ["a", "b", "c", "e"]


def test_recent_events_weigh_by_kind_and_those_played_too_shortly_do_not_count(lives):
    assert pairs(lives.items("recent")) == [("bought", 4.0), ("seen", 2.0)]


def test_events_fade_and_the_largest_weight_counts(lives):
    found = dict(pairs(lives.items("fading")))
    for item, ago in (("seen", 60), ("bought", 7200), ("glanced", 30)):
        assert found[item] == pytest.approx(math.exp(-ago / 3600), rel=0.02)


def test_triggers_of_one_kind_are_no_more_than_the_rule_says(lives):
    assert pairs(lives.items("diverse")) == [("seen", 2.0), ("glanced", 1.0)]


def test_items_like_recent_ones_by_the_best_or_in_turn(lives):
    """bought weighs 4, seen 2, glanced 1 with no row. x: max(4 * 0.5, 2 * 1)."""
    for _ in range(2):  # from the table, then from what is kept of it
        assert pairs(lives.items("similar")) == [("x", 2.0), ("z", 1.5), ("y", 1.0)]
    assert pairs(lives.items("in_turn")) == [("x", 2.0), ("z", 1.5), ("y", 1.0)]
    assert pairs(lives.items("pairs")) == [("11", 1.0), ("12", 0.5)]


def test_new_items_by_the_operators_own_clause(lives):
    assert len(found := lives.items("new")) == 2 and {id for id, *_ in found} <= {f"n{n}" for n in range(1, 6)}
    assert [id for id, *_ in lives.items("since")] == ["n1", "n2", "n3", "n4", "n5"]


def test_what_a_user_sends_is_a_value_and_never_sql(lives):
    features = {"town": "ulm", "start": "n1"}
    assert [id for id, *_ in lives.items("mine", features=features)] == ["n10", "n12"]
    assert lives.items("mine", features={"town": "köln", "start": "n9"}) == [("n9", 0.0, "mine")]
    for evil in ("' or '1' = '1", "'; drop table pf_items; --", "%s", "{0}", "${time}"):
        assert lives.items("mine", features={"town": evil, "start": "n"}) == []
    assert len(lives.items("mine", features={"town": "ulm", "start": ""})) == 5


def test_a_slow_server_is_named_in_the_answer_within_the_recalls_limit(shop, tmp_path, tables, postgres):
    dao = DAO | {"HologresTableName": "pf_slow_users"}
    with postgres.connect() as connection:
        connection.execute("create table if not exists pf_slow_users (user_id text, item_ids text)")
    try:
        with Lives(shop, tmp_path, [RECALLS[0] | {"DaoConf": dao}], HologresConfs={"pg": {"DSN": tables.url}}) as lives:
            with postgres.connect() as connection:
                connection.execute("lock table pf_slow_users in access exclusive mode")
                begin = time.monotonic()
                reply = lives.ask("custom")
                assert time.monotonic() - begin < 0.6 and reply.degraded == ["custom: timeout"]
            until = time.monotonic() + 10
            while lives.ask("custom").degraded:
                assert time.monotonic() < until, "the pool did not recover"
    finally:
        with postgres.connect() as connection:
            connection.execute("drop table pf_slow_users")


def test_a_server_that_was_restarted_is_asked_again_without_a_failure(lives, postgres):
    assert len(lives.items("everyone")) == 3
    postgres.kill()
    postgres.start()
    assert pairs(lives.items("u2i2i")) == [("a", 2.0), ("b", 0.5), ("c", 0.125)]


@pytest.mark.parametrize(
    ("place", "change", "says"),
    [
        (0, {"DaoConf": DAO | {"HologresTableName": "pf_nothing"}}, r'DaoConf: .*"pf_nothing" does not exist'),
        (0, {"DaoConf": DAO | {"HologresTableName": "pf_hot"}}, r'column "item_ids"|column "user_id" does not exist'),
        (0, {"DaoConf": DAO}, r"DaoConf\.HologresTableName: missing"),
        (0, {"DaoConf": DAO | {"HologresTableName": "x; drop table y"}}, r"expected a name as in SQL"),
        (0, {"DaoConf": DAO | {"HologresName": "gp", "HologresTableName": "x"}}, r'unknown name "gp" in HologresConfs'),
        (14, {"ColdStartDaoConf": NEW | {"WhereClause": "made > > 1"}}, "syntax error"),
        (14, {"ColdStartDaoConf": NEW | {"WhereClause": "a = ${x}"}}, r'placeholder "\$\{x\}"'),
        (8, real_time(WeightExpression="import os"), r"WeightExpression: invalid syntax"),
        (8, real_time(WeightExpression="eventTime.real"), r"cannot read 'eventTime.real'"),
        (8, real_time(EventWeight="buy=3"), r"EventWeight: expected EVENT:NUMBER"),
        (8, real_time(DiversityRules=[{"Dimensions": ["kind"], "Size": 1}]), "kind.*not among PropertyFields"),
        (8, real_time(PropertyFields=["nothing"]), r'column "nothing" does not exist'),
    ],
)  # fmt: skip
def test_what_the_server_would_refuse_is_refused_at_start(shop, tmp_path, tables, postgres, place, change, says):
    with pytest.raises(ConfigError, match=says):
        Lives(shop, tmp_path, [RECALLS[place] | change], HologresConfs={"pg": {"DSN": tables.url}})
