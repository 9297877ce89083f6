"""What an engine tells of its recommendations: metrics of PAI-Rec, the feature log and debug records, end to end."""

from __future__ import annotations

import json

import pytest

from pairec_fast import Engine
from pairec_fast.app import App
from pairec_fast.core import expand, read_segments
from pairec_fast.errors import ConfigError
from tests.test_metrics import parsed
from tests.worlds import FEED, FIRST, World, ask

LABELS = 'scene="home_feed",exp_id=""'


def rows(folder) -> list[dict]:
    return [json.loads(row) for payload, _, _ in read_segments(folder) for row in expand(payload)]


def with_sink(world: World, name: str = "told"):
    world.conf["DiskConfs"][name] = {"Directory": str(world.folder / name)}
    return world.folder / name


def test_the_feature_log_goes_to_its_sink_after_the_answer(world):
    folder = with_sink(world)
    world.conf["FeatureLogConfs"] = {
        "home_feed": {"OutputType": "disk", "DiskName": "told", "UserFeatures": "*", "ItemFeatures": "*"}
    }
    with world.engine() as engine:
        answer = ask(
            App(engine), FEED, FIRST | {"request_id": "r1", "size": 120, "features": {"hour": 3, "x": ""}}
        ).json
        assert parsed(engine.metrics_text())['pairec_records_total{kind="feature_log",scene="home_feed"}'] == 3
    logged = rows(folder)
    assert [row["item_id"] for row in logged] == [item["item_id"] for item in answer["items"]] and len(logged) == 120
    assert [row["position"] for row in logged[:3]] == ["1", "2", "3"]
    first = json.loads(logged[0]["item_features"])
    assert first["score"] == answer["items"][0]["score"] and first["retrieve_id"] == answer["items"][0]["retrieve_id"]
    assert list(first["algo_score"]) == ["ranker"] and first["recall_name"] == first["retrieve_id"]
    user = json.loads(logged[0]["user_features"])
    assert (user["hour"], user["uid"]) == (3, "u00042") and "x" not in user
    assert {row["scene_id"] for row in logged} == {"home_feed"} and "exp_id" not in logged[0]


def test_a_request_that_is_not_sampled_is_not_in_the_feature_log(world):
    folder = with_sink(world)
    world.conf["FeatureLogConfs"] = {"home_feed": {"OutputType": "disk", "DiskName": "told", "Rate": 50}}
    with world.engine() as engine:
        for number in range(40):
            engine.recommend(FIRST | {"request_id": f"r{number}"})
    logged = {row["request_id"] for row in rows(folder)}
    assert 5 < len(logged) < 35


def debugged(world: World, **conf) -> None:
    world.conf["DebugConfs"] = {"home_feed": {"Rate": 100, **conf}}
    with world.engine() as engine:
        engine.recommend(FIRST | {"request_id": "r1"})


def test_debug_records_of_every_stage_go_to_a_sink(world):
    folder = with_sink(world)
    debugged(world, OutputType="disk", DiskName="told")
    logged = rows(folder)
    assert list(dict.fromkeys(row["module"] for row in logged)) == ["recall", "filter", "rank", "sort", "recommend"]
    by_module = {module: [row for row in logged if row["module"] == module] for module in ("recall", "recommend")}
    assert len({row["retrieveid"] for row in by_module["recall"]}) == len(by_module["recall"]) > 1
    assert sum(row["items"].count("ranker") for row in by_module["recommend"]) == FIRST["size"]
    assert {(row["request_id"], row["uid"], row["scene_id"]) for row in logged} == {("r1", "u00042", "home_feed")}


def test_debug_records_go_to_files(world):
    debugged(world, OutputType="file", FilePath=str(world.folder / "debug"))
    (path,) = (world.folder / "debug").iterdir()
    assert '"module": "recall"' in path.read_text() and '"module": "recommend"' in path.read_text()


def test_debug_records_go_to_the_console(world, capsys):
    debugged(world, OutputType="console")
    lines = capsys.readouterr().out.splitlines()
    assert {json.loads(line)["module"] for line in lines} == {"recall", "filter", "rank", "sort", "recommend"}


def test_only_users_named_are_watched_where_no_percentage_is(world, capsys):
    world.conf["DebugConfs"] = {"home_feed": {"DebugUsers": ["u00001"], "OutputType": "console"}}
    with world.engine() as engine:
        engine.recommend(FIRST)
        engine.recommend(FIRST | {"uid": "u00001"})
    assert {json.loads(line)["uid"] for line in capsys.readouterr().out.splitlines()} == {"u00001"}


@pytest.mark.parametrize("section", ["FeatureLogConfs", "DebugConfs"])
def test_a_sink_that_is_not_defined_is_an_error(world, section):
    world.conf[section] = {"home_feed": {"OutputType": "disk", "DiskName": "logg"}}
    with pytest.raises(ConfigError, match=rf'{section}.home_feed.DiskName: unknown name "logg" in DiskConfs.*"log"'):
        world.engine()


def test_the_figures_of_pairec_are_told_where_the_configuration_enables_them(world):
    world.conf["PrometheusConfig"] = {"Enable": True}
    with world.engine() as engine:
        for _ in range(3):
            engine.recommend(FIRST)
        engine.recommend(FIRST | {"size": 1000})
        told = parsed(engine.metrics_text())
    for stage in ("recall", "filter", "rank", "sort"):
        assert told[f"pairec_{stage}_duration_seconds_count{{{LABELS}}}"] == 4
        assert told[f'pairec_{stage}_duration_seconds_bucket{{{LABELS},le="0.8"}}'] == 4
    assert told[f'pairec_load_feature_duration_seconds_count{{{LABELS},stage="before_rank"}}'] == 4
    assert told[f"pairec_rec_duration_seconds_count{{{LABELS}}}"] == 4
    assert told[f"pairec_rec_total{{{LABELS}}}"] == 4 and told[f"pairec_size_not_enough_total{{{LABELS}}}"] == 1
    counts = {key: value for key, value in told.items() if key.startswith("pairec_recall_count{")}
    assert sum(counts.values()) == told['pairec_recall_count_total{scene="home_feed"}'] > 0
    shares = [value for key, value in told.items() if key.startswith("pairec_recall_items_percentage{")]
    assert sum(shares) == pytest.approx(1)


def test_without_enable_only_our_own_figures_are_told(world):
    world.conf["PrometheusConfig"] = {"Enable": False}
    with world.engine() as engine:
        engine.recommend(FIRST)
        told = engine.metrics_text()
    assert "recall_duration_seconds" not in told and "recall_count" not in told
    assert f"pairec_rec_total{{{LABELS}}} 1\n" in told


def test_an_engine_that_is_bound_anew_goes_on_telling(world):
    world.conf["PrometheusConfig"] = {"Enable": True}
    with Engine.from_config(world.conf) as engine:
        engine.recommend(FIRST)
        engine.swap(engine.snapshot.directory)
        engine.recommend(FIRST)
        assert parsed(engine.metrics_text())[f"pairec_recall_duration_seconds_count{{{LABELS}}}"] == 2
