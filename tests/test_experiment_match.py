"""Where a request falls: by hand first, then against the slow twin on random trees."""

from __future__ import annotations

import random

import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.experiment import GLOBAL_SCENE, Experiments, bucket_set
from tests import reference_experiment as reference


def experiment(id, type=2, flow=100, buckets="", config="", **more):
    return {
        "experiment_id": id, "type": type, "experiment_flow": flow, "experiment_buckets": buckets,
        "experiment_config": config, **more,
    }  # fmt: skip


def group(id, experiments=(), kind="All", config="", **more):
    return {
        "exp_group_id": id, "crowd_target_type": kind, "exp_group_config": config, "experiments": list(experiments)
    } | more  # fmt: skip


def layer(id, *groups):
    return {"layer_id": id, "layer_name": f"layer {id}", "experiment_groups": list(groups)}


def room(id, *layers, type=1, **more):
    return {"exp_room_id": id, "type": type, "layers": list(layers), **more}


def scene(name, *rooms):
    return {"scene": name, "rooms": list(rooms)}


def exp_id(document, uid="u1", given=None, now=None, name="s"):
    return Experiments.parse(document).match(name, uid, given, now).exp_id


def test_a_range_ends_behind_the_count_and_junk_is_ignored():
    assert sorted(bucket_set("8-99,a,3,-1,2-,1-2-3, 5,+6,700", 10)) == [3, 6, 8, 9, 10, 700]
    assert bucket_set("0-99999999999999999999", 10) == frozenset(), "no int64: junk"
    assert bucket_set("0-999999999999", 10) == frozenset(range(11))


@pytest.mark.parametrize(
    ("uid", "expected"),
    [("100", 2), ("18446744073709551615", 1), ("18446744073709551600", 2), ("18446744073709551616", 1), ("-100", 1),
     ("+100", 1), (" 100", 1), ("1_00", 1), ("", 1), ("u1", 1), ("１００", 1), ("0" * 5000, 1)],
)  # fmt: skip
def test_a_room_by_uid_takes_unsigned_decimals_of_64_bits_alone(uid, expected):
    rooms = room(1), room(2, type=2, bucket_type=1, bucket_count=100, exp_room_buckets="0")
    assert exp_id(scene("s", *rooms), uid) == f"ER{expected}"


def test_debug_users_come_before_everything_at_every_level():
    inner = [experiment(5, flow=100), experiment(6, flow=0, debug_users="x,d")]
    groups = [group(3, inner), group(4, inner, "Random", debug_crowd_users=["d"])]
    rooms = [room(1, layer(2, *groups)), room(9, layer(2, *groups), type=2, bucket_type=3, debug_crowd_id_users=["d"])]
    assert exp_id(scene("s", *rooms), "u") == "ER1_L2#EG3#E5"
    assert exp_id(scene("s", *rooms), "x") == "ER1_L2#EG3#E6"
    assert exp_id(scene("s", *rooms), "d") == "ER9_L2#EG4#E6"


def test_groups_are_tried_as_debug_then_filter_and_crowd_then_random_then_all():
    groups = [
        group(1), group(2, kind="Random", holding_buckets="0-100"), group(3, kind="CrowdId", crowd_users=["a, b", "c"]),
        group(4, kind="Filter", filter="age > 30"), group(5, kind="", filter="age > 20"),
    ]  # fmt: skip
    document = scene("s", room(1, layer(1, *groups)))
    found = [
        exp_id(document, uid, given) for uid, given in [("b", {"age": 99}), ("u", {"age": 31.0}), ("u", {"age": 21})]
    ]
    assert found == ["ER1_L1#EG3", "ER1_L1#EG4", "ER1_L1#EG5"]
    assert exp_id(document, "u", {"age": "31"}) == exp_id(document, "u") == "ER1_L1#EG2", "an error is no match"
    groups[1]["holding_buckets"] = ""
    assert exp_id(document, "u") == "ER1_L1#EG1"
    assert exp_id(scene("s", room(1, layer(1, *groups[1:]))), "u") == "ER1_L1", "no group"


GIVEN = {"age": 30, "price": 9.5, "city": "x y", "flag": True, "word": "Y", "item-id": 7.0, "no": False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("age == 30", True), ("age != 30", False), ("age >= 30 && price < 10", True),
        ("age > 30 || price <= 9.5", True), ("!(age == 30)", False), ("city == 'x y'", True), ('city == "x y"', True),
        ("city < 'y'", True), ("city in ('a', 'x y')", True), ("age in (1, 2)", False), ("flag", True),
        ("!no && flag == true", True), ("word", True), ("city", False), ("age", False), ("[item-id] == 7", True),
        ("true", True), ("'true'", True), ("age == '30'", False), ("age > '3'", False), ("gone == 1", False),
        ("flag || gone", True), ("no && gone", False), ("gone || flag", False), ("age && flag", False),
        ("flag > no", False), ("30.0 == age", True), ("no || age > 1 && no || flag", True),
    ],
)  # fmt: skip
def test_a_filter_holds_where_it_is_true_or_says_so_and_an_error_is_no_match(text, expected):
    document = scene("s", room(1), room(2, type=2, bucket_type=4, filter=text))
    assert exp_id(document, given=GIVEN) == ("ER2" if expected else "ER1")


