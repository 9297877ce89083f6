"""PAI-Rec's documented callback from end to end: its configuration, with stores, model server and topic at hand."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from pairec_fast import Engine
from pairec_fast.app import App
from pairec_fast.callback import draw, invoked
from tests.datahubs import needs_client, wait_for
from tests.services.datahub import ACCESS_ID, ACCESS_KEY, DatahubServer
from tests.services.easyrec import TOKEN, EasyrecServer
from tests.test_callback import counts
from tests.test_config_callback import CONF
from tests.test_metrics import parsed
from tests.worlds import CALLBACK, FEED

pytest.importorskip("psycopg_pool")
needs_client()

SCHEMA = [(entry["Field"], entry["Type"], True) for entry in CONF["DatahubConfs"]["callback_log"]["Schemas"]]
ROW = {"user_id": "u1", "city": "beijing", "age": 31, "spent": 12.5}
SENT = {
    "uid": "u1", "scene_id": "homepage", "features": {"os": "ios", "none": "", "level": "7"},
    "request_info": {"page": 2, "a": "<b>"},
    "item_list": [{"item_id": f"i{place}", "price": place / 2, "brand": f"b{place}"} for place in range(30)],
}  # fmt: skip
DRAWN, KEPT = {"hour", "day", "draw"}, 20
CLICKED = {"u1": "a;b;d", "u2": "z;y"}


class Page:
    """The documented configuration, of which addresses, secrets and the snapshot alone are changed."""

    def __init__(self, folder, snapshots, postgres, model: EasyrecServer, hub: DatahubServer) -> None:
        self.model, self.hub, self.path = model, hub, folder / "engine.json"
        self.ids = (f"r{number}" for number in count())
        self.conf = copy.deepcopy(CONF)
        holo, self.topic = self.conf["HologresConfs"]["holo"], self.conf["DatahubConfs"]["callback_log"]
        holo["DSN"] = holo["DSN"].replace("holo.example:80", f"127.0.0.1:{postgres.port}")
        self.topic["Endpoint"] = hub.endpoint
        self.conf["AlgoConfs"][0]["EasConf"]["Url"] = model.url("multiple")
        self.conf["SnapshotConf"] = {"Directory": str(snapshots)}
        self.scene = self.conf["SceneConfs"]["homepage"]["default"]
        self.callback = self.conf["CallBackConfs"]["homepage"]

    def engine(self) -> Engine:
        self.path.write_text(json.dumps(self.conf))
        return Engine.from_config(self.path)

    def rows(self, request_id: str) -> list[dict[str, Any]]:
        """The tuples of a request as they came."""
        if "callback_log" not in self.hub.projects["shop"]:
            return []
        return [row for row in self.hub.rows("callback_log", "shop") if row["request_id"] == request_id]

    def call(self, app: App, path: str = CALLBACK, **changes: Any) -> Any:
        """Sends a request and does what follows its answer."""
        status, _, body, after = app.handle(path, json.dumps(SENT | changes).encode())
        if after is not None:
            after()
        answer = json.loads(body)
        assert (status, answer["request_id"]) == (200, changes["request_id"]), body
        return answer

    def arrived(self, request_id: str) -> list[dict[str, Any]]:
        """The user's record and those of the items, once all are there."""
        wait_for(lambda: len(self.rows(request_id)) == 1 + KEPT)
        return self.rows(request_id)

    def whole(self, app: App, ids: Iterator[str] | None = None, **changes: Any) -> list[dict[str, Any]]:
        """What arrives of a callback for which no deadline was missed: they are short for a busy machine."""
        until = time.monotonic() + 20
        while time.monotonic() < until:
            request_id = next(ids or self.ids)
            answer = self.call(app, request_id=request_id, **changes)
            assert answer == {"code": 200, "msg": "success", "request_id": request_id}
            rows = self.arrived(request_id)
            user = user_of(rows)
            if "city" in user and user.get("click_seq") == CLICKED[user["uid"]] and rows[1]["generate_features"]:
                return rows
        raise AssertionError(rows)


def user_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    features: dict[str, Any] = json.loads(rows[0]["user_features"])
    return features


def drawn(features: dict[str, Any]) -> dict[str, Any]:
    """The features but for those that depend on when and by chance, which are sound."""
    lately = [time.localtime(time.time() - seconds) for seconds in (0, 60)]
    assert (features["hour"], features["day"]) in [(at.tm_hour, at.tm_wday) for at in lately]
    assert features["draw"] in range(100)
    return {name: value for name, value in features.items() if name not in DRAWN}


