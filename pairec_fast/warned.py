"""Warnings that would come with every request, told seldom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

WARN_SECONDS = 10.0  # between lines about the same stage

log = logging.getLogger("pairec_fast")


class Warned:
    """Warnings that every request could bring while a store is down: of one scene and stage a line now, and one in
    `WARN_SECONDS` from then on, with how many were left out. Each is counted in `/metrics` anyhow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[float, int]] = {}  # when a line was written, how many left out since

    def __call__(self, scene: str, stage: str, told: str) -> None:
        now = self._clock()
        since, left_out = self._last.get((scene, stage), (float("-inf"), 0))
        if now - since < WARN_SECONDS:
            self._last[scene, stage] = since, left_out + 1
            return
        self._last[scene, stage] = now, 0
        more = f" ({left_out} more since the last such line)" if left_out else ""
        log.warning("%s: %s: %s%s", scene, stage, told, more)
