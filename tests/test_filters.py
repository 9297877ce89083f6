"""Bound filters: what they keep of a request's candidates, and what they refuse at load."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.filter import KINDS, sees_repeats
from pairec_fast.filter.kind import text_codes
from pairec_fast.filter.snake import Visits
from pairec_fast.query import Query
from pairec_fast.snapshot import Texts
from tests.contract.filters import Case, parsed


def left(conf, items, user=None, *, first=(), filters=None, params=None, request_id="r1"):
    """The answer of a filter, after the filters `first`."""
    case = Case(items, user or {}, request_id)
    case.query.params = params or {}
    for one in (*first, conf):
        case.run(parsed({"Name": "f"} | one).bind(case.binding(filters)))
    return case.answer()


def refused(conf, sources=("a",), **binding):
    with pytest.raises(ConfigError) as error:
        parsed({"Name": "f"} | conf).bind(Case([["x", 1.0, source] for source in sources], {}).binding(**binding))
    return str(error.value)


def ids(count, recall="a", **properties):
    return [[f"{recall}{place}", float(count - place), recall] for place in range(count)]


UNIQUE = {"FilterType": "UniqueFilter"}


def adjust(*confs, kind="PriorityAdjustCountFilter", **more):
    return {"FilterType": kind, "AdjustCountConfs": list(confs), **more}


def recall(name, count, type="fix"):
    return {"RecallName": name, "Count": count, "Type": type}


def test_every_filter_type_of_pairec_is_known():
    from pairec_fast.config.kinds import STAGES

    assert set(STAGES["filter"].known) - set(KINDS) == set()


# Order and number


def test_a_shuffle_is_the_requests_own_and_can_be_repeated():
    conf = {"FilterType": "AdjustCountFilter", "RetainNum": 5, "ShuffleItem": True}
    kept = [tuple(left(conf, ids(100), request_id=f"r{at}")["ids"]) for at in range(8)]
    assert len(set(kept)) == 8 and kept[3] == tuple(left(conf, ids(100), request_id="r3")["ids"])
    assert left({**conf, "ShuffleItem": False}, ids(100))["ids"] == [f"a{place}" for place in range(5)]


def test_two_filters_of_one_request_do_not_draw_the_same():
    conf = {"FilterType": "AdjustCountFilter", "RetainNum": 20, "ShuffleItem": True}
    assert left(conf | {"Name": "one"}, ids(100))["ids"] != left(conf | {"Name": "two"}, ids(100))["ids"]


def test_scores_of_rank_decide_where_there_are_some():
    """Within a general rank a filter sees what the rank gave, not what recall gave."""
    case = Case([["x", 9.0, "a"], ["y", 1.0, "b"], ["z", 5.0, "a"]], {})
    case.arena.scored = True
    case.arena.score[:3] = [1, 2, 3]
    case.run(parsed({"Name": "f", "FilterType": "CompletelyFairFilter", "RetainNum": 2}).bind(case.binding()))
    assert case.answer()["ids"] == ["z", "y"]
    assert case.answer()["scores"] == [3.0, 2.0]


def test_recalls_that_no_entry_names_are_dropped():
    kept = left(adjust(recall("b", 2), recall("nobody", 5)), [*ids(3, "a"), *ids(3, "b")])
    assert kept["ids"] == ["b0", "b1"]


def test_an_entry_without_type_is_refused():
    told = refused(adjust({"RecallName": "a", "Count": 3}))
    assert told == 'FilterConfs.f.AdjustCountConfs[0].Type: missing; it is "fix" or "accumulator"'
    assert "empty; nothing would stay" in refused(adjust(kind="PriorityAdjustCountFilterV2"))


@pytest.mark.parametrize("count", [-1, 2**31])
def test_a_count_that_is_none_is_refused_with_its_place(count):
    with pytest.raises(ConfigError, match=rf"AdjustCountConfs\[0\].Count: expected .*, got {count}"):
        parsed({"Name": "f", **adjust(recall("a", count))})


def spread(count, **more):
    dao = {"AdapterType": "local", "DistinctFields": ["kind"]}
    return adjust(recall("a", count, "accumulator"), DiversityDaoConf=dao, **more)


def kinds(*values):
    return [[f"i{place}", float(len(values) - place), "a", {"kind": value}] for place, value in enumerate(values)]


@pytest.fixture
def with_kind(monkeypatch):
    """The snapshot of a case has a column `kind`, of which the request's own values are given."""
    from tests.contract import filters

    plain = filters.without_items

    def with_column(guests):
        snapshot = plain(guests)
        snapshot.items.columns["kind"] = filters.nothing_known(snapshot.overlay.capacity)
        return snapshot

    monkeypatch.setattr(filters, "without_items", with_column)