def ended(engine: Engine, app: App) -> dict[str, float]:
    """The counts of items by the text of `/metrics`, once all callbacks that were accepted have arrived."""

    def shown() -> dict[str, float]:
        status, _, text, _ = app.handle("/metrics", b"")
        assert status == 200
        return parsed(text.decode())

    def total(name: str) -> float:
        return sum(value for key, value in shown().items() if key.startswith(f"pairec_log_{name}"))

    wait_for(lambda: total("delivered_total") == total("accepted_total"))
    assert total("dead_letter") == total("in_spill") == total("in_ring") == total("dropped_total") == 0
    return counts(engine)


@pytest.fixture
def page(tmp_path, shop, postgres, monkeypatch):
    import psycopg

    with postgres.connect() as server:
        server.autocommit = True
        server.execute("drop database if exists shop with (force)")
        server.execute("drop role if exists reader")
        server.execute("create role reader login")
        server.execute("create database shop")
    with psycopg.connect(postgres.url.rpartition("/")[0] + "/shop") as store:
        store.execute("create table public.user_features (user_id text primary key, city text, age int, spent float8)")
        store.execute("insert into public.user_features values ('u1', 'beijing', 31, 12.5), ('u2', 'x', 1, 1)")
        for table in ("events_online", "events_offline"):
            store.execute(
                f"create table public.{table} (user_id text, item_id text, event text, event_time bigint,"
                " play_time float8)"
            )
        now = int(time.time())
        online = [  # user, item, event, seconds ago, play time
            ("u1", "a", "click", 100, 0.5), ("u1", "b", "download", 200, 2), ("u1", "c", "expose", 300, 3),
            ("u1", "a", "click", 250, 4), ("u1", "f", "click", 400, 4), ("u2", "z", "click", 50, 5),
            ("u2", "old", "click", 6 * 86_400, 6),
        ]  # fmt: skip
        offline = [
            ("u1", "b", "download", 300, 1), ("u1", "d", "click", 10 * 86_400, 7), ("u1", "e", "expose", 50, 8),
            ("u2", "y", "click", 8 * 86_400, 9),
        ]  # fmt: skip
        for table, events in (("events_online", online), ("events_offline", offline)):
            for user, item, event, age, play in events:
                store.execute(
                    f"insert into public.{table} values (%s, %s, %s, %s, %s)", (user, item, event, now - age, play)
                )
        store.execute("grant select on all tables in schema public to reader")
    secrets = {
        "HOLO_USER": "reader", "HOLO_PASSWORD": "p1", "AccessKey": ACCESS_ID, "AccessSecret": ACCESS_KEY,
        "EAS_TOKEN": TOKEN,
    }  # fmt: skip
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with EasyrecServer() as model, DatahubServer() as hub:
        hub.projects["shop"] = {}
        yield Page(tmp_path, shop / "snapshots", postgres, model, hub)
    postgres.ensure()
    with postgres.connect() as server:
        server.autocommit = True
        server.execute("drop database shop with (force)")
        server.execute("drop role reader")


def test_a_callback_arrives_with_what_was_sent_and_what_stores_and_model_know(page):
    begin = int(time.time())
    with page.engine() as engine:
        app = App(engine)
        user, *items = rows = page.whole(app)
        totals = ended(engine, app)
        calls = totals["offered"] // len(SENT["item_list"])
        assert totals == {"offered": 30 * calls, "sampled_out": 10 * calls, "accepted": 20 * calls, "dropped": 0}
    assert page.hub.topic("shop", "callback_log").fields[: len(SCHEMA)] == SCHEMA
    assert {(row["scene"], row["user_id"], row["request_time"]) for row in rows} == {
        ("homepage", "u1", user["request_time"])
    }
    assert begin <= int(user["request_time"]) <= time.time()
    assert (user["module"], user["item_id"], user["generate_features"]) == ("user", None, None)
    assert user["request_info"] == '{"a":"\\u003cb\\u003e","page":2}'
    features = drawn(user_of(rows))
    events = {name: features.pop(name).split(";") for name in list(features) if name.startswith("click_seq")}
    assert features == ROW | {"os": "ios", "level": 7, "uid": "u1"}
    # What is online and as new as the newest offline, then what is offline; the newest of each item; no exposures.
    assert events.pop("click_seq") == events["click_seq__item_id"] == CLICKED["u1"].split(";")
    assert events["click_seq__event"] == ["click", "download", "click"]
    assert events["click_seq__play_time"] == ["0.50", "2.00", "7.00"]
    ages = [int(age) for age in events.pop("click_seq__ts")]
    for age, at, least in zip(ages, events.pop("click_seq__event_time"), (100, 200, 864_000), strict=True):
        assert least <= age < least + 60 and begin <= int(at) + age <= time.time()
    assert events.keys() == {"click_seq__item_id", "click_seq__event", "click_seq__play_time"}
    assert [item["item_id"] for item in items] == [f"i{place}" for place in range(KEPT)]
    for place, item in enumerate(items):
        assert (item["module"], item["user_features"], item["request_info"]) == ("item", None, None)
        assert json.loads(item["item_features"]) == {"price": place / 2, "brand": f"b{place}"}
        assert item["generate_features"] == f"generated i{place}" and f"context i{place}" in item["context_features"]


