"""Training rows: what the line would have fed the model, from what was known before each row's time.

The features are those of `FeaturePlan`, source by source, and the values come from the same functions and kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Cross, Neighbours
from pairec_fast.errors import ConfigError
from pairec_fast.features import MISSING, model_values, split, table_and_newest
from pairec_fast.learn.aggregates import Aggregate
from pairec_fast.learn.derive import Known
from pairec_fast.learn.frame import TextColumn
from pairec_fast.learn.sources import Sources
from pairec_fast.learn.spec import FeatureSpec, World
from pairec_fast.manifest import Feature
from pairec_fast.snapshot import Column


class Rows:
    """Pairs to make features for.

    user, item: int32 table rows. time: float64. group: int64, equal within a request and contiguous; a request has one
    user and one time. context: name -> values [n] as they would come with the request, float64 or TextColumn.
    """

    def __init__(
        self, user: NDArray[np.int32], item: NDArray[np.int32], time: NDArray[np.float64], group: NDArray[np.int64],
        context: dict[str, Any],
    ) -> None:  # fmt: skip
        self.user, self.item, self.time, self.group, self.context = user, item, time, group, context

    def __len__(self) -> int:
        return len(self.user)


class Dataset:
    """Makes matrices for one model's features over one world."""

    def __init__(self, world: World, folder: Path, sources: Sources, specs: Sequence[FeatureSpec]) -> None:
        self._world, self._folder, self._sources = world, folder, sources
        self._aggregates: dict[str, Aggregate] = {}
        self.features = [self._described(spec) for spec in specs]

    def matrix(self, rows: Rows, known: Known) -> NDArray[np.float32]:
        """[rows, features] float32: aggregates and histories as of each row's time, trained tables from `known`."""
        out = np.empty((len(rows), len(self.features)), np.float32)
        for place, feature in enumerate(self.features):
            out[:, place] = self._values(feature, rows, known)
        return out

    def _values(self, feature: Feature, rows: Rows, known: Known) -> NDArray[np.float32]:
        kind, name = split(feature.source)
        codes = None if feature.categories is None else {text: code for code, text in enumerate(feature.categories)}
        if kind == "item":
            return model_values(self._sources.items.columns[name], codes)[rows.item]
        if kind == "user":
            return model_values(self._sources.users.columns[name], codes)[rows.user]
        if kind == "context":
            values = rows.context.get(name)
            if values is None:
                return np.full(len(rows), MISSING)
            if isinstance(values, TextColumn):
                known_codes = codes or {}
                remap = [known_codes.get(text, MISSING) for text in values.vocabulary]
                return np.array([*remap, MISSING], np.float32)[values.codes]
            return np.asarray(values).astype(np.float32)
        if kind == "aggregate":
            return self._aggregate(name).at(rows.user, rows.item, rows.time)
        if kind == "dot":
            return Cross.dot(*known.vectors_of(name)).pairs(rows.user, rows.item)
        name, newest = table_and_newest(name)
        return self._similarity(known.neighbours_of(name), newest, rows)

    def _similarity(self, table: tuple[Any, Any, Any], newest: int, rows: Rows) -> NDArray[np.float32]:
        """Histories as of each request's time: what the user chose strictly before."""
        sources = self._sources
        whole = Known(self._world, self._folder, sources, np.inf)
        groups, first = np.unique(rows.group, return_index=True)
        first = np.sort(first)
        number = np.cumsum(np.r_[False, rows.group[1:] != rows.group[:-1]]).astype(np.int32)
        parts, offset = [], np.zeros(len(first) + 1, np.int64)
        by_user = np.argsort(whole.user, kind="stable")
        begin = np.searchsorted(whole.user[by_user], np.arange(len(sources.users) + 1))
        for at, row in enumerate(first):
            mine = by_user[begin[rows.user[row]] : begin[rows.user[row] + 1]]
            past = whole.item[mine[: np.searchsorted(whole.when[mine], rows.time[row])]]
            newest_first = np.array(list(dict.fromkeys(past[::-1].tolist())), np.int32)
            parts.append(newest_first[::-1])
            offset[at + 1] = offset[at] + len(newest_first)
        history = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        if len(history) == 0:
            return np.full(len(rows), MISSING)
        arena = Arena(1, items_max=len(sources.items))
        assert len(groups) == len(first), "rows of one group lie together"
        return Cross.similarity(Neighbours(*table), newest).histories(arena, offset, history, number, rows.item)

    def _aggregate(self, name: str) -> Aggregate:
        if name not in self._aggregates:
            spec = next((one for one in self._world.aggregates if one.name == name), None)
            if spec is None:
                raise ConfigError(f'source "aggregate:{name}": no aggregate of that name')
            self._aggregates[name] = Aggregate(spec, self._sources)
        return self._aggregates[name]

    def _described(self, spec: FeatureSpec) -> Feature:
        """The feature with its kind written out and, for text, its categories.

        Raises:
            ConfigError: the source names nothing.
        """
        sources = self._sources
        kind, name = split(spec.source)
        tables = {"item": sources.items.columns, "user": sources.users.columns}
        if not kind:
            kind = next((side for side, columns in tables.items() if name in columns), "context")
        column: Any = None
        if kind in tables:
            column = tables[kind].get(name)
            if column is None:
                raise ConfigError(
                    f'features.{spec.name}: source "{spec.source}": the {kind} table has no column "{name}"; it has '
                    f"{', '.join(tables[kind]) or 'none'}"
                )
            if column.kind == "vector":
                raise ConfigError(
                    f'features.{spec.name}: source "{spec.source}" is a vector; a number or text is needed'
                )
        elif kind == "context" and name in sources.events.frame:
            column = sources.events.frame.column(name)
        elif kind in ("dot", "similarity"):
            known: list[Any] = {"dot": self._world.vectors, "similarity": self._world.neighbours}[kind]  # type: ignore[assignment]
            if (table_and_newest(name)[0] if kind == "similarity" else name) not in [one.name for one in known]:
                raise ConfigError(f'features.{spec.name}: source "{spec.source}" names nothing in this world')
        elif kind == "aggregate":
            self._aggregate(name)
        return Feature(spec.name, f"{kind}:{name}", _categories(column))


def _categories(column: Any) -> list[str] | None:
    if isinstance(column, TextColumn):
        return sorted(set(column.vocabulary))
    if isinstance(column, Column) and column.texts is not None:
        return sorted(column.texts[code] for code in range(len(column.texts)))
    return None
