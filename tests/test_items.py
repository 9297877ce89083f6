"""New, changed and removed items: what requests get, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from pairec_fast import Engine, RequestError, SnapshotError, cli, items
from pairec_fast.build import build
from pairec_fast.items.live import Live
from pairec_fast.items.log import NAME
from pairec_fast.logs import finish
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot
from tests.faults.freshness import failed, run
from tests.worlds import environment, own_snapshots

WHOLE = {"title": "t", "category": "quite new", "brand": "b", "price": 3.5, "published": 1_790_000_000, "in_stock": 1}
USERS = [f"u{number:05}" for number in range(0, 200, 7)]


@pytest.fixture
def folder(world, shared_world):
    """Snapshots of the test's own. The scene answers with all that recalls bring, the request's own items included."""
    world.scene["default"]["RecallNames"] = [*world.scene["default"]["RecallNames"], "ContextItemRecall"]
    world.conf["RecallConfs"].append(
        {"Name": "like", "RecallType": "ItemCollaborativeFilterRecall",
         "ItemCollaborativeDaoConf": {"AdapterType": "local", "Item2ItemTable": "i2i"}}
    )  # fmt: skip
    world.scene["default"]["RecallNames"].append("like")
    return own_snapshots(world, shared_world)


@pytest.fixture
def engine(world, folder):
    with world.engine() as engine:
        yield engine


def ask(engine, uid, *ids, **more):
    request = {"uid": uid, "scene_id": "home_feed", "size": 1000, "item_list": [{"item_id": id} for id in ids]}
    return {item.item_id: item for item in engine.recommend(request | more).items}


def answers(engine, users=USERS):
    return {uid: [(id, item.score, item.retrieve_id) for id, item in ask(engine, uid, "n1").items()] for uid in users}


def recalled(engine, uid):
    """Ids that each recall brings on its own, repeats and all."""
    scene = engine._bound.scenes["home_feed", "default"]
    found = []
    for recall in scene.recalls:
        arena = engine._walker._take(scene, scene.repeats)
        recall(Query(scene.snapshot, uid, 10, {}, history_max=1000), arena)
        found += [[scene.snapshot.items.ids.id(row) for row in arena.row[: arena.count].tolist()]]
    return found


def test_a_new_item_is_found_scored_and_filtered_by_its_values(engine):
    assert "n1" not in ask(engine, USERS[0], "n1")
    engine.add_items([{"item_id": "n1", **WHOLE}, {"item_id": "n2", **WHOLE, "in_stock": 0}])
    found = ask(engine, USERS[0], "n1", "n2")
    assert "n1" in found and "n2" not in found, "one is out of stock"
    columns, row = engine.snapshot.items.columns, engine.snapshot.items.ids.find("n1")
    assert {name: columns[name].value(row) for name in WHOLE} == WHOLE
    assert columns["age_days"].value(row) is None, "not given"


def test_scores_of_new_and_changed_items_are_the_forest_s_own(engine):
    """Their lines are made here, not by build: the bits must be those of whole rows of values."""
    changed = list(ask(engine, USERS[1]))[:5]
    engine.add_items([{"item_id": "n1", **WHOLE}, *({"item_id": id, "price": 0.25} for id in changed)])
    scene = engine._bound.scenes["home_feed", "default"]
    query = Query(scene.snapshot, USERS[1], 10, {}, history_max=1000, item_list=[{"item_id": "n1"}])
    arena = finish(engine._walker.walk(scene, query))
    new = arena.row[: arena.count] >= len(scene.snapshot.items)
    assert new.sum() == 6
    [(model, matrix)] = scene.score.matrices(query, arena)
    assert model.forest.predict(matrix).tobytes() == arena.algo_score[0, : arena.count].tobytes()
    price = [feature.name for feature in model.plan.features].index("price")
    assert sorted(matrix[new, price].tolist()) == [0.25] * 5 + [3.5]


def test_a_changed_item_is_found_once_and_as_it_is_now(engine):
    uid = USERS[2]
    before = ask(engine, uid)
    for price in (1.0, 2.0, 3.0):
        engine.add_items([{"item_id": id, "price": price} for id in before])
    after = recalled(engine, uid)
    assert all(len(set(ids)) == len(ids) for ids in after)
    assert set(ask(engine, uid)) == set(before)
    price = engine.snapshot.items.columns["price"]
    assert all(price.value(engine.snapshot.items.ids.find(id)) == 3.0 for id in before)
    assert engine.gauges()["items_live"] == 600


def test_a_change_leaves_recall_as_it_was(engine):
    before = [recalled(engine, uid) for uid in USERS]
    engine.add_items([{"item_id": f"i{number:06}", "title": "another"} for number in range(0, 600, 3)])
    assert [recalled(engine, uid) for uid in USERS] == before


def test_a_removed_item_is_nowhere(engine):
    gone = sorted({id for uid in USERS for ids in recalled(engine, uid) for id in ids[:3]})
    history = engine.snapshot.history
    engine.remove_items(gone)
    for uid in USERS:
        assert not {id for ids in recalled(engine, uid) for id in ids} & set(gone)
        assert not set(ask(engine, uid, *gone, features={"history": gone}, item_id=gone[0])) & set(gone)
        query = Query(engine.snapshot, uid, 10, {"history": gone}, history_max=1000)
        assert not {engine.snapshot.items.ids.id(row) for row in query.history.tolist()} & set(gone)
    assert len(history.rows) and engine.gauges()["items_live"] == 600 - len(gone)
    reply, _ = engine.recall(items_request(USERS[0]))
    assert not {item.item_id for item in reply.items} & set(gone)


def items_request(uid):
    from pairec_fast.messages import RecommendRequest

    return RecommendRequest(uid=uid, scene_id="home_feed", size=1000, category="default")


def test_a_removed_item_gives_its_place_to_the_next(engine):
    hot = [names[:200] for names in recalled(engine, USERS[0])][2]
    engine.remove_items(hot[:50])
    now = recalled(engine, USERS[0])[2]
    assert now[:150] == hot[50:200] and len(now) == 200


def test_a_removed_item_that_is_added_again_starts_anew_where_it_was(engine):
    uid = USERS[3]
    top = recalled(engine, uid)[2][0]
    engine.remove_items([top])
    with pytest.raises(RequestError, match='"published", "in_stock": not given'):
        engine.add_items([{"item_id": top, "price": 1.0}])
    engine.add_items([{"item_id": top, "price": 1.0, "published": 5, "in_stock": 1}])
    assert recalled(engine, uid)[2][0] == top
    columns, row = engine.snapshot.items.columns, engine.snapshot.items.ids.find(top)
    assert (columns["price"].value(row), columns["title"].value(row)) == (1.0, None)
    assert engine.gauges()["items_live"] == 600 and engine.gauges()["items_removed"] == 0


def test_an_item_shown_is_not_shown_again_after_it_changed(engine):
    shown = list(ask(engine, USERS[4]))[:10]
    engine.add_items([{"item_id": id, "price": 1.0} for id in shown[:5]])
    assert not set(ask(engine, USERS[4], features={"history": shown})) & set(shown)


def test_unseen_texts_are_values_like_others(engine, world):
    """Beyond the vocabulary of every array that was built: the rules of the sort, and a feature with categories."""
    new = [
        {"item_id": f"n{number}", **WHOLE, "category": f"c{number % 2}", "brand": f"b{number}"} for number in range(30)
    ]
    engine.add_items(new)
    column = engine.snapshot.items.columns["category"]
    found = ask(engine, USERS[5], *(one["item_id"] for one in new))
    assert len(set(found) & {one["item_id"] for one in new}) == 30
    rows = [engine.snapshot.items.ids.find(one["item_id"]) for one in new]
    assert [column.value(row) for row in rows] == ["c0", "c1"] * 15 and len(set(column.values[rows].tolist())) == 2
    kinds = [column.value(engine.snapshot.items.ids.find(id)) for id in found]
    assert max(kinds[start : start + 5].count(kinds[start]) for start in range(100)) <= 3, (
        "at most 3 of 5, as configured"
    )


def test_beyond_the_capacity_the_engine_serves_on_and_counts_what_it_could_not_take(world, folder, caplog):
    world.conf["LimitConf"] = {"NewItemsMax": 2}
    with world.engine() as engine:
        engine.add_items([{"item_id": f"n{number}", **WHOLE} for number in range(4)])
        engine.add_items([{"item_id": "n9", **WHOLE}])
        ids = [f"n{number}" for number in (0, 1, 2, 3, 9)]
        assert set(ask(engine, USERS[0], *ids)) & set(ids) == {"n0", "n1"}
        engine.remove_items(["n0", "i000001"])
        assert set(ask(engine, USERS[0], *ids)) & set(ids) == {"n1"}
        gauges = engine.gauges()
        assert (gauges["items_added"], gauges["items_refused"], gauges["items_live"]) == (2, 3, 600)
        assert caplog.text.count("not taken: LimitConf.NewItemsMax is 2") == 1
        assert "items_refused 3" in engine.metrics.text(gauges)


def test_no_room_at_all_still_removes(world, folder):
    world.conf["LimitConf"] = {"NewItemsMax": 0}
    with world.engine() as engine:
        [first, *_] = ask(engine, USERS[0])
        engine.add_items([{"item_id": "n0", **WHOLE}])
        engine.remove_items([first])
        assert first not in ask(engine, USERS[0], first) and engine.gauges()["items_refused"] == 1


def random_changes(rng, engine, times):
    """Adds, changes, removals and returns of a few items, many times over."""
    some = [f"i{number:06}" for number in range(40)] + [f"n{number}" for number in range(20)]
    for _ in range(times):
        chosen = rng.choice(some, rng.integers(1, 8), replace=False).tolist()
        if rng.random() < 0.3:
            engine.remove_items(chosen)
        else:
            changes = [{"item_id": id, **WHOLE, "price": float(rng.integers(100))} for id in chosen]
            for change in changes:
                if rng.random() < 0.5:
                    change["vectors"] = {"als": rng.normal(size=64).astype(np.float32).tolist()}
                if rng.random() < 0.5:
                    del change["title"], change["brand"]
            engine.add_items(changes)


def test_replay_after_a_restart_gives_the_same_state(world, folder):
    """The restarted engine takes one row an item, whatever happened to it; answers are those of the one that saw it."""
    with world.engine() as engine:
        random_changes(np.random.default_rng(5), engine, 60)
        before, gauges = answers(engine), engine.gauges()
        engine.close()
    with world.engine() as again:
        assert answers(again) == before
        now = again.gauges()
        assert now["items_live"] == gauges["items_live"] and now["items_added"] < gauges["items_added"]
        with pytest.raises(Exception, match="closed"):
            ask(engine, USERS[0])
        again.swap(folder)
        assert answers(again) == before


WATCH = """
import sys, time
from pairec_fast import Engine
with Engine.from_config(sys.argv[1]) as engine:
    print("up", flush=True)
    for asked, wanted in (("n1", True), ("i000000", False)):
        deadline = time.monotonic() + 60
        ask = {"uid": "u00042", "scene_id": "home_feed", "size": 1000, "item_list": [{"item_id": asked}]}
        while wanted != (asked in [item.item_id for item in engine.recommend(ask).items]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        print(asked, flush=True)
"""


def test_engines_of_two_processes_see_what_the_command_line_says(world, folder, monkeypatch, capsys):
    path = world.write()
    for child in range(2):  # each has its own ring
        conf = world.conf | {"LogRingConf": {"Directory": str(world.folder / f"ring{child}")}}
        (world.folder / f"engine{child}.json").write_text(json.dumps(conf))
    children = [
        subprocess.Popen([sys.executable, "-c", WATCH, path.parent / f"engine{child}.json"], stdout=subprocess.PIPE,
                         env=environment(), text=True)
        for child in range(2)
    ]  # fmt: skip
    try:
        assert [child.stdout.readline() for child in children] == ["up\n"] * 2
        line = json.dumps({"item_id": "n1", **WHOLE}).encode() + b"\n\n"
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
        assert cli.main(["items", "add", "-", "--snapshots", str(folder)]) == 0
        assert [child.stdout.readline() for child in children] == ["n1\n"] * 2
        assert cli.main(["items", "remove", "i000000", "--snapshots", str(folder)]) == 0
        assert [child.stdout.readline() for child in children] == ["i000000\n"] * 2
        assert capsys.readouterr().out == "sequence 1: 1 items added or changed\nsequence 2: 1 items removed\n"
        assert [child.wait(30) for child in children] == [0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()


def test_a_damaged_log_refuses_to_start_and_leaves_what_serves_as_it_is(world, folder):
    with world.engine() as engine:
        engine.add_items([{"item_id": "n1", **WHOLE}])
        log = folder / NAME
        data = bytearray(log.read_bytes())
        data[-3] ^= 1
        log.write_bytes(data)
        with pytest.raises(SnapshotError, match="record 1 is damaged"):
            Engine.from_config(world.conf)
        with pytest.raises(SnapshotError, match="record 1 is damaged"):
            engine.swap(folder)
        log.write_bytes(data[:-3])
        engine._bound.live.follow()
        assert "n1" in ask(engine, USERS[0], "n1") and engine.gauges()["items_log_failed"] == 1


def test_check_tells_how_many_came_and_went(world, folder, capsys):
    items.add(folder, [{"item_id": "n1", **WHOLE}])
    items.remove(folder, ["i000001", "i000002"])
    assert cli.main(["check", str(world.write())]) == 0
    assert capsys.readouterr().out.endswith("; 599 items, 1 added or changed and 2 removed since it was built\n")


BAD = [
    ({"price": "cheap"}, r"items\[1\]: price: 'cheap'; a number would be right"),
    ({"price": float("nan")}, r"items\[1\]: price: nan; a finite number within float64 would be right"),
    ({"in_stock": 256}, "in_stock: 256; a whole number from 0 to 255 would be right"),
    ({"published": 1.5}, "published: 1.5; a whole number from -9223372036854775808 to 9223372036854775807"),
    ({"published": 10**400}, "published: 1000.*; a whole number"),
    ({"published": None}, "published: null; the column holds whole numbers, none of them missing"),
    ({"title": 7}, "title: 7; a text would be right"),
    ({"title": "\ud800"}, "title: .*; it has no UTF-8"),
    ({"title": "x" * 70_000}, "title: 70,000 bytes of text; at most 65,536"),
    ({"colour": "red"}, 'colour: no such column; the item table has "title", "category"'),
    ({"vectors": [1.0]}, r'vectors: \[1.0\]; {"name": \[numbers\]} would be right'),
    ({"vectors": {"als": [1.0, 2.0]}}, "vectors.als: 2 numbers; 64 would be right"),
    ({"vectors": {"als": ["1"] * 64}}, "vectors.als: .*; a list of 64 numbers would be right"),
    ({"vectors": {"als": [float("inf")] * 64}}, "vectors.als: .*; finite numbers would be right"),
    ({"vectors": {"als": [1e18] * 64}}, "vectors.als: .*; finite numbers would be right, together no longer than 1e"),
    ({"vectors": {"bert": [1.0]}}, 'vectors.bert: no such vectors; the snapshot has "als"'),
    ({"item_id": ""}, r"items\[1\]: item_id: empty; a text would be right"),
    ({"item_id": 7}, r"items\[1\]: item_id: 7; a text would be right"),
    ({"item_id": None}, r"items\[1\]: item_id: not given; a text would be right"),
    ({"item_id": "i" * 1025}, "item_id: 1,025 bytes of text; at most 1,024"),
    ({"item_id": "good"}, r"items\[1\]: item_id: 'good' stands in items\[0\] already; once would be right"),
    ("text", r"items\[1\]: 'text'; an object such as"),
]


@pytest.mark.parametrize(("bad", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_line_refuses_the_whole_call(world, folder, bad, message):
    items.add(folder, [{"item_id": "n1", **WHOLE}])
    before = (folder / NAME).read_bytes()
    with pytest.raises(RequestError, match=message):
        items.add(folder, [{"item_id": "good", **WHOLE}, {"item_id": "bad", **WHOLE} | bad if bad != "text" else bad])
    assert (folder / NAME).read_bytes() == before


def test_all_mistakes_are_named_at_once_by_file_and_line(folder, tmp_path, capsys):
    path = tmp_path / "new.jsonl"
    path.write_text(
        '{"item_id": "a", "price": "x"}\n\n{"item_id": "a", "in_stock": true, "published": 1}\n{"item_id": ""}'
    )
    assert cli.main(["items", "add", str(path), "--snapshots", str(folder)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"pairec-fast items: {path}: line 1: price: 'x'; a number would be right",
        f"{path}: line 3: item_id: 'a' stands in {path}: line 1 already; once would be right",
        f"{path}: line 4: item_id: empty; a text would be right",
    ]
    path.write_text('{"item_id": "a"}\n{"item_id": ')
    assert cli.main(["items", "add", str(path), "--snapshots", str(folder)]) == 1
    assert "line 2: not JSON: " in capsys.readouterr().err
    assert cli.main(["items", "remove", "a", "b", "a", "--snapshots", str(folder)]) == 1
    assert "ID 3: item_id: 'a' stands in ID 1 already" in capsys.readouterr().err
    assert cli.main(["items", "remove", "a", "--snapshots", str(tmp_path)]) == 1
    assert "no CURRENT; not a folder of snapshots" in capsys.readouterr().err
    for nothing in (lambda: items.add(folder, []), lambda: items.remove(folder, [])):
        with pytest.raises(RequestError, match="no items given"):
            nothing()
    with pytest.raises(RequestError, match="a list of texts would be right"):
        items.remove(folder, "abc")
    assert not (folder / NAME).exists() or (folder / NAME).stat().st_size == 0


def test_requests_run_while_items_come_change_and_go(engine):
    """Whoever asks sees each item as it was or as it is: whole, once, with its own price."""
    stop, wrong = threading.Event(), []
    ids = [f"n{number}" for number in range(50)]

    def read():
        place = 0
        while not stop.is_set():
            place += 1
            items = engine.recommend(
                {"uid": USERS[place % len(USERS)], "scene_id": "home_feed", "size": 1000,
                 "item_list": [{"item_id": id} for id in ids]}
            ).items  # fmt: skip
            found = [item.item_id for item in items]
            if len(set(found)) != len(found) or not all(np.isfinite(item.score) for item in items):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    rng, deadline = np.random.default_rng(0), time.monotonic() + 2
    while time.monotonic() < deadline:
        random_changes(rng, engine, 1)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


class Searched:
    """An index that takes vectors, as far as items are concerned; it searches by looking at all."""

    def __init__(self, vectors):
        self.vectors, self.gone = list(vectors), set()

    def __len__(self):
        return len(self.vectors)

    def append(self, vector):
        self.vectors.append(np.array(vector))
        return len(self.vectors) - 1

    def remove(self, row):
        assert 0 <= row < len(self.vectors) and row not in self.gone
        self.gone.add(row)


def test_the_index_holds_each_item_s_vector_once(folder):
    """After every change: what the index would find, led to the rows of now, is what the live items have."""
    snapshot = Snapshot.load(folder, spare=2000)
    taste = snapshot.vectors["als"]
    base = len(taste.rows) - 2000
    taste.index = index = Searched(taste.items[taste.rows[:base]])
    live, rng = Live(snapshot), np.random.default_rng(3)
    expected = {snapshot.items.ids.id(row): taste.items[row].tobytes() for row in taste.rows[:base].tolist()}

    class Beside:
        def add_items(self, changes):
            items.add(folder, changes)
            for change in changes:
                if "vectors" in change:
                    expected[change["item_id"]] = np.array(change["vectors"]["als"], np.float32).tobytes()

        def remove_items(self, ids):
            items.remove(folder, ids)
            for id in ids:
                expected.pop(id, None)

    for _ in range(40):
        random_changes(rng, Beside(), 3)
        live.update()
        held = [place for place in range(len(index)) if place not in index.gone]
        rows = [snapshot.overlay.resolve(taste.rows[place].item()) for place in held]
        assert {
            snapshot.items.ids.id(row): index.vectors[place].tobytes() for row, place in zip(rows, held, strict=True)
        } == expected
        assert len(rows) == len(expected)
        assert all(taste.items[row].tobytes() == expected[snapshot.items.ids.id(row)] for row in rows)


def test_the_next_base_takes_in_what_was_logged(world, folder, shared_world):
    """And a swap to it starts from there: nothing is applied twice, nothing is lost."""
    with world.engine() as engine:
        engine.remove_items(["i000001"])
        engine.add_items([{"item_id": "n1", **WHOLE}, {"item_id": "i000002", "price": 7.5}])
        built = build(shared_world.parent / "world" / "world.toml", folder)
        snapshot = Snapshot.load(built)
        assert snapshot.manifest.items_sequence == 2 and len(snapshot.items) == 600
        assert snapshot.items.ids.find("i000001") == -1
        columns, row = snapshot.items.columns, snapshot.items.ids.find("n1")
        assert {name: columns[name].value(row) for name in WHOLE} == WHOLE
        assert columns["price"].value(snapshot.items.ids.find("i000002")) == 7.5
        engine.add_items([{"item_id": "n2", **WHOLE}])  # after the build, beside the old snapshot
        engine.swap(built)
        assert {"n1", "n2"} <= set(ask(engine, USERS[0], "n1", "n2", "i000001"))
        gauges = engine.gauges()
        assert (gauges["items_live"], gauges["items_added"], gauges["items_removed"]) == (601, 1, 0)


def test_two_processes_add_remove_and_search_at_once(tmp_path):
    """A short soak; `python -m tests.faults.freshness --seconds 60` is the full dose."""
    totals = run(3, seed=1, folder=tmp_path, count=300)
    assert not failed(totals), totals