def test_no_value_takes_more_than_its_share_and_one(with_kind):
    items = kinds(*"aaaaaaaabb")
    assert left(spread(6, EnsureDiversity=True, DiversityMinCount=1), items)["ids"] == [
        "i0",
        "i1",
        "i2",
        "i3",
        "i4",
        "i8",
    ]
    assert left(spread(6), items)["ids"] == [f"i{place}" for place in range(6)]


def test_the_experiment_decides_over_diversity(with_kind):
    items = kinds(*"aaaaaaaabb")
    on = left(spread(6), items, params={"ensure_diversity_min_count": "1"})
    assert on["ids"] == ["i0", "i1", "i2", "i3", "i4", "i8"]
    off = left(spread(6, EnsureDiversity=True, DiversityMinCount=1), items, params={"ensure_diversity_min_count": 0})
    assert off["ids"] == [f"i{place}" for place in range(6)]


def test_missing_values_are_one_value_the_text_null(with_kind):
    items = kinds("null", "null", "null", "b", "b", "b")
    del items[1][3]["kind"]
    kept = left(spread(4, EnsureDiversity=True, DiversityMinCount=1), items)
    assert kept["ids"] == ["i0", "i1", "i2", "i3"]  # a quota of two and one


def test_diversity_without_fields_to_spread_is_refused():
    told = refused(adjust(recall("a", 3), EnsureDiversity=True))
    assert told.startswith("FilterConfs.f.DiversityDaoConf: missing, and EnsureDiversity is true")
    assert 'DistinctFields[0]: the snapshot has no "kind"; it has none' in refused(spread(3))


# Merging


BOTH = [["x", 1.0, "a"], ["y", 2.0, "a"], ["x", 5.0, "b"], ["z", 3.0, "b"]]


def test_what_several_recalls_brought_is_known_after_merging():
    kept = left(UNIQUE, BOTH)
    assert kept["ids"] == ["x", "y", "z"]
    assert kept["recall_scores"] == {"x": {"a": 1.0, "b": 5.0}}


def test_a_second_unique_filter_forgets_nothing():
    assert left(UNIQUE, BOTH, first=[UNIQUE])["recall_scores"] == {"x": {"a": 1.0, "b": 5.0}}


def test_a_filter_between_may_reorder_and_drop_without_mixing_up_whose_scores_are_whose():
    fair = {"FilterType": "CompletelyFairFilter", "RetainNum": 3}
    v2 = adjust(recall("b", 9), recall("a", 9), kind="PriorityAdjustCountFilterV2")
    kept = left(v2, BOTH, first=[UNIQUE, fair])
    assert kept["ids"] == ["x", "z", "y"]
    assert kept["scores"] == [5.0, 3.0, 2.0] and kept["retrieve_ids"] == ["b", "b", "a"]


def test_where_recall_brings_items_once_merging_does_nothing():
    case = Case(BOTH[:2], {})
    case.arena.reset(False)
    case.run(parsed({"Name": "u", **UNIQUE}).bind(case.binding()))
    assert case.query.merged is None


