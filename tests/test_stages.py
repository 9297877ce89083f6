"""Where the time goes: budgets of stages, the slowest requests, candidates and waits."""

from __future__ import annotations

import json
import random
import re
import threading
import time

import pytest

from pairec_fast import ConfigError, Engine
from pairec_fast.app import App
from pairec_fast.config import Config
from pairec_fast.core.meter import Laps
from pairec_fast.limits import STAGES
from pairec_fast.metrics import Metrics
from pairec_fast.reload import Reloader
from pairec_fast.scene import KINDS
from pairec_fast.stages import PERIOD_NS, SLOWEST, Meters, SceneMeter, Slow, Slowest
from tests.test_fallback import slowed, with_fallback
from tests.test_metrics import parsed
from tests.worlds import FEED, FIRST, ask

SHORT, LONG = 1, 60_000_000  # microseconds no stage keeps to, and all do


def budgeted(world, budgets) -> None:
    world.conf["LimitConf"] = {"BudgetMicroseconds": budgets}


def over(engine) -> dict[str, float]:
    """Requests over their budget, by stage."""
    found = {}
    for key, value in parsed(engine.metrics_text()).items():
        if told := re.fullmatch(r'pairec_over_budget_total\{scene="home_feed",stage="(\w+)"\}', key):
            found[told[1]] = value
    return found


def took(nanoseconds: int, end: int | None = None) -> Laps:
    """Laps of seven stages, of which the first took all."""
    end = time.perf_counter_ns() if end is None else end
    return Laps.of(end - nanoseconds, [end] * len(STAGES), [0] * len(STAGES), [0] * len(STAGES))


def test_requests_over_their_budget_are_answered_and_counted_by_stage(world):
    budgeted(world, {"home_feed": {"recall": SHORT, "score": LONG, "total": SHORT}})
    with world.engine() as engine:
        assert over(engine) == {"recall": 0, "score": 0, "total": 0}, "what is to be alerted on is there from the start"
        for _ in range(5):
            assert engine.recommend(FIRST).code == 200
        assert over(engine) == {"recall": 5, "score": 0, "total": 5}


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        ({"*": {"recall": SHORT}}, {"recall": 1}),
        ({"*": {"recall": SHORT}, "home_feed": {"score": SHORT}}, {"score": 1}),
        ({"home_feed": {}}, {}),
        ({}, {}),
    ],
)
def test_a_scene_that_is_not_named_has_the_budgets_of_all(world, budgets, told):
    budgeted(world, budgets)
    with world.engine() as engine:
        engine.recommend(FIRST)
        assert over(engine) == told


def test_a_budget_of_no_scene_or_no_stage_is_refused_with_its_place(world):
    budgeted(world, {"home_fed": {"recall": 5}, "home_feed": {"recal": 5, "x": 5}})
    with pytest.raises(ConfigError) as refused:
        Engine.from_config(world.write())
    lines = str(refused.value).splitlines()
    assert [re.sub(r"^.*engine\.json:\d+:\d+: LimitConf\.BudgetMicroseconds\.", "", line) for line in lines] == [
        'home_fed: unknown scene "home_fed" (did you mean "home_feed"?)',
        'home_feed.recal: unknown stage "recal" (did you mean "recall"?)',
        f'home_feed.x: unknown stage "x"; there are {", ".join(STAGES)}, total',
    ]


def test_budgets_change_while_running_and_counters_go_on(world):
    budgeted(world, {"home_feed": {"recall": SHORT}})
    path = world.write()
    with Engine.from_config(path) as engine:
        reloader = Reloader(engine, path)
        engine.recommend(FIRST | {"request_id": "before"})
        budgeted(world, {"home_feed": {"recall": LONG, "rerank": SHORT}})
        world.write()
        reloader.look()
        engine.recommend(FIRST)
        assert over(engine) == {"recall": 1, "rerank": 1}
        slow = [kept.request_id for kept in engine._meters.of("home_feed").slowest.kept()]
        assert "before" in slow and len(slow) == 2
        world.conf["LimitConf"] = {}
        world.write()
        reloader.look()
        engine.recommend(FIRST)
        assert over(engine) == {"recall": 1, "rerank": 1} and engine._meters.of("home_feed").budgets == {}


