"""Not too much of one kind in a row."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, DiversityRules
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, Snapshot, pick


class DiversityRule(msgspec.Struct, frozen=True, rename="pascal"):
    """Candidates are of one value when all `dimensions`, item columns, agree. A size of 0 switches its check off."""

    dimensions: list[str]
    interval_size: int = 0
    window_size: int = 0
    frequency_size: int = 0
    weight: float = 0.0


class DiversityRuleSort(msgspec.Struct, frozen=True, rename="pascal"):
    """*Source*: PAI-Rec, `DiversityRuleSort` (PAIREC 7.2)."""

    name: str
    diversity_rules: list[DiversityRule] = []
    diversity_size: int = 0
    explore_item_size: int = 0
    exclude_recalls: list[str] = []
    conditions: list[Any] = []
    exclusion_rules: list[Any] = []
    multi_value_dimension_conf: list[Any] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a dimension that is no item column, or a part that does not act in this version."""
        where, snapshot, sources = f"SortConfs.{self.name}", at.snapshot, at.sources
        for field in ("conditions", "exclusion_rules", "multi_value_dimension_conf"):
            if getattr(self, field):
                key = "".join(word.capitalize() for word in field.split("_"))
                raise ConfigError(f"{where}.{key} is not available in this version")
        if not self.diversity_rules:
            return lambda query, arena: None
        rules = []
        for place, rule in enumerate(self.diversity_rules):
            place_of = f"{where}.DiversityRules[{place}].Dimensions"
            columns = [pick(snapshot.items.columns, name, place_of) for name in rule.dimensions]
            values = kept_up(columns, snapshot)
            rules.append((values, rule.interval_size, rule.window_size, rule.frequency_size, rule.weight))
        apart = {source for source, name in enumerate(sources) if name in self.exclude_recalls}
        kernel = DiversityRules(rules, apart, self.explore_item_size)
        fixed = self.diversity_size

        def sort(query: Query, arena: Arena) -> None:
            kernel.apply(arena, fixed or query.size)

        return sort


def kept_up(columns: list[Column], snapshot: Snapshot) -> NDArray[np.int32]:
    """`joined`, and the numbers of items added later as they come: int32 [capacity]."""
    count = len(snapshot.items)
    values = np.zeros(snapshot.overlay.capacity, np.int32)
    values[:count] = joined(columns, count)
    known: dict[tuple[Any, ...], int] = {}

    def extend(rows: NDArray[np.int32]) -> None:
        if not known:
            numbers, first = np.unique(values[:count], return_index=True)
            known.update(zip((_texts(columns, row) for row in first.tolist()), numbers.tolist(), strict=True))
        values[rows] = [known.setdefault(_texts(columns, row), len(known)) for row in rows.tolist()]

    snapshot.follow(extend)
    return values


def _texts(columns: list[Column], row: int) -> tuple[Any, ...]:
    """What `joined` compares, of one item."""
    values = (column.value(row) if column.kind != "vector" else 0 for column in columns)
    return tuple("" if value is None else np.trunc(value) if not isinstance(value, str) else value for value in values)


def joined(columns: list[Column], count: int) -> NDArray[np.int32]:
    """A number for each item, equal where all columns have the same text: int32 [count].

    The text of a number is its integer part, that of a missing value or a vector is empty.
    """
    value = np.zeros(count, np.int64)
    for column in columns:
        if column.kind == "text":
            assert column.texts is not None
            code = column.values[:count].astype(np.int64)
            code[code < 0] = next((at for at in range(len(column.texts)) if column.texts[at] == ""), -1)
        elif column.kind == "number":
            code = np.unique(np.trunc(column.values[:count]), return_inverse=True, equal_nan=True)[1].astype(np.int64)
        else:
            code = np.zeros(count, np.int64)
        value = np.unique(value * (code.max() + 2) + code + 1, return_inverse=True)[1].astype(np.int64)
    return value.astype(np.int32)
