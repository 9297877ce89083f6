"""Each item once."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pairec_fast.core import Arena
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot


class UniqueFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Does nothing: the arena takes each item once, from the recall named first. *Source*: PAI-Rec, `UniqueFilter`."""

    name: str = "UniqueFilter"

    def bind(self, snapshot: Snapshot) -> Callable[[Query, Arena], None]:
        return lambda query, arena: None
