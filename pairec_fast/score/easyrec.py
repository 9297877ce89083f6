"""Scores of a model server that speaks EasyRec: asked about candidates in batches, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.config import RankConfig
from pairec_fast.core import Arena
from pairec_fast.core.columns import MISSING
from pairec_fast.properties import Properties
from pairec_fast.query import Query
from pairec_fast.remote import Scored, Server, easyrec
from pairec_fast.remote.features import Column, default_of, of_items

ALL, NONE = "*", "none"
GRACE_SECONDS = 0.05  # over what all tries may take: the server's own timeouts are to end it


class EasyRec:
    """An algorithm of a scene: `load` asks, `columns` says what came back.

    What is sent of an item are the properties that `ContextFeatures` and `ItemFeatures` name; `*` is all that any
    candidate has, `none` none. *Source*: PAIREC 6.1, 6.4.
    """

    outputs: Sequence[str] = ()  # the server names them

    def __init__(self, server: Server, conf: RankConfig) -> None:
        self.name, self._server = server.name, server
        self._context, self._items = conf.context_features, conf.item_features
        self._batch = conf.batch_count or 100
        self.timeout = server.seconds_max + GRACE_SECONDS

    async def load(self, query: Query, arena: Arena) -> None:
        """Ask about all candidates. What came back stands even if some batches failed.

        Raises:
            RemoteError: of the first batch that failed.
        """
        count = arena.count
        user = user_part(query)
        columns = Columns(query.properties(arena), self._context, self._items)
        ids = query.ids(arena.row[:count])
        batches = [slice(begin, min(begin + self._batch, count)) for begin in range(0, count, self._batch)]
        asked = [
            self._server.ask(easyrec.request(user, ids[batch], *columns.written(batch)), ids[batch])
            for batch in batches
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        query.fetched[self] = [
            (batch, answer) for batch, answer in zip(batches, answers, strict=True) if isinstance(answer, Scored)
        ]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def columns(self, query: Query, arena: Arena) -> dict[str, NDArray[np.float64]]:
        """Output -> its values, [arena.count]: 0 where no answer came. Lists of classes become item properties."""
        scores: dict[str, NDArray[np.float64]] = {}
        lists: dict[str, list[tuple[slice, NDArray[np.float64]]]] = {}
        answers: Iterable[tuple[slice, Scored]] = query.fetched.pop(self, ())
        for batch, answer in answers:
            for suffix, values in answer.scores.items():
                scores.setdefault(f"{self.name}{suffix}", np.zeros(arena.count))[batch] = values
            for suffix, table in answer.lists.items():
                lists.setdefault(f"{self.name}{suffix}", []).append((batch, table))
        for name, tables in lists.items():
            places = np.concatenate([arena.place[batch] for batch, _ in tables])
            rows = [row for _, table in tables for row in table.tolist()]
            query.given.put(name, places, (np.arange(len(rows), dtype=np.int32), rows))
        return scores


class Columns:
    """The item features of a request's candidates, to be written batch by batch."""

    def __init__(self, properties: Mapping[str, Any], context: Sequence[str], items: Sequence[str]) -> None:
        context = () if list(context) == [NONE] else context
        items = () if list(items) == [NONE] else items
        self._properties = properties
        self._context = self._chosen(context, ())
        self._items = self._chosen(items, self._context)

    def _chosen(self, names: Sequence[str], others: Iterable[str]) -> dict[str, tuple[Column | None, bytes | None]]:
        """Name -> column, None for one that no candidate has; and what a missing value is, None for the empty text."""
        if list(names) != [ALL]:
            return {name: (self._properties.get(name), None) for name in names}
        found: dict[str, tuple[Column | None, bytes | None]] = {}
        known = self._properties
        for name in known.simple() if isinstance(known, Properties) else known:
            column = None if name in others else known.get(name)
            if column is not None and _any(column):
                found[name] = column, default_of(column)
        return found

    def written(self, batch: slice) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Context and item features of the candidates in `batch`."""
        return tuple(  # type: ignore[return-value]
            {name: _written(column, missing, batch) for name, (column, missing) in chosen.items()}
            for chosen in (self._context, self._items)
        )


def _any(column: Column) -> bool:
    if isinstance(column, tuple):
        return bool((column[0] >= 0).any())
    return column.dtype.kind != "f" or not bool(np.isnan(column).all())


def _written(column: Column | None, missing: bytes | None, batch: slice) -> bytes:
    count = batch.stop - batch.start
    if column is None:
        column = np.full(count, np.nan)
    elif isinstance(column, tuple):
        column = column[0][batch], column[1]
    else:
        column = column[batch]
    return of_items(column, count) if missing is None else of_items(column, count, missing)


def user_part(query: Query) -> bytes:
    """Who asks, as a part of a request: PAI-Rec's plain user features."""
    return easyrec.user_part(*typed(query.user_features, query.context, query.kinds))


def typed(
    features: Mapping[str, Any], given: Mapping[str, Any], kinds: Mapping[str, str]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The features of a request, `given`, as the types that Go's JSON gives them, and those that were loaded as they
    are.

    A number without a type is a double; a list or an object without one has no kind and is left out.
    """
    values: dict[str, Any] = {}
    for name, value in features.items():
        plain = name not in kinds and given.get(name, MISSING) is value
        if plain and isinstance(value, list | dict):
            continue
        values[name] = float(value) if plain and type(value) is int else value
    return values, kinds


def written(properties: Mapping[str, Any], conf: RankConfig, count: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Context and item features of `count` items whose `properties` are columns."""
    return Columns(properties, conf.context_features, conf.item_features).written(slice(0, count))
