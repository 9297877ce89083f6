"""Which candidates may be shown. Each call drops what it must and closes the gaps; returns how many were dropped."""

from libc.stdint cimport int32_t, uint8_t

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows


cdef extern from "filter.hpp" namespace "pairec" nogil:
    void c_keep_all "pairec::keep_all"(c_Arena&) noexcept
    void c_drop_exposed "pairec::drop_exposed"(c_Arena&, const int32_t*, int32_t) noexcept
    void c_keep_allowed "pairec::keep_allowed"(c_Arena&, const uint8_t*) noexcept
    int32_t c_compact "pairec::compact"(c_Arena&) noexcept


def drop_exposed(Arena arena not None, const int32_t[::1] exposed not None) -> int:
    """Drop candidates that are the item of a row in `exposed` [any] int32, by whichever row each comes.

    Raises:
        ValueError: an exposed row, or a candidate's, is not below `arena.items_max`.
    """
    cdef int32_t before = arena.c.count
    if before == 0 or exposed.shape[0] == 0:
        return 0
    check_rows("exposed", &exposed[0], exposed.shape[0], arena.c.overlay.rows)
    check_candidates(arena, arena.c.overlay.rows)
    with nogil:
        c_keep_all(arena.c)
        c_drop_exposed(arena.c, &exposed[0], exposed.shape[0])
        c_compact(arena.c)
    return before - arena.c.count


def keep_allowed(Arena arena not None, const uint8_t[::1] allowed not None) -> int:
    """Drop candidates whose row has a zero in `allowed` [items] uint8.

    Raises:
        ValueError: a candidate's row is not below the length of `allowed`.
    """
    cdef int32_t before = arena.c.count
    if before == 0:
        return 0
    check_candidates(arena, <int32_t> min(allowed.shape[0], 0x7FFFFFFF))
    with nogil:
        c_keep_all(arena.c)
        c_keep_allowed(arena.c, &allowed[0])
        c_compact(arena.c)
    return before - arena.c.count
