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
from pairec_fast.snapshot import Column, Snapshot
from tests import reference_rerank as reference
from tests.contract.sorts import Walk, snapshot, stage_of


def sorted_by(sort, items, *, user=None, size=None, params=None, **binding):
    """The ids of `items` after one sort; and the walk, to see what else it did."""
    walk = Walk(items, user or {}, size or len(items), params or {})
    stage_of(sort, walk.binding(**binding))(walk.query, walk.arena)
    return [walk.ids[slot] for slot in walk.order()], walk


def scores(walk):
    return walk.arena.score[: walk.arena.count].tolist()


def given(walk, name):
    return walk.query.properties(walk.arena).of_each(name, np.arange(walk.arena.count))


def equal(name, value, domain="item"):
    return {"Name": name, "Domain": domain, "Operator": "equal", "Type": "string", "Value": value}


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


# DPP and SSD


FLAT = np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0.1], [1, 0, 0.1]], np.float32)


def spread(sort, vectors, score, *, size, recalls=None, params=None, **more):
    """Slots after DPPSort or SSDSort over a vector column of the items."""
    recalls = recalls or ["r"] * len(score)
    items = [[f"case {at}", one, recall] for at, (one, recall) in enumerate(zip(score, recalls, strict=True))]
    walk = Walk(items, more.pop("user", {}), size, params or {})
    table = np.zeros((snapshot().overlay.capacity, np.shape(vectors)[1]), np.float32)
    table[walk.arena.row[: len(items)]] = vectors
    conf = {"DaoConf": {"AdapterType": "local"}, "EmbeddingColumn": "test"} | more
    snapshot().items.columns["test"] = Column("vector", table, None)
    try:
        entry = {"SortType": f"{sort}Sort", f"{sort}Conf": conf}
        stage_of(entry, walk.binding())(walk.query, walk.arena)
    finally:
        del snapshot().items.columns["test"]
    return walk.order(), walk


SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
UNSORTED = [0.4, 0.9, 0.5, 0.8, 0.6, 0.7]


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_with_few_candidates_all_are_sorted_by_score(sort):
    assert spread(sort, FLAT, UNSORTED, size=2, AbortRunCount=6)[0] == [1, 3, 5, 4, 2, 0]
    assert len(spread(sort, FLAT, UNSORTED, size=2, AbortRunCount=5)[0]) == 2


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_recalls_set_aside_follow_and_a_parameter_names_others(sort):
    recalls = ["r", "ad", "r", "ad", "x", "r"]
    order, _ = spread(sort, FLAT, SCORES, size=2, recalls=recalls, FilterRetrieveIds=["ad"])
    assert order[0] == 0 and order[2:] == [1, 3]
    params = {f"{sort.lower()}_filter_retrieve_ids": ["r", "ad", "x"]}
    assert spread(sort, FLAT, UNSORTED, size=2, recalls=recalls, FilterRetrieveIds=["ad"], params=params)[0] == list(
        range(6)
    )


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_only_the_best_candidates_take_part(sort):
    """Three of six, then those above 0.85 of the best, never fewer than are wanted."""
    assert set(spread(sort, FLAT, UNSORTED, size=2, CandidateCount=3, Alpha=0.0, Gamma=99.0)[0]) <= {1, 3, 5}
    assert sorted(spread(sort, FLAT, UNSORTED, size=2, MinScorePercent=0.95)[0]) == [1, 3]
    params = {f"{sort.lower()}_candidate_count": 2}
    assert sorted(spread(sort, FLAT, UNSORTED, size=2, CandidateCount=6, params=params)[0]) == [1, 3]
    assert sorted(spread(sort, FLAT, UNSORTED, size=6, CandidateCount=3)[0]) == list(range(6)), "as many as are wanted"


def test_without_vectors_configured_dpp_leaves_the_order_and_ssd_sorts_by_score():
    assert spread("DPP", FLAT, UNSORTED, size=2, EmbeddingColumn="")[0] == list(range(6))
    assert spread("SSD", FLAT, UNSORTED, size=2, EmbeddingColumn="")[0] == [1, 3, 5, 4, 2, 0]


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_with_too_many_vectors_missing_nobody_moves(sort):
    half = FLAT.copy()
    half[3:] = 0
    assert len(spread(sort, half, SCORES, size=2)[0]) == 2, "half may be missing"
    assert spread(sort, half, SCORES, size=2, EmbMissedThreshold=0.4)[0] == list(range(6))


@pytest.mark.parametrize(("sort", "norm", "put"), [
    ("DPP", "dpp_norm_relevance_score", "dpp_relevance_score"), ("SSD", "ssd_norm_quality_score", "ssd_quality_score")
])  # fmt: skip
def test_scores_are_normalised_as_the_parameter_says_and_can_be_read(sort, norm, put):
    _, walk = spread(sort, FLAT, SCORES, size=6, params={norm: 1})
    assert given(walk, put) == pytest.approx((np.array(SCORES) - np.mean(SCORES)) / np.std(SCORES))
    _, walk = spread(sort, FLAT, SCORES, size=6, params={norm: 2})
    assert given(walk, put) == pytest.approx([1, 0.8 + 2e-7, 0.6 + 4e-7, 0.4 + 6e-7, 0.2 + 8e-7, 1e-6])
    for wanted in (1, 2):
        assert spread(sort, FLAT, [0.5] * 6, size=2, params={norm: wanted})[0] == list(range(6)), "none differs"
        assert spread(sort, FLAT, [0.0] * 6, size=2, params={norm: wanted})[0] == list(range(6))


