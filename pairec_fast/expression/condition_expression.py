"""Conditions with the operator `expression`: expr-lang over `properties` (the Domain's map), `user` and `item`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pairec_fast.errors import ConfigError
from pairec_fast.expression.expr import expr
from pairec_fast.expression.syntax import ROW, Constant, Expression
from pairec_fast.expression.value import Failure
from pairec_fast.expression.vector import Column, Mask


def parsed(text: Any) -> Expression:
    """The expression of a condition; each text is parsed once.

    Raises:
        ConfigError: the text is none, or can never be a boolean.
    """
    if not isinstance(text, str):
        raise ConfigError(f"the Value of an expression must be a text, got {text!r}")
    return _parsed(text)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Expression:
    expression = expr(text)
    if isinstance(expression.root, Constant) and type(expression.root.constant) is not bool:
        raise ConfigError(f"a condition must be true or false; this is always {expression.root.constant!r}\n  {text}")
    return expression


def holds(text: Any, domain: str, user: Mapping[str, Any], item: Mapping[str, Any]) -> bool | None:
    """Whether the expression holds for one user and one item; None where it cannot be said: PAI-Rec's error."""
    try:
        answer = parsed(text).value({"user": user, "item": item, "properties": user if domain == "user" else item})
    except Failure:
        return None
    return answer if type(answer) is bool else None


def holds_over(
    text: Any, domain: str, user: Mapping[str, Any], columns: Mapping[str, Column], count: int
) -> tuple[Mask, Mask]:
    """The same for every row of an item table: which rows hold, and for which it cannot be said."""
    scalars = {"user": user, "item": ROW, "properties": user if domain == "user" else ROW}
    return parsed(text).holds(columns, count, scalars)


def reads_user(text: Any, domain: str) -> bool:
    """Whether the answer may differ from user to user."""
    names = parsed(text).names
    return "user" in names or (domain == "user" and "properties" in names)
