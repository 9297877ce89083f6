"""One load and its transforms, bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.cache import Cache
from pairec_fast.config import FeatureDaoConf, FeatureLoadConfig, SceneFeatureConfig
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Column
from pairec_fast.load.local import local_columns
from pairec_fast.load.sequence import Sequences
from pairec_fast.load.source import DEADLINE, Found, Source, source_of
from pairec_fast.properties import loaded
from pairec_fast.query import Query
from pairec_fast.replies import Read, Values
from pairec_fast.snapshot import Column as Stored
from pairec_fast.transform import Transforms, side_and_name, texts_of, user_text

CACHED_SET_SECONDS = 0.15  # how long a cached set is waited for
NAMES_MAX = 1000  # properties that one load may give the candidates: each is a column of the request

log = logging.getLogger("pairec_fast")

LIVE = ("redis", "lmdb", "hologres")


def loads(
    confs: Mapping[str, SceneFeatureConfig], scene: str, section: str, at: Binding, *, aside: bool = True,
    shared: Any = None,
) -> list[Load]:  # fmt: skip
    """Those of a scene, in order, without what would do nothing. Not `aside`: all are waited for. `shared`: those that
    variants of the scene have bound.

    Raises:
        ConfigError: a store, a field or an expression that cannot be.
    """
    conf = confs.get(scene)
    if conf is None:
        return []
    where = f"{section}.{scene}.FeatureLoadConfs"
    made: list[Load] = []
    for place, one in enumerate(conf.feature_load_confs):
        # A query begins with the columns that local loads of its user select: they act only over what others gave.
        first = section == "UserFeatureConfs" and not made
        key = None if shared is None else shared.key(one, at, where, place, first)
        load = None if shared is None else shared.get(key)
        if load is None:
            load = Load(one, at, f"{where}[{place}]", first=first)
            load.aside = load.aside and aside
            if shared is not None:
                shared.put(key, load)
        if load.acts:
            made.append(load)
    return made


class Got(NamedTuple):
    """What a load brought: values of the user, or what was read of the keys, and which key each candidate has.

    unsure: why what stands under a key is not known, of as many of the keys as could not be read.
    """

    values: Values | None
    read: Read
    codes: NDArray[np.int32] | None
    keys: int
    unsure: list[str]


class Load:
    """Fetches what stands under a key, of the user or of every candidate, then transforms.

    `begin` asks; `load` awaits that, and leaves the outcome in `query.fetched`; the call that follows applies it. One
    that asks no store only transforms. One that runs `aside` is not awaited, and is applied when it is done.
    """

    def __init__(self, conf: FeatureLoadConfig, at: Binding, where: str, *, first: bool = False) -> None:
        dao = conf.feature_dao_conf
        self.name, self.on_item = where, dao.feature_store == "item"
        self._key = _key(dao, f"{where}.FeatureDaoConf")
        self._without_key = dao.adapter_type == "redis" and bool(dao.redis_default_key)
        self._source: Source | None = None
        if dao.feature_type == "sequence_feature" and dao.adapter_type == "hologres" and not self.on_item:
            self._source = Sequences(at, dao, f"{where}.FeatureDaoConf")
        elif dao.feature_type != "be_rt_cnt_feature":
            self._source = source_of(dao, at, f"{where}.FeatureDaoConf")
        self._columns: dict[str, Stored] = {}
        if dao.adapter_type == "local":
            columns = local_columns(dao, at.snapshot, where)
            self._columns = {} if first or self.on_item else columns
        self._into = dao.cache_features_name
        self._out_of = "" if self.on_item else dao.load_from_cache_features_name
        self._null_deletes = self._source is not None and self._source.null_deletes
        # A sequence is of this moment: neither here nor in PAI-Rec is it kept.
        cached = dao.cache_size and not isinstance(self._source, Sequences)
        self._cache = Cache[Any](dao.cache_time, dao.cache_size) if cached else None
        self._transforms = Transforms(conf.features, f"{where}.Features")
        # In PAI-Rec too this is for UserFeatureConfs alone: what came after FeatureConfs would never be seen.
        self.aside = dao.feature_async_load and where.startswith("UserFeatureConfs.") and self._source is not None
        self.timeout = self._source.timeout if self._source is not None else DEADLINE
        self.awaits = self._source is not None or bool(self._out_of)
        self.acts = self.awaits or bool(self._columns or self._transforms)

    async def load(self, query: Query, arena: Arena | None) -> None:
        """Await what is asked for, and loads that run aside if what they bring is asked for."""
        if self._out_of and query.running:
            await asyncio.wait(query.running.values(), timeout=CACHED_SET_SECONDS)
        if self._source is not None:
            query.fetched[self] = await self._got(*self._keys(query, arena))

    def begin(self, query: Query) -> Coroutine[Any, Any, Got]:
        """What comes to what `load` would leave for the user. Only the call reads the query, not what is awaited."""
        return self._got(*self._keys(query, None))

    async def _got(self, keys: Sequence[str], codes: NDArray[np.int32] | None) -> Got:
        assert self._source is not None
        found = await self._get(keys) if keys else Found([], {})
        unsure, values, read = dict(found.unsure), None, Read({}, 0, {})
        if codes is not None:
            read = self._source.reader.columns(found.raws, NAMES_MAX)
            unsure |= read.unsure
        elif keys and found.raws[0] is not None:  # of a user, who has one key
            try:
                values = self._source.reader.values(found.raws[0])
            except ValueError as error:
                unsure[0] = str(error)
        if self._cache is not None:
            for place in unsure:
                self._cache.forget(keys[place])
        return Got(values, read, codes, len(keys), list(unsure.values()))

    def __call__(self, query: Query, arena: Arena | None) -> None:
        """Apply what came, then the transforms."""
        if self._columns:
            query.user_loaded.update(self._columns)
            query.user_features.update(loaded({}, self._columns, query.user))
        if self._out_of:
            if query.running and self._out_of not in query.cached_sets:
                query.degraded.append(f'{self.name}: "{self._out_of}" is not there yet')
            _put_user(query, query.cached_sets.get(self._out_of, {}), False)
        got: Got | None = query.fetched.pop(self, None)
        if got is not None:
            self._tell(query, got)
            if not self.on_item:
                self._put(query, got.values)
            elif arena is not None and got.codes is not None and len(got.codes) == arena.count:
                _put_items(query, arena, got.read.columns, got.codes)
        self._transforms(query, arena)

    def _put(self, query: Query, values: Values | None) -> None:
        if values is None:
            return
        if not self._into:
            _put_user(query, values, self._null_deletes)
            return
        kept = {name: value for name, value in values.items() if value is not None or not self._null_deletes}
        query.cached_sets[self._into] = query.cached_sets.get(self._into, {}) | kept

    def _tell(self, query: Query, got: Got) -> None:
        """What is not known or not taken. Why, is for the log: it may name servers and tables."""
        if got.unsure:
            query.degraded.append(f"{self.name}: {len(got.unsure)} of {got.keys} keys")
            log.warning("%s: %d of %d keys: %s", self.name, len(got.unsure), got.keys, got.unsure[0])
        if got.read.names > NAMES_MAX:
            query.degraded.append(f"{self.name}: {got.read.names} properties; the first {NAMES_MAX} are taken")

    def _keys(self, query: Query, arena: Arena | None) -> tuple[Sequence[str], NDArray[np.int32] | None]:
        """The distinct keys, and which each candidate has. A user without a property of that name has no key."""
        side, name = self._key
        if not self.on_item:
            text = user_text(query.user_features.get(name))
            return [text] if text or self._without_key else [], None
        assert arena is not None
        count = arena.count
        if side == "user":
            return [user_text(query.user_features.get(name))], np.zeros(count, np.int32)
        if name == "id":
            rows, which = np.unique(arena.row[:count], return_inverse=True)
            return query.ids(rows), which.astype(np.int32)
        codes, texts = texts_of(query.properties(arena).get(name), count)
        return texts if count else [], codes

    async def _get(self, keys: Sequence[str]) -> Found:
        assert self._source is not None
        if self._cache is None:
            return await self._source.get(keys)
        raws, places, asked = self._cache.get_many(keys)
        if not asked:
            return Found(raws, {})
        came, unsure = await self._source.get(asked)
        nothing = self._source.remembers_nothing
        self._cache.fill(raws, places, asked, came, but=unsure, nothing=nothing)
        return Found(raws, {places[at]: why for at, why in unsure.items()})


def _key(dao: FeatureDaoConf, where: str) -> tuple[str, str]:
    own = ("item", "id") if dao.feature_store == "item" else ("user", "uid")
    if not dao.feature_key:
        return own
    key = side_and_name(dao.feature_key)
    if key is None and dao.adapter_type in (*LIVE, "local"):
        raise ConfigError(f'{where}.FeatureKey: "{dao.feature_key}"; `user:NAME` or `item:NAME` is right')
    return key or own


def _put_items(query: Query, arena: Arena, columns: Mapping[str, Column], codes: NDArray[np.int32]) -> None:
    """Make properties of the candidates out of what was found for each key."""
    places = arena.place[: arena.count]
    for name, column in columns.items():
        if isinstance(column, tuple):
            query.given.put(name, places, (column[0][codes], column[1]))
        else:
            query.given.put(name, places, column[codes])


def _put_user(query: Query, values: Values, null_deletes: bool) -> None:
    query.user_loaded.update(values)
    for name, value in values.items():
        if value is None and null_deletes:
            query.user_features.pop(name, None)
        else:
            query.user_features[name] = value
