"""In what order candidates are shown."""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows


cdef extern from "rerank.hpp" namespace "pairec" nogil:
    void c_top_k "pairec::top_k"(c_Arena&, int32_t) noexcept
    void c_order_by "pairec::order_by"(c_Arena&, const double*, bint, int32_t) noexcept
    void c_settle_scores "pairec::settle_scores"(c_Arena&) noexcept

cdef extern from "diversity.hpp" namespace "pairec" nogil:
    ctypedef struct c_Values "pairec::Values":
        const int32_t* code
        const int32_t* offset
        const int32_t* value
    ctypedef struct c_DiversityRule "pairec::DiversityRule":
        const int32_t* value
        const int32_t* row
        const c_Values* values
        int32_t values_count
        int32_t interval
        int32_t window
        int32_t frequency
        double weight
    ctypedef struct c_Exclusion "pairec::Exclusion":
        const uint8_t* match
        const uint8_t* at
        int32_t at_count
    ctypedef struct c_Diversity "pairec::Diversity":
        const c_DiversityRule* rules
        int32_t rule_count
        const c_Exclusion* exclusions
        int32_t exclusion_count
        int32_t size
        int32_t explore
        const uint8_t* apart
    void c_diversify "pairec::diversify"(c_Arena&, const c_Diversity&, int32_t*) noexcept

cdef extern from "mix.hpp" namespace "pairec" nogil:
    ctypedef struct c_MixRule "pairec::MixRule":
        const uint8_t* match
        int32_t capacity
        bint random
        const int32_t* place
        int32_t place_count
        const int32_t* own_place
    ctypedef struct c_Mix "pairec::Mix":
        const c_MixRule* rules
        int32_t rule_count
        int32_t size
        bint remain
        uint64_t seed
    void c_mix "pairec::mix"(c_Arena&, const c_Mix&, int32_t*) noexcept


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


def order_by(Arena arena not None, const double[::1] key not None, *, bint descending=True, int32_t size=0x7FFFFFFF) -> None:
    """Reorder what is in order by `key` [arena.count] float64 of the slots: the first `size` of them, equal keys as they
    were. Reads and writes `order`, `order_count`. No key may be NaN.

    Raises:
        ValueError: another length, a negative size, or `order` names a slot that is not live.
    """
    if key.shape[0] != arena.c.count or size < 0:
        raise ValueError(f"{key.shape[0]} keys for {arena.c.count} candidates, size {size}")
    check_order(arena)
    if arena.c.order_count:
        with nogil:
            c_order_by(arena.c, &key[0], descending, min(size, arena.c.order_count))


def order_by_score(Arena arena not None, int32_t size=0x7FFFFFFF) -> None:
    """`order_by` the score, descending; a score that is NaN becomes minus infinity.

    Raises:
        ValueError: a size that is not positive, or `order` names a slot that is not live.
    """
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    check_order(arena)
    with nogil:
        c_settle_scores(arena.c)
        c_order_by(arena.c, arena.c.score, True, min(size, arena.c.order_count))


def set_order(Arena arena not None, const int32_t[::1] slots not None) -> None:
    """`slots` [n] are the order, whatever it was.

    Raises:
        ValueError: more than there are candidates, or one that is not live.
    """
    cdef int32_t count = <int32_t> min(slots.shape[0], 0x7FFFFFFF)
    if count > arena.c.count:
        raise ValueError(f"{count} slots for {arena.c.count} candidates")
    if count:
        check_rows("slots", &slots[0], count, arena.c.count)
        memcpy(arena.c.order, &slots[0], 4 * <size_t> count)
    arena.c.order_count = count


cdef int check_order(Arena arena) except -1:
    check_rows("arena.order", arena.c.order, arena.c.order_count, arena.c.count)
    return 0


