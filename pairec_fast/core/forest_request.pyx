"""A request's candidates through a forest: items as bytes, what all candidates share folded in."""

from time import thread_time_ns

from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport int32_t, uint8_t

import numpy as np
cimport numpy as cnp

from pairec_fast.core.arena cimport Arena, Block, check_candidates
from pairec_fast.core.forest cimport Forest, Ranks, Scorer, Scratch, scratch_bytes, scratch_of

cnp.import_array()

cdef extern from "forest_request.hpp" namespace "pairec" nogil:
    cdef cppclass FoldPlan:
        pass

    cdef cppclass Folded:
        pass

    Folded folded_for(const Ranks& ranks, const FoldPlan& plan) except +

    cdef enum class Side(uint8_t):
        pass

    cdef cppclass RequestPlan:
        FoldPlan fold
        size_t line_bytes

    RequestPlan request_plan(const Ranks& ranks, const Side* side) except +
    void item_line(const Ranks& ranks, const RequestPlan& plan, const float* value, ptrdiff_t step,
                   uint8_t* line) noexcept

    cdef cppclass Request:
        const float* shared
        const float* cross
        ptrdiff_t cross_step
        const int32_t* place
        const uint8_t* lines
        const int32_t* row
        int32_t count

    void score_request(const Scorer& scorer, const RequestPlan& plan, const Scratch& scratch, Folded* folded,
                       const Request& request, double* out, ptrdiff_t class_step) noexcept

SIDES = ("shared", "item", "cross")
NEVER = 0x7FFFFFFF  # more candidates than an arena holds
cdef enum:
    ITEM = 1
    CROSS = 2


cdef class Memory:
    """What one request at a time writes to."""

    cdef Block scratch
    cdef Folded folded

    def __cinit__(self, RequestForest forest not None):
        self.scratch = Block(scratch_bytes(forest.forest.c.ranks))
        self.folded = folded_for(forest.forest.c.ranks, forest.plan.fold)


