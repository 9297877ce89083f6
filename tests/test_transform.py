"""Feature transforms over columns do what they do item by item, on either side."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from pairec_fast.config.convert import Converter
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core.columns import MISSING
from pairec_fast.errors import ConfigError
from pairec_fast.transform import FeatureConfig, Transforms, item_text, texts_of, user_text
from tests.contract.filters import Case
from tests.reference_transform import NOW, transform


def parsed(confs):
    report = Report(Document("case"))
    made = Converter(report).take(confs, tuple[FeatureConfig, ...], ("Features",))
    report.raise_errors()
    return made


def transformed(confs, user, items, clock=lambda: NOW):
    """The user's properties, and those of each item that the request itself has."""
    case = Case([[id, 0.5, recall, dict(properties)] for id, recall, properties in items], user)
    Transforms(parsed(confs), "Features", clock)(case.query, case.arena)
    properties, slots = case.query.properties(case.arena), list(range(len(items)))
    out = [{} for _ in items]
    for name in case.query.given:
        for known, value in zip(out, properties.of_each(name, np.array(slots, np.int32)), strict=True):
            if value is not MISSING:
                known[name] = value
    return dict(case.query.user_features), out


USER = {"uid": "u1", "age": 31.0, "score": 3.75, "city": "bj", "vip": True, "tags": ["a"], "n": 13}
ITEMS = [
    ("i1", "hot", {"category": "book", "price": 3.7, "index": 5.0}),
    ("i2", "cf", {"category": "film", "price": -2.5, "stock": 7}),
    ("i3", "hot", {"flag": True, "list": ["x"]}),
]


def one(conf, user=USER, items=ITEMS):
    """The single property that a transform makes: of the user, or of each item."""
    seen, out = transformed([{"FeatureName": "new"} | conf], user, items)
    if conf.get("FeatureStore") == "item":
        return [known.get("new", MISSING) for known in out]
    return seen.get("new", MISSING)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("user:city", "bj"), ("user:age", "31"), ("user:score", "3.75"), ("user:vip", ""), ("user:tags", ""),
        ("user:none", ""), ("item:city", "bj"), ("user:city:more", "bj"), ("city", MISSING), ("", MISSING),
    ],
)  # fmt: skip
def test_a_raw_feature_is_a_text_of_the_user(source, text):
    assert one({"FeatureType": "raw_feature", "FeatureSource": source}) == text


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("item:category", ["book", "film", ""]),
        ("item:price", ["3", "-2", ""]),  # a double of an item loses what is behind its point
        ("item:stock", ["", "7", ""]),
        ("item:flag", ["", "", ""]),
        ("user:score", ["3.75"] * 3),  # of the user it does not
        ("item:id", ["", "", ""]),  # compose_feature alone takes that for the item's id
        ("category", [MISSING] * 3),
    ],
)
def test_a_raw_feature_is_a_text_of_each_item(source, texts):
    assert one({"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureSource": source}) == texts


def test_feature_value_stands_for_the_source():
    conf = {"FeatureType": "raw_feature", "FeatureSource": "user:city", "FeatureValue": "user:age"}
    assert one(conf) == "31"


@pytest.mark.parametrize("store", ["user", "item"])
def test_a_removed_source_is_gone_and_the_snapshots_column_with_it(store):
    conf = {"FeatureType": "raw_feature", "FeatureStore": store, "FeatureName": "new", "RemoveFeatureSource": True}
    user, items = transformed([conf | {"FeatureSource": "item:category"}], USER | {"category": "c"}, ITEMS)
    assert ("category" in user) == (store == "item")
    assert ["category" in item for item in items] == [store == "user"] * 2 + [False]


@pytest.mark.parametrize(
    ("made", "value"), [("const_value", None), ("expression", ""), ("expr", ""), ("nope", "book"), ("month", 11)]
)
def test_a_normalizer_of_a_raw_feature_gets_one_text_and_no_names(made, value):
    conf = {"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureSource": "item:category", "Normalizer": made}
    assert one(conf | {"Expression": "category"})[0] == value


def test_a_batch_renames_several_and_skips_what_is_no_source():
    conf = {"FeatureType": "batch_raw_feature", "FeatureName": "a,b,c", "FeatureSource": "user:city,age,user:none"}
    user, items = transformed([conf, conf | {"FeatureStore": "item"}], USER, ITEMS)
    assert (user["a"], user.get("b"), user["c"]) == ("bj", None, "")
    assert [(item["a"], item.get("b"), item["c"]) for item in items] == [("bj", None, "")] * 3


