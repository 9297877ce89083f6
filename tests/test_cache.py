"""What is put is found for its time, and a cache never grows beyond its bound."""

from __future__ import annotations

import threading

import pytest

from pairec_fast.cache import Cache, LocalCacheConf
from pairec_fast.core.columns import MISSING
from pairec_fast.errors import ConfigError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_value_lives_as_long_as_it_was_put_for():
    clock = Clock()
    cache = Cache[str](10, clock=clock)
    cache.put("a", "1")
    cache.put("b", "2", 20)
    cache.put("c", "3", 0)
    clock.now = 9.9
    assert [cache.get(key) for key in "abc"] == ["1", "2", "3"]
    clock.now = 10
    assert [cache.get(key) for key in "abc"] == [None, "2", "3"] and len(cache) == 2
    clock.now = 1e9
    assert [cache.get(key) for key in "abc"] == [None, None, "3"]


def test_the_oldest_makes_room_and_what_is_put_again_is_the_newest():
    cache = Cache[int](0, entries_max=3)
    for number in range(3):
        cache.put(str(number), number)
    cache.put("0", 10)
    cache.put("3", 3)
    assert [cache.get(str(number)) for number in range(4)] == [10, None, 2, 3]
    with pytest.raises(ValueError, match="entries_max must be positive"):
        Cache[int](0, entries_max=0)


def test_many_are_looked_up_at_once_and_what_came_is_filled_in():
    clock = Clock()
    cache = Cache[str](10, entries_max=3, clock=clock)
    cache.put("a", "1")
    values, places, asked = cache.get_many(["b", "a", "c", "d"])
    assert values == [MISSING, "1", MISSING, MISSING] and places == [0, 2, 3] and asked == ["b", "c", "d"]
    cache.fill(values, places, asked, ["2", None, "4"], but=[2], nothing=False)
    assert values == ["2", "1", None, "4"], "all is there"
    assert [cache.get(key) for key in "abcd"] == ["1", "2", None, None], "but only what is known to be is kept"
    cache.fill(values, places, asked, [None, "3", "4"])
    assert cache.get_many("bcd")[0] == [None, "3", "4"] and len(cache) == 3, "the oldest made room"
    cache.forget("b")
    cache.forget("nobody")
    assert cache.get_many("bc")[0] == [MISSING, "3"]
    clock.now = 10
    assert cache.get_many("c") == ([MISSING], [0], ["c"]) and len(cache) == 1, "too old"
    with pytest.raises(ValueError):
        cache.fill([MISSING], [0], ["a"], [])


def test_threads_may_share_it():
    cache, wrong = Cache[int](0.0001, entries_max=50), []

    def work(own):
        for number in range(3000):
            key = str((number * own) % 90)
            cache.put(key, int(key))
            found = cache.get(str(number % 90))
            if found is not None and found != number % 90:
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(own,)) for own in (1, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(cache) <= 50


def test_the_configuration_is_a_json_text():
    assert LocalCacheConf.of('{"defaultExpiration":60, "cleanupInterval":5}', "x") == LocalCacheConf(60, 5)
    assert LocalCacheConf.of("", "x").default_expiration == 1800
    for text in ("{", '{"defaultExpiration": "60"}', "[]"):
        with pytest.raises(ConfigError, match=r"RecallConfs\.a\.CacheConfig: expected JSON as"):
            LocalCacheConf.of(text, "RecallConfs.a.CacheConfig")
