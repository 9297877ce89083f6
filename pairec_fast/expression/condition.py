"""PAI-Rec's conditions on one user and one item: the exact meaning, which `mask` gives for whole columns."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pairec_fast.errors import ConfigError
from pairec_fast.expression.condition_expression import holds as expression_holds
from pairec_fast.expression.condition_expression import parsed, reads_user
from pairec_fast.expression.convert import (
    INT_MAX,
    INT_MIN,
    to_float,
    to_int,
    to_int_array,
    to_string,
    to_string_array,
    to_time,
)


class Condition(msgspec.Struct, frozen=True, rename="pascal"):
    """One condition as the configuration writes it. A list of conditions is an AND. Source: PAIREC.md 5.1."""

    name: str = ""
    domain: str = ""
    operator: str = ""
    type: str = ""
    value: Any = None
    configs: tuple[Condition, ...] = ()


def check(conditions: Iterable[Condition], path: str = "Conditions") -> None:
    """Refuse what cannot be evaluated: parse the expressions.

    Raises:
        ConfigError: an `expression` that is none; the message has the path below `path` and shows the place.
    """
    for position, condition in enumerate(conditions):
        here = f"{path}[{position}]"
        if condition.operator == "expression":
            try:
                parsed(condition.value)
            except ConfigError as error:
                raise ConfigError(f"{here}.Value: {error}") from None
        check(condition.configs, f"{here}.Configs")


def depends_on_user(conditions: Iterable[Condition]) -> bool:
    """Whether the answer may differ from user to user: a user's property on either side."""
    return any(
        (condition.operator in LEAVES and (condition.domain == "user" or side(condition).kind == "user"))
        or (condition.operator == "expression" and reads_user(condition.value, condition.domain))
        or (condition.operator == "bool" and depends_on_user(condition.configs))
        for condition in conditions
    )