cdef class ValueLists:
    """Lists of values by code: those of code c are `value[offset[c]:offset[c + 1]]`, ascending, at least one. Immutable.

    Raises:
        ValueError: offsets that do not fit, an empty list, or one that does not ascend.
    """

    cdef const int32_t[::1] offset
    cdef const int32_t[::1] value
    cdef readonly int32_t count

    def __cinit__(self, const int32_t[::1] offset not None, const int32_t[::1] value not None):
        cdef Py_ssize_t code, at, lists = offset.shape[0] - 1
        if lists < 0 or offset[0] != 0 or offset[lists] != value.shape[0] or lists > 0x7FFFFFFF:
            raise ValueError(f"offsets must lead from 0 to the {value.shape[0]} values")
        for code in range(lists):
            if not 0 <= offset[code] < offset[code + 1] <= value.shape[0]:
                raise ValueError(f"list {code} lies at {offset[code]} to {offset[code + 1]}; it needs a value")
            for at in range(offset[code] + 1, offset[code + 1]):
                if value[at] <= value[at - 1]:
                    raise ValueError(f"list {code} has {value[at]} behind {value[at - 1]}")
        self.offset, self.value, self.count = offset, value, <int32_t> lists


cdef class DiversityRules:
    """Rules of PAI-Rec's DiversityRuleSort. Immutable.

    Args:
        rules: (interval, window, frequency, weight) each.
        apart: sources (0 to 255) that are appended at the end instead.
        explore: how far behind the first candidate for a place others are looked at; 0 means all.
        by_row: for each rule int32 [items], the values that `apply` compares when it is given none: kept, and read as
            they are then.

    Raises:
        ValueError: not as many arrays as rules, a source is not 0 to 255, or a weight is NaN.
    """

    cdef vector[c_DiversityRule] c
    cdef uint8_t apart[256]
    cdef bint has_apart
    cdef int32_t explore
    cdef list by_row
    cdef vector[const int32_t*] tables
    cdef int32_t items

    def __cinit__(self, list rules not None, apart=(), int32_t explore=0, by_row=None):
        cdef c_DiversityRule rule
        cdef const int32_t[::1] table
        cdef const int32_t* data
        self.by_row = [] if by_row is None else list(by_row)
        if by_row is not None and len(self.by_row) != len(rules):
            raise ValueError(f"arrays of {len(self.by_row)} rules; there are {len(rules)}")
        self.items = 0x7FFFFFFF
        for table in self.by_row:
            data = NULL
            if table.shape[0]:
                data = &table[0]
            self.tables.push_back(data)
            self.items = <int32_t> min(self.items, table.shape[0])
        rule.value = NULL
        rule.row = NULL
        rule.values = NULL
        rule.values_count = 0
        for interval, window, frequency, weight in rules:
            if weight != weight:
                raise ValueError("a weight must not be NaN")
            rule.interval, rule.window, rule.frequency, rule.weight = interval, window, frequency, weight
            self.c.push_back(rule)
        for source in range(256):
            self.apart[source] = 0
        for source in apart:
            if not 0 <= source <= 255:
                raise ValueError(f"apart: a source must be 0 to 255, got {source}")
            self.apart[source] = 1
            self.has_apart = True
        self.explore = explore

    def apply(self, Arena arena not None, int32_t size, list values=None, list exclusions=None) -> None:
        """Reorder `order` so that its first `size` + 1 places keep the rules as far as they can. Reads `source`, `row`.

        Args:
            values: for each rule (int32 [count] or None, [(code int32 [count], ValueLists), ...]): equal numbers are
                equal values, and of each list of dimensions with several values one must be shared. None: `by_row`.
            exclusions: (match uint8 [count], at uint8 [places]) each: who matches stands at no place with a one.

        Raises:
            ValueError: arrays of another length, a code without a list, a candidate's row beyond `by_row`, or `order`
                names a slot that is not live.
        """
        cdef Py_ssize_t i
        cdef int32_t count = arena.c.count
        cdef c_Diversity conf
        cdef vector[c_DiversityRule] rules = self.c
        cdef vector[c_Values] several
        cdef vector[c_Exclusion] excluded
        cdef c_Values one
        cdef c_Exclusion exclusion
        cdef const int32_t[::1] value
        cdef const uint8_t[::1] match, at
        cdef ValueLists lists
        cdef vector[int32_t] link
        if (self.tables.size() if values is None else len(values)) != rules.size():
            raise ValueError(f"values of {len(values or self.by_row)} rules; there are {rules.size()}")
        check_order(arena)
        if arena.c.order_count < 2 or rules.size() == 0:
            return
        if values is None:
            check_candidates(arena, self.items)
            for i in range(<Py_ssize_t> rules.size()):
                rules[i].value, rules[i].row = self.tables[i], arena.c.row
        else:
            several.reserve(sum([len(dimensions) for _, dimensions in values]))  # so that pointers into it stay
        for i in range(0 if values is None else len(values)):
            plain, dimensions = values[i]
            if plain is not None:
                value = plain
                check_length("values", value.shape[0], count)
                rules[i].value = &value[0]
            rules[i].values = several.data() + several.size()
            rules[i].values_count = <int32_t> len(dimensions)
            for code, lists in dimensions:
                value = code
                check_length("codes", value.shape[0], count)
                check_rows("codes", &value[0], count, lists.count)
                one.code, one.offset, one.value = &value[0], &lists.offset[0], &lists.value[0]
                several.push_back(one)
        for match, at in exclusions or ():
            check_length("match", match.shape[0], count)
            if at.shape[0]:
                exclusion.match, exclusion.at = &match[0], &at[0]
                exclusion.at_count = <int32_t> min(at.shape[0], 0x7FFFFFFF)
                excluded.push_back(exclusion)
        conf.rules, conf.rule_count = rules.data(), <int32_t> rules.size()
        conf.exclusions, conf.exclusion_count = excluded.data(), <int32_t> excluded.size()
        conf.size, conf.explore = size, self.explore
        conf.apart = NULL
        if self.has_apart:
            conf.apart = self.apart
        link.resize(arena.c.order_count)
        with nogil:
            c_diversify(arena.c, conf, link.data())


