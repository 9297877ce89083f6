"""Names: what is used must be defined, what is defined should be used, and scenes resolve as PAI-Rec does."""

from __future__ import annotations

import pytest

from pairec_fast.callback import sink_directories
from pairec_fast.config import Config
from pairec_fast.errors import ConfigError
from tests.configs import KINDS, errors_of, parse

TOPIC = {"Topic": "t", "BootstrapServers": "localhost:9092"}


def test_names_that_nothing_defines_are_errors_wherever_they_are_used():
    assert errors_of(
        SceneConfs={"s": {"default": {"RecallNames": ["UniqueFilter", "ContextItemRecall"]}}},
        FilterNames={"default": ["UniqueFilter", "UniqeFilter"]},
        SortNames={"s": ["ItemRankScore", "UniqueFilter"]},
        AlgoConfs=[{"Name": "ctr_model"}],
        RankConf={"s": {"RankAlgoList": ["ctr_model", "ctr_modl"]}},
        DiskConfs={"log": {"Directory": "x"}},
        CallBackConfs={
            "a": {"DataSource": {"Name": "log", "Type": "disk"}},
            "b": {"DataSource": {"Name": "lag", "Type": "disk"}},
            "c": {"DataSource": {"Name": "log", "Type": "kafka"}},
        },
    ) == [
        'SceneConfs.s.default.RecallNames[0]: unknown recall "UniqueFilter"',
        'FilterNames.default[1]: unknown filter "UniqeFilter" (did you mean "UniqueFilter"?)',
        'SortNames.s[1]: unknown sort "UniqueFilter"',
        'RankConf.s.RankAlgoList[1]: unknown algorithm "ctr_modl" (did you mean "ctr_model"?)',
        'CallBackConfs.b.DataSource.Name: unknown name "lag" in DiskConfs (did you mean "log"?)',
        'CallBackConfs.c.DataSource.Name: unknown name "log" in KafkaConfs',
    ]


def test_a_topic_in_use_names_its_brokers_and_has_a_directory_of_its_own():
    callbacks = {scene: {"DataSource": {"Name": scene, "Type": "kafka"}} for scene in "abc"}
    topic = {"Topic": "t", "BootstrapServers": "localhost:9092", "Directory": "spill"}
    confs = {"a": topic, "b": topic | {"Properties": {"sasl.password": "p"}}, "c": {"Topic": "t"}, "idle": {}}
    assert errors_of(KafkaConfs=confs, CallBackConfs=callbacks) == [
        'KafkaConfs.b: Directory "spill" is that of KafkaConfs.a too; each needs its own',
        "KafkaConfs.c: BootstrapServers is missing",
    ]


@pytest.mark.parametrize("topic", ["a b", "a/b", "é", ".", "..", "x" * 250])
def test_a_name_that_no_topic_can_have_is_refused_before_all_that_is_sent_there_is(topic):
    callbacks = {"a": {"DataSource": {"Name": "a", "Type": "kafka"}}}
    (error,) = errors_of(KafkaConfs={"a": TOPIC | {"Topic": topic}}, CallBackConfs=callbacks)
    assert error.startswith("KafkaConfs.a.Topic: expected 1 to 249 letters, digits")


HUB = {"AccessId": "i", "AccessKey": "k", "Endpoint": "http://h", "ProjectName": "pro", "TopicName": "t"}


def test_a_folder_belongs_to_one_sink_however_it_is_written():
    """DataHub's delivery removes the segments it has delivered: in a disk sink's folder, those of the log."""
    scenes = {"a": ("log", "disk"), "b": ("log", "datahub"), "c": ("log", "kafka"), "d": ("other", "datahub")}
    callbacks = {scene: {"DataSource": {"Name": name, "Type": kind}} for scene, (name, kind) in scenes.items()}
    assert errors_of(
        DiskConfs={"log": {"Directory": "log"}, "idle": {"Directory": "log"}}, KafkaConfs={"log": TOPIC},
        DatahubConfs={"log": HUB | {"Directory": "x/../log"}, "other": HUB | {"Directory": "spill/log/"}},
        CallBackConfs=callbacks,
    ) == [
        'DatahubConfs.log: Directory "x/../log" is that of DiskConfs.log too; each needs its own',
        'DatahubConfs.other: Directory "spill/log/" is that of KafkaConfs.log too; each needs its own',
    ]  # fmt: skip
    apart = parse(
        DiskConfs={"log": {"Directory": "log"}}, KafkaConfs={"log": TOPIC}, DatahubConfs={"log": HUB},
        CallBackConfs={scene: callbacks[scene] for scene in "abc"}, LogRingConf={"Directory": "rings"},
    )  # fmt: skip
    places = [place for kind in ("disk", "kafka", "datahub") for place in sink_directories(apart, kind, "log")]
    assert len(set(places)) == 6, "who opens a ring takes what was left in it: no two sinks of one name share theirs"


