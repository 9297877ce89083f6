"""What recalls are found by, and what is kept of them: suites group_hot_trigger and cache."""

from __future__ import annotations

from typing import Any

import msgspec

from pairec_fast.cache import Cache, LocalCacheConf
from pairec_fast.recall.trigger import Trigger, lookup_ids, trigger_id


def run_trigger(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The group of a user, and the groups that are looked up: those of the two that are asked for."""
    triggers = msgspec.convert(given["triggers"], list[Trigger])
    group = trigger_id(triggers, given["features"])
    outcome = {"trigger_id": group, "lookup_ids": lookup_ids(group)}
    return {key: outcome[key] for key in expected if key in outcome}


def run_cache(given: dict[str, Any]) -> dict[str, Any]:
    """What is found at once and after eleven seconds, of a clock that is moved on."""
    now = [1000.0]
    conf = LocalCacheConf.of(given["config"], "CacheConfig")
    cache = Cache[str](conf.default_expiration, clock=lambda: now[0])
    key, value = given["put"]
    cache.put(key, value, given.get("ttl_seconds"))
    found_now = cache.get(key)
    now[0] += 11
    return {"get_now": found_now or "", "get_after_11s": cache.get(key) or ""}
