"""Engine: one request, every stage, on a small shop."""

from __future__ import annotations

import json
import shutil
import threading

import lightgbm
import numpy as np
import pytest

from pairec_fast import ConfigError, Engine, NotReadyError, RequestError, SnapshotError
from pairec_fast.build import build
from pairec_fast.learn.dataset import Dataset, Rows
from pairec_fast.learn.derive import Known
from pairec_fast.learn.frame import TextColumn
from pairec_fast.learn.sources import read_sources
from pairec_fast.learn.spec import load_world
from pairec_fast.query import Query


@pytest.fixture
def settings(shop, tmp_path):
    """The shop's configuration as a dict that a test may change; logs go to the test's own folder."""
    conf = json.loads((shop / "engine.json").read_text())
    conf["SnapshotConf"]["Directory"] = str(shop / "snapshots")
    conf["DiskConfs"]["log"]["Directory"] = str(tmp_path / "log")
    conf["LogRingConf"]["Directory"] = str(tmp_path / "ring")
    return conf


@pytest.fixture
def engine(settings):
    with Engine.from_config(settings) as engine:
        yield engine


def ask(engine, uid="u00007", **more):
    return engine.recommend({"uid": uid, "scene_id": "home_feed", "size": 20, **more})


def ids(reply):
    return [item.item_id for item in reply.items]


def test_a_known_user_gets_twenty_items_once_each_best_first(engine):
    reply = ask(engine)
    assert (reply.code, reply.msg, reply.size) == (200, "success", 20)
    assert len(set(ids(reply))) == 20
    assert {item.retrieve_id for item in reply.items} <= {"vectors", "similar", "hot", "group_hot"}


def test_a_user_nobody_has_seen_gets_twenty_popular_items_that_may_be_shown(engine):
    reply = ask(engine, uid="nobody")
    assert len(ids(reply)) == 20
    assert {item.retrieve_id for item in reply.items} == {"hot"}
    items = engine.snapshot.items
    assert all(items.columns["in_stock"].value(items.ids.find(id)) == 1 for id in ids(reply))


def test_the_same_request_on_the_same_snapshot_gets_the_same_answer(engine, settings, tmp_path):
    first = [ask(engine, uid=f"u{user:05d}").items for user in range(50)]
    settings["DiskConfs"]["log"]["Directory"] = str(tmp_path / "log2")
    settings["LogRingConf"]["Directory"] = str(tmp_path / "ring2")
    with Engine.from_config(settings) as other:
        assert [ask(other, uid=f"u{user:05d}").items for user in range(50)] == first
    assert [ask(engine, uid=f"u{user:05d}").items for user in range(50)] == first


def test_items_of_the_requests_own_history_are_not_shown_again(engine):
    before = ids(ask(engine, uid="nobody"))
    after = ids(ask(engine, uid="nobody", features={"history": before[:7]}))
    assert not set(before[:7]) & set(after)
    as_text = ids(ask(engine, uid="nobody", features={"history": ",".join(before[:7])}))
    assert as_text == after


@pytest.mark.parametrize("history", [None, 7, "", ",,", ["no such item"], [1, None, {}], {"a": 1}, [[]], "i000001"])
def test_a_history_of_any_shape_is_survived(engine, history):
    assert ask(engine, features={"history": history}).code == 200


def test_every_candidate_passed_the_filters(engine):
    """One gate nothing bypasses: recall alone brings items out of stock, a reply never holds one."""
    stock = engine.snapshot.items.columns["in_stock"].values
    assert (stock == 0).any()
    for user in range(100):
        reply = ask(engine, uid=f"u{user:05d}", size=500)
        rows = [engine.snapshot.items.ids.find(id) for id in ids(reply)]
        assert stock[rows].all()