@pytest.mark.parametrize(
    ("names", "sees"),
    [
        ("unique", False), ("unique v2", True), ("v2 unique", True), ("v2", False), ("fair unique", True),
        ("unique fair", False), ("snake", True), ("unique chooses", True), ("chooses unique", True), ("", False),
        ("unique circle", False),
    ],
)  # fmt: skip
def test_recall_repeats_items_only_where_a_filter_would_notice(names, sees):
    case = {"Conditions": [{"Name": "x", "Operator": "is_null", "Domain": "user"}], "FilterName": "v2"}
    circle = {"FilterConfs": [], "DefaultFilterName": "circle"}
    known = {
        "unique": parsed({"Name": "unique", **UNIQUE}),
        "v2": parsed({"Name": "v2", **adjust(recall("a", 1), kind="PriorityAdjustCountFilterV2")}),
        "fair": parsed({"Name": "fair", "FilterType": "CompletelyFairFilter"}),
        "snake": parsed({"Name": "snake", "FilterType": "SnakeFilter"}),
        "chooses": parsed(
            {"Name": "c", "FilterType": "ConditionFilter", "ConditionFilterConfs": {"FilterConfs": [case]}}
        ),
        "circle": parsed({"Name": "circle", "FilterType": "ConditionFilter", "ConditionFilterConfs": circle}),
    }
    assert sees_repeats(names.split(), known) is sees


# Snake


def snake(*weights, **more):
    confs = [{"RecallName": name, "Weight": weight} for name, weight in weights]
    return {"FilterType": "SnakeFilter", "AdjustCountConfs": confs, **more}


def test_a_candidate_tells_which_recalls_came_by():
    kept = left(snake(("a", 1), ("b", 1), RetainNum=9), BOTH, first=[UNIQUE])
    assert kept["ids"] == ["y", "x", "z"]
    assert kept["retrieve_ids"] == ["a", "b", "b"]
    assert kept["snake_filter"] == {"x": "b:0:5.000000,a:1:1.000000", "y": "a:0:2.000000", "z": "b:1:3.000000"}


def test_a_candidate_that_fell_to_the_cut_tells_nothing():
    kept = left(snake(("a", 2), RetainNum=1), ids(2))
    assert kept["snake_filter"] == {"a0": "a:0:2.000000"}


def test_visits_are_written_one_at_a_time_and_read_like_a_list():
    columns = np.array([0, 1], np.uint8), np.array([0, 0], np.int32), np.array([1 / 3, -2.5])
    visits = Visits(2, np.array([1, 0], np.int32), columns, ["a", "b"])
    assert list(visits) == visits[:] == ["b:0:-2.500000", "a:0:0.333333"]
    with pytest.raises(IndexError):
        visits[2]


def test_what_a_candidate_tells_is_written_only_for_those_that_are_asked(monkeypatch):
    written = []
    plain = Visits.__getitem__
    monkeypatch.setattr(Visits, "__getitem__", lambda visits, at: written.append(at) or plain(visits, at))
    case = Case(ids(50), {})
    case.run(parsed({"Name": "f", **snake(("a", 2), RetainNum=30)}).bind(case.binding()))
    told = case.query.properties(case.arena).of_each("snake_filter", np.array([3, 7], np.int32))
    assert told == ["a:3:47.000000", "a:7:43.000000"] and written == [3, 7]


def test_a_snake_without_recalls_or_of_an_unknown_type_is_refused():
    assert "empty; nothing would stay" in refused(snake())
    with pytest.raises(ConfigError, match=r'SnakeType: expected one of .*, got text "ZIGZAG"'):
        parsed({"Name": "f", **snake(("a", 1), SnakeType="ZIGZAG")})


# Groups and values


