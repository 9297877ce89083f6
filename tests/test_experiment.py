"""The tree of experiments as it is read: every problem with its path, the parameters' typed reads, the variants."""

from __future__ import annotations

import json

import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.experiment import GLOBAL_SCENE, VARIANTS_MAX, Experiments, Params
from tests.test_experiment_match import experiment, group, layer, room, scene


def problems(document):
    with pytest.raises(ConfigError) as caught:
        Experiments.parse(document, "ab.json")
    return [line.removeprefix("ab.json: ") for line in str(caught.value).split("\n")]


def one(*groups, **more):
    return scene("s", room(1, layer(1, *groups), **more))


# Reading


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: {"scenes": [s]}, lambda s: {"Scenes": [s]}])
def test_a_file_is_a_scene_a_list_of_scenes_or_an_object_with_scenes(wrap, tmp_path):
    (tmp_path / "ab.json").write_text(json.dumps(wrap(one(group(2)))))
    assert Experiments.load(tmp_path / "ab.json").match("s", "u").exp_id == "ER1_L1#EG2"


def test_keys_are_matched_without_regard_to_case_and_null_is_missing():
    document = {"Scene_Name": "s", "EXPERIMENT_ROOMS": [{"Exp_Room_Id": 4, "type": 1, "filter": None, "layers": None}]}
    found = Experiments.parse(document)
    assert (found.match("s", "u").exp_id, found.warnings, found.scenes) == ("ER4", (), ("s",))
    found = Experiments.parse({"scene": "s", "rooms": [{"EXP_ROOM_ID": 5, "exp_room_id": 6, "type": 1}]})
    assert found.match("s", "u").exp_id == "ER6", "the exact spelling counts"


def test_every_problem_is_told_at_once_with_its_path():
    inner = [
        experiment("5"), experiment(6, flow=101), experiment(7, config="[1]"), experiment(8, type=9), "x",
        experiment(9, debug_crowd_users=["a", 1]), experiment(10, config='{"a":1e999}'),
    ]  # fmt: skip
    groups = [
        group(1, inner, "al"), group(2, kind="Filter", filter="a &&"), group(3, config='{"a":}'), {},
        group(4, config='{"a":"${b"', distribution_type=2),
    ]  # fmt: skip
    rooms = [room(1, layer(1, *groups)), room(2, type=2, bucket_type=2), room(-1), {"exp_room_id": 3, "layers": {}}]
    lines = problems({"scenes": [scene("s", *rooms), scene("s"), scene(""), scene("t", "r")]})
    where = "scenes[0].rooms[0].layers[0].experiment_groups"
    text = "expected a JSON object as text, got"
    assert [line for line in lines if not line.startswith((" ", "Object", "JSON"))] == [
        f'{where}[0].crowd_target_type: expected one of "", "All", "Filter", "CrowdId", "Random", got text "al" '
        '(did you mean "All"?)',
        f'{where}[0].experiments[0].experiment_id: expected an integer from 0 to 2^63-1, got text "5"',
        f"{where}[0].experiments[1].experiment_flow: expected an integer from 0 to 100, got 101",
        f"{where}[0].experiments[3].type: expected one of 0, 1, 2, 3, got 9",
        f'{where}[0].experiments[4]: expected an object, got text "x"',
        f"{where}[0].experiments[5].debug_crowd_users: expected a list of texts, got a list with 1",
        f"{where}[3]: exp_group_id is missing",
        "scenes[0].rooms[2].exp_room_id: expected an integer from 0 to 2^63-1, got -1",
        "scenes[0].rooms[3].layers: expected a list, got an object",
        'scenes[2].scene: expected text that is not empty, got text ""',
        'scenes[3].rooms[0]: expected an object, got text "r"',
        'scenes[1]: a scene "s" is already in the file',
        f"{where}[2].exp_group_config: {text} '{{\"a\":}}': JSON is malformed: invalid character (byte 5)",
        f"{where}[4].distribution_time_duration: expected at least 1 minute, got 0",
        f"{where}[4].exp_group_config: a ${{ is not closed",
        f"{where}[1].filter: an operand is missing at the end (character 5)",
        "scenes[0].rooms[1].bucket_count: expected 1 to 1,000,000 buckets, got 0",
    ]
    assert "  a &&\n      ^" in "\n".join(lines)


@pytest.mark.parametrize("text", ["[1]", '{"a":1e999}', '{"a":1', "nan", '{"a":1}}'])
def test_settings_that_are_no_json_object_are_refused(text):
    """PAI-Rec skips them without a word, and the experiment measures nothing."""
    lines = problems(one(group(1, [experiment(2, config=text)])))
    assert lines[0].startswith(
        "rooms[0].layers[0].experiment_groups[0].experiments[0].experiment_config: expected a JSON"
    )