def served(engine, users):
    """(uid, rows, features, scores) of whole walks: rows and scores from the arena itself."""
    scene = engine._scene("home_feed", "default")
    for uid in users:
        context = {"hour": 21, "device": "ios"}
        engine.recommend({"uid": uid, "scene_id": "home_feed", "size": 20, "features": context})
        arena = engine._walker._arenas[-1]
        assert scene is not None
        rows = arena.row[: arena.count].copy()
        query = Query(scene.snapshot, uid, 20, context, history_max=engine.limits.history_max)
        (model, place), *_ = scene.score._models
        cross = arena.features[: arena.count, [place[feature] for feature, _ in model.plan.cross]]
        features = model.plan.matrix(query, rows, cross)
        yield (
            uid,
            rows,
            features,
            arena.algo_score[0, : arena.count].copy(),
        )


def test_a_debug_answer_says_what_each_feature_adds(engine):
    request = {"uid": "u00007", "scene_id": "home_feed", "size": 20, "features": {"hour": 21, "device": "ios"}}
    reply = engine.recommend(request | {"debug": True})
    assert all(item.explain is None for item in engine.recommend(request).items)
    arena, scene = engine._walker._arenas[-1], engine._scene("home_feed", "default")
    raw = dict(zip(arena.row[: arena.count].tolist(), arena.algo_score[0, : arena.count], strict=True))
    (model,) = scene.score.models
    for item in reply.items:
        (name, features), *more = item.explain.items()
        assert (name, more) == (model.name, [])
        assert features["device"][0] == "ios" and features["hour"][0] == 21.0
        parts = [entry if name == "" else entry[1] for name, entry in features.items()]
        assert sum(parts) == pytest.approx(raw[scene.snapshot.items.ids.find(item.item_id)], abs=1e-9)


def test_a_thousand_served_rows_rebuilt_offline_are_the_same_bits(engine, shop):
    """The training code, asked for the same pairs at the snapshot's time, gives what the line fed the model."""
    world = load_world(shop / "world" / "world.toml")
    sources = read_sources(world, shop / "world")
    known = Known(world, shop / "world", sources, sources.now)
    dataset = Dataset(world, shop / "world", sources, world.models[0].features)
    rebuilt = 0
    for uid, rows, features, _ in served(engine, ["u00007", "u00012", "u00101", "u00150", "u00003"]):
        user = np.full(len(rows), sources.users.ids.find(uid), np.int32)
        context = {"hour": np.full(len(rows), 21), "device": TextColumn(np.zeros(len(rows), np.int32), ["ios"])}
        pairs = Rows(user, rows, np.full(len(rows), sources.now), np.zeros(len(rows), np.int64), context)
        expected = dataset.matrix(pairs, known)
        assert features.tobytes() == expected.tobytes(), [
            feature.name for place, feature in enumerate(dataset.features)
            if features[:, place].tobytes() != expected[:, place].tobytes()
        ]  # fmt: skip
        rebuilt += len(rows)
    assert rebuilt >= 1000


def test_served_scores_are_lightgbms_bit_for_bit(engine):
    booster = lightgbm.Booster(model_file=str(engine.snapshot.directory / "ranker.txt"))
    for _, _, features, scores in served(engine, [f"u{user:05d}" for user in range(0, 60, 6)]):
        assert scores.tobytes() == booster.predict(features, raw_score=True).tobytes()


def test_reply_is_by_score_until_the_diversity_rule_moves_something(engine, settings):
    settings["SortNames"]["default"] = ["ItemRankScore"]
    settings["CallBackConfs"] = {}
    with Engine.from_config(settings) as plain:
        scores = [item.score for item in ask(plain).items]
        assert scores == sorted(scores, reverse=True)
    category = engine.snapshot.items.columns["category"]
    for user in range(30):
        shown = [category.value(engine.snapshot.items.ids.find(id)) for id in ids(ask(engine, uid=f"u{user:05d}"))]
        for place in range(len(shown) - 4):
            window = shown[place : place + 5]
            assert max(map(window.count, window)) <= 3


