"""PAI-Rec's own metrics: their names, labels and buckets, so that dashboards keep working. *Source*: PAIREC 11.5.

Everything that a request needs is looked up when a scene is bound, or when a kind of request is seen first.
"""

from __future__ import annotations

from collections.abc import Sequence

from pairec_fast.core.meter import Counter, Histogram, Line
from pairec_fast.metrics import BUCKETS, Key, Metrics

STAGE_SECONDS = (
    0.005, 0.01, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45,
    0.5, 0.55, 0.6, 0.7, 0.8,
)  # fmt: skip
# Of a whole recommendation: PAI-Rec's edges among ours, because most answers end below the first of them.
RECOMMEND_SECONDS = tuple(sorted({*STAGE_SECONDS, *BUCKETS}))
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KIB, MIB = 1024.0, 1024.0**2
BODY_BYTES = (KIB, 2 * KIB, 5 * KIB, 10 * KIB, 100 * KIB, 500 * KIB, MIB, 2.5 * MIB, 5 * MIB, 10 * MIB)

# Of a stage of ours -> PAI-Rec's metric; the others are ours alone.
STAGES = {
    "recall": "recall_duration_seconds",
    "filter": "filter_duration_seconds",
    "general": "general_rank_duration_seconds",
    "features": "load_feature_duration_seconds",
    "score": "rank_duration_seconds",
    "rerank": "sort_duration_seconds",
}


class SceneMeasures:
    """What PAI-Rec counts of one scene. `exp_id` stays empty, as there."""

    def __init__(self, metrics: Metrics, scene: str, sources: Sequence[str], stages: Sequence[str]) -> None:
        """`stages` names the laps that `walked` is given, in order; `sources` the recalls that `recalled` counts."""
        self._metrics, self._sources = metrics, tuple(sources)
        times: list[Histogram | None] = []
        for stage in stages:
            labels = {"scene": scene, "exp_id": ""} | ({"stage": "before_rank"} if stage == "features" else {})
            name = STAGES.get(stage)
            times.append(metrics.histogram(name, STAGE_SECONDS, **labels) if name else None)
        self.walked = Line([(one, None, None, None, None, 0) for one in times]).observe
        counts = [metrics.counter("recall_count", scene=scene, recall_name=source) for source in self._sources]
        self._counts = metrics.group(*counts, metrics.counter("recall_count_total", scene=scene))
        self._shares: list[Key] = [("recall_items_percentage", (("recall_name", source),)) for source in self._sources]

    def recalled(self, counts: Sequence[int]) -> None:
        """How many candidates each source brought."""
        total = sum(counts)
        self._counts.add(*counts, total)
        if total:
            self._metrics.put(zip(self._shares, [count / total for count in counts], strict=True))


METHODS = {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"}
HOSTS_MAX = 32  # hosts with a label of their own; who sends others must not fill the memory
KNOWN_MAX = 128  # codes, methods, hosts and urls together with labels of their own


class RequestMeasures:
    """HTTP requests by code, method, host and url; their times and sizes only with `PrometheusConfig.Enable`."""

    def __init__(
        self, metrics: Metrics, *, enable: bool, seconds: Sequence[float] = (), request_bytes: Sequence[float] = (),
        response_bytes: Sequence[float] = (),
    ) -> None:  # fmt: skip
        """Buckets that are empty are PAI-Rec's."""
        self._metrics, self.enable = metrics, enable
        self._seconds = tuple(sorted(seconds)) or REQUEST_SECONDS
        self._request_bytes = tuple(sorted(request_bytes)) or BODY_BYTES
        self._response_bytes = tuple(sorted(response_bytes)) or BODY_BYTES
        self._hosts: set[str] = set()
        self._known: dict[tuple[int, str, str, str], tuple[Counter, tuple[Histogram, ...]]] = {}

    def answered(
        self, code: int, method: str, host: str, url: str, seconds: float, request_bytes: int, response_bytes: int
    ) -> None:
        """`url` is a route, or "other": a path of the client's own must not become a label."""
        known = self._known.get((code, method, host, url)) or self._add(code, method, host, url)
        counter, histograms = known
        counter.add()
        if histograms:
            times, asked, answered = histograms
            times.observe(seconds)
            asked.observe(request_bytes)
            answered.observe(response_bytes)

    def _add(self, code: int, method: str, host: str, url: str) -> tuple[Counter, tuple[Histogram, ...]]:
        known = host in self._hosts or len(self._hosts) < HOSTS_MAX
        own = method in METHODS and known and len(self._known) < KNOWN_MAX
        if own:
            self._hosts.add(host)
        labels = {"code": str(code), "method": method if method in METHODS else "other"}
        labels |= {"host": host if own else "other", "url": url}
        histograms = tuple(
            self._metrics.histogram(name, bounds, **labels)
            for name, bounds in (
                ("request_duration_seconds", self._seconds),
                ("request_size_bytes", self._request_bytes),
                ("response_size_bytes", self._response_bytes),
            )
            if self.enable
        )
        counter = self._metrics.counter("requests_total", **labels)
        if own:
            self._known[code, method, host, url] = counter, histograms
        return counter, histograms
