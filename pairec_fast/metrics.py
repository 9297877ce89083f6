"""Counters and latency histograms of one worker, as Prometheus text. Plain lists and dicts: updates are cheap."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

# Seconds. Two buckets an octave where answers are expected, from 50 us; Prometheus' defaults start where we end.
BUCKETS = tuple(round(50e-6 * 2 ** (step / 2), 7) for step in range(30))

Labels = tuple[tuple[str, str], ...]
Counter = tuple[str, Labels]


class Histogram:
    """`bounds` are the upper edges of its buckets, ascending."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Laps:
    """The histograms of the stages of a line, in order, and of `whole`, all in one call. None: not told."""

    def __init__(self, stages: Sequence[Histogram | None], whole: Histogram | None = None) -> None:
        self._stages, self._whole = stages, whole

    def observe(self, begin: int, laps: Sequence[int]) -> None:
        """`laps` are when each stage ended, nanoseconds, of what began at `begin`."""
        last = begin
        for histogram, lap in zip(self._stages, laps, strict=True):
            if histogram is not None:  # as `Histogram.observe`, without a call for each
                seconds = (lap - last) * 1e-9
                histogram.counts[bisect_left(histogram.bounds, seconds)] += 1
                histogram.sum += seconds
            last = lap
        if self._whole is not None:
            seconds = (last - begin) * 1e-9
            self._whole.counts[bisect_left(self._whole.bounds, seconds)] += 1
            self._whole.sum += seconds


class Metrics:
    """`prefix` begins every name, with an underscore behind it: PAI-Rec's `PrometheusConfig.Subsystem`."""

    def __init__(self, prefix: str = "pairec") -> None:
        self.prefix = f"{prefix}_" if prefix else ""
        self._lock = threading.Lock()  # an embedder's threads count together
        self._counters: dict[Counter, float] = {}
        self._histograms: dict[tuple[str, Labels], Histogram] = {}
        self._gauges: dict[Counter, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        key = (name, tuple(labels.items()))
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + amount

    def add(self, amounts: Iterable[tuple[Counter, float]]) -> None:
        """Several counters at one moment: what is read in between shows all of them or none."""
        with self._lock:
            counters = self._counters
            for counter, amount in amounts:
                counters[counter] = counters.get(counter, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Let a gauge show `value` from now on."""
        self._gauges[name, tuple(labels.items())] = value

    def put(self, values: Iterable[tuple[Counter, float]]) -> None:
        """As `set`, of several gauges."""
        self._gauges.update(values)

    def histogram(self, name: str, bounds: tuple[float, ...] = BUCKETS, **labels: str) -> Histogram:
        """The histogram of that name and labels; hold on to it, so that a request need not look it up."""
        return self._histograms.setdefault((name, tuple(labels.items())), Histogram(bounds))

    def text(self, gauges: Mapping[str, float] | None = None) -> str:
        """Prometheus' text format. `gauges` are values read at this moment; a name may carry its labels in braces."""
        lines: list[str] = []
        with self._lock:
            counters = dict(self._counters)
        for name in sorted({name for name, _ in counters}):
            lines.append(f"# TYPE {self.prefix}{name} counter")
            lines += [
                f"{self.prefix}{name}{_braces(labels)} {value:.17g}"
                for (other, labels), value in counters.items()
                if other == name
            ]
        histograms = dict(self._histograms)
        for name in sorted({name for name, _ in histograms}):
            lines.append(f"# TYPE {self.prefix}{name} histogram")
            for (other, labels), histogram in histograms.items():
                if other == name:
                    lines += self._histogram(name, labels, histogram)
        last = ""
        kept = {f"{name}{_braces(labels)}": value for (name, labels), value in dict(self._gauges).items()}
        for name, value in sorted((kept | dict(gauges or {})).items()):
            if (bare := name.partition("{")[0]) != last:
                lines.append(f"# TYPE {self.prefix}{bare} {'counter' if bare.endswith('_total') else 'gauge'}")
                last = bare
            lines.append(f"{self.prefix}{name} {value:.17g}")
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str, labels: Labels, histogram: Histogram) -> list[str]:
        lines, total = [], 0
        for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
            total += count
            edge = "+Inf" if bound == float("inf") else f"{bound:.10g}"
            lines.append(f"{self.prefix}{name}_bucket{_braces((*labels, ('le', edge)))} {total}")
        lines.append(f"{self.prefix}{name}_sum{_braces(labels)} {histogram.sum:.9g}")
        lines.append(f"{self.prefix}{name}_count{_braces(labels)} {total}")
        return lines


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
