"""How a case's expectation is held against what was given: exact, approx:X, subset, property."""

from __future__ import annotations

import math
from typing import Any


def holds(match: str, given: Any, expected: Any) -> bool:
    """Whether `given` is what a case of this `match` expects.

    Of a subset, and of the properties that a suite's function has measured, what is expected must be there, at any
    depth of objects; more may be.

    Raises:
        ValueError: a kind of match that the format does not have.
    """
    if match == "exact":
        return _same(given, expected, 0.0, partly=False)
    if match.startswith("approx:"):
        return _same(given, expected, float(match.removeprefix("approx:")), partly=False)
    if match in ("subset", "property"):
        return _same(given, expected, 0.0, partly=True)
    raise ValueError(f'unknown match "{match}"; known are exact, approx:X, subset, property')


def _same(given: Any, expected: Any, tolerance: float, *, partly: bool) -> bool:
    """A whole double equals the same integer; a bool equals a bool alone."""
    if isinstance(expected, dict):
        return (
            isinstance(given, dict)
            and (partly or len(given) == len(expected))
            and all(
                key in given and _same(given[key], part, tolerance, partly=partly) for key, part in expected.items()
            )
        )
    if isinstance(expected, list):
        return (
            isinstance(given, list | tuple)
            and len(given) == len(expected)
            and all(_same(one, other, tolerance, partly=partly) for one, other in zip(given, expected, strict=True))
        )
    if isinstance(expected, bool) or isinstance(given, bool) or not isinstance(expected, int | float):
        return type(given) is type(expected) and given == expected
    if not isinstance(given, int | float):
        return False
    return given == expected or (tolerance > 0 and math.isclose(given, expected, rel_tol=tolerance))
