"""Counters, histograms and gauges as Prometheus text: of one process, or summed over the workers of a service.

All that is counted lies in a slot of fixed memory (`slots`), so that any worker can show it and nothing grows. What
has no room there is refused, and how often is counted. Gauges belong to a worker: where there may be several, each
carries its number as the label `worker`, as of the last second.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.meter import Counter, Group, Histogram, Slot, Total
from pairec_fast.slots import Place, private

# Seconds. Two buckets an octave from 20 us to 2 s: where answers are expected. Prometheus' defaults start where we end.
BUCKETS = (*(round(20e-6 * 2 ** (step / 2), 7) for step in range(33)), 2.0)
PUBLISH_SECONDS = 1.0
STALE_SECONDS = 10.0  # gauges of a worker that has told nothing for so long are not shown

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]

log = logging.getLogger("pairec_fast")

_ENTRY = struct.Struct("<IIIIII")  # csrc/meter.hpp, MeterEntry
_COUNTER, _TOTAL, _HISTOGRAM = 1, 2, 3


class Series(NamedTuple):
    """One entry of a slot's table. `name` carries its labels in braces."""

    kind: int
    name: str
    bounds: tuple[float, ...]
    first: int
    cells: int


class Metrics:
    """`prefix` begins every name, with an underscore behind it: PAI-Rec's `PrometheusConfig.Subsystem`.

    `place` is where to count; by default in memory of this process.
    """

    def __init__(self, prefix: str = "pairec", place: Place | None = None) -> None:
        self.prefix = f"{prefix}_" if prefix else ""
        self.place = place or private()
        self._slot = self.place.slot
        self._tables: dict[int, _Table] = {}
        self._lock = threading.Lock()  # of what is registered, and of what is published
        self._counters: dict[Key, Counter] = {}
        self._histograms: dict[Key, Histogram] = {}
        self._totals: dict[str, Total | None] = {}
        self._gauges: dict[Key, float] = {}
        self._spare = Counter(np.zeros(1, np.uint64))  # where counts go that have no room
        self._released, self._published = False, 0.0

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter of that name and labels; hold on to it, so that a request need not look it up."""
        return self._counter((name, tuple(labels.items())))

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        self._counter((name, tuple(labels.items()))).add(amount)

    def group(self, *counters: Counter) -> Group:
        """What adds to several counters at one moment; hold on to it, as to a counter."""
        return Group(self._slot, *counters)

    def histogram(self, name: str, bounds: tuple[float, ...] = BUCKETS, **labels: str) -> Histogram:
        """The histogram of that name and labels; hold on to it, as to a counter. `bounds` are in ascending order."""
        key = name, tuple(labels.items())
        found = self._histograms.get(key)
        if found is None:
            with self._lock:
                cells = self._cells(_HISTOGRAM, name + _braces(key[1]), bounds)
                made = Histogram(bounds, cells)
                found = made if cells is None else self._histograms.setdefault(key, made)
        return found

    def set(self, name: str, value: float, **labels: str) -> None:
        """Let a gauge show `value` from now on."""
        self._gauges[name, tuple(labels.items())] = value

    def put(self, values: Iterable[tuple[Key, float]]) -> None:
        """As `set`, of several gauges."""
        self._gauges.update(values)

    def publish(self, values: Mapping[str, float] | None = None) -> dict[str, float]:
        """Let other workers show this one's gauges, `values` among them; a name may carry its labels in braces. One
        that ends in `_total` is a counter, which begins at 0 when its process does. Returns the gauges."""
        with self._lock:
            gauges = {f"{name}{_braces(labels)}": value for (name, labels), value in dict(self._gauges).items()}
            for name, value in (values or {}).items():
                if not name.partition("{")[0].endswith("_total"):
                    gauges[name] = value
                    continue
                if name not in self._totals:
                    cells = self._cells(_TOTAL, name)
                    self._totals[name] = None if cells is None else Total(cells)
                if (total := self._totals[name]) is not None and not self._released:
                    total.reach(value)
            if self.place.shared and not self._released:
                told = dict(gauges)
                while not self._slot.put_gauges(msgspec.msgpack.encode((time.monotonic(), told))):
                    told.popitem()  # too many, which is never seen with what an engine tells
        return gauges

    def tick(self, values: Callable[[], Mapping[str, float]]) -> None:
        """Publish `values()` where others may look, once a second at most. Raises nothing: a thread lives on it."""
        now = time.monotonic()
        if self.place.shared and now - self._published >= PUBLISH_SECONDS:
            self._published = now
            try:
                self.publish(values())
            except Exception:
                log.exception("gauges cannot be published")

    def release(self) -> None:
        """Whoever comes may count on in this one's slot."""
        with self._lock:
            if not self._released and self.place.shared:
                self._slot.put_gauges(b"")
                self.place.release()
                self._released = True

    def text(self, values: Mapping[str, float] | None = None, *, own: bool = False) -> str:
        """Prometheus' text format, after `values` have been published. `own`: of this worker alone, and its gauges do
        not carry its number."""
        gauges, mine = self.publish(values), self.place.index
        others = [] if own else self.place.others()
        told = [(mine, gauges), *((index, _told(slot)) for index, slot, held in others if held)]
        labelled = self.place.labelled and not own
        slots = {mine: self._slot} | {index: slot for index, slot, _ in others}
        counters, histograms, refused = dict[str, float](), dict[str, _Buckets](), 0
        for index, slot in sorted(slots.items()):
            refused += slot.refused
            cells = slot.cells()
            amounts = cells.view(np.float64)
            with self._lock:
                known = self._tables.setdefault(index, _Table()).read(slot)
            series = [one for one in known if one.first + one.cells <= len(cells)]  # others came after the copy
            for one in series:
                if one.kind != _HISTOGRAM:
                    last = one.first + one.cells - 1
                    counters[one.name] = counters.get(one.name, 0) + float(amounts[last])
                    continue
                total = histograms.setdefault(one.name, _Buckets(one.bounds))
                total.add(one, cells, amounts)
        if refused:
            counters["metrics_series_refused_total"] = refused
        lines = self._simple(counters, "counter")
        family = ""
        for name, buckets in sorted(histograms.items(), key=_by_family):
            if (bare := name.partition("{")[0]) != family:
                family = bare
                lines.append(f"# TYPE {self.prefix}{bare} histogram")
            lines += buckets.lines(self.prefix, name)
        shown = {
            (_with(name, f'worker="{index}"') if labelled else name): value
            for index, known in told
            for name, value in known.items()
        }
        return "".join(f"{line}\n" for line in lines + self._simple(shown, "gauge"))

    def _simple(self, samples: dict[str, float], kind: str) -> list[str]:
        lines, family = list[str](), ""
        for name, value in sorted(samples.items(), key=_by_family):
            if (bare := name.partition("{")[0]) != family:
                family = bare
                lines.append(f"# TYPE {self.prefix}{bare} {kind}")
            lines.append(f"{self.prefix}{name} {value:.17g}")
        return lines

    def _counter(self, key: Key) -> Counter:
        found = self._counters.get(key)
        if found is None:
            with self._lock:
                cells = self._cells(_COUNTER, key[0] + _braces(key[1]))
                found = self._spare if cells is None else self._counters.setdefault(key, Counter(cells))
        return found

    def _cells(self, kind: int, name: str, bounds: tuple[float, ...] = ()) -> NDArray[np.uint64] | None:
        """Those of a series: as a worker before this one left them, or new ones; None if there is no room."""
        table = self._tables.setdefault(self.place.index, _Table())
        table.read(self._slot)
        one = table.known.get((kind, name, bounds))
        if one is not None:
            return self._slot.view(one.first, one.cells)
        count = {_COUNTER: 1, _TOTAL: 2}.get(kind, len(bounds) + 2)
        text = struct.pack(f"<{len(bounds)}d", *bounds) + name.encode(errors="replace")
        return self._slot.append(kind, count, text)


