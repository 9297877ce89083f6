"""What a worker counts: slots, what adds to their cells, and the laps of a request."""

from time import sleep

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector

import numpy as np

from pairec_fast.core.arena cimport Arena

cdef extern from "meter.hpp" namespace "pairec" nogil:
    const size_t meter_page, meter_gauges_bytes, meter_cells_max
    const int laps_max

    cdef cppclass Atomic "std::atomic<std::uint64_t>":
        uint64_t load() noexcept

    cdef cppclass AtomicTime "std::atomic<std::int64_t>":
        void store(int64_t) noexcept

    ctypedef struct c_Head "pairec::MeterHead":
        Atomic used, cells, refused

    ctypedef struct c_Slot "pairec::MeterSlot":
        c_Head head
        unsigned char* table

    ctypedef enum Order "std::memory_order":
        release "std::memory_order_release"

    void meter_add(double* cell, double amount) noexcept
    void meter_add_in_group "pairec::meter_add"(double* cell, double amount, Order order) noexcept
    int64_t meter_append(c_Slot& slot, int kind, int cells, const void* text, size_t size) noexcept
    void meter_begin(c_Slot& slot) noexcept
    void meter_end(c_Slot& slot) noexcept
    bint meter_copy(c_Slot& slot, uint64_t* out, size_t count) noexcept
    void meter_settle(c_Slot& slot) noexcept
    bint meter_put_gauges(c_Slot& slot, const void* data, size_t size) noexcept
    int64_t meter_gauges(c_Slot& slot, uint64_t* out) noexcept
    void meter_reach(double* cell, double value) noexcept
    int64_t meter_now() noexcept

    ctypedef struct c_Histogram "pairec::MeterHistogram":
        const double* bound
        int32_t bounds
        uint64_t* cell
        void observe(double value) noexcept

    ctypedef struct c_Laps "pairec::Laps":
        int64_t begin
        int64_t* end
        int64_t* wait
        int32_t* count
        int32_t used
        void lap(int32_t candidates) noexcept
        void pause() noexcept
        void resume() noexcept

    ctypedef struct c_Stage "pairec::MeterStage":
        c_Histogram time, wait
        double* cin "in"
        double* out
        double* over
        int64_t budget_ns

    cdef cppclass c_Line "pairec::MeterLine":
        c_Stage* stage
        int32_t stages
        c_Stage whole
        AtomicTime slow_ns, until_ns
        bint observe(const c_Laps& laps) noexcept

SLOT_BYTES = sizeof(c_Slot)
# To read cells while no group is added to. Who is in the midst of one is soon through, or was sent off its core: then
# sleep. After 20 ms it was probably killed there, which leaves a group begun until somebody takes the slot over.
TRIES, TRIES_AWAKE, PAUSE_SECONDS = 140, 100, 0.0005