def matches(conditions: Sequence[Condition], user: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    """Whether all conditions hold. Conditions with an unknown operator, or value tests of an unknown Domain, count as
    not written.

    Raises:
        ConfigError: an `expression` that is none.
    """
    check(conditions)
    try:
        return all(_holds(condition, user, item) for condition in conditions)
    except Unanswerable:
        return False  # what PAI-Rec calls an error: the whole list does not match


class Unanswerable(Exception):
    """`is_null` or `is_not_null` on a Domain other than user and item, or an expression that fails or is no boolean."""


def _holds(condition: Condition, user: Mapping[str, Any], item: Mapping[str, Any]) -> bool:
    if condition.operator == "bool":
        known = [inner for inner in condition.configs if counts(inner)]
        if is_or(condition):
            return any(_holds(inner, user, item) for inner in known)
        return all(_holds(inner, user, item) for inner in known)
    if not counts(condition):
        return True
    if condition.operator == "expression":
        answer = expression_holds(condition.value, condition.domain, user, item)
        if answer is None:
            raise Unanswerable
        return answer
    domains = {"": item, "item": item, "user": user}
    if condition.domain not in domains:
        raise Unanswerable
    left = domains[condition.domain].get(condition.name, MISSING)
    right = side(condition)
    if right.kind != "literal":
        right = Side(right.kind, domains[right.kind].get(right.value, MISSING))
    return comparison(condition, right)(left)


def counts(condition: Condition) -> bool:
    """Whether the condition counts as written: a known operator, and a known Domain where one is looked into."""
    return condition.operator in KNOWN and (
        condition.domain in DOMAINS or condition.operator in NULLS or condition.operator == "bool"
    )


class Side(NamedTuple):
    """The right side: a literal, or what a reference into `user` or `item` named; then its name or its value."""

    kind: str
    value: Any


MISSING: Any = object()
Test = Callable[[Any], bool]  # of a property, or of `MISSING` for a key that is not there


def side(condition: Condition) -> Side:
    """The right side as written; for a reference, the name of the property."""
    value = condition.value
    if isinstance(value, str) and value.startswith(("user.", "item.")):
        return Side(value[:4], value[5:])
    return Side("literal", value)


def is_or(condition: Condition) -> bool:
    return condition.type in ("", "or")


def comparison(condition: Condition, right: Side) -> Test:
    """The comparison with one resolved right side, converted once, as a function of the left side."""
    return LEAVES[condition.operator](condition, right)


def _is_null(condition: Condition, right: Side) -> Test:
    return lambda left: left is MISSING


def _is_not_null(condition: Condition, right: Side) -> Test:
    return lambda left: left is not MISSING


def _equal(condition: Condition, right: Side) -> Test:
    if right.value is MISSING or condition.type not in ("string", *INTEGERS):
        return _never
    if condition.type == "string":
        text = to_string(right.value, "v2")
        return lambda left: left is not MISSING and to_string(left, "v1") == text
    number = to_int(right.value, -2)
    return lambda left: left is not MISSING and to_int(left, -1) == number


def _not_equal(condition: Condition, right: Side) -> Test:
    if right.value is MISSING:
        return _always
    if condition.type not in ("string", *INTEGERS):
        return lambda left: left is MISSING
    if condition.type == "string":
        text = to_string(right.value, "")
        return lambda left: left is MISSING or to_string(left, "") != text
    number = to_int(right.value, 0)
    return lambda left: left is MISSING or to_int(left, 0) != number


def _in(condition: Condition, right: Side) -> Test:
    if right.value is MISSING:
        return _is_not_null(condition, right) if right.kind == "item" else _never
    if condition.type == "string":
        texts = set(to_string_array(right.value))
        return lambda left: left is not MISSING and to_string(left, "") in texts
    if condition.type == "int":
        numbers = set(to_int_array(right.value))
        return lambda left: left is not MISSING and to_int(left, IN_DEFAULT) in numbers
    return _never


def _not_in(condition: Condition, right: Side) -> Test:
    if right.value is MISSING:
        return _is_not_null(condition, right)
    if condition.type not in ("string", "int"):
        return _never
    is_in = _in(condition, right)
    return lambda left: left is not MISSING and not is_in(left)


def _contains(condition: Condition, right: Side) -> Test:
    text = right.value if right.kind == "literal" and condition.type == "[]string" else None
    common = _common(condition, [text] if isinstance(text, str) else right.value)
    return lambda left: common(left) is True


def _not_contains(condition: Condition, right: Side) -> Test:
    common = _common(condition, right.value)
    return lambda left: common(left) is False


def _common(condition: Condition, rights: Any) -> Callable[[Any], bool | None]:
    """Whether the lists share an element; None if a side is missing or empty, or the Type is another."""
    convert: Callable[[Any], list[Any]] = to_int_array if condition.type == "[]int" else to_string_array
    elements = set(convert(rights)) if condition.type in ("[]string", "[]int") else set()

    def common(left: Any) -> bool | None:
        lefts = convert(left) if elements else ()
        return not elements.isdisjoint(lefts) if lefts else None

    return common


def _order(condition: Condition, right: Side) -> Test:
    if right.value is MISSING:
        return _is_not_null(condition, right) if right.kind == "item" and condition.type == "float" else _never
    compare = COMPARE[condition.operator]
    if condition.type == "time":
        moment = to_time(right.value)
        return lambda left: None not in (moment, mine := to_time(left)) and compare(mine, moment)
    if condition.type not in ("float", *INTEGERS):
        return _never
    convert: Callable[[Any, Any], Any] = to_float if condition.type == "float" else to_int
    default, default_right = order_defaults(condition)
    number = convert(right.value, default_right)
    return lambda left: left is not MISSING and compare(convert(left, default), number)


def _never(left: Any) -> bool:
    return False


def _always(left: Any) -> bool:
    return True


def order_defaults(condition: Condition) -> tuple[Any, Any]:
    """What stands for a left and a right side that are no number."""
    if condition.operator == "greater" or condition.type == "int64":
        return (0.0, 0.0) if condition.type == "float" else (0, 0)
    # Go's smallest positive double is the smallest denormal, not sys.float_info.min.
    low, high = (5e-324, sys.float_info.max) if condition.type == "float" else (INT_MIN, INT_MAX)
    return (low, high) if condition.operator == "greaterThan" else (high, low)


INTEGERS = ("int", "int64")
DOMAINS = ("", "item", "user")
NULLS = ("is_null", "is_not_null")
IN_DEFAULT = -(2**31)  # the left side of `in` where it is no int: Go's MinInt32
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "greater": operator.gt,
    "greaterThan": operator.ge,
    "less": operator.lt,
    "lessThan": operator.le,
}
LEAVES: dict[str, Callable[[Condition, Side], Test]] = {
    "equal": _equal,
    "not_equal": _not_equal,
    "in": _in,
    "not_in": _not_in,
    "contains": _contains,
    "not_contains": _not_contains,
    "is_null": _is_null,
    "is_not_null": _is_not_null,
    **dict.fromkeys(COMPARE, _order),
}
KNOWN = {*LEAVES, "bool", "expression"}
