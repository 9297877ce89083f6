"""What callbacks tell of items and users: what the recommendation knew of them, or what is loaded for the callback.

An explicit callback of scene S loads and transforms by `UserFeatureConfs["S_callback"]` and
`FeatureConfs["S_callback"]`. *Source*: PAI-Rec (PAIREC 9.3, 9.6).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.callback import Record, without_empty
from pairec_fast.config import Config
from pairec_fast.core import Arena
from pairec_fast.limits import LimitConf
from pairec_fast.load import Load, loads
from pairec_fast.logs import Waits
from pairec_fast.messages import CallbackRequest, with_texts
from pairec_fast.properties import MISSING, column_of, loaded, loaded_each
from pairec_fast.query import Query, merged_features
from pairec_fast.scene import properties
from pairec_fast.snapshot import Column, Snapshot
from pairec_fast.store import Stores
from pairec_fast.walk import Walker


def properties_of(
    query: Query, columns: Mapping[str, Column], rows: NDArray[np.int32], places: NDArray[np.int32]
) -> list[dict[str, Any]]:
    """The properties of candidates in `rows` and `places` [n]: those `columns` of the snapshot, and over them what the
    request, its loads and its transforms gave and did not take away. PAI-Rec's implied ones are not among them."""
    given, entries = query.given, list[dict[str, Any]]()
    shown = {name: column for name, column in columns.items() if not given.hides(name)}
    known = np.flatnonzero(query.known(rows)).tolist()
    entries = [{} for _ in rows]
    for place, entry in zip(known, loaded_each(shown, rows[known]), strict=True):
        entries[place] = entry
    for name in given:
        column = given.of(name, places)
        assert column is not None
        if isinstance(column, tuple):
            for entry, code in zip(entries, column[0].tolist(), strict=True):
                if code >= 0:
                    entry[name] = column[1][code]
        else:
            for entry, value in zip(entries, column.tolist(), strict=True):
                if value == value:
                    entry[name] = value
    return entries


class CallbackFeatures:
    """What is loaded for the explicit callbacks of a scene; without live loads and transforms, columns alone."""

    def __init__(self, config: Config, snapshot: Snapshot, stores: Stores | None, scene: str) -> None:
        """Raises ConfigError: as a scene's loads."""
        self.scene, self._snapshot = f"{scene}_callback", snapshot
        users, items = config.user_feature_confs, config.feature_confs
        self._users = properties(users, self.scene, "user", snapshot)
        self._items = properties(items, self.scene, "item", snapshot)
        at = Binding(snapshot, scene=self.scene, stores=stores, directory=config.directory)
        # All are waited for: PAI-Rec does not, and writes records without what was loaded.
        self._user_loads = loads(users, self.scene, "UserFeatureConfs", at, aside=False)
        self._loads = loads(items, self.scene, "FeatureConfs", at)
        conf = items.get(self.scene)
        self._together = conf is not None and conf.asyn_load_feature

    @property
    def acts(self) -> bool:
        """Whether anything is added to what a callback says."""
        return bool(self._users or self._items or self._user_loads or self._loads)

    def record(self, walker: Walker, limits: LimitConf, request: CallbackRequest, ids: list[str]) -> Waits[Record]:
        """The record of a callback, of the first items of its list, whose ids are given.

        Raises:
            RequestError: features that cannot be used.
        """
        features = without_empty(merged_features(with_texts(request.features), request.complex_type_features))
        if self._user_loads or self._loads:
            features, items = yield from self._live(walker, limits, request, features, ids)
        else:
            snapshot = self._snapshot
            items = [
                loaded(entry, self._items, snapshot.items.ids.find(id)) | {"item_id": id}
                for id, entry in zip(ids, request.item_list, strict=False)
            ]
            features = loaded(features, self._users, snapshot.users.ids.find(request.uid))
        return Record(
            request.scene_id, request.request_id, int(time.time()), request.uid, features, request.request_info, items,
            fingerprint=self._snapshot.fingerprint, positions=list(range(len(items))),
        )  # fmt: skip

    def _live(
        self, walker: Walker, limits: LimitConf, request: CallbackRequest, features: dict[str, Any], ids: list[str]
    ) -> Waits[tuple[dict[str, Any], list[dict[str, Any]]]]:
        most = limits.candidates_max
        query = Query(
            self._snapshot, request.uid, len(ids), features, history_max=1, request_id=request.request_id, sources=[""],
            places=min(most, len(ids)), user_columns=self._users,
        )  # fmt: skip
        yield from self._through(walker, self._user_loads, query, None, together=True)
        items: list[dict[str, Any]] = []
        for begin in range(0, len(ids), most):  # guests, of whom there is room for so many
            some = ids[begin : begin + most]
            query.forget_items()
            arena = self._arena(query, some, request.item_list[begin : begin + len(some)])
            yield from self._through(walker, self._loads, query, arena, together=self._together)
            rows, places = arena.row[: arena.count], arena.place[: arena.count]
            items += [
                entry | {"item_id": id} for id, entry in zip(some, properties_of(query, {}, rows, places), strict=True)
            ]
        return query.user_features, items

    def _arena(self, query: Query, ids: list[str], entries: list[dict[str, Any]]) -> Arena:
        """The items as candidates, whom nobody recalled; one that is listed twice is there twice.

        What the callback says of them is theirs, and over it lies what local loads select.
        """
        count, arena = len(ids), Arena(len(ids))
        arena.reset(True)
        arena.row[:count] = [query.row(id, removed=True) for id in ids]
        arena.place[:count] = np.arange(count)
        arena.source[:count] = arena.recall_score[:count] = 0
        arena.count = count
        rows, places = arena.row[:count], arena.place[:count]
        known = np.flatnonzero(query.known(rows)).astype(np.int32)
        told = [{name: value for name, value in entry.items() if name != "item_id"} for entry in entries]
        for place, columns in zip(known.tolist(), loaded_each(self._items, rows[known]), strict=True):
            told[place] |= columns
        for name in dict.fromkeys(name for entry in told for name in entry):
            query.given.put(name, places, column_of([entry.get(name, MISSING) for entry in told]))
        return arena

    def _through(
        self, walker: Walker, some: list[Load], query: Query, arena: Arena | None, *, together: bool
    ) -> Waits[None]:
        if any(load.awaits for load in some):
            done = walker.loaded(self.scene, some, query, arena, together=together)
            yield done
            done.result()
            return
        for load in some:
            load(query, arena)
