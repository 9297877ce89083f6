"""Sorts that weigh likeness: DPP and SSD over arrays, against their slow twins, and with the same bits everywhere."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from pairec_fast.core.dpp import Dpp
from pairec_fast.core.simd import isas
from pairec_fast.core.ssd import Ssd
from tests import reference_rerank as reference
from tests.worlds import environment, suite

COUNTS = [1, 2, 31, 32, 33, 64, 500]


def rows(count):
    return np.arange(count, dtype=np.int32)


def vectors(*lines):
    return np.array(lines, np.float32)


def by_dpp(table, relevance, *, alpha=1.0, size=20, window=10, **conf):
    chosen = Dpp(**conf).choose(
        table, rows(len(table)), np.array(relevance, float), alpha=alpha, size=size, window=window
    )
    return chosen.tolist()


def by_ssd(table, quality, *, gamma=0.25, size=20, window=5, **conf):
    chosen = Ssd(**conf).choose(
        table, rows(len(table)), np.array(quality, float), gamma=gamma, size=size, window=window
    )
    return chosen.tolist()


@pytest.mark.parametrize("case", suite("dpp"), ids=lambda case: case["id"])
def test_dpp_chooses_as_pai_rec(case):
    given = case["input"]
    chosen = by_dpp(
        vectors(*given["embeddings"]), given["scores"], alpha=given["alpha"], size=given["size"],
        window=given["window"], normalise=given["normalize_emb"], positive=given["ensure_positive_sim"],
    )  # fmt: skip
    assert chosen == case["expected"]["indices"]


@pytest.mark.parametrize("case", suite("ssd"), ids=lambda case: case["id"])
def test_ssd_chooses_as_pai_rec(case):
    given = case["input"]
    chosen = by_ssd(
        vectors(*given["embeddings"]), given["scores"], gamma=given["gamma"], size=given["size"],
        window=given["window"], normalise=given["normalize_emb"], positive=given["ensure_positive_sim"],
        star=given["use_ssd_star"],
    )  # fmt: skip
    assert chosen == case["expected"]["indices"]


def test_dpp_prefers_what_is_unlike_to_what_is_a_little_better():
    """By hand: cos is 1, 0 to the first; with alpha 0 all are worth the same, so the unlike one comes second."""
    assert by_dpp(vectors([1, 0], [1, 0], [0, 1]), [3, 2, 1], alpha=0.0, size=2) == [0, 2]
    assert by_dpp(vectors([1, 0], [1, 0.1], [0, 1]), [3, 2, 1], alpha=9.0, size=2) == [0, 1], "worth decides"


def test_a_window_of_dpp_forgets_what_the_one_before_looked_like():
    """With a window of 1 nothing is known of any other, so the order is that of worth."""
    table = vectors([1, 0], [1, 0], [0, 1])
    assert by_dpp(table, [3, 2, 1], alpha=1.0, size=3, window=1) == [0, 1, 2]
    assert by_dpp(table, [3, 2, 1], alpha=0.1, size=3, window=3) == [0, 2, 1]


def test_dpp_fills_in_order_when_no_direction_is_left():
    """Two dimensions and the constant span three; what is left of the fourth is nothing, in double as in PAI-Rec."""
    table = np.random.default_rng(5).normal(size=(8, 2)).astype(np.float32)
    expected, _ = reference.dpp(table, np.zeros(8), 1.0, 3, 8)
    chosen = by_dpp(table, np.zeros(8), size=8, window=8)
    assert chosen[:3] == expected
    assert chosen[4:] == [i for i in range(8) if i not in chosen[:4]]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dim", [1, 7, 64])
@pytest.mark.parametrize("seed", range(3))
def test_dpp_agrees_with_the_matrix_formed(count, dim, seed):
    rng = np.random.default_rng([count, dim, seed])
    table = rng.normal(size=(count, dim)).astype(np.float32)
    relevance = rng.random(count)
    size = int(rng.choice([1, 5, 20, 40]))
    window = min(dim + 1, int(rng.choice([1, 4, 10, 64])))
    normalise, positive = bool(rng.integers(2)), bool(rng.integers(2))
    window = window if positive or window <= dim else dim
    alpha = float(rng.choice([0.0, 0.5, 3.0]))
    expected, closest = reference.dpp(table, relevance, alpha, size, window, normalise, positive)
    if alpha == 0.0 and normalise:
        closest = 0.0  # the first of a window is a tie of all, which rounding decides in the twin
    if closest > 1e-9:
        chosen = by_dpp(table, relevance, alpha=alpha, size=size, window=window, normalise=normalise, positive=positive)
        assert chosen == expected


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("dim", [1, 7, 64])
@pytest.mark.parametrize("seed", range(3))
def test_ssd_agrees_with_vectors_projected_one_by_one(count, dim, seed):
    """The kernel changes no vector; the twin changes all of them at every step."""
    rng = np.random.default_rng([count, dim, seed])
    table = rng.normal(size=(count, dim)).astype(np.float32)
    quality = np.sort(rng.random(count))[::-1]
    size, window = int(rng.choice([1, 5, 20, 40])), int(rng.choice([2, 3, 5, 10]))
    conf = {name: bool(rng.integers(2)) for name in ("normalise", "positive", "star")}
    gamma = float(rng.choice([0.25, 2.0]))
    window = max(2, min(window, dim + conf["positive"] - 1))
    if dim + conf["positive"] <= 2:
        conf["star"] = False  # else what is left decides, and of two dimensions nothing is left
    expected, closest = reference.ssd(table, quality, gamma, size, window, **conf)
    if closest > 1e-9:
        assert by_ssd(table, quality, gamma=gamma, size=size, window=window, **conf) == expected


def test_agreement_is_not_empty():
    """The twins' closest choices are wide enough that nearly all of the comparisons above take place."""
    rng = np.random.default_rng(0)
    wide = 0
    for _ in range(20):
        table, worth = rng.normal(size=(64, 7)).astype(np.float32), rng.random(64)
        wide += reference.dpp(table, worth, 3.0, 20, 8)[1] > 1e-9
        wide += reference.ssd(table, worth, 0.25, 20, 5)[1] > 1e-9
    assert wide >= 38