def test_lists_of_different_length_are_refused():
    conf = {"FeatureType": "batch_raw_feature", "FeatureName": "a,b", "FeatureSource": "user:city"}
    with pytest.raises(ConfigError, match=r"Features\[0\]: 2 names in FeatureName, 1 sources"):
        Transforms(parsed([conf]), "Features")


@pytest.mark.parametrize("made", ["expression", "expr"])
def test_an_expression_that_does_not_parse_is_refused_with_its_place(made):
    conf = {"FeatureType": "new_feature", "FeatureName": "a", "Normalizer": made, "Expression": "age + + * 2"}
    with pytest.raises(ConfigError, match=r"(?s)Features\[0\]\.Expression: .*\^"):
        Transforms(parsed([conf]), "Features")


def test_texts_are_composed_on_both_sides():
    conf = {"FeatureType": "compose_feature", "FeatureSource": "user:city,item:id,none,item:category,user:age"}
    assert one(conf) == "_bj___31", "on the user's side every name is the user's, and the feature's is not part of it"
    assert one(conf | {"FeatureStore": "item"}) == ["new_bj_i1_book_31", "new_bj_i2_film_31", "new_bj_i3__31"]


@pytest.mark.parametrize("source", ["user:city,age,nope", "city,item:age", "user:city:x,user:age"])
def test_features_are_deleted_by_their_sources(source):
    user, _ = transformed([{"FeatureType": "delete_feature", "FeatureSource": source}], USER, ITEMS)
    assert set(USER) - set(user) == {"city", "age"}


def test_deleted_features_of_items_are_hidden_from_what_follows():
    confs = [
        {"FeatureType": "delete_feature", "FeatureStore": "item", "FeatureSource": "item:category,price"},
        {
            "FeatureType": "compose_feature",
            "FeatureStore": "item",
            "FeatureSource": "item:category",
            "FeatureName": "c",
        },
    ]
    _, items = transformed(confs, USER, ITEMS)
    assert [item["c"] for item in items] == ["c_"] * 3 and not any("price" in item for item in items)


def test_a_deleted_feature_may_be_made_anew():
    confs = [
        {"FeatureType": "delete_feature", "FeatureStore": "item", "FeatureSource": "category"},
        {"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureName": "category", "FeatureSource": "user:city"},
    ]
    assert [item["category"] for item in transformed(confs, USER, ITEMS)[1]] == ["bj"] * 3


def test_the_requests_features_come_back_over_the_users():
    confs = [
        {"FeatureType": "delete_feature", "FeatureSource": "city"},
        {"FeatureType": "new_feature", "FeatureName": "age", "Normalizer": "const_value", "FeatureValue": "7"},
        {"FeatureType": "context_feature"},
        {"FeatureType": "context_feature", "FeatureStore": "item"},
    ]
    user, items = transformed(confs, USER | {"empty": ""}, ITEMS)
    assert user == USER | {"empty": ""} and items == [properties for *_, properties in ITEMS]


def test_transforms_of_users_and_items_act_in_the_configured_order():
    name = {"FeatureType": "raw_feature", "FeatureStore": "item", "FeatureSource": "user:city"}
    confs = [
        name | {"FeatureName": "before"},
        {"FeatureType": "new_feature", "FeatureName": "city", "Normalizer": "const_value", "FeatureValue": "sh"},
        name | {"FeatureName": "after"},
    ]
    _, items = transformed(confs, USER, ITEMS)
    assert [(item["before"], item["after"]) for item in items] == [("bj", "sh")] * 3


@pytest.mark.parametrize(
    ("made", "expression", "value"),
    [
        ("expression", "age + 1", 32.0), ("expression", "age > 30", 1), ("expression", "none + 1", ""),
        ("expression", "currentTime", ""), ("expression", "user", ""), ("expression", "n % 2", 1.0),
        ("expr", "user.n % 2", 1), ("expr", "user.age > 31", 0), ("expr", "user.none", None), ("expr", "n", None),
        ("expr", "currentTime", int(NOW)), ("expr", "user.n - 'x'", ""),
    ],
)  # fmt: skip
def test_an_expression_on_the_user_sees_all_of_the_user_whatever_the_source(made, expression, value):
    conf = {"FeatureType": "new_feature", "Normalizer": made, "Expression": expression}
    assert one(conf) == value and type(one(conf)) is type(value)
    assert one(conf | {"FeatureSource": "user:nothing"}) == value


