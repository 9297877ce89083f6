"""Rows of one record, beside the slow twin in Python: callbacks of 1, 10 and 50 items with 20 features each."""

from __future__ import annotations

import random

import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core import expand
from tests import reference_log

ITEMS = [1, 10, 50]


def record(items: int) -> bytes:
    rng = random.Random(items)

    def features() -> dict[str, object]:
        texts = {f"text_{n}": rng.choice(("beijing", "a < b", "84603208", "电影", "x" * 40)) for n in range(6)}
        numbers = {
            f"number_{n}": rng.choice((rng.random(), rng.randrange(10**6), rng.random() * 1e9)) for n in range(12)
        }
        return {**texts, **numbers, "history": [f"i{rng.randrange(10**6):06d}" for _ in range(10)], "flag": True}

    entries = [{"item_id": f"i{n:06d}", "score": rng.random(), **features()} for n in range(items)]
    return encode(Record("home_feed", "5d9c2f9e-1", 1_750_000_000, "u00042", features(), {"recom_id": "1"}, entries))


def test_both_write_the_same():
    for items in ITEMS:
        assert expand(record(items)) == reference_log.expand(record(items))


@pytest.mark.parametrize("items", ITEMS)
def bench_expand(timed, items):
    timed(expand, record(items), rounds=5_000)


@pytest.mark.parametrize("items", ITEMS)
def bench_expand_python(timed, items):
    timed(reference_log.expand, record(items), rounds=300)
