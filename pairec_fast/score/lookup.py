"""A score that is a feature: what PAI-Rec calls LOOKUP."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.expression.convert import to_float
from pairec_fast.query import Query

ABSENT = 0.5  # PAI-Rec's


class Lookup:
    """The item's property `field`, else the user's, as a number; 0.5 where there is none, or no number.

    A user's text counts where it is numeric, an item's does not. *Source*: PAIREC 0.4, 6.3; PAI-Rec itself crashes on
    a feature that is no double.
    """

    def __init__(self, name: str, field: str) -> None:
        self.name, self.field = name, field
        self.outputs = [name]

    def columns(self, query: Query, arena: Arena) -> dict[str, NDArray[np.float64]]:
        """Output -> its values, [arena.count]."""
        column = query.properties(arena).get(self.field)
        of_user = self._of_user(query)
        if column is None:
            return {self.name: np.full(arena.count, of_user)}
        if isinstance(column, tuple):
            codes, vocabulary = column
            distinct, places = np.unique(codes, return_inverse=True)
            values = [of_user if code < 0 else _number(vocabulary[code]) for code in distinct.tolist()]
            return {self.name: np.array(values, np.float64)[places]}
        if column.dtype.kind == "b":
            return {self.name: np.full(arena.count, ABSENT)}
        numbers = column.astype(np.float64)
        return {self.name: np.where(np.isnan(numbers), of_user, numbers)}

    def _of_user(self, query: Query) -> float:
        """In the numeric form: `type` is dropped, numeric text is a number."""
        value = None if self.field == "type" else query.user_features.get(self.field)
        return to_float(value, ABSENT) if isinstance(value, str) else _number(value)


def _number(value: Any) -> float:
    finite = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    return float(value) if finite else ABSENT