def test_budgets_of_a_configuration_that_is_refused_do_not_count(world):
    with world.engine() as engine:
        conf = json.loads(json.dumps(world.conf)) | {"LimitConf": {"BudgetMicroseconds": {"*": {"recall": SHORT}}}}
        conf["RecallConfs"][0]["HnswConf"]["Index"] = "nowhere"
        with pytest.raises(ConfigError):
            engine.reconfigure(Config.parse(conf, KINDS))
        engine.recommend(FIRST)
        assert over(engine) == {}


def test_the_slowest_are_exactly_those_of_this_period_and_the_one_before():
    """The line tells only of what may be among them; held against a list of all that were."""
    meter, draw, begin = SceneMeter(Metrics(), "s", {}), random.Random(3), time.perf_counter_ns()
    every, asked = list[tuple[int, int]](), 0
    keep = meter.slowest.keep

    def keeping(slow: Slow) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return keep(slow)

    meter.slowest.keep = keeping
    for number in range(4000):
        end, taken = begin + number * PERIOD_NS // 1600, draw.randrange(10**6)  # two and a half periods
        every.append((taken, end))
        meter.observe(took(taken, end), str(number))
    first = next(end for _, end in every if end >= begin + PERIOD_NS)
    second = next(end for _, end in every if end >= first + PERIOD_NS)
    expected = [
        sorted((one for one in every if low <= one[1] < high), reverse=True)[:SLOWEST]
        for low, high in ((first, second), (second, 10**30))
    ]
    with_clock_of_the_end = sorted(expected[0] + expected[1], reverse=True)[:SLOWEST]
    kept = sorted(meter.slowest._now + meter.slowest._before, key=lambda one: -one.laps.nanoseconds)
    assert [one.laps.nanoseconds for one in kept][:SLOWEST] == [taken for taken, _ in with_clock_of_the_end]
    assert asked < 600 and len(kept) == 2 * SLOWEST


def test_old_ones_are_forgotten_though_nobody_asks():
    slowest = Slowest()
    slowest.keep(Slow(0.0, "old", took(10**9, time.perf_counter_ns() - 3 * PERIOD_NS)))
    slowest.keep(Slow(0.0, "new", took(5)))
    assert [one.request_id for one in slowest.kept()] == ["new"]
    late = Slowest()
    for turn in range(3):  # nothing for longer than a period in between
        late.keep(Slow(0.0, str(turn), took(5, time.perf_counter_ns() + 3 * turn * PERIOD_NS)))
    assert [one.request_id for one in late._now + late._before] == ["2"]


