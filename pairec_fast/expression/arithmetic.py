"""Operators over arrays of numbers, the quick way of what the languages say about single values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import elementary
from pairec_fast.expression.convert import INT_MIN
from pairec_fast.expression.vector import Mask, One, Operand, Vector, either

Arrays = Callable[..., Any]


def numeric(operand: Operand, kinds: str) -> NDArray[Any] | None:
    """The numbers of an operand [count] or [], if all of it is of `kinds`: f, i or b."""
    if isinstance(operand, Vector):
        return operand.data if operand.kind in kinds else None
    kind = {float: "f", int: "i", bool: "b"}.get(type(operand.value), "")
    if not kind or kind not in kinds or (kind == "i" and not INT_MIN <= operand.value < 2**63):
        return None
    return np.array(operand.value)


def nils(operands: Sequence[Operand]) -> Mask | None:
    mask: Mask | None = None
    for operand in operands:
        if isinstance(operand, Vector):
            mask = either(mask, operand.nil)
    return mask


def of_numbers(compute: Arrays, kinds: str = "f") -> Callable[[Sequence[Operand], int], Operand | None]:
    """An operator that takes numbers alone: where a row is nil, it fails."""

    def fast(operands: Sequence[Operand], count: int) -> Operand | None:
        arrays = [numeric(operand, kinds) for operand in operands]
        if any(array is None for array in arrays):
            return None
        result = compute(*arrays)
        return None if result is None else Vector(result, None, None, nils(operands))

    return fast


def equality(same: bool, mixed: bool) -> Callable[[Sequence[Operand], int], Operand | None]:
    """`==`, or `!=`: nil equals nil alone. With `mixed`, an int may equal a double; otherwise they differ in kind."""

    def fast(operands: Sequence[Operand], count: int) -> Operand | None:
        left, right = operands
        if isinstance(left, One):
            left, right = right, left
        assert isinstance(left, Vector)
        if isinstance(right, One) and isinstance(right.value, str) and left.kind == "c":
            return _equals_text(left, right.value, same)
        a, b = numeric(left, "fib"), numeric(right, "fib")
        if a is None:
            return None
        none = np.zeros(count, np.bool_) if left.nil is None else left.nil
        if isinstance(right, One) and right.value is None:
            return Vector(none == same)
        if b is None:
            if isinstance(right, One) and isinstance(right.value, (str, list, dict)):
                return Vector(np.full(count, not same))
            return None
        if a.dtype.kind != b.dtype.kind and (not mixed or "b" in (a.dtype.kind, b.dtype.kind)):
            equal = np.zeros(count, np.bool_)
        else:
            equal = a == b
        if left.nil is not None or (isinstance(right, Vector) and right.nil is not None):
            other = right.nil if isinstance(right, Vector) and right.nil is not None else np.zeros(count, np.bool_)
            equal = np.where(none | other, none & other, equal)
        return Vector(equal if same else ~equal)

    return fast


def _equals_text(left: Vector, text: str, same: bool) -> Vector:
    """Codes against one text; nil is no text."""
    vocabulary = left.vocabulary
    assert vocabulary is not None
    if len(vocabulary) > left.data.size:  # a few rows of a large vocabulary: look only at what they have
        equal = np.array([code >= 0 and text == vocabulary[code] for code in left.data.tolist()], np.bool_)
    else:
        equal = np.array([*(text == value for value in vocabulary), False], np.bool_)[left.data]
    return Vector(equal if same else ~equal)


def among_texts(texts: frozenset[str]) -> Callable[[Sequence[Operand], int], Operand | None]:
    """`in` a list of texts, for columns that have texts alone."""

    def fast(operands: Sequence[Operand], count: int) -> Operand | None:
        left = operands[0]
        if not isinstance(left, Vector) or left.vocabulary is None or len(left.vocabulary) > count:
            return None
        if not set(map(type, left.vocabulary)) <= {str, type(None)}:
            return None
        return Vector(np.array([*(value in texts for value in left.vocabulary), False], np.bool_)[left.data])

    return fast


def power_column(left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
    a, b = np.broadcast_arrays(left.astype(np.float64), right.astype(np.float64))
    return elementary.power(np.ascontiguousarray(a), np.ascontiguousarray(b))


def as_int64(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Doubles toward zero, the smallest int64 where they do not fit."""
    if numbers.dtype.kind == "i":
        return numbers.astype(np.int64)
    fits = (numbers >= -(2.0**63)) & (numbers < 2.0**63)
    return np.where(fits, np.where(fits, numbers, 0.0).astype(np.int64), INT_MIN)


def membership(mixed: bool) -> Callable[[Sequence[Operand], int], Operand | None]:
    """`in` for numbers in one list; with `mixed`, ints and doubles may be equal."""

    def fast(operands: Sequence[Operand], count: int) -> Operand | None:
        left, right = operands
        if not isinstance(left, Vector) or not isinstance(right, One) or not isinstance(right.value, (list, tuple)):
            return None
        if left.kind not in "fi":
            return None
        wanted: set[type] = {float, int} if mixed else {float} if left.kind == "f" else {int}
        elements = [element for element in right.value if type(element) in wanted]
        if any(isinstance(element, int) and not -(2**53) <= element <= 2**53 for element in elements):
            return None  # an int that is no double: compared one by one
        found = np.isin(left.data, np.array(elements, left.data.dtype if not mixed else np.float64))
        if left.kind == "i" and mixed and (np.abs(left.data) > 2**53).any():
            return None
        return Vector(found if left.nil is None else np.where(left.nil, any(e is None for e in right.value), found))

    return fast
