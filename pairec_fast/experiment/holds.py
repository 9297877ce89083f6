"""Filters of rooms and groups: which requests they are for. The one place that knows how a filter is evaluated."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pairec_fast.errors import ConfigError

Values = Mapping[str, Any]
Evaluate = Callable[[Values], Any]


def holds(text: str) -> Callable[[Values], bool]:
    """The filter, parsed once; called with the parameters of a request it says whether it holds.

    True, and text that is `true` or `y` in any case, hold; every other result does not, nor does an error such as a
    name that the request lacks. Source: PAIREC.md 10.3.

    Raises:
        ConfigError: `text` is no expression; the message shows the place.
    """
    evaluate = _compile(text)

    def held(values: Values) -> bool:
        try:
            result = evaluate(values)
        except (TypeError, KeyError, ZeroDivisionError, OverflowError):
            return False
        return result is True or (isinstance(result, str) and result.lower() in ("true", "y"))

    return held


# A part of govaluate: comparisons of names, numbers, texts and booleans; && || ! in and parentheses.

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[0-9]+(?:\.[0-9]*)?)|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
    r"|\[(?P<bracketed>[^\]]+)\]|(?P<name>[A-Za-z_]\w*)|(?P<operator>&&|\|\||==|!=|<=|>=|[<>!(),])|(?P<end>\Z))"
)
_NESTING_MAX = 100


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def _compile(text: str) -> Evaluate:
    parser = _Parser(text)
    found = parser.either()
    if parser.token.kind != "end":
        raise parser.error("an operator is missing")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self.token = self._next()

    def error(self, what: str, place: int | None = None) -> ConfigError:
        place = self.token.place if place is None else place
        return ConfigError(f"{what} (character {place + 1})\n  {self._text}\n  {' ' * place}^")

    def either(self) -> Evaluate:
        left = self._both()
        while self._take("||"):
            left = _short(left, self._both(), True)
        return left

    def _both(self) -> Evaluate:
        left = self._comparison()
        while self._take("&&"):
            left = _short(left, self._comparison(), False)
        return left

    def _comparison(self) -> Evaluate:
        left = self._operand()
        if self.token.kind == "name" and self.token.text.lower() == "in":
            self.token = self._next()
            return _among(left, self._list())
        if self.token.text in _COMPARED and self.token.kind == "operator":
            compare = _COMPARED[self.token.text]
            self.token = self._next()
            return _compared(left, self._operand(), compare)
        return left

    def _list(self) -> list[Evaluate]:
        if not self._take("("):
            raise self.error("expected ( after in")
        found = [self._operand()]
        while self._take(","):
            found.append(self._operand())
        if not self._take(")"):
            raise self.error("this list is not closed")
        return found

    def _operand(self) -> Evaluate:
        self._depth += 1
        if self._depth > _NESTING_MAX:
            raise self.error(f"more than {_NESTING_MAX} levels")
        try:
            return self._deeper()
        finally:
            self._depth -= 1

    def _deeper(self) -> Evaluate:
        if self._take("!"):
            return _negated(self._operand())
        if self._take("("):
            inside = self.either()
            if not self._take(")"):
                raise self.error("this parenthesis is not closed")
            return inside
        token = self.token
        if token.kind in ("operator", "end"):
            raise self.error("an operand is missing" + " at the end" * (token.kind == "end"))
        self.token = self._next()
        if token.kind == "number":
            number = float(token.text)
            return lambda values: number
        if token.kind == "text":
            word = re.sub(r"\\(.)", r"\1", token.text[1:-1])
            return lambda values: word
        if token.kind == "name" and token.text in ("true", "false"):
            truth = token.text == "true"
            return lambda values: truth
        return lambda values: values[token.text]

    def _take(self, operator: str) -> bool:
        if self.token.kind != "operator" or self.token.text != operator:
            return False
        self.token = self._next()
        return True

    def _next(self) -> _Token:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            place = self._at + len(self._text[self._at :]) - len(self._text[self._at :].lstrip())
            raise self.error(f"{self._text[place]!r} is not part of the language here", place)
        self._at = match.end()
        return _Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))


def _short(left: Evaluate, right: Evaluate, stop: bool) -> Evaluate:
    def both(values: Values) -> bool:
        return stop if _boolean(left(values)) is stop else _boolean(right(values))

    return both


def _negated(operand: Evaluate) -> Evaluate:
    return lambda values: not _boolean(operand(values))


def _among(left: Evaluate, elements: list[Evaluate]) -> Evaluate:
    return lambda values: any(_same(left(values), element(values)) for element in elements)


def _compared(left: Evaluate, right: Evaluate, compare: Callable[[Any, Any], bool]) -> Evaluate:
    return lambda values: compare(left(values), right(values))


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is no boolean")
    return value


def _same(left: Any, right: Any) -> bool:
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _before(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        raise TypeError("booleans have no order")
    return bool(left < right)  # a TypeError for a text and a number


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "==": _same,
    "!=": lambda left, right: not _same(left, right),
    "<": _before,
    ">": lambda left, right: _before(right, left),
    "<=": lambda left, right: not _before(right, left),
    ">=": lambda left, right: not _before(left, right),
}
