"""The nearest items to the user's vector."""

from __future__ import annotations

import msgspec

from pairec_fast.core import Arena, nearest
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.kind import Recall
from pairec_fast.snapshot import Snapshot, Vectors, pick


class HnswConf(msgspec.Struct, frozen=True, rename="pascal"):
    """`index`: vectors of the snapshot, whatever kind their index is. `effort` 0: what `build` found sufficient.

    `user_vector`: vectors whose user side asks, if not those of `index`.
    """

    index: str
    effort: int = 0
    user_vector: str = ""


class HnswRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """Ours. A user without a vector gets nothing from it."""

    name: str
    hnsw_conf: HnswConf
    recall_count: int = 500

    def bind(self, snapshot: Snapshot, source: int) -> Recall:
        """Raises ConfigError: the snapshot has no such vectors, they have no index, or spaces do not fit."""
        where, conf = f"RecallConfs.{self.name}.HnswConf", self.hnsw_conf
        target: Vectors = pick(snapshot.vectors, conf.index, f"{where}.Index")
        if target.index is None:
            raise ConfigError(f'{where}.Index: "{conf.index}" has kind = "none": it was built without an index')
        asking: Vectors = pick(snapshot.vectors, conf.user_vector or conf.index, f"{where}.UserVector")
        if asking.users.shape[1] != target.index.dim:
            raise ConfigError(
                f"{where}.UserVector: vectors of {asking.users.shape[1]} dimensions for an index of {target.index.dim}"
            )
        if self.recall_count <= 0 or conf.effort < 0:
            raise ConfigError(f"{where}: RecallCount must be positive and Effort not negative")
        users, index, rows, k = asking.users, target.index, target.rows, self.recall_count
        effort = conf.effort or index.effort

        def recall(query: Query, arena: Arena) -> None:
            if query.user >= 0:
                nearest(arena, index, rows, users[query.user], k, effort, source)

        return recall
