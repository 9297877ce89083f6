"""PAI-Rec's vector recalls, served from vectors of the snapshot."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.hnsw import HnswConf, Nearest
from pairec_fast.recall.kind import Dao, positive
from pairec_fast.snapshot import Vectors, pick


class HologresVectorConf(msgspec.Struct, frozen=True, rename="pascal"):
    """`vector_table`: vectors of the snapshot. The other keys are those of the SQL that is not needed here."""

    hologres_name: str = ""
    vector_table: str = ""
    vector_key_field: str = ""
    vector_embedding_field: str = ""
    where_clause: str = ""
    time_interval: int = 0


class _Vector(msgspec.Struct, frozen=True, rename="pascal", kw_only=True):
    """`VectorDaoConf` with `AdapterType` "local": `HologresVectorConf.VectorTable` names vectors of the snapshot."""

    name: str
    vector_dao_conf: Dao
    hologres_vector_conf: HologresVectorConf = HologresVectorConf()
    recall_count: int = 200

    def _nearest(self, at: Binding, *, item: bool = False) -> tuple[Nearest, str]:
        """Raises ConfigError: another adapter, no such vectors, or none that can be searched."""
        where, conf = f"RecallConfs.{self.name}", self.hologres_vector_conf
        if self.vector_dao_conf.adapter_type != "local":
            raise ConfigError(
                f'{where}.VectorDaoConf.AdapterType: "{self.vector_dao_conf.adapter_type}" is not available here; use '
                '"local" with HologresVectorConf.VectorTable, vectors of the snapshot, or RecallType "HnswRecall"'
            )
        if conf.where_clause:
            raise ConfigError(f'{where}.HologresVectorConf.WhereClause: is SQL; use RecallType "HnswRecall" with Where')
        table = conf.vector_table.removesuffix("{partition}").rstrip("_") or self.vector_dao_conf.table_name
        vectors: Vectors = pick(at.snapshot.vectors, table, f"{where}.HologresVectorConf.VectorTable")
        if vectors.index is None:
            raise ConfigError(f'{where}.HologresVectorConf.VectorTable: "{table}" was built without an index')
        count = positive(self.recall_count, where)
        one = Nearest(
            self.name, at.snapshot, vectors, vectors.users, count, HnswConf(table, item_vector=item), at.source
        )
        return one, vectors.index.metric


class HologresVectorRecall(_Vector, frozen=True, rename="pascal", kw_only=True):
    """The largest inner products with the user's vector. *Source*: PAI-Rec, `HologresVectorRecall`."""

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: as above, or an index of another metric."""
        one, metric = self._nearest(at)
        return _of(one, metric, ("ip", "cosine"), f"RecallConfs.{self.name}")


class HologresVectorRecallV2(_Vector, frozen=True, rename="pascal", kw_only=True):
    """The smallest squared distances from the user's vector, which are the scores: less is better.

    *Source*: PAI-Rec, `HologresVectorRecallV2`.
    """

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: as above, or an index of another metric."""
        one, metric = self._nearest(at)
        nearest = _of(one, metric, ("l2",), f"RecallConfs.{self.name}")

        def recall(query: Query, arena: Arena) -> None:
            before = arena.count
            nearest(query, arena)
            scores = arena.recall_score[before : arena.count]
            np.negative(scores, out=scores)  # the index has negated distances: more is better there

        return recall


class I2IVectorRecall(_Vector, frozen=True, rename="pascal", kw_only=True):
    """The largest inner products with the vector of the request's `item_id`. *Source*: PAI-Rec, `I2IVectorRecall`."""

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: as above."""
        one, metric = self._nearest(at, item=True)
        return _of(one, metric, ("ip", "cosine"), f"RecallConfs.{self.name}")


def _of(one: Nearest, metric: str, wanted: tuple[str, ...], where: str) -> Callable[[Query, Arena], None]:
    if metric not in wanted:
        raise ConfigError(
            f'{where}.HologresVectorConf.VectorTable: its index is of metric "{metric}"; expected {" or ".join(wanted)}'
        )
    return one
