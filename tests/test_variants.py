"""Experiments in the engine: each parameter of PAI-Rec's table changes what it names, for those in the experiment."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest

from pairec_fast import ConfigError, Engine
from pairec_fast import reload as reloading
from pairec_fast import variants as variants_module
from pairec_fast.app import App
from pairec_fast.experiment import GLOBAL_SCENE
from pairec_fast.reload import Reloader
from tests.test_experiment_match import experiment, group, layer, room, scene
from tests.worlds import CALLBACK, FEED, RECALL, RECOMMEND, ask

HOT = {"RecallType": "UserGlobalHotRecall", "RecallCount": 7, "DaoConf": {"AdapterType": "local", "TableName": "hot"}}
HOME = "home_feed"


def setting(name=HOME, **params):
    """Every request of a scene gets these."""
    return scene(name, room(1, layer(1, group(1, config=params))))


def split(control, treated, name=HOME):
    """Users `t...` get `treated`, all others `control`."""
    groups = [group(2, kind="Filter", filter="group == 't'", config=treated), group(1, config=control)]
    return scene(name, room(1, layer(1, *groups)))


def given(world, *scenes):
    """Write the experiments that the world's engine reads."""
    world.conf["ExperimentConf"] = {"File": str(world.folder / "ab.json")}
    (world.folder / "ab.json").write_text(json.dumps({"scenes": scenes}))
    return world


@pytest.fixture
def started(world):
    """An engine on experiments."""
    engines = []

    def start(*scenes) -> Engine:
        engines.append(given(world, *scenes).engine())
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()


def recommend(engine, uid="u00007", size=50, **more):
    return engine.recommend({"uid": uid, "scene_id": HOME, "size": size, **more})


def sources(reply):
    return {item.retrieve_id for item in reply.items}


def ids(reply):
    return [item.item_id for item in reply.items]


def test_recall_names_change_the_recalls_of_their_category_alone(started):
    engine = started(setting(**{"default.RecallNames": ["hot"]}))
    assert sources(recommend(engine)) == {"hot"}
    assert sources(recommend(engine, category="default_category")) != {"hot"}


@pytest.mark.parametrize("names", [[], "hot"])
def test_recall_names_that_list_none_leave_those_of_the_configuration(started, names):
    """As text they are refused when the engine starts; an empty list is PAI-Rec's way to say nothing."""
    if isinstance(names, str):
        with pytest.raises(ConfigError, match="expected a list of names"):
            started(setting(**{"default.RecallNames": names}))
        return
    assert sources(recommend(started(setting(**{"default.RecallNames": names})))) != {"hot"}


def test_recall_names_make_a_category_that_is_not_configured(started):
    engine = started(setting(**{"extra.RecallNames": ["hot"]}))
    assert sources(recommend(engine, category="extra")) == {"hot"}
    assert sources(recommend(engine, category="other")) != {"hot"}, "that is default_category's"


def test_a_category_that_nobody_knows_answers_as_default_category_with_the_parameters_for_it(started):
    engine = started(setting(**{"default_category.RecallNames": ["hot"], "rankscore": "7"}))
    reply = recommend(engine, category="other", size=900)
    assert sources(reply) != {"hot"}, "RecallNames go by what the request says"
    assert {item.score for item in reply.items} == {7}
    assert sources(recommend(engine, category="default_category")) == {"hot"}


def test_a_recall_of_an_experiment_is_its_complete_new_configuration(started):
    engine = started(setting(**{"default.RecallNames": ["similar"], "recall.similar": HOT | {"Name": "ignored"}}))
    reply = recommend(engine)
    assert sources(reply) == {"similar"} and reply.size == 7
    popular = ids(recommend(started(setting(**{"default.RecallNames": ["hot"], "recall.hot": HOT})), size=7))
    assert sorted(ids(reply)) == sorted(popular), "another type of recall, under the name it replaces"


