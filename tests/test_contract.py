"""PAI-Rec's black-box cases through the runner, and the runner itself."""

from __future__ import annotations

import json

import pytest

from tests.contract import __main__ as runner
from tests.contract.compare import holds
from tests.worlds import CASES, ROOT

FILE = ROOT / "tests" / "contract" / "pairec-cases.json"
KNOWN = sorted({case["suite"] for case in CASES if runner.function_of(case["suite"])})


@pytest.mark.parametrize("suite", KNOWN)
def test_cases_of_a_suite_hold_unless_there_is_a_reason(suite):
    cases = [case for case in CASES if case["suite"] == suite]
    reasons = {case["id"]: runner.on_purpose(case) for case in cases}
    assert [outcome for outcome in runner.run(cases) if outcome.why and not reasons[outcome.id]] == []


def test_nearly_all_cases_hold():
    missing = {case["suite"] for case in CASES} - set(KNOWN)
    if missing:
        pytest.skip(f"no runner here for {', '.join(sorted(missing))}")
    failed = {outcome.id for outcome in runner.run(CASES) if outcome.why}
    assert len(failed) <= 0.05 * len(CASES)
    assert failed == {case["id"] for case in CASES if runner.on_purpose(case)}


def case(suite: str, given: object, expected: object, match: str = "exact") -> dict:
    return {"id": f"{suite}-1", "suite": suite, "match": match, "input": given, "expected": expected}


def file_of(tmp_path, *cases: dict):
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"format": 1, "cases": cases}))
    return str(path)


def test_the_last_line_counts_and_failures_are_named(tmp_path, capsys):
    good = case("json_encoding", {"object": {"b": 1, "a": 20.0}}, '{"a":20,"b":1}')
    wrong = case("json_encoding", {"object": {}}, "[]")
    broken = case("json_encoding", {}, "{}")
    assert runner.main([file_of(tmp_path, good)]) == 0
    assert capsys.readouterr().out == "1 passed, 0 failed\n"
    assert runner.main([file_of(tmp_path, good, wrong | {"id": "w"}, broken | {"id": "b"}, case("new", {}, 1))]) == 1
    *named, last = capsys.readouterr().out.splitlines()
    assert last == "1 passed, 3 failed"
    assert named == [
        'json_encoding  w  gave "{}", expected "[]"',
        "json_encoding  b  KeyError: 'object'",
        'new  new-1  unknown suite "new"',
    ]


def test_what_differs_on_purpose_fails_and_is_listed_with_its_reason(tmp_path, capsys):
    given = {"item": {"item_id": 99886867}}
    assert runner.main([file_of(tmp_path, case("callback_record", given, {"item_id": "9.9886867e+07"}))]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "0 passed, 1 failed"
    assert said.err.startswith("on purpose: callback_record-1: a numeric item_id is kept as it was sent")


@pytest.mark.parametrize(
    ("match", "given", "expected", "equal"),
    [
        ("exact", {"a": 1}, {"a": 1.0}, True), ("exact", {"a": 1, "b": 2}, {"a": 1}, False), ("exact", True, 1, False),
        ("exact", 1, True, False), ("exact", (1, 2), [1, 2], True), ("exact", [1], [1, 2], False),
        ("exact", "1", 1, False),
        ("exact", None, None, True), ("exact", 0.1 + 0.2, 0.3, False), ("approx:1e-15", 0.1 + 0.2, 0.3, True),
        ("approx:1e-6", [1.000002], [1], False), ("approx:1e-6", [1.0000002], [1], True),
        ("approx:1e-6", "1", 1, False), ("subset", {"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"x": 1}}, True),
        ("subset", {"a": 1}, {"a": 1, "b": 2}, False),
        ("subset", {"a": [1, 2]}, {"a": [1]}, False), ("property", {"kept": 3, "rule": "r"}, {"kept": 3}, True),
        ("exact", float("nan"), 1, False), ("approx:1e-6", True, 1, False), ("exact", {}, [], False),
    ],
)  # fmt: skip
def test_what_a_match_accepts(match, given, expected, equal):
    assert holds(match, given, expected) is equal


def test_an_unknown_match_is_no_match():
    with pytest.raises(ValueError, match='unknown match "close"'):
        holds("close", 1, 1)
