"""Filters of rooms and groups: which requests they are for. The one place that knows how a filter is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pairec_fast.expression import Failure, govaluate


def holds(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """The filter, parsed once; called with the parameters of a request it says whether it holds.

    True, and text that is `true` or `y` in any case, hold; every other result does not, nor does an error such as a
    name that the request lacks. Source: PAIREC.md 10.3.

    Raises:
        ConfigError: `text` is no expression; the message shows the place.
    """
    evaluate = govaluate(text).value

    def held(values: Mapping[str, Any]) -> bool:
        try:
            result = evaluate(values)
        except Failure:
            return False
        return result is True or (isinstance(result, str) and result.lower() in ("true", "y"))

    return held