def test_an_experiment_may_bring_items_that_the_snapshot_lacks(started):
    """Nothing else in the configuration does, so no rows were set aside for them."""
    engine = started(setting(**{"default.RecallNames": ["ContextItemRecall"], "filterNames": []}))
    assert ids(recommend(engine, item_list=[{"item_id": "strange"}])) == ["strange"]


def test_filter_names_and_filters_of_an_experiment(started):
    few = {"FilterType": "AdjustCountFilter", "RetainNum": 5}
    engine = started(split({}, {"filterNames": ["UniqueFilter", "in_stock"], "filter.in_stock": few}))
    assert recommend(engine).size == 50
    assert recommend(engine, features={"group": "t"}).size == 5


def test_without_any_filter_there_may_be_what_a_filter_would_drop(started):
    engine = started(split({}, {"filterNames": []}))
    history = ids(recommend(engine, size=10))
    again = {"history": history}
    assert not set(history) & set(ids(recommend(engine, features=again)))
    assert set(history) & set(ids(recommend(engine, features=again | {"group": "t"})))


def test_sort_names_and_sorts_of_an_experiment(started):
    by_price = {"SortType": "CustomFieldSort", "SortByField": "price", "SortOrder": "asc"}
    engine = started(
        split({"default.SortNames": ["spread"]}, {"default.SortNames": ["spread"], "sort.spread": by_price})
    )
    column = engine.snapshot.items.columns["price"]
    prices = [
        [column.value(engine.snapshot.items.ids.find(id)) for id in ids(recommend(engine, features=features))]
        for features in ({}, {"group": "t"})
    ]
    assert prices[1] == sorted(prices[1]) and prices[0] != sorted(prices[0])


def test_rankscore_replaces_the_formula_and_reads_parameters(started):
    plain = {item.item_id: item.score for item in recommend(started(setting())).items}
    engine = started(setting(rankscore="${ranker} * ${w}", w=3))
    assert all(item.score == pytest.approx(3 * plain[item.item_id]) for item in recommend(engine).items)


def test_parameters_of_a_formula_alone_do_not_bind_another_scene(world):
    world.conf["RankConf"][HOME]["RankScore"] = "${ranker} * ${w}"
    with given(world, split({"w": 2}, {"w": "5"})).engine() as engine:
        control, treated = recommend(engine), recommend(engine, features={"group": "t"})
        assert ids(control) == ids(treated)
        assert all(
            5 * one.score == pytest.approx(2 * other.score)
            for one, other in zip(control.items, treated.items, strict=True)
        )
        assert set(engine._bound.variants._made.values()) == set(engine._bound.scenes.values())


def test_rankconf_is_the_whole_of_it_and_rankscore_counts_beside_it(started):
    engine = started(split({"rankconf": {"RankScore": "${price}"}}, {"rankconf": {}, "rankscore": "7"}))
    assert {item.score for item in recommend(engine, features={"group": "t"}).items} == {7}
    column = engine.snapshot.items.columns["price"]
    for item in recommend(engine).items:
        assert item.score == pytest.approx(column.value(engine.snapshot.items.ids.find(item.item_id)))


def test_a_general_rank_of_an_experiment(world):
    world.conf["FilterConfs"].append({"Name": "few", "FilterType": "AdjustCountFilter", "RetainNum": 5})
    action = {"ActionConfs": [{"ActionType": "filter", "ActionName": "few"}]}
    with given(world, split({}, {"generalRankConf": action})).engine() as engine:
        assert (recommend(engine).size, recommend(engine, features={"group": "t"}).size) == (50, 5)


def test_a_cold_start_general_rank_of_an_experiment(world):
    world.conf["FilterConfs"].append({"Name": "few", "FilterType": "AdjustCountFilter", "RetainNum": 5})
    cold = {"RecallNames": ["vectors"], "ActionConfs": [{"ActionType": "filter", "ActionName": "few"}]}
    with given(world, split({}, {"generalRankConf": {}, "coldStartGeneralRankConf": cold})).engine() as engine:
        brought = [sum(item.retrieve_id == "vectors" for item in recommend(engine, size=900, features=features).items)
               for features in ({}, {"group": "t"})]  # fmt: skip
        assert brought[0] > 5 and brought[1] == 5


