"""`check --experiments`: a table of who falls where, or what a user falls into; it needs no snapshot."""

from __future__ import annotations

import json

import pytest

from pairec_fast.experiment import GLOBAL_SCENE
from tests.test_experiment_match import experiment, group, layer, room, scene


@pytest.fixture
def engine_json(tmp_path):
    split = [experiment(5, 1, 50, "0-50", '{"b":0}'), experiment(6, 2, 50, "50-100", '{"b":1}')]
    groups = [group(4, split, config='{"a":1}'), group(9, kind="Filter", filter="age > 30")]
    few = group(1, [experiment(1, 1, 10, "0-10"), experiment(2, 2, 0)], kind="Random", holding_buckets="0-20")
    rooms = [
        room(2, layer(3, *groups), layer(7, few)),
        room(8, type=2, bucket_type=1, bucket_count=10, exp_room_buckets="3"),
    ]
    document = [scene("home_feed", *rooms), scene("empty"), scene(GLOBAL_SCENE, room(1, layer(1)))]
    (tmp_path / "ab.json").write_text(json.dumps(document))
    conf = {
        "SceneConfs": {"home_feed": {"default": {}}, "empty": {}}, "ExperimentConf": {"File": "ab.json"}
    }  # fmt: skip
    (tmp_path / "engine.json").write_text(json.dumps(conf))
    return tmp_path / "engine.json"


def test_the_table_has_a_row_for_each_place_and_shares_that_add_up(run, engine_json):
    code, out, err = run("check", engine_json, "--experiments", "--users", 1000)
    head, *lines = out.splitlines()
    assert (code, err, head.split()) == (
        0, "", ["scene", "room", "layer", "group", "experiment", "takes", "buckets", "share"]
    )  # fmt: skip
    assert len({len(line) for line in lines}) == 1, "columns"
    cells = [line.rsplit(None, 1) for line in lines]
    shares = {" ".join(left.split()): float(share.rstrip("%")) for left, share in cells}
    assert shares.pop("home_feed 8 uid 3 of 10") == 10 and shares.pop("home_feed 2 base") == 90
    assert shares["home_feed 2 3 layer 3 4 All"] == 90 and shares["home_feed 2 3 layer 3 9 filter age > 30"] == 0
    halves = [shares[f"home_feed 2 3 layer 3 4 {rest}"] for rest in ("5 base 50 % 0-50", "6 test 50 % 50-100")]
    assert sum(halves) == pytest.approx(90) and all(40 < half < 50 for half in halves)
    held = shares["home_feed 2 7 layer 7 1 Random 0-20"]
    assert 14 < held < 22 and held + shares["home_feed 2 7 layer 7 the rest"] == pytest.approx(90)
    inside = [shares[f"home_feed 2 7 layer 7 1 {rest}"] for rest in ("1 base 10 % 0-10", "2 test 0 %")]
    # The base takes its bucket, and stands in as the default for all others.
    assert sum(inside) == pytest.approx(held) and inside[1] == 0
    assert shares["empty - the rest"] == 100 and shares["pairec_abtest_global_scene 1 1 layer 1 the rest"] == 100


def test_the_same_as_json(run, engine_json):
    _, out, _ = run("check", engine_json, "--experiments", "--users", 100, "--features", '{"age":31}', "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert {"scene": "empty", "room": None, "share": 1.0, "takes": "the rest"} in rows
    found = [row for row in rows if row.get("group") == 9]
    assert found == [
        {"scene": "home_feed", "room": 2, "share": 0.9, "layer": 3, "layer_name": "layer 3", "group": 9,
         "takes": "filter age > 30"}
    ]  # fmt: skip


def test_users_are_told_what_they_fall_into(run, engine_json):
    code, out, err = run("check", engine_json, "--experiments", "--uid", 13, "--uid", "u2", "--features", '{"age":31}')
    assert (code, err) == (0, "")
    assert [line.split("\t") for line in out.splitlines() if "home_feed" in line] == [
        ["13", "home_feed", "ER8_GL1", "{}"], ["u2", "home_feed", "ER2_L3#EG9_L7_GL1", "{}"]
    ]  # fmt: skip
    _, out, _ = run("check", engine_json, "--experiments", "--uid", "u2", "--json")
    assert json.loads(out.splitlines()[0]) == {
        "scene": "home_feed", "uid": "u2", "exp_id": "ER2_L3#EG4#E6_L7_GL1", "params": {"a": 1, "b": 1}
    }  # fmt: skip


def test_a_configuration_without_experiments_or_with_wrong_ones_is_a_failure(run, engine_json):
    (engine_json.parent / "ab.json").write_text('{"scene": "home_feed",\n "rooms": 5}')
    for verb in (["--experiments"], []):
        code, out, err = run("check", engine_json, *verb)
        assert (code, out) == (1, "") and "ExperimentConf.File: ab.json:2:11: rooms: expected a list, got 5" in err
    engine_json.write_text("{}")
    code, out, err = run("check", engine_json, "--experiments")
    assert (code, out) == (
        1,
        "",
    ) and 'engine.json: no ExperimentConf; it names the experiments, as {"File": ...}' in err