@pytest.mark.parametrize(
    ("servers", "warned"),
    [
        ("localhost", False),
        ("127.0.0.1:9092,[::1]:9092,plaintext://localhost:1", False),
        ("127.0.0.1:9092,10.0.0.1:9092", True),
        ("kafka.example:9092", True),
    ],
)
def test_brokers_elsewhere_without_a_security_protocol_are_a_warning(servers, warned):
    callbacks = {"a": {"DataSource": {"Name": "a", "Type": "kafka"}}}
    conf = {"Topic": "t", "BootstrapServers": servers}
    message = "configuration: KafkaConfs.a: brokers on other machines, and no security.protocol in Properties"
    warnings = parse(KafkaConfs={"a": conf}, CallBackConfs=callbacks).warnings
    assert [warning.startswith(message) for warning in warnings] == [True] * warned
    safe = conf | {"Properties": {"security.protocol": "ssl"}}
    assert parse(KafkaConfs={"a": safe}, CallBackConfs=callbacks).warnings == ()


def test_entry_with_an_error_still_defines_its_name():
    """Otherwise one wrong field would be reported again at every use of the entry."""
    assert errors_of(
        RecallConfs=[{"Name": "a", "RecallType": "ColdStartRecall"}],
        SceneConfs={"s": {"default": {"RecallNames": ["a"]}}},
    ) == ['RecallConfs[0].RecallType: RecallType "ColdStartRecall" is not available in this version']


def test_two_definitions_of_one_name_are_an_error():
    mock = {"Name": "a", "RecallType": "MockRecall"}
    assert errors_of(RecallConfs=[mock, mock], AlgoConfs=[{"Name": "a"}, {"Name": "b"}, {"name": "b"}]) == [
        'RecallConfs[1].Name: "a" is already the name of RecallConfs[0]',
        'AlgoConfs[2].Name: "b" is already the name of AlgoConfs[1]',
    ]


def test_definitions_without_use_are_warnings():
    config = parse(
        RecallConfs=[{"Name": name, "RecallType": "MockRecall"} for name in ("used", "idle", "piped")],
        FilterConfs=[{"Name": name, "FilterType": "AdjustCountFilter"} for name in ("action", "idle")],
        SceneConfs={"s": {"default": {"RecallNames": ["used", "used"]}}},
        PipelineConfs={"s": [{"RecallNames": ["piped"]}]},
        GeneralRankConfs={"s": {"ActionConfs": [{"ActionType": "filter", "ActionName": "action"}]}},
        DiskConfs={"d": {"Directory": "x"}},
    )
    assert config.warnings == (
        'configuration: SceneConfs.s.default.RecallNames[1]: "used" is listed twice',
        "configuration: RecallConfs[1].Name: defined but no scene uses it",
        "configuration: FilterConfs[1].Name: defined but no scene uses it",
        "configuration: DiskConfs.d: defined but no scene uses it",
    )


def test_scene_and_category_resolve_as_in_pairec():
    entry = {"RecallType": "MockRecall"}
    config = parse(
        RecallConfs=[entry | {"Name": "a"}, entry | {"Name": "b"}],
        SceneConfs={
            "s": {"c": {"RecallNames": ["a"]}, "default_category": {"RecallNames": ["b"]}, "e": {}},
            "t": {"default": {"RecallNames": ["a", "b"]}},
        },
        FilterConfs=[{"Name": "f", "FilterType": "AdjustCountFilter"}],
        FilterNames={"s": ["f"], "default": ["UniqueFilter"], "none": []},
        SortConfs=[{"Name": "o", "SortType": "CustomFieldSort"}],
        SortNames={"s": ["o", "ItemRankScore"], "c": ["o"], "none": []},
    )
    assert config.recalls("s", "c") == ["a"]
    assert config.recalls("s", "other") == ["b"]
    assert config.recalls("s", "e") == []
    assert config.recalls("t", "other") == []  # `default` is no `default_category`
    assert config.recalls("u", "c") is None
    assert config.filters("s") == ["f"]
    assert config.filters("t") == ["UniqueFilter"]
    assert config.filters("none") == []
    assert parse().filters("s") == []
    assert config.sorts("s", "c") == ["o", "ItemRankScore"]
    assert config.sorts("t", "c") == ["o"]
    assert config.sorts("t", "default") == ["ItemRankScore"]
    assert config.sorts("none", "c") == []


