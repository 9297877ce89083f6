"""PAI-Rec's black-box cases of sorts, through the bound stages."""

from __future__ import annotations

import pytest

from tests.contract import __main__ as contract
from tests.worlds import CASES

SORTS = [case for case in CASES if case["suite"] in ("sort", "dpp", "ssd")]


@pytest.mark.parametrize("case", SORTS, ids=lambda case: case["id"])
def test_a_case_of_pai_rec_holds(case):
    (outcome,) = contract.run([case])
    assert outcome.why == ""


def test_cases_are_found():
    assert len(SORTS) >= 34
