"""What a value may be: its type, its range, the environment in it, and the fields of plug-ins."""

from __future__ import annotations

import json
import re

import pytest

from pairec_fast.config.kinds import STAGES
from pairec_fast.errors import ConfigError
from tests.configs import KINDS, Condition, FieldSort, errors_of, load, load_errors, parse
from tests.contract.config import run_config
from tests.worlds import suite

WRONG = r"""
{"ListenConf": 5}
    ListenConf: expected an object, got 5
{"ListenConf": []}
    ListenConf: expected an object, got a list of 0
{"ListenConf": {"HttpAddr": 1}}
    ListenConf.HttpAddr: expected text, got 1
{"ListenConf": {"HttpPort": true}}
    ListenConf.HttpPort: expected an integer, got true
{"ListenConf": {"HttpPort": 8000.0}}
    ListenConf.HttpPort: expected an integer, got 8000.0
{"ListenConf": {"HttpPort": 65536}}
    ListenConf.HttpPort: expected an integer <= 65535, got 65536
{"ListenConf": {"HttpPort": -1}}
    ListenConf.HttpPort: expected an integer >= 0, got -1
{"SceneConfs": "x"}
    SceneConfs: expected an object, got text "x"
{"SceneConfs": {"s": []}}
    SceneConfs.s: expected an object, got a list of 0
{"SceneConfs": {"s": {"c": 1}}}
    SceneConfs.s.c: expected an object, got 1
{"SceneConfs": {"s": {"c": {"RecallNames": "a"}}}}
    SceneConfs.s.c.RecallNames: expected a list, got text "a"
{"SceneConfs": {"s": {"c": {"AutoInvokeCallBack": 1}}}}
    SceneConfs.s.c.AutoInvokeCallBack: expected true or false, got 1
{"SceneConfs": {"s": {"c": {"AutoInvokeCallBackRate": 101}}}}
    SceneConfs.s.c.AutoInvokeCallBackRate: expected an integer <= 100, got 101
{"SceneConfs": {"s": {"c": {"FallbackConfig": []}}}}
    SceneConfs.s.c.FallbackConfig: expected an object, got a list of 0
{"RecallConfs": {}}
    RecallConfs: expected a list, got an object
{"RecallConfs": [1]}
    RecallConfs[0]: expected an object, got 1
{"RecallConfs": [{"Name": "a"}]}
    RecallConfs[0]: RecallType is missing
{"RecallConfs": [{"Name": "a", "RecallType": 5}]}
    RecallConfs[0].RecallType: RecallType must be text, got 5
{"RecallConfs": [{"RecallType": "MockRecall"}]}
    RecallConfs[0]: Name is missing
{"RecallConfs": [{"Name": "", "RecallType": "MockRecall"}]}
    RecallConfs[0].Name: a name must not be empty
{"FilterNames": {"s": "x"}}
    FilterNames.s: expected a list, got text "x"
{"SortNames": {"s": [null]}}
    SortNames.s[0]: expected text, got null
{"RankConf": {"s": {"BatchCount": -1}}}
    RankConf.s.BatchCount: expected an integer >= 0, got -1
{"RankConf": {"s": {"ScoreRewrite": {"a": 1}}}}
    RankConf.s.ScoreRewrite.a: expected text, got 1
{"AlgoConfs": [{"Type": "EAS"}]}
    AlgoConfs[0]: Name is missing
{"AlgoConfs": [{"Name": ""}]}
    AlgoConfs[0].Name: expected text of length >= 1, got text ""
{"AlgoConfs": [{"Name": "a", "LightGBMConf": {}}]}
    AlgoConfs[0].LightGBMConf: Model is missing
{"AlgoConfs": [{"Name": "a", "EasConf": 1}]}
    AlgoConfs[0].EasConf: expected an object, got 1
{"FeatureConfs": {"s": {"FeatureLoadConfs": [{"FeatureDaoConf": {"RedisName": 1}}]}}}
    FeatureConfs.s.FeatureLoadConfs[0].FeatureDaoConf.RedisName: expected text, got 1
{"CallBackConfs": {"s": {"DataSource": "x"}}}
    CallBackConfs.s.DataSource: expected an object, got text "x"
{"CallBackConfs": {"s": {}}}
    CallBackConfs.s.DataSource.Type: expected "disk", "kafka" or "datahub", got ""
{"CallBackConfs": {"s": {"DataSource": {"Type": "sls"}}}}
    CallBackConfs.s.DataSource.Type: expected "disk", "kafka" or "datahub", got "sls"
{"KafkaConfs": {"k": []}}
    KafkaConfs.k: expected an object, got a list of 0
{"PrometheusConfig": {"Subsystem": "a-b"}}
    PrometheusConfig.Subsystem: expected text matching regex '^([a-zA-Z_][a-zA-Z0-9_]*)?$', got text "a-b"
{"SnapshotConf": {"Directory": "s", "ReloadSeconds": -1}}
    SnapshotConf.ReloadSeconds: expected a number >= 0.0, got -1.0
{"LimitConf": {"CandidatesMax": 0}}
    LimitConf.CandidatesMax: expected an integer >= 1, got 0
{"LimitConf": {"BudgetMicroseconds": {"*": {"recall": 0}}}}
    LimitConf.BudgetMicroseconds["*"].recall: expected an integer >= 1, got 0
{"LimitConf": {"BudgetMicroseconds": {"*": {"total": 1.5}}}}
    LimitConf.BudgetMicroseconds["*"].total: expected an integer, got 1.5
{"LimitConf": {"BudgetMicroseconds": {"*": {"rank": 10}}}}
    LimitConf.BudgetMicroseconds["*"].rank: unknown stage "rank" (did you mean "rerank"?)
{"LimitConf": {"BudgetMicroseconds": {"home": {"recall": 10}}}}
    LimitConf.BudgetMicroseconds.home: unknown scene "home"
{"LimitConf": {"BudgetMicroseconds": {"*": 10}}}
    LimitConf.BudgetMicroseconds["*"]: expected an object, got 10
{"LogRingConf": {"RingBytes": 1000}}
    LogRingConf.RingBytes: expected a power of two, got 1000
{"LogRingConf": {"SegmentBytes": -1}}
    LogRingConf.SegmentBytes: expected an integer >= 1, got -1
{"LogRingConf": {"Durability": "x"}}
    LogRingConf.Durability: expected one of "memory", "process", "synced", "delivered", got text "x"
{"LogRingConf": {"ExplicitPolicy": "x"}}
    LogRingConf.ExplicitPolicy: expected one of "block", "drop_newest", got text "x"
{"LogRingConf": {"BlockMilliseconds": -1}}
    LogRingConf.BlockMilliseconds: expected a number >= 0.0, got -1.0
{"LogRingConf": {"BlockMilliseconds": 60000}}
    LogRingConf.BlockMilliseconds: expected a number <= 1000.0, got 60000.0
{"LogRingConf": {"RetentionBytes": 1000000}}
    LogRingConf.RetentionBytes: 1000000 is less than SegmentBytes, 134217728: segments would go as soon as closed
{"LogRingConf": {"FreeBytesMin": -1}}
    LogRingConf.FreeBytesMin: expected an integer >= 0, got -1
{"LogRingConf": []}
    LogRingConf: expected an object, got a list of 0
{"DiskConfs": {"d": {}}}
    DiskConfs.d: Directory is missing
{"RedisConfs": []}
    RedisConfs: expected an object, got a list of 0
{"RunMode": 1}
    RunMode: expected text, got 1
"""
WRONG_PAIRS = list(zip(*[iter(WRONG.strip().split("\n"))] * 2, strict=True))


