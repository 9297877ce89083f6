"""Which candidates go on and in what order, where a filter counts instead of testing. Plain columns in, slots out."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

import numpy as np

from pairec_fast.core.arena cimport Arena, check_candidates, check_rows


cdef extern from "pick.hpp" namespace "pairec" nogil:
    cdef struct c_Candidates "pairec::Candidates":
        int32_t count
        const int32_t* item
        const uint8_t* source
        const double* score
        const int32_t* place
        const int32_t* next
        const uint8_t* came_source
        const double* came_score
    cdef struct c_Share "pairec::Share":
        int32_t source
        int32_t count
        int32_t weight
        bint accumulates
    cdef struct c_Visit "pairec::Visit":
        int32_t number
        int32_t rank
        double score
        uint8_t source
    cdef cppclass c_Workspace "pairec::Workspace":
        vector[int32_t] slots
        vector[uint8_t] source
        vector[double] score
        vector[c_Visit] visits
        int32_t kept
        int32_t visited
        void prepare(int32_t, int64_t, int32_t, int32_t) except +
    void c_merge "pairec::merge"(const int32_t*, const int32_t*, const uint8_t*, const double*, int32_t, int32_t*,
                                 uint8_t*, double*, c_Workspace&) noexcept
    void c_adjust_count "pairec::adjust_count"(int32_t, int32_t, bint, uint64_t, c_Workspace&) noexcept
    void c_completely_fair "pairec::completely_fair"(const c_Candidates&, int32_t, c_Workspace&) noexcept
    void c_diversity_adjust "pairec::diversity_adjust"(const c_Candidates&, const c_Share*, int32_t, const uint8_t*,
                                                       uint64_t, c_Workspace&) noexcept
    void c_unique_codes "pairec::unique_codes"(const int32_t*, int32_t, c_Workspace&) noexcept

cdef extern from "priority.hpp" namespace "pairec" nogil:
    cdef struct c_Quotas "pairec::Quotas":
        int32_t fields
        const int32_t* code
        int32_t least
    void c_priority "pairec::priority"(const c_Candidates&, const c_Share*, int32_t, const c_Quotas&, uint64_t,
                                       c_Workspace&) noexcept
    void c_priority_of_many "pairec::priority_of_many"(const c_Candidates&, const c_Share*, int32_t, uint64_t,
                                                       c_Workspace&) noexcept

cdef extern from "snake.hpp" namespace "pairec" nogil:
    void c_snake "pairec::snake"(const c_Candidates&, const c_Share*, int32_t, int32_t, bint, c_Workspace&) noexcept

cdef extern from "groups.hpp" namespace "pairec" nogil:
    cdef struct c_GroupShares "pairec::GroupShares":
        int32_t retain
        double weight
        int32_t least
        int32_t most
        bint softmax
    cdef struct c_Limits "pairec::Limits":
        int32_t count
        const int32_t* code
        const int32_t* most
    void c_group_weight "pairec::group_weight"(const c_Candidates&, const int32_t*, const c_GroupShares&,
                                               const c_Limits&, c_Workspace&) noexcept


cdef class Workspace:
    cdef c_Workspace c


_free = []  # workspaces nobody uses: as many as threads ever picked at once


cdef Workspace _take(int64_t count, int64_t entries, int32_t lists=0, int32_t fields=0):
    if entries > 0x7FFFFFFF:
        raise ValueError(f"{count} candidates and what was merged: at most 2147483647 entries")
    cdef Workspace ws = _free.pop() if _free else Workspace()
    ws.c.prepare(<int32_t> count, entries, lists, fields)
    return ws


cdef object _slots(Workspace ws):
    cdef int32_t[::1] out
    array = np.empty(ws.c.kept, np.int32)
    if ws.c.kept:
        out = array
        memcpy(&out[0], ws.c.slots.data(), sizeof(int32_t) * ws.c.kept)
    return array


cdef object _source(Workspace ws):
    cdef uint8_t[::1] out
    array = np.empty(ws.c.kept, np.uint8)
    if ws.c.kept:
        out = array
        memcpy(&out[0], ws.c.source.data(), ws.c.kept)
    return array


cdef object _score(Workspace ws):
    cdef double[::1] out
    array = np.empty(ws.c.kept, np.float64)
    if ws.c.kept:
        out = array
        memcpy(&out[0], ws.c.score.data(), sizeof(double) * ws.c.kept)
    return array


cdef class Merged:
    """What UniqueFilter merged: for each place of recall, which recall filled it with what score, and where the same item
    came again. Made by `merge`."""

    cdef int32_t[::1] next
    cdef uint8_t[::1] source
    cdef double[::1] score

    def scores(self, int32_t place) -> list[tuple[int, float]]:
        """(source, score) of all recalls that brought the item whose first candidate came at `place`: PAI-Rec's
        RecallScores. Of several scores of one recall, the last.

        Raises:
            ValueError: nothing came there.
        """
        if not 0 <= place < self.next.shape[0] or self.next[place] < -1:
            raise ValueError(f"place is {place}, where no candidate came")
        found = {}
        while place >= 0:
            found[self.source[place]] = self.score[place]
            place = self.next[place]
        return list(found.items())


def item_numbers(Arena arena not None):
    """A number for each live candidate, the same for all that are one item, by whichever row they came. int32.

    Raises:
        ValueError: a candidate's row is none of the arena's items.
    """
    cdef int32_t slot, count = arena.c.count
    cdef int32_t[::1] item = np.empty(count, np.int32)
    if count:
        check_candidates(arena, arena.c.overlay.rows)
    for slot in range(count):
        item[slot] = arena.c.overlay.item_of(arena.c.row[slot])
    return np.asarray(item)


def exposed_slots(Arena arena not None, const int32_t[::1] exposed not None):
    """The slots of candidates that are the item of a row in `exposed` [any] int32. int32.

    Raises:
        ValueError: an exposed row, or a candidate's, is none of the arena's items.
    """
    cdef int32_t slot
    cdef Py_ssize_t i
    slots = []
    if arena.c.count and exposed.shape[0]:
        check_rows("exposed", &exposed[0], exposed.shape[0], arena.c.overlay.rows)
        check_candidates(arena, arena.c.overlay.rows)
        arena.c.mark.clear()
        for i in range(exposed.shape[0]):
            arena.c.mark.insert(arena.c.overlay.item_of(exposed[i]))
        for slot in range(arena.c.count):
            if arena.c.mark.contains(arena.c.overlay.item_of(arena.c.row[slot])):
                slots.append(slot)
    return np.array(slots, np.int32)


def merge(const int32_t[::1] item not None, const int32_t[::1] place not None, const uint8_t[::1] source not None,
          const double[::1] score not None):
    """The first slot of each `item` [n], and what was merged into these. `place` [n] tells where recall put each.

    Returns slots int32, Merged.

    Raises:
        ValueError: lengths differ, or a place is negative or given twice.
    """
    cdef Py_ssize_t count = item.shape[0], slot
    cdef int32_t places = 0
    _same_length(count, place.shape[0], source.shape[0], score.shape[0])
    for slot in range(count):
        if not 0 <= place[slot] < 0x7FFFFFFF:
            raise ValueError(f"place[{slot}] is {place[slot]}; places are 0 to 2147483646")
        places = max(places, place[slot] + 1)
    cdef Merged merged = Merged.__new__(Merged)
    merged.next = np.full(places, -2, np.int32)
    merged.source = np.zeros(places, np.uint8)
    merged.score = np.zeros(places, np.float64)
    for slot in range(count):  # a place given twice would make a chain that never ends
        if merged.next[place[slot]] != -2:
            raise ValueError(f"place[{slot}] is {place[slot]}, which is given twice")
        merged.next[place[slot]] = -1
    cdef Workspace ws = _take(count, 0)
    if count:
        with nogil:
            c_merge(&item[0], &place[0], &source[0], &score[0], <int32_t> count, &merged.next[0], &merged.source[0],
                    &merged.score[0], ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots, merged


cdef class Shares:
    """PAI-Rec's AdjustCountConfs: (source, count, weight, accumulates) each; source -1 is a recall without candidates.

    Raises:
        ValueError: none, a source above 255, or a count or weight below 0 or of more than 31 bits.
    """

    cdef vector[c_Share] c

    def __cinit__(self, shares):
        cdef c_Share share
        for source, count, weight, accumulates in shares:
            if not -1 <= source <= 255:
                raise ValueError(f"source must be -1 to 255, got {source}")
            for name, value in (("count", count), ("weight", weight)):
                if not 0 <= value <= 0x7FFFFFFF:
                    raise ValueError(f"{name} must be 0 to 2147483647, got {value}")
            share.source, share.count, share.weight, share.accumulates = source, count, weight, accumulates
            self.c.push_back(share)
        if self.c.empty():
            raise ValueError("no shares")

    def __len__(self) -> int:
        return <int32_t> self.c.size()


cdef int _same_length(Py_ssize_t first, Py_ssize_t second, Py_ssize_t third, Py_ssize_t fourth) except -1:
    if not first == second == third == fourth or first > 0x7FFFFFFF:
        raise ValueError(f"columns of {first}, {second}, {third} and {fourth} candidates")
    return 0


cdef int _not_negative(str name, int64_t value) except -1:
    if not 0 <= value <= 0x7FFFFFFF:
        raise ValueError(f"{name} must be 0 to 2147483647, got {value}")
    return 0


cdef c_Candidates _candidates(const uint8_t[::1] source, const double[::1] score) except *:
    cdef c_Candidates all
    _same_length(source.shape[0], score.shape[0], score.shape[0], score.shape[0])
    all.count = <int32_t> source.shape[0]
    if all.count:
        all.source, all.score = &source[0], &score[0]
    return all


cdef int64_t _merged(c_Candidates* all, const int32_t[::1] place, Merged merged) except -1:
    """Point `all` at what was merged; how many entries the lists of a kernel may have."""
    if merged is None:
        return all.count
    if place is None:
        raise ValueError("merged without place")
    _same_length(all.count, place.shape[0], place.shape[0], place.shape[0])
    cdef int32_t slot
    cdef Py_ssize_t places = merged.next.shape[0]
    if all.count:
        check_rows("place", &place[0], all.count, <int32_t> places)
        for slot in range(all.count):
            if merged.next[place[slot]] < -1:
                raise ValueError(f"place[{slot}] is {place[slot]}, where no candidate came")
        all.place, all.next = &place[0], &merged.next[0]
        all.came_source, all.came_score = &merged.source[0], &merged.score[0]
    return all.count + places


def adjust_count(int32_t count, int32_t retain, *, bint shuffled=False, uint64_t seed=0):
    """The first `retain` of `count` slots; with `shuffled`, of a permutation of them, unless all stay. int32.

    Raises:
        ValueError: a number is negative.
    """
    _not_negative("count", count)
    _not_negative("retain", retain)
    cdef Workspace ws = _take(count, 0)
    with nogil:
        c_adjust_count(count, retain, shuffled, seed, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots


def completely_fair(const uint8_t[::1] source not None, const double[::1] score not None, int32_t retain):
    """Slots of `retain` candidates, one of each recall in turn, each recall's best first. int32.

    Equal scores in the order given; a NaN comes last. Recalls take turns in the order of their best candidates.

    Raises:
        ValueError: lengths differ, or `retain` is negative.
    """
    cdef c_Candidates all = _candidates(source, score)
    _not_negative("retain", retain)
    cdef Workspace ws = _take(all.count, all.count, 256)
    if all.count:
        with nogil:
            c_completely_fair(all, retain, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots


def priority(const uint8_t[::1] source not None, const double[::1] score not None, Shares shares not None, *,
             uint64_t seed=0, const int32_t[:, ::1] codes=None, int32_t least=0):
    """Slots of each share in turn, best first (csrc/priority.hpp). int32.

    `codes` int32 [fields, n] are the values that EnsureDiversity spreads, `least` its DiversityMinCount.

    Raises:
        ValueError: lengths differ.
    """
    cdef c_Candidates all = _candidates(source, score)
    cdef c_Quotas quotas
    quotas.least = least
    if codes is not None:
        if codes.shape[0] > 0xFFFF or codes.shape[1] != all.count:
            raise ValueError(f"codes of {codes.shape[0]} fields and {codes.shape[1]} candidates; there are {all.count}")
        quotas.fields = <int32_t> codes.shape[0]
        if quotas.fields and all.count:
            quotas.code = &codes[0, 0]
    cdef Workspace ws = _take(all.count, all.count, 257, quotas.fields)
    if all.count:
        with nogil:
            c_priority(all, shares.c.data(), <int32_t> shares.c.size(), quotas, seed, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots


def priority_of_many(const uint8_t[::1] source not None, const double[::1] score not None, Shares shares not None, *,
                     uint64_t seed=0, const int32_t[::1] place=None, Merged merged=None):
    """As `priority`, but what several recalls brought may serve any of them. Slots int32, source uint8, score float64.

    Raises:
        ValueError: lengths differ, or a place is none of `merged`.
    """
    cdef c_Candidates all = _candidates(source, score)
    _merged(&all, place, merged)
    cdef Workspace ws = _take(all.count, all.count, 256)
    if all.count:
        with nogil:
            c_priority_of_many(all, shares.c.data(), <int32_t> shares.c.size(), seed, ws.c)
    kept = _slots(ws), _source(ws), _score(ws)
    _free.append(ws)
    return kept


def snake(const int32_t[::1] item not None, const uint8_t[::1] source not None, const double[::1] score not None,
          Shares shares not None, int32_t retain, *, bint skips=False, const int32_t[::1] place=None,
          Merged merged=None):
    """The shares' candidates in turn, `weight` of each a round, until `retain` are kept (csrc/snake.hpp).

    Returns slots int32, source uint8, score float64, and the visits in order: which of these int32 (or a number not
    below their count: one that was cut off), source uint8, rank int32, score float64.

    Raises:
        ValueError: lengths differ, `retain` is negative, or a place is none of `merged`.
    """
    cdef c_Candidates all = _candidates(source, score)
    _same_length(all.count, item.shape[0], item.shape[0], item.shape[0])
    _not_negative("retain", retain)
    cdef int64_t entries = _merged(&all, place, merged)
    cdef Workspace ws = _take(all.count, entries, <int32_t> shares.c.size())
    if all.count:
        all.item = &item[0]
        with nogil:
            c_snake(all, shares.c.data(), <int32_t> shares.c.size(), retain, skips, ws.c)
    kept = _slots(ws), _source(ws), _score(ws)
    cdef int32_t visit
    cdef int32_t[::1] which = np.empty(ws.c.visited, np.int32)
    cdef int32_t[::1] rank = np.empty(ws.c.visited, np.int32)
    cdef uint8_t[::1] visited_source = np.empty(ws.c.visited, np.uint8)
    cdef double[::1] visited_score = np.empty(ws.c.visited, np.float64)
    for visit in range(ws.c.visited):
        which[visit] = ws.c.visits[visit].number
        rank[visit] = ws.c.visits[visit].rank
        visited_source[visit] = ws.c.visits[visit].source
        visited_score[visit] = ws.c.visits[visit].score
    _free.append(ws)
    return *kept, np.asarray(which), np.asarray(visited_source), np.asarray(rank), np.asarray(visited_score)


def group_weight(const int32_t[::1] code not None, const double[::1] score not None, int32_t retain, *, double weight,
                 int32_t least=0, int32_t most=0, bint softmax=True, limits=()):
    """Slots by group, so many of each as its share of `retain` says (csrc/groups.hpp). int32.

    Equal numbers of `code` [n] are one group. `limits` are (code int32 [n], most): at most so many of each number.

    Raises:
        ValueError: lengths differ, or `retain` is negative.
    """
    cdef c_Candidates all
    cdef c_GroupShares shares
    cdef c_Limits limited
    cdef const int32_t[:, ::1] codes
    cdef const int32_t[::1] mosts
    _same_length(code.shape[0], score.shape[0], score.shape[0], score.shape[0])
    _not_negative("retain", retain)
    all.count = <int32_t> code.shape[0]
    shares.retain, shares.weight, shares.least, shares.most = retain, weight, least, max(most, 0)
    shares.softmax = softmax
    limited.count = <int32_t> len(limits)
    if limited.count and all.count:
        codes = np.ascontiguousarray(np.stack([one for one, _ in limits]), np.int32)
        mosts = np.array([max(one, 0) for _, one in limits], np.int32)
        if codes.shape[1] != all.count:
            raise ValueError(f"limits of {codes.shape[1]} candidates; there are {all.count}")
        limited.code, limited.most = &codes[0, 0], &mosts[0]
    cdef Workspace ws = _take(all.count, all.count)
    if all.count:
        all.score = &score[0]
        with nogil:
            c_group_weight(all, &code[0], shares, limited, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots


def diversity_adjust(const uint8_t[:, ::1] matches not None, const double[::1] score not None, Shares shares not None,
                     *, uint64_t seed=0):
    """Slots of the best candidates that each share `matches` uint8 [shares, n], each once (csrc/pick.hpp). int32.

    Raises:
        ValueError: lengths differ.
    """
    cdef c_Candidates all
    cdef Py_ssize_t count = score.shape[0]
    if matches.shape[0] != <Py_ssize_t> shares.c.size() or matches.shape[1] != count or count > 0x7FFFFFFF:
        raise ValueError(f"matches of {matches.shape[0]} shares and {matches.shape[1]} candidates; there are "
                         f"{shares.c.size()} and {count}")
    all.count = <int32_t> count
    cdef Workspace ws = _take(count, count)
    if count:
        all.score = &score[0]
        with nogil:
            c_diversity_adjust(all, shares.c.data(), <int32_t> shares.c.size(), &matches[0, 0], seed, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots


def unique_codes(const int32_t[::1] code not None):
    """The first slot of each number of `code` [n], and all slots of negative ones. int32."""
    cdef Py_ssize_t count = code.shape[0]
    _same_length(count, count, count, count)
    cdef Workspace ws = _take(count, 0)
    if count:
        with nogil:
            c_unique_codes(&code[0], <int32_t> count, ws.c)
    slots = _slots(ws)
    _free.append(ws)
    return slots