@pytest.mark.parametrize("seed", range(20))
def test_dpp_is_its_slow_twin_whatever_is_configured(seed):
    rng = np.random.default_rng(seed)
    vectors, score = rng.normal(size=(40, 12)).astype(np.float32), rng.random(40)
    normalise, positive, window = bool(rng.integers(2)), bool(rng.integers(2)), int(rng.integers(3, 12))
    alpha = float(rng.choice([0.5, 2.0]))
    expected, closest = reference.dpp(vectors, score, alpha, 17, window, normalise, positive)
    order, _ = spread(
        "DPP", vectors, score.tolist(), size=17, Alpha=1.0 if seed % 2 else alpha,
        WindowSize=10 if seed % 2 else window,
        NormalizeEmb=str(normalise), EnsurePositiveSim=str(positive),
        params={"dpp_alpha": alpha, "dpp_window_size": window} if seed % 2 else None,
    )  # fmt: skip
    assert closest > 1e-9
    assert order == expected


@pytest.mark.parametrize("seed", range(20))
def test_ssd_is_its_slow_twin_whatever_is_configured(seed):
    rng = np.random.default_rng(seed)
    vectors, score = rng.normal(size=(40, 12)).astype(np.float32), rng.random(40)
    normalise, positive, star = (bool(rng.integers(2)) for _ in range(3))
    window, gamma = int(rng.integers(0, 8)), float(rng.choice([0.3, 2.0]))
    by_score = np.argsort(-score, kind="stable")
    expected, closest = reference.ssd(
        vectors[by_score], score[by_score], gamma, 17, window if window > 1 else 5, normalise, positive, star
    )
    order, _ = spread(
        "SSD", vectors, score.tolist(), size=17, Gamma=1.0 if seed % 2 else gamma, WindowSize=4 if seed % 2 else window,
        UseSSDStar=star, NormalizeEmb=str(normalise), EnsurePositiveSim=str(positive),
        params={"ssd_gamma": gamma, "ssd_window_size": window} if seed % 2 else None,
    )  # fmt: skip
    assert closest > 1e-9
    assert order == by_score[expected].tolist()


def test_ssd_runs_for_users_who_meet_its_condition_and_not_with_a_gamma_of_0():
    condition = {"Expression": "", "Conditions": [equal("vip", "1", "user")]}
    assert len(spread("SSD", FLAT, UNSORTED, size=2, Condition=condition, user={"vip": "1"})[0]) == 2
    assert spread("SSD", FLAT, UNSORTED, size=2, Condition=condition)[0] == [1, 3, 5, 4, 2, 0]
    assert spread("SSD", FLAT, UNSORTED, size=2, params={"ssd_gamma": 0})[0] == [1, 3, 5, 4, 2, 0]


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
def test_a_vectors_block_of_the_snapshot_serves_and_with_a_table_likeness_of_dpp_is_never_negative(sort):
    stored = snapshot()
    table = stored.vectors["als"].items
    rows = np.flatnonzero(table.any(axis=1))[:30].astype(np.int32)
    query = Query(stored, "u", 10, {}, history_max=1, places=30)
    arena = Arena(30, items_max=stored.overlay.capacity)
    arena.follow(stored.overlay)
    add(arena, rows, np.zeros(30), 0)
    arena.score[:30] = score = np.linspace(1, 0.5, 30)
    in_order(arena)
    conf = {"TableName": "als", "DaoConf": {"AdapterType": "local"}, "Alpha": 1.0, "EnsurePositiveSim": "false"}
    stage_of({"SortType": f"{sort}Sort", f"{sort}Conf": conf}, Binding(stored, ["r"]))(query, arena)
    if sort == "DPP":
        expected, _ = reference.dpp(table[rows], score, 1.0, 10, 10, positive=True)
    else:
        expected, _ = reference.ssd(table[rows], score, 0.25, 10, 5, positive=False)
    assert arena.order[: arena.order_count].tolist() == expected


@pytest.mark.parametrize("sort", ["DPP", "SSD"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TableName": "alz"}, r'SortConfs\.case\.\w+\.TableName: the snapshot has no "alz" \(did you mean "als"\?\)'),
        ({"EmbeddingColumn": "nope"}, r'EmbeddingColumn: the snapshot has no "nope"'),
        ({"EmbeddingColumn": "title"}, 'EmbeddingColumn: "title" holds texts, not vectors'),
        ({"TableName": "als", "DaoConf": {"HologresName": "h"}}, "DaoConf: there are no live stores here"),
        ({"TableName": "als", "DaoConf": {}}, 'DaoConf.AdapterType: missing; "hologres" or "redis" would be right'),
        ({"TableName": "als", "DaoConf": {"AdapterType": "hbase"}}, 'AdapterType: "hbase"; "hologres" or "redis"'),
    ],
)
def test_vectors_that_are_not_there_are_refused(sort, change, message):
    with pytest.raises(ConfigError, match=message):
        spread(sort, FLAT, SCORES, size=2, **change)


def test_hooks_of_dpp_are_refused():
    with pytest.raises(ConfigError, match="EmbeddingHookNames: hooks are functions compiled into PAI-Rec"):
        spread("DPP", FLAT, SCORES, size=2, EmbeddingHookNames=["mine"])


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
