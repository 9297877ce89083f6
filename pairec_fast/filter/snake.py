"""The recalls in turn, each so many a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.core.pick import item_numbers, snake
from pairec_fast.errors import ConfigError
from pairec_fast.filter.kind import AdjustCountConf, Count, scores, select_as, shares
from pairec_fast.query import Query


class SnakeFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Rounds over `adjust_count_confs`: each recall gives its next best `Weight` candidates, until there are
    `retain_num`. What several recalls brought counts for the one that gets to it first.

    `snake_type` "SKIP_ON_DUPLICATE": a candidate that was taken before uses up one of the weight. Puts the property
    `snake_filter`: `recall:rank:score` of each recall that came by. *Source*: PAI-Rec, `SnakeFilter` (PAIREC 5.3).
    """

    name: str
    adjust_count_confs: list[AdjustCountConf] = []
    retain_num: Count = 0
    snake_type: Literal["", "REFILL_ON_DUPLICATE", "SKIP_ON_DUPLICATE"] = ""

    merges: ClassVar[bool] = True
    reads_recall_scores: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no recall."""
        if not self.adjust_count_confs:
            raise ConfigError(f"FilterConfs.{self.name}.AdjustCountConfs: empty; nothing would stay")
        turns = shares(self.adjust_count_confs, at.sources)
        skips = self.snake_type == "SKIP_ON_DUPLICATE"
        names = [*at.sources]

        def wind(query: Query, arena: Arena) -> None:
            count = arena.count
            slots, source, score, which, visitor, rank, reached = snake(
                item_numbers(arena), arena.source[:count], scores(arena), turns, self.retain_num,
                skips=skips, place=arena.place[:count], merged=query.merged,
            )  # fmt: skip
            select_as(arena, slots, source, score)
            kept = len(slots)
            if kept:
                told = Visits(kept, which, (visitor, rank, reached), names)
                query.given.put("snake_filter", arena.place[:kept], (np.arange(kept, dtype=np.int32), told))

        return wind


class Visits(Sequence[str]):
    """`recall:rank:score` of all visits to each kept candidate, with commas between. Written when it is read, which
    is for the few that are shown."""

    def __init__(
        self, kept: int, which: NDArray[np.int32], visits: Sequence[NDArray[Any]], names: Sequence[str]
    ) -> None:
        """`which` [visits] is the candidate of each, `visits` their source, rank and score."""
        by_candidate = np.argsort(which, kind="stable")
        self._begin = np.searchsorted(which[by_candidate], np.arange(kept + 1))
        self._source, self._rank, self._score = (column[by_candidate] for column in visits)
        self._names = names

    def __len__(self) -> int:
        return len(self._begin) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(len(self))[at]]
        if not 0 <= at < len(self):
            raise IndexError(f"candidate {at} of {len(self)}")
        visits = slice(self._begin[at], self._begin[at + 1])
        return ",".join(
            f"{self._names[source]}:{rank}:{score:.6f}"
            for source, rank, score in zip(
                self._source[visits].tolist(), self._rank[visits].tolist(), self._score[visits].tolist(), strict=True
            )
        )
