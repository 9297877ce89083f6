"""Following a configuration and its snapshot: what is new is taken over whole, what cannot serve changes nothing."""

from __future__ import annotations

import gc
import json
import os
import shutil
import threading
import time
import weakref
from pathlib import Path

import pytest

from pairec_fast import ConfigError, Engine, SnapshotError
from pairec_fast import reload as reloading
from pairec_fast.app import App
from pairec_fast.config import Config
from pairec_fast.reload import Reloader, Watched
from pairec_fast.scene import KINDS
from tests.test_metrics import parsed
from tests.worlds import CALLBACK, FEED, FIRST, LOGGED, ask, own_snapshots

HOT = {"RecallType": "UserGlobalHotRecall", "DaoConf": {"AdapterType": "local", "TableName": "hot"}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(reloading, "SETTLE_SECONDS", 0.0)


@pytest.fixture
def followed(world):
    """An engine from a file, and what follows it; nothing looks by itself."""
    path = world.write()
    with Engine.from_config(path) as engine:
        yield world, engine, Reloader(engine, path)


def served(engine) -> set[str]:
    return {item.retrieve_id for item in engine.recommend(FIRST | {"size": 50}).items}


def renamed(world, name: str) -> None:
    """All that is recommended comes from a recall of this name."""
    world.conf["RecallConfs"] = [HOT | {"Name": name}]
    for category in world.conf["SceneConfs"]["home_feed"].values():
        category["RecallNames"] = [name]
    world.write()


def counted(engine) -> dict[str, float]:
    samples = parsed(engine.metrics.text(engine.gauges()))
    return {name.removeprefix("pairec_"): value for name, value in samples.items() if "reload" in name}


def test_a_changed_file_is_taken_over_and_an_unchanged_one_is_not_read_again(followed, caplog):
    world, engine, reloader = followed
    before = engine.config
    assert not reloader.look() and engine.config is before
    renamed(world, "other")
    assert reloader.look()
    assert served(engine) == {"other"} and engine.config.fingerprint != before.fingerprint
    assert f"serving configuration {engine.config.fingerprint}" in caplog.text
    assert not reloader.look()
    world.write()  # written again, with the same content
    assert not reloader.look()
    assert counted(engine) == {
        "reload_failed": 0, 'reload_total{result="ok"}': 1, 'reload_total{result="failed"}': 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda conf: conf["ListenConf"].update(HttpPort="80"), "ListenConf.HttpPort: expected an integer"),
        (lambda conf: conf["RecallConfs"][0]["HnswConf"].update(Index="asl"), 'RecallConfs.vectors.HnswConf.Index'),
        (lambda conf: conf["SnapshotConf"].update(Directory="nowhere"), "neither manifest.json nor CURRENT"),
        (lambda conf: conf["ListenConf"].update(HttpPort=81), "ListenConf.HttpPort: cannot change from"),
        (lambda conf: conf.update(LimitConf={"SizeMax": 5}), "LimitConf.SizeMax: cannot change from 1000 to 5 while"),
        (lambda conf: conf["LogRingConf"].update(RingBytes=1 << 20), "LogRingConf.RingBytes: cannot change"),
        (lambda conf: conf["DiskConfs"]["log"].update(Directory="log2"), "DiskConfs.log: a log that is open cannot"),
        (lambda conf: conf["PrometheusConfig"].update(Subsystem="shop"), "PrometheusConfig: cannot change while"),
        (lambda conf: conf.update(RedisConfs={"r": {"Host": "h"}}), "RedisConfs: cannot change while running"),
        (lambda conf: conf.update(LogConf={"LogLevel": "DEBUG"}), "LogConf: cannot change while running"),
        (lambda conf: conf.update(SceneConfs={}), "SceneConfs: no scene"),
    ],
)  # fmt: skip
def test_what_cannot_serve_changes_nothing_and_is_logged_once_and_counted(followed, caplog, monkeypatch, spoil, says):
    world, engine, reloader = followed
    monkeypatch.setattr(reloading, "RETRY_SECONDS", 0.0)
    before, items, sound = engine._bound, engine.recommend(FIRST).items, json.dumps(world.conf)
    spoil(world.conf)
    world.write()
    for _ in range(3):
        assert not reloader.look()
    assert engine._bound is before and engine.recommend(FIRST).items == items
    (record,) = caplog.records
    assert says in record.getMessage() and record.levelname == "ERROR"
    assert counted(engine)["reload_failed"] == 1 and counted(engine)['reload_total{result="failed"}'] == 3
    (world.folder / "engine.json").write_text(sound)  # taken back: nothing is to be done
    assert not reloader.look() and counted(engine)["reload_failed"] == 0
    renamed(world_of(world, sound), "next")
    assert reloader.look() and served(engine) == {"next"}


