"""DatahubConfs: typed, every mistake said at its place, keys never shown."""

from __future__ import annotations

import importlib.metadata

import pytest

from pairec_fast.callback import data_sources, sink_directories
from pairec_fast.errors import ConfigError
from tests.configs import MINIMAL, errors_of, parse

GOOD = {
    "AccessId": "${DATAHUB_ID}",
    "AccessKey": "${DATAHUB_KEY}",
    "Endpoint": "https://dh-cn-hangzhou.aliyuncs.com",
    "ProjectName": "shop",
    "TopicName": "callback_log",
    "CompressorType": "lz4",
    "Schemas": [{"Field": "request_id", "Type": "string"}, {"Field": "request_time", "Type": "integer"}],
}
USED = {"CallBackConfs": {"home_feed": {"DataSource": {"Name": "log", "Type": "datahub"}}}}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("DATAHUB_ID", "an-access-id")
    monkeypatch.setenv("DATAHUB_KEY", "a-secret-key")


def errors(**changes) -> list[str]:
    conf = {key: value for key, value in (GOOD | changes).items() if value is not None}
    return errors_of(**MINIMAL, **USED, DatahubConfs={"log": conf})


def test_what_pairec_takes_is_taken_and_keys_come_from_the_environment():
    config = parse(**MINIMAL, **USED, DatahubConfs={"log": GOOD})
    conf = config.datahub_confs["log"]
    assert (conf.access_id, conf.access_key) == ("an-access-id", "a-secret-key")
    assert [(entry.field, entry.type) for entry in conf.schemas] == [
        ("request_id", "string"),
        ("request_time", "integer"),
    ]
    assert config.warnings == ()
    assert "a-secret-key" not in repr(conf) + str(conf) + repr(config.datahub_confs) + repr(config)


def test_records_wait_where_pairec_kept_them_unless_said_otherwise(tmp_path):
    config = parse(**MINIMAL, **USED, DatahubConfs={"log": GOOD})
    spill, _ = sink_directories(config, "datahub", "log")
    assert spill == config.directory / "tmp/shop/callback_log/log"
    config = parse(**MINIMAL, **USED, DatahubConfs={"log": GOOD | {"Directory": str(tmp_path)}})
    spill, _ = sink_directories(config, "datahub", "log")
    assert spill == tmp_path


def test_without_the_client_the_start_is_refused_with_what_to_install(monkeypatch):
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    config = parse(**MINIMAL, **USED, DatahubConfs={"log": GOOD})
    monkeypatch.setattr("importlib.metadata.version", version)
    with pytest.raises(ConfigError, match=r"pip install 'pairec_fast\[datahub\]'"):
        data_sources(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Endpoint": "ftp://host"}, '.Endpoint: expected "http://HOST" or "https://HOST", got "ftp://host"'),
        ({"Endpoint": "dh.aliyuncs.com"}, '.Endpoint: expected "http://HOST" or "https://HOST", got "dh.aliyuncs.com"'),
        ({"Endpoint": "https://"}, '.Endpoint: expected "http://HOST" or "https://HOST", got "https://"'),
        (
            {"Endpoint": "https://id:a-secret-key@host"},
            ".Endpoint: expected an address alone; keys belong in AccessId and AccessKey",
        ),
        (
            {"ProjectName": "../up"},
            '.ProjectName: expected 3 to 32 letters, digits and underscores, a letter first, got "../up"',
        ),
        (
            {"TopicName": ""},
            '.TopicName: expected 1 to 128 letters, digits and underscores, a letter first, got ""',
        ),
        (
            {"CompressorType": "lz5"},
            '.CompressorType: unknown "lz5" (did you mean "lz4"?); known are lz4, zlib, deflate, none',
        ),
        (
            {"Schemas": [{"Field": "a", "Type": "string"}] * 2},
            '.Schemas: "a" is given more than once',
        ),
        ({"AccessKey": None}, ": AccessKey is missing"),
        ({"Endpoint": None}, ": Endpoint is missing"),
    ],
)
def test_a_mistake_is_said_with_field_value_and_rule(changes, message):
    assert errors(**changes) == [f"DatahubConfs.log{message}"]


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("strin", ' (did you mean "string"?)'), ("BIGINT", ' (did you mean "bigint"?)'), ("json", "")],
)
def test_an_unknown_type_of_a_field_is_refused_with_what_is_near(kind, hint):
    (line,) = errors(Schemas=[{"Field": "a", "Type": "string"}, {"Field": "b", "Type": kind}])
    assert line.startswith(f'DatahubConfs.log.Schemas[1].Type: unknown "{kind}"{hint}; known are string, tinyint')


def test_an_empty_key_is_refused_without_showing_the_other():
    (line,) = errors(AccessId="")
    assert line.startswith("DatahubConfs.log.AccessId: ") and "a-secret-key" not in line
