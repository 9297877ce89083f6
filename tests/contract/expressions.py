"""Conditions, formulas and normalizers: suites filter_condition, rank_score_expression and normalizer."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import numpy as np

from pairec_fast.core.columns import column_of
from pairec_fast.expression import Condition, compile, mask, matches, normalizer


def run_condition(given: dict[str, Any]) -> Any:
    """Whether the conditions hold; told apart where one item and a table of it do not agree."""
    conditions = msgspec.convert(given["conditions"], list[Condition])
    one = matches(conditions, given["user"], given["item"])
    columns = {name: column_of([value]) for name, value in given["item"].items()}
    table = bool(mask(conditions, columns, 1, given["user"])[0])
    return one if one == table else {"one": one, "table": table}


def run_rank_score(given: dict[str, Any], expected: Any) -> Any:
    """The score of an item; with `algo_scores` where those are expected."""
    algos, before = given["algo_scores"], given.get("score", 0.0)
    expression = compile(given["expr"], given["ASTType"])
    values = {**given["properties"], **algos, "current_score": before}
    out = np.array([before], np.float64)
    expression.evaluate({name: column_of([value]) for name, value in values.items()}, out)
    if not isinstance(expected, dict):
        return out[0].item()
    # Reading current_score also records it as an algorithm's.
    noted = {"recall_score": before} if "current_score" in expression.names else {}
    return {"score": out[0].item(), "algo_scores": {**algos, **noted}}


def run_normalizer(given: dict[str, Any], expected: Any) -> Any:
    """The value of a new feature; of one that is described, what is said of it."""
    made = normalizer(given["normalizer"], given.get("expression", ""), text=given.get("text", ""))
    value = made.value(given["params"])
    columns = {name: column_of([one]) for name, one in given["params"].items()}
    (over,) = _values(made.column(columns, 1))
    if isinstance(expected, dict) and set(expected) == {"length", "last"}:
        return {"length": len(value), "last": value[-1]}
    if isinstance(expected, dict) and set(expected) == {"type", "equals"}:
        return {"type": type(value).__name__, "equals": _described(value, expected["equals"])}
    return value if value == over or value != value else {"one": value, "column": over}


def _described(value: float, words: str) -> str:
    """`words`, of a time in seconds or milliseconds, if they hold."""
    scale = 1000 if "milliseconds" in words else 1
    return words if abs(value - time.time() * scale) <= scale else f"{value}, which is not so"


def _values(column: Any) -> list[Any]:
    if isinstance(column, tuple):
        codes, texts = column
        return [texts[code] if code >= 0 else None for code in codes.tolist()]
    return list(column.tolist())
