"""PAI-Rec's cases of filters hold against the bound filters."""

from __future__ import annotations

import pytest

from tests.contract.filters import run_filter
from tests.worlds import suite


@pytest.mark.parametrize("case", suite("filter"), ids=lambda case: case["id"])
def test_case_of_filters_holds(case):
    assert run_filter(case["input"], case["expected"]) == case["expected"]
