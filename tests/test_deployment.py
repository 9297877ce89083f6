"""A PAI-Rec deployment with a Redis and a PostgreSQL of its own: it is clean, answers, and goes on without either."""

from __future__ import annotations

import json
import re
from collections import Counter

import msgspec
import pytest

pytest.importorskip("redis")
pytest.importorskip("psycopg_pool")
pytest.importorskip("lightgbm")

from bench.deployed import HERE, SCENE, quantile, series
from bench.deployment import LIMIT_SECONDS, SLACK_SECONDS, State, measured, refused, table
from tests.services.process import offer


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployment")
    said: list[str] = []
    return offer(lambda: measured(folder, folder, 3_000, 30, said.append, users_max=60))


def test_the_configuration_is_as_large_as_it_says():
    """Five recalls, three of them local; six filters, two algorithms, four sorts, two layers, loads that transform."""
    conf = json.loads((HERE / "engine.json").read_text())
    adapters = re.findall(r'"AdapterType": "(\w+)"', json.dumps(conf["RecallConfs"]))
    assert len(conf["SceneConfs"][SCENE]["default"]["RecallNames"]) == 5 and sorted(adapters) == [
        "hologres", "local", "local", "redis"
    ]  # fmt: skip
    assert len(conf["FilterNames"]["default"]) == 6 and len(conf["SortNames"]["default"]) == 4
    assert len(conf["RankConf"][SCENE]["RankAlgoList"]) == 2
    (scene,) = json.loads((HERE / "experiments.json").read_text())["scenes"]
    assert len(scene["rooms"][0]["layers"]) == 2
    loads = [
        load for section in ("UserFeatureConfs", "FeatureConfs") for load in conf[section][SCENE]["FeatureLoadConfs"]
    ]
    assert len(loads) == 3 and all(load["Features"] for load in loads)


def test_answers_keep_coming_whole_whatever_happens_to_the_stores(done):
    wrong = [line for place, state in enumerate(done) for line in refused(state, place in (0, len(done) - 1))]
    assert wrong == []


def test_every_answer_names_the_parts_it_lacks(done):
    of_redis, of_postgres = {"UserFeatureConfs.home_feed.FeatureLoadConfs[1]", "nearline", "shown"}, {"recent"}
    lacks = [set(), of_redis, of_redis, of_postgres, of_postgres, of_redis | of_postgres, set()]
    for state, parts in zip(done, lacks, strict=True):
        if not parts:  # a busy machine may be late once
            continue
        assert {name.rpartition(": ")[0] for name in state.degraded} == parts, state.title
        assert state.degraded_answers == len(state.seconds), state.title


def test_users_fall_into_every_combination_of_the_layers(done):
    assert len(done[0].experiments) == 4


def test_the_table_has_a_row_of_each_state_twice(done):
    lines = table(done).splitlines()
    assert len(lines) == 2 * len(done) + 5
    assert all(sum(line.startswith(f"| {state.title} |") for line in lines) == 2 for state in done)


def test_what_is_wrong_with_a_state_is_found():
    good = State("s", [0.01] * 9, 0.1, 0, Counter({"a: error": 9}), 9, 9.0, set(), {})
    assert refused(good, False) == []
    change = msgspec.structs.replace
    assert "lack something although" in refused(good, True)[0]
    assert refused(change(good, short=1), False) == ["s: 1 answers were short"]
    assert "/metrics counted 8" in refused(change(good, counted=8.0), False)[0]
    assert "no answer says" in refused(change(good, degraded=Counter(), degraded_answers=0, counted=0.0), False)[0]
    assert "took" in refused(change(good, seconds=[LIMIT_SECONDS + SLACK_SECONDS + 0.01]), False)[0]


def test_quantiles_are_read_from_a_histogram_by_hand():
    counts = {0.1: 2.0, 0.2: 6.0, float("inf"): 8.0}
    assert quantile(counts, 0.5) == pytest.approx(0.15)
    assert quantile(counts, 0.125) == pytest.approx(0.05)
    assert quantile(counts, 0.99) == 0.2, "of what is beyond the last edge no more is known"
    assert series('pairec_a{b="c"} 2\npairec_ab{b="c"} 3\npairec_a 4\n', "a") == {'{b="c"}': 2.0, "": 4.0}