@pytest.mark.parametrize("text", ["age >", "(age", "age 3", "age == 'x", "in (1)", "a in (1", "&& a", "(" * 5000])
def test_a_filter_that_is_no_expression_is_refused_with_a_caret(text):
    with pytest.raises(ConfigError, match=r"rooms\[0\]\.filter: (.|\n)*\^"):
        Experiments.parse(scene("s", room(2, type=2, bucket_type=4, filter=text)))


@pytest.mark.parametrize("kind", ["All", "Random", "Filter"])
def test_a_crowd_id_left_behind_in_a_group_of_another_kind_means_nothing(kind):
    more = {"filter": "true", "holding_buckets": "0-100", "crowd_id": 7}
    assert exp_id(scene("s", room(1, layer(1, group(1, kind=kind, **more))))) == "ER1_L1#EG1"


def test_the_last_default_serves_whom_no_experiment_takes_and_is_not_named():
    inner = [experiment(1, 1, 0, config='{"a":"base"}'), experiment(2, 3, 100, config='{"a":"default"}')]
    found = Experiments.parse(scene("s", room(1, layer(1, group(1, inner))))).match("s", "u")
    assert (found.exp_id, dict(found.params)) == ("ER1_L1#EG1", {"a": "default"})
    found = Experiments.parse(scene("s", room(1, layer(1, group(1, inner[:1]))))).match("s", "u")
    assert (found.exp_id, dict(found.params)) == ("ER1_L1#EG1", {"a": "base"})