def test_a_rank_score_that_is_no_expression_is_an_error_at_its_place(tmp_path):
    path = tmp_path / "engine.json"
    path.write_text('{\n  "RankConf": {"home": {"RankScore": "exp(${a})"}}\n}')
    with pytest.raises(ConfigError, match=r"engine\.json:2:38: RankConf\.home\.RankScore: "):
        Config.load(path, KINDS)


def test_a_fallback_that_will_not_act_is_said():
    config = parse(SceneConfs={"s": {"default": {"FallbackConfig": {}}, "other": {"FallbackConfig": {"Timeout": 100}}}})
    (line,) = (line for line in config.unused if "FallbackConfig" in line)
    assert "SceneConfs.s.other.FallbackConfig: accepted, does not act here: it is read from category default" in line


def test_a_data_source_that_is_named_must_be_there():
    """PAI-Rec does not start either; a box would find out with the first request."""
    load = {"FeatureDaoConf": {"adaptertype": "redis", "redisname": "usrs", "FeatureStore": "user"}}
    vectors = {"Name": "v", "RecallType": "MockRecall", "HologresVectorConf": {"HologresName": "hollo"}}
    assert errors_of(
        UserFeatureConfs={"s": {"FeatureLoadConfs": [load]}},
        RecallConfs=[vectors, {"Name": "c", "RecallType": "MockRecall", "DaoConf": {"AdapterType": "clickhouse"}}],
        GeneralRankConfs={"s": {"FeatureLoadConfs": [{"FeatureDaoConf": {"AdapterType": "be", "BeName": "b"}}]}},
        RedisConfs={"users": {}}, HologresConfs={"holo": {"DSN": "d"}},
        UserDefineConfs={"AdapterType": "redis", "RedisName": "mine"},
    ) == [
        'UserFeatureConfs.s.FeatureLoadConfs[0].FeatureDaoConf.RedisName: unknown name "usrs" in RedisConfs '
        '(did you mean "users"?)',
        'RecallConfs[0].HologresVectorConf.HologresName: unknown name "hollo" in HologresConfs (did you mean "holo"?)',
        'GeneralRankConfs.s.FeatureLoadConfs[0].FeatureDaoConf.BeName: unknown name "b" in BEConfs',
    ]  # fmt: skip


def test_loads_that_would_do_nothing_are_told():
    load = {"FeatureDaoConf": {"AdapterType": "hologers", "FeatureStore": "item"}}
    feature = {"FeatureType": "new_feature", "Normalizer": "hour_of_day"}
    assert parse(FeatureConfs={"s": {"FeatureLoadConfs": [load | {"Features": [feature]}]}}).warnings == (
        'configuration: FeatureConfs.s.FeatureLoadConfs[0].FeatureDaoConf.AdapterType: unknown AdapterType "hologers" '
        '(did you mean "hologres"?): nothing is loaded, Features alone act',
        'configuration: FeatureConfs.s.FeatureLoadConfs[0].Features[0].Normalizer: unknown Normalizer "hour_of_day" '
        '(did you mean "hour_in_day"?): none is applied',
    )
    assert errors_of(UserFeatureConfs={"s": {"FeatureLoadConfs": [load]}}) == [
        'UserFeatureConfs.s.FeatureLoadConfs[0].FeatureDaoConf.FeatureStore: expected "user" here, got "item"'
    ]
    feature["FeatureType"] = "row_feature"
    (error,) = errors_of(FeatureConfs={"s": {"FeatureLoadConfs": [{"Features": [feature]}]}})
    assert error.endswith('got text "row_feature" (did you mean "raw_feature"?)')


def test_what_is_configured_for_a_scene_that_is_not_served_is_told():
    config = parse(
        SceneConfs={"home_feed": {"main": {}}},
        FilterNames={"default": [], "home_fed": []},
        SortNames={"default": [], "main": [], "other": []},
        RankConf={"home_feed": {}, "homefeed": {}},
        FeatureConfs={"home_feed": {}, "home_feed_callback": {}, "feed": {}},
    )
    assert config.warnings == (
        'configuration: FilterNames.home_fed: no scene of this name (did you mean "home_feed"?)',
        "configuration: SortNames.other: no scene of this name",
        'configuration: RankConf.homefeed: no scene of this name (did you mean "home_feed"?)',
        'configuration: FeatureConfs.feed: no scene of this name (did you mean "home_feed"?)',
    )


