"""The bench of the forest scorer says what it measured: rows as described, a drawing that can be read."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

pytest.importorskip("lightgbm")

from bench.bench_forest import compared, measures, others
from bench.forests import CANDIDATES, REQUESTS, Case, categorical, made_up, names, table, train
from bench.growth import LIGHTGBM, OURS, plot
from bench.peers.forests import PEERS, SingleRowFast
from bench.turns import in_turns, over
from pairec_fast.core import Forest


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Three trees; what is compared is the same as of a thousand."""
    file = tmp_path_factory.mktemp("forest") / "model.txt"
    train(3, 4, rows=2_000).save_model(file)
    pool = table(5_000, 2)
    return Case("tiny", file, pool, made_up(Forest.load(file), pool, items=3_000))


def test_columns_are_of_user_item_and_both():
    assert [[name[0] for name in names()].count(side) for side in "uix"] == [25, 25, 10]
    assert names()[24:26] == ["u24", "i0"] and names(61)[-1] == "u25"
    X = table(4_000, 0)
    assert [len(np.unique(X[:, column])) for column in categorical()] == [40, 8, 150, 250, 12]
    assert 12 <= np.isnan(X).any(axis=0).sum() <= 18
    assert ((X == 0).mean(axis=0) > 0.5).sum() >= 12


def test_scores_are_lightgbms(case):
    assert case.differing() == (0, 2 * 4 * 5_000 + REQUESTS * CANDIDATES)


def test_single_row_fast_gives_the_same_bits(case):
    """Its row is an address: of another width or type it would measure something else."""
    fast = SingleRowFast(case)
    for row, expected in zip(case.blocks(1)[:20], case.lightgbm(case.pool), strict=False):
        assert fast(SingleRowFast.address(row)) == 0
        assert fast.out[0] == expected


def test_peers_that_cannot_are_left_out_with_a_reason(case, monkeypatch, capsys):
    def absent(case):
        raise ImportError("No module named 'lleaves'")

    monkeypatch.setitem(PEERS, "lleaves", ("lleaves", absent))
    assert others(case, ["lleaves"]) == {}
    assert capsys.readouterr().err == "  lleaves: left out: No module named 'lleaves'\n"


def test_every_measure_has_a_cell(case, monkeypatch):
    monkeypatch.setattr("bench.turns.ROUND_NS_MIN", 0)
    cells = compared(case, [], rounds=1)
    assert list(cells) == list(measures(case, []))
    assert cells["`Forest.load`"].endswith("×")


def test_turns_take_the_next_argument_each():
    seen = []
    in_turns({"call": over(seen.append, "ab")}, rounds=1)
    assert seen[:5] == list("ababa")


def test_drawing_is_svg_with_every_point():
    panel = {OURS: [(1, 2.0), (8, 0.5)], LIGHTGBM: [(1, 90.0), (8, 80.0)]}
    svg = ElementTree.fromstring(plot({"rows": panel, "trees": panel}, "somewhere"))
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 8
    assert "80" in [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
