"""The language `expression`: govaluate over a flat map of names. Source: govaluate's manual; PAIREC.md 8.3.

Numbers are doubles, and names that are integers become doubles; what a function gives stays as it is, so `hash` and
`s2CellID` give integers, which are no numbers for the operators, as in the original.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pairec_fast.expression.arithmetic import as_int64, equality, membership, of_numbers, power_column
from pairec_fast.expression.convert import to_unix
from pairec_fast.expression.functions import arity, functions
from pairec_fast.expression.regex import compiled, search
from pairec_fast.expression.syntax import (
    Apply,
    Chain,
    Choice,
    Constant,
    Expression,
    Name,
    Node,
    Operation,
    Otherwise,
    error,
)
from pairec_fast.expression.value import Failure, divided, is_float, power, remainder, text_of, truncated
from pairec_fast.expression.vector import Vector, is_nil

NESTING_MAX = 100  # open parentheses and prefixes: the parser is recursive


def govaluate(text: str, clock: Callable[[], float] = time.time) -> Expression:
    """Parse `text`.

    Raises:
        ConfigError: it is no expression of the language; the message shows the place.
    """
    return Expression(text, "expression", _Parser(text, clock).parse())


def same(left: Any, right: Any) -> bool:
    """Go's deep equality: of one kind, and equal."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return type(left) is type(right) and bool(left == right)


def _numbers(function: Callable[[float, float], Any]) -> Callable[[Any, Any], Any]:
    def of(left: Any, right: Any) -> Any:
        if not is_float(left) or not is_float(right):
            raise Failure("a number is needed on both sides")
        return function(left, right)

    return of


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) or isinstance(right, str):
        return text_of(left) + text_of(right)
    return _numbers(lambda a, b: a + b)(left, right)


def _order(function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def of(left: Any, right: Any) -> bool:
        if isinstance(left, str) and isinstance(right, str):
            return function(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))
        if is_float(left) and is_float(right):
            return function(left, right)
        raise Failure("two numbers or two texts are needed")

    return of


def _in(left: Any, right: Any) -> bool:
    if not isinstance(right, (list, tuple)):
        raise Failure("`in` needs a list, (a, b); (a) is none")
    return any(same(left, element) for element in right)


def _matches(left: Any, right: Any) -> bool:
    if not isinstance(left, str) or not isinstance(right, str):
        raise Failure("=~ needs two texts")
    return search(right, left)


