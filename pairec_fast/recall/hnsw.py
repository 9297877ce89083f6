"""The nearest items to the user's vector."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, Filter, nearest
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.where import Where, chooser
from pairec_fast.snapshot import Snapshot, Vectors, pick


class HnswConf(msgspec.Struct, frozen=True, rename="pascal"):
    """`index`: vectors of the snapshot, whatever kind their index is. `effort` 0: what `build` found sufficient.

    `user_vector`: vectors whose user side asks, if not those of `index`. `item_vector`: the item of the request's
    `item_id` asks instead, for items like it.
    `mode`: "budget", the same work for every query, or "recall", as much as the query needs, up to four times that.
    `where`: conditions on columns of the items, all of which must hold: the search finds only such items. One alone, on
    a column that `lists` in world.toml names, takes them from lists that all workers share.
    `skip_shown`: the search does not find the items of the request's `history` feature.
    """

    index: str
    effort: int = 0
    user_vector: str = ""
    item_vector: bool = False
    mode: Literal["budget", "recall"] = "budget"
    where: list[Where] = []
    skip_shown: bool = False


class HnswRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """Ours. A user without a vector gets nothing from it."""

    name: str
    hnsw_conf: HnswConf
    recall_count: int = 500

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: the snapshot has no such vectors, they have no index, or spaces do not fit."""
        where, conf, snapshot = f"RecallConfs.{self.name}.HnswConf", self.hnsw_conf, at.snapshot
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
        return Nearest(self.name, snapshot, target, asking.users, self.recall_count, conf, at.source)


class Nearest:
    """Adds the items nearest to the user's vector, or to that of the request's item."""

    def __init__(
        self, name: str, snapshot: Snapshot, vectors: Vectors, users: NDArray[np.float32], k: int, conf: HnswConf,
        source: int,
    ) -> None:  # fmt: skip
        assert vectors.index is not None
        self.name, self.index, self.rows, self.k, self.source = name, vectors.index, vectors.rows, k, source
        self.effort, self.mode, self.skip_shown = conf.effort, conf.mode, conf.skip_shown
        where = f"RecallConfs.{name}.HnswConf.Where"
        self.choose = chooser(snapshot, vectors, conf.where, where) if conf.where else None
        self._held = self.rows[: self.index.count]
        self._ids = snapshot.items.ids if conf.item_vector else None
        self._vectors = vectors.items if conf.item_vector else users

    def __call__(self, query: Query, arena: Arena) -> None:
        asked = self._asked(query)
        if asked is None:
            return
        vector, allow, deny = asked
        nearest(
            arena, self.index, self.rows, vector, self.k, self.effort, self.source, allow=allow, deny=deny,
            adaptive=self.mode == "recall",
        )  # fmt: skip

    def told(self, query: Query) -> str:
        """How it comes by its items, for a debug answer; searches once more."""
        asked = self._asked(query)
        if asked is None or not asked[0].any():
            return f"recall={self.name}\tstrategy=none"
        vector, allow, deny = asked
        strategy = self.index.strategy(vector, self.k, self.effort or None, allow, deny, self.mode)
        allowed = len(allow) if allow is not None else len(self.index)
        return f"recall={self.name}\tkind={self.index.kind}\tstrategy={strategy}\tallowed={allowed}"

    def _asked(self, query: Query) -> tuple[NDArray[np.float32], Filter | None, NDArray[np.int32] | None] | None:
        """Vector, filter and denied rows; None: nothing is asked."""
        row = query.user if self._ids is None else self._ids.find(query.item_id)
        allow = self.choose(query) if self.choose is not None else None
        if row < 0 or (self.choose is not None and allow is None):
            return None
        return self._vectors[row], allow, self._shown(query) if self.skip_shown else None

    def _shown(self, query: Query) -> NDArray[np.int32]:
        """Rows of the index of what the request's history names, as far as it was built with them."""
        places = np.minimum(np.searchsorted(self._held, query.shown), len(self._held) - 1)
        known: NDArray[np.int32] = places[self._held[places] == query.shown].astype(np.int32)
        return known
