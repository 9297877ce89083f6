"""Conditions over a whole item table: `matches` for every row at once, with the same answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.expression.condition import (
    COMPARE,
    DOMAINS,
    INTEGERS,
    MISSING,
    Condition,
    Side,
    check,
    comparison,
    counts,
    is_or,
    order_defaults,
    side,
)
from pairec_fast.expression.condition_expression import holds_over
from pairec_fast.expression.convert import INT_MIN, to_float, to_int, to_int_array
from pairec_fast.expression.vector import Column, Mask


def mask(
    conditions: Sequence[Condition],
    columns: Mapping[str, Column],
    count: int,
    user: Mapping[str, Any] | None = None,
) -> NDArray[np.uint8]:
    """Whether all conditions hold, for every row of an item table.

    Reads `columns`, each [count]; a name without a column is a key no item has. Returns [count] uint8, 1 where
    `matches(conditions, user, item)`. Costs one pass per comparison; text is compared once per distinct value.

    Raises:
        ConfigError: an `expression` that is none.
        ValueError: a column is not [count], or neither numbers nor bools.
    """
    check(conditions)
    holds, _ = _all(conditions, _Table(columns, count, user or {}))
    return holds.view(np.uint8)


class _Table:
    def __init__(self, columns: Mapping[str, Column], count: int, user: Mapping[str, Any]) -> None:
        self.columns = columns
        self.count = count
        self.user = user

    def full(self, value: bool) -> Mask:
        return np.full(self.count, value)

    def column(self, name: str) -> Column | None:
        column = self.columns.get(name)
        if column is None:
            return None
        codes = column[0] if isinstance(column, tuple) else column
        if codes.shape != (self.count,):
            raise ValueError(f"column {name!r} has shape {codes.shape}; the table has {self.count} rows")
        if codes.dtype.kind not in "biuf" or codes.dtype in (np.uint64, np.longdouble):
            raise ValueError(f"column {name!r} is {codes.dtype}; use bool, a number, or codes and a vocabulary")
        return column


# Both return what holds and which rows met an error; an error ends a row's evaluation there and then, as in `matches`.
def _all(conditions: Sequence[Condition], table: _Table) -> tuple[Mask, Mask]:
    undecided, failed = table.full(True), table.full(False)
    for condition in conditions:
        holds, fails = _one(condition, table)
        failed |= undecided & fails
        undecided &= holds & ~fails
    return undecided, failed


def _any(conditions: Sequence[Condition], table: _Table) -> tuple[Mask, Mask]:
    undecided, failed, true = table.full(True), table.full(False), table.full(False)
    for condition in conditions:
        holds, fails = _one(condition, table)
        failed |= undecided & fails
        true |= undecided & holds & ~fails
        undecided &= ~holds & ~fails
    return true, failed


def _one(condition: Condition, table: _Table) -> tuple[Mask, Mask]:
    if condition.operator == "bool":
        known = [inner for inner in condition.configs if counts(inner)]
        return (_any if is_or(condition) else _all)(known, table)
    if not counts(condition):
        return table.full(True), table.full(False)
    if condition.operator == "expression":
        return holds_over(condition.value, condition.domain, table.user, table.columns, table.count)
    if condition.domain not in DOMAINS:
        return table.full(False), table.full(True)
    return _leaf(condition, table), table.full(False)


def _leaf(condition: Condition, table: _Table) -> Mask:
    """One comparison: a side is a column, or one value for all rows."""
    left: Any = table.user.get(condition.name, MISSING)
    left_column = None
    if condition.domain != "user":
        left, left_column = MISSING, table.column(condition.name)
    right = side(condition)
    right_column = None
    if right.kind == "user":
        right = Side("user", table.user.get(right.value, MISSING))
    elif right.kind == "item":
        right_column = table.column(right.value)
        right = Side("item", MISSING)
    if left_column is None and right_column is None:
        return table.full(comparison(condition, right)(left))
    if isinstance(left_column, np.ndarray) and not isinstance(right_column, tuple):
        holds = _numeric(condition, left_column, right, right_column)
        if holds is not None:
            return holds
    return _distinct(condition, left, left_column, right, right_column)


def _distinct(
    condition: Condition, left: Any, left_column: Column | None, right: Side, right_column: Column | None
) -> Mask:
    """Ask the scalar once per distinct value, or per distinct pair of values where both sides are columns."""
    lefts, left_code = _values(left_column, left)
    rights, right_code = _values(right_column, right.value)
    pairs = left_code * len(rights) + right_code
    if left_column is not None and right_column is not None:
        distinct, pairs = np.unique(pairs, return_inverse=True)
    else:
        distinct = np.arange(len(lefts) * len(rights))
    tests = [comparison(condition, Side(right.kind, value)) for value in rights]
    answers = [tests[pair % len(rights)](lefts[pair // len(rights)]) for pair in distinct.tolist()]
    holds: Mask = np.array(answers, np.bool_)[pairs]
    return holds


def _values(column: Column | None, value: Any) -> tuple[list[Any], NDArray[np.intp]]:
    """The distinct values of a column, `MISSING` among them, and for every row which it has."""
    if column is None:
        return [value], np.zeros(1, np.intp)
    if isinstance(column, tuple):
        codes, vocabulary = column
        if len(vocabulary) > codes.size:  # a few candidates of a large vocabulary: look only at what they have
            present, which = np.unique(np.maximum(codes, -1), return_inverse=True)
            return [vocabulary[code] if code >= 0 else MISSING for code in present.tolist()], which
        return [*vocabulary, MISSING], np.where(codes < 0, len(vocabulary), codes).astype(np.intp)
    if column.dtype.kind == "f":
        # By bits: 0.0 and -0.0 print differently, so they are two values here.
        bits, which = np.unique(column.astype(np.float64).view(np.int64), return_inverse=True)
        values = [value if value == value else MISSING for value in bits.view(np.float64).tolist()]
        return values, which
    distinct, which = np.unique(column, return_inverse=True)
    return distinct.tolist(), which


def _numeric(condition: Condition, left: NDArray[Any], right: Side, right_column: NDArray[Any] | None) -> Mask | None:
    """Compare numbers with NumPy, whatever the number of distinct values; None where that is not the same thing."""
    name, kind = condition.operator, condition.type
    if left.dtype.kind == "b" or (right_column is not None and right_column.dtype.kind == "b"):
        return None
    compare: Any
    number: Callable[[Any, Any], Any] = to_float if kind == "float" else to_int
    convert: Callable[[NDArray[Any]], NDArray[Any]] = _floats if kind == "float" else _integers
    if name in COMPARE and kind in ("float", *INTEGERS):
        compare, default = COMPARE[name], order_defaults(condition)[1]
    elif name in ("equal", "not_equal") and kind in INTEGERS:
        compare, default = (np.equal, -2) if name == "equal" else (np.not_equal, 0)
    elif name in ("in", "not_in") and kind == "int" and right_column is None:
        if right.value is MISSING:
            return None
        found = np.isin(_integers(left), np.array(to_int_array(right.value), np.int64))
        return _where_missing(left, found if name == "in" else ~found, comparison(condition, right)(MISSING))
    else:
        return None
    if right_column is None and right.value is MISSING:
        return None
    values = number(right.value, default) if right_column is None else convert(right_column)
    holds: Mask = compare(convert(left), values)
    if right_column is not None:
        holds = _where_missing(right_column, holds, comparison(condition, Side(right.kind, MISSING))(0))
    return _where_missing(left, holds, comparison(condition, right)(MISSING))


def _where_missing(column: NDArray[Any], holds: Mask, answer: bool) -> Mask:
    if column.dtype.kind == "f":
        holds[np.isnan(column)] = answer
    return holds


def _floats(column: NDArray[Any]) -> NDArray[np.float64]:
    return column.astype(np.float64)


def _integers(column: NDArray[Any]) -> NDArray[np.int64]:
    """`to_int` of every number: truncated toward zero, the smallest int64 where it does not fit."""
    if column.dtype.kind != "f":
        return column.astype(np.int64)
    wide = column.astype(np.float64)
    fits = (wide >= -(2.0**63)) & (wide < 2.0**63)
    return np.where(fits, np.where(fits, wide, 0.0).astype(np.int64), INT_MIN)
