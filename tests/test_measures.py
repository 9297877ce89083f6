"""PAI-Rec's metrics: names, labels and buckets as its dashboards know them."""

from __future__ import annotations

import pytest

from pairec_fast.core.meter import Laps
from pairec_fast.measures import (
    BODY_BYTES,
    HOSTS_MAX,
    RECOMMEND_SECONDS,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    RequestMeasures,
    SceneMeasures,
)
from pairec_fast.metrics import BUCKETS, Metrics
from tests.test_metrics import parsed


def buckets(samples: dict[str, float], name: str) -> dict[str, float]:
    """Counts by the text of their edge."""
    return {
        key.partition('le="')[2].removesuffix('"}'): value
        for key, value in samples.items()
        if key.startswith(f"pairec_{name}_bucket")
    }


def test_stages_of_a_scene_are_observed_under_the_names_of_pairec():
    metrics = Metrics()
    stages = ("recall", "filter", "features", "score", "rerank", "reply")
    measures = SceneMeasures(metrics, "home", ["hot", "near"], stages)
    ends = [1_000 + 5_000_000, 11_001_000, 12_001_000, 13_001_000, 14_001_000, 15_001_000]
    measures.walked(Laps.of(1_000, ends, [0] * 6, [0] * 6))
    samples = parsed(metrics.text())
    common = 'scene="home",exp_id=""'
    sums = {key: value for key, value in samples.items() if "_sum" in key}
    assert sums == {
        f"pairec_recall_duration_seconds_sum{{{common}}}": pytest.approx(0.005),
        f"pairec_filter_duration_seconds_sum{{{common}}}": pytest.approx(0.006),
        f'pairec_load_feature_duration_seconds_sum{{{common},stage="before_rank"}}': pytest.approx(0.001),
        f"pairec_rank_duration_seconds_sum{{{common}}}": pytest.approx(0.001),
        f"pairec_sort_duration_seconds_sum{{{common}}}": pytest.approx(0.001),
    }
    edges = buckets(samples, "recall_duration_seconds")
    assert list(edges) == [f"{edge:g}" for edge in STAGE_SECONDS] + ["+Inf"] and len(edges) == 25
    assert edges["0.005"] == 1 and buckets(samples, "filter_duration_seconds")["0.005"] == 0


def test_candidates_are_counted_by_recall_and_their_shares_shown():
    metrics = Metrics()
    measures = SceneMeasures(metrics, "home", ["hot", "near", "none"], ())
    measures.recalled([30, 10, 0])
    measures.recalled([0, 0, 0])
    assert parsed(metrics.text()) == {
        'pairec_recall_count{scene="home",recall_name="hot"}': 30,
        'pairec_recall_count{scene="home",recall_name="near"}': 10,
        'pairec_recall_count{scene="home",recall_name="none"}': 0,
        'pairec_recall_count_total{scene="home"}': 40,
        'pairec_recall_items_percentage{recall_name="hot"}': 0.75,
        'pairec_recall_items_percentage{recall_name="near"}': 0.25,
        'pairec_recall_items_percentage{recall_name="none"}': 0,
    }


def test_the_edges_of_pairec_are_among_those_of_whole_recommendations():
    assert {*STAGE_SECONDS, *BUCKETS} == set(RECOMMEND_SECONDS) and sorted(RECOMMEND_SECONDS) == [*RECOMMEND_SECONDS]


def test_requests_are_counted_and_measured_by_four_labels():
    metrics = Metrics()
    measures = RequestMeasures(metrics, enable=True)
    measures.answered(200, "POST", "h:8000", "/api/rec/feed", 0.01, 2000, 500)
    measures.answered(200, "POST", "h:8000", "/api/rec/feed", 0.02, 2100, 20_000_000)
    samples = parsed(metrics.text())
    labels = '{code="200",method="POST",host="h:8000",url="/api/rec/feed"}'
    assert samples[f"pairec_requests_total{labels}"] == 2
    assert samples[f"pairec_request_duration_seconds_sum{labels}"] == pytest.approx(0.03)
    assert list(buckets(samples, "request_duration_seconds")) == [f"{edge:g}" for edge in REQUEST_SECONDS] + ["+Inf"]
    sizes = buckets(samples, "response_size_bytes")
    assert list(map(float, sizes)) == [*BODY_BYTES, float("inf")]
    assert sizes["1024"] == 1 and sizes["10485760"] == 1 and sizes["+Inf"] == 2
    assert buckets(samples, "request_size_bytes")["2048"] == 1


def test_configured_buckets_replace_those_of_pairec():
    metrics = Metrics()
    measures = RequestMeasures(metrics, enable=True, seconds=[1, 0.5], request_bytes=[10], response_bytes=[20])
    measures.answered(200, "GET", "h", "/ping", 0.7, 10, 20)
    samples = parsed(metrics.text())
    assert buckets(samples, "request_duration_seconds") == {"0.5": 0, "1": 1, "+Inf": 1}
    assert buckets(samples, "request_size_bytes") == {"10": 1, "+Inf": 1}
    assert buckets(samples, "response_size_bytes") == {"20": 1, "+Inf": 1}


def test_without_enable_requests_are_only_counted():
    metrics = Metrics()
    RequestMeasures(metrics, enable=False).answered(404, "GET", "h", "other", 0.1, 1, 1)
    assert parsed(metrics.text()) == {'pairec_requests_total{code="404",method="GET",host="h",url="other"}': 1}


def test_labels_that_clients_choose_do_not_fill_the_memory():
    metrics = Metrics()
    measures = RequestMeasures(metrics, enable=True)
    for number in range(2000):
        measures.answered(200, f"M{number}", f"host{number}", "/ping", 0.1, 1, 1)
        measures.answered(200, "GET", f"host{number}", "/ping", 0.1, 1, 1)
    counted = {key: value for key, value in parsed(metrics.text()).items() if "requests_total" in key}
    assert len(counted) <= 2 * (HOSTS_MAX + 1) and sum(counted.values()) == 4000
    assert len(measures._known) <= HOSTS_MAX
