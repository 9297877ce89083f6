"""Who is let in, counted by class before a body is read: what decides how overload ends.

A queue that is longer than the p99 target allows serves nobody in time. So no more requests are let in at once than are
served within a twentieth of the target; recommendations beyond are answered by what is popular, as many again; the rest
are refused. Callbacks have a count of their own, and a quarter of it while recommendations are under way: nobody waits
for them on a page.
"""

from __future__ import annotations

from typing import Final

from pairec_fast.limits import LimitConf

FULL, POPULAR, REFUSED = 0, 1, 2

QUEUE_SHARE = 0.05  # of the target: what may be waited for before the work begins
LEAST = 4  # at once, however slow they are: fewer would leave the worker idle between two
MOST = 256
CALLBACK_SHARE = 0.25  # of the callbacks' limit, while recommendations are under way
RECOMMEND_SECONDS, CALLBACK_SECONDS = 300e-6, 50e-6  # assumed until some were measured
WEIGHT = 1 / 16  # of the newest in the mean
OUTLIER = 8.0  # times the mean: more says something about the machine, and not about the work


class Class:
    """Requests of one class. `in_flight` are let in and not yet worked on or done; `seconds` one takes, a mean."""

    __slots__ = ("_budget", "_fixed", "_turn", "in_flight", "limit", "name", "seconds")

    def __init__(self, name: str, seconds: float, budget: float, fixed: int | None) -> None:
        """`budget`: seconds of work that may be let in at once. `fixed` overrides what follows from it."""
        self.name, self.seconds, self.in_flight = name, seconds, 0
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

    def verdict(self, kind: Class, popular: bool) -> int:
        """FULL, POPULAR, or REFUSED: how one more of `kind` would be answered. `popular`: whether that is there."""
        if kind is self.callback:
            alone = not self.recommend.in_flight
            share = kind.limit if alone else max(LEAST, int(kind.limit * CALLBACK_SHARE))
            return FULL if kind.in_flight < share else REFUSED
        if kind.in_flight < kind.limit:
            return FULL
        return POPULAR if popular and kind.in_flight < 2 * kind.limit else REFUSED

    def expected(self, kind: Class) -> float:
        """Seconds until one more of `kind` would be answered: what was let in before it, and itself."""
        one, other = self.recommend, self.callback
        return one.in_flight * one.seconds + other.in_flight * other.seconds + kind.seconds
