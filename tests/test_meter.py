"""The cells that are counted in: what one call does to them, against a slow twin, and what several at once do."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from bisect import bisect_left

import numpy as np
import pytest

from pairec_fast.core import Arena
from pairec_fast.core.meter import SLOT_BYTES, Counter, Group, Histogram, Laps, Line, Slot, Total
from pairec_fast.metrics import BUCKETS
from tests.worlds import ROOT


def shared_slot() -> Slot:
    """One that a forked child shares."""
    return Slot(memoryview(mmap.mmap(-1, SLOT_BYTES)))


def counter(slot: Slot, name: bytes = b"n") -> Counter:
    return Counter(slot.append(1, 1, name))


def in_children(count: int, work) -> None:
    children = []
    for _ in range(count):
        if (pid := os.fork()) == 0:
            try:
                work()
            finally:
                os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * count


def test_values_fall_into_the_bucket_whose_edge_they_reach():
    histogram = Histogram((1.0, 2.0, 5.0))
    for value in (0.0, 1.0, 1.5, 2.0, 5.1):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 0, 1] and histogram.sum == pytest.approx(9.6)


@pytest.mark.parametrize("bounds", [(), (1e-3,), BUCKETS, tuple(float(edge) for edge in range(1, 66))])
def test_a_histogram_agrees_with_its_slow_twin(bounds):
    draw = random.Random(len(bounds))
    edges = [value for edge in bounds for value in (edge, np.nextafter(edge, 0), np.nextafter(edge, 9e9))]
    values = [*edges, 0.0, -1.0, 1e300, *(draw.expovariate(1) * 10 ** draw.uniform(-5, 2) for _ in range(2000))]
    histogram, counts = Histogram(bounds), [0] * (len(bounds) + 1)
    for value in values:
        histogram.observe(value)
        counts[bisect_left(bounds, value)] += 1
    assert histogram.counts == counts and histogram.sum == pytest.approx(sum(values))


def test_a_histogram_wants_ascending_bounds_and_cells_that_fit():
    for bounds, cells in (((2.0, 1.0), None), ((1.0, 1.0), None), ((1.0,), np.zeros(2, np.uint64))):
        with pytest.raises(ValueError):
            Histogram(bounds, cells)


def test_a_total_goes_on_where_what_it_follows_begins_anew():
    total, cells = None, np.zeros(2, np.uint64)
    total = Total(cells)
    for value in (3.0, 10.0, 10.0, 2.0, 5.0):
        total.reach(value)
    assert cells.view(np.float64)[1] == 15


def test_laps_of_an_arena_are_its_candidates_and_the_time_between():
    arena, before = Arena(10), time.perf_counter_ns()
    laps = Laps()
    arena.count = 7
    laps.lap(arena)
    time.sleep(0.01)
    laps.ordered(arena)
    laps.last(3)
    (first, _, _, _), (second, *rest), last = laps.stages
    assert before <= laps.begin <= time.perf_counter_ns(), "of one clock"
    assert second > 9e6 and rest == [0, 7, 0] and last[2:] == (0, 3)
    assert laps.nanoseconds == first + second + last[0] and len(laps) == 3
    for _ in range(20):
        laps.last(1)  # more stages than there are: forgotten
    assert len(laps) == 8


def test_waits_at_the_same_time_count_once_and_for_the_stage_that_runs():
    laps = Laps()
    laps.pause()
    time.sleep(0.01)
    laps.pause()
    laps.resume()
    time.sleep(0.01)
    laps.resume()
    time.sleep(0.01)  # works
    laps.last(0)
    laps.last(0)
    (taken, waited, *_), (_, none, *_) = laps.stages
    assert 19e6 < waited < taken - 9e6 and none == 0


def reference(drawn, budgets, bounds):
    """What a line counts of requests, by hand: (begin, ends, counts, waits) each."""
    times = [[0] * (len(bounds) + 1) for _ in range(4)]
    waits, came, went, over = [0] * 3, [0] * 3, [0] * 3, [0] * 4
    for begin, ends, counts, waited in drawn:
        for at, end in enumerate(ends):
            ns = end - ([begin, *ends][at])
            times[at][bisect_left(bounds, ns * 1e-9)] += 1
            waits[at] += waited[at] > 0
            came[at] += [0, *counts][at]
            went[at] += counts[at]
            over[at] += ns > budgets[at]
        times[3][bisect_left(bounds, (ends[-1] - begin) * 1e-9)] += 1
        over[3] += ends[-1] - begin > budgets[3]
    return times, waits, came, went, over


def test_a_line_counts_what_its_slow_twin_counts():
    draw, slot, budgets = random.Random(1), shared_slot(), [50_000, 200_000, 1, 400_000]
    times = [Histogram(BUCKETS) for _ in range(4)]
    waits = [Histogram(BUCKETS) for _ in range(3)]
    counters = [counter(slot) for _ in range(10)]
    came, went, over = counters[:3], counters[3:6], counters[6:]
    stages = list(zip(times, waits, came, went, over, budgets, strict=False))[:3]
    line, drawn = Line(stages, (times[3], None, None, None, over[3], budgets[3])), []
    for _ in range(500):
        begin, ends = draw.randrange(10**12), []
        for _ in range(3):
            ends.append((ends or [begin])[-1] + draw.choice([0, 1, 2, 20_000, 50_000, draw.randrange(10**6)]))
        drawn.append((begin, ends, [draw.choice([0, 500]) for _ in ends], [draw.choice([0, 0, 9]) for _ in ends]))
        line.observe(Laps.of(*drawn[-1]))
    expected = reference(drawn, budgets, BUCKETS)
    assert [one.counts for one in times] == expected[0]
    assert [sum(one.counts) for one in waits] == expected[1]
    assert [[one.value for one in kind] for kind in (came, went, over)] == list(expected[2:])
    assert times[3].sum == pytest.approx(sum(ends[-1] - begin for begin, ends, _, _ in drawn) * 1e-9)


def test_a_line_that_counts_nothing_counts_nothing_and_one_of_other_stages_is_refused():
    line = Line([(None, None, None, None, None, 0)] * 2)
    assert line.observe(Laps.of(0, [5, 9], [1, 1], [1, 1])) is False
    with pytest.raises(ValueError, match="laps of 1 stages for a line of 2"):
        line.observe(Laps.of(0, [5], [1], [1]))
    with pytest.raises(ValueError, match="at most 8 stages, got 9"):
        Line([(None, None, None, None, None, 0)] * 9)
    with pytest.raises(TypeError):
        Line([(1, None, None, None, None, 0)])


def test_a_request_is_slow_that_takes_longer_or_ends_later():
    line = Line([(None, None, None, None, None, 0)])
    for (slow, until), expected in {(100, 10**9): [0, 1, 1], (10**9, 150): [0, 0, 1], (-1, 10**9): [1, 1, 1]}.items():
        line.slow(slow, until)
        told = [line.observe(Laps.of(10, [end], [0], [0])) for end in (110, 111, 150)]
        assert told == ([bool(one) for one in expected]), (slow, until)


def test_processes_that_add_to_one_cell_lose_nothing():
    """No lock of an interpreter stands between them: a lost update would show."""
    slot = shared_slot()
    one, cells = counter(slot), slot.append(3, len(BUCKETS) + 2, b"h")
    histogram = Histogram(BUCKETS, cells)
    laps = Laps.of(0, [1000], [3], [0])
    line = Line([(histogram, None, None, counter(slot), None, 0)])

    def work() -> None:
        for _ in range(50_000):
            one.add()
            line.observe(laps)

    in_children(3, work)
    assert one.value == sum(histogram.counts) == 150_000 and histogram.sum == pytest.approx(0.15)


def test_groups_are_read_whole_by_other_processes():
    slot = shared_slot()
    group = Group(slot, counter(slot), counter(slot))
    end = time.monotonic() + 1.5
    pid = os.fork()
    if pid == 0:
        while time.monotonic() < end:
            group.add(1, 1)
            time.sleep(0)
        os._exit(0)
    seen = []
    while time.monotonic() < end:
        first, second = slot.cells().view(np.float64)
        seen.append(first)
        assert first == second
    os.waitpid(pid, 0)
    assert seen == sorted(seen) and seen[-1] > 1000, "the writer hardly ran"


def test_what_is_no_counter_adds_nothing_of_its_group():
    slot = shared_slot()
    one = counter(slot)
    with pytest.raises(TypeError, match="expected a Counter, got None"):
        Group(slot, one, None)
    group = Group(slot, one, one)
    for wrong in ((1, "x"), (1, None), (1,), (1, 1, 1)):
        with pytest.raises((TypeError, ValueError)):
            group.add(*wrong)
    assert one.value == 0 and slot.cells().view(np.float64)[0] == 0


def test_a_group_that_its_killed_owner_began_keeps_nobody_waiting():
    slot = shared_slot()
    one = counter(slot)
    one.add(5)
    pid = os.fork()
    if pid == 0:
        many, none = Group(slot, *[one] * 100_000), [0] * 100_000  # hardly ever outside a group
        while True:
            many.add(*none)
    for _ in range(20):
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    begin = time.monotonic()
    assert slot.cells().view(np.float64)[0] == 5 and time.monotonic() - begin < 1
    slot.settle()
    Group(slot, one).add(1)
    assert slot.cells().view(np.float64)[0] == 6


def test_threads_that_observe_together_lose_nothing():
    line = Line([(Histogram(BUCKETS), None, None, None, None, 0)], (whole := Histogram(BUCKETS), *[None] * 4, 0))
    laps = Laps.of(0, [1000], [3], [0])
    threads = [threading.Thread(target=lambda: [line.observe(laps) for _ in range(20_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(whole.counts) == 80_000


def test_a_slot_wants_its_size_and_shows_only_cells_that_are_taken():
    with pytest.raises(ValueError, match="aligned"):
        Slot(memoryview(bytearray(100)))
    slot = shared_slot()
    slot.append(1, 2, b"x")
    for first, count in ((0, 3), (3, 0), (1, 2), (2**63, 2**63)):
        with pytest.raises(ValueError):
            slot.view(first, count)
    assert len(slot.view(2, 0)) == 0 and slot.append(1, 1 << 20, b"y") is None and slot.refused == 1


def test_gauges_are_read_as_they_were_put_or_not_at_all():
    slot = shared_slot()
    assert slot.gauges() == b"" and not slot.put_gauges(b"x" * (64 << 10) + b"x")
    end = time.monotonic() + 1
    pid = os.fork()
    if pid == 0:
        turn = 0
        while time.monotonic() < end:
            turn += 1
            slot.put_gauges(bytes([turn % 250]) * (40_000 + turn % 1000))
            time.sleep(0.0002)
        os._exit(0)
    seen = set()
    while time.monotonic() < end:
        if data := slot.gauges():
            assert len(set(data)) == 1 and len(data) >= 40_000
            seen.add(data[0])
    os.waitpid(pid, 0)
    assert len(seen) > 5


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the soak with")
@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_sanitizers_find_nothing_while_threads_count_register_and_read(sanitizer, tmp_path):
    flags = ["-std=c++20", "-O1", "-g", f"-fsanitize={sanitizer}", "-pthread", f"-I{ROOT / 'csrc'}", "-Wall", "-Wextra"]
    source = ROOT / "tests" / "native" / "meter_soak.cpp"
    built = subprocess.run(["g++", *flags, source, "-o", tmp_path / "soak"], capture_output=True, text=True)
    if built.returncode and ("tsan" in built.stderr or "asan" in built.stderr):
        pytest.skip(f"this g++ has no {sanitizer} sanitizer")
    assert built.returncode == 0, built.stderr
    command = [tmp_path / "soak", "20000"]
    if shutil.which("setarch"):
        command = ["setarch", "-R", *command]  # some kernels place memory where the thread sanitizer cannot follow
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in run.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert run.returncode == 0 and "WARNING" not in run.stderr and "error" not in run.stderr, run.stderr[:5000]
    assert int(run.stdout) > 0, "nothing was ever read whole"