@pytest.mark.parametrize(("sections", "error"), WRONG_PAIRS)
def test_one_wrong_value_is_one_error(sections, error):
    assert errors_of(**json.loads(sections)) == [error.strip()]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"x": {1, 2}}, "UserDefineConfs.x: a Python set is not JSON"),
        ({"x": float("nan")}, "UserDefineConfs.x: nan is not JSON"),
        ([{1: 2}], "UserDefineConfs[0]: keys must be text, got a Python int"),
    ],
)
def test_dict_may_hold_only_what_json_has(value, error):
    assert errors_of(UserDefineConfs=value) == [error]


def test_integer_too_long_to_print_is_refused_all_the_same():
    """Python refuses to print more than 4,300 digits."""
    assert errors_of(ListenConf={"HttpPort": 10**5000}) == [
        "ListenConf.HttpPort: expected an integer of 64 bits, got a larger one"
    ]


def test_null_is_as_good_as_missing():
    """As in Go, where null leaves the zero value."""
    config = parse(
        ListenConf={"HttpPort": None},
        SceneConfs={"s": {"default": None}, "t": None},
        RankConf={"s": {"RankAlgoList": None}},
        SnapshotConf=None,
        RecallConfs=None,
    )
    assert config.listen_conf.http_port == 8000
    assert config.recalls("s", "default") == []
    assert config.recalls("t", "default") == []
    assert config.snapshot_conf is None


