"""A recall that asks a live store: `fetch` before the walk, candidates in it."""

from __future__ import annotations

from typing import Any, NamedTuple

from pairec_fast.binding import Binding
from pairec_fast.core import Arena
from pairec_fast.query import Query
from pairec_fast.recall.found import Found, bring
from pairec_fast.recall.kept import Kept
from pairec_fast.recall.kind import Live


class _Again(NamedTuple):
    """The text of a list that was found before."""

    text: str


class Fetched:
    """A stage; kinds say what they gather and what is found in it.

    `colons`: of the texts its cache holds. `timeout` in seconds, for all of a fetch.
    """

    colons = "::"
    reads_user = False

    def __init__(self, at: Binding, conf: Live, timeout: float) -> None:
        self.name, self.timeout = conf.name, timeout
        self._source, self._ids, self._count = at.source, at.snapshot.items.ids, conf.checked()
        self._kept = Kept(at, conf, self.colons) if conf.cache_adapter else None

    def cache_key(self, query: Query) -> str:
        return query.uid

    async def gather(self, query: Query) -> Any:
        """What the store says; None: there is nothing to ask for, or nothing there."""
        raise NotImplementedError

    def found(self, query: Query, arena: Arena, got: Any) -> Found:
        """The candidates in what was gathered."""
        raise NotImplementedError

    def brought(self, query: Query, arena: Arena, found: Found, before: int) -> None:
        """Called when the candidates from slot `before` on are new."""

    async def fetch(self, query: Query) -> None:
        if self._kept is not None and (text := await self._kept.get(self.cache_key(query))) is not None:
            query.fetched[self] = _Again(text)
            return
        query.fetched[self] = await self.gather(query)

    def __call__(self, query: Query, arena: Arena) -> None:
        got = query.fetched.pop(self, None)
        if got is None:
            return
        if isinstance(got, _Again):
            assert self._kept is not None
            found = self._kept.found(query, got.text)
        else:
            found = self.found(query, arena, got)
            if self._kept is not None:
                self._kept.put(query, self.cache_key(query), found)
        before = arena.count
        if bring(query, arena, found, self._source):
            self.brought(query, arena, found, before)
