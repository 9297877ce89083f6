"""What people write: durations, quantiles, and what a test or a run is held to."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

UNITS_NS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s)\s*")
QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,2})?)")
SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


class TermError(ValueError):
    """Something written that cannot be read; the message names it and what would be right."""


@dataclass(frozen=True)
class Limit:
    """A quantile held to a time (`budget_ns`), or to so much more than its base (`ratio`: 1.1 is ten per cent more)."""

    name: str
    budget_ns: float | None = None
    ratio: float | None = None

    @property
    def q(self) -> float:
        return quantile_of(self.name)


@dataclass(frozen=True)
class Terms:
    """What one test is held to, and how it is measured."""

    limits: tuple[Limit, ...] = ()
    ratio: float | None = None
    n: int | None = None
    clock: str | None = None


def duration_ns(given: object) -> float:
    """Nanoseconds of "2ms", "150us", "1.5s", or of seconds as a number.

    Raises:
        TermError: it is none of these, or not above zero.
    """
    rule = 'a duration is "2ms", "150us", "1.5s", or seconds as a number'
    if isinstance(given, str):
        read = DURATION.fullmatch(given)
        if read is None:
            raise TermError(f"{given!r} is no duration; {rule}")
        ns = float(read[1]) * UNITS_NS[read[2]]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        ns = float(given) * 1e9
    else:
        raise TermError(f"{given!r} is no duration; {rule}")
    if not 0 < ns < math.inf:
        raise TermError(f"{given!r} is no duration above zero; {rule}")
    return ns


def quantile_of(name: str) -> float:
    """0.99 of "p99", 0.999 of "p99.9".

    Raises:
        TermError: it is no such name, or of no quantile above 0.
    """
    read = QUANTILE.fullmatch(name)
    if read is None or float(read[1]) == 0:
        raise TermError(f'{name!r} is no quantile; "p50", "p99" or "p99.9" would be')
    return round(float(read[1]) / 100, 6)


def parse_fail(text: str) -> Limit:
    """A limit as options write it: `p99:10%` (more than what is compared with) or `p99:2ms` (a budget).

    Raises:
        TermError: it reads otherwise.
    """
    name, colon, bound = text.partition(":")
    if not colon:
        raise TermError(f"{text!r} holds nothing to anything; p99:10% or p99:2ms would be right")
    quantile_of(name)
    share = SHARE.fullmatch(bound.strip())
    if share:
        return Limit(name, ratio=1 + float(share[1]) / 100)
    try:
        return Limit(name, budget_ns=duration_ns(bound))
    except TermError:
        raise TermError(
            f"{text!r}: {bound!r} is neither a share nor a duration; p99:10% or p99:2ms would be right"
        ) from None


def parse_marker(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Terms:
    """What `@pytest.mark.latency(p99="2ms", ratio=1.1, n=20000)` says.

    Raises:
        TermError: it says what the marker does not know, or in a way it does not read.
    """
    if args:
        raise TermError(
            f'the latency marker takes names alone, such as p99="2ms"; it was given {args[0]!r} without one'
        )
    limits = []
    ratio: float | None = None
    n: int | None = None
    clock: str | None = None
    for name, value in kwargs.items():
        if name == "ratio":
            ratio = _ratio(value)
        elif name == "n":
            n = count(value, "n")
        elif name == "clock":
            if value not in ("cpu", "wall"):
                raise TermError(f'clock={value!r}: a budget is on "cpu" or on "wall"')
            clock = str(value)
        else:
            try:
                quantile_of(_quantile_name(name))
            except TermError:
                raise TermError(
                    f"the latency marker knows no {name!r}; it knows quantiles (p50, p99, p99_9), ratio, n and clock"
                ) from None
            limits.append(Limit(_quantile_name(name), budget_ns=duration_ns(value)))
    return Terms(tuple(limits), ratio, n, clock)


def count(value: object, name: str) -> int:
    """A count of one at least, as given.

    Raises:
        TermError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TermError(f"{name}={value!r}: a count of calls is a whole number from 1 on")
    return value


def _quantile_name(name: str) -> str:
    return name.replace("_", ".")  # `p99.9=` is no Python


def _ratio(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < math.inf:
        raise TermError(f"ratio={value!r}: what p99 may be of its base's is a number from 1 on, such as 1.1")
    return float(value)


def show_ns(ns: float) -> str:
    """A time to read: three figures and a unit."""
    if math.isinf(ns):
        return "∞"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 999.5 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"