def test_threads_get_what_one_thread_gets(engine):
    users = [f"u{user:05d}" for user in range(60)]
    expected = [ask(engine, uid=uid).items for uid in users]
    found: list[list] = [[] for _ in range(4)]

    def work(place):
        found[place] = [ask(engine, uid=uid).items for uid in users]

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(items == expected for items in found)


def test_a_huge_size_is_answered_with_what_there_is(engine):
    reply = ask(engine, size=10**9)
    assert (reply.code, reply.msg) == (299, "items size not enough")
    assert 20 < len(reply.items) <= engine.limits.size_max


@pytest.mark.parametrize("size", [0, -5])
def test_no_size_is_ten(engine, size):
    assert len(ask(engine, size=size).items) == 10


def test_an_unknown_scene_has_no_items(engine):
    reply = engine.recommend({"uid": "u1", "scene_id": "no such scene"})
    assert (reply.code, reply.items) == (299, [])


@pytest.mark.parametrize(
    "request_", [{}, {"uid": ""}, {"uid": 7}, {"uid": "u", "size": "20"}, {"uid": "u", "features": []}]
)
def test_a_request_that_cannot_be_used_says_which_field(engine, request_):
    with pytest.raises(RequestError, match=r"uid|size|features"):
        engine.recommend(request_)


def test_swap_changes_the_snapshot_and_a_bad_one_changes_nothing(engine, shop, tmp_path):
    old = engine.snapshot
    with pytest.raises(SnapshotError):
        engine.swap(tmp_path / "nowhere")
    assert engine.snapshot is old
    expected = ask(engine).items
    engine.swap(shop / "snapshots")
    assert engine.snapshot is not old
    assert ask(engine).items == expected


def test_a_snapshot_that_cannot_reproduce_its_golden_scores_is_refused(shop, settings, tmp_path):
    """Two features trade places in the manifest: every array still fits, only the answers are wrong."""
    import shutil

    import msgspec

    from pairec_fast.manifest import Manifest, fingerprint, resolve

    broken = tmp_path / "broken"
    shutil.copytree(resolve(shop / "snapshots"), broken)
    path = broken / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    features = manifest.models["ranker"].features
    places = {feature.name: place for place, feature in enumerate(features)}
    one, other = places["als"], places["i2i"]
    features[one], features[other] = features[other], features[one]
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))))
    settings["SnapshotConf"]["Directory"] = str(broken)
    with pytest.raises(SnapshotError, match="not what the model was trained on"):
        Engine.from_config(settings)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda conf: conf["RecallConfs"][0]["HnswConf"].update(Index="asl"), r'no "asl" \(did you mean "als"\?\)'),
        (lambda conf: conf["RecallConfs"][2]["DaoConf"].update(TableName="hott"), r'did you mean "hot"'),
        (lambda conf: conf["RecallConfs"][2]["DaoConf"].update(AdapterType="redis"), r'"redis" is not available'),
        (lambda conf: conf["AlgoConfs"][0]["LightGBMConf"].update(Model="rank"), r'did you mean "ranker"'),
        (
            lambda conf: conf["AlgoConfs"][0].update(Type="FAISS"),
            r'AlgoConfs\.ranker\.Type: "FAISS" is not served here; use "LIGHTGBM"',
        ),
        (
            lambda conf: conf["RankConf"]["home_feed"].update(RankScore="${ranker} +* ("),
            r"RankConf\.home_feed\.RankScore",
        ),
        (lambda conf: conf["FilterConfs"][1]["FilterParams"][0].update(Name="stock"), r'no column "stock"'),
        (
            lambda conf: conf["SortConfs"][0].update(
                ExclusionRules=[{"Positions": [1], "Conditions": [{"Operator": "expression", "Value": "1 +"}]}]
            ),
            r"DiversityRuleSort|ExclusionRules",
        ),
        (lambda conf: conf["CallBackConfs"]["home_feed"]["DataSource"].update(Type="kafka"), r"KafkaConfs"),
        (lambda conf: conf.pop("SnapshotConf"), r"SnapshotConf: missing"),
        (
            lambda conf: conf["RankConf"]["home_feed"].update(ScoreRewrite={"a": "1 +* ("}),
            r"RankConf\.home_feed\.ScoreRewrite\.a",
        ),
        (
            lambda conf: conf["SceneConfs"]["home_feed"]["default"].update(RecallNames=["hott"]),
            r'unknown recall "hott"',
        ),
    ],
)
def test_a_configuration_that_cannot_serve_does_not_start(settings, change, says):
    change(settings)
    with pytest.raises(ConfigError, match=says):
        Engine.from_config(settings)


