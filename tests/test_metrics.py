"""Counters and histograms as Prometheus reads them."""

from __future__ import annotations

import re
import sys
import threading

import pytest

from pairec_fast.metrics import BUCKETS, Metrics, series

SAMPLE = re.compile(
    r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
    r'(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*)\})? (?P<value>[-+]?(?:[0-9.]+(?:e[-+][0-9]+)?|Inf))'
)


def parsed(text: str) -> dict[str, float]:
    """Samples by name and labels, as written. Every line is of the text format, each name declared once, before."""
    assert not text or text.endswith("\n")
    kinds: dict[str, str] = {}
    samples: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            _, word, name, kind = line.split(" ")
            assert word == "TYPE" and kind in ("counter", "gauge", "histogram") and name not in kinds
            kinds[name] = kind
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        family = next(
            name for name in (sample["name"], re.sub("_(bucket|sum|count)$", "", sample["name"])) if name in kinds
        )
        assert family == list(kinds)[-1], f"{line}: not below its own TYPE line"
        key = line.rsplit(" ", 1)[0]
        assert key not in samples, f"{key} twice"
        samples[key] = float(sample["value"])
    return samples


def test_counters_by_name_and_labels():
    metrics = Metrics("shop")
    metrics.count("requests_total", path="/a", code="200")
    metrics.count("requests_total", 2, path="/b", code="200")
    metrics.count("other_total", 0)
    metrics.count("requests_total", path="/a", code="200")
    assert parsed(metrics.text({"age_seconds": 1.5})) == {
        "shop_other_total": 0,
        'shop_requests_total{path="/a",code="200"}': 2,
        'shop_requests_total{path="/b",code="200"}': 2,
        "shop_age_seconds": 1.5,
    }


def test_values_read_at_the_moment_may_carry_labels_and_are_typed_by_their_name():
    text = Metrics().text({'e_total{errno="EIO"}': 1, "age_seconds": 2, 'e_total{errno="ENOSPC"}': 3})
    assert parsed(text) == {
        "pairec_age_seconds": 2,
        'pairec_e_total{errno="EIO"}': 1,
        'pairec_e_total{errno="ENOSPC"}': 3,
    }
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert types == ["# TYPE pairec_e_total counter", "# TYPE pairec_age_seconds gauge"]


