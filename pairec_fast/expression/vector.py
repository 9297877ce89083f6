"""Whole columns of values while an expression is evaluated: numbers as arrays, everything else as codes.

The meaning of every operation is a function of plain Python values. Over columns it is asked once per distinct
combination of values, unless a function of arrays is known to give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.expression.convert import INT_MAX, INT_MIN
from pairec_fast.expression.value import Failure, Unsigned, public

Mask = NDArray[np.bool_]
# Numbers or bools [count], a NaN being a missing key; or codes [count] int32 into a vocabulary, -1 being a missing key.
Column = NDArray[Any] | tuple[NDArray[np.int32], Sequence[Any]]


class One(NamedTuple):
    """One value for all rows, or the failure of all rows."""

    value: Any


class Vector(NamedTuple):
    """A value for each row.

    `data` [count] float64, int64, bool, or codes int64 into `vocabulary` (-1: nil). `nil` [count] marks rows without a
    value where `data` is numbers. `failed` [count] marks rows whose evaluation failed, whatever the rest says.
    """

    data: NDArray[Any]
    vocabulary: Sequence[Any] | None = None
    nil: Mask | None = None
    failed: Mask | None = None

    @property
    def kind(self) -> str:
        """f, i, b, or c for codes."""
        return "c" if self.vocabulary is not None else str(self.data.dtype.kind)

    def failing(self, mask: Mask | None) -> Vector:
        """The same, with more rows failed."""
        return self if mask is None else self._replace(failed=either(self.failed, mask))


Operand = One | Vector


def either(left: Mask | None, right: Mask | None) -> Mask | None:
    if left is None or right is None:
        return left if right is None else right
    both: Mask = left | right
    return both


def is_failure(operand: Operand) -> bool:
    return isinstance(operand, One) and isinstance(operand.value, Failure)


def of_column(column: Column) -> Vector:
    """A column of an item table: NaN and code -1 are nil."""
    if isinstance(column, tuple):
        codes, vocabulary = column
        return Vector(np.maximum(codes, -1).astype(np.int64), vocabulary)
    if column.dtype.kind == "f":
        data = column.astype(np.float64)
        nil = np.isnan(data)
        return Vector(data, None, nil if nil.any() else None)
    return Vector(column if column.dtype.kind == "b" else column.astype(np.int64))


def to_column(vector: Vector) -> Column:
    """A column as the item table has them: nil and failed rows are missing."""
    missing = either(vector.nil, vector.failed)
    if vector.vocabulary is not None:
        codes = vector.data.astype(np.int32)
        vocabulary = vector.vocabulary
        # A larger vocabulary is a column's own, as it was given.
        if len(vocabulary) <= 2 * codes.size and Unsigned in set(map(type, vocabulary)):
            vocabulary = [public(value) for value in vocabulary]
        return (codes if missing is None else np.where(missing, np.int32(-1), codes)), vocabulary
    if missing is None or not missing.any():
        return vector.data
    if vector.kind == "f":
        return np.where(missing, np.nan, vector.data)
    coded = to_codes(vector)  # an int or a bool has no NaN to say that it is missing
    return np.where(missing, np.int32(-1), coded.data.astype(np.int32)), coded.vocabulary or []


def to_codes(vector: Vector) -> Vector:
    """The same rows as codes."""
    if vector.vocabulary is not None:
        return vector
    # Doubles by their bits: 0.0 and -0.0 print differently, and there is more than one NaN.
    data = vector.data.view(np.int64) if vector.kind == "f" else vector.data
    distinct, codes = np.unique(data, return_inverse=True)
    values = (distinct.view(np.float64) if vector.kind == "f" else distinct).tolist()
    codes = codes.reshape(-1)
    return Vector(codes if vector.nil is None else np.where(vector.nil, -1, codes), values, None, vector.failed)


def full(value: Any, count: int) -> Vector:
    """One value for each row."""
    if isinstance(value, Failure):
        return Vector(np.zeros(count), None, None, np.full(count, True))
    if type(value) in (float, bool) or (type(value) is int and INT_MIN <= value <= INT_MAX):
        return Vector(np.full(count, value, {float: np.float64, bool: np.bool_, int: np.int64}[type(value)]))
    return Vector(np.full(count, -1 if value is None else 0, np.int64), [] if value is None else [value])


def spread(operand: Operand, count: int) -> Vector:
    return full(operand.value, count) if isinstance(operand, One) else operand


def choose(mask: Mask, left: Operand, right: Operand) -> Vector:
    """Row by row `left` where `mask` [count] holds, else `right`."""
    a, b = spread(left, mask.size), spread(right, mask.size)
    failed = nil = None
    if a.failed is not None or b.failed is not None:
        failed = np.where(mask, _mask(a.failed, mask.size), _mask(b.failed, mask.size))
    # Rows that failed everywhere, or are nil everywhere, need no kind of their own.
    if is_failure(left) or (isinstance(left, One) and left.value is None and b.kind != "c"):
        a = Vector(b.data, b.vocabulary, None if is_failure(left) else np.full(mask.size, True))
    elif is_failure(right) or (isinstance(right, One) and right.value is None and a.kind != "c"):
        b = Vector(a.data, a.vocabulary, None if is_failure(right) else np.full(mask.size, True))
    if a.kind == b.kind != "c":
        if a.nil is not None or b.nil is not None:
            nil = np.where(mask, _mask(a.nil, mask.size), _mask(b.nil, mask.size))
        return Vector(np.where(mask, a.data, b.data), None, nil, failed)
    a, b = to_codes(a), to_codes(b)
    assert a.vocabulary is not None and b.vocabulary is not None
    if a.vocabulary is b.vocabulary:
        return Vector(np.where(mask, a.data, b.data), a.vocabulary, None, failed)
    a, b = _compact(a), _compact(b)
    assert a.vocabulary is not None and b.vocabulary is not None
    shifted = np.where(b.data < 0, -1, b.data + len(a.vocabulary))
    return Vector(np.where(mask, a.data, shifted), [*a.vocabulary, *b.vocabulary], None, failed)


def _compact(vector: Vector) -> Vector:
    """Codes into a vocabulary of what the rows have, if they are a few rows of a large one."""
    if vector.vocabulary is None or len(vector.vocabulary) <= vector.data.size:
        return vector
    present, codes = np.unique(vector.data, return_inverse=True)
    values = [None if code < 0 else vector.vocabulary[code] for code in present.tolist()]
    return Vector(codes.reshape(-1), values, None, vector.failed)


def _mask(mask: Mask | None, count: int) -> Mask:
    return np.zeros(count, np.bool_) if mask is None else mask


def is_nil(vector: Vector) -> Mask:
    if vector.vocabulary is None:
        return _mask(vector.nil, vector.data.size)
    vector = _compact(vector)
    assert vector.vocabulary is not None
    nil: Mask = vector.data < 0
    nones = [code for code, value in enumerate(vector.vocabulary) if value is None] if nil.size else []
    return nil | np.isin(vector.data, nones) if nones else nil


def truth(operand: Operand, count: int) -> tuple[Mask, Mask]:
    """Which rows are true, and which are no booleans at all or have failed."""
    vector = spread(operand, count)
    if vector.kind == "b":
        bad = _mask(either(vector.nil, vector.failed), count)
        return vector.data & ~bad, bad
    if vector.vocabulary is None:
        return np.zeros(count, np.bool_), np.ones(count, np.bool_)
    answers = lift(lambda value: value if type(value) is bool else _no_bool(), [vector], count)
    if answers.kind != "b":
        return np.zeros(count, np.bool_), np.ones(count, np.bool_)
    bad = _mask(answers.failed, count)
    return answers.data & ~bad, bad


def _no_bool() -> Any:
    raise Failure("not a boolean")


def lift(function: Callable[..., Any], operands: Sequence[Operand], count: int) -> Vector:
    """`function` of Python values for every row, asked once per distinct combination of the operands' values."""
    failed: Mask | None = None
    columns: list[tuple[NDArray[np.int64], list[Any]]] = []
    slots: list[int | None] = []
    for operand in operands:
        if isinstance(operand, One):
            if isinstance(operand.value, Failure):
                return full(operand.value, count)
            slots.append(None)
            continue
        slots.append(len(columns))
        columns.append(_distinct(operand))
        failed = either(failed, operand.failed)
    if not columns:
        return full(attempt(function, *(operand.value for operand in operands if isinstance(operand, One))), count)
    codes, values = columns[0]
    combined = codes
    combinations: NDArray[np.int64] = np.arange(len(values))[None, :]
    for codes, values in columns[1:]:
        # Combine two at a time, so that the number of combinations never exceeds the number of rows.
        keys, combined = np.unique(combined * len(values) + codes, return_inverse=True)
        combined = combined.reshape(-1)
        combinations = np.vstack([combinations[:, keys // len(values)], keys % len(values)])
    places = iter(combinations)
    if failed is not None:
        wanted = np.unique(combined[~failed])  # what only failed rows have is not asked for
    outcomes: list[Any] = [None] * combinations.shape[1]
    asked = range(combinations.shape[1]) if failed is None else wanted.tolist()
    arguments: list[Iterable[Any]] = []
    for operand, slot in zip(operands, slots, strict=True):
        if isinstance(operand, One) or slot is None:
            arguments.append(repeat(operand[0], len(asked)))
        else:
            own = columns[slot][1]
            codes = next(places)
            arguments.append([own[code] for code in (codes if failed is None else codes[wanted]).tolist()])
    for place, outcome in zip(asked, _outcomes(function, arguments), strict=True):
        outcomes[place] = outcome
    return _gathered(outcomes, combined, failed)


def _outcomes(function: Callable[..., Any], arguments: Sequence[Iterable[Any]]) -> list[Any]:
    outcomes: list[Any] = []
    for values in zip(*arguments, strict=True):
        try:
            outcomes.append(function(*values))
        except Failure as failure:
            outcomes.append(failure)
    return outcomes


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` gives, or its failure as a value."""
    try:
        return function(*arguments)
    except Failure as failure:
        return failure


def _distinct(vector: Vector) -> tuple[NDArray[np.int64], list[Any]]:
    """Codes from 0 on, and the values they stand for; nil is None, a value like the others."""
    vector = to_codes(vector)
    assert vector.vocabulary is not None
    if len(vector.vocabulary) > vector.data.size:  # a few rows of a large vocabulary: look only at what they have
        present, codes = np.unique(vector.data, return_inverse=True)
        return codes.reshape(-1), [None if code < 0 else vector.vocabulary[code] for code in present.tolist()]
    return np.where(vector.data < 0, len(vector.vocabulary), vector.data), [*vector.vocabulary, None]


def _gathered(outcomes: list[Any], codes: NDArray[np.int64], failed: Mask | None) -> Vector:
    """Rows of outcomes: as numbers where all are of one kind, else as codes."""
    kinds = set(map(type, outcomes))
    none = bad = np.zeros(0, np.bool_)
    if kinds & {Failure, type(None)}:
        bad = np.array([isinstance(outcome, Failure) for outcome in outcomes], np.bool_)
        none = np.array([outcome is None for outcome in outcomes], np.bool_)
        if bad.any():
            failed = either(failed, bad[codes])
        kinds -= {Failure, type(None)}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in (float, int, bool):
        plain = [outcome if type(outcome) is kind else 0 for outcome in outcomes] if none.size else outcomes
        if kind is not int or (min(plain) >= INT_MIN and max(plain) <= INT_MAX):
            dtype = {float: np.float64, int: np.int64, bool: np.bool_}[kind]
            return Vector(np.array(plain, dtype)[codes], None, none[codes] if none.any() else None, failed)
    if not none.size:
        return Vector(codes, outcomes, None, failed)
    places = np.where(none | bad, -1, np.arange(len(outcomes)))
    return Vector(places[codes], outcomes, None, failed)