def test_copies_of_what_was_chosen_come_last_and_in_order():
    """What is left of a copy is rounding: it must not become a direction of its own that is taken from the others."""
    table = np.random.default_rng(3).normal(size=(6, 5)).astype(np.float32)
    table[3:] = table[0]
    for star in (False, True):
        assert sorted(by_ssd(table, [1.0] * 6, gamma=2.0, star=star)[:3]) == [0, 1, 2]
        assert by_ssd(table, [1.0] * 6, gamma=2.0, star=star)[3:] == [3, 4, 5]


def test_choosing_changes_no_vector():
    """Upstream, SSD writes its projections into the cache of embeddings, and later requests see them."""
    table = np.random.default_rng(4).normal(size=(50, 8)).astype(np.float32)
    before = table.tobytes()
    by_dpp(table, np.arange(50.0))
    by_ssd(table, np.arange(50.0))
    assert table.tobytes() == before


@pytest.mark.parametrize("sort", [Dpp(), Ssd()])
@pytest.mark.parametrize("lacking", [[-1, -1], [0, 0], [1, 1], [2, 2]], ids=["no row", "zeros", "NaN", "infinite"])
def test_a_missing_vector_is_drawn_by_seed_and_too_many_are_refused(sort, lacking):
    table = np.concatenate(
        [vectors([0, 0, 0], [1, np.nan, 1], [np.inf, 0, 0]), np.random.default_rng(6).normal(size=(8, 3))]
    ).astype(np.float32)
    weight = {"alpha": 1.0} if isinstance(sort, Dpp) else {"gamma": 1.0}
    ten = np.array([*lacking, *range(3, 11)], np.int32)

    def choose(missing_max, seed):
        chosen = sort.choose(table, ten, np.zeros(10), **weight, size=10, window=4, missing_max=missing_max, seed=seed)
        return None if chosen is None else chosen.tolist()

    assert choose(0.19, 1) is None
    assert sorted(choose(0.2, 1)) == list(range(10)), "at the threshold they are drawn"
    assert choose(0.2, 7) == choose(0.2, 7)
    assert len({tuple(choose(0.2, seed)) for seed in range(20)}) > 1


