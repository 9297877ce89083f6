"""The language of RankScore with ASTType "antlr": numbers, names, functions; a failure is 0.

Source: the grammar of go-antlr-valuate, for a single expression; PAIREC.md 6.6. There are no structs, so no members,
and no assignments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import elementary
from pairec_fast.expression.arithmetic import as_int64, equality, membership, nils, numeric, of_numbers, power_column
from pairec_fast.expression.convert import to_string, to_time
from pairec_fast.expression.functions import (
    FUNCTIONS,
    Function,
    arity,
    greater,
    greater_column,
    guarded,
    plain,
)
from pairec_fast.expression.govaluate import same
from pairec_fast.expression.syntax import Apply, Chain, Choice, Constant, Expression, Name, Node, Operation, error
from pairec_fast.expression.value import Failure, Moment, divided, is_float, power, remainder, text_of, truncated
from pairec_fast.expression.vector import Column, Mask, Operand, Vector, either

NESTING_MAX = 100  # the parser is recursive


def antlr(text: str) -> Expression:
    """Parse `text`.

    Raises:
        ConfigError: it is no expression of the language; the message shows the place.
    """
    return Expression(text, "antlr", _Parser(text).parse())


def score(expression: Expression, names: Mapping[str, Any]) -> float:
    """The number for one set of names: 0 where the expression fails, is no number, or is not a number."""
    try:
        return _finish(expression.root.value(names))
    except Failure:
        return 0.0


def scores(expression: Expression, columns: Mapping[str, Column], out: NDArray[np.float64]) -> None:
    """`score` for every row: reads `columns`, each [count], writes `out` [count]."""
    vector = expression.vector(columns, out.size)
    if vector.kind in "fi":
        out[:] = vector.data
        for bad in (vector.nil, vector.failed, np.isnan(out)):
            if bad is not None:
                out[bad] = 0.0
    elif vector.vocabulary is not None:
        values = np.array([_finish(value) for value in vector.vocabulary] + [0.0])
        out[:] = values[vector.data]  # -1 is the last
        if vector.failed is not None:
            out[vector.failed] = 0.0
    else:
        out[:] = 0.0


def _finish(value: Any) -> float:
    # A NaN would make any order of the items wrong.
    return float(value) if type(value) in (float, int) and value == value else 0.0


def _numbers(function: Callable[[float, float], Any]) -> Callable[[Any, Any], Any]:
    def of(left: Any, right: Any) -> Any:
        if not is_float(left) or not is_float(right):
            raise Failure("a number is needed on both sides")
        return function(left, right)

    return of


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        return [*left, *right]
    return _numbers(lambda a, b: a + b)(left, right)


def _by(function: Callable[[float, float], float]) -> Callable[[Any, Any], Any]:
    """Division and its remainder, which fail for a right side of 0."""

    def of(left: float, right: float) -> float:
        if right == 0.0:
            raise Failure("division by zero")
        return function(left, right)

    return _numbers(of)


def _by_column(function: Callable[..., Any]) -> Callable[[Sequence[Operand], int], Operand | None]:
    def fast(operands: Sequence[Operand], count: int) -> Operand | None:
        left, right = (numeric(operand, "f") for operand in operands)
        if left is None or right is None:
            return None
        zero: Mask | None = np.broadcast_to(right == 0.0, (count,)) if (right == 0.0).any() else None
        return Vector(function(left, right), None, None, either(nils(operands), zero))

    return fast


def _order(function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def of(left: Any, right: Any) -> bool:
        alike = type(left) is type(right) and type(left) in (float, str, Moment)
        if not alike and not (type(left) is int and is_float(right)):
            raise Failure("two numbers, two texts or two dates are needed")
        return function(left, right)

    return of


def _in(left: Any, right: Any) -> bool:
    if not isinstance(right, list) or not isinstance(left, (float, str)):
        raise Failure("`in` needs a number or a text, and a list")
    return any(same(left, element) for element in right)


def _bits(function: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    return _numbers(lambda left, right: float(function(truncated(left), truncated(right))))


def _shifted(left: bool) -> Callable[[int, int], int]:
    def of(number: int, by: int) -> int:
        if by < 0:
            raise Failure("a shift by less than 0")
        moved = number << by if left and by < 64 else 0 if left else number >> min(by, 64)
        return (moved + 2**63) % 2**64 - 2**63

    return of


def _prefix(kind: type, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def of(value: Any) -> Any:
        if type(value) is not kind:
            raise Failure("a number or a boolean is needed")
        return function(value)

    return of


def _index(values: Any, place: Any) -> Any:
    if not isinstance(values, list) or not is_float(place) or not 0 <= truncated(place) < len(values):
        raise Failure("no such element")
    return values[truncated(place)]


def _length(value: Any, *rest: Any) -> float:
    if not isinstance(value, (str, list)):
        raise Failure("len needs a text or a list")
    return float(len(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value))


def _math(name: str, scalar: Callable[[float], float], column: Callable[[Any], Any]) -> Function:
    def of(value: Any, *rest: Any) -> float:
        if not is_float(value):
            raise Failure(f"{name} needs a number")
        return scalar(value)

    def over(operands: Sequence[Operand], count: int) -> Operand | None:
        numbers = numeric(operands[0], "f") if len(operands) == 1 else None
        return None if numbers is None else Vector(column(numbers), None, None, nils(operands))

    return plain(name, of, 1, 255, over)


def _two(name: str, scalar: Callable[[float, float], float], column: Callable[[Any, Any], Any]) -> Function:
    def of(left: Any, right: Any, *rest: Any) -> Any:
        return _numbers(scalar)(left, right)

    return plain(name, of, 2, 255, of_numbers(lambda left, right, *rest: column(left, right)))


def _exp(number: float) -> float:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def _square_root(number: float) -> float:
    return math.sqrt(number) if number >= 0 else math.nan


KNOWN: dict[str, Function] = {
    "abs": _math("abs", abs, np.abs),
    "exp": _math("exp", _exp, lambda x: elementary.apply("exp", x)),
    "log": _math("log", lambda x: guarded(math.log, x), lambda x: elementary.apply("log", x)),
    "log10": _math("log10", lambda x: guarded(math.log10, x), lambda x: elementary.apply("log10", x)),
    "sqrt": _math("sqrt", _square_root, np.sqrt),
    "max": _two("max", greater, greater_column),
    "min": _two("min", lambda a, b: -greater(-a, -b), lambda a, b: -greater_column(-a, -b)),
    "len": plain("len", _length, 1, 255),
    "tostring": plain("tostring", lambda value, *rest: to_string(value, text_of(value)), 1, 255),
    **{name: FUNCTIONS[name] for name in ("hash", "hash32", "maxIndex", "maxValue")},
}
PREFIXES = {
    "-": Operation("-", _prefix(float, lambda value: -1 * value), of_numbers(lambda a: -1 * a)),
    "+": Operation("+", lambda value: value),
    "++": Operation("++", _prefix(float, lambda value: float(truncated(value) + 1))),
    "--": Operation("--", _prefix(float, lambda value: float(truncated(value) - 1))),
    "~": Operation("~", _prefix(float, lambda value: float(~truncated(value)))),
    "!": Operation("!", _prefix(bool, lambda value: not value), of_numbers(lambda a: ~a, "b")),
}
# From what binds loosest to what binds tightest; all group to the left, the ternary too.
LEVELS: list[dict[str, Operation | None]] = [
    {"in": Operation("in", _in, membership(mixed=False))},
    {"?": None},
    {"||": None},
    {"&&": None},
    {"|": Operation("|", _bits(lambda a, b: a | b), of_numbers(lambda a, b: (as_int64(a) | as_int64(b)) * 1.0))},
    {"&": Operation("&", _bits(lambda a, b: a & b), of_numbers(lambda a, b: (as_int64(a) & as_int64(b)) * 1.0))},
    {
        "==": Operation("==", same, equality(True, mixed=False)),
        "!=": Operation("!=", lambda a, b: not same(a, b), equality(False, mixed=False)),
    },
    {
        "<": Operation("<", _order(lambda a, b: a < b), of_numbers(np.less)),
        "<=": Operation("<=", _order(lambda a, b: a <= b), of_numbers(np.less_equal)),
        ">": Operation(">", _order(lambda a, b: a > b), of_numbers(np.greater)),
        ">=": Operation(">=", _order(lambda a, b: a >= b), of_numbers(np.greater_equal)),
    },
    {"<<": Operation("<<", _bits(_shifted(True))), ">>": Operation(">>", _bits(_shifted(False)))},
    {
        "+": Operation("+", _plus, of_numbers(np.add)),
        "-": Operation("-", _numbers(lambda a, b: a - b), of_numbers(np.subtract)),
    },
    {
        "*": Operation("*", _numbers(lambda a, b: a * b), of_numbers(np.multiply)),
        "/": Operation("/", _by(divided), _by_column(np.divide)),
        "%": Operation("%", _by(remainder), _by_column(np.fmod)),
    },
    {"**": Operation("**", _numbers(power), of_numbers(power_column))},
]

BINDING = {operator: level for level, operators in enumerate(LEVELS) for operator in operators}
BINDING["^"] = BINDING["**"]


class _Token(NamedTuple):
    kind: str  # value, name, mark, end
    text: str
    place: int
    value: Any = None


PIECE = re.compile(
    r"""[ \t\r\n]*(?:
    (?P<number>(?:[0-9](?:[0-9_]*[0-9])?\.?(?:[0-9](?:[0-9_]*[0-9])?)?|\.[0-9](?:[0-9_]*[0-9])?)(?:[eE][+-]?[0-9]+)?)
    |\$\{(?P<braced>[^{}]+)\}|(?P<name>[^\W\d_][\w$]*|\$(?!\{)[\w$]*)|(?P<text>'(?:\\.|[^'\\\r\n])*')
    |(?P<mark>\*\*|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%^~!<>&|?:(),\[\]])|(?P<end>\Z))""",
    re.VERBOSE,
)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.at = 0
        self.nesting = 0

    def parse(self) -> Node:
        if self.token.kind == "end":
            raise self._error("empty expression")
        root = self._level(0)
        if self.token.kind != "end":
            raise self._error("no parenthesis is open here" if self.token.text == ")" else "an operator is missing")
        return root

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def _take(self, *texts: str) -> _Token | None:
        token = self.token
        if token.kind != "mark" or token.text not in texts:
            return None
        self.at += 1
        return token

    def _level(self, lowest: int) -> Node:
        """An operand and every operator after it that binds at least as tightly as `lowest`."""
        left = self._prefixed()
        while self.token.kind == "mark" and (level := BINDING.get(self.token.text, -1)) >= lowest:
            token = self.token
            self.at += 1
            left = self._choice(token, left, level) if token.text == "?" else self._binary(token, left, level)
        return left

    def _choice(self, question: _Token, test: Node, level: int) -> Node:
        yes = self._level(0)
        if not self._take(":"):
            raise self._error("the : of this ? is missing", question)
        return Choice(test, yes, self._level(level + 1), question.place)

    def _binary(self, token: _Token, left: Node, level: int) -> Node:
        right = self._level(level + 1)
        if token.text == "in" and isinstance(right, Constant) and not isinstance(right.constant, list):
            right = Constant([right.constant], right.place)  # `(1)` after `in` is a list of one
        operation = LEVELS[level]["**" if token.text == "^" else token.text]
        if operation is None:
            return Chain(left, right, token.text == "||", True, token.place)
        return self._folded(operation, [left, right], token.place)

    def _prefixed(self) -> Node:
        token = self._take(*PREFIXES)
        if token is None:
            return self._indexed(self._operand())
        self._deeper(token)
        node = self._folded(PREFIXES[token.text], [self._prefixed()], token.place)
        self.nesting -= 1
        return node

    def _deeper(self, token: _Token) -> None:
        self.nesting += 1
        if self.nesting > NESTING_MAX:
            raise self._error(f"more than {NESTING_MAX} open parentheses and prefixes", token)

    def _indexed(self, base: Node) -> Node:
        while opening := self._take("["):
            place = self._level(0)
            if not self._take("]"):
                raise self._error("this [ is not closed", opening)
            base = self._folded(INDEX, [base, place], opening.place)
        return base

    def _operand(self) -> Node:
        token = self.token
        self.at += 1
        if token.kind == "value":
            return Constant(token.value, token.place)
        if token.kind == "name":
            if token.value is None and (opening := self._take("(")):
                return self._call(token, opening)
            return Name(token.text, token.place, 0.0, number=True)
        if token.text == "(" and token.kind == "mark":
            return self._parentheses(token)
        raise self._error(
            "an operand is missing at the end" if token.kind == "end" else "an operand is missing here", token
        )

    def _parentheses(self, opening: _Token) -> Node:
        self._deeper(opening)
        inner = self._elements()
        if not self._take(")"):
            raise self._error("this parenthesis is not closed", opening)
        self.nesting -= 1
        if len(inner) == 1:
            return inner[0]
        values = [element.constant for element in inner if isinstance(element, Constant)]
        if len(values) < len(inner):
            raise self._error("a list has numbers, texts and booleans alone", opening)
        return Constant(values, opening.place)

    def _elements(self) -> list[Node]:
        elements = [self._level(0)]
        while self._take(","):
            elements.append(self._level(0))
        return elements

    def _call(self, name: _Token, opening: _Token) -> Node:
        function = KNOWN.get(name.text)
        if function is None:
            raise self._error(f"unknown function {name.text}; known are {', '.join(sorted(KNOWN))}", name)
        self._deeper(opening)
        arguments = [] if self.token.text == ")" else self._elements()
        if not self._take(")"):
            raise self._error("this parenthesis is not closed", opening)
        self.nesting -= 1
        if not function.fewest <= len(arguments) <= function.most:
            raise self._error(arity(name.text, function.fewest, function.most, len(arguments)), name)
        return self._folded(function.operation, arguments, name.place)

    def _folded(self, operation: Operation, arguments: Sequence[Node], place: int) -> Node:
        """The operation, computed at once where it always gives the same; if it always fails, the text is wrong."""
        if not all(isinstance(argument, Constant) for argument in arguments):
            return Apply(operation, arguments, place)
        values = [argument.constant for argument in arguments if isinstance(argument, Constant)]
        try:
            return Constant(operation.function(*values), place)
        except Failure as failure:
            raise error(self.text, str(failure), place) from None

    def _error(self, what: str, token: _Token | None = None) -> Exception:
        return error(self.text, what, (token or self.token).place)

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = PIECE.match(self.text, at)
            if match is None or match.lastgroup is None:
                raise self._unreadable(at)
            kind = match.lastgroup
            tokens.append(self._read(kind, match[kind], match.start(kind)))
            at = match.end()
            if kind == "number" and (self.text[at : at + 1].isalpha() or self.text[at : at + 1] == "_"):
                raise error(self.text, f"{match[kind] + self.text[at]!r} is not a number", match.start(kind))
        return tokens

    def _read(self, kind: str, text: str, place: int) -> _Token:
        if kind == "number":
            number = float(text.replace("_", ""))
            if math.isinf(number):
                raise error(self.text, f"{text!r} is too large a number", place)
            return _Token("value", text, place, number)
        if kind == "text":
            plain_text = text.strip("'")  # escapes stay as they are written
            moment = to_time(plain_text)
            return _Token("value", text, place, plain_text if moment is None else Moment(moment))
        if kind == "braced":
            return _Token("name", text, place - 2, "braced")
        if kind == "name" and text in ("true", "false"):
            return _Token("value", text, place, text == "true")
        return _Token("mark" if kind == "name" and text == "in" else kind, text, place)

    def _unreadable(self, at: int) -> Exception:
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        if self.text[at] == "'":
            return error(self.text, "this text is not closed", at)
        if self.text.startswith("${", at):
            return error(self.text, "${ is not closed", at)
        return error(self.text, f"{self.text[at]!r} is not part of the language", at)


INDEX = Operation("[]", _index)
