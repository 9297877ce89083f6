"""The language `expr`: expr-lang, with PAI-Rec's functions in place of its own of the same name.

A name that nothing has is nil; integers stay integers. Source: expr-lang's language definition; PAIREC.md 5.1, 8.3.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pairec_fast.expression.convert import INT_MAX
from pairec_fast.expression.expr_tree import PREDICATE_OPTIONAL, WITH_PREDICATE, Each, Local
from pairec_fast.expression.expr_values import BINARY, BUILTINS, FETCH, IS_NIL, NEGATIVE, NOT, POSITIVE, SLICE, one_of
from pairec_fast.expression.functions import Function, arity, functions
from pairec_fast.expression.regex import compiled
from pairec_fast.expression.syntax import (
    ROW,
    Apply,
    Chain,
    Choice,
    Constant,
    Expression,
    Member,
    Name,
    Node,
    Operation,
    Otherwise,
    Table,
    error,
)
from pairec_fast.expression.value import Failure
from pairec_fast.expression.vector import One, Operand

NESTING_MAX = 100  # the parser is recursive
POWER, COALESCE, UNARY_SIGN, UNARY_NOT, COMPARISON = 100, 500, 90, 50, 20
PRECEDENCE = {
    "or": 10, "||": 10, "and": 15, "&&": 15, "==": 20, "!=": 20, "<": 20, "<=": 20, ">": 20, ">=": 20, "in": 20,
    "matches": 20, "contains": 20, "startsWith": 20, "endsWith": 20, "..": 25, "+": 30, "-": 30, "*": 60, "/": 60,
    "%": 60, "**": POWER, "^": POWER, "??": COALESCE,
}  # fmt: skip
WORDS = {"or", "and", "not", "in", "matches", "contains", "startsWith", "endsWith"}
ORDER = {"<", "<=", ">", ">="}
NOT_ABLE = {"matches", "contains", "startsWith", "endsWith", "in"}
UNAVAILABLE = {"now", "date", "duration", "timezone", "toJSON", "fromJSON", "toBase64", "fromBase64", "toPairs",
               "fromPairs", "groupBy", "splitAfter"}  # fmt: skip


def expr(text: str, clock: Callable[[], float] = time.time, extra: Mapping[str, Function] | None = None) -> Expression:
    """Parse `text`; `extra` are functions that it has beside the usual ones, as `printf.SPRINTF`.

    Raises:
        ConfigError: it is no expression of the language; the message shows the place.
    """
    return Expression(text, "expr", _Parser(text, clock, extra or {}).parse())


class _IsNil(Apply):
    """Whether a value is nil; a row as a whole never is, and need not be put together to know it."""

    def __init__(self, base: Node, place: int) -> None:
        super().__init__(IS_NIL, [base], place)

    def over(self, table: Table) -> Operand:
        base = self.arguments[0]
        if isinstance(base, Name) and table.scalars.get(base.name) is ROW:
            return One(False)
        return super().over(table)


class _Token(NamedTuple):
    kind: str  # value, name, word, mark, end
    text: str
    place: int
    value: Any = None


PIECE = re.compile(
    r"""(?:\s|//[^\n]*|/\*.*?\*/)*(?:
    (?P<number>0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)
    |(?P<name>[^\W\d][\w$]*|\$[\w$]*)|(?P<raw>`[^`]*`)|(?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<mark>&&|\|\||==|!=|<=|>=|\*\*|\.\.|\?\?|\?\.|\#(?:index|acc)?|[-+*/%^<>!?:.,()\[\]{}|;=])|(?P<end>\Z))""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\'\"`])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))"
)
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class _Parser:
    """Precedence climbing over tokens."""

    def __init__(self, text: str, clock: Callable[[], float], extra: Mapping[str, Function]) -> None:
        self.text = text
        self.functions = {**BUILTINS, **functions(clock), **extra}
        self.tokens = self._tokens()
        self.at = 0
        self.nesting = 0
        self.predicates = 0
        self.variables: dict[str, Node] = {}

    def parse(self) -> Node:
        if self.token.kind == "end":
            raise self._error("empty expression")
        root = self._expression(0)
        if self.token.kind != "end":
            raise self._error("an operator is missing" if self.token.text not in ")]}" else "nothing is open here")
        return root

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def _is(self, *texts: str) -> bool:
        return self.token.kind in ("mark", "word") and self.token.text in texts

    def _take(self, *texts: str) -> _Token | None:
        token = self.token
        if not self._is(*texts):
            return None
        self.at += 1
        return token

    def _expect(self, text: str, opening: _Token | None = None) -> None:
        if not self._take(text):
            if opening is not None and self.token.kind == "end":
                raise self._error(f"this {opening.text} is not closed", opening)
            raise self._error(f"{text} is missing")

    def _expression(self, lowest: int) -> Node:
        self.nesting += 1
        if self.nesting > NESTING_MAX:
            raise self._error(f"more than {NESTING_MAX} expressions inside one another")
        if lowest == 0 and self.token.kind == "name" and self.token.text == "let":
            node = self._let()
        else:
            node = self._operators(self._operand(), lowest)
            if lowest == 0:
                node = self._ternary(node)
        self.nesting -= 1
        return node

    def _let(self) -> Node:
        self.at += 1
        name = self.token
        if name.kind != "name":
            raise self._error("let needs a name")
        self.at += 1
        self._expect("=")
        value = self._expression(0)
        self._expect(";")
        outer = dict(self.variables)
        self.variables[name.text] = value  # evaluated where it is used: values have no side effects
        body = self._expression(0)
        self.variables = outer
        return body

    def _ternary(self, test: Node) -> Node:
        while question := self._take("?"):
            yes = test if self._is(":") else self._expression(0)
            self._expect(":")
            test = Choice(test, yes, self._expression(0), question.place)
        return test

    def _operators(self, left: Node, lowest: int) -> Node:
        while True:
            if lowest == 0 and (pipe := self._take("|")):
                left = self._pipe(left, pipe)
                continue
            start = self.at
            negated = self._take("not")
            token = self.token
            precedence = PRECEDENCE.get(token.text, -1) if token.kind in ("mark", "word") else -1
            if negated and token.text not in NOT_ABLE:
                raise self._error("an operator is missing", negated)
            if precedence < max(lowest, 1):
                self.at = start
                return left
            self.at += 1
            if token.text in ORDER and not negated:
                left = self._order(left, token, precedence)
                continue
            right = self._expression_of(precedence if precedence == POWER else precedence + 1)
            left = self._binary(token, left, right)
            if negated:
                left = self._folded(NOT, [left], negated.place)

    def _expression_of(self, lowest: int) -> Node:
        return self._expression(lowest)

    def _order(self, left: Node, token: _Token, precedence: int) -> Node:
        """`1 < x < 5` is `1 < x and x < 5`."""
        chain: Node | None = None
        operator: _Token | None = token
        while operator is not None:
            right = self._expression_of(precedence + 1)
            link = self._binary(operator, left, right)
            chain = link if chain is None else Chain(chain, link, False, False, operator.place)
            left = right
            operator = self._take(*ORDER)
        assert chain is not None
        return chain

    def _binary(self, token: _Token, left: Node, right: Node) -> Node:
        symbol = {"^": "**", "&&": "and", "||": "or"}.get(token.text, token.text)
        if symbol in ("and", "or"):
            return _chain(left, right, symbol == "or", token.place)
        if symbol == "??":
            return Otherwise(left, right, token.place)
        if symbol == "matches" and isinstance(right, Constant) and isinstance(right.constant, str):
            self._checked(lambda: compiled(right.constant), right.place)
        if symbol == "in" and isinstance(right, Constant) and isinstance(right.constant, list) and right.constant:
            texts = [text for text in right.constant if isinstance(text, str)]
            if len(texts) == len(right.constant):
                return self._folded(one_of(frozenset(texts)), [left], token.place)
        return self._folded(BINARY[symbol], [left, right], token.place)

    def _operand(self) -> Node:
        token = self.token
        if self._take("not", "!"):
            return self._folded(NOT, [self._expression_of(UNARY_NOT)], token.place)
        if self._take("-"):
            return self._folded(NEGATIVE, [self._expression_of(UNARY_SIGN)], token.place)
        if self._take("+"):
            return self._folded(POSITIVE, [self._expression_of(UNARY_SIGN)], token.place)
        self.at += 1
        if token.kind == "value":
            return self._chained(Constant(token.value, token.place))
        if token.kind == "name":
            return self._chained(self._name(token))
        if token.kind == "mark":
            if token.text == "(":
                inner = self._expression(0)
                self._expect(")", token)
                return self._chained(inner)
            if token.text == "[":
                return self._chained(self._array(token))
            if token.text == "{":
                return self._chained(self._map(token))
            if token.text[0] == "#" and self.predicates:
                return self._chained(Local(token.text, token.place))
            if token.text == "." and self.predicates:
                self.at -= 1
                return self._chained(Local("#", token.place))
        what = "an operand is missing at the end" if token.kind == "end" else "an operand is missing here"
        raise self._error(what, token)

    def _name(self, token: _Token) -> Node:
        if token.text in ("true", "false", "nil"):
            return Constant({"true": True, "false": False, "nil": None}[token.text], token.place)
        if token.text == "if":
            return self._if(token)
        if opening := self._take("("):
            return self._call(token, self._arguments(token, opening, []))
        if token.text == "$env":
            raise self._error("$env is not available here; name the value", token)
        if token.text in self.variables:
            return self.variables[token.text]
        return Name(token.text, token.place)

    def _if(self, token: _Token) -> Node:
        test = self._expression(0)
        self._expect("{")
        yes = self._expression(0)
        self._expect("}")
        if self.token.kind != "name" or self.token.text != "else":
            raise self._error("else is missing")
        self.at += 1
        if self.token.kind == "name" and self.token.text == "if":
            self.at += 1
            return Choice(test, yes, self._if(token), token.place)
        self._expect("{")
        no = self._expression(0)
        self._expect("}")
        return Choice(test, yes, no, token.place)

    def _pipe(self, left: Node, pipe: _Token) -> Node:
        name = self.token
        if name.kind != "name":
            raise self._error("| needs a function")
        self.at += 1
        opening = self.token
        self._expect("(")
        return self._chained(self._call(name, self._arguments(name, opening, [left])))

    def _arguments(self, name: _Token, opening: _Token, arguments: list[Node]) -> list[Node]:
        while not self._is(")"):
            predicate = name.text in WITH_PREDICATE and len(arguments) == 1
            arguments.append(self._predicate() if predicate else self._expression(0))
            if not self._take(","):
                break
        self._expect(")", opening)
        return arguments

    def _predicate(self) -> Node:
        self.predicates += 1
        brace = self._take("{")
        body = self._expression(0)
        if brace:
            self._expect("}", brace)
        self.predicates -= 1
        return body

    def _call(self, name: _Token, arguments: list[Node]) -> Node:
        given = len(arguments)
        if name.text in WITH_PREDICATE:
            fewest = 1 if name.text in PREDICATE_OPTIONAL else 2
            most = 3 if name.text == "reduce" else 2
            if not fewest <= given <= most:
                raise self._error(arity(name.text, fewest, most, given), name)
            body = arguments[1] if given > 1 else None
            return Each(name.text, arguments[0], body, tuple(arguments[2:]), name.place)
        function = self.functions.get(name.text)
        if function is None:
            if name.text in UNAVAILABLE:
                raise self._error(f"the function {name.text} is not available here", name)
            known = ", ".join(sorted({*self.functions, *WITH_PREDICATE}))
            raise self._error(f"unknown function {name.text}; known are {known}", name)
        if not function.fewest <= given <= function.most:
            raise self._error(arity(name.text, function.fewest, function.most, given), name)
        return self._folded(function.operation, arguments, name.place)

    def _array(self, opening: _Token) -> Node:
        elements: list[Node] = []
        while not self._is("]"):
            elements.append(self._expression(0))
            if not self._take(","):
                break
        self._expect("]", opening)
        return self._folded(ARRAY, elements, opening.place)

    def _map(self, opening: _Token) -> Node:
        parts: list[Node] = []
        while not self._is("}"):
            token = self.token
            self.at += 1
            if token.kind == "name" or (token.kind == "value" and isinstance(token.value, str)):
                parts.append(Constant(token.text if token.kind == "name" else token.value, token.place))
            elif token.text == "(":
                parts.append(self._expression(0))
                self._expect(")", token)
            else:
                raise self._error("a key must be a name or a text", token)
            self._expect(":")
            parts.append(self._expression(0))
            if not self._take(","):
                break
        self._expect("}", opening)
        return self._folded(MAP, parts, opening.place)

    def _chained(self, base: Node) -> Node:
        """What follows an operand: members, indexes, slices."""
        while True:
            token = self.token
            if self._take("?."):
                key = self._index(self.tokens[self.at - 1]) if self._take("[") else self._key()
                # `a?.b.c` is nil where `a` is: what follows is not looked at.
                rest = self._chained(Member(base, key, FETCH, token.place))
                return Choice(_IsNil(base, token.place), Constant(None, token.place), rest, token.place)
            if self._take("."):
                base = Member(base, self._key(), FETCH, token.place)
            elif self._take("["):
                base = self._index_or_slice(base, token)
            else:
                return base

    def _key(self) -> Node:
        token = self.token
        if token.kind not in ("name", "word"):
            raise self._error("a name is missing after the point")
        self.at += 1
        if self._is("("):
            raise self._error(f"values have no methods; {token.text} cannot be called", token)
        return Constant(token.text, token.place)

    def _index(self, opening: _Token) -> Node:
        key = self._expression(0)
        self._expect("]", opening)
        return key

    def _index_or_slice(self, base: Node, opening: _Token) -> Node:
        first: Node = Constant(..., opening.place)
        if not self._is(":"):
            first = self._expression(0)
            if self._take("]"):
                return Member(base, first, FETCH, opening.place)
        self._expect(":", opening)
        last = Constant(..., opening.place) if self._is("]") else self._expression(0)
        self._expect("]", opening)
        return self._folded(SLICE, [base, first, last], opening.place)

    def _folded(self, operation: Operation, arguments: Sequence[Node], place: int) -> Node:
        """The operation, computed at once where it always gives the same; if it always fails, the text is wrong."""
        if not operation.pure or not all(isinstance(argument, Constant) for argument in arguments):
            return Apply(operation, arguments, place)
        values = [argument.constant for argument in arguments if isinstance(argument, Constant)]
        return Constant(self._checked(lambda: operation.function(*values), place), place)

    def _checked(self, compute: Callable[[], Any], place: int) -> Any:
        try:
            return compute()
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
            tokens.append(self._read(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return tokens

    def _read(self, kind: str, text: str, place: int) -> _Token:
        if kind == "number":
            return _Token("value", text, place, self._number(text, place))
        if kind == "raw":
            return _Token("value", text, place, text[1:-1])
        if kind == "text":
            return _Token("value", text, place, ESCAPE.sub(lambda match: self._escape(match, place), text[1:-1]))
        return _Token("word" if kind == "name" and text in WORDS else kind, text, place)

    def _number(self, text: str, place: int) -> int | float:
        digits = text.replace("_", "")
        base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2].lower(), 0)
        try:
            number = int(digits[2:], base) if base else int(digits) if digits.isdigit() else float(digits)
        except ValueError:
            raise error(self.text, f"{text!r} is not a number", place) from None
        if number > INT_MAX if isinstance(number, int) else number == float("inf"):
            raise error(self.text, f"{text!r} is too large a number", place)
        return number

    def _escape(self, match: re.Match[str], place: int) -> str:
        letter, two, four, eight, octal, other = match.groups()
        if other is not None:
            raise error(self.text, f"\\{other} is no escape", place + 1 + match.start())
        if octal:
            return chr(int(octal, 8))
        return ESCAPES.get(letter, letter) if letter else chr(int(two or four or eight, 16))

    def _unreadable(self, at: int) -> Exception:
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        if self.text[at] in "'\"`":
            return error(self.text, "this text is not closed", at)
        return error(self.text, f"{self.text[at]!r} is not part of the language", at)


def _chain(left: Node, right: Node, decides: bool, place: int) -> Node:
    """`and` and `or`; a constant side is left away, as the original's optimizer does, unless it decides."""
    for side, other in ((left, right), (right, left)):
        if isinstance(side, Constant) and type(side.constant) is bool:
            return side if side.constant is decides else other
    return Chain(left, right, decides, False, place)


def _map_of(*parts: Any) -> dict[Any, Any]:
    return dict(zip(map(str, parts[::2]), parts[1::2], strict=True))


ARRAY = Operation("[]", lambda *elements: list(elements))
MAP = Operation("{}", _map_of)
