"""ExperimentConf: the file is read with the configuration, and what its parameters override must exist."""

from __future__ import annotations

import json

import pytest

from pairec_fast.config import Config
from pairec_fast.errors import ConfigError
from pairec_fast.experiment import GLOBAL_SCENE
from tests.configs import KINDS, MINIMAL
from tests.test_experiment_match import experiment, group, layer, room, scene

CONF = MINIMAL | {
    "RecallConfs": [
        {"Name": "mock_recall", "RecallType": "MockRecall"}, {"Name": "hot", "RecallType": "MockRecall"},
    ],
    "FilterConfs": [{"Name": "few", "FilterType": "AdjustCountFilter"}],
    "SortConfs": [{"Name": "by_price", "SortType": "CustomFieldSort"}],
    "AlgoConfs": [{"Name": "ctr_model"}],
    "FeatureConfs": {"home_feed": {}, "home_feed_v2": {}},
    "ExperimentConf": {"File": "ab.json"},
}  # fmt: skip


def load(folder, document, conf=CONF):
    text = document if isinstance(document, str) else json.dumps(document, indent=1)
    (folder / "ab.json").write_text(text)
    return Config.parse(conf, KINDS, folder)


def errors(folder, document, conf=CONF):
    with pytest.raises(ConfigError) as caught:
        load(folder, document, conf)
    return str(caught.value).replace("configuration: ExperimentConf.File: ", "").split("\n")


def setting(name="home_feed", **params):
    """A scene with one group, which sets `params`."""
    return scene(name, room(1, layer(1, group(1, config=params))))


WHERE = "rooms[0].layers[0].experiment_groups[0].exp_group_config"


def test_what_experiments_use_is_used(tmp_path):
    params = {
        "default.RecallNames": ["hot", "mock_recall"], "filterNames": ["few"], "default.SortNames": ["by_price"],
        "rankconf": {"RankAlgoList": ["ctr_model"], "RankScore": "${ctr_model}"}, "features.scene.name": "home_feed_v2",
        "recall.hot": {"Name": "hot"}, "rankscore": "2*${w}", "w": 3, "any.thing": "goes", "filter.x": 1,
    }  # fmt: skip
    config = load(tmp_path, setting(**params))
    assert config.warnings == () and config.experiment_conf.file == "ab.json"
    unused = load(tmp_path, setting()).warnings
    assert sum("no scene uses it" in line for line in unused) == 4


def test_what_parameters_override_must_exist(tmp_path):
    document = setting(**{
        "default.RecallNames": ["hott", 5], "filterNames": ["feww"], "default.SortNames": "by_price",
        "rankconf": {"RankAlgoList": ["ctr_modl"], "RankScore": "1+", "BatchCount": "x"}, "rankscore": "${",
        "features.scene.name": "home_fed_v2", "user_features.stage.rank.scene.name": "x",
        "pipelines.side.RecallNames": ["mock_recal"],
    })  # fmt: skip
    lines = [line.split(f"{WHERE}", 1)[-1] for line in errors(tmp_path, document) if line.startswith("ab.json:")]
    assert sorted(lines) == sorted([
        '["default.RecallNames"][0]: unknown recall "hott" (did you mean "hot"?)',
        '["default.RecallNames"][1]: expected a name, got 5',
        '.filterNames[0]: unknown filter "feww" (did you mean "few"?)',
        '["default.SortNames"]: expected a list of names, got text "by_price"',
        '.rankconf.BatchCount: expected an integer, got text "x"',
        '.rankconf.RankAlgoList[0]: unknown algorithm "ctr_modl" (did you mean "ctr_model"?)',
        '.rankconf.RankScore: an operand is missing at the end (character 3)',
        '.rankscore: ${ is not closed (character 1)',
        '["features.scene.name"]: FeatureConfs has no scene "home_fed_v2" (did you mean "home_feed_v2"?)',
        '["user_features.stage.rank.scene.name"]: UserFeatureConfs has no scene "x"',
        '["pipelines.side.RecallNames"][0]: unknown recall "mock_recal" (did you mean "mock_recall"?)',
    ])  # fmt: skip