def transforming(side, value):
    """A scene of features with one property in it."""
    made = {"FeatureType": "new_feature", "FeatureStore": side, "FeatureName": "made", "FeatureValue": value}
    return {"FeatureLoadConfs": [{"Features": [made | {"Normalizer": "const_value"}]}]}


def loading(side, name, expression):
    feature = {"FeatureType": "new_feature", "FeatureStore": side, "FeatureName": name, "Normalizer": "expression"}
    dao = {"FeatureStore": side, "FeatureKey": f"{side}:uid" if side == "user" else "item:id"}
    return {"FeatureLoadConfs": [{"FeatureDaoConf": dao, "Features": [feature | {"Expression": expression}]}]}


def test_the_scene_whose_item_features_are_loaded(world):
    world.conf["FeatureConfs"]["other"] = loading("item", "made", "40 + 2")
    treated = {"features.scene.name": "other", "rankconf": {"RankScore": "${made}"}}
    with given(world, split({"rankconf": {"RankScore": "${made}"}}, treated)).engine() as engine:
        assert {item.score for item in recommend(engine).items} == {0}
        assert {item.score for item in recommend(engine, features={"group": "t"}).items} == {42}


@pytest.mark.parametrize(
    "params",
    [{"user_features.scene.name": "other"},
     {"user_features.multistage.on": True, "user_features.stage.base.scene.name": HOME,
      "user_features.stage.rank.scene.name": "other"}],
)  # fmt: skip
def test_the_scene_whose_user_features_are_loaded(world, params):
    world.conf["UserFeatureConfs"]["other"] = loading("user", "made", "40 + 2")
    world.conf["CallBackConfs"][HOME] |= {"UseUserFeatures": True}
    with given(world, split({}, params)).engine() as engine:
        for features in {}, {"group": "t"}:
            recommend(engine, request_id=f"r{len(features)}", features=features, debug=True)
    made = {user["request_id"]: json.loads(user["user_features"]).get("made") for user, *_ in world.records()}
    assert made == {"r0": None, "r1": 42}


def test_parameters_of_dpp_reach_the_sort_that_is_bound(world):
    world.conf["SortConfs"].append({"Name": "plain", "SortType": "ItemRankScore"})
    params = {"dpp_window_size": 3, "ssd_gamma": 0.5, "w": 1, "default.RecallNames": ["hot"]}
    with given(world, setting(**params)).engine() as engine:
        bound = next(key for key in engine._bound.variants._made if key[1] == "default" and '"w"' not in key[2])
        assert json.loads(bound[2]) == {key: value for key, value in params.items() if key != "w"}


# What carries the experiment.


def test_the_answer_says_which_experiments_a_request_is_in(started):
    flow = [experiment(5, flow=0, debug_users="u00001"), experiment(6, type=1, flow=0)]
    engine = started(scene(HOME, room(2, layer(3, group(4, flow)))))
    assert recommend(engine, uid="u00001").experiment_id == "ER2_L3#EG4#E5"
    assert recommend(engine, uid="u00002").experiment_id == "ER2_L3#EG4"
    assert engine.recommend({"uid": "u00001", "scene_id": "nowhere"}).experiment_id == ""


def test_only_the_feed_shows_filters_of_experiments_the_features_of_a_request(started):
    engine = started(split({}, {"default.RecallNames": ["hot"]}))
    app = App(engine)
    body = {"uid": "u00007", "scene_id": HOME, "size": 50, "features": {"group": "t"}}
    fed, bare = ask(app, FEED, body).json, ask(app, RECOMMEND, body).json
    assert fed["experiment_id"] == "ER1_L1#EG2" and "experiment_id" not in bare
    assert {item["retrieve_id"] for item in fed["items"]} == {"hot"}
    assert {item["retrieve_id"] for item in bare["items"]} != {"hot"}