def test_groups_are_texts_and_a_number_counts_by_its_integer_part():
    values = [3.2, 3.9, "3", None, "DEFAULT", True, 4]
    items = [[f"i{place}", 1.0, "a", {} if one is None else {"k": one}] for place, one in enumerate(values)]
    conf = {"FilterType": "GroupWeightCountFilter", "Dimension": "k", "RetainNum": 6, "ScoreWeight": 1.0}
    kept = left(conf | {"GroupWeightStrategy": "avg"}, items)["ids"]
    # Three, three and one make a place too many: the first group gives it.
    assert kept == ["i0", "i1", "i3", "i4", "i5", "i6"]
    unique = left({"FilterType": "DimensionFieldUniqueFilter", "Dimension": "k"}, items)
    assert unique["ids"] == ["i0", "i3", "i4", "i5", "i6"]  # what has no text stays


@pytest.mark.parametrize("empty", ["", "DEFAULT", "nowhere"])
@pytest.mark.parametrize("words", [["b", "", "DEFAULT", "ä"], ["b", "a"], ["x", "DEFAULT"], [""]])
def test_texts_of_a_column_of_the_snapshot_make_the_same_groups_as_any_texts(words, empty):
    """Their codes stand for them, so that no text is read; the slow twin reads each."""
    joined = [word.encode() for word in words[:-1]]
    column = Texts(
        np.frombuffer(b"".join(joined), np.uint8), np.cumsum([0, *map(len, joined)]).astype(np.uint64)
    )  # fmt: skip
    assert column.put(words[-1]) == len(words) - 1, "the last came with an item that was added later"
    codes = np.random.default_rng(len(words)).integers(-1, len(words), 50).astype(np.int32)
    fast, slow = (text_codes((codes, given), 50, empty) for given in (column, words))
    assert fast.dtype == slow.dtype == np.int32 and ((fast < 0) == (slow < 0)).all()
    np.testing.assert_array_equal(fast[:, None] == fast, slow[:, None] == slow)


def test_a_dimension_that_no_candidate_has_drops_nothing():
    assert left({"FilterType": "DimensionFieldUniqueFilter", "Dimension": "none"}, ids(3))["count"] == 3


def test_values_are_thinned_in_the_order_of_the_configuration():
    items = [[f"i{place}", 1.0, "a", {"k": place % 2, "m": place % 3}] for place in range(12)]
    conf = {
        "FilterType": "GroupWeightCountFilter", "Dimension": "none", "RetainNum": 5, "ScoreWeight": 1.0,
        "GroupWeightDimensionLimit": {"k": 2, "m": 1},
    }  # fmt: skip
    assert left(conf, items)["ids"] == ["i0", "i1", "i2"]


# Conditions


def chooses(default="", **cases):
    confs = [
        {"Conditions": [{"Name": "q", "Operator": "equal", "Type": "string", "Domain": "user", "Value": value}],
         "FilterName": name}
        for name, value in cases.items()
    ]  # fmt: skip
    return {
        "FilterType": "ConditionFilter",
        "ConditionFilterConfs": {"FilterConfs": confs, "DefaultFilterName": default},
    }


TWO = {
    name: parsed({"Name": name, "FilterType": "AdjustCountFilter", "RetainNum": count})
    for name, count in (("one", 1), ("two", 2))
}


@pytest.mark.parametrize(("q", "default", "count"), [("1", "", 1), ("2", "", 2), ("3", "", 5), ("3", "two", 2)])
def test_the_first_case_that_the_user_meets_decides(q, default, count):
    assert left(chooses(default, one="1", two="2"), ids(5), {"q": q}, filters=TWO)["count"] == count


def test_a_case_without_conditions_is_never_chosen():
    conf = {"FilterType": "ConditionFilter", "ConditionFilterConfs": {"FilterConfs": [{"FilterName": "one"}]}}
    assert left(conf, ids(5), filters=TWO)["count"] == 5


