"""Sorts as a configuration binds them: what each reads, where its parameters come from, what it refuses."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pairec_fast.binding import Binding, Loading
from pairec_fast.core import Arena, add, in_order
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.rerank.values import as_numbers, coded, item_text, joined
from pairec_fast.snapshot import Snapshot
from tests.contract.sorts import Walk, snapshot, stage_of
from tests.sorts import equal, given, scores, sorted_by

PRICES = [
    ["a", 3.0, "r", {"price": 2.0}],
    ["b", 5.0, "r"],
    ["c", 1.0, "r", {"price": "4"}],
    ["d", 9.0, "r", {"price": "x"}],
]


# by a number


def test_by_score_equal_scores_stay_and_nan_goes_last():
    items = [["a", 1.0, "r"], ["b", float("nan"), "r"], ["c", 2.0, "r"], ["d", 1.0, "r"]]
    assert sorted_by({"SortType": "ItemRankScore"}, items, last=False)[0] == ["c", "a", "d", "b"]
    assert sorted_by({"SortType": "ItemRankScore"}, items, size=2, last=True)[0] == ["c", "a"], "as many as are shown"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("asc", ["d", "a", "c", "b"]),
        ("AsC", ["d", "a", "c", "b"]),
        ("desc", ["b", "c", "a", "d"]),
        ("?", ["b", "c", "a", "d"]),
    ],
)
def test_a_field_is_read_as_a_number_and_where_it_is_missing_the_score_is(order, expected):
    """Numeric text counts, other text is 0; b has no price and counts by its score, 5."""
    sort = {"SortType": "CustomFieldSort", "SortByField": "price", "SortOrder": order}
    assert sorted_by(sort, PRICES)[0] == expected


def test_an_algorithms_output_is_found_before_a_property():
    walk = Walk(PRICES, {}, 4, {})
    walk.arena.algo_score[0, :4] = [1.0, 2.0, 3.0, 4.0]
    stage_of({"SortType": "CustomFieldSort", "SortByField": "price"}, walk.binding(outputs=["price"]))(
        walk.query, walk.arena
    )
    assert walk.order() == [3, 2, 1, 0]


def test_an_algorithms_score_decides_unless_scores_are_above_the_threshold():
    sort = {"SortType": "AlgoScoreSort", "SortByField": "price", "SwitchThreshold": 9.0}
    assert sorted_by(sort, PRICES)[0] == ["b", "c", "a", "d"]
    assert sorted_by(sort | {"SwitchThreshold": 8.9}, PRICES)[0] == ["d", "b", "a", "c"]
    assert sorted_by({"SortType": "AlgoScoreSort"}, [])[0] == []


# scores


def test_the_first_boost_that_holds_counts_or_all_one_after_the_other():
    sort = {
        "SortType": "BoostScoreSort",
        "BoostScoreConditions": [
            {"Conditions": [equal("tag", "x")], "Expression": "score + 10"},
            {"Conditions": [], "Expression": "score * price"},
        ],
    }
    items = [["a", 1.0, "r", {"tag": "x", "price": 2.0}], ["b", 2.0, "r", {"tag": "y", "price": 3.0}], ["c", 4.0, "r"]]
    assert scores(sorted_by(sort, items)[1]) == [11.0, 6.0, 4.0], "c has no price, so nothing is computed for it"
    everywhere = sorted_by(sort | {"BoostScoreConditionsFilterAll": True, "Debug": True}, items)[1]
    assert scores(everywhere) == [22.0, 6.0, 4.0]
    assert given(everywhere, "org_score")[:2] == [11.0, 2.0], "the score before the last boost"


def test_what_is_no_double_boosts_nothing():
    for expression in ("'text'", "score > 0", "hash(tag)"):
        sort = {"SortType": "BoostScoreSort", "BoostScoreConditions": [{"Expression": expression}]}
        assert scores(sorted_by(sort, [["a", 1.5, "r", {"tag": "x"}]])[1]) == [1.5]


def test_an_expression_that_is_none_is_refused_with_its_place():
    sort = {"SortType": "BoostScoreSort", "BoostScoreConditions": [{"Expression": "score"}, {"Expression": "score *"}]}
    with pytest.raises(ConfigError, match=r"^SortConfs\.case\.BoostScoreConditions\[1\]\.Expression: "):
        sorted_by(sort, [])


def test_a_weight_of_the_items_multiplies_and_who_has_none_keeps_its_score(shared_world):
    stored = Snapshot.load(shared_world.parent / "snapshots", guests=2)
    number = next(
        name for name, one in stored.items.columns.items() if one.kind == "number" and one.values.dtype.kind == "f"
    )
    query = Query(stored, "u", 3, {}, history_max=1, places=3)
    rows = np.array([0, 1, query.row("nobody")], np.int32)
    arena = Arena(3, items_max=stored.overlay.capacity)
    arena.follow(stored.overlay)
    add(arena, rows, np.ones(3), 0)
    arena.score[:3] = 2.0
    in_order(arena)
    dao = {"AdapterType": "local", "WeightFieldName": number}
    stage_of({"SortType": "BoostScoreByWeight", "BoostScoreByWeightDao": dao}, Binding(stored))(query, arena)
    weights = [stored.items.columns[number].value(row) for row in (0, 1)]
    assert arena.score[:3].tolist() == [2.0 * (1.0 if weight is None else weight) for weight in weights] + [2.0]
    for change, message in (
        ({"AdapterType": "tablestore"}, '"hologres" would be right'),
        ({"WeightFieldName": "nope"}, r'WeightFieldName: the snapshot has no "nope"'),
        ({"WeightFieldName": "category"}, "holds texts, not numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            stage_of({"SortType": "BoostScoreByWeight", "BoostScoreByWeightDao": dao | change}, Binding(stored))


# marks and choices


def test_distinct_ids_are_positions_until_a_condition_holds():
    """Upstream writes the position under the name of each condition it tries; one that held ends the trying."""
    sort = {
        "SortType": "DistinctIdSort",
        "DistinctIdConditions": [
            {"DistinctId": 70, "Conditions": [equal("tag", "x")]},
            {"DistinctId": 80, "Conditions": [equal("tag", "y")], "DistinctIdName": "other"},
        ],
    }
    ids, walk = sorted_by(sort, [["a", 1.0, "r", {"tag": "y"}], ["b", 2.0, "r", {"tag": "x"}], ["c", 3.0, "r"]])
    assert ids == ["a", "b", "c"]
    assert given(walk, "__distinct_id__") == [1.0, 70.0, 3.0]
    assert given(walk, "other")[0] == 80.0 and given(walk, "other")[2] == 3.0


class Waits:
    """A sort that loads."""

    name, timeout = "waits", 0.25

    def __init__(self):
        self.loaded = 0

    async def load(self, query, arena):
        self.loaded += 1

    def __call__(self, query, arena):
        assert self.loaded


def test_a_sort_chosen_by_the_user_loads_if_it_is_one_that_loads():
    confs = {"SortConfs": [{"Conditions": [equal("vip", "1", "user")], "SortName": "slow"}], "DefaultSortName": "fast"}
    slow, called = Waits(), []
    sorts = {"slow": slow, "fast": lambda query, arena: called.append("fast")}
    for user, expected in (({"vip": "1"}, 1), ({"vip": "0"}, 1)):
        walk = Walk([], user, 1, {})
        stage = stage_of({"SortType": "ConditionSort", "ConditionSortConfs": confs}, walk.binding(sort=sorts.get))
        assert isinstance(stage, Loading) and stage.timeout == 0.25
        asyncio.run(stage.load(walk.query, walk.arena))
        stage(walk.query, walk.arena)
        assert slow.loaded == expected
    assert called == ["fast"]


def test_an_entry_without_conditions_is_never_chosen():
    confs = {"SortConfs": [{"Conditions": [], "SortName": "first"}], "DefaultSortName": "default"}
    called = []
    walk = Walk([], {}, 1, {})
    named = {name: (lambda query, arena, name=name: called.append(name)) for name in ("first", "default")}
    stage_of({"SortType": "ConditionSort", "ConditionSortConfs": confs}, walk.binding(sort=named.get))(
        walk.query, walk.arena
    )
    assert called == ["default"]


# diversity


TAGS = {"SortType": "DiversityRuleSort", "DiversityRules": [{"Dimensions": ["tag"], "IntervalSize": 1}]}


def test_diversity_runs_for_users_who_meet_the_conditions():
    items = [["a", 3.0, "r", {"tag": "x"}], ["b", 2.0, "r", {"tag": "x"}], ["c", 1.0, "r", {"tag": "y"}]]
    sort = TAGS | {"Conditions": [equal("vip", "1", "user")]}
    assert sorted_by(sort, items, user={"vip": "1"})[0] == ["a", "c", "b"]
    assert sorted_by(sort, items, user={"vip": "2"})[0] == ["a", "b", "c"]
    assert sorted_by(TAGS | {"ExcludeRecalls": ["s"]}, [[id, score, "s", more] for id, score, _, more in items])[0] == [
        "a",
        "b",
        "c",
    ]


def test_numbers_are_compared_by_their_integer_part_and_what_has_no_text_as_missing():
    items = [
        ["a", 4.0, "r", {"tag": 3.9}],
        ["b", 3.0, "r", {"tag": 3}],
        ["c", 2.0, "r", {"tag": True}],
        ["d", 1.0, "r"],
    ]
    assert sorted_by(TAGS, items)[0] == ["a", "c", "b", "d"]


def test_an_exclusion_without_conditions_excludes_nobody():
    items = [["a", 2.0, "r", {"tag": "x"}], ["b", 1.0, "r", {"tag": "y"}]]
    assert sorted_by(TAGS | {"ExclusionRules": [{"Positions": [1]}]}, items)[0] == ["a", "b"]
    rule = {"Positions": [1, -5, 10**9], "Conditions": [equal("tag", "x")]}
    assert sorted_by(TAGS | {"ExclusionRules": [rule]}, items)[0] == ["b", "a"]


def test_joined_texts_meet_where_the_dimensions_do_not_unless_one_has_several_values():
    """`p_q` with `r` and `p` with `q_r` are one text for PAI-Rec; compared dimension by dimension they differ."""
    items = [["a", 3.0, "r", {"x": "p_q", "y": "r"}], ["b", 2.0, "r", {"x": "p", "y": "q_r"}], ["c", 1.0, "r"]]
    sort = {"SortType": "DiversityRuleSort", "DiversityRules": [{"Dimensions": ["x", "y"], "IntervalSize": 1}]}
    assert sorted_by(sort, items)[0] == ["a", "c", "b"]
    several = {"MultiValueDimensionConf": [{"DimensionName": "z", "Delimiter": "/"}]}
    assert sorted_by(sort | several, items)[0] == ["a", "b", "c"]


def test_a_delimiter_must_not_be_empty():
    with pytest.raises(ConfigError, match="Delimiter must not be empty"):
        sorted_by(TAGS | {"MultiValueDimensionConf": [{"DimensionName": "tag"}]}, [])


@pytest.mark.parametrize("several", [[], [{"DimensionName": "category", "Delimiter": "a"}]])
@pytest.mark.parametrize("names", [["category"], ["category", "in_stock"], ["in_stock"], ["in_stock", "brand"]])
def test_columns_of_the_items_numbered_at_bind_sort_as_those_of_the_request(names, several):
    """The same items twice: by the columns of the snapshot, and by properties that the request gives over them."""
    stored, rng = snapshot(), np.random.default_rng(len(names))
    rows = rng.permutation(len(stored.items))[:80].astype(np.int32)
    conf = TAGS | {
        "DiversityRules": [{"Dimensions": names, "IntervalSize": 1, "WindowSize": 6, "FrequencySize": 2}],
        "MultiValueDimensionConf": several,
    }
    orders = []
    for by_request in (False, True):
        query = Query(stored, "u", 80, {}, history_max=1, places=80)
        arena = Arena(80, items_max=stored.overlay.capacity)
        arena.follow(stored.overlay)
        add(arena, rows, np.zeros(80), 0)
        in_order(arena)
        if by_request:
            for name in names:
                query.given.put(name, arena.place[:80], query.properties(arena)[name])
        stage_of(conf, Binding(stored, ["r"]))(query, arena)
        orders.append(arena.order[: arena.order_count].tolist())
    assert orders[0] == orders[1] != list(range(80))


def test_a_guest_has_no_text_in_any_column():
    """Not even in one of whole numbers, whose rows of guests hold a 0: guests are alike, a guest and a 0 are not."""
    stored = snapshot()
    gone = np.flatnonzero(stored.items.columns["in_stock"].values[: len(stored.items)] == 0)[:2]
    query = Query(stored, "u", 4, {}, history_max=1, places=4)
    arena = Arena(4, items_max=stored.overlay.capacity)
    arena.follow(stored.overlay)
    rows = [query.row("guest 1"), query.row("guest 2"), *gone.tolist()]
    add(arena, np.array(rows, np.int32), np.zeros(4), 0)
    in_order(arena)
    sort = TAGS | {"DiversityRules": [{"Dimensions": ["in_stock"], "IntervalSize": 1}]}
    stage_of(sort, Binding(stored, ["r"]))(query, arena)
    assert arena.order[:4].tolist() == [0, 2, 1, 3]


# mix


def test_places_may_stand_in_a_property_and_conditions_or_recalls_let_in():
    items = [[str(at), 9.0 - at, "r2", {"at": 6.0 - at}] for at in range(6)]
    rule = {"MixStrategy": "fix_position", "PositionField": "at", "Number": 2, "RecallNames": ["r2"]}
    assert sorted_by({"SortType": "MultiRecallMixSort", "MixSortRules": [rule]}, items)[0] == [
        "2",
        "3",
        "4",
        "5",
        "1",
        "0",
    ]
    rule = {"MixStrategy": "fix_position", "Positions": [1], "RecallNames": ["r9"], "Conditions": [
        {"Name": "at", "Operator": "equal", "Type": "int", "Value": 1}]}  # fmt: skip
    assert sorted_by({"SortType": "MultiRecallMixSort", "MixSortRules": [rule]}, items)[0][:2] == ["5", "0"]


def test_what_is_random_is_drawn_from_the_request_id():
    items = [[str(at), 40.0 - at, "r1" if at > 20 else "r2"] for at in range(40)]
    sort = {"SortType": "MultiRecallMixSort", "MixSortRules": [
        {"MixStrategy": "random_position", "NumberRate": 0.25, "RecallNames": ["r1"]}]}  # fmt: skip
    seen = set()
    for request_id in ("a", "a", "b", "c", "d"):
        walk = Walk(items, {}, 20, {})
        walk.query.request_id = request_id
        stage_of(sort, walk.binding())(walk.query, walk.arena)
        seen.add((request_id, tuple(walk.order())))
        assert sum(slot > 20 for slot in walk.order()) == 5
    assert len(seen) == 4 and len({order for _, order in seen}) > 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"MixStrategy": "fix_position", "Positions": [2, 0]},
            r"MixSortRules\[0\]\.Positions: 0; positions count from 1",
        ),
        ({"MixStrategy": "fixed"}, 'expected one of "fix_position", "random_position", got text "fixed"'),
    ],
)
def test_rules_that_cannot_be_are_refused(rule, message):
    with pytest.raises(ConfigError, match=message):
        sorted_by({"SortType": "MultiRecallMixSort", "MixSortRules": [rule]}, [])


# in an engine


def test_a_section_of_its_own_defines_sorts_by_dpp(world):
    world.conf["DPPConf"] = [{"Name": "unlike", "TableName": "als", "DaoConf": {"AdapterType": "local"},
                              "EmbMissedThreshold": 1.0, "Alpha": 1.0}]  # fmt: skip
    world.conf["SortNames"] = {"default": ["ItemRankScore", "unlike"]}
    with world.engine() as engine:
        assert not [line for line in engine.config.unused if "DPPConf" in line]
        reply = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": 12})
    world.conf["SortNames"] = {"default": ["ItemRankScore"]}
    with world.engine() as engine:
        assert any("DPPConf" in line for line in engine.config.warnings), "defined, and no scene uses it"
        best = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": 12})
    ids, by_score = ([item.item_id for item in one.items] for one in (reply, best))
    assert len(set(ids)) == 12 and ids[0] == by_score[0] and ids != by_score
    for entries, message in (
        ([{}], r"DPPConf\[0\]: Name is missing"),
        (
            [{"Name": "spread"}, {"Name": "x"}, {"Name": "x"}],
            r'DPPConf\[2\]\.Name: "x" is already the name of DPPConf\[1\]',
        ),
        ([{"Name": "y", "Alpha": "1"}], r"DPPConf\[0\]\.Alpha: expected a number, got text"),
    ):
        world.conf["DPPConf"] = entries
        with pytest.raises(ConfigError, match=message):
            world.engine()


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_sorts_read_what_the_algorithms_of_the_scene_give(world, order):
    """By the model's own output, whatever RankScore made of it."""
    world.conf["RankConf"]["home_feed"]["RankScore"] = "${ranker} * 0"
    world.scene["list"] = {"RecallNames": ["ContextItemRecall"], "OutputFields": ["score:*"]}
    world.conf["SortConfs"] = [
        {"Name": "o", "SortType": "CustomFieldSort", "SortByField": "ranker", "SortOrder": order}
    ]
    world.conf["SortNames"] = {"home_feed": ["o"]}
    listed = [{"item_id": f"i{at:06}"} for at in range(20)]
    request = {"uid": "u00042", "scene_id": "home_feed", "category": "list", "size": 20, "item_list": listed}
    with world.engine() as engine:
        items = engine.recommend(request).items
    given = [item.extra["algo_scores"]["ranker"] for item in items]
    assert len(set(given)) > 5 and {item.score for item in items} == {0.0}
    assert given == sorted(given, reverse=order == "desc")


