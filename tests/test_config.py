"""The configuration file: what is accepted is typed, every mistake has its line, and all of them come at once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairec_fast.config import Config
from pairec_fast.config.positions import read
from pairec_fast.config.sections import Sections
from pairec_fast.errors import ConfigError
from tests.configs import KINDS, MINIMAL, MockRecall, load, load_errors, parse


def test_minimal_file_of_the_project_generator_loads_without_a_word(tmp_path, monkeypatch):
    config = load(tmp_path, json.dumps(MINIMAL), monkeypatch)
    assert config.recall_confs == (MockRecall("mock_recall", 200),)
    assert config.recalls("home_feed", "default") == ["mock_recall"]
    assert config.filters("home_feed") == ["UniqueFilter"]
    assert config.sorts("home_feed", "default") == ["ItemRankScore"]
    assert (config.listen_conf.http_addr, config.listen_conf.http_port) == ("", 8000)
    assert config.warnings == config.unused == ()


def test_every_error_is_reported_at_once_in_the_order_of_the_file(tmp_path, monkeypatch):
    text = """{
  "ListenConf": {"HttpPort": "80"},
  "RecallConfs": [{"Name": "u2i_collab", "RecallType": "MockRecall", "RecallCount": 1.5}],
  "SceneConfs": {"home_feed": {"default": {
\t"RecallNames": ["u2i_collab", "u2i_colab"]}}},
  "FilterConfs": [{"Name": "snake", "FilterType": "SnakeFilter"}, {"Name": "f", "FilterType": "SnakeFiltr"}],
  "SnapshotConf": {}
}"""
    assert load_errors(tmp_path, text, monkeypatch) == [
        'engine.json:2:30: ListenConf.HttpPort: expected an integer, got text "80"',
        "engine.json:3:85: RecallConfs[0].RecallCount: expected an integer, got 1.5",
        'engine.json:5:32: SceneConfs.home_feed.default.RecallNames[1]: unknown recall "u2i_colab" '
        '(did you mean "u2i_collab"?)',
        'engine.json:6:51: FilterConfs[0].FilterType: FilterType "SnakeFilter" is not available in this version',
        'engine.json:6:95: FilterConfs[1].FilterType: unknown FilterType "SnakeFiltr" (did you mean "SnakeFilter"?)',
        "engine.json:7:19: SnapshotConf: Directory is missing",
    ]


def test_keys_match_without_regard_to_case_and_places_are_still_found(tmp_path, monkeypatch):
    text = """{"LISTENCONF": {"httpport": 9},
    "recallconfs": [{"NAME": "m", "recalltype": "MockRecall", "recallCOUNT": 7}],
    "SCENECONFS": {"Home": {"default": {"recallnames": ["m"]}}},
    "rankconf": {"Home": {"rankscore": "${a}", "batchcount": 0}}%s}"""
    config = load(tmp_path, text % "", monkeypatch)
    assert config.listen_conf.http_port == 9
    assert config.recall_confs == (MockRecall("m", 7),)
    assert config.rank_conf["Home"].rank_score == "${a}"
    assert config.rank_conf["Home"].batch_count == 100
    assert config.recalls("Home", "default") == ["m"]
    assert config.recalls("home", "default") is None  # a scene is the user's name, not a field
    assert config.warnings == ()
    wrong = text.replace('["m"]', '["m", "n", 5]') % ""
    assert load_errors(tmp_path, wrong, monkeypatch) == [
        'engine.json:3:62: SceneConfs.Home.default.RecallNames[1]: unknown recall "n"',
        "engine.json:3:67: SceneConfs.Home.default.RecallNames[2]: expected text, got 5",
    ]


def test_exact_spelling_wins_over_another_case_and_says_so():
    for order in (1, -1):
        pairs = [("ListenConf", {"HttpPort": 1}), ("listenconf", {"HttpPort": 2})][::order]
        config = parse(**dict(pairs))
        assert config.listen_conf.http_port == 1
        assert config.warnings == (
            "configuration: listenconf: means ListenConf, which is given twice; this one is ignored",
        )
    assert parse(listenconf={"HttpPort": 1}, LISTENCONF={"HttpPort": 2}).listen_conf.http_port == 2


def test_last_of_duplicate_keys_counts_and_is_warned_about(tmp_path, monkeypatch):
    config = load(tmp_path, '{"ListenConf": {"HttpPort": 1, "HttpPort": 2}}', monkeypatch)
    assert config.listen_conf.http_port == 2
    assert config.warnings == ("engine.json:1:32: ListenConf.HttpPort: given more than once; the last one counts",)


def test_unknown_keys_are_accepted_but_named_with_the_nearest_known_one(tmp_path, monkeypatch):
    text = '{"SceneConf": {},\n "ListenConf": {"HtpPort": 1},\n'
    text += ' "RecallConfs": [{"Name": "a", "RecallType": "MockRecall",\n'
    text += ' "RecalCount": 1, "CacheTime": 3}], "SceneConfs": {"s": {"c": {"RecallNames": ["a"]}}}}'
    assert load(tmp_path, text, monkeypatch).warnings == (
        'engine.json:1:2: SceneConf: unknown key, ignored (did you mean "SceneConfs"?)',
        'engine.json:2:17: ListenConf.HtpPort: unknown key, ignored (did you mean "HttpPort"?)',
        'engine.json:4:2: RecallConfs[0].RecalCount: unknown key, ignored (did you mean "RecallCount"?)',
        "engine.json:4:19: RecallConfs[0].CacheTime: not used here",
    )


# PAI-Rec's, all of them.
TOP_LEVEL = [
    "RunMode",
    "Region",
    "ListenConf",
    "SceneConfs",
    "RecallConfs",
    "FilterConfs",
    "FilterNames",
    "SortConfs",
    "SortNames",
    "RankConf",
    "AlgoConfs",
    "UserFeatureConfs",
    "FeatureConfs",
    "GeneralRankConfs",
    "ColdStartGeneralRankConfs",
    "ColdStartRankConfs",
    "PipelineConfs",
    "CallBackConfs",
    "EmbeddingConfs",
    "DebugConfs",
    "FeatureLogConfs",
    "LogConf",
    "PrometheusConfig",
    "RedisConfs",
    "MysqlConfs",
    "KafkaConfs",
    "ClickHouseConfs",
    "HologresConfs",
    "LindormConfs",
    "HBaseConfs",
    "HBaseThriftConfs",
    "TableStoreConfs",
    "GraphConfs",
    "FeatureStoreConfs",
    "SlsConfs",
    "DatahubConfs",
    "BEConfs",
    "RecallEngineConfs",
    "Ha3EngineConfs",
    "OpenSearchConfs",
    "BeFilterConfs",
    "ABTestConf",
    "UserDefineConfs",
]


@pytest.mark.parametrize("key", TOP_LEVEL)
def test_every_top_level_key_of_pairec_is_known(key):
    config = parse(**{key: None})
    assert config.warnings == ()
    assert config.unused == ((f"configuration: {key}: accepted, does not act here",) if key in Sections.untyped else ())


def test_sections_nothing_uses_are_listed_but_not_in_the_way(tmp_path, monkeypatch):
    config = load(
        tmp_path, '{"ClickHouseConfs": {"h": {"DSN": "${NOT_SET_HERE}"}},\n "Region": "product"}', monkeypatch
    )
    assert config.unused == (
        "engine.json:1:2: ClickHouseConfs: accepted, does not act here",
        "engine.json:2:2: Region: accepted, does not act here",
    )
    assert config.raw["Region"] == "product"
    assert config.warnings == (
        "engine.json:1:35: ClickHouseConfs.h.DSN: the environment variable NOT_SET_HERE is not set",
    )


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "null", "[{}]"])
def test_what_is_not_an_object_is_refused(tmp_path, monkeypatch, text):
    (line,) = load_errors(tmp_path, text, monkeypatch)
    assert line.startswith("engine.json:1:1: expected an object at the top, got ")


def test_file_with_byte_order_mark_and_crlf_loads(tmp_path, monkeypatch):
    text = b"\xef\xbb\xbf" + json.dumps(MINIMAL, indent=1).encode().replace(b"\n", b"\r\n")
    assert load(tmp_path, text, monkeypatch).recalls("home_feed", "default") == ["mock_recall"]


def test_missing_file_and_folder_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.json: cannot read the configuration: No such file"):
        Config.load(tmp_path / "nothing.json", KINDS)
    with pytest.raises(ConfigError, match="cannot read the configuration: Is a directory"):
        Config.load(tmp_path, KINDS)
    with pytest.raises(ConfigError, match="cannot read the configuration: embedded null"):
        Config.load("a\0b", KINDS)


@pytest.mark.timeout(20)
def test_a_megabyte_of_anything_is_answered_in_time(tmp_path, monkeypatch):
    """Suggestions compare pairs of names: 20,000 wrong names against 20,000 right ones must not take hours."""
    (line,) = load_errors(tmp_path, b"\x00" * 1_000_000, monkeypatch)
    assert line == 'engine.json:1:1: expected a value, got "\\x00"'
    keys = {f"key{i}": i for i in range(20_000)}
    assert len(load(tmp_path, json.dumps(keys), monkeypatch).warnings) == 20_000
    recalls = [{"Name": f"recall_{i}", "RecallType": "MockRecall"} for i in range(10_000)]
    names = {"RecallNames": [f"recal_{i}" for i in range(10_000)]}
    wrong = {"RecallConfs": recalls, "SceneConfs": {"s": {"default": names}}}
    assert len(load_errors(tmp_path, json.dumps(wrong), monkeypatch)) == 10_000
    long = {"SceneConfs": {"s": {"default": {"RecallNames": ["x" * 1_000_000]}}}}
    assert len(load_errors(tmp_path, json.dumps(long), monkeypatch)[0]) < 200


def test_defaults_are_the_documented_ones():
    config = parse(SnapshotConf={"Directory": "snap"}, PrometheusConfig={"Subsystem": "", "Job": "j"})
    assert (config.snapshot_conf.directory, config.snapshot_conf.reload_seconds) == ("snap", 0)
    limit, ring = config.limit_conf, config.log_ring_conf
    assert (limit.candidates_max, limit.size_max, limit.history_max) == (4096, 1000, 1000)
    assert (limit.body_bytes_max, limit.in_flight_max, limit.p99_target_ms) == (1048576, None, 50.0)
    assert (ring.directory, ring.ring_bytes, ring.segment_bytes) == ("", 67108864, 134217728)
    assert (ring.segment_seconds, ring.sync_milliseconds) == (60, 50)
    assert (config.prometheus_config.enable, config.prometheus_config.subsystem) == (False, "pairec")
    assert config.prometheus_config.raw == {"Subsystem": "", "Job": "j"}


def test_features_and_algorithms_keep_what_is_not_typed():
    dao = {"adaptertype": "redis", "FeatureStore": "user", "RedisName": "r", "redisprefix": "p_", "CacheTime": 5}
    feature = {"FeatureType": "new_feature", "Normalizer": "weekday"}
    config = parse(
        UserFeatureConfs={"s": {"FeatureLoadConfs": [{"FeatureDaoConf": dao, "Features": [feature]}]}},
        RedisConfs={"r": {"Host": "localhost"}},
        AlgoConfs=[
            {"Name": "m", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "ctr"}},
            {"Name": "t", "Type": "TFSERVING", "TFservingConf": {"Url": "u"}, "LookupConf": {"FieldName": "f"}},
        ],
        RankConf={"s": {"RankAlgoList": ["m", "t"]}},
    )
    (load_conf,) = config.user_feature_confs["s"].feature_load_confs
    assert load_conf.feature_dao_conf.adapter_type == "redis"
    assert load_conf.feature_dao_conf.raw["RedisPrefix"] == "p_"
    (dao_conf, (feature,)) = load_conf.feature_dao_conf, load_conf.features
    assert (dao_conf.redis_prefix, dao_conf.redis_value_delimeter, dao_conf.cache_time) == ("p_", ",", 5)
    assert (feature.feature_type, feature.normalizer, feature.feature_store) == ("new_feature", "weekday", "")
    assert config.algo_confs[0].light_gbm_conf.model == "ctr"
    assert config.algo_confs[1].tfserving_conf == {"Url": "u"}
    assert config.algo_confs[1].lookup_conf.field_name == "f"
    assert config.warnings == ()


def test_paths_are_relative_to_the_file_and_not_to_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "engine.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    config = Config.load("conf/engine.json", KINDS)
    monkeypatch.chdir("/")
    assert config.path("snap/one") == tmp_path / "conf" / "snap" / "one"
    assert config.path("/var/snap").as_posix() == "/var/snap"
    monkeypatch.chdir(tmp_path)
    assert Config.parse({}, KINDS).path("x") == tmp_path / "x"


def test_parse_copies_so_that_later_changes_do_not_reach_the_engine():
    value = {"UserDefineConfs": {"a": [1]}}
    config = Config.parse(value, KINDS)
    value["UserDefineConfs"]["a"].append(2)
    assert config.user_define_confs == {"a": [1]}
    with pytest.raises(AttributeError):
        config.listen_conf = None


def test_dict_that_contains_itself_is_refused():
    value: dict = {}
    value["UserDefineConfs"] = [value] * 10
    with pytest.raises(ConfigError, match="nested deeper than"):
        Config.parse(value, KINDS)


_names = [*TOP_LEVEL, "Name", "RecallType", "RecallNames", "DataSource", "Type", "Triggers", "FeatureLoadConfs", "a"]
_texts = st.sampled_from([*_names, "MockRecall", "UserGroupHotRecall", "disk", "${HOME}", "${x y}", "${NO_SUCH}"])
_keys = st.sampled_from(_names) | st.sampled_from(_names).map(str.upper) | st.text(max_size=3)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=30,
)


@given(_json)
def test_any_json_value_is_a_configuration_or_a_config_error(value):
    """Through text and directly: the same verdict, and nothing but ConfigError."""
    lines = []
    for attempt in (lambda: Config.parse(value, KINDS), lambda: parse_text(value)):
        try:
            attempt()
            lines.append(0)
        except ConfigError as error:
            lines.append(len(str(error).split("\n")))
    assert lines[0] == lines[1]


def parse_text(value):
    return Config.parse(read(json.dumps(value).encode(), "x").value, KINDS)