def test_a_filter_that_awaits_is_awaited_through_a_condition_and_no_other():
    import asyncio

    from pairec_fast.binding import Fetching, Loading
    from pairec_fast.filter.condition import Chooser

    class Asks:
        name, timeout = "asks", 0.25

        async def fetch(self, query):
            query.fetched[self] = "something"

        def __call__(self, query, arena):
            arena.count = len(query.fetched[self])

    asks, silent = Asks(), lambda query, arena: None
    conditions = parsed({"Name": "c", **chooses(one="1")}).condition_filter_confs.filter_confs[0].conditions
    chooser = Chooser("c", [(conditions, asks)], silent)
    assert isinstance(chooser, Fetching) and not isinstance(chooser, Loading) and chooser.timeout == 0.25
    assert not isinstance(Chooser("c", [(conditions, silent)], None), Fetching | Loading)
    for q, fetched in (("1", 1), ("2", 0)):
        case = Case(ids(9), {"q": q})
        asyncio.run(chooser.fetch(case.query))
        chooser(case.query, case.arena)
        assert len(case.query.fetched) == fetched and case.arena.count == 9


# Expressions


def diverse(*confs):
    confs = [{"Expression": text, "Count": count, "Type": type} for text, count, type in confs]
    return {"FilterType": "DiversityAdjustCountFilter", "AdjustCountConfs": confs}


PRICED = [[f"i{place}", float(9 - place), "ab"[place % 2], {"price": float(place)}] for place in range(8)]


def test_each_expression_takes_its_best_of_what_is_left():
    kept = left(diverse(("price > 5", 1, "fix"), ("recall_name == 'a'", 3, "accumulator")), PRICED)
    assert kept["ids"] == ["i6", "i0", "i2", "i4"]
    both = left(diverse(("recall_name == 'a'", 2, "accumulator"), ("price >= 0", 4, "accumulator")), PRICED)
    assert both["ids"] == ["i0", "i2", "i1"]  # two are left to take, of which one is used


def test_an_expression_without_a_value_is_not_true():
    assert left(diverse(("missing > 1", 5, "fix")), PRICED)["ids"] == []
    assert left(diverse(("price + 'x'", 5, "fix")), PRICED)["ids"] == []


def test_an_expression_that_is_none_is_refused_with_its_place():
    told = refused(diverse(("price > 1", 1, "fix"), ("price >", 1, "fix")))
    assert told.startswith("FilterConfs.f.AdjustCountConfs[1].Expression: ")


def test_accumulators_whose_count_falls_are_refused():
    told = refused(diverse(("1 == 1", 5, "accumulator"), ("1 == 1", 4, "accumulator")))
    assert told.startswith("FilterConfs.f.AdjustCountConfs[1].Count: 4 is less than 5 before it")


# Local tables


def world_case(world, items, user=None, uid="u00042"):
    """The engine of a world, and a query over candidates `items` of it."""
    from pairec_fast.binding import Binding
    from pairec_fast.core import add

    world.scene["rerank"] = {"RecallNames": ["ContextItemRecall"]}  # one that brings items the snapshot lacks
    engine = world.engine()
    scene = next(iter(engine._bound.scenes.values()))
    places = len(items)
    query = Query(scene.snapshot, uid, 10, user or {}, history_max=100, sources=["a"], places=places)
    arena = Arena(places, items_max=scene.snapshot.overlay.capacity)
    arena.reset()
    arena.follow(scene.snapshot.overlay)
    for id in items:
        add(arena, np.array([query.row(id)], np.int32), np.zeros(1), 0)
    return engine, query, arena, Binding(scene.snapshot, ["a"])


def kept_locally(world, conf, items, user=None, uid="u00042"):
    engine, query, arena, at = world_case(world, items, user, uid)
    with engine:
        parsed({"Name": "f"} | conf).bind(at)(query, arena)
        return query.ids(arena.row[: arena.count]), query, arena


def some(count):
    return [f"i{place:06}" for place in range(count)]