def world_of(world, text: str):
    world.conf = json.loads(text)
    return world


def test_what_failed_is_tried_again_ever_more_rarely(followed, monkeypatch):
    world, engine, reloader = followed
    now = [1000.0]
    monkeypatch.setattr(reloading, "clock", lambda: now[0])
    scenes, world.conf["SceneConfs"] = world.conf["SceneConfs"], {}
    world.write()
    tried = []
    for second in range(40):
        now[0] = 1000.0 + second
        before = counted(engine)['reload_total{result="failed"}']
        reloader.look()
        tried += [second] * (counted(engine)['reload_total{result="failed"}'] > before)
    assert tried == [0, 1, 3, 7, 15, 31]
    world.conf["SceneConfs"] = scenes
    renamed(world, "x")
    assert reloader.look(), "another content is tried at once"


def test_a_new_snapshot_is_taken_over_and_one_with_a_flipped_bit_is_not(world, shared_world, caplog):
    folder = own_snapshots(world, shared_world)
    first = next(path for path in folder.iterdir() if path.is_dir())
    path = world.write()
    with Engine.from_config(path) as engine:
        reloader = Reloader(engine, path)
        items = engine.recommend(FIRST).items
        bad = folder / "2000-01-01T00-00-00"
        shutil.copytree(first, bad)
        array = bytearray((bad / "items.price.npy").read_bytes())
        array[-3] ^= 1
        (bad / "items.price.npy").write_bytes(array)
        current(folder, bad)
        assert not reloader.look() and engine.snapshot.directory == first
        assert "items.price.npy" in caplog.text
        shutil.copy(first / "items.price.npy", bad)  # it had not arrived yet
        reloader._retry_at = 0.0
        assert reloader.look() and engine.snapshot.directory == bad
        assert engine.recommend(FIRST).items == items
        current(folder, folder / "nowhere")
        assert not reloader.look() and engine.snapshot.directory == bad


def current(folder: Path, directory: Path) -> None:
    (folder / "CURRENT.new").write_text(directory.name + "\n")
    os.replace(folder / "CURRENT.new", folder / "CURRENT")


def test_a_changed_experiments_file_is_noticed(world):
    world.conf["ExperimentConf"] = {"File": "experiments.json"}
    tree = world.folder / "experiments.json"
    tree.write_text('{"Scenes": []}')
    path = world.write()
    with Engine.from_config(path) as engine:
        reloader = Reloader(engine, path)
        assert engine.config.experiments_path == tree
        assert not reloader.look()
        tree.write_text('{"Scenes": [ ]}')
        assert reloader.look() and not reloader.look()


def test_the_file_is_followed_in_a_thread_that_ends_with_the_engine(world):
    world.conf["SnapshotConf"]["ReloadSeconds"] = 0.02
    path = world.write()
    engine = Engine.from_config(path)
    Reloader(engine, path).follow()
    (thread,) = (one for one in threading.enumerate() if one.name == "pairec-reload")
    renamed(world, "by_itself")
    deadline = time.monotonic() + 10
    while served(engine) != {"by_itself"} and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served(engine) == {"by_itself"}
    engine.close()
    thread.join(5)
    assert not thread.is_alive()


def test_an_engine_that_nobody_holds_goes_although_it_is_followed(world):
    world.conf["SnapshotConf"]["ReloadSeconds"] = 0.02
    path = world.write()
    engine = Engine.from_config(path)
    Reloader(engine, path).follow()
    gone = weakref.ref(engine)
    engine.logs.close(5.0)
    del engine
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert gone() is None


def test_without_reload_seconds_nothing_looks(world):
    path = world.write()
    with Engine.from_config(path) as engine:
        Reloader(engine, path).follow()
        time.sleep(0.1)
        assert not [one for one in threading.enumerate() if one.name == "pairec-reload"]


def test_old_versions_are_let_go(followed):
    world, engine, reloader = followed
    gone = []
    for number in range(4):
        bound = engine._bound
        gone += [weakref.ref(bound.snapshot), weakref.ref(next(iter(bound.scenes.values())))]
        del bound
        renamed(world, f"n{number}")
        assert reloader.look()
    gc.collect()
    assert [one() for one in gone] == [None] * 8


