"""Which items a search may find: those whose columns say what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Filter
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, Snapshot, Vectors, pick

Choose = Callable[[Query], Filter | None]  # None: nothing can be found


class Where(msgspec.Struct, frozen=True, rename="pascal", forbid_unknown_fields=True):
    """Items whose `column` equals `value`; or what `user` names: a column of the user, or a feature of the request."""

    column: str
    value: str | int | float | None = None
    user: str = ""

    def check(self, where: str) -> None:
        """Raises ConfigError: neither or both of `value` and `user`."""
        if (self.value is None) == (self.user == ""):
            raise ConfigError(f"{where}: one of Value and User is needed, not {'both' if self.user else 'none'}")


def chooser(snapshot: Snapshot, vectors: Vectors, conditions: list[Where], where: str) -> Choose:
    """The filter for a query, of those prepared here: one, or one a value of the single condition that names a user.

    Raises:
        ConfigError: a column that is not there or holds vectors, a text no item has, two conditions that name a user.
    """
    index = vectors.index
    assert index is not None
    items = vectors.rows[: index.count]
    allowed = np.ones(len(items), np.bool_)
    asked: list[tuple[Column, str]] = []
    fixed: list[tuple[Column, Any]] = []
    for place, one in enumerate(conditions):
        at = f"{where}[{place}]"
        one.check(at)
        column: Column = pick(snapshot.items.columns, one.column, f"{at}.Column")
        if column.kind == "vector":
            raise ConfigError(f"{at}.Column: items.{one.column} holds vectors; a number or a text is compared")
        if one.user:
            asked.append((column, one.user))
            continue
        value = _coded(column, one.value, f"{at}.Value")
        allowed &= column.values[items] == value
        fixed.append((column, value))
    if len(asked) > 1:
        raise ConfigError(f"{where}: {len(asked)} conditions name a user; one may")
    if not asked:
        only = index.filter(allowed)

        def follow(row: int, item: int) -> None:
            if all(column.values[item] == value for column, value in fixed):
                only.add(row)

        vectors.followers.append(follow)
        return lambda query: only
    return _by_value(vectors, items, allowed, fixed, *asked[0])


def _by_value(
    vectors: Vectors, items: NDArray[np.int32], allowed: NDArray[np.bool_], fixed: list[tuple[Column, Any]],
    column: Column, user: str,
) -> Choose:  # fmt: skip
    """A filter for each value that an item has."""
    index = vectors.index
    assert index is not None
    rows = np.flatnonzero(allowed)
    values = column.values[items[rows]]
    order = np.argsort(values, kind="stable")
    found, first = np.unique(values[order], return_index=True)
    texts = column.texts

    def named(value: Any) -> Any:
        """A text, or a number; None where the item has none."""
        if texts is not None:
            return texts[int(value)] if value >= 0 else None
        return value.item() if value == value else None

    filters = {
        named(value): index.filter(rows[part].astype(np.int32))
        for value, part in zip(found, np.split(order, first[1:]), strict=True)
    }
    filters.pop(None, None)

    def follow(row: int, item: int) -> None:
        if all(other.values[item] == value for other, value in fixed):
            value = named(column.values[item])
            if value is not None and value not in filters:
                filters[value] = index.filter(np.empty(0, np.int32))
            if value is not None:
                filters[value].add(row)

    vectors.followers.append(follow)

    def choose(query: Query) -> Filter | None:
        value = query.user_value(user)
        return filters.get(value) if isinstance(value, str | int | float) else None

    return choose


def _coded(column: Column, value: Any, where: str) -> Any:
    """The value as the column holds it."""
    if column.texts is None:
        if not isinstance(value, int | float):
            raise ConfigError(f"{where}: {value!r}; the column holds numbers")
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {value!r}; the column holds texts")
    if value not in column.texts.code:
        raise ConfigError(f"{where}: no item has {value!r} there")
    return column.texts.code[value]