@pytest.mark.parametrize(
    ("made", "source", "expression", "values"),
    [
        ("expression", "", "recall_name == 'hot'", [1, 0, 1]),
        ("expression", "", "price * 2", [7.4, -5.0, ""]),
        ("expression", "", "currentTime", [NOW] * 3),
        ("expression", "", "uid", [""] * 3),
        ("expression", "item:recall_name", "recall_name", ["hot", "cf", "hot"]),
        ("expression", "item:recall_name", "category", [""] * 3),
        ("expression", "item:category", "category", ["book", "film", None]),
        ("expression", "item:price", "category", [""] * 3),
        ("expression", "user:score", "score + 1", [4.75] * 3),
        ("expression", "item:score", "score + 1", [""] * 3),
        ("expression", "no source", "currentTime - currentTime", [0.0] * 3),
        ("expr", "", "item.price ?? 0.5", [3.7, -2.5, 0.5]),
        ("expr", "", "user.n + item.index", [18.0, "", ""]),
        ("expr", "", "item.recall_name in ['hot']", [1, 0, 1]),
        ("expr", "", "price", [MISSING] * 3),
        ("expr", "item:price", "price", [3.7, -2.5, None]),
        ("expr", "item:price", "item", [MISSING] * 3),
        ("expr", "user:n", "n * 2", [26] * 3),
    ],
)
def test_an_expression_on_items_sees_what_its_source_names(made, source, expression, values):
    conf = {"FeatureType": "new_feature", "FeatureStore": "item", "Normalizer": made}
    assert one(conf | {"Expression": expression, "FeatureSource": source}) == values


def test_whole_numbers_beyond_doubles_keep_their_digits():
    conf = {"FeatureType": "new_feature", "FeatureStore": "item", "Normalizer": "expression"}
    assert one(conf | {"Expression": "hash(getString(category, 'movie'))"})[2] == ""
    values = one(conf | {"Expression": "s2CellID(39.9042, 116.4074)"})
    assert values == [3886697436164390912] * 3
    assert one(conf | {"Normalizer": "expr", "Expression": "hash(item.recall_name)"})[0] == one(
        {"FeatureType": "new_feature", "Normalizer": "expr", "Expression": "hash('hot')"}
    )


@pytest.mark.parametrize("store", ["user", "item"])
def test_normalizers_of_the_clock_say_what_the_local_time_is(store):
    now = time.localtime(NOW)
    week = int(time.strftime("%V", now))
    expected = {"hour_in_day": now.tm_hour, "weekday": now.tm_wday, "month": now.tm_mon, "week": week}
    for made, value in expected.items():
        given = one(
            {"FeatureType": "new_feature", "FeatureStore": store, "Normalizer": made, "FeatureSource": "user:x"}
        )
        assert given == (value if store == "user" else [value] * 3), made


def test_random_numbers_are_below_100_and_not_the_same_for_all():
    items = [(f"i{number}", "hot", {}) for number in range(500)]
    conf = {"FeatureType": "new_feature", "FeatureStore": "item", "Normalizer": "random"}
    values = one(conf, items=items)
    assert all(type(value) is int and 0 <= value < 100 for value in values) and len(set(values)) > 50
    assert 0 <= one(conf | {"FeatureStore": "user"}) < 100


def test_a_constant_is_the_users_text_and_an_items_null():
    conf = {"FeatureType": "new_feature", "Normalizer": "const_value", "FeatureSource": "any, text"}
    assert one(conf) == "any, text" and one(conf | {"FeatureStore": "item"}) == [None] * 3


@pytest.mark.parametrize("store", ["user", "item"])
def test_an_unknown_normalizer_makes_nothing(store):
    found = one({"FeatureType": "new_feature", "FeatureStore": store, "Normalizer": "holiday"})
    assert found == (MISSING if store == "user" else [MISSING] * 3)


def test_without_candidates_only_the_user_changes():
    conf = {"FeatureType": "raw_feature", "FeatureSource": "user:city", "FeatureName": "new"}
    remove = {"RemoveFeatureSource": True, "FeatureStore": "item"}
    user, items = transformed([conf, conf | remove], USER, [])
    assert user["new"] == "bj" and user["city"] == "bj" and items == []
    case = Case([], USER)
    Transforms(parsed([conf, conf | remove]), "Features")(case.query, None)
    assert case.query.user_features["new"] == "bj" and case.query.user_loaded == {"new"}


