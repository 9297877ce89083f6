"""From lists in texts to candidates: rows, scores, and which recall brought them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Entries, IdMap, add, merge
from pairec_fast.expression.convert import to_float
from pairec_fast.query import Query

ENTRIES_MAX = 100_000  # of one list: what is behind is not looked at

Rows = NDArray[np.int32]
Numbers = NDArray[np.float64]


class Found(NamedTuple):
    """`rows` [n] int32, -1 for what cannot be a candidate, with `scores` [n] float64. `labels`: names of recalls, by
    `codes` [n] int32, -1 for the recall's own."""

    rows: Rows
    scores: Numbers
    codes: Rows | None = None
    labels: Sequence[str] = ()


NOTHING = Found(np.empty(0, np.int32), np.empty(0))


def entries(text: str, *, colons: int = -1, skip_null: bool = False) -> Entries:
    """`text` as a list of items."""
    return Entries(text, most=ENTRIES_MAX, colons=colons, skip_null=skip_null, number=_number)


def _number(text: str) -> float:
    return to_float(text, math.nan)


def bring(query: Query, arena: Arena, found: Found, source: int) -> int:
    """Add what was found, in its order; returns how many were new. `source` is the recall's own place."""
    known = found.rows >= 0
    rows, scores = found.rows[known], found.scores[known]
    if found.codes is None or not found.labels:
        return add(arena, rows, scores, source)
    own = list(query.sources)
    codes = found.codes[known]
    ends = [*(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(rows)]
    added, begin = 0, 0
    for end in ends:  # a run of one label
        if end > begin:
            label = found.labels[codes[begin]] if codes[begin] >= 0 else own[source]
            before = arena.count
            place = own.index(label) if label in own else source
            added += add(arena, rows[begin:end], scores[begin:end], place)
            if label not in own:
                query.label(arena, slice(before, arena.count), label)
        begin = end
    return added


def rows_of(query: Query, ids: IdMap, listed: Entries, places: Rows | None = None) -> Rows:
    """Rows of the entries at `places`, else of all; those the snapshot lacks become guests."""
    rows = listed.rows(ids)
    if places is not None:
        rows = rows[places]
    for at in np.flatnonzero(rows < 0).tolist():
        rows[at] = query.row(listed.id(at if places is None else int(places[at])))
    return rows


def best_first(scores: Numbers, count: int) -> Rows:
    """Places of the `count` highest scores; equal ones in their order."""
    places: Rows = np.argsort(-scores, kind="stable")[:count].astype(np.int32)
    return places


def half_shuffled(length: int, count: int, query: Query) -> Rows:
    """`count` places of a list of `length` that is longer: its first half shuffled, by a hash of the request's id."""
    places = list(range(length))
    if length > count:
        half = places[: length // 2]
        random.Random(query.request_id).shuffle(half)
        places[: length // 2] = half
    return np.array(places[:count], np.int32)


def scored(listed: Entries, missing: float = 0.0) -> Numbers:
    """The scores of an entry list: `missing` where there is none."""
    return np.where(np.isnan(listed.last), missing, listed.last)


def merged(
    query: Query, arena: Arena, ids: IdMap, lists: Iterable[tuple[Entries, Numbers]], count: int, *, largest: bool
) -> Found:
    """The `count` items of the largest sum of their weights in `lists`, or of the largest weight, best first.

    Items that the snapshot lacks are summed by id, and only the best of them become guests.
    """
    rows, weights, strange = [NOTHING.rows], [NOTHING.scores], dict[str, float]()
    for listed, weight in lists:
        row = listed.rows(ids)
        weight = np.where(np.isnan(weight), 0.0, weight)
        rows.append(row)
        weights.append(weight)
        for at in np.flatnonzero(row < 0).tolist():
            id, one = listed.id(at), float(weight[at])
            before = strange.get(id)
            strange[id] = one if before is None else max(before, one) if largest else before + one
    for id, total in sorted(strange.items(), key=lambda entry: -entry[1])[:count]:
        if (guest := query.row(id)) >= 0:
            rows.append(np.array([guest], np.int32))
            weights.append(np.array([total]))
    return Found(*merge(arena, np.concatenate(rows), np.concatenate(weights), count, largest=largest))