def test_drawn_vectors_have_length_one_whatever_is_normalised():
    """Worth of a candidate alone is its length: with real vectors of length 2 and 0.5 the drawn one lies between."""
    table = vectors([2, 0], [0, 0.5])
    for seed in range(10):
        chosen = Dpp(normalise=False, positive=False).choose(
            table, np.array([1, -1, 0], np.int32), np.zeros(3), alpha=0.0, size=3, window=1, seed=seed
        )
        assert chosen.tolist() == [2, 1, 0]


def test_drawn_directions_are_spread_evenly():
    """DPP picks the drawn vector first only by worth; its likeness to an axis averages to that of chance."""
    chosen = [
        Dpp().choose(
            vectors([1, 0, 0], [-1, 0, 0]), np.array([0, 1, -1], np.int32), np.array([0.0, 0.0, 1.0]), alpha=1.0,
            size=2, window=2, seed=seed,
        )[1]
        for seed in range(400)
    ]  # fmt: skip
    assert 150 < sum(place == 0 for place in chosen) < 250, "as often nearer to one side as to the other"


@pytest.mark.parametrize("seed", range(2))
def test_every_level_gives_the_same_choice(seed):
    """Also where nothing but rounding decides: more picks than dimensions."""
    code = (
        "import numpy as np\n"
        "from pairec_fast.core.dpp import Dpp\n"
        "from pairec_fast.core.ssd import Ssd\n"
        f"rng = np.random.default_rng({seed})\n"
        "table, worth = rng.normal(size=(300, 9)).astype(np.float32), rng.integers(0, 3, 300).astype(float)\n"
        "rows = rng.permutation(300).astype(np.int32)\n"
        "print(Dpp(normalise=False).choose(table, rows, worth, alpha=0.7, size=300, window=40).tolist())\n"
        "print(Ssd(star=True).choose(table, rows, worth, gamma=3.0, size=300, window=40).tolist())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment() | {"PAIREC_ISA": level}, capture_output=True, text=True,
            check=True,
        ).stdout
        for level in isas()
    }  # fmt: skip
    assert len(said) == 1
    assert all(sorted(json.loads(line)) == list(range(300)) for line in said.pop().splitlines())


def test_nothing_is_chosen_from_nothing():
    table = np.zeros((0, 4), np.float32)
    assert by_dpp(table, []) == by_ssd(table, []) == []


def test_worth_beyond_what_exp_can_say_still_gives_each_once():
    table = np.random.default_rng(8).normal(size=(20, 4)).astype(np.float32)
    assert sorted(by_dpp(table, np.arange(20) * 100.0, alpha=10.0)) == list(range(20))
    assert sorted(by_ssd(table, np.full(20, -np.inf))) == list(range(20))


def test_memory_of_a_larger_request_serves_a_smaller_one():
    """What an earlier call left in the lanes beyond must not be seen."""
    sort, rng = Dpp(), np.random.default_rng(9)
    large, small = (rng.normal(size=(count, 6)).astype(np.float32) for count in (200, 21))
    for table in (large, small, large, small):
        worth = np.linspace(1, 0, len(table))
        chosen = sort.choose(table, rows(len(table)), worth, alpha=1.0, size=7, window=7)
        assert chosen.tolist() == by_dpp(table, worth, size=7, window=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [0, 3]}, r"rows\[1\] is 3; rows here are -1 to 2"),
        ({"rows": [-2, 0]}, r"rows\[0\] is -2; rows here are -1 to 2"),
        ({"rows": [0]}, "1 rows, 2 scores; as many of both would be right"),
        ({"size": 0}, "size"),
        ({"window": 0}, "window"),
        ({"table": np.zeros((3, 0), np.float32)}, r"vectors are \[3, 0\]; 1 to 65535 dimensions would be right"),
    ],
)
@pytest.mark.parametrize("sort", [Dpp(), Ssd()])
def test_what_does_not_fit_is_refused(sort, change, message):
    given = {"table": np.ones((3, 2), np.float32), "rows": [0, 1], "size": 2, "window": 2} | change
    weight = {"alpha": 1.0} if isinstance(sort, Dpp) else {"gamma": 1.0}
    with pytest.raises(ValueError, match=message):
        sort.choose(
            given["table"], np.array(given["rows"], np.int32), np.zeros(2), **weight, size=given["size"],
            window=given["window"],
        )  # fmt: skip
