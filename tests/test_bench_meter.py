"""The bench of what is told: it counts what an engine does, and its table says what `/metrics` shows."""

from __future__ import annotations

from bench.bench_meter import BUDGETS, calls, configured, table
from bench.turns import in_turns
from pairec_fast import Engine
from pairec_fast.limits import STAGES, TOTAL


def test_counting_is_a_small_part_of_a_request_and_the_table_tells_of_every_stage(shared_world):
    """By CPU time, in turns. A request of this small shop takes 100 us; the bound leaves room for a busy machine."""
    with Engine.from_config(configured(shared_world)) as engine:
        taken = in_turns(calls(engine), 5)
        text = engine.metrics_text()
    assert taken["counting"] < 0.05 * taken["Engine.recommend"]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(text).splitlines()]
    assert [row[0] for row in rows] == [*STAGES, TOTAL] and head[-1] == "slowest, us"
    requests = {int(row[1]) for row in rows}
    assert len(requests) == 1 and requests.pop() > 1000
    for stage, _, p50, p90, p99, came, left, budget, over, slowest in rows:
        assert 0 < float(p50) <= float(p90) <= float(p99) and int(slowest) >= 0
        assert budget == str(BUDGETS.get(stage, "")) and bool(over) == (stage in BUDGETS)
        assert stage == TOTAL or ((int(came) > 0 or stage == "recall") and int(left) > 0)