def test_rank_score_combines_scores_and_item_columns(settings):
    settings["RankConf"]["home_feed"]["RankScore"] = "${ranker} * 0 + ${price}"
    settings["SortNames"]["default"] = ["ItemRankScore"]
    settings["SceneConfs"]["home_feed"]["default"]["OutputFields"] = ["item:price", "score:*", "item:none", "junk"]
    with Engine.from_config(settings) as engine:
        items = ask(engine).items
    assert [item.score for item in items] == sorted((item.extra["price"] for item in items), reverse=True)
    assert all(set(item.extra) == {"price", "none", "algo_scores"} for item in items)


def test_scenes_with_models_of_different_width_share_an_arena(settings, shop, tmp_path):
    """The widest makes the arena; each forest reads its own features of it, also one after the other."""
    world = tmp_path / "world"
    shutil.copytree(shop / "world", world)
    with (world / "world.toml").open("a") as file:
        file.write('[[models]]\nname = "narrow"\nfeatures = [{ name = "price", source = "item:price" }]\n')
    build(world / "world.toml", tmp_path / "snapshots")
    settings["SnapshotConf"]["Directory"] = str(tmp_path / "snapshots")
    settings["AlgoConfs"].append({"Name": "narrow", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "narrow"}})
    settings["SceneConfs"]["both"] = {"default": {"RecallNames": ["hot"], "OutputFields": ["score:*"]}}
    settings["SceneConfs"]["alone"] = {"default": {"RecallNames": ["hot"], "OutputFields": ["score:*"]}}
    settings["RankConf"]["both"] = {"RankAlgoList": ["ranker", "narrow"], "RankScore": "${ranker} + ${narrow}"}
    settings["RankConf"]["alone"] = {"RankAlgoList": ["narrow"], "RankScore": "${narrow}"}
    with Engine.from_config(settings) as engine:
        both, alone = ask(engine, scene_id="both", size=500), ask(engine, scene_id="alone", size=500)
        prices = engine.snapshot.items.columns["price"].values
        find = engine.snapshot.items.ids.find
        forest = engine.snapshot.models["narrow"]
        for item in (*both.items, *alone.items):
            price = np.array([[prices[find(item.item_id)]]], np.float32)
            assert item.extra["algo_scores"]["narrow"] == forest.predict(price)[0]
    assert set(ids(both)) == set(ids(alone)) and both.items


def test_a_closed_engine_says_so(settings):
    engine = Engine.from_config(settings)
    engine.close()
    engine.close()
    with pytest.raises(NotReadyError):
        ask(engine)


def test_async_is_the_same(engine):
    import asyncio

    reply = asyncio.run(engine.recommend_async({"uid": "u00007", "scene_id": "home_feed", "size": 20}))
    assert reply.items == ask(engine).items


def test_workers_of_one_server_serve_the_snapshot_that_was_verified_not_a_newer_one(shop, settings, tmp_path):
    from pairec_fast.manifest import resolve

    pinned = resolve(shop / "snapshots")
    settings["SnapshotConf"]["Directory"] = str(tmp_path / "where another one may have been built by now")
    with Engine.from_config(settings, pinned) as engine:
        assert engine.snapshot.directory == pinned
        assert len(ask(engine).items) == 20