def local_state(*params, **more):
    dao = {"AdapterType": "local", **more.pop("dao", {})}
    return {"FilterType": "ItemStateFilter", "ItemStateDaoConf": dao, "FilterParams": list(params), **more}


def cheaper_than(value):
    return {"Name": "price", "Operator": "less", "Type": "float", "Value": value}


def test_conditions_on_the_user_are_asked_for_each_request(world):
    by_budget, _, _ = kept_locally(world, local_state(cheaper_than("user.budget")), some(50), {"budget": 20.0})
    fixed_at, _, _ = kept_locally(world, local_state(cheaper_than(20.0)), some(50))
    assert by_budget == fixed_at and 0 < len(fixed_at) < 50
    assert kept_locally(world, local_state(cheaper_than("user.budget")), some(50))[0] == []


def test_items_the_table_lacks_are_judged_by_the_defaults(world):
    items = ["stranger", *some(3)]
    assert "stranger" not in kept_locally(world, local_state(cheaper_than(1e9)), items)[0]
    for value in (1e9, "user.budget"):
        conf = local_state(cheaper_than(value), dao={"DefaultFieldValues": {"price": 5.0}})
        assert "stranger" in kept_locally(world, conf, items, {"budget": 6.0})[0]


def test_transforms_of_a_local_table_come_before_its_conditions(world):
    made = {"FeatureType": "new_feature", "FeatureStore": "item", "FeatureName": "twice", "Normalizer": "expr",
            "Expression": "item.price * 2"}  # fmt: skip
    twice = {"Name": "twice", "Operator": "less", "Type": "float", "Value": 40.0}
    kept, _, _ = kept_locally(world, local_state(twice, Features=[made]), some(50))
    assert kept == kept_locally(world, local_state(cheaper_than(20.0)), some(50))[0]


@pytest.mark.parametrize(
    ("conf", "told"),
    [
        (local_state(cheaper_than("item.nothing")), 'no column "nothing"'),
        (local_state({"Name": "nothing", "Operator": "is_null"}), 'no column "nothing"'),
        (local_state(dao={"SelectFields": "price, nothing"}), 'no column "nothing"'),
        (local_state(dao={"WhereClause": "price > 1"}), "a local table has no SQL"),
        (local_state(GenerateUserDataExpr="user.uid"), "GenerateUserDataExpr: a local table is read by the row"),
        (local_state(dao={"TableName": "others"}), '"others"; for a local one it is "items"'),
        (local_state({"Operator": "expression", "Value": "item.price >"}), r"FilterParams\[0\]"),
        ({"FilterType": "ItemCustomFilter", "DaoConf": {"AdapterType": "local", "TableName": "x"}}, 'no "x"'),
        ({"FilterType": "ItemCustomFilter", "DaoConf": {"AdapterType": "mysql"}}, '"mysql" is not available'),
        ({"FilterType": "User2ItemCustomFilter", "DaoConf": {"AdapterType": "mysql"}}, '"mysql" is not available'),
        ({"FilterType": "User2ItemExposureFilter", "DaoConf": {"AdapterType": "local", "TableName": "x"}}, '"x"'),
    ],
)
def test_what_a_local_table_does_not_have_is_refused(world, conf, told):
    with pytest.raises(ConfigError, match=told):
        kept_locally(world, conf, some(1))


def test_the_requests_own_history_is_dropped_or_marked(world):
    conf = {"FilterType": "User2ItemExposureFilter"}
    user = {"history": ["i000001", "i000003"]}
    assert kept_locally(world, conf, some(5), user)[0] == ["i000000", "i000002", "i000004"]
    kept, query, arena = kept_locally(world, conf | {"OnlyLogUserExposeFlag": True}, some(5), user)
    marks = query.properties(arena).of_each("_is_exposure_", np.arange(5, dtype=np.int32))
    assert kept == some(5) and [mark == 1 for mark in marks] == [False, True, False, True, False]


