"""So many of each recall, the recalls in configured order."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.cache import Cache
from pairec_fast.core import Arena, select
from pairec_fast.core.pick import priority, priority_of_many
from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.expression.convert import to_int
from pairec_fast.filter.kind import (
    AdjustCountConf,
    Count,
    Whole,
    scores,
    seed,
    select_as,
    shares,
    typed,
    value_codes,
)
from pairec_fast.filter.rows import SECONDS, SqlRows
from pairec_fast.query import Query
from pairec_fast.snapshot import pick
from pairec_fast.sql import sql_name

LEAST = 10  # PAI-Rec's DiversityMinCount where none is given
CACHE_MINUTES, CACHE_SIZE = 70, 1_000_000  # PAI-Rec's minutes; it remembers ten million items


class DiversityDao(msgspec.Struct, frozen=True, rename="pascal"):
    """Which properties EnsureDiversity spreads. `adapter_type` "local": columns of the snapshot's item table;
    "hologres": columns of a table of PostgreSQL by its column `item_key_field`, remembered for a while."""

    adapter_type: str = ""
    table_name: str = ""
    hologres_name: str = ""
    hologres_table_name: str = ""
    item_key_field: str = ""
    distinct_fields: list[str] = []
    cache_time_in_minutes: Count = 0


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
        dao = self.diversity_dao_conf
        if self.ensure_diversity and not dao.adapter_type:
            raise ConfigError(f"{where}.DiversityDaoConf: missing, and EnsureDiversity is true: it names the fields")
        return Adjust(self, at, f"{where}.DiversityDaoConf")


class Adjust:
    """The first version, bound. Where fields lie in a live table, it loads them before the stage."""

    def __init__(self, conf: PriorityAdjustCountFilter, at: Binding, where: str) -> None:
        dao, self.name, self.timeout = conf.diversity_dao_conf, conf.name, SECONDS + 0.1
        self._asked = shares(conf.adjust_count_confs, at.sources)
        self._spreads, self._fields = conf.ensure_diversity, dao.distinct_fields if dao.adapter_type else []
        self._least = conf.diversity_min_count if conf.diversity_min_count > 0 else LEAST
        if dao.adapter_type not in ("", "local", "hologres"):
            raise ConfigError(
                f'{where}.AdapterType: "{dao.adapter_type}" is not available in this version; use "hologres", or '
                '"local" for columns of the snapshot\'s items'
            )
        if dao.adapter_type == "local":
            for place, name in enumerate(self._fields):
                pick(at.snapshot.items.columns, name, f"{where}.DistinctFields[{place}]")
        elif dao.adapter_type == "hologres" and self._fields:
            names = [sql_name(name, f"{where}.DistinctFields[{at}]") for at, name in enumerate(self._fields)]
            cache = Cache[Any](60.0 * (dao.cache_time_in_minutes or CACHE_MINUTES), CACHE_SIZE)
            self._rows = SqlRows(
                at.stores, dao.hologres_name, dao.hologres_table_name, dao.item_key_field, ", ".join(names), "",
                where=where, cache=cache,
            )  # fmt: skip
            self.load = self._load

    def __call__(self, query: Query, arena: Arena) -> None:
        spreads, least = self._asked_of(query)
        codes = None
        if spreads and self._fields:
            properties = query.properties(arena)
            codes = np.stack([value_codes(properties.get(name), arena.count) for name in self._fields])
        slots = priority(
            arena.source[: arena.count], scores(arena), self._asked, seed=seed(query, self.name), codes=codes,
            least=max(least, 0),
        )  # fmt: skip
        select(arena, slots)

    async def _load(self, query: Query, arena: Arena) -> None:
        """Raises StoreError: some candidates are without their fields, which then count as missing."""
        if not self._asked_of(query)[0]:
            return
        ids, places = query.ids(arena.row[: arena.count]), arena.place[: arena.count].copy()
        columns, unanswered = await self._rows.of(ids)
        for name in self._fields:
            if name in columns:
                query.given.put(name, places, columns[name])
        missing = np.count_nonzero(unanswered)
        if missing:
            raise StoreError(f"{missing} of {len(ids)} candidates without their fields")

    def _asked_of(self, query: Query) -> tuple[bool, int]:
        """Whether values are to be spread, and the least quota of one: the experiment's word, then ours."""
        param = query.params.get("ensure_diversity_min_count")
        if param is None:
            return self._spreads, self._least
        least = min(to_int(param, 0), 2**31 - 1)
        return least != 0, least


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
