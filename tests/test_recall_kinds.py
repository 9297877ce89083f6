"""Recalls on what the snapshot and the request have, and those that cannot run here."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.recall.clause import Clause
from pairec_fast.recall.weight import Weight
from tests.lives import Lives

LOCAL = {"AdapterType": "local"}


def real_time(**fields):
    user = LOCAL | {key: fields.pop(key) for key in [*fields] if key not in ("Item2ItemTable", "MergeMode")}
    return {"RecallType": "RealTimeU2IRecall", "RecallCount": 30,
            "RealTimeUser2ItemDaoConf": {"UserTriggerDaoConf": user, **fields}}  # fmt: skip


RECALLS = [
    {"Name": "ContextItemRecall2", "RecallType": "ContextItemRecall"},
    {"Name": "mock", "RecallType": "MockRecall", "RecallCount": 30},
    {"Name": "cold", "RecallType": "ColdStartRecall", "RecallCount": 20, "ColdStartDaoConf": LOCAL,
     "FilterParams": [{"Name": "in_stock", "Operator": "equal", "Type": "int", "Value": 0}]},
    {"Name": "of_user", "RecallType": "ColdStartRecall", "RecallCount": 40, "ColdStartDaoConf": LOCAL,
     "FilterParams": [{"Name": "category", "Operator": "equal", "Type": "string", "Value": "user.wanted"}]},
    {"Name": "inner", "RecallType": "HologresVectorRecall", "RecallCount": 20, "VectorDaoConf": LOCAL,
     "HologresVectorConf": {"VectorTable": "als"}},
    {"Name": "like_item", "RecallType": "I2IVectorRecall", "RecallCount": 20, "VectorDaoConf": LOCAL,
     "HologresVectorConf": {"VectorTable": "als"}},
    {"Name": "own", "RecallType": "UserCustomRecall", "DaoConf": LOCAL | {"TableName": "gender"}},
    {"Name": "recent"} | real_time(TriggerCount=7),
    {"Name": "alike"} | real_time(TriggerCount=3, Item2ItemTable="i2i"),
    {"Name": "in_turn"} | real_time(TriggerCount=3, Item2ItemTable="i2i", MergeMode="snake"),
    {"Name": "diverse"} | real_time(PropertyFields=["category"],
                                    DiversityRules=[{"Dimensions": ["category"], "Size": 1}]),
    {"Name": "group", "RecallType": "UserGroupHotRecall", "RecallCount": 30,
     "Triggers": [{"TriggerKey": "gender"}], "DaoConf": LOCAL | {"TableName": "hot_by_group"}},
    {"Name": "composed", "RecallType": "UserGroupHotRecall", "RecallCount": 30,
     "Triggers": [{"TriggerKey": "g"}], "DaoConf": LOCAL | {"TableName": "hot_by_group"}},
    {"Name": "several", "RecallType": "ItemCollaborativeFilterRecall", "RecallCount": 30,
     "EnableMultipleItemId": True, "MultipleItemIdDelimiter": ";",
     "ItemCollaborativeDaoConf": LOCAL | {"Item2ItemTable": "i2i"}},
]  # fmt: skip


@pytest.fixture(scope="module")
def lives(shop, tmp_path_factory):
    usable = [one for one in RECALLS if one["Name"] != "composed"]
    with Lives(shop, tmp_path_factory.mktemp("live"), usable) as lives:
        yield lives


def row(lives, id):
    return lives.engine.snapshot.items.ids.find(id)


def ids(found):
    return [id for id, *_ in found]


def test_the_requests_own_items_keep_their_order_scores_and_properties(shop, tmp_path):
    given = [
        {"item_id": "i000003", "score": 0.5, "colour": "red"}, {"item_id": 7, "score": "2"}, {"item_id": ""},
        {"item_id": "stranger", "colour": "blue", "size": 4}, {"item_id": "i000003", "score": 9, "colour": "green"},
    ]  # fmt: skip
    fields = {"OutputFields": ["item:colour", "item:size", "item:category"]}
    conf = {"SceneConfs": {"s": {"default": {"RecallNames": ["ContextItemRecall"], **fields}}}, "SortNames": {"s": []}}
    with Lives(shop, tmp_path, [], **conf) as lives:
        reply = lives.ask("s", item_list=given)
        items = [(one.item_id, one.score, one.retrieve_id) for one in reply.items]
        own = "ContextItemRecall"
        assert items == [("i000003", 0.5, own), ("7", 2.0, own), ("stranger", 0.0, own)]
        extra = [one.extra for one in reply.items]
        assert [(one["colour"], one["size"]) for one in extra] == [("red", None), (None, None), ("blue", 4)]
        assert extra[0]["category"] is not None and extra[2]["category"] is None


def test_mock_items_are_random_32_bit_ids_that_a_request_repeats(lives):
    found = lives.items("mock", request_id="r1")
    assert len(found) == 30 and all(0 <= int(id) < 1 << 32 and 0 <= score < 1 for id, score, _ in found)
    assert found == lives.items("mock", request_id="r1") != lives.items("mock", request_id="r2")


def test_cold_items_are_drawn_from_those_that_meet_the_conditions(lives):
    items = lives.engine.snapshot.items
    out = {items.ids.id(at) for at in np.flatnonzero(items.columns["in_stock"].values[: len(items)] == 0)}
    one, other = (ids(lives.items("cold", request_id=request)) for request in ("r1", "r2"))
    assert set(one) <= out and len(set(one)) == 20 < len(out) and set(one) != set(other)
    kind = items.columns["category"].value(0)
    found = ids(lives.items("of_user", features={"wanted": kind}))
    assert found and {items.columns["category"].value(row(lives, id)) for id in found} == {kind}
    assert lives.items("of_user", features={"wanted": "nothing of that"}) == []


def test_vectors_of_the_snapshot_serve_what_hologres_would(lives):
    snapshot = lives.engine.snapshot
    vectors = snapshot.vectors["als"]
    found = lives.items("inner", size=20)
    user = vectors.users[snapshot.users.ids.find("u00007")]
    scores = vectors.items[: len(snapshot.items)] @ user
    assert [score for _, score, _ in found] == sorted((score for _, score, _ in found), reverse=True)
    assert found[0][1] == pytest.approx(scores.max(), rel=1e-4)
    assert ids(lives.items("like_item", item_id=found[0][0]))[0] == found[0][0]
    assert lives.items("inner", uid="nobody") == [] and lives.items("like_item", item_id="nowhere") == []


def test_a_text_column_of_users_may_hold_lists(lives):
    """The demo's only texts are no lists of its items; what they name are guests, where there is room for them."""
    gender = lives.engine.snapshot.users.columns["gender"].value(lives.engine.snapshot.users.ids.find("u00007"))
    assert gender and lives.items("own") in ([], [(gender, 0.0, "own")])


