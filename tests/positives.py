"""A small world of positives only: tables in files, and what is read of them."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from pairec_fast.learn.sources import read_sources
from pairec_fast.learn.spec import World, check_world

DAY = 86400.0


def random_events(seed, users, items, count, days=40.0):
    """(user, item, day) in order of time; some users and items have none, some choose an item twice."""
    rng = np.random.default_rng(seed)
    chosen = np.minimum(rng.geometric(3 / items, count) - 1, items - 2)
    day = np.sort(rng.uniform(0, days, count)).round(3)
    return list(zip(rng.integers(0, users - 1, count).tolist(), chosen.tolist(), day.tolist(), strict=True))


def write_world(folder, events, users, items, **sections):
    """Writes the three tables, returns (World, Sources). Gender of user u: "ab"[u % 2]; genres of item i: its bits."""
    genres = np.array([[float(item >> bit & 1) for bit in range(3)] for item in range(items)], np.float32)
    tables = {
        "items": {
            "item_id": [f"i{item}" for item in range(items)],
            "genres": pa.FixedSizeListArray.from_arrays(pa.array(genres.ravel()), 3),
        },
        "users": {
            "user_id": [f"u{user}" for user in range(users)],
            "gender": ["ab"[user % 2] for user in range(users)],
        },
        "events": {
            "user_id": [f"u{user}" for user, _, _ in events],
            "item_id": [f"i{item}" for _, item, _ in events],
            "timestamp": [day * DAY for _, _, day in events],
            "rating": [float(1 + item % 5) for _, item, _ in events],
        },
    }
    for name, columns in tables.items():
        pa.parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    world = msgspec.convert(
        {
            "items": {"file": "items.parquet", "id": "item_id"},
            "users": {"file": "users.parquet", "id": "user_id"},
            "interactions": {"file": "events.parquet"},
            **sections,
        },
        World,
    )
    check_world(world)
    return world, read_sources(world, folder)
