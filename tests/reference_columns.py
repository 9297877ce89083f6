"""Slow twins of csrc/text_columns.cpp and core/columns.pyx: a candidate, a value at a time."""

from __future__ import annotations

import numpy as np

from pairec_fast.core.columns import MISSING
from pairec_fast.expression.convert import to_float


def numeric(text):
    """The double a text stands for, or the text."""
    number = to_float(text, 0.0)
    return number if number != 0.0 or to_float(text, 1.0) == 0.0 else text


def pairs(text, delimiter):
    split = (pair.split(":") for pair in text.split(delimiter) if pair.count(":") == 1)
    return {name: numeric(value) for name, value in split}


def column_of(values):
    """What is told apart by type and value, in the order of its first row."""
    if all(value is MISSING or (type(value) is float and value == value) for value in values):
        return np.array([np.nan if value is MISSING else value for value in values], np.float64)
    codes, kept = [], []
    for value in values:
        same = [code for code, one in enumerate(kept) if (type(one), repr(one)) == (type(value), repr(value))]
        if value is MISSING:
            codes.append(-1)
        elif same and not isinstance(value, (list, dict)):
            codes.append(same[0])
        else:
            codes.append(len(kept))
            kept.append(value)
    return np.array(codes, np.int32), kept


def columns_of(entries, most=10**9):
    names = list(dict.fromkeys(name for entry in entries if entry for name in entry))
    values = {name: [(entry or {}).get(name, MISSING) for entry in entries] for name in names[:most]}
    return {name: column_of(column) for name, column in values.items()}, len(names)