def test_a_recall_of_the_cloud_is_accepted_and_brings_nothing():
    """A deployment moves in with the rest of its recalls, and is told."""
    config = parse(
        RecallConfs=[{"Name": "be", "RecallType": "BeRecall", "RecallCount": 5, "BeConf": {"BeName": "b"}}],
        SceneConfs={"s": {"default": {"RecallNames": ["be"]}}},
    )
    assert config.unused == (
        "configuration: RecallConfs[0].RecallType: accepted, does not act here: BeRecall needs a service of the cloud",
    )
    assert config.warnings == ()
    (recall,) = config.recall_confs
    assert recall.name == "be" and recall.bind(None)(None, None) is None


def test_names_inside_of_entries_must_be_defined_too():
    fields = {"FilterConfs": [{"FilterName": "smal"}, {"FilterName": "small"}], "DefaultFilterName": "UniqueFilter"}
    general = {"ActionConfs": [{"ActionType": "filter", "ActionName": "o"}, {"ActionType": "sort", "ActionName": "o"}]}
    pipeline = {"RecallNames": ["hot"], "FilterNames": ["f"], "SortNames": []}
    adjust = [{"RecallName": "hott"}, {"RecallName": "hot"}]
    sorts = {"MixSortRules": [{"RecallNames": ["hot", "cold"]}], "ConditionSortConfs": {"DefaultSortName": "p"}}
    sections = {
        "RecallConfs": [{"Name": "hot", "RecallType": "MockRecall"}],
        "FilterConfs": [
            {"Name": "small", "FilterType": "AdjustCountFilter", "AdjustCountConfs": adjust},
            {"Name": "if", "FilterType": "AdjustCountFilter", "ConditionFilterConfs": fields},
        ],
        "SortConfs": [{"Name": "o", "SortType": "CustomFieldSort"} | sorts],
        "PipelineConfs": {"s": [pipeline | {"GeneralRankConf": general, "RankConf": {"RankAlgoList": ["ctr"]}}]},
    }
    assert sorted(errors_of(**sections)) == [
        'FilterConfs[1].ConditionFilterConfs.FilterConfs[0].FilterName: unknown filter "smal" (did you mean "small"?)',
        'PipelineConfs.s[0].FilterNames[0]: unknown filter "f" (did you mean "if"?)',
        'PipelineConfs.s[0].GeneralRankConf.ActionConfs[0].ActionName: unknown filter "o"',
        'PipelineConfs.s[0].RankConf.RankAlgoList[0]: unknown algorithm "ctr"',
        'SortConfs[0].ConditionSortConfs.DefaultSortName: unknown sort "p"',
    ]
    sound = {name: sections[name] for name in ("RecallConfs",)} | {"FilterConfs": sections["FilterConfs"][:1]}
    del sorts["ConditionSortConfs"]
    warnings = parse(**sound, SortConfs=[{"Name": "o", "SortType": "CustomFieldSort"} | sorts]).warnings
    assert [line for line in warnings if "unknown" in line] == [
        'configuration: FilterConfs[0].AdjustCountConfs[0].RecallName: unknown recall "hott" (did you mean "hot"?)',
        'configuration: SortConfs[0].MixSortRules[0].RecallNames[1]: unknown recall "cold"',
    ]


def test_a_name_in_a_formula_that_is_nearly_a_score_s_is_told():
    """It may be a property, so it is no error; and it counts 0, so nothing else would tell."""
    rank = {
        "RankAlgoList": ["ranker"],
        "RankScore": "${rankr} + ${current_scor} * ${price} + ${ranker_ctr} + ${ranker}",
    }
    algos = [{"Name": "ranker", "Type": "LOOKUP", "LookupConf": {"FieldName": "x"}}]
    warnings = parse(AlgoConfs=algos, RankConf={"s": rank}).warnings
    assert [line for line in warnings if "RankScore" in line] == [
        f'configuration: RankConf.s.RankScore: "{name}" is no score here (did you mean "{near}"?); '
        "an item without it counts 0"
        for name, near in (("rankr", "ranker"), ("current_scor", "current_score"))
    ]
