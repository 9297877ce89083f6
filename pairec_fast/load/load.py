"""One load and its transforms, bound."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.config import FeatureLoadConfig, SceneFeatureConfig
from pairec_fast.core import Arena
from pairec_fast.load.sequence import Sequences
from pairec_fast.load.source import Found, Source, source_of
from pairec_fast.load.values import Cache, Values
from pairec_fast.properties import MISSING, column_of
from pairec_fast.query import Query
from pairec_fast.transform import Transforms, texts_of, user_text

CACHED_SET_SECONDS = 0.15  # how long a cached set is waited for


def loads(confs: Mapping[str, SceneFeatureConfig], scene: str, section: str, at: Binding) -> list[Load]:
    """Those of a scene, in order.

    Raises:
        ConfigError: a store, a field or an expression that cannot be.
    """
    conf = confs.get(scene)
    if conf is None:
        return []
    where = f"{section}.{scene}.FeatureLoadConfs"
    made = [Load(one, at, f"{where}[{place}]") for place, one in enumerate(conf.feature_load_confs)]
    return [load for load in made if load.acts]


class Load:
    """Fetches what stands under a key, of the user or of every candidate, then transforms.

    `load` awaits; the call that follows applies what came. A load that asks no store only transforms.
    """

    def __init__(self, conf: FeatureLoadConfig, at: Binding, where: str) -> None:
        dao = conf.feature_dao_conf
        self.name, self.on_item = where, dao.feature_store == "item"
        self.aside = dao.feature_async_load and not self.on_item
        self._side, _, self._key = (dao.feature_key or ("item:id" if self.on_item else "user:uid")).partition(":")
        self._default = dao.redis_default_key
        self._into, self._out_of = dao.cache_features_name, dao.load_from_cache_features_name
        self._source: Source | Sequences | None
        if dao.feature_type == "sequence_feature":
            self._source = Sequences(at, dao, where)
        else:
            self._source = source_of(dao, at, f"{where}.FeatureDaoConf")
        self.timeout = self._source.timeout if self._source is not None else CACHED_SET_SECONDS
        self._cache = Cache(dao.cache_size, dao.cache_time) if dao.cache_size else None
        self._transforms = Transforms(conf.features, f"{where}.Features")
        self.awaits = self._source is not None or bool(self._out_of)
        self.acts = self.awaits or bool(self._transforms)

    async def load(self, query: Query, arena: Arena | None) -> None:
        """Get what is asked for; a load that is let run aside is only begun."""
        if self._source is None:
            if self._out_of:
                await self._others(query)
        elif self.on_item:
            assert arena is not None
            keys, codes = self._item_keys(query, arena)
            query.fetched[self] = await self._get(keys), codes
        elif self.aside:
            query.running.append(asyncio.ensure_future(self._get_user(query)))
        else:
            await self._get_user(query)

    def __call__(self, query: Query, arena: Arena | None) -> None:
        """Apply what came, then the transforms."""
        if self._out_of:
            query.user_features.update(query.cached_sets.get(self._out_of, {}))
        if self.on_item and (got := query.fetched.pop(self, None)) is not None:
            assert arena is not None
            _put_items(query, arena, *got)
        self._transforms.user(query)
        if arena is not None:
            self._transforms.items(query, arena)

    async def _get_user(self, query: Query) -> None:
        text = user_text(query.user_features.get(self._key)) or self._default
        if not text:
            return
        (values,) = await self._get([text])
        if values is None:
            return
        if self._into:
            query.cached_sets[self._into] = query.cached_sets.get(self._into, {}) | dict(values)
            return
        for name, value in values.items():
            if value is None:  # a NULL takes the property away
                query.user_features.pop(name, None)
            else:
                query.user_features[name] = value

    async def _others(self, query: Query) -> None:
        """Wait for loads that run aside: the set may be among what they bring."""
        if query.running:
            await asyncio.wait(query.running, timeout=CACHED_SET_SECONDS)

    def _item_keys(self, query: Query, arena: Arena) -> tuple[list[str], NDArray[np.int32]]:
        """The distinct keys of the candidates, and which each has."""
        count = arena.count
        if self._side == "user":
            return [user_text(query.user_features.get(self._key))], np.zeros(count, np.int32)
        if self._key == "id":
            rows, which = np.unique(arena.row[:count], return_inverse=True)
            return query.ids(rows), which.astype(np.int32)
        texts = texts_of(query.properties(arena).get(self._key), count)
        return list(texts[1]), texts[0]

    async def _get(self, keys: list[str]) -> Found:
        assert self._source is not None
        if self._cache is None:
            return await self._source.get(keys)
        known = {key: values for key in keys for found, values in [self._cache.get(key)] if found}
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing:
            for key, values in zip(missing, await self._source.get(missing), strict=True):
                self._cache.put(key, values)
                known[key] = values
        return [known[key] for key in keys]


def _put_items(query: Query, arena: Arena, found: Found, codes: NDArray[np.int32]) -> None:
    """Make properties of the candidates out of what was found for each key."""
    names = dict.fromkeys(name for values in found if values is not None for name in values)
    places = arena.place[: arena.count]
    for name in names:
        given: list[Any] = [_value(values, name) for values in found]
        column = column_of(given)
        if isinstance(column, tuple):
            query.given.put(name, places, (column[0][codes], column[1]))
        else:
            query.given.put(name, places, column[codes])


def _value(values: Values | None, name: str) -> Any:
    value = MISSING if values is None else values.get(name, MISSING)
    return MISSING if value is None else value
