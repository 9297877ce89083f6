"""What stands before every live store: a limit of time, a count of failures, and rest for a store that is down."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pairec_fast.errors import StoreError, StoreLate
from pairec_fast.metrics import Metrics
from pairec_fast.store.deadline import within

T = TypeVar("T")

FAILURES_MAX = 5  # in a row, before the store is left alone
REST_SECONDS, REST_SECONDS_MAX = 0.25, 8.0  # how long it is left alone: doubled each time it fails again


class Gate:
    """Calls to one store. While it rests, calls fail at once, so that a dead store costs no request its deadline.

    After a rest one call is let through. If it succeeds all are; if it fails the next rest is twice as long.
    A store that answers with an error is alive: that fails the call alone.

    Used on the stores' loop alone, so nothing is locked. `down`, `refused` and `late` sort the client's errors.
    """

    def __init__(
        self,
        store: str,
        metrics: Metrics,
        down: tuple[type[Exception], ...],
        refused: tuple[type[Exception], ...],
        is_down: Callable[[Exception], bool] = lambda error: False,
        clock: Callable[[], float] = time.monotonic,
        late: tuple[type[Exception], ...] = (),
    ) -> None:
        self.store, self._metrics, self._clock = store, metrics, clock
        self._known, self._refused, self._is_down = (*down, *refused, *late), refused, is_down
        self._late = late  # clients have limits of their own, which may end before ours
        self._failures = 0
        self._rest = REST_SECONDS
        self._closed_until = 0.0
        self._last = ""

    async def call(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """What the coroutine of `make` returns.

        Raises:
            StoreLate: no answer within `seconds`, or within the client's own limit.
            StoreError: down, refused by the store, or the store rests.
        """
        self._admit()
        try:
            result = await within(make(), seconds)
        except TimeoutError:
            self._failed("late", f"no answer within {seconds * 1000:g} ms")
            raise StoreLate(f"{self.store}: no answer within {seconds * 1000:g} ms") from None
        except self._known as error:
            told = _brief(error)
            if isinstance(error, self._late):
                self._failed("late", told)
                raise StoreLate(f"{self.store}: {told}") from error
            if isinstance(error, self._refused) and not self._is_down(error):
                self._count("refused")
                self._succeeded()
            else:
                self._failed("down", told)
            raise StoreError(f"{self.store}: {told}") from error
        except BaseException:  # cancelled: the caller's deadline was shorter than ours
            self._failed("late", "the caller gave up waiting")
            raise
        self._succeeded()
        return result

    def _admit(self) -> None:
        if self._failures < FAILURES_MAX:
            return
        left = self._closed_until - self._clock()
        if left > 0:
            self._count("resting")
            raise StoreError(
                f"{self.store}: not asked for {left:.1f} s more, after {self._failures} failures in a row; the last: "
                f"{self._last}"
            )
        self._closed_until = self._clock() + self._rest  # this call is the trial; others rest until it is back

    def _succeeded(self) -> None:
        self._failures, self._rest, self._closed_until = 0, REST_SECONDS, 0.0

    def _failed(self, kind: str, told: str) -> None:
        self._count(kind)
        self._failures += 1
        self._last = told
        if self._failures >= FAILURES_MAX:
            self._closed_until = self._clock() + self._rest
            self._rest = min(2 * self._rest, REST_SECONDS_MAX)

    def _count(self, kind: str) -> None:
        self._metrics.count("store_errors_total", store=self.store, kind=kind)


def _brief(error: Exception) -> str:
    """The first line of what a client says, within bounds; its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