def test_the_model_is_asked_with_all_that_the_record_tells_of_the_user(page):
    with page.engine() as engine:
        rows = page.whole(App(engine))
    asked = page.model.requests[-1]
    assert asked.item_ids == [row["item_id"] for row in rows[1:]]
    told = user_of(rows)
    assert {name: str(value) for name, (_, value) in asked.user.items()} == {
        name: str(value) for name, value in told.items()
    }


def test_what_online_events_lack_is_older_than_five_days(page):
    with page.engine() as engine:
        app = App(engine)
        known = user_of(page.whole(app, uid="u2"))
        assert (known["click_seq"], known["city"]) == (CLICKED["u2"], "x"), "without the online one of six days ago"
        page.call(app, request_id="nobody", uid="u9")
        nobody = drawn(user_of(page.arrived("nobody")))
    assert nobody.pop("click_seq", "") == "" and nobody == {"uid": "u9", "os": "ios", "level": 7}


@pytest.mark.parametrize("shown", [False, True])
def test_raw_features_are_asked_for_at_their_rate_and_logged_where_the_schema_has_them(page, shown):
    if shown:
        page.topic["Schemas"].append({"Field": "raw_features", "Type": "string"})
    lucky = (id for id in page.ids if draw(id, "raw") < 0.1)
    others = (id for id in page.ids if draw(id, "raw") >= 0.1)
    with page.engine() as engine:
        app = App(engine)
        for ids, debug, level in ((lucky, False, 1), (others, False, 3), (others, True, 2)):
            _, first, *_ = page.whole(app, ids, debug=debug)
            assert page.model.requests[-1].debug_level == level
            assert first.get("raw_features", "none") == (("raw i0" if level == 1 else "") if shown else "none")


def test_recommendations_are_logged_at_the_rate_of_the_scene_even_with_debug(page):
    """The page leaves the recalls to the scene; here the items of the request are the answer."""
    with page.engine() as engine:
        page.call(App(engine), FEED, request_id=next(id for id in page.ids if invoked(id, 20)), size=30)
        assert counts(engine)["offered"] == 0, "no recall, no items"
    page.scene["RecallNames"] = ["ContextItemRecall"]
    asked = [next(page.ids) for _ in range(40)]
    chosen = [id for id in asked if invoked(id, 20)]
    with page.engine() as engine:
        app, answers = App(engine), {}
        for place, id in enumerate(asked):
            answers[id] = page.call(app, FEED, request_id=id, size=30, debug=place % 2 == 0)
        for id in chosen:
            user, *items = rows = page.arrived(id)
            assert user["module"] == "user" and user["request_info"] == "{}"
            assert drawn(user_of(rows)).items() >= {"uid": "u1", "os": "ios", "level": 7}.items()
            shown = [item["item_id"] for item in answers[id]["items"]]
            assert len(shown) == 30 and [item["item_id"] for item in items] == shown[:KEPT]
            for item in items:
                features = json.loads(item["item_features"])
                assert features["brand"] == f"b{item['item_id'][1:]}" and features.keys() >= {"score", "algo_scores"}
        totals = ended(engine, app)
        assert totals["offered"] == 30 * 40 and totals["accepted"] == KEPT * len(chosen) and totals["dropped"] == 0
    assert 0 < len(chosen) < 40 and not any(page.rows(id) for id in asked if id not in chosen)
    some = [page.rows(id) for id in chosen]
    assert any("city" in user_of(rows) and user_of(rows).get("click_seq") == CLICKED["u1"] for rows in some)
    assert any(rows[1]["generate_features"] == f"generated {rows[1]['item_id']}" for rows in some)


def test_records_arrive_without_what_a_frozen_store_does_not_tell(page, postgres):
    page.scene["RecallNames"] = ["ContextItemRecall"]
    with page.engine() as engine:
        app = App(engine)
        page.whole(app)
        postgres.freeze()
        sent = [next(page.ids) for _ in range(10)]
        automatic = next(id for id in page.ids if invoked(id, 20))
        begin = time.monotonic()
        for id in sent:
            assert page.call(app, request_id=id)["msg"] == "success"
        page.call(app, FEED, request_id=automatic, size=30)
        arrived = [page.arrived(id) for id in (*sent, automatic)]
        assert time.monotonic() - begin < 15
        for rows in arrived:
            assert drawn(user_of(rows)) == {"uid": "u1", "os": "ios", "level": 7}
        assert any(rows[1]["generate_features"] == "generated i0" for rows in arrived), (
            "the model is asked all the same"
        )
        postgres.thaw()
        assert user_of(page.whole(app))["city"] == "beijing"
        assert ended(engine, app)["dropped"] == 0
