"""Measuring in turns: all calls in one process, one after the other, round after round, by CPU time.

What else the machine does then slows all of them alike, and a call longer than the scheduler's slice pays no more of it
than a short one. Absolute times move with the neighbours; ratios hold.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

ROUNDS = 7
ROUND_NS_MIN = 6_000_000

Call = Callable[[], object]


def in_turns(calls: dict[str, Call], rounds: int = ROUNDS) -> dict[str, float]:
    """Nanoseconds of CPU a call takes: the median of `rounds` means, each over 6 ms or more."""
    repeats = {name: _repeats(call) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(_ns(call, repeats[name]) / repeats[name])
    return {name: float(np.median(each)) for name, each in taken.items()}


def over(function: Callable[[Any], object], arguments: Iterable[Any]) -> Call:
    """A call of `function` with the next of `arguments`, again and again."""
    turn = itertools.cycle(arguments)
    return lambda: function(next(turn))


def _ns(call: Call, repeats: int) -> int:
    begin = time.process_time_ns()
    for _ in range(repeats):
        call()
    return time.process_time_ns() - begin


def _repeats(call: Call) -> int:
    """Found by doubling, which warms the call up; the lesser of two, for the first may have been the coldest ever."""
    repeats = 1
    while min(_ns(call, repeats), _ns(call, repeats)) < ROUND_NS_MIN:
        repeats *= 2
    return repeats
