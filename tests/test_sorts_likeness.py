"""DPPSort and SSDSort as a configuration binds them: who takes part, what they are worth, which vectors."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.binding import Binding
from pairec_fast.core import Arena, add, in_order
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.snapshot import Column
from tests import reference_rerank as reference
from tests.contract.sorts import Walk, snapshot, stage_of
from tests.sorts import equal, given

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
