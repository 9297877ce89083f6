"""Scores times a weight that a table has for some items."""

from __future__ import annotations

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.rerank.likeness import SortDao
from pairec_fast.rerank.live import Weights
from pairec_fast.rerank.values import as_numbers
from pairec_fast.snapshot import pick


class BoostScoreByWeightDao(SortDao, frozen=True, rename="pascal"):
    """`adapter_type` "local": the column `weight_field_name` of the snapshot's items; "hologres": of a table."""

    item_field_name: str = ""
    weight_field_name: str = ""


class BoostScoreByWeight(msgspec.Struct, frozen=True, rename="pascal"):
    """Moves nobody; an item without a weight keeps its score. *Source*: PAI-Rec, `BoostScoreByWeight` (PAIREC 7)."""

    name: str
    boost_score_by_weight_dao: BoostScoreByWeightDao = BoostScoreByWeightDao()
    time_interval: int = 0

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: another adapter, no such store or table, or a column that is none of numbers."""
        dao, where = self.boost_score_by_weight_dao, f"SortConfs.{self.name}.BoostScoreByWeightDao"
        if dao.adapter_type == "hologres":
            return self._live(at, where)
        if dao.adapter_type != "local" or dao.table_name not in ("", "items"):
            raise ConfigError(
                f'{where}: AdapterType "{dao.adapter_type}", TableName "{dao.table_name}"; "hologres" would be '
                'right, or "local" with the snapshot\'s items'
            )
        name = dao.weight_field_name
        column = pick(at.snapshot.items.columns, name, f"{where}.WeightFieldName")
        if column.kind != "number":
            raise ConfigError(f'{where}.WeightFieldName: "{name}" holds {column.kind}s, not numbers')

        def weigh(query: Query, arena: Arena) -> None:
            weight = as_numbers(query.properties(arena)[name], np.full(arena.count, np.nan))
            arena.score[: arena.count] *= np.where(weight == weight, weight, 1.0)

        return weigh

    def _live(self, at: Binding, where: str) -> Stage:
        dao = self.boost_score_by_weight_dao
        weights = Weights(
            at.stores, dao.hologres_name, dao.hologres_table_name, dao.item_field_name, dao.weight_field_name,
            self.time_interval, at.snapshot, where=where,
        )  # fmt: skip

        def weigh(query: Query, arena: Arena) -> None:
            weight = weights.of(query, arena.row[: arena.count])
            arena.score[: arena.count] *= np.where(weight == weight, weight, 1.0)

        return weigh
