"""Where the time of a scene's requests goes: stage by stage, against budgets, and that of the slowest one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pairec_fast.core.meter import Counter, Laps, Line
from pairec_fast.limits import STAGES, TOTAL
from pairec_fast.measures import RECOMMEND_SECONDS
from pairec_fast.metrics import Metrics, series

SLOWEST = 16  # requests of a scene whose stages are kept, of each period
PERIOD_NS = 60_000_000_000  # the slowest are of this one and the one before it

Budgets = Mapping[str, Mapping[str, int]]


class Slow(NamedTuple):
    """A request that took `laps.nanoseconds`. `time` is when it ended, unix seconds."""

    time: float
    request_id: str
    laps: Laps


class Meters:
    """One for each scene that was ever bound."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._budgets: Budgets = {}
        self._known: dict[str, SceneMeter] = {}

    def bind(self, budgets: Budgets, scenes: Iterable[tuple[str, bool]]) -> None:
        """Hold requests against these budgets from now on; of each scene its name, and whether it waits for stores."""
        self._budgets = budgets
        for scene, waits in scenes:
            self._made(scene, waits)

    def of(self, scene: str, waits: bool = False) -> SceneMeter:
        """What counts requests of `scene`; "" is that of requests of none."""
        known = self._known.get(scene)
        return known if known is not None and known.waits >= waits else self._made(scene, waits)

    def gauges(self) -> dict[str, float]:
        return {name: value for meter in list(self._known.values()) for name, value in meter.gauges().items()}

    def _made(self, scene: str, waits: bool) -> SceneMeter:
        budgets, before = self._budgets.get(scene, self._budgets.get("*", {})), self._known.get(scene)
        if before is not None and before.budgets == budgets and before.waits >= waits:
            return before
        slowest, waits = (before.slowest, before.waits or waits) if before else (None, waits)
        made = self._known[scene] = SceneMeter(self._metrics, scene, budgets, waits=waits, slowest=slowest)
        return made


class SceneMeter:
    """What is counted of the requests of one scene. `line` is what counts; a request that it calls slow is to be kept.

    `budgets` are microseconds by stage, and of all under "total". Scene "" is that of requests of none: they have no
    stages. `waits`: whether waiting is counted, which most scenes never do.
    """

    def __init__(
        self, metrics: Metrics, scene: str, budgets: Mapping[str, int], *, waits: bool = False,
        slowest: Slowest | None = None,
    ) -> None:  # fmt: skip
        self.scene, self.budgets, self.waits = scene, budgets, waits
        self.answers = metrics.counter("rec_total", scene=scene, exp_id="")
        self.short = metrics.counter("size_not_enough_total", scene=scene, exp_id="")

        def over(stage: str) -> tuple[Counter | None, int]:
            if stage not in budgets:
                return None, 0
            return metrics.counter("over_budget_total", scene=scene, stage=stage), budgets[stage] * 1000

        def candidates(stage: str, direction: str) -> Counter:
            return metrics.counter("stage_candidates_total", scene=scene, stage=stage, direction=direction)

        stages = [
            (
                metrics.histogram("stage_duration_seconds", scene=scene, stage=stage),
                metrics.histogram("stage_wait_seconds", scene=scene, stage=stage) if waits else None,
                candidates(stage, "in") if stage != STAGES[0] else None,
                candidates(stage, "out"),
                *over(stage),
            )
            for stage in (STAGES if scene else ())
        ]
        whole = metrics.histogram("rec_duration_seconds", RECOMMEND_SECONDS, scene=scene, exp_id="") if scene else None
        self.line = Line(stages, (whole, None, None, None, *over(TOTAL)))
        self.slowest = slowest or Slowest()
        self.line.slow(*self.slowest.begins())

    def observe(self, laps: Laps, request_id: str) -> None:
        """Count a request that is over."""
        if self.line.observe(laps):
            self.line.slow(*self.slowest.keep(Slow(time.time(), request_id, laps)))

    def gauges(self) -> dict[str, float]:
        """The stages of the slowest request that is kept."""
        kept = self.slowest.kept()
        if not kept:
            return {}
        laps = kept[0].laps
        told = {stage: ns for stage, (ns, *_) in zip(STAGES, laps.stages, strict=True)} | {TOTAL: laps.nanoseconds}
        name = "slowest_request_seconds"
        return {series(name, scene=self.scene, stage=stage): ns * 1e-9 for stage, ns in told.items()}

    def lines(self) -> list[str]:
        """The slowest requests, one a line, slowest first; milliseconds."""
        now = time.time()
        return [
            f"slowest={place}\tage={now - slow.time:.0f}\tslowRequestId={slow.request_id}"
            f"\tcost={slow.laps.nanoseconds / 1e6:.3f}\tstages="
            + ",".join(f"{stage}:{ns / 1e6:.3f}" for stage, (ns, *_) in zip(STAGES, slow.laps.stages, strict=True))
            for place, slow in enumerate(self.slowest.kept(), 1)
        ]


class Slowest:
    """The slowest requests of the period that runs and of the one before it, `SLOWEST` of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = time.perf_counter_ns() + PERIOD_NS
        self._now = list[Slow]()
        self._before = list[Slow]()

    def begins(self) -> tuple[int, int]:
        """From how many nanoseconds on a request may be among them, and when that is to be asked anew."""
        with self._lock:
            return (self._now[-1].laps.nanoseconds if len(self._now) == SLOWEST else -1), self._until

    def keep(self, slow: Slow) -> tuple[int, int]:
        """`slow`, if it is one of the slowest. Returns what `begins` says from now on."""
        taken = slow.laps.nanoseconds
        end = slow.laps.begin + taken
        with self._lock:
            if end >= self._until:
                self._before = self._now if end < self._until + PERIOD_NS else []
                self._now, self._until = [], end + PERIOD_NS
            self._now.append(slow)
            self._now.sort(key=lambda one: -one.laps.nanoseconds)
            del self._now[SLOWEST:]
        return self.begins()

    def kept(self) -> list[Slow]:
        """At most `SLOWEST`, slowest first; what is older than two periods is left out."""
        oldest = time.perf_counter_ns() - 2 * PERIOD_NS
        with self._lock:
            kept = [one for one in self._now + self._before if one.laps.begin + one.laps.nanoseconds >= oldest]
        return sorted(kept, key=lambda one: -one.laps.nanoseconds)[:SLOWEST]
