"""Item id -> row, in a table of a million ids."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.core.idmap import IdMap, build_slots

ITEMS = 1_000_000


@pytest.fixture(scope="module")
def ids_of_a_million():
    encoded = [b"item-%d" % row for row in range(ITEMS)]
    offset = np.zeros(ITEMS + 1, np.uint64)
    offset[1:] = np.cumsum([len(one) for one in encoded], dtype=np.uint64)
    text = np.frombuffer(b"".join(encoded), np.uint8)
    return IdMap(text, offset, build_slots(text, offset))


@pytest.mark.parametrize("count", [1, 50, 1000])
@pytest.mark.parametrize("first", ["item", "nobody"], ids=["known", "unknown"])
def bench_find_all(timed, ids_of_a_million, count, first):
    """A history, or the exposures of a user; every round asks for the same ids, so they are warm."""
    asked = [f"{first}-{row}" for row in np.random.default_rng(1).integers(0, ITEMS, count)]
    timed(ids_of_a_million.find_all, asked)


def bench_find_cold(timed, ids_of_a_million):
    """Another id every round: two or three cache misses."""
    asked = iter([f"item-{row}" for row in np.random.default_rng(2).integers(0, ITEMS, 10_000)])
    timed(lambda: ids_of_a_million.find(next(asked)))


def bench_id(timed, ids_of_a_million):
    """Row -> id for a reply of 20."""
    id_of, rows = ids_of_a_million.id, np.random.default_rng(3).integers(0, ITEMS, 20).tolist()
    timed(lambda: [id_of(row) for row in rows])
