"""Run a file of black-box cases against the public code and say which hold.

    python -m tests.contract tests/contract/pairec-cases.json

A case passes when what the code gives holds against `expected` by the case's `match`. Everything else is a failure and
named: another outcome, an exception, a suite this runner does not know. What differs from PAI-Rec on purpose is a
failure too, and listed once more at the end with its reason. Exit code 0 if nothing failed but on purpose, else 1.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.compare import holds

# suite -> the function that gives the outcome of a case: of its input, or of its input and what is expected of it.
SUITES = {
    "filter_condition": "expressions:run_condition",
    "rank_score_expression": "expressions:run_rank_score",
    "normalizer": "expressions:run_normalizer",
    "feature_op": "features:run_feature_op",
    "group_hot_trigger": "recalls:run_trigger",
    "cache": "recalls:run_cache",
    "filter": "filters:run_filter",
    "sort": "sorts:run_sort",
    "dpp": "sorts:run_dpp",
    "ssd": "sorts:run_ssd",
    "rank_response": "rank:run_rank_response",
    "config": "config:run_config",
    "ab_hash": "experiments:run_hash",
    "ab_bucket": "experiments:run_bucket",
    "ab_match": "experiments:run_match",
    "callback_features": "requests:run_callback_features",
    "complex_type_features": "requests:run_complex_type_features",
    "http": "http:run_http",
    "http_encoding": "http:run_encoding",
    "callback": "callbacks:run_callback",
    "callback_sampling": "callbacks:run_sampling",
    "callback_record": "callbacks:run_record",
    "json_encoding": "callbacks:run_json",
    "datahub": "callbacks:run_round_trip",
}


def on_purpose(case: dict[str, Any]) -> str:
    """Why this engine gives something else than PAI-Rec here, or "" if it should not."""
    if case["suite"] != "callback_record" or "item_id" not in case["expected"]:
        return ""
    if isinstance(case["input"]["item"].get("item_id"), str):
        return ""
    return "a numeric item_id is kept as it was sent and a missing one refused: 9.98e+07 and <nil> name no item"


class Outcome(NamedTuple):
    """`why` is "" for a case that holds."""

    id: str
    suite: str
    why: str


def run(cases: list[dict[str, Any]]) -> Iterator[Outcome]:
    """The outcome of each case, in order."""
    for case in cases:
        yield Outcome(case["id"], case["suite"], _why(case))


def _why(case: dict[str, Any]) -> str:
    function = function_of(case["suite"])
    if function is None:
        return f'unknown suite "{case["suite"]}"'
    try:
        both = function.__code__.co_argcount == 2
        given = function(case["input"], case["expected"]) if both else function(case["input"])
        if holds(case["match"], given, case["expected"]):
            return ""
    except Exception as error:  # whatever it is, the other cases want to be seen
        return f"{type(error).__name__}: {error}"
    return f"gave {json.dumps(given, ensure_ascii=False, default=repr)}, expected {json.dumps(case['expected'])}"


def function_of(suite: str) -> Callable[..., Any] | None:
    """What runs the cases of a suite; None if this runner does not know it."""
    module, _, name = SUITES.get(suite, "").partition(":")
    if not module or importlib.util.find_spec(f"tests.contract.{module}") is None:
        return None
    function: Callable[..., Any] | None = getattr(importlib.import_module(f"tests.contract.{module}"), name, None)
    return function


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__.splitlines()[0])
    parser.add_argument("cases", type=Path, metavar="CASES.json")
    options = parser.parse_args(arguments)
    cases = json.loads(options.cases.read_text())["cases"]
    failed = {outcome.id: outcome for outcome in run(cases) if outcome.why}
    for outcome in failed.values():
        print(f"{outcome.suite}  {outcome.id}  {outcome.why:.400}")
    print(f"{len(cases) - len(failed)} passed, {len(failed)} failed", flush=True)
    meant = {case["id"]: why for case in cases if case["id"] in failed and (why := on_purpose(case))}
    for name, why in meant.items():  # on stderr, so that the count is the last line of what is read
        print(f"on purpose: {name}: {why}", file=sys.stderr)
    return int(len(failed) > len(meant))


if __name__ == "__main__":
    sys.exit(main())
