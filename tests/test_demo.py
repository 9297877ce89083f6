"""The two demos: their world files and configurations are right before anything is built from them."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow")

from pairec_fast.config import Config
from pairec_fast.learn.demo import engine_config, world_text
from pairec_fast.learn.spec import load_world
from pairec_fast.scene import KINDS


def world_of(folder, data):
    (folder / "world.toml").write_text(world_text(data))
    return load_world(folder / "world.toml")


@pytest.mark.parametrize("data", ["world", "ml-100k"])
def test_world_file_and_configuration_name_the_same_things(tmp_path, data):
    world, config = world_of(tmp_path, data), Config.parse(engine_config(data, 8000), KINDS)
    made = {one.name for part in (world.vectors, world.lists, world.neighbours) for one in part}
    tables = set()
    for recall in engine_config(data, 8000)["RecallConfs"]:
        dao = recall.get("UserCollaborativeDaoConf", recall.get("DaoConf", {}))
        tables.add(dao.get("Item2ItemTable") or dao.get("TableName") or recall["HnswConf"]["Index"])
    assert tables <= made
    assert config.recalls("home_feed", "default") == [recall.name for recall in config.recall_confs]


def test_films_are_recalled_as_in_training(tmp_path):
    """A model that ranks other candidates than it was trained on ranks them worse, and nothing would say so."""
    served = {}
    for recall in engine_config("ml-100k", 8000)["RecallConfs"]:
        dao = recall.get("UserCollaborativeDaoConf", recall.get("DaoConf", {}))
        source = dao.get("Item2ItemTable") or dao.get("TableName") or recall["HnswConf"]["Index"]
        newest = recall.get("TriggerCount", 0)
        served[f"{source}:{newest}" if newest else source] = recall["RecallCount"]
    (model,) = world_of(tmp_path, "ml-100k").models
    assert served == model.candidates
    assert list(served) == list(model.candidates), "the first recall to bring a film keeps it"


def test_films_feed_twenty_features(tmp_path):
    (model,) = world_of(tmp_path, "ml-100k").models
    assert len(model.features) == len({feature.source for feature in model.features}) == 20
