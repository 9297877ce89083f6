"""Candidates into the arena, each row once; the first recall to bring a row keeps it."""

from libc.stdint cimport int32_t, int64_t, uint8_t

import numpy as np
cimport numpy as cnp

from pairec_fast.core.arena cimport Arena, check_rows, check_source, rows_within
from pairec_fast.core.index cimport VectorIndex, nothing
from pairec_fast.core.index_filter cimport Filter
from pairec_fast.core.index_scratch cimport SearchScratch
from pairec_fast.core.index_types cimport Strategy, c_Allow, c_Work


cnp.import_array()


def add(Arena arena not None, const int32_t[::1] rows not None, cnp.ndarray scores not None,
        int32_t source, int32_t k=0x7FFFFFFF) -> int:
    """Add `rows` [n] int32 with `scores` [n] float32 or float64, best first, until the arena is full. Returns how many
    were new.

    Rows are taken as `arena.follow` says: the first `k` whose items are not gone, each as the row that stands for it now.

    Raises:
        ValueError: lengths differ, a row is not below `arena.items_max`, or the overlay's capacity, or `source` is not 0 to 255.
    """
    cdef const float[::1] narrow
    cdef const double[::1] wide
    cdef bint is_wide = cnp.PyArray_TYPE(scores) == cnp.NPY_FLOAT64
    if is_wide:
        wide = scores
    else:
        narrow = scores
    if rows.shape[0] != scores.shape[0]:
        raise ValueError(f"{rows.shape[0]} rows, {scores.shape[0]} scores")
    cdef uint8_t checked = check_source(source)
    cdef int32_t added = 0
    if rows.shape[0]:
        check_rows("rows", &rows[0], rows.shape[0], arena.c.overlay.rows)
        with nogil:
            if is_wide:
                added = c_add(arena.c, &rows[0], &wide[0], <int32_t> rows.shape[0], k, checked)
            else:
                added = c_add(arena.c, &rows[0], &narrow[0], <int32_t> rows.shape[0], k, checked)
    return added


cdef int32_t check_known(const int32_t[::1] rows, int32_t k, int32_t below) except -1:
    """Raises ValueError: a negative `k`, or a row that is not below `below`."""
    cdef Py_ssize_t i
    if rows.shape[0] > 0x7FFFFFFF:
        raise ValueError(f"{rows.shape[0]} rows")
    if k < 0:
        raise ValueError(f"k must not be negative, got {k}")
    for i in range(rows.shape[0]):
        if rows[i] >= below:
            raise ValueError(f"rows[{i}] is {rows[i]}; rows here are below {below}")
    return 0


def merge(Arena arena not None, const int32_t[::1] rows not None, const double[::1] weights not None, int32_t k, *,
          bint largest=False):
    """The `k` rows with the largest sum of `weights` [n] float64, or with the largest of them, best first: int32 and
    float64 [<= k].

    `rows` [n] int32 may hold one several times; negative ones are unknown and left out, as are those of items that are
    gone. Equal weights by lower row. Uses scratch of the arena; adds nothing.

    Raises:
        ValueError: lengths differ, a row is not below those of `arena.follow`, a weight is NaN, or `k` is negative.
    """
    if rows.shape[0] != weights.shape[0]:
        raise ValueError(f"{rows.shape[0]} rows, {weights.shape[0]} weights")
    check_known(rows, k, arena.c.overlay.rows)
    cdef Py_ssize_t i
    for i in range(weights.shape[0]):
        if weights[i] != weights[i]:  # sums must have an order
            raise ValueError(f"weights[{i}] is not a number")
    cdef int32_t count = 0
    if rows.shape[0]:
        with nogil:
            count = c_merge(arena.c, &rows[0], &weights[0], <int32_t> rows.shape[0], largest, k)
    best, sums = np.empty(count, np.int32), np.empty(count)
    cdef int32_t[::1] row = best
    cdef double[::1] total = sums
    for i in range(count):
        row[i] = arena.c.touched[i]
        total[i] = arena.c.sum[arena.c.touched[i]]
    return best, sums


def in_turn(Arena arena not None, const int32_t[::1] rows not None, const int64_t[::1] offset not None, int32_t k):
    """Places in `rows` [n] int32 of `k` rows, one of each list `rows[offset[i]:offset[i + 1]]` in turn and none twice:
    int32 [<= k].

    Negative rows are unknown and left out, as are those of items that are gone. Uses scratch of the arena.

    Raises:
        ValueError: a row is not below those of `arena.follow`, `k` is negative, or `offset` does not fit.
    """
    check_known(rows, k, arena.c.overlay.rows)
    offsets = np.asarray(offset)
    cdef Py_ssize_t lists = offset.shape[0] - 1
    if lists < 0 or offset[0] != 0 or offset[lists] != rows.shape[0] or (np.diff(offsets) < 0).any():
        raise ValueError("offset must run from 0 to the number of rows and not decrease")
    cdef int64_t[::1] next = offsets[:lists].copy()
    places = np.empty(min(k, rows.shape[0]), np.int32)
    cdef int32_t[::1] taken = places
    cdef int32_t count = 0
    if places.size:
        with nogil:
            count = c_in_turn(arena.c, &rows[0], &offset[0], &next[0], <int32_t> lists, <int32_t> taken.shape[0],
                              &taken[0])
    return places[:count]