cdef int check_length(str name, Py_ssize_t length, int32_t count) except -1:
    if length != count:
        raise ValueError(f"{name} has {length} slots, the arena {count}")
    return 0


def mix(Arena arena not None, list rules not None, int32_t size, *, bint remain=False, uint64_t seed=0) -> None:
    """Reorder `order` by PAI-Rec's MultiRecallMixSort: `size` places, and with `remain` all others behind them.

    Args:
        rules: (match uint8 [count], capacity, random, place int32 [n] from 1 on, own_place int32 [count] or None) each.
        seed: of what is drawn.

    Raises:
        ValueError: arrays of another length, a place below 1, or a size that is not positive.
    """
    cdef int32_t count = arena.c.count
    cdef vector[c_MixRule] own
    cdef c_MixRule rule
    cdef c_Mix conf
    cdef const uint8_t[::1] match
    cdef const int32_t[::1] place, own_place
    cdef vector[int32_t] scratch
    if size <= 0:
        raise ValueError(f"size must be positive, got {size}")
    check_order(arena)
    if arena.c.order_count < size:
        return
    for match, capacity, random, place, own_place in rules:
        check_length("match", match.shape[0], count)
        rule.match, rule.capacity, rule.random = &match[0], capacity, random
        rule.place = NULL
        rule.own_place = NULL
        rule.place_count = <int32_t> place.shape[0]
        if rule.place_count:
            rule.place = &place[0]
            if min(place) < 1:
                raise ValueError(f"a place is {min(place)}; the first is 1")
        if own_place is not None:
            check_length("own_place", own_place.shape[0], count)
            rule.own_place = &own_place[0]
        own.push_back(rule)
    conf.rules, conf.rule_count, conf.size, conf.remain, conf.seed = own.data(), <int32_t> own.size(), size, remain, seed
    scratch.resize(2 * arena.c.order_count + max(arena.c.order_count, conf.rule_count))
    with nogil:
        c_mix(arena.c, conf, scratch.data())
