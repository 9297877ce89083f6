"""Measuring calls: one after the other, each with its CPU time and its wall time; or as they arrive, whoever waits."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Setup = Callable[[], Any]
WARM_SHARE = 20  # one call in so many is made first and not counted
WARM_MAX = 100
SPIN_NS = 300_000  # a sleep ends up to this much late: the rest is waited awake


class Samples:
    """Times of calls in nanoseconds, in the order they were made. An open loop's `wall` counts from when due."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.cpu = array("Q")
        self.wall = array("Q")

    @property
    def main(self) -> array[int]:
        """What is gated: CPU time, which neighbours hardly move; in an open loop the wait, which is what it is for."""
        return self.wall if self.kind == "open" else self.cpu

    def of(self, clock: str | None) -> array[int]:
        return self.main if clock is None else self.wall if clock == "wall" else self.cpu

    def __len__(self) -> int:
        return len(self.cpu)


class Call:
    """A function with its arguments, or with what `setup()` gives before each call; times one call at a time."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], setup: Setup | None = None
    ) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._setup = setup
        self.result: Any = None

    def once(self) -> Any:
        """A call nobody times."""
        args, kwargs = self.arguments()
        self.result = self._function(*args, **kwargs)
        return self.result

    def time(self, into: Samples, count: int) -> None:
        """`count` calls, one after the other."""
        cpu_now, wall_now = time.thread_time_ns, time.perf_counter_ns
        function, fixed = self._function, self._setup is None
        args, kwargs = self._args, self._kwargs
        for _ in range(count):
            if not fixed:
                args, kwargs = self.arguments()
            wall = wall_now()
            cpu = cpu_now()
            result = function(*args, **kwargs)
            cpu_end = cpu_now()
            wall_end = wall_now()
            into.cpu.append(cpu_end - cpu)
            into.wall.append(wall_end - wall)
            self.result = result

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As pytest-benchmark's `setup`: it returns nothing, or `(args, kwargs)`."""
        if self._setup is None:
            return self._args, self._kwargs
        made = self._setup()
        if made is None:
            return self._args, self._kwargs
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], dict)):
            raise TypeError(f"setup returned {made!r}; nothing, or a pair of (args, kwargs), would be right")
        if self._args or self._kwargs:
            raise TypeError("arguments were given, and setup returned others; one of the two would be right")
        return tuple(made[0]), made[1]


def closed(call: Call, n: int, keep_gc: bool = False) -> Samples:
    """`n` calls, each when the one before has ended, after a few that are not counted."""
    samples = Samples("closed")
    with quiet(keep_gc):
        warm(call, n)
        call.time(samples, n)
    return samples


def warm(call: Call, n: int) -> None:
    for _ in range(min(WARM_MAX, max(1, n // WARM_SHARE))):
        call.once()


def arrivals(rate: float, count: int | None, seconds: float | None, how: str, seed: int) -> Iterator[int]:
    """When calls are due, in nanoseconds from the start."""
    draw = random.Random(seed)
    at = 0.0
    made = 0
    while count is None or made < count:
        at += draw.expovariate(rate) if how == "poisson" else 1 / rate
        if seconds is not None and at > seconds:
            return
        yield int(at * 1e9)
        made += 1


def open_loop(call: Call, due: list[int], concurrency: int, keep_gc: bool = True) -> Samples:
    """Calls at the times due, by so many threads: one that finds them all busy waits, and its wait is counted.

    A stall is so seen by every arrival in it, where a closed loop would have asked once and waited (coordinated
    omission). An error of a call is raised here, once the threads have ended.
    """
    rows: list[tuple[int, int] | None] = [None] * len(due)
    errors: list[BaseException] = []
    turn = iter(range(len(due)))
    lock = threading.Lock()
    alone = concurrency == 1  # a thread that spins takes the interpreter from others
    begin = time.perf_counter_ns() + 5_000_000

    def work() -> None:
        while not errors:
            with lock:
                at = next(turn, None)
            if at is None:
                return
            scheduled = begin + due[at]
            _wait(scheduled, alone)
            try:
                cpu = time.thread_time_ns()
                call.once()
                cpu_end = time.thread_time_ns()
            except BaseException as error:
                errors.append(error)
                return
            rows[at] = (cpu_end - cpu, time.perf_counter_ns() - scheduled)

    with quiet(keep_gc):
        call.once()
        begin = time.perf_counter_ns() + 5_000_000
        threads = [threading.Thread(target=work) for _ in range(concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    samples = Samples("open")
    for row in rows:
        assert row is not None
        samples.cpu.append(row[0])
        samples.wall.append(row[1])
    return samples


@contextmanager
def quiet(keep_gc: bool) -> Iterator[None]:
    """Collect once, then (unless kept) no more; no tracer and no profiler of this thread looks on."""
    tracer, profiler, collects = sys.gettrace(), sys.getprofile(), gc.isenabled()
    gc.collect()
    if not keep_gc:
        gc.disable()
    sys.settrace(None)
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)
        if collects:
            gc.enable()


def _wait(until: int, spin: bool) -> None:
    margin = SPIN_NS if spin else 0
    while (left := until - time.perf_counter_ns() - margin) > 0:
        time.sleep(left / 1e9)
    while time.perf_counter_ns() < until:
        pass