def test_text_takes_values_from_the_environment_once(monkeypatch):
    monkeypatch.setenv("PAIREC_TEST_HOST", "box")
    monkeypatch.setenv("PAIREC_TEST_NESTED", "${PAIREC_TEST_HOST}")
    config = parse(
        ListenConf={"HttpAddr": "${PAIREC_TEST_HOST}.local"},
        UserDefineConfs=["${PAIREC_TEST_NESTED}", "$PAIREC_TEST_HOST ${ } ${a.b} ${"],
    )
    assert config.listen_conf.http_addr == "box.local"
    assert config.user_define_confs == ["${PAIREC_TEST_HOST}", "$PAIREC_TEST_HOST ${ } ${a.b} ${"]


def test_variable_that_is_not_set_is_an_error_at_its_place(tmp_path, monkeypatch):
    text = '{"KafkaConfs": {"k": {"Topic": "a",\n"BootstrapServers": "${NOT_SET_HERE}:9092"}}}'
    assert load_errors(tmp_path, text, monkeypatch) == [
        "engine.json:2:21: KafkaConfs.k.BootstrapServers: the environment variable NOT_SET_HERE is not set"
    ]


def test_variables_are_filled_in_at_any_depth_and_missing_ones_told_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIREC_TEST_KEY", "age")
    text = """{"RecallConfs": [{"Name": "hot", "RecallType": "UserGroupHotRecall",
  "Triggers": [{"TriggerKey": "${PAIREC_TEST_KEY}"}, {"TriggerKey": "x_${NOT_SET_HERE}"}]}]}"""
    assert load_errors(tmp_path, text, monkeypatch) == [
        "engine.json:2:69: RecallConfs[0].Triggers[1].TriggerKey: the environment variable NOT_SET_HERE is not set"
    ]
    monkeypatch.setenv("NOT_SET_HERE", "y")
    (recall,) = load(tmp_path, text, monkeypatch).recall_confs
    assert [trigger.trigger_key for trigger in recall.triggers] == ["age", "x_y"]


def test_placeholders_of_expressions_are_not_taken_for_variables(monkeypatch):
    """`${ctr}` in a RankScore is a score; replaced from the environment, it would change the model silently."""
    monkeypatch.setenv("ctr", "0")
    config = parse(
        RankConf={"s": {"RankScore": "${ctr} * 2 + ${cvr}", "ScoreRewrite": {"a": "${ctr}"}}},
        UserDefineConfs={"WhereClause": "t > ${time}"},
    )
    assert config.rank_conf["s"].rank_score == "${ctr} * 2 + ${cvr}"
    assert config.rank_conf["s"].score_rewrite == {"a": "${ctr}"}
    assert config.user_define_confs == {"WhereClause": "t > ${time}"}


def test_error_shows_the_variable_not_its_value(monkeypatch):
    monkeypatch.setenv("PAIREC_TEST_SECRET", "hunter2")
    (line,) = errors_of(ListenConf={"HttpPort": "${PAIREC_TEST_SECRET}"})
    assert line == 'ListenConf.HttpPort: expected an integer, got text "${PAIREC_TEST_SECRET}"'
    assert "hunter2" not in repr(parse(UserDefineConfs="${PAIREC_TEST_SECRET}"))


def test_nested_fields_of_a_plugin_have_places_too():
    triggers = [{"TriggerKey": "age", "Boundaries": [1, "2"]}, {}, {"triggerkey": "sex"}]
    assert errors_of(RecallConfs=[{"Name": "hot", "RecallType": "UserGroupHotRecall", "Triggers": triggers}]) == [
        'RecallConfs[0].Triggers[0].Boundaries[1]: expected an integer, got text "2"',
        "RecallConfs[0].Triggers[1]: TriggerKey is missing",
    ]


