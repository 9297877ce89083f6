"""Which candidates may be shown. Each call drops what it must and closes the gaps; returns how many were dropped."""

from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memset

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows


cdef extern from "filter.hpp" namespace "pairec" nogil:
    void c_keep_all "pairec::keep_all"(c_Arena&) noexcept
    void c_drop_exposed "pairec::drop_exposed"(c_Arena&, const int32_t*, int32_t) noexcept
    void c_keep_allowed "pairec::keep_allowed"(c_Arena&, const uint8_t*) noexcept
    int32_t c_compact "pairec::compact"(c_Arena&) noexcept
    void c_select "pairec::select"(c_Arena&, const int32_t*, int32_t) noexcept


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


def keep(Arena arena not None, const uint8_t[::1] kept not None) -> int:
    """Drop the candidates in whose slot `kept` [arena.count] uint8 has a zero.

    Raises:
        ValueError: it has another length.
    """
    cdef int32_t before = arena.c.count
    if kept.shape[0] != before:
        raise ValueError(f"kept has {kept.shape[0]} slots, the arena {before}")
    cdef int32_t slot
    for slot in range(before):
        arena.c.keep[slot] = kept[slot] != 0
    with nogil:
        c_compact(arena.c)
    return before - arena.c.count


def select(Arena arena not None, const int32_t[::1] slots not None) -> None:
    """The candidates become those in `slots` [n] int32, in that order.

    Raises:
        ValueError: a slot is not live, or given twice.
    """
    cdef int32_t count = arena.c.count, chosen
    if slots.shape[0] > count:
        raise ValueError(f"{slots.shape[0]} slots of {count}")
    if slots.shape[0] == 0:
        arena.c.count = 0
        return
    check_rows("slots", &slots[0], slots.shape[0], count)
    memset(arena.c.keep, 0, count)
    for chosen in range(<int32_t> slots.shape[0]):
        if arena.c.keep[slots[chosen]]:
            raise ValueError(f"slots[{chosen}] is {slots[chosen]}, which is given twice")
        arena.c.keep[slots[chosen]] = 1
    with nogil:
        c_select(arena.c, &slots[0], <int32_t> slots.shape[0])