def test_a_sort_in_the_general_rank_finds_all_candidates_and_loses_none(world):
    """Nothing is in order yet when it comes, and what it leaves out goes."""
    world.conf["SortConfs"] = [{"Name": "dear", "SortType": "CustomFieldSort", "SortByField": "price"}]
    world.conf["SortNames"] = {"default": ["same"]}
    world.conf["SortConfs"].append({"Name": "same", "SortType": "ConditionSort", "ConditionSortConfs": {}})
    request = {"uid": "u00042", "scene_id": "home_feed", "size": 50}
    found = []
    for actions in ([], [{"ActionType": "sort", "ActionName": "dear"}]):
        world.conf["GeneralRankConfs"] = {"home_feed": {"ActionConfs": actions}}
        with world.engine() as engine:
            prices = engine.snapshot.items.columns["price"]
            rows = [engine.snapshot.items.ids.find(item.item_id) for item in engine.recommend(request).items]
            found.append([prices.value(row) for row in rows])
    assert len(found[0]) == len(found[1]) == 50
    assert found[1] == sorted(found[1], reverse=True) and found[1][0] >= max(found[0]) and found[0] != found[1]


def test_traffic_control_moves_nobody_and_says_so(world):
    world.conf["SortConfs"] = [{"Name": "o", "SortType": "TrafficControlSort", "PIDConf": {"DefaultKp": 1.0}}]
    world.conf["SortNames"] = {"default": ["ItemRankScore", "o"]}
    with world.engine() as engine:
        assert any("TrafficControlSort needs a service of the cloud" in line for line in engine.config.unused)
        items = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": 5}).items
    assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)


