"""One of each value."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import unique_codes
from pairec_fast.filter.kind import text_codes
from pairec_fast.query import Query


class DimensionFieldUniqueFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Keeps the first candidate of each text of property `dimension`, and all that have none.

    *Source*: PAI-Rec, `DimensionFieldUniqueFilter`.
    """

    name: str
    dimension: str = ""

    def bind(self, at: Binding) -> Stage:
        def keep_first(query: Query, arena: Arena) -> None:
            column = query.properties(arena).get(self.dimension)
            if column is not None:
                select(arena, unique_codes(text_codes(column, arena.count)))

        return keep_first