def history(lives, uid="u00007"):
    snapshot = lives.engine.snapshot
    return snapshot.history.of(snapshot.users.ids.find(uid))[::-1].tolist()


def test_a_local_history_is_taken_newest_first(lives):
    newest = history(lives)[:7]
    assert [row(lives, id) for id, *_ in lives.items("recent")] == newest
    shown = lives.items("recent", features={"history": "i000001,i000002"})
    assert ids(shown)[:2] == ["i000002", "i000001"]


def test_items_like_a_local_history_score_by_the_nearest(lives):
    table = lives.engine.snapshot.neighbours["i2i"]
    best: dict[int, float] = {}
    lists = []
    for trigger in history(lives)[:3]:
        span = slice(table.offset[trigger], table.offset[trigger + 1])
        lists.append(list(zip(table.neighbour[span].tolist(), table.weight[span].tolist(), strict=True)))
        for other, weight in lists[-1]:
            best[other] = max(best.get(other, -1.0), weight)
    expected = sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))[:30]
    assert [(row(lives, id), score) for id, score, _ in lives.items("alike")] == expected
    first = [one[0][0] for one in lists if one]
    assert [row(lives, id) for id, *_ in lives.items("in_turn")][:1] == first[:1]
    assert len(set(ids(lives.items("in_turn")))) == min(30, len(best))


def test_a_local_history_of_many_kinds_keeps_the_newest_of_each(lives):
    kinds = lives.engine.snapshot.items.columns["category"]
    newest = {}
    for trigger in history(lives):
        newest.setdefault(kinds.value(trigger), trigger)
    assert [row(lives, id) for id, *_ in lives.items("diverse")] == list(newest.values())[:30]


def test_items_like_several_of_the_request_are_summed(lives):
    ids_of, table = lives.engine.snapshot.items.ids, lives.engine.snapshot.neighbours["i2i"]
    pair = [at for at in range(table.items) if table.offset[at + 1] > table.offset[at]][:2]
    names = [ids_of.id(at) for at in pair]
    total: dict[int, float] = {}
    for at in pair:
        span = slice(table.offset[at], table.offset[at + 1])
        for other, weight in zip(table.neighbour[span].tolist(), table.weight[span].tolist(), strict=True):
            total[other] = total.get(other, 0.0) + weight
    found = lives.items("several", item_id=";".join([*names, "nowhere"]))
    expected = sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))[:30]
    assert [row(lives, id) for id, *_ in found] == [at for at, _ in expected]
    assert [score for _, score, _ in found] == pytest.approx([weight for _, weight in expected], rel=1e-6)
    assert lives.items("several", item_id="nowhere;") == []


