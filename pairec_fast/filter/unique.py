"""Each item once."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage


class UniqueFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Does nothing: the arena takes each item once, from the recall named first. *Source*: PAI-Rec, `UniqueFilter`."""

    name: str = "UniqueFilter"

    def bind(self, at: Binding) -> Stage:
        return lambda query, arena: None
