"""An engine whose scene logs to DataHub: configuration to topic, and what `/metrics` shows."""

from __future__ import annotations

import os

import pytest

from pairec_fast import Engine
from pairec_fast.callback import log_directories
from pairec_fast.cli import main
from tests.datahubs import needs_client, wait_for
from tests.services.datahub import ACCESS_ID, ACCESS_KEY, PROJECT, DatahubServer
from tests.worlds import FIRST, LOGGED, World

needs_client()


@pytest.fixture
def hub(world: World, monkeypatch):
    monkeypatch.setenv("DATAHUB_KEY", ACCESS_KEY)
    world.callback["DataSource"] = {"Name": "hub", "Type": "datahub"}
    with DatahubServer() as server:
        world.conf["DatahubConfs"] = {
            "hub": {
                "AccessId": ACCESS_ID,
                "AccessKey": "${DATAHUB_KEY}",
                "Endpoint": server.endpoint,
                "ProjectName": PROJECT,
                "TopicName": "callbacks",
                "Directory": str(world.folder / "spill"),
            }
        }
        yield server


def test_callbacks_of_both_kinds_arrive_in_the_topic(hub, world):
    world.scene["default"] |= {"AutoInvokeCallBack": True}
    with world.engine() as engine:
        assert engine.callback(LOGGED | {"features": {"age": 25}})
        reply = engine.recommend(FIRST)
        assert shown(engine, "dead_letter") == 0
    rows = hub.rows("callbacks")
    assert {row["request_id"] for row in rows} == {"r1", reply.request_id}
    user, item = (row for row in rows if row["request_id"] == "r1")
    assert (user["module"], user["user_id"], user["scene"]) == ("user", "u00042", "home_feed")
    assert '"age":25' in str(user["user_features"])
    assert (item["module"], item["item_id"], item["user_features"]) == ("item", "i000012", None)


def shown(engine: Engine, word: str) -> float:
    """The sum of what `/metrics` shows under names with this word, whatever their labels."""
    return sum(value for name, value in engine.gauges().items() if word in name)


def test_metrics_show_what_waits_and_that_it_fails_in_numbers(hub, world):
    hub.stop()
    with world.engine() as engine:
        assert engine.callback(LOGGED)
        wait_for(lambda: shown(engine, "in_spill") == 1 and shown(engine, "failing_seconds") > 0)
        assert shown(engine, "errors") > 0 and shown(engine, "delivered_rows") == 0
        hub.start()
        wait_for(lambda: shown(engine, "in_spill") == 0)
        assert shown(engine, "failing_seconds") == 0 and shown(engine, "delivered_rows") == 2


def test_what_waits_can_be_read_by_the_log_command(hub, world, capsys):
    hub.stop()
    with world.engine() as engine:
        assert engine.callback(LOGGED)
    ((spill, _, _),) = log_directories(engine.config)
    assert main(["log", "verify", str(spill)]) == 0
    capsys.readouterr()
    assert main(["log", "dump", str(spill)]) == 0
    assert '"item_id":"i000012"' in capsys.readouterr().out


def test_the_spill_lies_under_tmp_beside_the_configuration_unless_said(hub, world, monkeypatch):
    monkeypatch.chdir(world.folder)
    del world.conf["DatahubConfs"]["hub"]["Directory"]
    with Engine.from_config(world.write()) as engine:
        assert engine.callback(LOGGED)
    assert sorted(os.listdir(world.folder / "tmp" / PROJECT / "callbacks" / "hub")) == ["log-0.lock"]
    assert len(hub.rows("callbacks")) == 2
