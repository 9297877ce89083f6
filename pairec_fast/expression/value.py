"""The values of expressions and how Go prints, adds and compares them: Python's own, where the two differ."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from pairec_fast.expression.convert import INT_MAX, INT_MIN


class Failure(Exception):
    """An expression that cannot be evaluated for the values at hand: one row's trouble, never the request's."""


class Unsigned(int):
    """A number of Go's uint64, which `hash` gives; it is no number for govaluate's operators."""


class Moment(int):
    """A text that looks like a date, in nanoseconds; the antlr language compares it with its like alone."""


def public(value: Any) -> Any:
    """A value as those outside know it: whole numbers of Go's kinds are whole numbers."""
    return int(value) if type(value) in (Unsigned, Moment) else value


def is_float(value: Any) -> bool:
    return type(value) is float


def is_int(value: Any) -> bool:
    return type(value) is int or type(value) is Unsigned


def is_number(value: Any) -> bool:
    return type(value) in (float, int, Unsigned)


def wrap(number: int) -> int:
    """`number` as int64, with the overflow of the machine."""
    return number if INT_MIN <= number <= INT_MAX else (number - INT_MIN & (1 << 64) - 1) + INT_MIN


def truncated(number: float) -> int:
    """A double as int64: toward zero, and the smallest int64 where it does not fit, as Go has it on x86-64."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else INT_MIN


def divided(left: float, right: float) -> float:
    """IEEE 754's division, which Python refuses for 0."""
    if right == 0.0:
        if left == 0.0 or left != left:
            return math.nan
        return math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def power(base: float, exponent: float) -> float:
    """The C library's pow. Python raises where that gives an infinity or no number."""
    try:
        return math.pow(base, exponent)
    except OverflowError:
        odd = exponent == math.floor(exponent) and math.fmod(exponent, 2.0) != 0.0
        return -math.inf if base < 0 and odd else math.inf
    except ValueError:
        if base != 0.0:
            return math.nan
        odd = exponent == math.floor(exponent) and math.fmod(exponent, 2.0) != 0.0
        return math.copysign(math.inf, base) if odd else math.inf


def remainder(left: float, right: float) -> float:
    """C's fmod, with the sign of the left side; not a number for a right side of 0."""
    return math.nan if right == 0.0 or math.isinf(left) or left != left else math.fmod(left, right)


def text_of(value: Any) -> str:
    """What Go's `%v` prints."""
    if value is None:
        return "<nil>"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(text_of, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{text_of(key)}:{text_of(value[key])}' for key in sorted(value, key=text_of))}]"
    return str(value)


def float_text(value: float) -> str:
    """A double in the fewest digits, with an exponent of at least two digits below 1e-4 and from 1e6 on."""
    if not math.isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    if value == 0.0:
        return "-0" if math.copysign(1.0, value) < 0 else "0"
    parts = Decimal(repr(value)).normalize()
    digits = "".join(map(str, parts.as_tuple().digits))
    exponent = parts.adjusted()
    if -4 <= exponent < 6:
        return format(parts, "f")
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{'-' if value < 0 else ''}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
