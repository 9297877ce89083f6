"""What a side pipeline found joins the candidates of the main line."""

from libc.stdint cimport int32_t

import numpy as np

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows


cdef extern from "join.hpp" namespace "pairec" nogil:
    int32_t c_join "pairec::join"(c_Arena&, const c_Arena&, int32_t*) noexcept


def join(Arena into not None, Arena other not None):
    """Append what `other` has ordered, in its order, but for items that `into` has; until `into` is full.

    Reads of `other` `order`, `row`, `source`, `recall_score`, `score`, `algo_score`; appends all but `order`, and `place`:
    one that no candidate of `into` has. Returns int32 [other.order_count]: the slot in `into` of each, its own or that of
    the same item; -1 where there was no room.

    Raises:
        ValueError: they are one arena, scores do not live in both, they follow different overlays, or a row, place or
            slot is not one.
    """
    if into is other or into._overlay is not other._overlay:
        raise ValueError("an arena is joined by another one that follows the same overlay")
    if not into.c.scored or not other.c.scored:
        raise ValueError("scores must live in both arenas")
    targets = np.empty(other.c.order_count, np.int32)
    if targets.size == 0:
        return targets
    check_candidates(into, into.c.overlay.rows)
    check_candidates(other, into.c.overlay.rows)
    check_rows("arena.place", into.c.place, into.c.count, into.c.candidates_max)
    check_rows("other.order", other.c.order, other.c.order_count, other.c.count)
    cdef int32_t[::1] target = targets
    with nogil:
        c_join(into.c, other.c, &target[0])
    return targets