def test_a_group_is_named_by_the_users_column_or_by_the_request(lives):
    known = lives.items("group")
    gender = lives.engine.snapshot.users.columns["gender"].value(lives.engine.snapshot.users.ids.find("u00007"))
    assert known and lives.items("group", uid="nobody", features={"gender": gender}) == known
    both = lives.items("group", uid="nobody", features={"gender": ["female", "male"]})
    scores = [score for _, score, _ in both]
    assert len(both) == 30 and scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("composed", {}, r'Triggers: the list is by "gender", the triggers are \[\'g\'\]'),
        ("group", {"Triggers": []}, r"Triggers: missing"),
        ("group", {"Triggers": [{"TriggerKey": "gender", "Boundaries": [3, 1]}]}, r"\[0\]\.Boundaries:? must ascend"),
        ("group", {"DaoConf": LOCAL | {"TableName": "hot"}}, r"the list is of everyone"),
        ("own", {"DaoConf": LOCAL | {"TableName": "age"}}, r"users\.age is a number; expected texts"),
        ("inner", {"VectorDaoConf": {"AdapterType": "hologres"}}, r'AdapterType: "hologres".*use "local"'),
        ("inner", {"RecallType": "HologresVectorRecallV2"}, r'its index is of metric "\w+"; expected l2'),
        ("inner", {"HologresVectorConf": {"VectorTable": "asl"}}, r'did you mean "als"'),
        ("inner", {"HologresVectorConf": {"VectorTable": "als", "WhereClause": "a = 1"}}, r'"HnswRecall" with Where'),
        ("cold", {"ColdStartDaoConf": LOCAL | {"WhereClause": "a = 1"}}, r"with \"local\" use FilterParams"),
        ("mock", {"RecallCount": 0}, r"RecallConfs\.mock\.RecallCount:? must be positive"),
        ("recent", real_time(EventWeight="buy:2"), r"EventWeight: a local history has items alone"),
        ("alike", real_time(Item2ItemTable="i2j"), r'did you mean "i2i"'),
        ("diverse", real_time(PropertyFields=["kind"]), r'has no "kind"'),
    ],
)  # fmt: skip
def test_what_a_snapshot_does_not_have_is_refused(shop, tmp_path, name, change, says):
    (base,) = (one for one in RECALLS if one["Name"] == name)
    with pytest.raises(ConfigError, match=says):
        Lives(shop, tmp_path, [base | change])


CLOUD = [
    "VectorRecall",
    "OnlineVectorRecall",
    "OnlineHologresVectorRecall",
    "MilvusVectorRecall",
    "BeRecall",
    "RecallEngineRecall",
]


@pytest.mark.parametrize("kind", CLOUD)
def test_a_recall_of_the_cloud_brings_nothing_and_the_others_what_they_did(shop, tmp_path, kind):
    entry = {"Name": "c", "RecallType": kind, "RecallCount": 10, "DaoConf": {"AdapterType": "be"}}
    with Lives(shop, tmp_path, [entry]) as lives:
        assert lives.items("c") == []


def test_lmdb_holds_lists_by_key(shop, tmp_path):
    pytest.importorskip("lmdb")
    from tests.test_store_lmdb import write

    write(tmp_path / "lists", "u00007=i000001::2,stranger::3", "-1=i000002")
    dao = {"AdapterType": "lmdb", "TableName": str(tmp_path / "lists")}
    recalls = [{"Name": "custom", "RecallType": "UserCustomRecall", "DaoConf": dao},
               {"Name": "everyone", "RecallType": "UserGlobalHotRecall", "DaoConf": dao}]  # fmt: skip
    with Lives(shop, tmp_path, recalls) as lives:
        assert lives.items("custom") == [("i000001", 2.0, "custom"), ("stranger", 3.0, "custom")]
        assert ids(lives.items("everyone")) == ["i000002"]
        write(tmp_path / "lists", "u00007=i000004")
        assert ids(lives.items("custom")) == ["i000004"]
    nowhere = [recalls[0] | {"DaoConf": dao | {"TableName": str(tmp_path / "nowhere")}}]
    with pytest.raises(ConfigError, match="nowhere: cannot be opened as an LMDB environment"):
        Lives(shop, tmp_path, nowhere)


def test_placeholders_become_parameters_also_inside_of_quotes():
    clause = Clause("a = '${user.x}' and b like '50%${context.features.y}''s' and c > ${time} and d % 2 = 0", "w")
    assert clause.sql == "a = %s and b like ('50%%' || %s::text || '''s') and c > %s and d %% 2 = 0"
    assert clause.args(9, {"x": 1.5}, {"y": None}) == ["1.5", "", 9] and clause.asks_user
    assert Clause("x = '${time}'", "w").sql == "x = %s" and not Clause("x > '${time}'", "w").asks_user
    assert Clause("", "w").sql == ""


def test_weights_fade_and_what_is_no_number_weighs_nothing():
    then = np.array([100.0, 40.0])
    fading = Weight("exp((eventTime-currentTime)/60) * 2 ** 1", "w")(100.0, then)
    assert fading == pytest.approx([2.0, 2 * np.exp(-1)])
    assert Weight("", "w")(100.0, then).tolist() == [1.0, 1.0]
    assert Weight("1 / (currentTime - 100)", "w")(100.0, then).tolist() == [0.0, 0.0]
    for text in (
        "x",
        "eventTime.a",
        "__import__('os')",
        "[1]",
        "1 if 2 else 3",
        "exp()",
        "1;2",
        "(" * 200,
        "'a'",
        "1 +",
    ):
        with pytest.raises(ConfigError, match="w: "):
            Weight(text, "w")