cdef class Slot:
    """One worker's part of `memory`: SLOT_BYTES from a page's beginning, zero at first, which must not go before it.

    Raises:
        ValueError: another size, or another alignment than to 64 bytes.
    """

    cdef c_Slot* c
    cdef object _memory

    def __cinit__(self, unsigned char[::1] memory not None):
        if memory.shape[0] != sizeof(c_Slot) or <size_t> &memory[0] % 64:
            raise ValueError(f"expected {sizeof(c_Slot)} bytes, aligned to 64, got {memory.shape[0]}")
        self.c = <c_Slot*> &memory[0]
        self._memory = memory

    def append(self, int kind, int cells, const unsigned char[::1] text not None):
        """`cells` new cells, uint64 [cells], for what `text` says; None if there is no room, which is counted.

        From one thread at a time.
        """
        cdef int64_t first = meter_append(self.c[0], kind, cells, &text[0], text.shape[0])
        return None if first < 0 else self.view(first, cells)

    def view(self, uint64_t first, uint64_t count):
        """Cells from `first` on: uint64 [count], the memory itself.

        Raises:
            ValueError: not that many are taken.
        """
        cdef uint64_t taken = self.c.head.cells.load()
        if first > taken or count > taken - first:
            raise ValueError(f"cells {first} to {first + count} of {taken}")
        data = np.frombuffer(self._memory, np.uint64)
        begin = sizeof(c_Slot) // 8 - meter_cells_max + first
        return data[begin:begin + count]

    @property
    def refused(self) -> int:
        """How often there was no room."""
        return self.c.head.refused.load()

    def table(self, uint64_t begin=0) -> bytes:
        """What is in the table from byte `begin` on."""
        cdef uint64_t used = self.c.head.used.load()
        return (<const char*> self.c.table)[begin:used] if begin < used else b""

    def cells(self):
        """A copy of all cells taken, uint64, taken while no group was added to, if that can be had."""
        cdef uint64_t count = 0
        cdef uint64_t[::1] out
        cdef bint whole
        copy = np.zeros(0, np.uint64)
        for turn in range(TRIES):
            if count != self.c.head.cells.load():
                count = self.c.head.cells.load()
                copy = np.zeros(count, np.uint64)
                out = copy
            if count == 0:
                break
            # Microseconds, which the interpreter is kept for: so no thread of this process is in the midst of a group.
            whole = meter_copy(self.c[0], &out[0], count)
            if whole and count == self.c.head.cells.load():  # else a group may have had cells that came meanwhile
                break
            if turn >= TRIES_AWAKE:
                sleep(PAUSE_SECONDS)
        return copy

    def settle(self) -> None:
        """Take over what a process left that is gone."""
        meter_settle(self.c[0])

    def put_gauges(self, const unsigned char[::1] data not None) -> bool:
        """Show these bytes to other processes; False if they are too many. From one thread at a time."""
        return meter_put_gauges(self.c[0], &data[0] if data.shape[0] else NULL, data.shape[0])

    def gauges(self) -> bytes:
        """What was put last; nothing while it is being put, or if nothing was."""
        words = np.empty(meter_gauges_bytes // 8, np.uint64)
        cdef uint64_t[::1] out = words
        cdef int64_t size = meter_gauges(self.c[0], &out[0])
        return words.tobytes()[:size] if size > 0 else b""


cdef class Counter:
    """Adds to `cells`, uint64 [1], the bits of a float64."""

    cdef double* cell
    cdef object _cells

    def __cinit__(self, uint64_t[::1] cells not None):
        if cells.shape[0] != 1:
            raise ValueError(f"a counter has 1 cell, got {cells.shape[0]}")
        self.cell, self._cells = <double*> &cells[0], cells

    def add(self, double amount=1) -> None:
        """Any thread may."""
        meter_add(self.cell, amount)

    @property
    def value(self) -> float:
        return self.cell[0]


cdef class Group:
    """Counters of `slot` that grow at one moment: what is read in between shows all of them or none."""

    cdef Slot _slot
    cdef tuple _counters
    cdef vector[double] _amounts

    def __cinit__(self, Slot slot not None, *counters):
        for counter in counters:
            if not isinstance(counter, Counter):
                raise TypeError(f"expected a Counter, got {counter!r}")
        self._slot, self._counters = slot, counters
        self._amounts.resize(len(counters))

    def add(self, *amounts) -> None:
        """One amount for each counter. Any thread may.

        Raises:
            ValueError: more or fewer.
        """
        cdef Py_ssize_t at, count = len(self._counters)
        if len(amounts) != count:
            raise ValueError(f"expected {count} amounts, got {len(amounts)}")
        for at in range(count):  # nothing may raise between the beginning of a group and its end
            self._amounts[at] = amounts[at]
        meter_begin(self._slot.c[0])
        for at in range(count):
            meter_add_in_group((<Counter> self._counters[at]).cell, self._amounts[at], release)
        meter_end(self._slot.c[0])


cdef class Total:
    """The sum of all that a value grows, which is 0 again when its process begins anew. `cells`: uint64 [2]."""

    cdef double* cell
    cdef object _cells

    def __cinit__(self, uint64_t[::1] cells not None):
        if cells.shape[0] != 2:
            raise ValueError(f"a total has 2 cells, got {cells.shape[0]}")
        self.cell, self._cells = <double*> &cells[0], cells

    def reach(self, double value) -> None:
        """One that is less than before has begun anew. From one thread at a time."""
        meter_reach(self.cell, value)


cdef class Histogram:
    """Counts values by `bounds`, the upper edges of its buckets. `cells`: uint64 [bounds + 2], else of its own."""

    cdef c_Histogram c
    cdef object _cells, _bound
    cdef readonly tuple bounds

    def __cinit__(self, tuple bounds not None, uint64_t[::1] cells=None):
        cdef const double[::1] bound = np.array((*bounds, float("inf")))
        cdef uint64_t[::1] own = np.zeros(len(bounds) + 2, np.uint64) if cells is None else cells
        if any(low >= high for low, high in zip(bounds, bounds[1:])):
            raise ValueError(f"bounds must ascend, got {bounds}")
        if own.shape[0] != len(bounds) + 2:
            raise ValueError(f"{len(bounds)} bounds have {len(bounds) + 2} cells, got {own.shape[0]}")
        self.bounds, self._cells, self._bound = bounds, own, bound
        self.c.bound, self.c.bounds, self.c.cell = &bound[0], <int32_t> len(bounds), &own[0]

    def observe(self, double value) -> None:
        """Any thread may."""
        self.c.observe(value)

    @property
    def counts(self) -> list[int]:
        return [self.c.cell[bucket] for bucket in range(self.c.bounds + 1)]

    @property
    def sum(self) -> float:
        return (<double*> (self.c.cell + self.c.bounds + 1))[0]


cdef class Laps:
    """The stages of a request that begins now: when each ended, how many candidates it left, how long it waited."""

    cdef c_Laps c

    def __cinit__(self):
        self.c.begin = meter_now()

    @staticmethod
    def of(int64_t begin, ends, counts, waits):
        """As if they had been run; nanoseconds of the clock of `time.perf_counter_ns`."""
        cdef Laps laps = Laps()
        laps.c.begin = begin
        for end, count, wait in zip(ends, counts, waits, strict=True):
            if laps.c.used == laps_max:
                raise ValueError(f"at most {laps_max} stages")
            laps.c.end[laps.c.used], laps.c.count[laps.c.used], laps.c.wait[laps.c.used] = end, count, wait
            laps.c.used += 1
        return laps

    def lap(self, Arena arena not None) -> None:
        """A stage has ended and leaves the candidates of `arena`."""
        self.c.lap(arena.c.count)

    def ordered(self, Arena arena not None) -> None:
        """As `lap`, of a stage that put some of them in order."""
        self.c.lap(arena.c.order_count)

    def last(self, int32_t count) -> None:
        """As `lap`, of a stage that leaves `count`."""
        self.c.lap(count)

    def pause(self) -> None:
        """The stage that runs begins to wait. Of waits at the same time, what counts is when any of them lasted."""
        self.c.pause()

    def resume(self) -> None:
        """A wait is over."""
        self.c.resume()

    def __len__(self) -> int:
        return self.c.used

    @property
    def begin(self) -> int:
        return self.c.begin

    @property
    def nanoseconds(self) -> int:
        """Of all stages."""
        return self.c.end[self.c.used - 1] - self.c.begin if self.c.used else 0

    @property
    def stages(self) -> list[tuple[int, int, int, int]]:
        """Of each stage its nanoseconds, those it waited, and the candidates it got and left."""
        told, last, count = [], self.c.begin, 0
        for at in range(self.c.used):
            told.append((self.c.end[at] - last, self.c.wait[at], count, self.c.count[at]))
            last, count = self.c.end[at], self.c.count[at]
        return told


cdef class Line:
    """All that is counted of the requests of a scene, in one call for each.

    Args:
        stages: of each stage, in order, (times, waits, candidates in, candidates out, how often over its budget, the
            budget in nanoseconds): histograms and counters, or None for what is not counted. whole: the same of all.

    Raises:
        ValueError: more stages than laps have.
    """

    cdef c_Line c
    cdef object _parts

    def __init__(self, list stages not None, tuple whole=(None, None, None, None, None, 0)):
        if len(stages) > laps_max:
            raise ValueError(f"at most {laps_max} stages, got {len(stages)}")
        self._parts = (list(stages), whole)
        self.c.stages = <int32_t> len(stages)
        for at, parts in enumerate(stages):
            put(self.c.stage[at], parts)
        put(self.c.whole, whole)
        self.slow(INT64_MAX, INT64_MAX)

    def slow(self, int64_t nanoseconds, int64_t until) -> None:
        """From now on a request is slow that takes longer, or ends at `until` or later."""
        self.c.slow_ns.store(nanoseconds)
        self.c.until_ns.store(until)

    def observe(self, Laps laps not None) -> bool:
        """Whether the request was slow. Any thread may.

        Raises:
            ValueError: laps of other stages than these.
        """
        if laps.c.used != self.c.stages:
            raise ValueError(f"laps of {laps.c.used} stages for a line of {self.c.stages}")
        return self.c.observe(laps.c)


cdef int put(c_Stage& stage, tuple parts) except -1:
    """Pointers of what `parts` are; whoever calls keeps them."""
    times, waits, came, went, over, budget = parts
    stage.time.cell = stage.wait.cell = NULL
    stage.cin = stage.out = stage.over = NULL
    if times is not None:
        stage.time = (<Histogram?> times).c
    if waits is not None:
        stage.wait = (<Histogram?> waits).c
    if came is not None:
        stage.cin = (<Counter?> came).cell
    if went is not None:
        stage.out = (<Counter?> went).cell
    if over is not None:
        stage.over = (<Counter?> over).cell
    stage.budget_ns = budget
    return 0