def test_recommend_matches_without_features_and_recall_does_not_match_at_all(started):
    engine = started(
        setting(**{f"{category}.RecallNames": ["group_hot"] for category in ("default", "default_category")})
    )
    app = App(engine)
    body = {"uid": "u00007", "scene_id": HOME, "size": 50}
    bare, recalled = ask(app, RECOMMEND, body).json, ask(app, RECALL, body).json
    assert {item["retrieve_id"] for item in bare["items"]} == {"group_hot"}
    assert {item["retrieve_id"] for item in recalled["items"]} == {"vectors"}


def test_records_say_which_experiments_a_request_was_in(world):
    debug = json.dumps({"Rate": 100, "OutputType": "file", "FilePath": str(world.folder / "debug")})
    with given(world, split({}, {"debugConfig": debug})).engine() as engine:
        app = App(engine)
        recommend(engine, request_id="r1", debug=True, features={"group": "t"})
        recommend(engine, request_id="r2", debug=True)
        sent = {"uid": "u1", "scene_id": HOME, "request_id": "r3", "item_list": [{"item_id": "i000012"}]}
        assert ask(app, CALLBACK, sent | {"features": {"group": "t"}}).json["code"] == 200
    found = {user["request_id"]: user["experiment_id"] for user, *_ in world.records()}
    assert found == {"r1": "ER1_L1#EG2", "r2": "ER1_L1#EG1", "r3": "ER1_L1#EG2"}
    (path,) = (world.folder / "debug").iterdir()
    text = path.read_text()
    assert text.count('"exp_id": "ER1_L1#EG2"') == text.count('"exp_id"') > 0 and '"r2"' not in text


def test_the_global_scene_sets_parameters_of_others_by_their_prefix(started):
    above = setting(GLOBAL_SCENE, **{f"{HOME}.default.RecallNames": ["hot"], "elsewhere.rankscore": "7"})
    engine = started(above, setting())
    reply = recommend(engine)
    assert sources(reply) == {"hot"} and reply.experiment_id == "ER1_L1#EG1_GL1#EG1"
    assert 7 not in {item.score for item in reply.items}


# Hazards.


