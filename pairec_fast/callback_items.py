"""What callbacks tell of items and users: what the recommendation knew of them, or what is loaded for the callback.

A callback of scene S, explicit or automatic, loads and transforms by `UserFeatureConfs["S_callback"]` and
`FeatureConfs["S_callback"]`. *Source*: PAI-Rec (PAIREC 9.3, 9.6).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.callback import Record, without_empty
from pairec_fast.config import Config
from pairec_fast.core import Arena
from pairec_fast.core.columns import columns_of
from pairec_fast.limits import LimitConf
from pairec_fast.load import Load, loads
from pairec_fast.logs import Waits
from pairec_fast.messages import CallbackRequest, with_texts
from pairec_fast.properties import loaded, loaded_each
from pairec_fast.query import Query, merged_features
from pairec_fast.scene import properties
from pairec_fast.snapshot import Column, Snapshot
from pairec_fast.store import Stores
from pairec_fast.walk import Walker
from pairec_fast.warned import Warned

_warned = Warned()


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


class Called(NamedTuple):
    """What a callback says of the user and of each item."""

    request_id: str
    uid: str
    features: dict[str, Any]
    ids: list[str]
    entries: list[dict[str, Any]]


Filled = tuple[dict[str, Any], list[dict[str, Any]]]
T = TypeVar("T")


def later(waits: Waits[T], then: Callable[[T | None], None]) -> None:
    """Let `then` have the outcome, now or in the thread in which what is awaited ends; None where there is none."""

    def step(_: object = None) -> None:
        try:
            awaited = next(waits)
        except StopIteration as end:
            then(end.value)
        except (Exception, CancelledError) as error:
            _warned("callbacks", "loads", f"a callback goes without what was to be loaded: {error}")
            then(None)
        else:
            assert isinstance(awaited, Future)
            awaited.add_done_callback(step)

    step()


class CallbackFeatures:
    """What is loaded for the callbacks of a scene; without live loads and transforms, columns alone."""

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
        self.recalls = self.scene in config.scene_confs  # then its recalls say which of them finds an item

    @property
    def acts(self) -> bool:
        """Whether anything is added to what a callback says."""
        return bool(self._users or self._items or self._user_loads or self._loads or self.recalls)

    def record(self, walker: Walker, limits: LimitConf, request: CallbackRequest, ids: list[str]) -> Waits[Record]:
        """The record of a callback, of the first items of its list, whose ids are given.

        Raises:
            RequestError: features that cannot be used.
        """
        features = without_empty(merged_features(with_texts(request.features), request.complex_type_features))
        called = Called(request.request_id, request.uid, features, ids, request.item_list[: len(ids)])
        features, items = yield from self.filled(walker, limits, called)
        return Record(
            request.scene_id, request.request_id, int(time.time()), request.uid, features, request.request_info, items,
            fingerprint=self._snapshot.fingerprint, positions=list(range(len(items))),
        )  # fmt: skip

    def filled(self, walker: Walker, limits: LimitConf, called: Called) -> Waits[Filled]:
        """What a callback says, with what is loaded over it: the user's features, and an entry for each item."""
        if self._user_loads or self._loads:
            return (yield from self._live(walker, limits, called))
        users, items = self._snapshot.users.ids, self._snapshot.items.ids
        entries = [
            loaded(entry, self._items, items.find(id)) | {"item_id": id}
            for id, entry in zip(called.ids, called.entries, strict=True)
        ]
        return loaded(called.features, self._users, users.find(called.uid)), entries

    def _live(self, walker: Walker, limits: LimitConf, called: Called) -> Waits[Filled]:
        most, ids = limits.candidates_max, called.ids
        query = Query(
            self._snapshot, called.uid, len(ids), called.features, history_max=1, request_id=called.request_id,
            sources=[""], places=min(most, len(ids)), user_columns=self._users,
        )  # fmt: skip
        yield from self._through(walker, self._user_loads, query, None, together=True)
        items: list[dict[str, Any]] = []
        for begin in range(0, len(ids), most):  # guests, of whom there is room for so many
            some = ids[begin : begin + most]
            query.forget_items()
            arena = self._arena(query, some, called.entries[begin : begin + most])
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
        for name, column in columns_of(told)[0].items():
            query.given.put(name, places, column)
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
