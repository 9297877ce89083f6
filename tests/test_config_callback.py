"""A configuration of PAI-Rec's documented callback, with all that belongs to it, is read as it is."""

from __future__ import annotations

import copy
import json

from pairec_fast.config import Config
from pairec_fast.scene import KINDS

HOLO = {"AdapterType": "hologres", "HologresName": "holo", "FeatureStore": "user"}
CONF = {
    "ListenConf": {"HttpAddr": "", "HttpPort": 8000},
    "SceneConfs": {
        "homepage": {"default": {"RecallNames": [], "AutoInvokeCallBack": True, "AutoInvokeCallBackRate": 20}}
    },
    "HologresConfs": {"holo": {"DSN": "postgres://${HOLO_USER}:${HOLO_PASSWORD}@holo.example:80/shop"}},
    "DatahubConfs": {
        "callback_log": {
            "AccessId": "${AccessKey}",
            "AccessKey": "${AccessSecret}",
            "Endpoint": "https://dh-cn-beijing.aliyuncs.com",
            "ProjectName": "shop",
            "TopicName": "callback_log",
            "CompressorType": "lz4",
            "Schemas": [
                {"Field": name, "Type": "integer" if name == "request_time" else "string"}
                for name in (
                    "request_id",
                    "module",
                    "scene",
                    "request_time",
                    "user_features",
                    "item_features",
                    "generate_features",
                    "context_features",
                    "request_info",
                    "user_id",
                    "item_id",
                )
            ],
        }
    },
    "AlgoConfs": [
        {
            "Name": "fg",
            "Type": "EAS",
            "EasConf": {
                "Processor": "EasyRec",
                "Timeout": 600,
                "ResponseFuncName": "easyrecMutValResponseFunc",
                "Url": "http://eas.example/api/predict/fg",
                "Auth": "${EAS_TOKEN}",
            },
        }
    ],
    "CallBackConfs": {
        "homepage": {
            "DataSource": {"Name": "callback_log", "Type": "datahub"},
            "RankConf": {"RankAlgoList": ["fg"], "ContextFeatures": ["none"], "Processor": "EasyRec"},
            "RawFeatures": True,
            "RawFeaturesRate": 10,
            "ItemSize": 20,
            "UseUserFeatures": True,
        }
    },
    "FeatureConfs": {
        "homepage_callback": {
            "AsynLoadFeature": True,
            "FeatureLoadConfs": [
                {
                    "FeatureDaoConf": HOLO
                    | {
                        "FeatureKey": "user:uid",
                        "UserFeatureKeyName": "user_id",
                        "HologresTableName": "public.user_features",
                        "UserSelectFields": "*",
                    },
                    "Features": [
                        {"FeatureType": "new_feature", "FeatureName": name, "Normalizer": normalizer}
                        | {"FeatureStore": "user"}
                        for name, normalizer in (("hour", "hour_in_day"), ("day", "weekday"), ("draw", "random"))
                    ],
                },
                {
                    "FeatureDaoConf": HOLO
                    | {
                        "FeatureKey": "user:uid",
                        "UserFeatureKeyName": "user_id",
                        "ItemFeatureKeyName": "item_id",
                        "TimestampFeatureKeyName": "event_time",
                        "EventFeatureKeyName": "event",
                        "HologresTableName": "public.events_online",
                        "SequenceOfflineTableName": "public.events_offline",
                        "FeatureType": "sequence_feature",
                        "SequenceName": "click_seq",
                        "SequenceLength": 50,
                        "SequenceEvent": "click,download",
                        "SequenceDelim": ";",
                        "SequenceDimFields": "",
                    },
                    "Features": [],
                },
            ],
        }
    },
}
SECRETS = {
    "HOLO_USER": "reader", "HOLO_PASSWORD": "p1", "AccessKey": "id", "AccessSecret": "p2", "EAS_TOKEN": "p3",
}  # fmt: skip


def read(tmp_path, monkeypatch, conf=CONF):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "engine.json"
    path.write_text(json.dumps(conf, indent=2))
    return Config.load(path, KINDS)


def test_it_parses_without_a_warning_and_with_its_types(tmp_path, monkeypatch):
    config = read(tmp_path, monkeypatch)
    assert config.warnings == ()
    scene = config.scene_confs["homepage"]["default"]
    assert (scene.auto_invoke_call_back, scene.auto_invoke_call_back_rate) == (True, 20)
    callback = config.call_back_confs["homepage"]
    assert (callback.item_size, callback.raw_features_rate, callback.use_user_features) == (20, 10, True)
    assert (callback.rank_conf.rank_algo_list, callback.rank_conf.processor) == (("fg",), "EasyRec")
    loads = config.feature_confs["homepage_callback"]
    table, sequence = loads.feature_load_confs
    assert loads.asyn_load_feature
    assert (table.feature_dao_conf.hologres_name, table.feature_dao_conf.user_select_fields) == ("holo", "*")
    assert [(one.feature_name, one.normalizer) for one in table.features] == [
        ("hour", "hour_in_day"), ("day", "weekday"), ("draw", "random"),
    ]  # fmt: skip
    dao = sequence.feature_dao_conf
    assert (dao.feature_type, dao.sequence_name, dao.sequence_length) == ("sequence_feature", "click_seq", 50)
    assert (dao.timestamp_feature_key_name, dao.play_time_feature_key_name, dao.sequence_delim) == (
        "event_time", "play_time", ";",
    )  # fmt: skip
    datahub = config.datahub_confs["callback_log"]
    assert (datahub.access_key, len(datahub.schemas)) == ("p2", 11)
    assert not any(secret in repr(config) for secret in ("p1", "p2", "p3"))


def test_each_slip_in_it_is_found_at_its_place(tmp_path, monkeypatch):
    import pytest

    from pairec_fast.errors import ConfigError

    conf = copy.deepcopy(CONF)
    loads = conf["FeatureConfs"]["homepage_callback"]["FeatureLoadConfs"]
    loads[0]["FeatureDaoConf"]["HologresName"] = "hollo"
    loads[1]["FeatureDaoConf"]["FeatureType"] = "sequence_features"
    loads[1]["FeatureDaoConf"]["SequenceLength"] = "50"
    conf["CallBackConfs"]["homepage"]["RankConf"]["RankAlgoList"] = ["fgs"]
    conf["DatahubConfs"]["callback_log"]["Schemas"][3]["Type"] = "intger"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, monkeypatch, conf)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert {path.rpartition(".")[2]: message for path, message in found.items()} == {
        "Type": found["DatahubConfs.callback_log.Schemas[3].Type"],
        "RankAlgoList[0]": 'unknown algorithm "fgs" (did you mean "fg"?)',
        "HologresName": 'unknown name "hollo" in HologresConfs (did you mean "holo"?)',
        "FeatureType": 'expected one of "", "sequence_feature", "be_rt_cnt_feature", got text "sequence_features" '
        '(did you mean "sequence_feature"?)',
        "SequenceLength": 'expected an integer, got text "50"',
    }
    lines = (tmp_path / "engine.json").read_text().split("\n")
    for problem in caught.value.problems:
        key = problem.path.rpartition(".")[2].partition("[")[0]
        assert any(key in line for line in lines[problem.line - 2 : problem.line]), problem