class _Table:
    """What a slot's table says, read once: entries neither change nor go."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str, tuple[float, ...]], Series] = {}
        self._read = 0

    def read(self, slot: Slot) -> list[Series]:
        data, at = slot.table(self._read), 0
        while at < len(data):
            size, kind, first, cells, length, _ = _ENTRY.unpack_from(data, at)
            text = data[at + _ENTRY.size : at + _ENTRY.size + length]
            edges = cells - 2 if kind == _HISTOGRAM else 0
            bounds = struct.unpack_from(f"<{edges}d", text)
            name = text[8 * edges :].decode(errors="replace")
            self.known[kind, name, bounds] = Series(kind, name, bounds, first, cells)
            at += size
        self._read += at
        return list(self.known.values())


class _Buckets:
    """A histogram, summed over workers."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, one: Series, cells: NDArray[np.uint64], amounts: NDArray[np.float64]) -> None:
        if one.bounds != self.bounds:  # a worker of another version: what it counted cannot be split anew
            return
        sum_at = one.first + one.cells - 1
        self.counts = [a + b for a, b in zip(self.counts, cells[one.first : sum_at].tolist(), strict=True)]
        self.sum += float(amounts[sum_at])

    def lines(self, prefix: str, name: str) -> list[str]:
        total, totals = 0, list[int]()
        for count in self.counts:
            total += count
            totals.append(total)
        *heads, sum_head, count_head = _heads(prefix, name, self.bounds)
        lines = [f"{head} {value}" for head, value in zip(heads, totals, strict=True)]
        return [*lines, f"{sum_head} {self.sum:.9g}", f"{count_head} {total}"]


@lru_cache(2048)
def _heads(prefix: str, name: str, bounds: tuple[float, ...]) -> tuple[str, ...]:
    """What the lines of a histogram begin with: most of the work of a scrape."""
    bare, _, labels = name.partition("{")
    rest = f"{{{labels}" if labels else ""
    edges = (*(f"{bound:.10g}" for bound in bounds), "+Inf")
    buckets = (_with(f"{prefix}{bare}_bucket{rest}", f'le="{edge}"') for edge in edges)
    return (*buckets, f"{prefix}{bare}_sum{rest}", f"{prefix}{bare}_count{rest}")


def series(name: str, **labels: str) -> str:
    """`name` and its labels, as `Metrics.publish` takes them."""
    return name + _braces(tuple(labels.items()))


def _told(slot: Slot) -> dict[str, float]:
    """The gauges of another worker, if they can be had and are of now."""
    try:
        at, gauges = msgspec.msgpack.decode(slot.gauges(), type=tuple[float, dict[str, float]])
    except msgspec.DecodeError:
        return {}
    return gauges if time.monotonic() - at < STALE_SECONDS else {}


def _by_family(sample: tuple[str, Any]) -> tuple[str, str]:
    return sample[0].partition("{")[0], sample[0]


def _with(name: str, label: str) -> str:
    """`name` with one more label behind those it has."""
    return f"{name[:-1]},{label}}}" if name.endswith("}") else f"{name}{{{label}}}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