cdef class Neighbours:
    """An item-to-item table. Immutable; keeps its arrays alive.

    Args:
        offset: int64 [items + 1]; the neighbours of `row` are `offset[row]` to `offset[row + 1]`.
        neighbour: int32 rows.
        weight: float32, finite: sums must have an order.

    Raises:
        ValueError: the arrays do not fit together, a neighbour is no row, or a weight is not finite.
    """

    def __cinit__(self, const int64_t[::1] offset not None, const int32_t[::1] neighbour not None,
                  const float[::1] weight not None):
        offsets, rows = np.asarray(offset), np.asarray(neighbour)
        items = len(offsets) - 1
        if items < 1 or offsets[0] != 0 or offsets[items] != len(rows) or len(rows) != weight.shape[0]:
            raise ValueError("offset must run from 0 to the number of neighbours, one weight each")
        if (np.diff(offsets) < 0).any():
            raise ValueError("offset must not decrease")
        if len(rows) and not (rows.min() >= 0 and rows.max() < items):
            raise ValueError(f"a neighbour is not a row below {items}")
        if not np.isfinite(np.asarray(weight)).all():
            raise ValueError("a weight is not finite")
        self.offset, self.neighbour, self.weight = offsets, rows, np.asarray(weight)
        self.items = items
        self.c.offset = &offset[0]
        self.c.neighbour = &neighbour[0] if len(rows) else NULL
        self.c.weight = &weight[0] if len(rows) else NULL

    def add_similar(self, Arena arena not None, const int32_t[::1] history not None, int32_t k, int32_t source, *,
                    bint normalize=False) -> int:
        """Add the `k` items with the largest sum of weights over `history` [n] int32 rows. Returns how many were new.

        Sums in float64 in the order of `history`; equal sums by lower row. `normalize`: divided by the first and largest,
        where that is positive.

        Raises:
            ValueError: the arena is made for fewer items, a row of `history` is not in the table, `k` is negative or
                `source` is not 0 to 255.
        """
        if arena.c.overlay.rows < self.items:
            raise ValueError(f"arena for {arena.c.overlay.rows} items, table of {self.items}")
        if k < 0:
            raise ValueError(f"k must not be negative, got {k}")
        cdef uint8_t checked = check_source(source)
        cdef int32_t slot, before = arena.c.count, added = 0
        cdef double largest
        if history.shape[0]:
            check_rows("history", &history[0], history.shape[0], self.items)
            with nogil:
                added = c_add_similar(arena.c, self.c, &history[0], <int32_t> history.shape[0], k, checked)
        if normalize and added and arena.c.recall_score[before] > 0:
            largest = arena.c.recall_score[before]
            for slot in range(before, before + added):
                arena.c.recall_score[slot] = arena.c.recall_score[slot] / largest
        return added


def nearest(Arena arena not None, VectorIndex index not None, const int32_t[::1] rows not None,
            const float[::1] query not None, int32_t k, int64_t effort, int32_t source, *, Filter allow=None,
            const int32_t[::1] deny=None, bint adaptive=False) -> int:
    """Add the `k` items nearest to `query` [dim] float32, best first, within `effort`. Returns how many were new.

    Args:
        rows: int32 [index.count + its spare] or longer: which item each vector of the index belongs to.
        effort: 0 is what the index was built with, as for `VectorIndex.search`.
        allow: rows of the index that may be found; or all.
        deny: rows of the index that may not.
        adaptive: mode `recall` of `VectorIndex.search`.

    A zero query has no direction: it adds nothing. Allocates nothing once a search of this size has run.

    Raises:
        ValueError: dimensions or sizes do not fit, or a row is not one of the arena's items.
    """
    cdef uint8_t checked = check_source(source)
    if query.shape[0] != index.dim:
        raise ValueError(f"query of {query.shape[0]} dimensions, index of {index.dim}")
    cdef int32_t count = len(index)
    if rows.shape[0] < index.count + index.c.fresh.capacity:
        raise ValueError(f"{rows.shape[0]} rows, index of {index.count} and {index.c.fresh.capacity} spare")
    if k <= 0 or effort < 0:
        raise ValueError(f"k {k} must be positive and effort {effort} not negative")
    if allow is not None and allow.index is not index:
        raise ValueError("allow is a Filter of another index")
    cdef int32_t i, found, added = 0
    cdef bint zero = True
    for i in range(query.shape[0]):
        if query[i] != 0:
            zero = False
    if zero:
        return 0
    k = min(k, count)
    cdef int32_t denied = 0 if deny is None else <int32_t> deny.shape[0]
    cdef c_Work work = index._work(min(k + denied, index.count), effort)
    work.adaptive = adaptive
    cdef c_Allow allowed = allow.c if allow is not None else nothing(index.count)
    if denied:
        check_rows("deny", &deny[0], denied, count)
        allowed.deny, allowed.deny_count = &deny[0], denied
    cdef SearchScratch scratch = index._take(k, work, allowed)
    cdef Strategy strategy
    with nogil:
        index.prepare(&query[0], scratch.query)
        found = index.search_into(scratch.query, k, work, allowed, scratch, scratch.rows, scratch.scores, &strategy)
        for i in range(found):
            scratch.rows[i] = rows[scratch.rows[i]]
        if rows_within(scratch.rows, found, arena.c.overlay.rows):
            added = c_add(arena.c, scratch.rows, scratch.scores, found, found, checked)
        else:
            added = -1
    index._free.append(scratch)
    if added < 0:
        raise ValueError(f"rows lead beyond the {arena.c.overlay.rows} items of the arena")
    return added
