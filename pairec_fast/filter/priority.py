"""So many of each recall, the recalls in configured order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import priority, priority_of_many
from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_int
from pairec_fast.filter.kind import AdjustCountConf, Whole, scores, seed, select_as, shares, typed, value_codes
from pairec_fast.query import Query

LEAST = 10  # PAI-Rec's DiversityMinCount where none is given


class DiversityDao(msgspec.Struct, frozen=True, rename="pascal"):
    """Which properties EnsureDiversity spreads. `adapter_type` "local": columns of the snapshot's item table."""

    adapter_type: str = ""
    table_name: str = ""
    item_key_field: str = ""
    distinct_fields: list[str] = []
    cache_time_in_minutes: int = 0


class PriorityAdjustCountFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """The best of each recall of `adjust_count_confs`: up to its `Count`, or for an `accumulator` up to the `Count` of
    all accumulators so far. Other recalls are dropped; equal scores are decided by the request id.

    `ensure_diversity`: no value of `DistinctFields` takes more than its share (csrc/priority.hpp). The experiment's
    `ensure_diversity_min_count` decides over both. *Source*: PAI-Rec, `PriorityAdjustCountFilter` (PAIREC 5.2).
    """

    name: str
    adjust_count_confs: list[AdjustCountConf] = []
    ensure_diversity: bool = False
    diversity_min_count: Whole = 0
    diversity_dao_conf: DiversityDao = DiversityDao()

    counts: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: an entry without Type, or EnsureDiversity without a table that is there."""
        where = f"FilterConfs.{self.name}"
        typed(self.adjust_count_confs, f"{where}.AdjustCountConfs")
        asked = shares(self.adjust_count_confs, at.sources)
        fields = self._fields(at, f"{where}.DiversityDaoConf")
        least = self.diversity_min_count if self.diversity_min_count > 0 else LEAST

        def adjust(query: Query, arena: Arena) -> None:
            spread, at_least = self.ensure_diversity, least
            param = query.params.get("ensure_diversity_min_count")
            if param is not None:
                at_least = min(to_int(param, 0), 2**31 - 1)
                spread = at_least != 0
            codes = _codes(query, arena, fields) if spread and fields else None
            slots = priority(
                arena.source[: arena.count], scores(arena), asked, seed=seed(query, self.name), codes=codes,
                least=max(at_least, 0),
            )  # fmt: skip
            select(arena, slots)

        return adjust

    def _fields(self, at: Binding, where: str) -> list[str]:
        dao = self.diversity_dao_conf
        if not dao.adapter_type:
            if self.ensure_diversity:
                raise ConfigError(f"{where}: missing, and EnsureDiversity is true: it names the fields to spread")
            return []
        if dao.adapter_type != "local":
            raise ConfigError(
                f'{where}.AdapterType: "{dao.adapter_type}" is not available in this version; use "local", '
                "columns of the snapshot's items"
            )
        for place, name in enumerate(dao.distinct_fields):
            if name not in at.snapshot.items.columns:
                known = ", ".join(sorted(at.snapshot.items.columns)) or "none"
                raise ConfigError(
                    f'{where}.DistinctFields[{place}]: the item table has no column "{name}"; it has {known}'
                )
        return dao.distinct_fields


def _codes(query: Query, arena: Arena, fields: Sequence[str]) -> NDArray[np.int32]:
    properties = query.properties(arena)
    return np.stack([value_codes(properties.get(name), arena.count) for name in fields])


class PriorityAdjustCountFilterV2(msgspec.Struct, frozen=True, rename="pascal"):
    """As the first version without diversity, but what several recalls brought may serve any of them, once, with its
    score there. *Source*: PAI-Rec, `PriorityAdjustCountFilterV2`."""

    name: str
    adjust_count_confs: list[AdjustCountConf] = []

    counts: ClassVar[bool] = True
    reads_recall_scores: ClassVar[bool] = True

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: an entry without Type."""
        typed(self.adjust_count_confs, f"FilterConfs.{self.name}.AdjustCountConfs")
        asked = shares(self.adjust_count_confs, at.sources)

        def adjust(query: Query, arena: Arena) -> None:
            count = arena.count
            slots, source, score = priority_of_many(
                arena.source[:count], scores(arena), asked, seed=seed(query, self.name),
                place=arena.place[:count], merged=query.merged,
            )  # fmt: skip
            select_as(arena, slots, source, score)

        return adjust