def test_a_formula_is_read_in_the_language_that_counts_for_it(tmp_path):
    """`rankscore` replaces the formula of the scene's RankConf, and keeps its ASTType."""
    formula = "2 > 1 ? 1 : 2"
    lines = errors(tmp_path, setting(rankscore=formula))
    assert any("rankscore: '>' is not part of the language" in line for line in lines)
    assert load(tmp_path, setting(rankconf={"RankScore": formula, "ASTType": "antlr"}))
    antlr = CONF | {"RankConf": {"home_feed": {"RankAlgoList": ["ctr_model"], "ASTType": "antlr"}}}
    lines = errors(tmp_path, setting(rankscore=formula, filterNames=["nope"]), antlr)
    assert not any("rankscore" in line for line in lines) and any("nope" in line for line in lines)


def test_errors_have_their_place_in_the_file_even_inside_a_text(tmp_path):
    inner = [experiment(1, config='{"default.RecallNames": ["hott"]}')]
    text = json.dumps(scene("home_feed", room(1, layer(1, group(1, inner)))), indent=1)
    line = next(at for at, line in enumerate(text.split("\n"), 1) if "hott" in line)
    assert errors(tmp_path, text)[0].startswith(f"ab.json:{line}:")


def test_a_slip_of_the_pen_is_a_warning(tmp_path):
    document = [
        setting(**{"filternames": ["few"], "defualt.RecallNames": ["hot"], "default.recallnames": ["hot"],
                   "filter.fw": {}, "default.SortNames": ["by_price"], "rankconf": {"RankAlgoList": ["ctr_model"]}}),
        setting("home_fed"), setting("home_feed_callback"), setting(GLOBAL_SCENE, filterNames=["few"]),
    ]  # fmt: skip
    lines = [line.partition("ab.json:")[2] for line in load(tmp_path, document).warnings]
    found = sorted(line.split("exp_group_config")[-1].split(":", 2)[-1] if "exp_group" not in line else
                   line.split("exp_group_config")[-1] for line in lines)  # fmt: skip
    assert found == sorted([
        '.filternames: overrides nothing; did you mean "filterNames"?',
        '["defualt.RecallNames"]: the scene has no category "defualt" (did you mean "default"?)',
        '["default.recallnames"]: overrides nothing; did you mean "default.RecallNames"?',
        '["filter.fw"]: overrides nothing: unknown filter "fw" (did you mean "few"?)',
        ' [1]: SceneConfs has no scene "home_fed" (did you mean "home_feed"?)',
    ])  # fmt: skip


def test_parameters_of_the_global_scene_are_checked_with_and_without_the_scenes_name(tmp_path):
    params = {"home_feed.default.RecallNames": ["hott"], "default.RecallNames": ["mock_recal"]}
    lines = errors(tmp_path, setting(GLOBAL_SCENE, **params))
    assert [name in " ".join(lines) for name in ('"hott"', '"mock_recal"')] == [True, True]


def test_parameters_that_a_global_one_completes_are_checked_as_they_come_out(tmp_path):
    own = scene("home_feed", room(1, layer(1, group(1, config='{"default.RecallNames": ["${one}"]}'))))
    found = errors(tmp_path, [setting(GLOBAL_SCENE, one="hott"), own])
    assert len(found) == 1 and 'unknown recall "hott"' in found[0]
    assert load(tmp_path, [setting(GLOBAL_SCENE, one="hot"), own])


def test_a_file_that_cannot_be_used_is_told_beside_other_errors(tmp_path):
    broken = CONF | {"SortNames": {"default": ["nope"]}}
    for document, what in (
        ("{", "ab.json:1:2: expected a key"), ("[", "ab.json:1:2: "), ({"scene": "s", "rooms": 5}, "ab.json:3:"),
        ({"scene": 7}, "scene: expected text that is not empty, got 7"),
    ):  # fmt: skip
        lines = errors(tmp_path, document, broken)
        assert len(lines) == 2 and "unknown sort" in " ".join(lines) and what in " ".join(lines), lines
    (tmp_path / "ab.json").unlink()
    with pytest.raises(ConfigError, match=r'ExperimentConf\.File: cannot read "ab.json": No such file'):
        Config.parse(CONF, KINDS, tmp_path)
    with pytest.raises(ConfigError, match="ExperimentConf: File is missing"):
        Config.parse(CONF | {"ExperimentConf": {}}, KINDS, tmp_path)
