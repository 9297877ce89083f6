"""The engine as a library: many threads, a swap and a close under them, and every item accounted for."""

from __future__ import annotations

import asyncio
import shutil
import sys
import threading

import pytest

from pairec_fast import ConfigError, NotReadyError, RequestError, SnapshotError
from tests.test_callback import counts
from tests.worlds import FIRST, LOGGED

THREADS = 4


@pytest.fixture
def often():
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work) -> list[BaseException]:
    """Run `work(number)` in each of THREADS threads; answers what they raised."""
    raised: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return raised


def test_recommend_takes_dicts_and_answers_as_recommend_async(world):
    with world.engine() as engine:
        reply = engine.recommend(FIRST | {"request_id": "r"})
        assert (reply.code, reply.size, len(reply.items)) == (200, 3, 3)
        assert asyncio.run(engine.recommend_async(FIRST | {"request_id": "r"})) == reply
        with pytest.raises(RequestError, match="uid not empty"):
            engine.recommend({})
        with pytest.raises(RequestError, match="cannot unmarshal number"):
            engine.recommend({"uid": 5})


def test_threads_get_the_same_answers_and_no_count_is_lost(world, often):
    world.scene["default"]["AutoInvokeCallBack"] = True
    asked = [FIRST | {"uid": f"u{number:05d}", "request_id": f"r{number}"} for number in range(20)]
    with world.engine() as engine:
        expected = [engine.recommend(request) for request in asked]

        def work(number: int) -> None:
            for _ in range(10):
                for request, reply in zip(asked, expected, strict=True):
                    assert engine.recommend(request) == reply
                    assert engine.callback(LOGGED | {"request_id": f"t{number}"})

        assert in_threads(work) == []
        totals = counts(engine)
        assert totals["offered"] == 3 * 20 * (1 + 10 * THREADS) + 200 * THREADS
        assert totals["accepted"] + totals["dropped"] == totals["offered"]
        assert 'pairec_rec_total{scene="home_feed",exp_id=""} 820\n' in engine.metrics.text()
    assert sum(len(record) - 1 for record in world.records()) == totals["accepted"]


def test_a_swap_under_load_changes_all_at_once(world, shared_world, tmp_path, often):
    """The other snapshot has fewer items: a row of one is out of range, or another item, in the other."""
    from tests.worlds import make_world

    other = make_world(tmp_path / "other", items=120).parent / "snapshots"
    for name in ("FeatureConfs", "UserFeatureConfs"):
        world.conf[name]["home_feed_callback"] = world.conf[name]["home_feed"]
    listed = [{"item_id": f"i{number:06d}"} for number in range(0, 600, 50)]
    with world.engine() as engine:
        snapshots = [engine.snapshot.directory, other]
        expected = [engine.recommend(FIRST | {"request_id": "r"})]
        engine.swap(other)
        expected.append(engine.recommend(FIRST | {"request_id": "r"}))
        assert expected[0].items != expected[1].items
        done = threading.Event()

        def work(number: int) -> None:
            if number == 0:
                for turn in range(10):
                    engine.swap(snapshots[turn % 2])
                done.set()
            while not done.is_set():
                assert engine.recommend(FIRST | {"request_id": "r"}) in expected
                engine.callback(LOGGED | {"item_list": listed})

        assert in_threads(work) == []
        assert engine.snapshot.directory.is_relative_to(other)
    features = {tuple(row["item_features"] for row in record[1:]) for record in world.records()}
    assert len(features) == 2, "each callback is joined with one snapshot or the other, never with a mixture"


def test_a_swap_that_fails_leaves_the_old_snapshot(world, tmp_path):
    with world.engine() as engine:
        before = engine.recommend(FIRST | {"request_id": "r"})
        broken = tmp_path / "broken"
        shutil.copytree(engine.snapshot.directory, broken)
        (broken / "ranker.txt").write_text("")
        for directory in (broken, tmp_path / "nope"):
            with pytest.raises(SnapshotError):
                engine.swap(directory)
            assert engine.recommend(FIRST | {"request_id": "r"}) == before


def test_close_under_load_refuses_and_loses_nothing(world):
    engine = world.engine()
    acknowledged: list[str] = []
    started = threading.Barrier(THREADS)

    def work(number: int) -> None:
        started.wait()
        for turn in range(10_000):
            if number == 0 and turn == 20:
                engine.close()
            if engine.callback(LOGGED | {"request_id": f"{number}-{turn}"}):
                acknowledged.append(f"{number}-{turn}")
            engine.recommend(FIRST)

    raised = in_threads(work)
    assert [type(error) for error in raised] == [NotReadyError] * THREADS
    assert sorted(record[0]["request_id"] for record in world.records()) == sorted(acknowledged)
    assert counts(engine)["accepted"] == len(acknowledged)


def test_an_engine_that_cannot_be_made_leaves_nothing_open(world):
    world.conf["LimitConf"] = {"InFlightMax": 0}
    with pytest.raises(ConfigError, match=r"LimitConf\.InFlightMax"):
        world.engine()
    del world.conf["LimitConf"], world.conf["SnapshotConf"]
    with pytest.raises(ConfigError, match="SnapshotConf: missing"):
        world.engine()
    assert not world.log.exists()


def test_two_engines_on_one_log_take_a_ring_each(world):
    with world.engine() as first, world.engine() as second:
        assert first.callback(LOGGED | {"request_id": "a"}) and second.callback(LOGGED | {"request_id": "b"})
    assert sorted(record[0]["request_id"] for record in world.records()) == ["a", "b"]
