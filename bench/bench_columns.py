"""What a store answers for 1,000 candidates of 20 features, made columns: a text, an object, a row each.

pytest bench/bench_columns.py
"""

from __future__ import annotations

import json
import random

import pytest

from pairec_fast.core.columns import columns_of, read_objects, read_pairs, rows_by_key
from tests import reference_columns as reference

ROWS, NUMBERS, TEXTS = 1_000, 14, 6


def rows():
    rng = random.Random(1)
    names = [f"number_{at}" for at in range(NUMBERS)] + [f"text_{at}" for at in range(TEXTS)]
    values = ([round(rng.random(), 4) for _ in range(NUMBERS)] + rng.choices("abcdefgh", k=TEXTS) for _ in range(ROWS))
    return [dict(zip(names, row, strict=True)) for row in values]


PAIRS = [",".join(f"{name}:{value}" for name, value in row.items()) for row in rows()]
OBJECTS = [json.dumps(row) for row in rows()]
CELLS = [(str(at), *row.values()) for at, row in enumerate(rows())]
KEYS, NAMES = [cells[0] for cells in CELLS], list(rows()[0])

WAYS = {
    "pairs": lambda: read_pairs(PAIRS, ",", 1000),
    "pairs, slowly": lambda: reference.columns_of([reference.pairs(text, ",") for text in PAIRS]),
    "objects": lambda: read_objects(OBJECTS, 1000),
    "objects, slowly": lambda: reference.columns_of([json.loads(text) for text in OBJECTS]),
    "rows": lambda: columns_of(rows_by_key(KEYS, NAMES, CELLS), nulls=False),
}


@pytest.mark.parametrize("way", WAYS)
def bench_columns(timed, way):
    timed(WAYS[way], rounds=20 if "slowly" in way else 500)