def test_threads_keep_the_slowest_together():
    meter = SceneMeter(Metrics(), "s", {})
    laps = [took(1000 + number) for number in range(4000)]

    def work(mine: list[Laps]) -> None:
        for one in mine:
            meter.observe(one, "")

    threads = [threading.Thread(target=work, args=(laps[part::4],)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.laps.nanoseconds for one in meter.slowest.kept()] == [4999 - place for place in range(SLOWEST)]


def test_stages_of_the_slowest_are_in_metrics_and_in_debug_answers(world):
    budgeted(world, {"home_feed": {"rerank": 2500}})
    with world.engine() as engine:
        assert "slowest_request_seconds" not in engine.metrics_text()
        for number in range(40):
            engine.recommend(FIRST | {"request_id": f"r{number}"})
        samples = parsed(engine.metrics_text())
        told = {
            stage: samples[f'pairec_slowest_request_seconds{{scene="home_feed",stage="{stage}"}}']
            for stage in (*STAGES, "total")
        }
        total = told.pop("total")
        assert total == pytest.approx(sum(told.values())) and total > 0
        logs = ask(App(engine), FEED, FIRST | {"debug": True, "request_id": "mine"}).json["logs"]
    slow = [line for line in logs if "\tslowest=" in line]
    assert len(slow) == SLOWEST
    line = re.fullmatch(
        r"\[INFO\] requestId=mine\tslowest=1\tage=\d+\tslowRequestId=(r\d+|mine)\tcost=([\d.]+)\tstages=(.+)", slow[0]
    )
    stages = dict(part.split(":") for part in line[3].split(","))
    assert list(stages) == list(STAGES) and float(line[2]) == pytest.approx(sum(map(float, stages.values())), abs=0.01)
    costs = [float(re.search(r"\tcost=([\d.]+)", one)[1]) for one in slow]
    assert costs == sorted(costs, reverse=True)
    assert [line.split("\t")[-1] for line in logs if "module=rerank" in line] == ["budget=2.500"]


def modules(logs: list[str]) -> dict[str, dict[str, float]]:
    found = {}
    for line in logs:
        parts = dict(part.split("=", 1) for part in line.split("\t")[1:])
        if "module" in parts:
            module = parts.pop("module")
            found[module] = {name: float(value) for name, value in parts.items()}
    return found


def test_candidates_that_come_and_go_are_told_of_every_stage(world):
    with world.engine() as engine:
        answer = ask(App(engine), FEED, FIRST | {"debug": True, "size": 20}).json
        samples = parsed(engine.metrics_text())
    told = modules(answer["logs"])
    assert list(told) == [*STAGES, "total"]
    came, left = 0, 0
    for stage in STAGES:
        assert told[stage]["in"] == left, "what the stage before it left"
        came, left = told[stage]["in"], told[stage]["out"]
        for direction, count in (("in", came), ("out", left)):
            key = f'pairec_stage_candidates_total{{scene="home_feed",stage="{stage}",direction="{direction}"}}'
            assert samples.get(key, 0) == count
    assert left == len(answer["items"]) == 20
    assert told["recall"]["out"] == samples['pairec_recall_count_total{scene="home_feed"}']
    assert told["recall"]["out"] >= told["filter"]["out"] == told["score"]["out"] > 20
    assert not any("stage_wait_seconds" in key for key in samples), "nothing here waits"
    assert all(told[stage]["wait"] == 0 for stage in STAGES)
    assert told["total"]["cost"] == pytest.approx(sum(told[stage]["cost"] for stage in STAGES), abs=0.01)


def test_waits_for_live_stores_are_told_of_the_stage_that_waited(world):
    with world.engine() as engine:
        slowed(engine, 0.05)
        logs = ask(App(engine), FEED, FIRST | {"debug": True}).json["logs"]
        samples = parsed(engine.metrics_text())
    told = modules(logs)
    assert 50 <= told["recall"]["wait"] <= told["recall"]["cost"], "what it fetches is fetched before recall"
    assert all(told[stage]["wait"] == 0 for stage in STAGES[1:])
    counts = {key: value for key, value in samples.items() if "stage_wait_seconds_count" in key}
    assert len(counts) == len(STAGES) and sum(counts.values()) == 1
    told_seconds = told["recall"]["wait"] / 1e3
    assert samples['pairec_stage_wait_seconds_sum{scene="home_feed",stage="recall"}'] == pytest.approx(
        told_seconds, 0.1
    )


def test_what_comes_after_its_fallback_counts_when_it_is_over(world):
    with_fallback(world, Timeout=20)
    budgeted(world, {"*": {"total": SHORT}})
    with world.engine() as engine:
        slowed(engine, 0.2)
        assert engine.recommend(FIRST).degraded == ["recommendation: timeout"]
        assert over(engine) == {"total": 0}
        deadline = time.monotonic() + 10
        while over(engine) != {"total": 1}:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_request_of_no_scene_has_no_stages(world):
    with world.engine() as engine:
        engine.recommend(FIRST | {"scene_id": "nope"})
        samples = parsed(engine.metrics_text())
    assert samples['pairec_rec_total{scene="",exp_id=""}'] == 1
    assert not any('scene=""' in key and "stage" in key for key in samples)


def test_a_scene_that_begins_to_wait_keeps_what_was_counted():
    metrics = Metrics("")
    meters = Meters(metrics)
    meters.bind({"s": {"total": 1}}, [("s", False)])
    first = meters.of("s")
    first.observe(took(5000), "r")
    assert meters.of("s", True) is meters.of("s") is not first
    meters.of("s").observe(Laps.of(0, [9] * 7, [0] * 7, [3] * 7), "q")
    samples = parsed(metrics.text(meters.gauges()))
    assert samples['over_budget_total{scene="s",stage="total"}'] == 1
    assert samples['stage_duration_seconds_count{scene="s",stage="recall"}'] == 2
    assert samples['stage_wait_seconds_count{scene="s",stage="recall"}'] == 1
    assert meters.of("s").slowest.kept()[0].request_id == "r"