def _bits(function: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    return _numbers(lambda left, right: float(function(truncated(left), truncated(right))))


def _shift(left: bool) -> Callable[[Any, Any], Any]:
    """Shifts are of unsigned numbers, in the original too."""

    def of(number: float, by: float) -> float:
        bits, places = truncated(number) % 2**64, truncated(by) % 2**64
        return float((bits << places) % 2**64 if left and places < 64 else 0 if left else bits >> min(places, 64))

    return _numbers(of)


def _prefix(kind: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def of(value: Any) -> Any:
        if type(value) is not {"number": float, "boolean": bool}[kind]:
            raise Failure(f"a {kind} is needed")
        return function(value)

    return of


def _list(*elements: Any) -> list[Any]:
    return list(elements)


LIST = Operation(",", _list)
PREFIXES = {
    "-": Operation("-", _prefix("number", lambda value: -value), of_numbers(lambda a: -a)),
    "!": Operation("!", _prefix("boolean", lambda value: not value), of_numbers(lambda a: ~a, "b")),
    "~": Operation("~", _prefix("number", lambda value: float(~truncated(value)))),
}
# From what binds loosest to what binds tightest; all group to the left.
LEVELS: list[dict[str, Operation | None]] = [
    {"?": None, ":": None, "??": None},
    {"||": None},
    {"&&": None},
    {
        "==": Operation("==", same, equality(True, mixed=False)),
        "!=": Operation("!=", lambda a, b: not same(a, b), equality(False, mixed=False)),
        "<": Operation("<", _order(lambda a, b: a < b), of_numbers(np.less)),
        "<=": Operation("<=", _order(lambda a, b: a <= b), of_numbers(np.less_equal)),
        ">": Operation(">", _order(lambda a, b: a > b), of_numbers(np.greater)),
        ">=": Operation(">=", _order(lambda a, b: a >= b), of_numbers(np.greater_equal)),
        "=~": Operation("=~", _matches),
        "!~": Operation("!~", lambda a, b: not _matches(a, b)),
        "in": Operation("in", _in, membership(mixed=False)),
    },
    {
        "&": Operation("&", _bits(lambda a, b: a & b), of_numbers(lambda a, b: (as_int64(a) & as_int64(b)) * 1.0)),
        "|": Operation("|", _bits(lambda a, b: a | b), of_numbers(lambda a, b: (as_int64(a) | as_int64(b)) * 1.0)),
        "^": Operation("^", _bits(lambda a, b: a ^ b), of_numbers(lambda a, b: (as_int64(a) ^ as_int64(b)) * 1.0)),
    },
    {"<<": Operation("<<", _shift(True)), ">>": Operation(">>", _shift(False))},
    {
        "+": Operation("+", _plus, of_numbers(np.add)),
        "-": Operation("-", _numbers(lambda a, b: a - b), of_numbers(np.subtract)),
    },
    {
        "*": Operation("*", _numbers(lambda a, b: a * b), of_numbers(np.multiply)),
        "/": Operation("/", _numbers(divided), of_numbers(np.divide)),
        "%": Operation("%", _numbers(remainder), of_numbers(np.fmod)),
    },
    {"**": Operation("**", _numbers(power), of_numbers(power_column))},
]
BINDING = {operator: level for level, operators in enumerate(LEVELS) for operator in operators}


class _Token(NamedTuple):
    kind: str
    text: str
    place: int
    value: Any = None


# A run of operator characters is one operator: `2*-a` is no expression in the original either.
PIECE = re.compile(
    r"""\s*(?:(?P<number>0x[0-9a-fA-F]+|[0-9.]+)|(?P<name>[^\W\d_][\w.]*)|\[(?P<quoted>(?:\\.|[^\]\\])*)\]
    |(?P<text>'(?:\\.|[^"'\\])*["']|"(?:\\.|[^"'\\])*["'])|(?P<mark>[(),])|(?P<symbol>[!<>=&|+\-*/%^~?:]+)|(?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)


class _Parser:
    def __init__(self, text: str, clock: Callable[[], float]) -> None:
        self.text = text
        self.functions = functions(clock)
        self.tokens = self._tokens()
        self.at = 0
        self.nesting = 0

    def parse(self) -> Node:
        if self.token.kind == "end":
            raise self._error("empty expression", self.token)
        root = self._list()
        if self.token.kind != "end":
            what = "no parenthesis is open here" if self.token.text == ")" else "an operator is missing"
            raise self._error(what, self.token)
        return root

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def _take(self, *texts: str) -> _Token | None:
        token = self.token
        if token.kind in ("operator", "mark") and token.text in texts:
            self.at += 1
            return token
        return None

    def _list(self) -> Node:
        first = self._level(0)
        while comma := self._take(","):
            elements = first.arguments if isinstance(first, Apply) and first.operation is LIST else (first,)
            first = Apply(LIST, [*elements, self._level(0)], comma.place)
        return first

    def _level(self, lowest: int) -> Node:
        """An operand and every operator after it that binds at least as tightly as `lowest`."""
        left = self._prefixed()
        while self.token.kind == "operator" and (level := BINDING.get(self.token.text, -1)) >= lowest:
            token = self.token
            self.at += 1
            left = self._combine(LEVELS[level][token.text], token, left, self._level(level + 1))
        return left

    def _combine(self, operation: Operation | None, token: _Token, left: Node, right: Node) -> Node:
        if operation is not None:
            if token.text == "in" and isinstance(right, Apply) and right.operation is LIST:
                elements = [element.constant for element in right.arguments if isinstance(element, Constant)]
                right = Constant(elements, right.place) if len(elements) == len(right.arguments) else right
            if token.text in ("=~", "!~") and isinstance(right, Constant) and isinstance(right.constant, str):
                self._checked(lambda: compiled(right.constant), right.place)
            return self._folded(operation, [left, right], token.place)
        if token.text == "?":
            return Choice(left, right, Constant(None, token.place), token.place)
        if token.text in (":", "??"):
            return Otherwise(left, right, token.place)
        return Chain(left, right, token.text == "||", True, token.place)

    def _prefixed(self) -> Node:
        token = self._take(*PREFIXES)
        if token is None:
            return self._operand()
        if self.token.text in PREFIXES:
            raise self._error("one prefix is allowed; put the rest in parentheses", self.token)
        return self._folded(PREFIXES[token.text], [self._operand()], token.place)

    def _operand(self) -> Node:
        token = self.token
        self.at += 1
        if token.kind == "value":
            return Constant(token.value, token.place)
        if token.kind == "name" and self.token.text == "(" and token.value is None:
            return self._call(token)
        if token.kind == "name":
            absent = Failure(f"no parameter {token.text!r}")
            if token.value is None and token.text in self.functions:
                raise self._error(f"{token.text} is a function; write [{token.text}] for the name", token)
            return Name(token.text, token.place, absent, number=True)
        if token.text == "(":
            return self._parentheses(token)
        if token.kind == "end":
            raise self._error("an operand is missing at the end", token)
        raise self._error("an operand is missing here", token)

    def _parentheses(self, opening: _Token) -> Node:
        self.nesting += 1
        if self.nesting > NESTING_MAX:
            raise self._error(f"more than {NESTING_MAX} open parentheses", opening)
        inner = Constant(None, opening.place) if self.token.text == ")" else self._list()
        if not self._take(")"):
            raise self._error("this parenthesis is not closed", opening)
        self.nesting -= 1
        return inner

    def _call(self, name: _Token) -> Node:
        function = self.functions.get(name.text)
        if function is None:
            raise self._error(f"unknown function {name.text}; known are {', '.join(sorted(self.functions))}", name)
        opening = self.token
        self.at += 1
        empty = self.token.text == ")"
        inner = self._parentheses(opening)
        arguments: tuple[Node, ...] = () if empty else (inner,)
        if isinstance(inner, Apply) and inner.operation is LIST:
            arguments = inner.arguments
        if not function.fewest <= len(arguments) <= function.most:
            raise self._error(arity(name.text, function.fewest, function.most, len(arguments)), name)
        operation = function.operation
        if len(arguments) == 1:  # a single nil is no argument at all there
            operation = operation._replace(function=_not_nil(operation.function), fast=_without_nil(operation.fast))
        return self._folded(operation, arguments, name.place)

    def _folded(self, operation: Operation, arguments: Any, place: int) -> Node:
        """The operation, computed at once where it always gives the same; if it always fails, the text is wrong."""
        if not operation.pure or not all(isinstance(argument, Constant) for argument in arguments):
            return Apply(operation, arguments, place)
        if operation is LIST:
            return Apply(operation, arguments, place)
        values = [argument.constant for argument in arguments]
        return Constant(self._checked(lambda: operation.function(*values), place), place)

    def _checked(self, compute: Callable[[], Any], place: int) -> Any:
        try:
            return compute()
        except Failure as failure:
            raise error(self.text, str(failure), place) from None

    def _error(self, what: str, token: _Token) -> Exception:
        return error(self.text, what, token.place)

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = PIECE.match(self.text, at)
            if match is None or match.lastgroup is None:
                raise self._unreadable(at)
            tokens.append(self._token(match.lastgroup, match[match.lastgroup], match))
            at = match.end()
        return tokens

    def _token(self, kind: str, text: str, match: re.Match[str]) -> _Token:
        place = match.start(kind)
        if kind == "number":
            if match.end() < len(self.text) and (self.text[match.end()].isalpha() or self.text[match.end()] == "_"):
                raise error(self.text, f"{text + self.text[match.end()]!r}: use digits and one point, or 0x", place)
            if not text.startswith("0x") and (text.count(".") > 1 or text == "."):
                raise error(self.text, f"{text!r} is not a number", place)
            return _Token("value", text, place, float(int(text, 16) if text.startswith("0x") else float(text)))
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
            seconds = to_unix(plain)
            return _Token("value", text, place, plain if seconds is None else seconds)
        if kind == "quoted":
            return _Token("name", re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL), place - 1, "quoted")
        if kind == "name":
            if text in ("true", "false"):
                return _Token("value", text, place, text == "true")
            if text in ("in", "IN"):
                return _Token("operator", "in", place)
            if "." in text:
                raise error(self.text, f"items have no parts; write [{text}] for a name with a point", place)
            return _Token("name", text, place)
        if kind == "symbol":
            if text not in BINDING and text not in PREFIXES:
                raise error(self.text, f"unknown operator {text!r}; put a blank between two operators", place)
            return _Token("operator", text, place)
        return _Token(kind, text, place)

    def _unreadable(self, at: int) -> Exception:
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        character = self.text[at]
        if character in "'\"":
            return error(self.text, "this text is not closed", at)
        if character == "[":
            return error(self.text, "[ is not closed", at)
        return error(self.text, f"{character!r} is not part of the language", at)


def _not_nil(function: Callable[..., Any]) -> Callable[[Any], Any]:
    def of(value: Any) -> Any:
        if value is None:
            raise Failure("an argument is needed")
        return function(value)

    return of


def _without_nil(fast: Any) -> Any:
    def of(operands: Any, count: int) -> Any:
        operand = operands[0]
        if not isinstance(operand, Vector) or is_nil(operand).any():
            return None
        return fast(operands, count)

    return of if fast is not None else None