def test_a_group_split_by_time_sends_everyone_to_one_experiment_at_a_time():
    inner = [experiment(1, 1, 50, "0-50"), experiment(2, 2, 50, "50-100")]
    document = scene("s", room(1, layer(1, group(1, inner, distribution_type=2, distribution_time_duration=60))))
    experiments = Experiments.parse(document)
    hours = [1_700_000_000 // 3600 * 3600 + 3600 * hour for hour in range(200)]
    found = []
    for start in hours:
        ids = {experiments.match("s", f"u{k}", None, start + k * 3599 / 20).exp_id for k in range(20)}
        assert len(ids) == 1
        found += ids
    assert len(set(found)) == 2 and found == [
        reference.match({"s": document["rooms"]}, "s", "", {}, at)[0] for at in hours
    ]


def test_the_global_scene_fills_filters_and_templates_and_adds_its_part_to_exp_id():
    above = scene(
        GLOBAL_SCENE, room(1, layer(8, group(2, [experiment(3, config='{"level":2,"s.x":1,"n":1000000,"o":[]}')])))
    )
    own = scene("s", room(1), room(7, layer(1, group(1, config='{"w":"${level}","n":${n},"k":"${o} ${no}"}')), type=2,
                              bucket_type=4, filter="level >= 2"))  # fmt: skip
    experiments = Experiments.parse([above, own])
    found = experiments.match("s", "u", {"level": 0})
    assert found.exp_id == "ER7_L1#EG1_GL8#EG2#E3"
    assert dict(found.params) == {"level": 2, "s.x": 1, "x": 1, "n": 1000000, "o": [], "w": "2", "k": "${o} ${no}"}
    assert experiments.match(GLOBAL_SCENE, "u").exp_id == "GL8#EG2#E3"
    assert experiments.match("other", "u") == ("", {})


@pytest.mark.parametrize(
    ("value", "text"),
    [(1, "1"), (100000, "100000"), (1e6, "1e+06"), (123456789, "1.23456789e+08"), (1234567.5, "1.2345675e+06"),
     (1e-4, "0.0001"), (1e-5, "1e-05"), (1.5e-7, "1.5e-07"), (1e300, "1e+300"), (-2.5, "-2.5"), (0, "0"),
     (True, "true"), (None, "<nil>"), ("a b", "a b")],
)  # fmt: skip
def test_a_global_in_a_template_is_printed_as_go_prints_it(value, text):
    """As `fmt.Printf("%v")` prints the doubles that JSON numbers are."""
    above = scene(GLOBAL_SCENE, room(1, layer(1, group(1, config={"g": value}))))
    own = scene("s", room(1, layer(1, group(1, config='{"x":"<${g}>"}'))))
    assert Experiments.parse([above, own]).match("s", "u").params["x"] == f"<{text}>"


def test_a_template_that_becomes_no_json_sets_nothing():
    above = scene(GLOBAL_SCENE, room(1, layer(1, group(1, config={"g": 'a"b'}))))
    own = scene("s", room(1, layer(1, group(1, [experiment(1, config='{"y":1}')], config='{"x":"${g}"}'))))
    assert dict(Experiments.parse([above, own]).match("s", "u").params) == {"g": 'a"b', "y": 1}


def test_what_is_offline_is_not_there():
    inner = [experiment(1, config='{"x":1}', status=1), experiment(2, status=2)]
    groups = [group(1, inner, status=4), group(2, inner)]
    assert exp_id(scene("s", room(3, status=1), room(1, layer(1, *groups)))) == "ER1_L1#EG2#E2"


# The twin


class Trees:
    """Small random trees, in which every kind of node and of coincidence is likely."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.users = (
            [f"u{k}" for k in range(12)] + [str(k) for k in (0, 7, 99, 100, 12345, 2**64 - 1, 2**64)] + ["", "a b"]
        )

    def scenes(self):
        names = [name for name in ("s", "t", GLOBAL_SCENE) if name == "s" or self.rng.random() < 0.6]
        return {name: [self.room(place + 1, name) for place in range(self.rng.randint(0, 3))] for name in names}

    def some(self, most):
        return ",".join(self.rng.choice([*self.users, "nobody"]) for _ in range(self.rng.randint(0, most)))

    def debug(self, node, crowd="debug_crowd_users"):
        if self.rng.random() < 0.2:
            node["debug_users"] = self.some(2)
        if self.rng.random() < 0.1:
            node[crowd] = [self.some(1)]
        return node

    def buckets(self, count=100):
        def part():
            first, second = self.rng.randint(-2, count + 3), self.rng.randint(0, count + 9)
            return self.rng.choice(
                [f"{first}-{second}", f"{second}", f"0-{second}", "x", "", " 1", f"{first}-{second}-3"]
            )

        return ",".join(part() for _ in range(self.rng.randint(0, 3)))

    def config(self, name):
        def entry():
            key = self.rng.choice(["a", "b", "level", "s.a", "age", "city", "flag"])
            if name != GLOBAL_SCENE and self.rng.random() < 0.3:
                return f'"{key}":"<${{{self.rng.choice(["a", "level", "nothing", "s.a"])}}}>"'
            return f'"{key}":' + self.rng.choice(["1", "2.5", '"x"', "true", "null", "[1]", '"y"', "31"])

        return "{" + ",".join(entry() for _ in range(self.rng.randint(0, 3))) + "}" if self.rng.random() < 0.8 else ""

    def room(self, id, name):
        layers = [self.layer(place + 1, name) for place in range(self.rng.randint(0, 3))]
        count = self.rng.choice([1, 7, 100, 1000])
        found = room(
            id, *layers, type=self.rng.choice([1, 2, 2]), bucket_type=self.rng.choice([1, 2, 3, 4]), bucket_count=count,
            exp_room_buckets=self.buckets(count), filter=self.rng.choice(list(reference.FILTERS)),
        )  # fmt: skip
        return self.debug(found, "debug_crowd_id_users")

    def layer(self, id, name):
        return layer(id, *(self.group(place + 1, name) for place in range(self.rng.randint(0, 4))))

    def group(self, id, name):
        kind = self.rng.choice(["", "", "All", "Filter", "CrowdId", "Random", "Random"])
        more = {"holding_buckets": self.buckets(), "crowd_id": self.rng.choice([0, 0, 3])}
        more |= {"filter": self.rng.choice(["", *reference.FILTERS])} if kind != "Filter" else {"filter": "age > 30"}
        more |= {"crowd_users": [self.some(3), f" {self.some(1)} "]}
        if self.rng.random() < 0.2:
            more |= {"distribution_type": 2, "distribution_time_duration": self.rng.choice([1, 60, 1440, 5000])}
        inner = [self.experiment(place + 1, name) for place in range(self.rng.randint(0, 4))]
        return self.debug(group(id, inner, kind, self.config(name), **more))

    def experiment(self, id, name):
        kind, flow = self.rng.choice([1, 2, 2, 3]), self.rng.choice([0, 10, 50, 50, 100])
        return self.debug(experiment(id, kind, flow, self.buckets(), self.config(name)))


@pytest.mark.parametrize("seed", range(10))
def test_match_agrees_with_reference_on_random_trees(seed):
    """25 trees a seed, every user and several requests in each; whatever is matched is among the variants."""
    for place in range(25):
        trees = Trees(seed * 1000 + place)
        scenes = trees.scenes()
        experiments = Experiments.parse([scene(name, *rooms) for name, rooms in scenes.items()])
        variants = {name: experiments.variants(name) for name in (*scenes, "unknown")}
        for uid in trees.users:
            given = {
                name: trees.rng.choice(values)
                for name, values in {"age": [20, 31.5, "31"], "city": ["x", "z"], "flag": [True, "Y", 1]}.items()
                if trees.rng.random() < 0.7
            }
            now = trees.rng.randrange(1_600_000_000, 1_900_000_000)
            for name in (*scenes, "unknown"):
                found = experiments.match(name, uid, given, now)
                assert (found.exp_id, dict(found.params)) == reference.match(scenes, name, uid, given, now)
                assert variants[name].left_out or found.params in variants[name].params
