"""RankScore: the formula that makes one score of many, parsed at load, a core program per scene."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
from numpy.typing import NDArray

from pairec_fast.core.expression import Program
from pairec_fast.errors import ConfigError

# Where a name lives. `input` is for programs evaluated with `evaluate_columns`; None is a missing name, which is 0.
Place = (
    tuple[Literal["current_score"]]
    | tuple[Literal["algo"], int]
    | tuple[Literal["column"], NDArray[Any]]
    | tuple[Literal["constant"], float]
    | tuple[Literal["input"], int]
    | None
)
Resolve = Callable[[str], Place]

PRECEDENCE = {"+": 20, "-": 20, "*": 40, "/": 40, "%": 40, "^": 60, "#": 80}
OPERATOR = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "modulo", "^": "power", "#": "or_else",
}  # fmt: skip
BLANKS = " \t\n\v\f\r"
TOKEN = re.compile(
    rf"[{BLANKS}]*(?:(?P<name>\$\{{[^}}]*\}})|(?P<number>[0-9][0-9._e]*)|(?P<operator>[-+*/%^#()])|(?P<end>\Z))"
)
NUMBER = re.compile(r"[0-9]+\.?[0-9]*(?:e[0-9]+)?")
NESTING_MAX = 100  # parentheses inside parentheses: the parser is recursive


class RankScore(msgspec.Struct, frozen=True):
    """A parsed expression: `names` in order of first use, `ops` in postfix order.

    An op is ("constant", value), ("name", name) or (operator,).

    Source: `RankConf.RankScore` with `ASTType` empty; PAIREC.md 6.6.
    """

    text: str
    names: tuple[str, ...]
    ops: tuple[tuple[Any, ...], ...]

    @classmethod
    def compile(cls, text: str, ast_type: str = "") -> RankScore:
        """Parse `text`.

        Operators group to the left, `^` too. There is no unary minus: where an operand is missing before an operator
        or a closing parenthesis, PAI-Rec reads 0, so `-3` is 0-3 and `4*-1` is 4*0-1.

        Raises:
            ConfigError: not an expression (the message shows the place), more values wait than the core's stack holds,
                or `ast_type` is not "".
        """
        if ast_type:
            known = "not available here yet" if ast_type == "antlr" else "unknown"
            raise ConfigError(f'ASTType "{ast_type}" is {known}; leave ASTType empty for the default parser')
        ops = _Parser(text).parse()
        expression = cls(text, tuple(dict.fromkeys(op[1] for op in ops if op[0] == "name")), ops)
        try:
            expression.bind(lambda name: None)
        except ValueError as error:
            raise ConfigError(f"expression too deep: {error}\n  {text}") from None
        return expression

    def bind(self, resolve: Resolve) -> Program:
        """Say where each name lives, and get the program that reads there. `resolve` is asked once per name.

        A text property counts where it is numeric: its column is `convert.to_float` of the texts, 0 elsewhere.

        Raises:
            ValueError: a place is not one of `Place`, or its array does not suit the core.
        """
        places = {name: resolve(name) for name in self.names}
        ops: list[tuple[str, int]] = []
        constants: list[float] = []
        columns: list[NDArray[Any]] = []
        for op, *argument in self.ops:
            if op == "name":
                op, *argument = places[argument[0]] or ("constant", 0.0)
            if op == "constant":
                ops.append((op, len(constants)))
                constants.append(float(argument[0]))
            elif op == "column":
                ops.append((op, len(columns)))
                columns.append(argument[0])
            else:
                ops.append((op, argument[0] if argument else 0))
        return Program(ops, constants, columns)


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


class _Parser:
    """Precedence climbing over tokens; what it emits is postfix."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.at = 0
        self.nesting = 0
        self.ops: list[tuple[Any, ...]] = []

    def parse(self) -> tuple[tuple[Any, ...], ...]:
        if self.tokens[0].kind == "end":
            raise self._error("empty expression", self.tokens[0].place)
        self._expression(0)
        if self._token.kind != "end":
            what = "no parenthesis is open here" if self._token.text == ")" else "an operator is missing"
            raise self._error(what, self._token.place)
        return tuple(self.ops)

    @property
    def _token(self) -> _Token:
        return self.tokens[self.at]

    def _expression(self, lowest: int) -> None:
        """An operand and every operator after it that binds at least as tightly as `lowest`."""
        self._operand()
        while self._token.kind == "operator" and PRECEDENCE.get(self._token.text, -1) >= lowest:
            operator = self._token.text
            self.at += 1
            self._expression(PRECEDENCE[operator] + 1)  # + 1: equals group to the left
            self.ops.append((OPERATOR[operator],))

    def _operand(self) -> None:
        token = self._token
        if token.kind == "end":
            raise self._error("an operand is missing at the end", token.place)
        if token.kind == "operator" and token.text != "(":
            self.ops.append(("constant", 0.0))  # a missing operand is 0, and the operator is read again as binary
            return
        self.at += 1
        if token.text == "(":
            self.nesting += 1
            if self.nesting > NESTING_MAX:
                raise self._error(f"more than {NESTING_MAX} open parentheses", token.place)
            self._expression(0)
            if self._token.text != ")":
                raise self._error("this parenthesis is not closed", token.place)
            self.at += 1
            self.nesting -= 1
        elif token.kind == "name":
            self.ops.append(("name", token.text[2:-1]))
        else:
            self.ops.append(("constant", self._number(token)))

    def _number(self, token: _Token) -> float:
        digits = token.text.replace("_", "")
        value = float(digits) if NUMBER.fullmatch(digits) else math.inf
        if math.isinf(value):
            rule = "use digits, one point, and e without a sign"
            raise self._error(f"{token.text!r} is not a number; {rule}", token.place)
        return value

    def _tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while not tokens or tokens[-1].kind != "end":
            match = TOKEN.match(self.text, at)
            if match is None or match.lastgroup is None:
                raise self._unreadable(at)
            kind = match.lastgroup
            tokens.append(_Token(kind, match[kind], match.start(kind)))
            at = match.end()
        return tokens

    def _unreadable(self, at: int) -> ConfigError:
        at += len(self.text[at:]) - len(self.text[at:].lstrip(BLANKS))
        if self.text.startswith("${", at):
            return self._error("${ is not closed", at)
        language = "use numbers, ${name}, + - * / % ^ # and parentheses"
        return self._error(f"{self.text[at]!r} is not part of the language; {language}", at)

    def _error(self, what: str, place: int) -> ConfigError:
        # The text stays on one line, so that the caret points where it should.
        line = "".join(" " if character in BLANKS else character for character in self.text)
        return ConfigError(f"{what} (character {place + 1})\n  {line}\n  {' ' * place}^")
