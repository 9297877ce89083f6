"""Random expressions, random tables, and what an expression means for each row of one."""

from __future__ import annotations

import math

import numpy as np

from pairec_fast.expression import ROW, Failure
from pairec_fast.expression.value import public

FAILED = object()
NAN, INF = math.nan, math.inf
TEXTS = ["", "x", "y", "abc", "héllo", "1", "2.5", "-3", "nan", "a,b", "abcabc"]
DOUBLES = [0.0, -0.0, 1.0, 2.0, 2.5, -1.0, -2.5, NAN, INF, -INF, 1e19, -1e19, 2.0**53, 1e-5, 0.3, 3.0]
INTS = [0, 1, 2, 3, -1, -2, 2**53 + 1, 2**63 - 1, -(2**63), 7]
LISTS = [["x", "y"], [], [1, 2, 3], [1.0, 2.5], [1, "x", None], ["1", "2"], [[1], [2]]]
USER = {"n": 2, "f": 2.5, "t": "x", "l": [1, 2.5, "x"], "b": True, "nil": None, "m": {"k": 1}}


def table(rng, count):
    """Columns of every kind, few values of each, many of them missing."""
    codes = rng.integers(-1, len(TEXTS), count).astype(np.int32)
    large = [f"t{k}" for k in range(500)]
    mixed = [1, 2.5, "x", None, True, [1, 2], {"k": 1, "x": "y"}, "abc", -1.0, 2**64 - 1]
    return {
        "f": rng.choice(np.array(DOUBLES), count),
        "g": rng.choice(np.array([0.5, 1.0, 2.0, 3.0, -2.0]), count),
        "h": rng.choice(np.array([0, 0.1, 1, NAN, INF]), count).astype(np.float32),
        "i": rng.choice(np.array(INTS, np.int64), count),
        "j": rng.integers(-2, 3, count).astype(np.int32),
        "b": rng.random(count) < 0.5,
        "t": (codes, TEXTS),
        "u": (rng.permutation(codes), TEXTS),
        "v": (rng.integers(-1, 500, count).astype(np.int32), large),
        "l": (rng.integers(-1, len(LISTS), count).astype(np.int32), LISTS),
        "o": (rng.integers(-1, len(mixed), count).astype(np.int32), mixed),
    }


def rows(columns, count):
    """The same table as one map of properties for each row."""
    items = []
    for row in range(count):
        item = {}
        for name, column in columns.items():
            if isinstance(column, tuple):
                if column[0][row] >= 0:
                    item[name] = column[1][column[0][row]]
            elif (value := column[row].item()) == value:
                item[name] = value
        items.append(item)
    return items


def means(evaluate, names):
    try:
        return evaluate(names)
    except Failure:
        return FAILED


def values_of(vector):
    """What a vector says about each row."""
    values = []
    for row in range(vector.data.size):
        if vector.failed is not None and vector.failed[row]:
            values.append(FAILED)
        elif vector.vocabulary is not None:
            values.append(None if vector.data[row] < 0 else vector.vocabulary[vector.data[row]])
        else:
            values.append(None if vector.nil is not None and vector.nil[row] else vector.data[row].item())
    return values


def alike(left, right):
    """Of one kind and equal; a NaN is like a NaN, and 0.0 is not like -0.0."""
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return (left != left and right != right) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    return type(left) is type(right) and left == right


def agree(expression, columns, count, scalars):
    """The column of an expression says for every row what its meaning says."""
    got = values_of(expression.vector(columns, count, scalars))
    flat = not any(value is ROW for value in scalars.values())
    for row, item in enumerate(rows(columns, count)):
        names = {name: item if value is ROW else value for name, value in scalars.items()}
        names = {**item, **names} if flat else names
        expected = means(expression.value, names)
        same = got[row] is expected or alike(public(got[row]), expected)
        assert same, f"{expression.text!r} on {names}: {got[row]!r} over columns, {expected!r} alone"


class Writer:
    """Writes random expressions of a grammar: kinds of leaves, and forms with `{}` where a part goes."""

    def __init__(self, rng, leaves, forms):
        self.rng = rng
        self.leaves = leaves
        self.forms = forms

    def write(self, depth=3):
        if depth == 0 or self.rng.random() < 0.2:
            return str(self.rng.choice(self.leaves))
        form = str(self.rng.choice(self.forms))
        return form.format(*(self.write(depth - 1) for _ in range(form.count("{}"))))
