"""What the gate says of samples: bounds, budgets, stored runs and builds in turns; a small dose of `bench.gate`."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections import Counter

import pytest

from pairec_fast.latency import compare, instructions
from pairec_fast.latency.judge import judge_budget, judge_interleaved, judge_stored
from pairec_fast.latency.measure import Samples
from pairec_fast.latency.quantile import centre, interval, quantile, samples_needed, spread, values_needed
from pairec_fast.latency.terms import Limit
from pairec_fast.latency.turns import Measured, TurnError

TEN_PER_CENT = Limit("p99", ratio=1.10)


def test_a_quantile_is_the_smallest_sample_a_share_does_not_exceed():
    hundred = list(range(1, 101))
    assert [quantile(hundred, q) for q in (0.5, 0.99, 0.991, 0.999)] == [50, 99, 100, 100]
    assert quantile([7], 0.01) == quantile([7], 0.99) == 7


def test_bounds_of_a_quantile_by_hand():
    """Of six samples, the median lies outside first and last once in 32; within the second and fifth 22 % miss it."""
    assert interval([1, 2, 3, 4, 5, 6], 0.5) == (3, 1, 6)
    assert interval([1, 2, 3, 4, 5, 6], 0.5, 0.78) == (3, 2, 5)
    assert interval([1, 2, 3, 4, 5], 0.5) == (3, 0, math.inf)


def test_the_sample_a_bound_needs_is_the_first_that_has_one():
    assert samples_needed(0.99) == 368, "0.99 to the 367 is above 2.5 %"
    assert samples_needed(0.99, 0.90) == 299
    assert samples_needed(0.5) == 6
    for q in (0.5, 0.9, 0.99, 0.999):
        needed = samples_needed(q)
        assert interval(range(needed), q).high == needed - 1
        assert math.isinf(interval(range(needed - 1), q).high)


@pytest.mark.parametrize(("q", "count"), [(0.5, 50), (0.9, 200), (0.99, 1000)])
def test_bounds_hold_the_quantile_as_often_as_they_say(q, count):
    """Of exponential samples, whose quantile is known; 2,000 times."""
    draw = random.Random(1)
    true = -math.log(1 - q)
    missed = 0
    for _ in range(2000):
        found = interval(sorted(draw.expovariate(1) for _ in range(count)), q)
        missed += not found.low <= true <= found.high
    assert missed / 2000 < 0.065
    assert missed > 20, "bounds that never miss are wider than they need be"


def slow_signed_rank(values, tail):
    """Every way of signs, counted: how many of the smallest means may be left out at each end."""
    sums = Counter(sum(rank for rank in range(1, len(values) + 1) if rank in chosen) for chosen in subsets(len(values)))
    out = total = 0
    while (total := total + sums[out]) <= tail * 2 ** len(values):
        out += 1
    return out


def subsets(count):
    for size in range(count + 1):
        yield from map(set, itertools.combinations(range(1, count + 1), size))


@pytest.mark.parametrize("count", [1, 5, 6, 7, 10, 12])
def test_the_middle_and_its_bounds_agree_with_every_way_of_signs(count):
    draw = random.Random(count)
    values = [draw.gauss(0, 1) for _ in range(count)]
    means = sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))
    found = centre(values)
    out = slow_signed_rank(values, 0.025)
    assert (out == 0) == (count < values_needed()) == math.isinf(found.high)
    if out:
        assert found[1:] == (means[out - 1], means[-out])
    assert found.low <= found.value <= found.high


def test_a_wild_value_moves_neither_middle_nor_bounds_nor_spread():
    calm = [0.01 * at for at in range(-7, 8)]
    wild = [*calm[:-1], 90.0]
    assert centre(wild).value == pytest.approx(centre(calm).value, abs=0.03)
    assert centre(wild).high < 0.2
    assert spread(wild) == pytest.approx(spread(calm), rel=0.5)


def test_a_budget_is_judged_by_bounds_and_not_by_the_value():
    samples = list(range(1000, 2000))  # its p99 is 1989, bounded by 1982 and 1996
    said = {ns: judge_budget(samples, Limit("p99", budget_ns=ns)).verdict for ns in (1981, 1982, 1990, 1995, 1996)}
    assert said == {
        1981: "regress", 1982: "inconclusive", 1990: "inconclusive", 1995: "inconclusive", 1996: "pass"
    }  # fmt: skip
    few = judge_budget(samples[:100], Limit("p99", budget_ns=10_000))
    assert few.verdict == "inconclusive"
    assert "368 are needed" in few.reason


def exponential(draw, scale, count):
    return array("Q", (int(1e5 + scale * 1e5 * draw.expovariate(1)) for _ in range(count)))


def test_stored_runs_are_told_apart_only_where_their_bounds_are():
    draw = random.Random(2)
    base = exponential(draw, 1, 4000)
    half = Limit("p99", ratio=1.5)
    assert judge_stored(base, exponential(draw, 1, 4000), half).verdict == "pass"
    assert judge_stored(base, exponential(draw, 3, 4000), half).verdict == "regress"
    assert judge_stored(base, exponential(draw, 1.1, 4000), TEN_PER_CENT).verdict == "inconclusive"
    short = judge_stored(base[:200], exponential(draw, 3, 4000), half)
    assert short.verdict == "inconclusive"
    assert "n=200" in short.reason
    assert "not interleaved" in short.reason


def test_a_stored_run_that_moved_while_it_ran_decides_less():
    """The same samples in another order: sorted by time of the machine's mood, their parts differ."""
    draw = random.Random(3)
    calm = exponential(draw, 1, 4000)
    moody = array("Q", (ns * (1 + at // 1000) for at, ns in enumerate(calm)))
    mixed = list(moody)
    draw.shuffle(mixed)
    wide, narrow = (judge_stored(calm, of, TEN_PER_CENT).value for of in (moody, array("Q", mixed)))
    assert wide.low < narrow.low
    assert wide.high > narrow.high


class Machine:
    """Draws what a loaded machine makes of a function whose slowest 4 % take three times as long.

    As seen on a shared one of two cores at a load of 5: a process is faster or slower than its sister by 2 %, minutes
    and tenths of seconds are by 10 %, one call in 70 pays a timer's interrupt, and sometimes a process is out by half.
    """

    def __init__(self, seed):
        self._draw = random.Random(seed)

    def pair(self, tail=1.0, whole=1.0, calls=600):
        moods = [self._draw.gauss(0, 0.1) for _ in range(calls // 50)]
        return Measured(self._process(moods, 1.0, 1.0), self._process(moods, tail, whole), None)

    def _process(self, moods, tail, whole):
        draw = self._draw
        own = draw.gauss(0, 0.02) + (0.4 if draw.random() < 0.05 else 0)
        samples = Samples("closed")
        for mood in moods:
            scale = 1e5 * math.exp(own + mood + draw.gauss(0, 0.03)) * whole
            for _ in range(50):
                work = 3 * tail if draw.random() < 0.04 else 1
                noise = abs(draw.gauss(0, 0.02)) + (draw.expovariate(2) if draw.random() < 1 / 70 else 0)
                samples.cpu.append(int(scale * (work + noise)))
        samples.wall = samples.cpu
        return samples


@pytest.mark.parametrize(
    ("change", "wanted"),
    [({}, "pass"), ({"tail": 1.15}, "regress"), ({"whole": 1.15}, "regress")],
    ids=["identical", "its tail does 15 % more", "all of it does 15 % more"],
)
def test_what_is_planted_is_caught_and_what_is_not_there_is_not_found(monkeypatch, change, wanted):
    """Twenty comparisons; `python -m bench.gate --times 20` does the same with real processes."""
    said: Counter[str] = Counter()
    for seed in range(20):
        machine = Machine(seed)
        monkeypatch.setattr(
            compare, "measure_pair", lambda *_, machine=machine: ({"test": machine.pair(**change)}, set())
        )
        [found] = compare.interleave(None, None, [], [TEN_PER_CENT])
        said[found.verdicts[0].verdict] += 1
    if wanted == "regress":
        assert said["regress"] >= 19, said
    else:
        assert said["regress"] <= 1, said
        assert said["pass"] >= 15, said


def test_a_machine_too_noisy_decides_nothing_and_says_how_noisy():
    draw = random.Random(5)
    pairs = [
        tuple(exponential(draw, math.exp(draw.gauss(0, 1)), 300) for _ in range(2)) for _ in range(12)
    ]  # processes differ by a factor of e
    found = judge_interleaved(pairs, TEN_PER_CENT)
    assert found.verdict == "inconclusive"
    assert "too noisy: the base against itself moves by" in found.reason
    assert "load" in found.reason


@pytest.mark.parametrize(
    ("pairs", "calls", "said"), [(12, 20, "20 calls a process: p99 is of 100"), (5, 300, "5 pairs of processes; 6 are")]
)
def test_too_few_calls_or_processes_decide_nothing(pairs, calls, said):
    draw = random.Random(6)
    given = [(exponential(draw, 1, calls), exponential(draw, 9, calls)) for _ in range(pairs)]
    found = judge_interleaved(given, TEN_PER_CENT)
    assert found.verdict == "inconclusive"
    assert said in found.reason


def steady(ns):
    samples = Samples("closed")
    samples.cpu = samples.wall = array("Q", (ns + at % 7 for at in range(300)))
    return samples


def test_tests_still_open_are_measured_on_without_the_decided(monkeypatch):
    asked, noise = [], random.Random(7)

    def measure(base, head, arguments, number, scratch):
        asked.append(list(arguments))
        found = {"noisy": Measured(steady(10_000), steady(int(10_000 * math.exp(noise.gauss(0.09, 1)))), None)}
        if not arguments:
            found["calm"] = Measured(steady(10_000), steady(10_000), None)
        return found, {"alone"}

    monkeypatch.setattr(compare, "measure_pair", measure)
    told = []
    found = {each.test: each for each in compare.interleave(None, None, [], [TEN_PER_CENT], 10, told.append)}
    assert [len(found[name].pairs) for name in ("calm", "noisy")] == [10, 40]
    assert (found["calm"].verdicts[0].verdict, found["noisy"].verdicts[0].verdict) == ("pass", "inconclusive")
    assert all(arguments[0].startswith("--latency-tests=") for arguments in asked[10:])
    assert any("alone: only one of the two" in line for line in told)


def test_a_test_of_too_few_calls_is_not_run_again_for_nothing(monkeypatch):
    few = Samples("closed")
    few.cpu = few.wall = array("Q", [1000] * 20)
    monkeypatch.setattr(compare, "measure_pair", lambda *_: ({"test": Measured(few, few, None)}, set()))
    [found] = compare.interleave(None, None, [], [TEN_PER_CENT])
    assert (len(found.pairs), found.verdicts[0].verdict) == (compare.TIMES, "inconclusive")


def test_a_tests_own_ratio_stands_for_the_runs(monkeypatch):
    monkeypatch.setattr(
        compare, "measure_pair", lambda *_: ({"test": Measured(steady(10_000), steady(13_000), 1.5)}, set())
    )
    [found] = compare.interleave(None, None, [], [TEN_PER_CENT, Limit("p50", ratio=1.1)])
    assert [(each.limit.name, each.verdict) for each in found.verdicts] == [("p99", "pass"), ("p50", "regress")]


def test_benchmarks_that_measure_nothing_are_an_error(monkeypatch):
    monkeypatch.setattr(compare, "measure_pair", lambda *_: ({}, set()))
    with pytest.raises(TurnError, match="no test uses the latency fixture"):
        compare.interleave(compare.Side("base", "", None), compare.Side("head", "", None), [], [TEN_PER_CENT])


@pytest.mark.parametrize(
    ("head", "verdict"),
    [([100.0, 120.0, 100.0], "pass"), ([104.0, 124.0, 104.0], "regress"), ([101.0, 124.0, 101.0], "inconclusive")],
)
def test_counts_are_compared_call_by_call(head, verdict):
    """The second round is of other calls: what they take more of on both sides is no noise."""
    assert instructions.judge("test", [100.0, 120.0, 100.0], head, 1.02).verdict == verdict


def test_a_machine_that_counts_no_instructions_is_noticed():
    counted = "1234567,,instructions:u,1000000,100.00,,\n"
    assert instructions.hardware_count(counted) == 1_234_567
    assert instructions.hardware_count("<not supported>,,instructions:u,0,100.00,,\n") is None
    assert instructions.hardware_count("") is None
