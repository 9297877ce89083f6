"""Not too much of one kind in a row."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, DiversityRules, ValueLists
from pairec_fast.expression import Condition, check, matches
from pairec_fast.query import Query
from pairec_fast.rerank.values import Kept, coded, holds, joined
from pairec_fast.snapshot import Snapshot

POSITION_MAX = 1 << 20  # no request has as many candidates

Codes = NDArray[np.int32]


class DiversityRule(msgspec.Struct, frozen=True, rename="pascal"):
    """Candidates are of one value when all `dimensions` agree. A size of 0 switches its check off."""

    dimensions: list[str] = []
    interval_size: int = 0
    window_size: int = 0
    frequency_size: int = 0
    weight: float = 0.0


class ExclusionRule(msgspec.Struct, frozen=True, rename="pascal"):
    """Who meets `conditions`, if there are any, stands at none of `positions`, counted from 1."""

    positions: list[int] = []
    conditions: list[Condition] = []


class MultiValueDimension(msgspec.Struct, frozen=True, rename="pascal"):
    """A dimension that holds several values, with `delimiter` between them."""

    dimension_name: str = ""
    delimiter: str = ""

    def __post_init__(self) -> None:
        if not self.delimiter:
            raise ValueError("Delimiter must not be empty")


class DiversityRuleSort(msgspec.Struct, frozen=True, rename="pascal"):
    """*Source*: PAI-Rec, `DiversityRuleSort` (PAIREC 7.2)."""

    name: str
    diversity_rules: list[DiversityRule] = []
    diversity_size: int = 0
    explore_item_size: int = 0
    exclude_recalls: list[str] = []
    conditions: list[Condition] = []
    exclusion_rules: list[ExclusionRule] = []
    multi_value_dimension_conf: list[MultiValueDimension] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a condition that cannot be evaluated."""
        where = f"SortConfs.{self.name}"
        check(self.conditions, f"{where}.Conditions")
        exclusions = []
        for place, exclusion in enumerate(self.exclusion_rules):
            check(exclusion.conditions, f"{where}.ExclusionRules[{place}].Conditions")
            if exclusion.conditions:
                exclusions.append((exclusion.conditions, _positions(exclusion.positions)))
        if not self.diversity_rules:
            return lambda query, arena: None
        delimiters: dict[str, str] = {}
        for several in self.multi_value_dimension_conf:
            delimiters.setdefault(several.dimension_name, several.delimiter)
        # With one dimension of several values all rules compare dimension by dimension, else their texts joined.
        apart = bool(self.multi_value_dimension_conf)
        dimensions = [Dimensions(rule.dimensions, delimiters, apart, at.snapshot) for rule in self.diversity_rules]
        tables = [] if exclusions else [table for one in dimensions if (table := one.table) is not None]
        short = len(tables) == len(dimensions)
        kernel = DiversityRules(
            [(rule.interval_size, rule.window_size, rule.frequency_size, rule.weight) for rule in self.diversity_rules],
            {source for source, name in enumerate(at.sources) if name in self.exclude_recalls},
            max(0, self.explore_item_size),
            tables if short else None,
        )
        fixed, conditions = self.diversity_size, self.conditions
        names = {name for rule in self.diversity_rules for name in rule.dimensions}

        def sort(query: Query, arena: Arena) -> None:
            if conditions and not matches(conditions, query.user_features, {}):
                return
            if short and (not query.given or names.isdisjoint(query.given)):
                kernel.apply(arena, fixed if fixed > 0 else query.size)
            elif arena.order_count > 1:
                values = [one.of(query, arena) for one in dimensions]
                excluded = [(holds(those, query, arena), positions) for those, positions in exclusions]
                kernel.apply(arena, fixed if fixed > 0 else query.size, values, excluded)

        return sort


class Dimensions:
    """What one rule compares of the candidates: numbers of texts, and of dimensions with several values their lists.

    Where all are columns of the items it is numbered at bind; a request that gives one of its own is numbered anew.
    """

    def __init__(self, names: list[str], delimiters: dict[str, str], apart: bool, snapshot: Snapshot) -> None:
        self._names = names
        self._single = [name for name in names if name not in delimiters]
        self._several = [(name, delimiters[name]) for name in names if name in delimiters]
        self._apart = apart
        columns = snapshot.items.columns
        self._kept: list[Kept] | None = None
        if all(name in columns for name in names):
            groups = [[name] for name in self._single] if apart else [self._single] if self._single else []
            self._kept = [Kept([columns[name] for name in group], snapshot) for group in groups]
            self._lists = [
                Lists(Kept([columns[name]], snapshot, named=True), delimiter) for name, delimiter in self._several
            ]

    @property
    def table(self) -> Codes | None:
        """The numbers of all rows of the item table, and of those to come, where they alone are compared."""
        if self._kept is None or self._several or len(self._kept) != 1:
            return None
        return self._kept[0].values

    def of(self, query: Query, arena: Arena) -> tuple[Codes | None, list[tuple[Codes, ValueLists]]]:
        if self._kept is None or any(name in query.given for name in self._names):
            return self._numbered(query, arena)
        rows = arena.row[: arena.count]
        singles = [kept.values[rows] for kept in self._kept]
        return _one(singles), [lists.of(rows) for lists in self._lists]

    def _numbered(self, query: Query, arena: Arena) -> tuple[Codes | None, list[tuple[Codes, ValueLists]]]:
        properties, count = query.properties(arena), arena.count
        columns = [coded(properties.get(name), count) for name in self._single]
        columns = [joined(columns)] if columns and not self._apart else columns
        singles = [codes for codes, _ in columns]
        several = []
        for name, delimiter in self._several:
            codes, texts = coded(properties.get(name), count)
            several.append((codes, lists_of(texts, delimiter)))
        return _one(singles), several


class Lists:
    """The values of a column of the items, as lists by its numbers."""

    def __init__(self, kept: Kept, delimiter: str) -> None:
        self._kept, self._delimiter = kept, delimiter
        self._lists = lists_of(list(kept.known), delimiter)

    def of(self, rows: Codes) -> tuple[Codes, ValueLists]:
        codes = self._kept.values[rows]
        if self._lists.count < len(self._kept.known):  # items were added, with texts that nobody had
            self._lists = lists_of(list(self._kept.known), self._delimiter)
        return codes, self._lists


def lists_of(texts: list[str], delimiter: str) -> ValueLists:
    """Each text split, its parts as numbers: equal parts have equal numbers."""
    known: dict[str, int] = {}
    parts = [sorted({known.setdefault(part, len(known)) for part in text.split(delimiter)}) for text in texts]
    offset = np.cumsum([0, *map(len, parts)]).astype(np.int32)
    return ValueLists(offset, np.array([part for one in parts for part in one], np.int32))


def _one(singles: list[Codes]) -> Codes | None:
    """Numbers that are equal where all are."""
    if not singles:
        return None
    codes = singles[0]
    for other in singles[1:]:
        pairs = codes.astype(np.int64) << 32 | other.astype(np.uint32)
        codes = np.unique(pairs, return_inverse=True)[1].astype(np.int32)
    return codes


def _positions(positions: list[int]) -> NDArray[np.uint8]:
    known = [position - 1 for position in positions if 1 <= position <= POSITION_MAX]
    at = np.zeros(max(known, default=-1) + 1, np.uint8)
    at[known] = 1
    return at
