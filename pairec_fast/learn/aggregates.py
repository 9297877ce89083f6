"""The aggregates a world declares: as of any row's time for training, as of the snapshot's for serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import aggregate
from pairec_fast.errors import ConfigError
from pairec_fast.learn.derive import DAY
from pairec_fast.learn.sources import Sources
from pairec_fast.learn.spec import AggregateSpec
from pairec_fast.manifest import AggregateInfo
from pairec_fast.snapshot import Table

LIFT_FLOOR = 1e-3  # events an item nobody chose is taken to have, so that its share is no zero to divide by


class Aggregate:
    """One aggregate over the events of a world."""

    def __init__(self, spec: AggregateSpec, sources: Sources) -> None:
        self.spec, self._sources = spec, sources
        sides = dict((part.partition(".")[0], part.partition(".")[2]) for part in spec.by)
        self.info = AggregateInfo(sides.get("user"), sides.get("item"))
        self._user_groups, self._users = self._side(sources.users, self.info.user)
        self._item_groups, self._items = self._side(sources.items, self.info.item)
        self._item_groups += self._items is not None  # the last: of items and texts that came later, without an event
        events = sources.events
        self._value = np.ones(len(events))
        if spec.of:
            events.frame.require([spec.of])
            self._value = events.frame.numbers(spec.of).astype(np.float64)
        self._key = self._keys(events.user, events.item)
        used = self._key >= 0
        if spec.positives:
            used &= events.positive
        if spec.of:
            used &= ~np.isnan(self._value)
        self._past = self._key[used], events.time[used], self._value[used]

    def at(self, user: NDArray[np.int32], item: NDArray[np.int32], time: NDArray[np.float64]) -> NDArray[np.float32]:
        """The value for each (user row, item row) strictly before its time: float32 [n]. A missing group gives NaN."""
        key = self._keys(user, item)
        return np.where(key >= 0, self._answer(np.maximum(key, 0), time), np.float32("nan"))

    def table(self, time: float) -> NDArray[np.float32]:
        """The value of every group strictly before `time`: float32 [groups], or [user groups, item groups].

        The last group of items has none: what new items start with.
        """
        groups = self._user_groups * self._item_groups
        values = self._answer(np.arange(groups), np.full(groups, time))
        both = self.info.user is not None and self.info.item is not None
        return values.reshape(self._user_groups, self._item_groups) if both else values

    def _answer(self, key: NDArray[Any], time: NDArray[np.float64]) -> NDArray[np.float32]:
        function = self.spec.function
        with np.errstate(invalid="ignore", divide="ignore"):
            if function == "lift":
                return self._lift(key, time).astype(np.float32)
            if function == "age":
                return self._age(key, time).astype(np.float32)
            number, total, last = self._counted(lambda key: key, key, time)
            answers: dict[str, Callable[[], NDArray[np.float64]]] = {
                "count": lambda: number,
                "sum": lambda: total,
                "mean": lambda: np.where(number > 0, total / number, np.nan),
                "recency": lambda: (time - last) / DAY,
                "share": lambda: number / self._counted(np.zeros_like, key, time)[0],
            }
            return answers[function]().astype(np.float32)

    def _counted(
        self, coarser: Callable[[NDArray[np.int64]], NDArray[np.int64]], key: NDArray[Any], time: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(number, sum, last) of the events whose key is the question's, once `coarser` has mapped both."""
        keys, times, values = self._past
        window, half_life = self.spec.window_days * DAY, self.spec.half_life_days * DAY
        return aggregate(coarser(keys), times, values, coarser(key), time, window=window, half_life=half_life)

    def _lift(self, key: NDArray[Any], time: NDArray[np.float64]) -> NDArray[np.float64]:
        prior, width = self.spec.prior, self._item_groups
        pair, user, item, everything = (
            self._counted(coarser, key, time)[0]
            for coarser in (lambda key: key, lambda key: key // width, lambda key: key % width, np.zeros_like)
        )
        usual = (item + LIFT_FLOOR) / everything
        return np.where(everything > 0, (pair + prior * usual) / (user + prior) / usual, np.nan)

    def _age(self, key: NDArray[Any], time: NDArray[np.float64]) -> NDArray[np.float64]:
        first = np.full(self._user_groups * self._item_groups, np.inf)
        np.minimum.at(first, self._past[0], self._past[1])
        return np.where(first[key] < time, (time - first[key]) / DAY, np.nan)

    def _keys(self, user: NDArray[np.int32], item: NDArray[np.int32]) -> NDArray[np.int64]:
        """The group of each pair, -1 where a side has none."""
        left = self._users[user] if self._users is not None else np.zeros(len(user), np.int64)
        right = self._items[item] if self._items is not None else np.zeros(len(item), np.int64)
        return np.where((left < 0) | (right < 0), -1, left * self._item_groups + right)

    def _side(self, table: Table, group: str | None) -> tuple[int, NDArray[np.int64] | None]:
        """(how many groups, group of each row); a side that is not grouped by has one group and no codes."""
        if group is None:
            return 1, None
        if group == "":
            return len(table), np.arange(len(table), dtype=np.int64)
        column = table.columns.get(group)
        if column is None or column.texts is None:
            raise ConfigError(
                f'aggregates.{self.spec.name}.by: the {table.name} table has no text column "{group}"; it has '
                f"{', '.join(name for name, one in table.columns.items() if one.kind == 'text') or 'none'}"
            )
        return len(column.texts), column.values.astype(np.int64)