# what they read


def test_texts_of_properties_are_pai_recs():
    assert [item_text(value) for value in ("x", 3, 3.9, -3.9, True, None, [1], 1e300)] == [
        "x", "3", "3", "-3", "", "", "", str(-(2**63))
    ]  # fmt: skip


def test_codes_are_equal_where_texts_are():
    codes, texts = coded((np.array([0, 1, 2, -1, 3], np.int32), ["3", 3.5, "", 4]), 5)
    assert [texts[code] for code in codes] == ["3", "3", "", "", "4"]
    codes, texts = coded(np.array([3.9, 3.1, np.nan]), 3)
    assert [texts[code] for code in codes] == ["3", "3", ""]
    assert coded(None, 2)[1] == [""]
    codes, texts = joined([coded(np.array([1, 2, 1]), 3), (np.array([0, 0, 1], np.int32), ["a", "b"])])
    assert [texts[code] for code in codes] == ["1_a", "2_a", "1_b"]


def test_numbers_of_columns_are_pai_recs():
    default = np.array([7.0, 8.0, 9.0, 10.0])
    column = (np.array([0, 1, 2, -1], np.int32), ["0x1p4", "no", True])
    assert as_numbers(column, default).tolist() == [16.0, 0.0, 0.0, 10.0]
    assert as_numbers(np.array([1.5, np.nan, 2, 3]), default).tolist() == [1.5, 8.0, 2.0, 3.0]
    assert as_numbers(np.array([True, False]), default[:2]).tolist() == [0.0, 0.0]