@pytest.mark.parametrize("text", ["", " ", "null", "{}"])
def test_settings_may_be_nothing(text):
    assert Experiments.parse(one(group(1, config=text))).match("s", "u").params == {}


@pytest.mark.parametrize(("document", "what"), [(5, "5"), ("x", 'text "x"'), ({"scenes": 1}, "1"), (None, "null")])
def test_what_is_no_tree_is_refused(document, what):
    assert problems(document)[-1].endswith(f"expected an object or a list of scenes, got {what}")


def test_an_object_without_a_scene_is_refused():
    assert problems({"rooms": []}) == ["scene_name is missing"]


def test_a_file_that_is_no_json_or_not_there_is_told_with_its_name(tmp_path):
    for text, what in ((None, "cannot read"), (b"{", "not JSON"), (b"\xff", "not JSON"), (b"[" * 100_000, "not JSON")):
        if text is not None:
            (tmp_path / "ab.json").write_bytes(text)
        with pytest.raises(ConfigError, match=f"ab.json: {what}"):
            Experiments.load(tmp_path / "ab.json")


def test_what_nobody_means_is_a_warning():
    inner = [experiment(1, 1, 50, "0-60"), experiment(2, 2, 50, "50-100"), experiment(2, 2, 0, expriment_buckets="1")]
    groups = [group(1, inner), group(2, kind="CrowdId", crowd_id=9), group(3, kind="Filter")]
    same = layer(1, *groups) | {"layer_name": "layer 2"}
    rooms = [room(1, same, layer(2)), room(2), room(3, type=2, bucket_type=4)]
    lines = Experiments.parse(scene("s", *rooms), "ab.json").warnings
    where = "ab.json: rooms[0].layers[0].experiment_groups"
    assert lines == (
        f'{where}[0].experiments[2].expriment_buckets: unknown key, ignored (did you mean "experiment_buckets"?)',
        "ab.json: rooms[1].type: a second base room; the first one counts",
        'ab.json: rooms[0].layers[0]: "layer 2" is the name of two layers of this room',
        f"{where}[0].experiments[1]: experiment_id 2 is given twice in this group",
        f"{where}[0].experiments[2]: experiment_id 2 is given twice in this group",
        f"{where}[0]: experiments share the bucket 50: the first one gets it",
        f"{where}[1]: crowd_users of crowd 9 are missing: the group takes nobody",
        f"{where}[2]: a group by filter without a filter takes nobody",
        'ab.json: rooms[0].layers[1]: "layer 2" is the name of two layers of this room',
        "ab.json: rooms[2]: a room by filter without a filter takes nobody",
    )


def test_equal_choices_share_one_match():
    inner = [experiment(k, 1, 50, f"{k * 50}-{k * 50 + 50}", f'{{"a":{k}}}') for k in (0, 1)]
    experiments = Experiments.parse(one(group(1, inner)))
    found = [experiments.match("s", f"u{k}") for k in range(100)]
    assert len({id(match) for match in found}) == len({match.exp_id for match in found}) == 2


def test_more_choices_than_are_kept_are_matched_all_the_same(monkeypatch):
    monkeypatch.setattr("pairec_fast.experiment._KNOWN_MAX", 3)
    inner = [experiment(k, 2, 1, f"{k}", f'{{"a":{k}}}') for k in range(100)]
    experiments = Experiments.parse(one(group(1, inner)))
    found = {match.exp_id: match.params["a"] for match in (experiments.match("s", f"u{k}") for k in range(2000))}
    assert found == {f"ER1_L1#EG1#E{k}": k for k in range(100)}


# Parameters


def params(**values):
    return Experiments.parse(one(group(1, config=json.dumps(values)))).match("s", "u").params


