"""Who is let in, counted by class before a body is read: what decides how overload ends.

A queue that is longer than the p99 target allows serves nobody in time. So no more requests are let in at once than are
served within a twentieth of the target; recommendations beyond are answered by what is popular, as many again; the rest
are refused. Callbacks have a count of their own. While recommendations are asked for, callbacks get what those leave of
the thread that serves both, so that it stays idle for a part of its time: nobody waits for a callback on a page.
"""

from __future__ import annotations

import time
from typing import Final

from pairec_fast.limits import LimitConf

FULL, POPULAR, REFUSED = 0, 1, 2

QUEUE_SHARE = 0.05  # of the target: what may be waited for before the work begins
LEAST = 4  # at once, however slow they are: fewer would leave the worker idle between two
MOST = 256
# While recommendations are asked for, a quarter of the callbacks' limit, as long as the thread was not busy for more
# than so much of its time; over and under by so many seconds is remembered. Else one for each recommendation, of the
# last so many: as many come of themselves, when pages that were shown are reported.
CALLBACK_SHARE, BUSY_SHARE, CREDIT_SECONDS = 0.25, 0.5, 0.002
GRANTS_MAX = 16
QUIET_SECONDS = 0.25  # without a recommendation: none are asked for
RECOMMEND_SECONDS, CALLBACK_SECONDS = 300e-6, 50e-6  # assumed until some were measured
WEIGHT = 1 / 16  # of the newest in the mean
OUTLIER = 8.0  # times the mean: more says something about the machine, and not about the work


class Class:
    """Requests of one class. `in_flight` are let in and not yet worked on or done, `full` of them to be served in full;
    `seconds` one of those takes, a mean."""

    __slots__ = ("_budget", "_fixed", "_turn", "full", "in_flight", "limit", "name", "seconds")

    def __init__(self, name: str, seconds: float, budget: float, fixed: int | None) -> None:
        """`budget`: seconds of work that may be let in at once. `fixed` overrides what follows from it."""
        self.name, self.seconds, self.in_flight, self.full = name, seconds, 0, 0
        self._budget, self._fixed = budget, fixed
        self.limit, self._turn = 0, -1
        self.took(seconds)

    def took(self, seconds: float) -> None:
        """One was worked on for so long. Every eighth is looked at: more would cost more than it would tell."""
        self._turn = turn = self._turn + 1
        if turn & 7:
            return
        mean = self.seconds
        mean += (min(seconds, OUTLIER * mean) - mean) * WEIGHT
        self.seconds = mean = max(mean, 1e-6)
        self.limit = self._fixed or min(max(LEAST, int(self._budget / mean)), MOST)


class Admission:
    """Of one worker; used by one thread, that of its event loop."""

    def __init__(self, limits: LimitConf) -> None:
        budget = QUEUE_SHARE * limits.p99_target_ms / 1000
        self.recommend: Final = Class("recommend", RECOMMEND_SECONDS, budget, limits.in_flight_max)
        self.callback: Final = Class("callback", CALLBACK_SECONDS, budget, None)
        self._asked_at, self._looked_at, self._grants = -1e9, 0.0, 0
        self._used = self._credit = 0.0  # seconds of the thread, and those that callbacks may still use

    def verdict(self, kind: Class, popular: bool, now: float) -> int:
        """FULL, POPULAR, or REFUSED: how one more of `kind` would be answered. `popular`: whether that is there."""
        if kind is self.callback:
            return FULL if self._has_room(now) else REFUSED
        self._asked_at, self._grants = now, min(self._grants + 1, GRANTS_MAX)
        if kind.full < kind.limit:
            return FULL
        return POPULAR if popular and kind.in_flight - kind.full < kind.limit else REFUSED

    def _has_room(self, now: float) -> bool:
        """Whether one more callback may be let in."""
        limit, under_way = self.callback.limit, self.callback.in_flight
        if now - self._asked_at > QUIET_SECONDS:
            return under_way < limit
        used = time.thread_time()
        credit = self._credit + (now - self._looked_at) * BUSY_SHARE - (used - self._used)
        self._credit = credit = min(max(credit, -CREDIT_SECONDS), CREDIT_SECONDS)
        self._looked_at, self._used = now, used
        if credit > 0:
            return under_way < max(LEAST, int(limit * CALLBACK_SHARE))
        if under_way >= LEAST or not self._grants:
            return False
        self._grants -= 1
        return True

    def expected(self, kind: Class) -> float:
        """Seconds until one more of `kind` would be answered: what was let in before it, and itself."""
        one, other = self.recommend, self.callback
        return one.full * one.seconds + other.in_flight * other.seconds + kind.seconds
