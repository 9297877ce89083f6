"""Normalizers: what computes the value of a new feature. Source: PAIREC.md 8.3."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Protocol

import numpy as np

from pairec_fast.errors import ConfigError
from pairec_fast.expression.expr import expr
from pairec_fast.expression.govaluate import govaluate
from pairec_fast.expression.syntax import Expression
from pairec_fast.expression.value import Failure
from pairec_fast.expression.vector import Column, One, choose, full, to_column


class Normalizer(Protocol):
    """Computes a feature from other features."""

    def value(self, names: Mapping[str, Any]) -> Any:
        """The value for one set of names."""
        ...

    def column(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Column:
        """The values for `count` rows; `columns` and `scalars` as `Expression.vector` has them."""
        ...


def normalizer(
    name: str,
    expression: str = "",
    *,
    text: str = "",
    clock: Callable[[], float] = time.time,
    randomness: random.Random | None = None,
) -> Normalizer:
    """The normalizer of that name.

    Args:
        expression: what `expression` and `expr` evaluate.
        text: what `const_value` gives: FeatureValue, else FeatureSource.
        clock: seconds since 1970; the time of day is that of the process's own time zone.
        randomness: what `random` draws from.

    Raises:
        ConfigError: no such normalizer, or an expression that is none.
    """
    if name in CLOCKS:
        return _Drawn(lambda: CLOCKS[name](time.localtime(clock())), None)
    if name == "random":
        return _Drawn(None, randomness or random.Random())
    if name == "const_value":
        return _Constant(text)
    if name == "expression":
        return _Evaluated(govaluate(expression, clock))
    if name == "expr":
        return _Evaluated(expr(expression, clock))
    raise ConfigError(f'unknown Normalizer "{name}"; known are {", ".join(KNOWN)}')


CLOCKS: dict[str, Callable[[time.struct_time], int]] = {
    "hour_in_day": lambda now: now.tm_hour,
    "weekday": lambda now: now.tm_wday,
    "month": lambda now: now.tm_mon,
    "week": lambda now: date(now.tm_year, now.tm_mon, now.tm_mday).isocalendar().week,
}
KNOWN = (*CLOCKS, "random", "const_value", "expression", "expr")


class _Drawn:
    """A number that depends on no feature: of the clock, the same for all rows; or random, drawn for each."""

    def __init__(self, now: Callable[[], int] | None, randomness: random.Random | None) -> None:
        self._now = now
        self._randomness = randomness

    def value(self, names: Mapping[str, Any]) -> int:
        if self._now is not None:
            return self._now()
        assert self._randomness is not None
        return self._randomness.randrange(100)

    def column(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Column:
        if self._now is not None:
            return np.full(count, self._now(), np.int64)
        assert self._randomness is not None
        # A generator of its own: NumPy's are not safe to share between threads.
        return np.random.default_rng(self._randomness.getrandbits(64)).integers(0, 100, count)


class _Constant:
    """The configured text for the user; for items PAI-Rec gives null, a value that is there and is nothing."""

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, names: Mapping[str, Any]) -> str:
        return self._text

    def column(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Column:
        return np.zeros(count, np.int32), [None]


class _Evaluated:
    """An expression, whose failure is the empty text. Rows where it is nil are missing in a column."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def value(self, names: Mapping[str, Any]) -> Any:
        try:
            return self.expression.value(names)
        except Failure:
            return ""

    def column(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Column:
        vector = self.expression.vector(columns, count, scalars)
        if vector.failed is not None and vector.failed.any():
            failed = vector.failed
            if failed.all():
                return to_column(full("", count))
            vector = choose(failed, One(""), vector._replace(failed=None))
        return to_column(vector)