@pytest.mark.parametrize(
    ("value", "string", "integer", "double", "boolean"),
    [
        ("12", "12", 12, 12.0, False), ("1.9", "1.9", 7, 1.9, False), (" 1", " 1", 7, 7.5, False),
        (1.9, "1", 1, 1.9, None), (-1.9, "-1", -1, -1.9, None), (3, "3", 3, 3.0, None), (1e15, "1000000000000000",
        10**15, 1e15, None), (True, "d", 7, 7.5, True), (False, "d", 7, 7.5, False), ("T", "T", 7, 7.5, True),
        ("on", "on", 7, 7.5, True), ("y", "y", 7, 7.5, False), ([1], "d", 7, 7.5, None), ({"a": 1}, "d", 7, 7.5, None),
        (None, "d", 7, 7.5, None), ("0x1p4", "0x1p4", 7, 16.0, False), ("1e400", "1e400", 7, 7.5, False),
    ],
)  # fmt: skip
def test_reads_convert_numbers_in_text_and_give_the_default_for_other_types(value, string, integer, double, boolean):
    found = params(x=value)
    assert found.get_string("x", "d") == string
    assert (found.get_int("x", 7), found.get_float("x", 7.5)) == (integer, double)
    expected = [True, False] if boolean is None else [boolean] * 2
    assert [found.get_bool("x", True), found.get_bool("x", False)] == expected
    assert found.get_list("x") == (value if isinstance(value, list) else None)
    assert found.get_object("x", {}) == (value if isinstance(value, dict) else {})


def test_a_missing_parameter_is_the_default():
    found = params()
    assert (found.get_string("x", "d"), found.get_int("x", 1), found.get_bool("x", True)) == ("d", 1, True)
    assert (found.get_float("x"), found.get_list("x"), found.get_names("x"), len(found)) == (0.0, None, None, 0)


def test_names_are_the_texts_of_a_list():
    assert params(x=["a", 1, None, "b"]).get_names("x") == ["a", "b"]
    assert params(x=[1]).get_names("x") == [] and params(x="a").get_names("x") is None


def test_equal_parameters_have_equal_keys_whatever_their_order_and_spelling():
    first, second = ('{"a":1,"b":{"x":[1.50,2],"y":null}}', '{"b":{"y":null,"x":[1.5,2.0]},"a":1e0}')
    found = [Experiments.parse(one(group(1, config=text))).match("s", "u").params for text in (first, second)]
    assert found[0] == found[1] and found[0].key == found[1].key and len(set(found)) == 1
    assert found[0] != Params({"a": 1}) and found[0] != 5


# Variants


def test_variants_are_the_parameters_that_some_request_may_get():
    inner = [
        experiment(1, 1, 50, "0-50", '{"a":1}'), experiment(2, 2, 50, "50-100", '{"a":2}'),
        experiment(3, 2, 0, "", '{"a":3}'), experiment(4, 2, 0, "", '{"a":4}', debug_users="d"),
        experiment(5, 3, 0, "", '{"a":5}'),
    ]  # fmt: skip
    groups = [group(1, inner), group(2, config='{"a":6}'), group(3, kind="Filter", filter="x", config='{"a":7}')]
    other = layer(2, group(9, config='{"b":1}', kind="Random", holding_buckets="0-10"))
    found = Experiments.parse(scene("s", room(1, layer(1, *groups), other))).variants("s")
    assert found.left_out == 0
    assert sorted(json.dumps(dict(one)) for one in found.params) == sorted(
        json.dumps({"a": a} | b) for a in (1, 2, 4, 7) for b in ({}, {"b": 1})
    ), "not the experiment without users, nor the group behind one that takes all, nor a default never needed"


def test_variants_stop_at_a_bound_and_say_how_many_were_left_out():
    def many(id, count):
        return layer(id, group(1, [experiment(k, 2, 1, f"{k}", f'{{"a{id}":{k}}}') for k in range(count)]))

    found = Experiments.parse(scene("s", room(1, many(1, 99), many(2, 9)))).variants("s")
    assert (len(found.params), found.left_out) == (VARIANTS_MAX, 100 * 10 - VARIANTS_MAX)
    found = Experiments.parse([scene(GLOBAL_SCENE, room(1, many(1, 99), many(2, 9))), scene("s")]).variants("s")
    assert (len(found.params), found.left_out) == (VARIANTS_MAX, 100 * 10 - VARIANTS_MAX)
    layers = [many(id, 99) for id in range(9)]
    assert Experiments.parse(scene("s", room(1, *layers))).variants("s").left_out == 100**9 - VARIANTS_MAX


def test_variants_hold_what_the_global_scene_gives():
    inner = [experiment(k, 2, 50, f"{k * 50}-{k * 50 + 50}", f'{{"g":{k}}}') for k in (0, 1)]
    own = scene("s", room(1, layer(1, group(1, config='{"x":"${g}"}'))))
    found = Experiments.parse([scene(GLOBAL_SCENE, room(1, layer(1, group(1, inner)))), own]).variants("s")
    assert [dict(one) for one in found.params] == [{"g": 0, "x": "0"}, {"g": 1, "x": "1"}]
