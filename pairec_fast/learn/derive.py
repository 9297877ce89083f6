"""What is known before a time: histories, popularity, neighbours, vectors. The same code for training and serving."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.learn.sources import Sources
from pairec_fast.learn.spec import ListSpec, NeighboursSpec, VectorsSpec, World
from pairec_fast.learn.table import read_array

DAY = 86400.0
EASE_ITEMS_MAX = 20_000  # a dense inverse of items x items

Ragged = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


class Known:
    """A world as it was known just before `time`. Parts are made when first asked for."""

    def __init__(self, world: World, folder: Path, sources: Sources, time: float) -> None:
        self.world, self.folder, self.sources, self.time = world, folder, sources, time
        events = sources.events
        past = np.flatnonzero((events.time < time) & events.positive)
        past = past[np.argsort(events.time[past], kind="stable")]
        self.user, self.item, self.when = events.user[past], events.item[past], events.time[past]
        self._vectors: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._neighbours: dict[str, Ragged] = {}

    @cached_property
    def history(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Per user the rows of chosen items, oldest first, each at its last choice: offset [users + 1], rows."""
        return histories(self.user, self.item, len(self.sources.users))

    @cached_property
    def matrix(self) -> Any:
        """Who chose what: scipy CSR [users, items] float32 of ones."""
        from scipy.sparse import csr_matrix

        offset, rows = self.history
        shape = (len(self.sources.users), len(self.sources.items))
        # A copy: sorting would put the history itself in order of row (test_derive.py, "keeps its order").
        matrix = csr_matrix((np.ones(len(rows), np.float32), rows, offset), shape=shape, copy=True)
        matrix.sort_indices()
        return matrix

    def vectors_of(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors of that name, made once."""
        if name not in self._vectors:
            self._vectors[name] = self.vectors(next(one for one in self.world.vectors if one.name == name))
        return self._vectors[name]

    def neighbours_of(self, name: str) -> Ragged:
        """The item-to-item table of that name, made once."""
        if name not in self._neighbours:
            self._neighbours[name] = self.neighbours(next(one for one in self.world.neighbours if one.name == name))
        return self._neighbours[name]

    def ranked(self, spec: ListSpec) -> Ragged:
        """offset [groups + 1], rows, scores: the most chosen items of each group, best first, ties by row."""
        weight = np.ones(len(self.item))
        if spec.half_life_days:
            weight = np.exp2((self.when - self.time) / (spec.half_life_days * DAY))
        group, groups = np.zeros(len(self.item), np.int64), 1
        if spec.by:
            columns = self.sources.users.columns
            if spec.by not in columns or columns[spec.by].texts is None:
                raise ConfigError(f"lists.{spec.name}.by: the user table has no text column {spec.by!r}")
            groups = len(columns[spec.by].texts)  # type: ignore[arg-type]
            group = columns[spec.by].values[self.user].astype(np.int64)
        # The empty ones: there are no groups where the column has no text.
        offset = [0]
        rows: list[NDArray[Any]] = [np.empty(0, np.int64)]
        scores: list[NDArray[Any]] = [np.empty(0)]
        for one in range(groups):
            mine = group == one
            count = np.bincount(self.item[mine], weight[mine], minlength=len(self.sources.items))
            best = np.lexsort((np.arange(len(count)), -count))[: spec.count]
            # A list for all is filled up with items nobody chose yet; a group's own list holds what it chose.
            best = best[count[best] > 0] if spec.by else best
            offset.append(offset[-1] + len(best))
            rows.append(best)
            scores.append(count[best])
        return np.array(offset), np.concatenate(rows).astype(np.int32), np.concatenate(scores).astype(np.float32)

    def neighbours(self, spec: NeighboursSpec) -> Ragged:
        """offset [items + 1], neighbour, weight: best first."""
        make = {"cosine": self._cosine, "ease": self._ease, "sequence": self._sequence}[spec.method]
        return make(spec)

    def vectors(self, spec: VectorsSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(users [users, dim], items [items, dim]) float32."""
        make = {"": self._files, "als": self._als, "profile": self._profile}[spec.method]
        users, items = make(spec)
        if self.sources.folded is None:
            return users, items
        chosen = np.bincount(self.item, minlength=len(items)) > 0
        return users, self.sources.folded.vectors(spec.name, items, chosen & bool(spec.method))

    def _files(self, spec: VectorsSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        users, items = read_array(self.folder / spec.users), read_array(self.folder / spec.items)
        folded = self.sources.folded
        in_file = folded.file_count if folded else len(self.sources.items)
        for array, file, count, table in (
            (users, spec.users, len(self.sources.users), "users"),
            (items, spec.items, in_file, "items"),
        ):
            if array.ndim != 2 or array.dtype != np.float32 or len(array) != count:
                raise SnapshotError(
                    f"{self.folder / file} is {array.dtype} {list(array.shape)}; float32 [{count}, dim] would be "
                    f"right, one row for each row of the {table} table"
                )
            if not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
                raise SnapshotError(f"{self.folder / file}: row {row} is not finite")
        if users.shape[1] != items.shape[1]:
            raise SnapshotError(f"vectors.{spec.name}: users have {users.shape[1]} dimensions, items {items.shape[1]}")
        if folded:
            items = np.where((folded.origin >= 0)[:, None], items[folded.origin], np.float32(0))
        return np.ascontiguousarray(users), np.ascontiguousarray(items)

    def _als(self, spec: VectorsSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about threads of a BLAS that is told so below
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits

            with threadpool_limits(1, "blas"):
                model = AlternatingLeastSquares(
                    factors=spec.factors, regularization=spec.regularization, alpha=spec.alpha,
                    iterations=spec.iterations, random_state=self.world.seed, num_threads=0,
                )  # fmt: skip
                model.fit(self.matrix, show_progress=False)
        return np.ascontiguousarray(model.user_factors, np.float32), np.ascontiguousarray(
            model.item_factors, np.float32
        )

    def _profile(self, spec: VectorsSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        columns = {name: one for name, one in self.sources.items.columns.items() if one.kind == "vector"}
        if spec.column not in columns:
            raise ConfigError(
                f'vectors.{spec.name}.column: the items table has no vector column "{spec.column}"; it has '
                f"{', '.join(columns) or 'none'}"
            )
        values = columns[spec.column].values.astype(np.float64)
        total = values.sum(axis=1, keepdims=True)
        items = np.divide(values, total, out=np.zeros_like(values), where=total != 0)
        length = np.diff(self.history[0])[:, None]
        users = (self.matrix @ items) / np.maximum(length, 1)
        usual = users.sum(axis=0) / max(1, np.count_nonzero(length))
        users = np.divide(users, usual, out=np.zeros_like(users), where=usual != 0)
        return np.ascontiguousarray(users, np.float32), np.ascontiguousarray(items, np.float32)

    def _cosine(self, spec: NeighboursSpec) -> Ragged:
        from scipy.sparse import csr_matrix, diags

        chosen = csr_matrix(self.matrix.T)
        norm = np.sqrt(np.maximum(np.diff(chosen.indptr), 1)).astype(np.float32)
        unit = csr_matrix(diags(1.0 / norm) @ chosen)
        other = csr_matrix(unit.T)
        parts = []
        for begin in range(0, unit.shape[0], 20_000):
            block = csr_matrix(unit[begin : begin + 20_000] @ other)
            rows = np.repeat(np.arange(begin, begin + block.shape[0]), np.diff(block.indptr))
            parts.append(_best(rows, block.indices, block.data, spec.count))
        return _ragged(parts, unit.shape[0])

    def _ease(self, spec: NeighboursSpec) -> Ragged:
        count = len(self.sources.items)
        if count > EASE_ITEMS_MAX:
            raise ConfigError(
                f"neighbours.{spec.name}: ease inverts a matrix of items x items; {count:,} items are too many"
            )
        gram = (self.matrix.T @ self.matrix).toarray().astype(np.float64)
        gram[np.diag_indices(count)] += spec.regularization
        inverse = np.linalg.inv(gram)
        weight = -inverse / np.diag(inverse)
        np.fill_diagonal(weight, -np.inf)  # last in its row, and cut off
        best = np.argsort(-weight, axis=1, kind="stable")[:, : min(spec.count, count - 1)]
        rows = np.repeat(np.arange(count), best.shape[1])
        return _ragged([(rows, best.ravel(), np.take_along_axis(weight, best, axis=1).ravel())], count)

    def _sequence(self, spec: NeighboursSpec) -> Ragged:
        from scipy.sparse import csr_matrix, diags

        count = len(self.sources.items)
        by_user = np.argsort(self.user, kind="stable")
        user, item = self.user[by_user], self.item[by_user]
        follows = csr_matrix((count, count))
        for lag in range(1, spec.lag + 1):
            mine = user[lag:] == user[:-lag]
            weight = np.full(int(mine.sum()), lag**-spec.decay)
            follows = follows + csr_matrix((weight, (item[:-lag][mine], item[lag:][mine])), shape=(count, count))
        if not spec.directed:
            follows = follows + follows.T
        chosen = np.bincount(item, minlength=count) + spec.shrink
        follows = csr_matrix(diags(1.0 / chosen) @ follows @ diags(chosen**-spec.popularity))
        rows = np.repeat(np.arange(count), np.diff(follows.indptr))
        return _ragged([_best(rows, follows.indices, follows.data, spec.count)], count)


def histories(
    user: NDArray[np.int32], item: NDArray[np.int32], users: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Chosen items of each user from events in order of time: each once, at its last choice."""
    key = user.astype(np.int64) << 32 | item
    _, first_from_end = np.unique(key[::-1], return_index=True)
    last = np.sort(len(key) - 1 - first_from_end)
    last = last[np.argsort(user[last], kind="stable")]
    offset = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(user[last], minlength=users), out=offset[1:])
    return offset, item[last]


def _best(
    rows: NDArray[Any], columns: NDArray[Any], weight: NDArray[Any], count: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of each row its `count` largest weights, the diagonal left out; best first, ties by column."""
    other = rows != columns
    rows, columns, weight = rows[other], columns[other], weight[other]
    order = np.lexsort((columns, -weight, rows))
    rows, columns, weight = rows[order], columns[order], weight[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = rank < count
    return rows[kept], columns[kept], weight[kept]


def _ragged(parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], count: int) -> Ragged:
    rows, columns, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    offset = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=offset[1:])
    return offset, columns.astype(np.int32), weight.astype(np.float32)