def test_several_counters_change_at_one_moment():
    """Whoever reads them sees their sum unchanged: the law by which they are checked."""
    metrics, stop = Metrics(), threading.Event()
    group = metrics.group(metrics.counter("offered_total"), metrics.counter("accepted_total"))

    def work() -> None:
        while not stop.is_set():
            group.add(1, 1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(300):
        samples = parsed(metrics.text())
        assert samples.get("pairec_offered_total", 0) == samples.get("pairec_accepted_total", 0)
    stop.set()
    thread.join()
    sys.setswitchinterval(interval)
    assert parsed(metrics.text())["pairec_accepted_total"] > 1000, "the other thread hardly ran"


def test_counters_that_are_new_change_at_one_moment_too():
    """One of them may be registered while the cells are copied."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    for _ in range(200):
        metrics = Metrics()

        def work(to: Metrics) -> None:
            group = to.group(to.counter("offered_total"), to.counter("accepted_total"))
            for _ in range(5):
                group.add(1, 1)

        thread = threading.Thread(target=work, args=(metrics,))
        thread.start()
        while thread.is_alive():
            samples = parsed(metrics.text())
            assert samples.get("pairec_offered_total", 0) == samples.get("pairec_accepted_total", 0)
        thread.join()
        assert "pairec_accepted_total 5\n" in metrics.text()
    sys.setswitchinterval(interval)


def test_counters_do_not_lose_digits():
    metrics = Metrics()
    metrics.count("n_total", 123_456_789_012)
    metrics.count("n_total")
    assert "pairec_n_total 123456789013\n" in metrics.text()


def test_histogram_buckets_are_cumulative_and_bounds_belong_to_them():
    metrics = Metrics()
    histogram = metrics.histogram("t_seconds", scene="s")
    assert metrics.histogram("t_seconds", scene="s") is histogram
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1], 100.0):
        histogram.observe(seconds)
    samples = parsed(metrics.text())
    counts = [value for key, value in samples.items() if "_bucket" in key]
    assert counts == [2, *[3] * (len(BUCKETS) - 2), 4, 5]
    assert samples['pairec_t_seconds_count{scene="s"}'] == 5
    assert samples['pairec_t_seconds_sum{scene="s"}'] == pytest.approx(100 + BUCKETS[0] * 2.01 + BUCKETS[-1])
    bounds = [re.search('le="([^"]+)"', key)[1] for key in samples if "_bucket" in key]
    assert (BUCKETS[0], BUCKETS[-1]) == (20e-6, 2.0) and bounds[-1] == "+Inf" and len(set(bounds)) == len(BUCKETS) + 1
    assert [float(bound) for bound in bounds[:-1]] == pytest.approx(BUCKETS, rel=1e-4)


def test_label_values_are_escaped():
    metrics = Metrics()
    metrics.count("x_total", scene='a"b\\c\nd,e}')
    assert list(parsed(metrics.text())) == ['pairec_x_total{scene="a\\"b\\\\c\\nd,e}"}']


def test_threads_that_count_together_lose_nothing():
    metrics, interval = Metrics(), sys.getswitchinterval()
    histogram = metrics.histogram("t_seconds")

    def work() -> None:
        for _ in range(20_000):
            metrics.count("n_total", scene="s")
            histogram.observe(0.001)

    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        parsed(metrics.text())
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    samples = parsed(metrics.text())
    assert samples['pairec_n_total{scene="s"}'] == samples["pairec_t_seconds_count"] == 80_000


def test_several_gauges_are_put_as_each_would_be():
    one, all_ = Metrics(), Metrics()
    one.set("level", 1, place="a")
    one.set("level", 2, place="b")
    all_.put([(("level", (("place", "a"),)), 1), (("level", (("place", "b"),)), 2)])
    assert parsed(all_.text()) == parsed(one.text()) and len(parsed(one.text())) == 2


def test_a_gauge_that_is_read_at_the_moment_may_carry_any_label():
    told = {series("slowest_seconds", scene='a"b{c', stage="recall"): 2.0}
    assert parsed(Metrics().text(told)) == {'pairec_slowest_seconds{scene="a\\"b{c",stage="recall"}': 2}
    assert series("n") == "n"


def test_families_are_told_apart_where_one_name_begins_another():
    """Each is declared once, and its samples stand together; `parsed` holds them against that."""
    metrics = Metrics()
    for name in ("a", "a_b", "ab"):
        metrics.count(name)
        metrics.count(name, scene="s")
        for end in ("", "_c"):
            metrics.histogram(f"h{name}{end}", (1.0,)).observe(1)
            metrics.histogram(f"h{name}{end}", (1.0,), scene="s").observe(1)
    assert len(parsed(metrics.text({"g": 1, "g_h": 1, 'g{x="y"}': 1}))) == 3 * 2 + 6 * 2 * 4 + 3


def test_what_has_no_room_is_refused_and_counted_and_all_else_goes_on():
    metrics = Metrics()
    early, histogram = metrics.counter("early_total"), metrics.histogram("early_seconds")
    count = 0
    while metrics._slot.refused == 0:
        metrics.count("n_total", scene=f"{count}{'x' * 1000}")
        count += 1
    metrics.count("n_total", scene="0" + "x" * 1000)  # an old one
    metrics.count("n_total", scene=f"{count - 1}{'x' * 1000}")  # the refused one again
    late = metrics.histogram("late_seconds", scene="x" * 2000)
    late.observe(1)
    early.add(5)
    histogram.observe(1)
    metrics.group(metrics.counter("n_total", scene="y" * 2000), early).add(7, 1)
    samples = parsed(metrics.text())
    assert 300 < count < 600 and sum(key.startswith("pairec_n_total") for key in samples) == count - 1
    assert sum(value for key, value in samples.items() if key.startswith("pairec_n_total")) == count
    assert samples["pairec_early_total"] == 6 and samples["pairec_early_seconds_count"] == 1
    assert samples["pairec_metrics_series_refused_total"] == 4 and sum(late.counts) == 1
    assert not any("late" in key for key in samples)
    assert len(metrics._counters) == count, "those that are refused leave nothing behind"
