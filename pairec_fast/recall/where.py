"""Which items a search may find: those whose columns say what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Filter, Lists
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.snapshot import Column, Snapshot, Vectors, listed, pick

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
    """The filter for a query: one, or of each value of the condition that names a user one.

    A single condition on a column whose lists the snapshot stores takes them from there.

    Raises:
        ConfigError: a column that is not there or holds vectors, a text no item has, two conditions that name a user.
    """
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
        else:
            fixed.append((column, _coded(column, one.value, f"{at}.Value")))
    if len(asked) > 1:
        raise ConfigError(f"{where}: {len(asked)} conditions name a user; one may")
    stored = vectors.lists.get(conditions[0].column) if len(conditions) == 1 else None
    if asked:
        return _by_value(vectors, stored, fixed, *asked[0])
    return _by_none(vectors, stored, fixed)


def _allowed(vectors: Vectors, fixed: list[tuple[Column, Any]]) -> NDArray[np.bool_]:
    """Which of the rows that the index was built with meet the fixed conditions."""
    assert vectors.index is not None
    items = vectors.rows[: vectors.index.count]
    allowed = np.ones(len(items), np.bool_)
    for column, value in fixed:
        allowed &= column.values[items] == value
    return allowed


def _by_none(vectors: Vectors, stored: Lists | None, fixed: list[tuple[Column, Any]]) -> Choose:
    """One filter for all queries."""
    assert vectors.index is not None
    # As the rows would be compared: a number may equal the rounding of two that are stored.
    places = np.flatnonzero(stored.values == fixed[0][1]).tolist() if stored is not None else []
    if stored is not None and len(places) == 1:
        only = stored.filter(places[0])
    else:
        only = vectors.index.filter(_allowed(vectors, fixed))

    def follow(row: int, item: int) -> None:
        if all(column.values[item] == value for column, value in fixed):
            only.add(row)

    vectors.followers.append(follow)
    return lambda query: only


def _by_value(
    vectors: Vectors, stored: Lists | None, fixed: list[tuple[Column, Any]], column: Column, user: str
) -> Choose:
    """A filter for each value that an item has.

    Those of common values, which take time to make, and of values that items added later have, are kept; others are
    made when a query asks, and forgotten: there may be as many values as items.
    """
    index = vectors.index
    assert index is not None
    lists = stored
    if lists is None:
        lists = listed(index, vectors.rows[: index.count], column, _allowed(vectors, fixed))
    kept = {lists.values.item(at): lists.filter(at) for at in lists.common().tolist()}
    codes = column.texts.codes if column.texts is not None else None

    def filter_of(value: int | float) -> Filter | None:
        """Of a number, or the code of a text."""
        one = kept.get(value)
        if one is None and (at := lists.find(value)) >= 0:
            one = lists.filter(at)
        return one

    def follow(row: int, item: int) -> None:
        value = column.values[item].item()
        known = value >= 0 if codes is not None else value == value
        if known and all(other.values[item] == wanted for other, wanted in fixed):
            one = filter_of(value)
            if one is None:
                one = index.filter(np.empty(0, np.int32))
            one.add(row)
            kept[value] = one

    vectors.followers.append(follow)

    def choose(query: Query) -> Filter | None:
        value = query.user_value(user)
        if codes is not None:
            return filter_of(codes.find(value)) if isinstance(value, str) else None
        return filter_of(value) if isinstance(value, int | float) else None

    return choose


def _coded(column: Column, value: Any, where: str) -> Any:
    """The value as the column holds it."""
    if column.texts is None:
        if not isinstance(value, int | float):
            raise ConfigError(f"{where}: {value!r}; the column holds numbers")
        return value
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {value!r}; the column holds texts")
    code = column.texts.codes.find(value)
    if code < 0:
        raise ConfigError(f"{where}: no item has {value!r} there")
    return code