def test_a_version_that_would_raise_at_a_request_is_found_before_one_meets_it(world, monkeypatch):
    with world.engine() as engine:
        conf = Config.parse(json.loads(json.dumps(world.conf)), KINDS)
        sort = type(conf.sort_confs[0])

        def bind(self, at):
            def fails(query, arena):
                raise ZeroDivisionError("at every request")

            return fails

        before = engine._bound
        monkeypatch.setattr(sort, "bind", bind)
        with pytest.raises(ZeroDivisionError):
            engine.reconfigure(conf)
        with pytest.raises(ZeroDivisionError):
            engine.swap(engine.snapshot.directory)
        assert engine._bound is before and len(engine.recommend(FIRST).items) == 3


def test_callbacks_go_by_the_configuration_that_is_current(world):
    path = world.write()
    with Engine.from_config(path) as engine:
        app, reloader = App(engine), Reloader(engine, path)
        listed = LOGGED | {"item_list": [{"item_id": f"i{number:06d}"} for number in range(10)]}
        ask(app, CALLBACK, listed)
        world.callback["ItemSize"] = 4
        world.write()
        assert reloader.look()
        ask(app, CALLBACK, listed | {"request_id": "r2"})
        world.conf["CallBackConfs"] = {}
        world.write()
        assert reloader.look()
        ask(app, CALLBACK, listed | {"request_id": "r3"})
        assert ask(app, FEED, FIRST | {"debug": True}).json["code"] == 200
    assert [len(rows) - 1 for rows in world.records()] == [10, 4]


def test_a_free_section_follows(followed):
    world, engine, reloader = followed
    world.conf["UserDefineConfs"] = {"k": "v2"}
    world.write()
    assert reloader.look() and engine.config.user_defined("k") == "v2"


def test_an_embedder_gives_another_configuration_himself(world):
    with world.engine() as engine:
        conf = json.loads(json.dumps(world.conf))
        conf["SceneConfs"]["home_feed"]["default"]["RecallNames"] = ["hot"]
        engine.reconfigure(Config.parse(conf, KINDS))
        assert served(engine) == {"hot"}
        with pytest.raises(ConfigError, match=r"LimitConf\.CandidatesMax: cannot change from 4096 to 5 while running"):
            engine.reconfigure(Config.parse(conf | {"LimitConf": {"CandidatesMax": 5}}, KINDS))
        with pytest.raises(SnapshotError):
            engine.reconfigure(Config.parse(conf | {"SnapshotConf": {"Directory": "nowhere"}}, KINDS))
        assert served(engine) == {"hot"}


def test_a_file_counts_as_changed_when_its_content_is(tmp_path):
    path = tmp_path / "f"
    watched = Watched(path)
    assert watched.hash() == ""
    path.write_text("a")
    first = watched.hash()
    stat = path.stat()
    path.write_text("b")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # within the resolution of its time
    second = watched.hash()
    assert first and second and first != second
    path.write_text("a")
    assert watched.hash() == first
    path.unlink()
    assert watched.hash() == ""


@pytest.mark.parametrize("row", ["engine", "server"])
def test_under_load_no_request_fails_and_none_is_answered_by_two_versions(row, tmp_path, monkeypatch):
    """A small dose of `python -m tests.faults.reload`."""
    from tests.faults.reload import ROWS

    if row == "server":
        pytest.importorskip("granian")
    monkeypatch.undo()  # the time a file is given to settle counts here
    totals = ROWS[row].run(8 if row == "engine" else 5, 7, tmp_path, None)
    assert ROWS[row].wrong(totals) == []


def test_an_answer_of_two_versions_would_be_seen():
    from tests.faults.reload import Versions

    versions = Versions.__new__(Versions)
    versions.prices = {"s0": {"a": 1.0, "b": 2.0}, "s1": {"a": 1.5, "b": 2.5}}
    first, second = (
        {"item_id": id, "retrieve_id": "v3", "score": 3.0, "price": versions.prices["s0"][id]} for id in "ab"
    )
    assert versions.version_of([first, second]) == (3, "s0")
    for part in ({"price": 2.5}, {"score": 2.0}, {"retrieve_id": "v2"}):
        assert versions.version_of([first, second | part]) is None
