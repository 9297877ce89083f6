"""Random models score as LightGBM does, every way there is: a small dose of `python -m tests.faults.models`."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.forest import Forest
from pairec_fast.core.simd import isas
from tests.faults import models


def test_20_random_models_differ_in_0_bits():
    seen = models.run(20)
    assert (seen["models"], seen["wrong"]) == (20, 0)
    assert seen["cells"] > 200_000


def test_every_level_is_checked_in_a_process_of_its_own():
    alone, levels = models.run(2, first=20), models.run(2, first=20, levels=isas())
    assert (levels["wrong"], levels["cells"]) == (0, alone["cells"] * len(isas()))


def test_what_differs_is_seen_and_named(monkeypatch, capsys):
    """Rows rounded to float32 are other rows: not every model notices, a few do."""

    def rounded(forest: Forest, X: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return forest.predict(X.astype(np.float32))

    monkeypatch.setattr(models, "PATHS", [models.Path("rounded", "raw", rounded)])
    assert models.run(5)["wrong"] >= 3
    assert "rounded, float64, rows, rows 0 to 513: " in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [[1.0, -0.0], [np.nextafter(1, 2), 0.0], [np.nan, 0.0]])
def test_same_looks_at_bits_and_at_the_sign_of_zero(wrong):
    right = np.array([1.0, 0.0])
    assert models.same(right, right).all()
    assert not models.same(np.array(wrong), right).all()