def test_plugin_may_use_the_types_msgspec_knows():
    entry = {"Name": "c", "RecallType": "ConditionRecall", "Mode": "snake", "Limit": 3, "Weights": {"A": 0, "b": 0.5}}
    config = parse(RecallConfs=[entry | {"When": {"Operator": "bool", "Configs": [{"operator": "in", "Value": [1]}]}}])
    (recall,) = config.recall_confs
    assert recall.when == Condition("bool", configs=(Condition("in", value=[1]),))
    assert (recall.mode, recall.limit, recall.weights) == ("snake", 3, {"A": 0.0, "b": 0.5})
    (plain,) = parse(RecallConfs=[{"Name": "c", "RecallType": "ConditionRecall", "Limit": "all"}]).recall_confs
    assert (plain.when, plain.limit) == (None, "all")
    wrong = {"Mode": "x", "Limit": [], "Weights": {"A": -1}, "When": {"Operator": "b", "Configs": [{"Operator": 1}]}}
    assert errors_of(RecallConfs=[entry | wrong]) == [
        'RecallConfs[0].Mode: expected one of "sum", "snake", got text "x"',
        "RecallConfs[0].Limit: expected an integer or text, got a list of 0",
        "RecallConfs[0].Weights.A: expected a number >= 0.0, got -1.0",
        "RecallConfs[0].When.Configs[0].Operator: expected text, got 1",
    ]


def test_deep_plugin_structures_stay_off_the_stack_limit():
    condition: dict = {"Operator": "bool"}
    for _ in range(45):
        condition = {"Operator": "bool", "Configs": [condition]}
    entry = {"Name": "c", "RecallType": "ConditionRecall", "When": condition}
    assert len(parse(RecallConfs=[entry]).recall_confs) == 1


def test_what_a_plugin_refuses_itself_is_an_error_at_its_entry():
    assert errors_of(RecallConfs=[{"Name": "hot", "RecallType": "UserGroupHotRecall", "Share": 2}]) == [
        "RecallConfs[0].Share: is 2.0; at most 1"
    ]


def test_plugin_may_carry_its_tag_itself():
    config = parse(
        SortConfs=[{"Name": "f", "SortType": "CustomFieldSort", "SortByField": "price"}], SortNames={"s": ["f"]}
    )
    assert config.sort_confs == (FieldSort("f", "price"),)
    assert config.warnings == ()


@pytest.mark.parametrize("stage", STAGES)
def test_types_pairec_has_and_this_version_lacks_are_told_from_typing_errors(stage):
    here = STAGES[stage]
    entries = [{"Name": f"n{i}", here.tag: kind} for i, kind in enumerate(sorted(here.known))]
    available = getattr(KINDS, stage)
    missing = here.known - here.cloud - set(available)
    assert len(errors_of(**{here.section: entries})) == len(missing)
    for line in errors_of(**{here.section: entries}):
        assert re.fullmatch(
            rf'{here.section}\[\d+\]\.{here.tag}: {here.tag} "\w+" is not available in this version', line
        )
    assert "unknown" in errors_of(**{here.section: [{"Name": "x", here.tag: "mockrecall"}]})[0]


def test_the_free_section_is_handed_out_whole_or_by_key_and_typed(tmp_path, monkeypatch):
    text = '{"UserDefineConfs": {"k": "v", "Mail": {"operator": "me",\n "VALUE": 5}, "bad": {"Operator": 7}}}'
    config = load(tmp_path, text, monkeypatch)
    assert config.user_defined("k") == "v"
    assert config.user_defined() == {"k": "v", "Mail": {"operator": "me", "VALUE": 5}, "bad": {"Operator": 7}}
    assert config.user_defined("Mail", Condition) == Condition("me", 5)
    with pytest.raises(ConfigError, match=r'UserDefineConfs: no "mial" \(did you mean "Mail"\?\)'):
        config.user_defined("mial")
    with pytest.raises(ConfigError, match=r"engine\.json:2:35: UserDefineConfs\.bad\.Operator: expected text, got 7"):
        config.user_defined("bad", Condition)
    assert parse().user_defined() is None


@pytest.mark.parametrize("case", suite("config"), ids=lambda case: case["id"])
def test_the_free_section_is_what_pairec_says(case):
    assert holds(case["match"], run_config(case["input"]), case["expected"])


def holds(match, given, expected):
    return given == expected if match == "exact" else all(given[key] == value for key, value in expected.items())
