"""The schema that editors get accepts every configuration here, and sees a wrong type where the engine does."""

from __future__ import annotations

import json

import pytest

from pairec_fast.config.schema import schema
from pairec_fast.learn.demo import engine_config
from pairec_fast.scene import KINDS
from tests import configs
from tests.test_config_callback import CONF
from tests.test_config_fields import CASES, document, value_of, wrong_for
from tests.test_config_values import WRONG_PAIRS
from tests.test_readme import blocks

jsonschema = pytest.importorskip("jsonschema")


def validator(kinds):
    made = schema(kinds)
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.fixture(scope="module")
def ours():
    return validator(KINDS)


def test_it_says_what_it_is_and_offers_every_section_and_plugin(ours):
    made = ours.schema
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"SceneConfs", "RecallConfs", "SnapshotConf", "HologresConfs", "PipelineConfs"} <= set(made["properties"])
    forms = made["properties"]["RecallConfs"]["items"]["oneOf"]
    assert {form["title"] for form in forms} >= set(KINDS.recall)
    assert json.loads(json.dumps(made)) == made


def test_every_configuration_of_the_tests_and_the_readme_is_valid(ours):
    shown = [json.loads(block) for block in blocks("json") if "SceneConfs" in block or "RecallConfs" in block]
    for conf in (CONF, engine_config("world", 1), engine_config("ml-100k", 1), *shown):
        assert [error.message for error in ours.iter_errors(conf)] == []
    small = validator(configs.KINDS)
    assert [error.message for error in small.iter_errors(configs.MINIMAL)] == []
    assert [error.message for error in small.iter_errors(dict.fromkeys(ours.schema["properties"]))] == []


def test_a_field_has_the_type_that_the_engine_wants(ours):
    """Of all fields of PAI-Rec's: what is right is valid, what is wrong is not."""
    for place, key, given in CASES:
        value = value_of(key, given)
        assert not list(ours.iter_errors(document(place, key, value))), (place, key)
        assert list(ours.iter_errors(document(place, key, wrong_for(value)))), (place, key)


def test_plugins_are_told_apart_by_their_type():
    small = validator(configs.KINDS)
    for entry, fine in (
        ({"Name": "a", "RecallType": "MockRecall", "RecallCount": 3, "CacheTime": 5}, True),
        ({"Name": "a", "RecallType": "MockRecall", "RecallCount": "3"}, False),
        ({"Name": "a", "RecallType": "MockRecall", "CacheTime": "5"}, False),
        ({"Name": "a", "RecallType": "ConditionRecall", "Limit": "all"}, True),
        ({"Name": "a", "RecallType": "MockRecal"}, False),
        ({"RecallType": "MockRecall"}, False),
        ({"Name": "a", "RecallType": "BeRecall", "BeConf": {"Count": 1}}, True),
    ):
        assert small.is_valid({"RecallConfs": [entry]}) == fine, entry


def test_types_that_the_engine_refuses_are_refused_by_the_schema():
    small = validator(configs.KINDS)
    unseen = ("log", "power of two", "8000.0")  # rules that no schema can say, and to it 8000.0 is an integer
    for sections, error in WRONG_PAIRS:
        if "expected" in error and not any(word in error for word in unseen) and "DataSource.Type" not in error:
            assert not small.is_valid(json.loads(sections)), sections


def test_a_budget_is_for_a_stage_that_there_is(ours):
    for stage, fine in (("recall", True), ("total", True), ("rank", False), ("Recall", False)):
        assert ours.is_valid({"LimitConf": {"BudgetMicroseconds": {"home": {stage: 100}}}}) == fine, stage
