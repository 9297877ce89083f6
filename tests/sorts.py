"""One sort over the items of a test, bound as a configuration binds it."""

from __future__ import annotations

import numpy as np

from tests.contract.sorts import Walk, stage_of


def sorted_by(sort, items, *, user=None, size=None, params=None, **binding):
    """The ids of `items` after one sort; and the walk, to see what else it did."""
    walk = Walk(items, user or {}, size or len(items), params or {})
    stage_of(sort, walk.binding(**binding))(walk.query, walk.arena)
    return [walk.ids[slot] for slot in walk.order()], walk


def scores(walk):
    return walk.arena.score[: walk.arena.count].tolist()


def given(walk, name):
    return walk.query.properties(walk.arena).of_each(name, np.arange(walk.arena.count))


def equal(name, value, domain="item"):
    return {"Name": name, "Domain": domain, "Operator": "equal", "Type": "string", "Value": value}