@pytest.mark.parametrize(
    ("value", "user", "item"),
    [
        (3.75, "3.75", "3"), (-0.5, "-0.5", "0"), (1e20, "1" + "0" * 20, str(-(2**63))), (7, "7", "7"),
        (float("inf"), "+Inf", str(-(2**63))), (True, "", ""), (None, "", ""), ([1], "", ""), ("x", "x", "x"),
    ],
)  # fmt: skip
def test_texts_of_users_and_items_differ_in_doubles(value, user, item):
    assert (user_text(value), item_text(value)) == (user, item)
    codes, texts = texts_of(([0], [value]) if not isinstance(value, float) else None, 1)
    assert texts[codes[0]] == ("" if isinstance(value, float) else item)


NAMES = ["a", "b", "c", "d"]
VALUES = ["x", "", "y_1", 2.5, -3.0, 1e9, 7, 0, True, None, ["q"]]
EXPRESSIONS = {
    "expression": [
        "a + 1",
        "a == 'x'",
        "recall_name in ('hot','cf')",
        "getString(b, 'none')",
        "c > 2",
        "currentTime - 1",
    ],
    "expr": ["item.a ?? 'no'", "item.b == user.b", "user.c", "item.recall_name", "currentTime", "a"],
}


def random_conf(rng):
    def source():
        side = rng.choice(["user:", "item:", "item:", ""])
        return side + rng.choice(NAMES) + rng.choice(["", "", "", ":z"])

    kind = rng.choice(["raw_feature", "batch_raw_feature", "compose_feature", "delete_feature", "new_feature"])
    conf = {"FeatureType": kind, "FeatureStore": rng.choice(["user", "item", "item"]), "FeatureName": rng.choice(NAMES)}
    conf[rng.choice(["FeatureSource", "FeatureValue"])] = source()
    if kind in ("raw_feature", "compose_feature"):
        conf["RemoveFeatureSource"] = rng.random() < 0.3
    if kind == "raw_feature" and rng.random() < 0.3:
        conf["Normalizer"] = rng.choice(["hour_in_day", "const_value"])
    if kind in ("batch_raw_feature", "compose_feature"):
        conf["FeatureSource"] = ",".join(source() for _ in range(3))
        conf.pop("FeatureValue", None)
    if kind == "batch_raw_feature":
        conf["FeatureName"] = ",".join(rng.sample(NAMES, 3))
    if kind == "new_feature":
        made = rng.choice(["expression", "expr", "const_value", "weekday"])
        conf |= {"Normalizer": made, "Expression": rng.choice(EXPRESSIONS.get(made, [""]))}
        conf.pop("FeatureValue", None)
        conf["FeatureSource"] = rng.choice(["", "", "item:recall_name", "item:a", "user:b", "a"])
    return conf


@pytest.mark.parametrize("seed", range(60))
def test_columns_agree_with_items_one_by_one(seed):
    rng = random.Random(seed)
    user = {name: rng.choice(VALUES) for name in NAMES if rng.random() < 0.8}
    items = [
        (f"i{number}", rng.choice(["hot", "cf"]), {name: rng.choice(VALUES) for name in NAMES if rng.random() < 0.7})
        for number in range(rng.choice([1, 2, 17]))
    ]
    for _ in range(20):
        confs = [random_conf(rng) for _ in range(rng.randint(1, 6))]
        seen = {name: value for name, value in user.items() if value != ""} | {"uid": "user"}
        expected = [(id, recall, dict(properties)) for id, recall, properties in items]
        transform(confs, seen, expected)
        got_user, got = transformed(confs, user | {"uid": "user"}, items)
        assert same(got_user, seen), confs
        for item, (_, _, properties) in zip(got, expected, strict=True):
            assert same(absent_nil(item), absent_nil(properties)), confs


def absent_nil(properties):
    """Of an item nil and nothing are one: an expression's nil leaves no value in a column."""
    return {name: value for name, value in properties.items() if value is not None}


def same(got, expected):
    return got.keys() == expected.keys() and all(
        got[name] == expected[name] and isinstance(got[name], str) == isinstance(expected[name], str) for name in got
    )