cdef class RequestForest:
    """A forest whose features are told apart by what they depend on. Immutable, safe to use from many threads.

    Args:
        forest: the model.
        sides: for each of its features "shared" (of the user or the context: one value a request), "item" (of the item
            alone) or "cross" (of both).

    Attributes:
        line_bytes: of an item's line: all that the model reads of it, as bytes; a multiple of 64, 0 without such features.
        fold_from: candidates from which on shared features are folded into the forest before it is scored; `measure`
            decides. The scores are the same, to the bit.

    Raises:
        ValueError: `sides` does not say one of the three for each feature.
    """

    cdef readonly Forest forest
    cdef readonly tuple sides
    cdef public int32_t fold_from
    cdef const uint8_t[::1] side
    cdef RequestPlan plan
    cdef list free

    def __cinit__(self, Forest forest not None, sides):
        self.forest, self.sides = forest, tuple(sides)
        if not self.sides or len(self.sides) != forest.width or not set(self.sides) <= set(SIDES):
            raise ValueError(f"sides are {self.sides}; {forest.width} of {', '.join(SIDES)} are right")
        self.side = np.array([SIDES.index(name) for name in self.sides], np.uint8)
        self.plan = request_plan(forest.c.ranks, <const Side*> &self.side[0])
        self.fold_from = NEVER
        self.free = [Memory(self)]

    @property
    def line_bytes(self) -> int:
        """Bytes of an item's line: a multiple of 64, 0 where the model reads nothing of an item alone."""
        return self.plan.line_bytes

    def lines(self, const float[:, :] values not None):
        """The lines of items: uint8 [n, line_bytes], made once when a snapshot is built.

        Args:
            values: float32 [n, item features], the features of side "item" in the model's order.

        Raises:
            ValueError: `values` has another width, or its columns do not lie whole numbers apart.
        """
        cdef Py_ssize_t i, count = values.shape[0]
        if values.shape[1] != self.sides.count("item"):
            raise ValueError(f"values are {values.shape[1]} wide; {self.sides.count('item')} features are of the item")
        if values.strides[1] % 4:
            raise ValueError(f"values have columns {values.strides[1]} bytes apart; a multiple of 4 is right")
        out = np.empty((count, self.plan.line_bytes), np.uint8)
        cdef uint8_t[:, ::1] view = out
        cdef ptrdiff_t step = values.strides[1] // 4
        if self.plan.line_bytes:
            with nogil:
                for i in range(count):
                    item_line(self.forest.c.ranks, self.plan, &values[i, 0], step, &view[i, 0])
        return out

    def score(self, Arena arena not None, const float[::1] shared not None, const uint8_t[:, ::1] lines,
              const int32_t[::1] place not None, int32_t algo=0, fold=None) -> None:
        """Score the arena's live candidates.

        Reads `row` and `features`; writes `algo_score` [algo : algo + classes, count], a column a class: the bits of
        `forest.predict` on the candidates' feature values.

        Args:
            shared: float32, as long as places say; read where a feature of side "shared" has its place.
            lines: uint8 [items, line_bytes] as `lines` makes them, or None where no feature is of the item.
            place: int32 [width], for each feature where its value is: in `shared`, or which column of `features`.
            fold: whether to fold; None: from `fold_from` candidates on.

        Raises:
            ValueError: arrays that do not fit the forest or the arena, or a row without a line.
        """
        cdef Ranks* ranks = &self.forest.c.ranks
        if place.shape[0] != ranks.width:
            raise ValueError(f"place has {place.shape[0]} entries; {ranks.width} features have one each")
        cdef int32_t i, end
        for i in range(ranks.width):
            end = arena.c.width if self.side[i] == CROSS else <int32_t> shared.shape[0]
            if self.side[i] != ITEM and not 0 <= place[i] < end:
                raise ValueError(f"place[{i}] is {place[i]}; 0 to {end - 1} is right for side {self.sides[i]}")
        if algo < 0 or algo > arena.c.algos - ranks.classes:
            raise ValueError(
                f"algo is {algo} with {ranks.classes} classes; 0 to algos - classes = "
                f"{arena.c.algos - ranks.classes} is right")
        if self.plan.line_bytes:
            if lines is None or <size_t> lines.shape[1] != self.plan.line_bytes:
                found = "None" if lines is None else f"{lines.shape[1]} bytes wide"
                raise ValueError(f"lines are {found}; {self.plan.line_bytes} bytes an item is right")
            check_candidates(arena, <int32_t> lines.shape[0])
        cdef Request request
        request.shared = &shared[0]
        request.cross, request.cross_step = arena.c.features, arena.c.candidates_max
        request.place = &place[0]
        request.lines = &lines[0, 0] if self.plan.line_bytes and lines.shape[0] else NULL
        request.row, request.count = arena.c.row, arena.c.count
        cdef ptrdiff_t column = arena.c.candidates_max
        cdef Memory memory
        try:  # a list is a stack under the GIL
            memory = self.free.pop()
        except IndexError:
            memory = Memory(self)
        cdef Folded* folded = NULL
        if arena.c.count >= self.fold_from if fold is None else fold:
            folded = &memory.folded
        with nogil:
            score_request(self.forest.c, self.plan, scratch_of(ranks[0], memory.scratch.data), folded, request,
                          arena.c.algo_score + algo * column, column)
        self.free.append(memory)

    def measure(self, Arena arena not None, shared, lines, place, int32_t rounds=5) -> None:
        """Set `fold_from` by timing both ways with what the arena holds: 512 candidates, 256, and so on to 64.

        Overwrites `algo_score` as `score` does. Requests of other threads get the same bits meanwhile.

        Raises:
            ValueError: as `score`, or `rounds` is not positive.
        """
        if rounds <= 0:
            raise ValueError(f"rounds must be positive, got {rounds}")
        count, fold_from = arena.count, NEVER
        try:
            for size in (512, 256, 128, 64):
                if size > count:
                    continue
                arena.count = size
                taken = {True: [], False: []}
                for _ in range(rounds):
                    for fold in (True, False):
                        begin = thread_time_ns()
                        self.score(arena, shared, lines, place, 0, fold)
                        taken[fold].append(thread_time_ns() - begin)
                if min(taken[True]) >= min(taken[False]):
                    break
                fold_from = size
        finally:
            arena.count = count
        self.fold_from = fold_from
