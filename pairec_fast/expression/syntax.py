"""The tree that every expression is parsed into, whatever its language, and its two evaluations.

`value` is the meaning: Python values in, a Python value out. `over` is the same for all rows of a table at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pairec_fast.errors import ConfigError
from pairec_fast.expression.value import Failure, public
from pairec_fast.expression.vector import (
    Column,
    Mask,
    One,
    Operand,
    Vector,
    choose,
    is_failure,
    is_nil,
    lift,
    of_column,
    spread,
    to_column,
    truth,
)

BLANKS = " \t\n\v\f\r"


class _Row:
    """The type of `ROW`."""

    def __repr__(self) -> str:
        return "ROW"


DEPTH_MAX = 250  # evaluation is recursive, two frames of Python's thousand for each operation
ROW: Any = _Row()  # as a value of `scalars`: this name means the properties of each row, its columns


def error(text: str, what: str, place: int) -> ConfigError:
    """A refusal with a caret under the place; the text stays on one line, so that the caret points where it should."""
    line = "".join(" " if character in BLANKS else character for character in text)
    return ConfigError(f"{what} (character {place + 1})\n  {line}\n  {' ' * place}^")


@dataclass(frozen=True, slots=True)
class Table:
    """What an expression is evaluated over.

    A name is one of `scalars`, the same for all rows, or a column. Where a scalar is `ROW`, columns are reached through
    that name alone, as in `item.price`.
    """

    columns: Mapping[str, Column]
    count: int
    scalars: Mapping[str, Any]

    @property
    def flat(self) -> bool:
        return not any(value is ROW for value in self.scalars.values())

    def column(self, name: str) -> Vector | None:
        column = self.columns.get(name)
        if column is None:
            return None
        values = column[0] if isinstance(column, tuple) else column
        if values.dtype.kind not in "biuf" or values.dtype in (np.uint64, np.longdouble):
            raise ValueError(f"column {name!r} is {values.dtype}; use bool, a number, or codes and a vocabulary")
        vector = of_column(column)
        if vector.data.shape != (self.count,):
            raise ValueError(f"column {name!r} has shape {vector.data.shape}; the table has {self.count} rows")
        return vector

    def row(self, k: int) -> dict[str, Any]:
        """The properties of one row, without those it lacks."""
        row: dict[str, Any] = {}
        for name in self.columns:
            column = self.columns[name]
            if isinstance(column, tuple):
                if column[0][k] >= 0:
                    row[name] = column[1][int(column[0][k])]
            elif (value := column[k].item()) == value:
                row[name] = value
        return row

    def rows(self) -> Vector:
        return Vector(np.arange(self.count), [self.row(k) for k in range(self.count)])


class Operation(NamedTuple):
    """What an operator or a function does to its operands, none of which has failed."""

    name: str
    function: Callable[..., Any]
    # The same over arrays for operands of some kinds, None for others: then `function` is asked per distinct value.
    fast: Callable[[Sequence[Operand], int], Operand | None] | None = None
    pure: bool = True


class Node:
    """A part of an expression; it stands at `place` in the text."""

    place: int = 0

    def value(self, names: Mapping[str, Any]) -> Any:
        """The value for one set of names.

        Raises:
            Failure: it has none.
        """
        raise NotImplementedError

    def over(self, table: Table) -> Operand:
        """The value for every row of a table."""
        raise NotImplementedError

    def parts(self) -> Sequence[Node]:
        return ()

    def leaves(self) -> Iterator[tuple[str, str | None]]:
        """The names it reads, with the property of them that it reads, if it reads only that."""
        for part in self.parts():
            yield from part.leaves()


class Constant(Node):
    def __init__(self, value: Any, place: int = 0) -> None:
        self.constant = value
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        return self.constant

    def over(self, table: Table) -> Operand:
        return One(self.constant)


class PerRow(NamedTuple):
    """A scalar that is none: a name that has a value of its own in every row, beside a name that is `ROW`."""

    column: Column


class Name(Node):
    """A name; `absent` is its value, or the failure, where nothing has that name.

    `number` says that integers count as doubles, inside lists too.
    """

    def __init__(self, name: str, place: int, absent: Any = None, number: bool = False) -> None:
        self.name = name
        self.place = place
        self.absent = absent
        self.number = number

    def value(self, names: Mapping[str, Any]) -> Any:
        if self.name in names:
            value = names[self.name]
            return as_doubles(value) if self.number else value
        if isinstance(self.absent, Failure):
            raise self.absent
        return self.absent

    def over(self, table: Table) -> Operand:
        if self.name in table.scalars:
            value = table.scalars[self.name]
            if isinstance(value, PerRow):
                own = of_column(value.column)
                return _doubles(own, table.count) if self.number else own
            return table.rows() if value is ROW else One(as_doubles(value) if self.number else value)
        vector = table.column(self.name) if table.flat else None
        if vector is None:
            return One(self.absent)
        missing = vector.nil if vector.vocabulary is None else vector.data < 0
        if self.number:
            vector = _doubles(vector, table.count)
        if self.absent is None or missing is None or not missing.any():
            return vector
        return choose(missing, One(self.absent), vector._replace(nil=None))

    def leaves(self) -> Iterator[tuple[str, str | None]]:
        yield self.name, None


def as_doubles(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [as_doubles(element) for element in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _doubles(vector: Vector, count: int) -> Vector:
    if vector.vocabulary is None:
        return vector._replace(data=vector.data.astype(np.float64)) if vector.kind == "i" else vector
    if len(vector.vocabulary) <= count and set(map(type, vector.vocabulary)) <= {str, bool, float, type(None)}:
        return vector
    return lift(as_doubles, [vector], count)


class Member(Node):
    """`base.key`; `fetch` takes one from the other."""

    def __init__(self, base: Node, key: Node, fetch: Operation, place: int) -> None:
        self.base = base
        self.key = key
        self.fetch = fetch
        self.place = place

    @property
    def path(self) -> tuple[str, str] | None:
        if isinstance(self.base, Name) and isinstance(self.key, Constant) and isinstance(self.key.constant, str):
            return self.base.name, self.key.constant
        return None

    def value(self, names: Mapping[str, Any]) -> Any:
        return self.fetch.function(self.base.value(names), self.key.value(names))

    def over(self, table: Table) -> Operand:
        if self.path is not None and table.scalars.get(self.path[0]) is ROW:
            vector = table.column(self.path[1])
            return One(None) if vector is None else vector
        return lift_or_one(self.fetch.function, [self.base.over(table), self.key.over(table)], table.count)

    def parts(self) -> Sequence[Node]:
        return (self.base, self.key)

    def leaves(self) -> Iterator[tuple[str, str | None]]:
        if self.path is not None:
            yield self.path
        else:
            yield from super().leaves()


class Apply(Node):
    """An operation on the values of other nodes, all of which are needed."""

    def __init__(self, operation: Operation, arguments: Sequence[Node], place: int) -> None:
        self.operation = operation
        self.arguments = tuple(arguments)
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        return self.operation.function(*[argument.value(names) for argument in self.arguments])

    def over(self, table: Table) -> Operand:
        operands = [argument.over(table) for argument in self.arguments]
        for operand in operands:
            if is_failure(operand):
                return operand
        if self.operation.fast is not None and any(isinstance(operand, Vector) for operand in operands):
            with np.errstate(all="ignore"):
                fast = self.operation.fast(operands, table.count)
            if fast is not None:
                for operand in operands:
                    if isinstance(operand, Vector) and operand.failed is not None:
                        fast = spread(fast, table.count).failing(operand.failed)
                return fast
        return lift_or_one(self.operation.function, operands, table.count)

    def parts(self) -> Sequence[Node]:
        return self.arguments


class Chain(Node):
    """`left and right`, `left or right`: the right side is looked at only where the left does not decide.

    With `strict` the right side must be a boolean too; otherwise it is the answer, whatever it is.
    """

    def __init__(self, left: Node, right: Node, decides: bool, strict: bool, place: int) -> None:
        self.left = left
        self.right = right
        self.decides = decides
        self.strict = strict
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        if _boolean(self.left.value(names)) is self.decides:
            return self.decides
        right = self.right.value(names)
        return _boolean(right) if self.strict else right

    def over(self, table: Table) -> Operand:
        left = self.left.over(table)
        if isinstance(left, One):
            if type(left.value) is not bool:
                return left if is_failure(left) else One(NO_BOOLEAN)
            if left.value is self.decides:
                return left
        holds, bad = truth(left, table.count)
        right = self.right.over(table)
        if self.strict:
            true, wrong = truth(right, table.count)
            right = Vector(true, None, None, wrong if wrong.any() else None)
        decided = (holds if self.decides else ~holds) & ~bad
        if not bad.any() and isinstance(right, Vector) and right.kind == "b" and right.nil is None:
            data = decided | right.data if self.decides else ~decided & right.data
            return Vector(data, None, None, None if right.failed is None else right.failed & ~decided)
        return choose(decided, One(self.decides), right).failing(bad if bad.any() else None)

    def parts(self) -> Sequence[Node]:
        return (self.left, self.right)


NO_BOOLEAN = Failure("a boolean is needed")


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise NO_BOOLEAN
    return value


class Choice(Node):
    """`test ? yes : no`; only the side that is chosen is looked at."""

    def __init__(self, test: Node, yes: Node, no: Node, place: int) -> None:
        self.test = test
        self.yes = yes
        self.no = no
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        return (self.yes if _boolean(self.test.value(names)) else self.no).value(names)

    def over(self, table: Table) -> Operand:
        test = self.test.over(table)
        if isinstance(test, One):
            if type(test.value) is bool:
                return (self.yes if test.value else self.no).over(table)
            return test if is_failure(test) else One(NO_BOOLEAN)
        holds, bad = truth(test, table.count)
        chosen = choose(holds, self.yes.over(table), self.no.over(table))
        return chosen.failing(bad if bad.any() else None)

    def parts(self) -> Sequence[Node]:
        return (self.test, self.yes, self.no)


class Otherwise(Node):
    """`left ?? right`: the right side where the left is nil."""

    def __init__(self, left: Node, right: Node, place: int) -> None:
        self.left = left
        self.right = right
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        left = self.left.value(names)
        return self.right.value(names) if left is None else left

    def over(self, table: Table) -> Operand:
        left = self.left.over(table)
        if isinstance(left, One):
            return self.right.over(table) if left.value is None else left
        nil = is_nil(left)
        if left.failed is not None:
            nil = nil & ~left.failed
        return choose(~nil, left, self.right.over(table)) if nil.any() else left

    def parts(self) -> Sequence[Node]:
        return (self.left, self.right)


class Whole(Node):
    """Over columns, a part that is evaluated as a whole per distinct combination of all that it reads."""

    def over(self, table: Table) -> Operand:
        operands: list[Operand] = []
        keys: list[tuple[str, str | None]] = []
        for root, key in dict.fromkeys(self.leaves()):
            if table.scalars.get(root) is ROW:
                vector = table.rows() if key is None else table.column(key)
            elif root in table.scalars or not table.flat:
                continue
            else:
                vector, key = table.column(root), None
            if vector is not None:
                keys.append((root, key))
                operands.append(vector)

        def evaluate(*values: Any) -> Any:
            names = {name: value for name, value in table.scalars.items() if value is not ROW}
            for name in table.scalars.keys() - names.keys():
                names[name] = {}
            for (root, key), value in zip(keys, values, strict=True):
                if key is None:
                    names[root] = value
                elif value is not None:
                    names[root][key] = value
            return self.value(names)

        return lift_or_one(evaluate, operands, table.count)


def lift_or_one(function: Callable[..., Any], operands: Sequence[Operand], count: int) -> Operand:
    for operand in operands:
        if is_failure(operand):
            return operand
    if all(isinstance(operand, One) for operand in operands):
        try:
            return One(function(*(operand.value for operand in operands if isinstance(operand, One))))
        except Failure as failure:
            return One(failure)
    return lift(function, operands, count)


def depth(root: Node) -> int:
    """The longest way from the root to a leaf; `1 + 1 + 1` is 3."""
    level, parts = 0, [root]
    while parts and level <= DEPTH_MAX:
        level, parts = level + 1, list({id(part): part for node in parts for part in node.parts()}.values())
    return level


class Expression:
    """A parsed expression."""

    def __init__(self, text: str, language: str, root: Node) -> None:
        if depth(root) > DEPTH_MAX:
            raise ConfigError(f"more than {DEPTH_MAX} operations inside one another\n  {text}")
        self.text = text
        self.language = language
        self.root = root
        self.paths = frozenset(root.leaves())  # (name, property of it or None)
        self.names = tuple(dict.fromkeys(name for name, _ in root.leaves()))

    def __repr__(self) -> str:
        return f"Expression({self.language}, {self.text!r})"

    def value(self, names: Mapping[str, Any]) -> Any:
        """The value for one set of names.

        Raises:
            Failure: it has none: an operand of the wrong kind, a missing name that the language does not forgive.
        """
        return public(self.root.value(names))

    def vector(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Vector:
        """The value for each of `count` rows, with the rows marked that have none.

        Reads `columns`, each [count], by the bare name, or, where a value of `scalars` is `ROW`, as properties of that
        name. `scalars` are the same for all rows and hide columns.

        Raises:
            ValueError: a column is not [count].
        """
        return spread(self.root.over(Table(columns, count, scalars or {})), count)

    def column(self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None) -> Column:
        """As `vector`, as a column of an item table; rows without a value, and those where it is nil, are missing."""
        return to_column(self.vector(columns, count, scalars))

    def holds(
        self, columns: Mapping[str, Column], count: int, scalars: Mapping[str, Any] | None = None
    ) -> tuple[Mask, Mask]:
        """For which rows the value is true, and for which it is no boolean or has failed: `value` would raise there."""
        return truth(self.vector(columns, count, scalars), count)