def test_a_user_who_meets_the_conditions_sees_everything_again(world):
    fresh = [{"Name": "fresh", "Operator": "is_not_null", "Domain": "user"}]
    conf = {"FilterType": "User2ItemExposureWithConditionFilter", "Conditions": fresh}
    user = {"history": ["i000001"]}
    assert len(kept_locally(world, conf, some(5), user)[0]) == 4
    assert len(kept_locally(world, conf, some(5), user | {"fresh": 1})[0]) == 5


def test_a_list_of_the_snapshot_may_block_its_items(world):
    _, query, arena, at = (case := world_case(world, some(600)))
    with case[0]:
        table = next(name for name, one in at.snapshot.lists.items() if not one.by)
        blocked = set(at.snapshot.lists[table].of(0)[0].tolist())
        dao = {"AdapterType": "local", "TableName": table}
        parsed({"Name": "f", "FilterType": "ItemCustomFilter", "DaoConf": dao}).bind(at)(query, arena)
        assert set(arena.row[: arena.count].tolist()) == set(range(600)) - blocked and blocked


def test_a_users_history_may_block_its_items(world):
    with world.engine() as engine:
        snapshot = engine.snapshot
        user = next(row for row in range(len(snapshot.users)) if len(snapshot.history.of(row)))
        chosen = {snapshot.items.ids.id(row) for row in snapshot.history.of(user).tolist()}
        uid = snapshot.users.ids.id(user)
    conf = {"FilterType": "User2ItemCustomFilter", "DaoConf": {"AdapterType": "local", "TableName": "history"}}
    assert set(kept_locally(world, conf, some(600), uid=uid)[0]) == set(some(600)) - chosen
    assert kept_locally(world, conf, some(600), uid="nobody")[0] == some(600)


# In a scene


def hot_and_similar(world, filters, names, size=20):
    """The items of an answer of a scene with two recalls, by these filters."""
    world.conf["FilterConfs"] = filters
    world.conf["FilterNames"] = {"home_feed": names}
    world.scene["default"]["OutputFields"] = ["item:snake_filter"]
    with world.engine() as engine:
        reply = engine.recommend({"uid": "u00042", "scene_id": "home_feed", "size": size, "request_id": "r"})
        return reply.items, engine


def test_a_snake_winds_through_the_recalls_of_a_scene(world):
    recalls = world.scene["default"]["RecallNames"]
    conf = {"Name": "snake"} | snake(*((name, 2) for name in recalls), RetainNum=12)
    items, _ = hot_and_similar(world, [conf], ["UniqueFilter", "snake"])
    assert len(items) == len({item.item_id for item in items}) == 12
    assert {item.retrieve_id for item in items} <= set(recalls)
    told = [item.extra["snake_filter"] for item in items]
    assert all(any(visit.split(":")[0] == item.retrieve_id for visit in text.split(","))
               for item, text in zip(items, told, strict=True))  # fmt: skip
    assert any("," in text for text in told), "no item that two recalls brought: the case shows too little"


def test_no_answer_shows_an_item_twice_whatever_filters_read(world):
    recalls = world.scene["default"]["RecallNames"]
    v2 = {"Name": "v2"} | adjust(*(recall(name, 30) for name in recalls), kind="PriorityAdjustCountFilterV2")
    for names in (["v2"], ["v2", "UniqueFilter"], ["UniqueFilter", "v2"]):
        items, _ = hot_and_similar(world, [v2], names, size=50)
        assert len(items) == len({item.item_id for item in items}) > 10


def test_a_filter_that_leads_nowhere_is_refused_at_load(world):
    conf = {"Name": "choose"} | chooses("nobody")
    with pytest.raises(ConfigError, match="nobody"):
        hot_and_similar(world, [conf], ["choose"])


def test_the_engine_gives_each_query_its_place_for_what_is_merged(shared_world):
    assert "merged" in Query.__slots__ and Arena(1).repeats is False