def test_users_of_different_experiments_never_see_each_others_variant(started):
    recalls = ["hot", "vectors", "group_hot"]
    configs = [{"default.RecallNames": [name], "rankscore": place} for place, name in enumerate(recalls, 1)]
    groups = [
        group(place, kind="Filter", filter=f"group == '{name}'", config=config)
        for place, (name, config) in enumerate(zip(recalls, configs, strict=True), 1)
    ]
    engine = started(scene(HOME, room(1, layer(1, *groups))))
    wrong, together = [], threading.Barrier(3)

    def one(name: str, place: int) -> None:
        together.wait()
        for user in range(60):
            reply = recommend(engine, uid=f"u{user:05d}", size=10, features={"group": name})
            if sources(reply) - {name} or {item.score for item in reply.items} - {place}:
                wrong.append((name, user))
            if reply.experiment_id != f"ER1_L1#EG{place}":
                wrong.append((name, reply.experiment_id))

    threads = [threading.Thread(target=one, args=(name, place)) for place, name in enumerate(recalls, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_changed_experiments_file_is_served_and_a_bad_one_is_not(world, monkeypatch):
    monkeypatch.setattr(reloading, "SETTLE_SECONDS", 0.0)
    given(world, setting(**{"default.RecallNames": ["hot"]}))
    path = world.write()
    with Engine.from_config(path) as engine:
        reloader = Reloader(engine, path)
        assert sources(recommend(engine)) == {"hot"}
        given(world, setting(**{"default.RecallNames": ["group_hot"]}))
        assert reloader.look() and sources(recommend(engine)) == {"group_hot"}
        given(world, setting(**{"default.RecallNames": ["group_hot"], "recall.group_hot": {"RecallType": "Nope"}}))
        assert not reloader.look() and sources(recommend(engine)) == {"group_hot"} and engine.reload_failed


@pytest.mark.parametrize(
    ("params", "said"),
    [({"recall.hot": 5}, '["recall.hot"]: expected an object, got 5'),
     ({"recall.hot": {"RecallCount": 3}}, '["recall.hot"]: RecallType is missing'),
     ({"filter.in_stock": {"FilterType": "AdjustCountFilter", "RetainNum": "x"}},
      '["filter.in_stock"].RetainNum: expected an integer, got text "x"'),
     ({"sort.spread": {"SortType": "DiversityRuelSort"}},
      '["sort.spread"].SortType: unknown SortType "DiversityRuelSort" (did you mean "DiversityRuleSort"?)'),
     ({"generalRankConf": {"ActionConfs": 3}}, "generalRankConf.home_feed.ActionConfs: expected a list, got 3"),
     ({"generalRankConf": {"ActionConfs": [{"ActionType": "filter", "ActionName": "nope"}]}}, "nope"),
     ({"rankconf": {"BatchCount": "x"}}, 'rankconf.BatchCount: expected an integer, got text "x"'),
     ({"recall.hot": HOT | {"DaoConf": {"AdapterType": "local", "TableName": "nope"}}}, "nope"),
     ({"recall.hot": {"RecallType": "MockRecall", "RecallCount": 0}}, "RecallCount")],
)  # fmt: skip
def test_what_an_experiment_cannot_have_is_refused_when_the_engine_starts_and_told_by_check(
    started, world, run, params, said
):
    with pytest.raises(ConfigError) as caught:
        started(setting(**params))
    assert said in str(caught.value)
    code, out, err = run("check", world.write())
    assert code == 1 and said in err and "ok:" not in out


def test_check_tells_what_every_variant_cannot_have_once(world, run):
    """A sort that only an experiment uses: nothing but the experiment binds it."""
    world.conf["SortConfs"].append(
        {"Name": "unlike", "SortType": "DPPSort", "DPPConf": {"DaoConf": {"AdapterType": "local"}, "TableName": "alss"}}
    )
    sort = {"default.SortNames": ["ItemRankScore", "unlike"]}
    hot = {"recall.hot": HOT | {"DaoConf": {"AdapterType": "local", "TableName": "nope"}}}
    path = given(world, split(sort, {**sort, **hot})).write()
    code, _, err = run("check", path)
    assert code == 1 and err.count("alss") == 1 and err.count("nope") == 1
    assert "ExperimentConf.File: experiments of home_feed: SortConfs.unlike.DPPConf.TableName: the snapshot has" in err
    world.conf["SortConfs"][-1]["DPPConf"]["TableName"] = "als"
    given(world, setting(**sort)).write()
    assert run("check", path)[0] == 0


def many(count: int, **more):
    """Two layers that together give `count` * `count` different scenes; the user chooses with its features."""

    def groups(name, key):
        return [
            group(place, kind="Filter", filter=f"{key} == {place}", config={name: text, **more})
            for place, text in ((place, str(place) if name == "rankscore" else place) for place in range(count))
        ]  # fmt: skip

    return scene(HOME, room(1, layer(1, *groups("rankscore", "a")), layer(2, *groups("dpp_window_size", "b"))))


def test_what_is_bound_at_the_start_is_bounded_and_the_others_are_bound_once_when_they_are_met(started, caplog):
    caplog.set_level(logging.WARNING, "pairec_fast")
    engine = started(many(17))  # and those in no group: 18 * 18
    variants = engine._bound.variants
    assert len({id(one) for one in variants._made.values()}) <= 2 * 256 + 2
    assert any("more variants are bound when they are met" in line for line in caplog.messages)
    made, real = [], variants._make
    variants._make = lambda *of: made.append(of) or real(*of)
    for _ in range(3):
        assert min(item.score for item in recommend(engine, features={"a": 16, "b": 16}).items) >= 16
    assert len(made) == 1
    recommend(engine, features={"a": 0, "b": 0})
    assert len(made) == 1, "that one was bound when the engine started"


def test_those_bound_when_they_are_met_are_bounded_too(started, monkeypatch):
    monkeypatch.setattr(variants_module, "LATE_MAX", 2)
    engine = started(many(17))
    for place in (14, 15, 16, 14):
        reply = recommend(engine, features={"a": 16, "b": place})
        assert min(item.score for item in reply.items) >= 16
    assert len(engine._bound.variants._late) <= 4, "each under all of its parameters and under those that count"


def test_one_that_cannot_be_bound_any_more_is_answered_from_the_base_scene_and_said(started, caplog):
    engine = started(many(17))
    asked = []

    def refuse(*of):
        asked.append(of)
        raise ConfigError("the store is away")

    engine._bound.variants._make = refuse
    for _ in range(5):
        reply = recommend(engine, features={"a": 16, "b": 16})
        assert reply.size == 50 and reply.degraded == ["experiment: refused"]
        assert max(item.score for item in reply.items) < 16
    assert len(asked) == 1
    assert sum("the store is away" in line for line in caplog.messages) == 1
    assert 'pairec_experiment_refused_total{scene="home_feed"} 5' in engine.metrics_text()


def test_many_threads_that_meet_a_variant_at_once_bind_it_once(started):
    engine = started(many(17))
    variants, made = engine._bound.variants, []
    real = variants._make
    variants._make = lambda *of: made.append(of) or real(*of)
    together, scores = threading.Barrier(4), []

    def one() -> None:
        together.wait()
        scores.append(min(item.score for item in recommend(engine, features={"a": 16, "b": 16}).items))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(scores) == 4 and min(scores) >= 16


def test_a_variant_that_cannot_answer_is_found_before_it_is_made_current(world, monkeypatch):
    """Every scene answers somebody before a new version serves; those of experiments too."""
    given(world, setting(**{"default.RecallNames": ["hot"]}))
    with given(world, setting(**{"default.RecallNames": ["hot"]})).engine() as engine:
        rehearsed = []
        monkeypatch.setattr(engine, "_rehearse", rehearsed.append)
        engine.swap(engine.snapshot.directory)
        assert {"hot"} in [set(one.sources) for one in rehearsed]


def test_a_request_on_an_event_loop_gets_its_variant(started):
    engine = started(split({}, {"default.RecallNames": ["hot"]}))
    request = {"uid": "u00007", "scene_id": HOME, "size": 50, "features": {"group": "t"}}
    assert sources(asyncio.run(engine.recommend_async(request))) == {"hot"}


def test_what_an_experiment_leaves_as_it_is_configured_is_bound_once_for_all_variants(started):
    """Each has caches, tables it reads again from time to time, and statements: 256 times over they would not fit."""
    few = {"FilterType": "AdjustCountFilter", "RetainNum": 5}
    engine = started(split({"rankscore": "1"}, {"rankscore": "2", "filter.in_stock": few}))
    base = engine._scene(HOME, "default")
    by_score = {json.loads(key[2])["rankscore"]: made for key, made in engine._bound.variants._made.items()}
    one, other = by_score["1"], by_score["2"]
    assert one is not other and one.category == other.category
    base = engine._scene(HOME, one.category)
    assert one.recalls == other.recalls == base.recalls and one.filters == base.filters
    assert other.filters[:2] == base.filters[:2] and other.filters[2] is not base.filters[2]
    assert one.loads == other.loads == base.loads and one.user_loads == base.user_loads


def test_a_filter_that_uses_another_sees_the_one_of_its_variant(world):
    world.conf["FilterConfs"] += [
        {"Name": "few", "FilterType": "AdjustCountFilter", "RetainNum": 9},
        {"Name": "one_of", "FilterType": "ConditionFilter", "ConditionFilterConfs": {"DefaultFilterName": "few"}},
    ]
    world.conf["FilterNames"]["default"] = ["UniqueFilter", "one_of"]
    treated = {"filter.few": {"FilterType": "AdjustCountFilter", "RetainNum": 4}}
    with given(world, split({"rankscore": "1"}, treated)).engine() as engine:
        assert (recommend(engine).size, recommend(engine, features={"group": "t"}).size) == (9, 4)
