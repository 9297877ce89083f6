"""In what order candidates are shown."""

from libc.stdint cimport int32_t, uint8_t
from libcpp.vector cimport vector

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows


cdef extern from "rerank.hpp" namespace "pairec" nogil:
    ctypedef struct c_DiversityRule "pairec::DiversityRule":
        const int32_t* value
        int32_t interval
        int32_t window
        int32_t frequency
        double weight
    void c_top_k "pairec::top_k"(c_Arena&, int32_t) noexcept
    void c_diversify "pairec::diversify"(c_Arena&, const c_DiversityRule*, int32_t, int32_t, int32_t,
                                         const uint8_t*) noexcept


def top_k(Arena arena not None, int32_t size) -> None:
    """Order the `size` best candidates by score; fewer if the arena holds fewer.

    Reads `score`, `row`; writes `order`, `order_count`. Equal scores by lower row; a NaN becomes minus infinity.

    Raises:
        ValueError: `size` is not positive.
    """
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    size = min(size, arena.c.count)
    arena.c.order_count = size
    if size > 0:
        with nogil:
            c_top_k(arena.c, size)


def in_order(Arena arena not None) -> None:
    """Order the candidates as they came. Writes `order`, `order_count`."""
    cdef int32_t slot
    for slot in range(arena.c.count):
        arena.c.order[slot] = slot
    arena.c.order_count = arena.c.count


cdef class DiversityRules:
    """Rules of PAI-Rec's DiversityRuleSort over an item table. Immutable.

    Args:
        rules: (value int32 [items], interval, window, frequency, weight) each; equal numbers are equal values.
        apart: sources (0 to 255) that are appended at the end instead.
        explore: candidates looked at for each place; 0 means all.

    Raises:
        ValueError: a source is not 0 to 255, or a weight is NaN.
    """

    cdef vector[c_DiversityRule] c
    cdef uint8_t apart[256]
    cdef int32_t explore
    cdef int32_t items
    cdef list values

    def __cinit__(self, list rules not None, apart=(), int32_t explore=0):
        cdef c_DiversityRule rule
        cdef const int32_t[::1] value
        self.values = []
        self.items = 0x7FFFFFFF
        for value, interval, window, frequency, weight in rules:
            if value is None or weight != weight:
                raise ValueError("a rule needs an array of values and a weight that is not NaN")
            self.values.append(value)
            self.items = <int32_t> min(self.items, value.shape[0])
            rule.value = &value[0]
            rule.interval, rule.window, rule.frequency, rule.weight = interval, window, frequency, weight
            self.c.push_back(rule)
        for source in range(256):
            self.apart[source] = 0
        for source in apart:
            if not 0 <= source <= 255:
                raise ValueError(f"apart: a source must be 0 to 255, got {source}")
            self.apart[source] = 1
        self.explore = explore

    def apply(self, Arena arena not None, int32_t size) -> None:
        """Reorder `order` so that its first `size` + 1 places keep the rules as far as they can. Reads `row`, `source`.

        Without rules nothing moves, as in PAI-Rec.

        Raises:
            ValueError: a candidate's row is beyond a rule's values, or `order` names a slot that is not live.
        """
        if arena.c.order_count > 1 and self.c.size():
            check_candidates(arena, self.items)
            check_rows("arena.order", arena.c.order, arena.c.order_count, arena.c.count)
            with nogil:
                c_diversify(arena.c, self.c.data(), <int32_t> self.c.size(), size, self.explore, self.apart)
