"""The feature log and debug records: which requests, which rows, and where they are written."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from pairec_fast.core import Arena, expand, in_order
from pairec_fast.records import Request, Shown, Watch, feature_log, is_logged, is_watched, ready
from pairec_fast.sink.file import JOBS_MAX, Files, Writer, to_console

REQUEST = Request("r1", "home", None, 7, "u1")
ITEMS = [
    Shown("a", "hot", 0.5, {"ctr": 0.25}, {"price": 3, "hot": "own"}),
    Shown("b", "near", 2.0, {}, {"price": None, "x": "<b>"}),
]
USER = {"uid": "u1", "age": 25.0, "tags": ["x"]}


def conf(**fields):
    plain = {"rate": 0, "user_features": "", "item_features": "", "split_user_item_logs": False, "debug_users": ()}
    return SimpleNamespace(**plain | fields)


def rows(items=ITEMS, request=REQUEST, **fields):
    return [json.loads(row) for row in feature_log(conf(**fields), request, USER, items)]


def test_the_feature_log_has_a_row_an_item_with_its_place():
    first, second = rows(request=REQUEST._replace(exp_id="ER1"))
    shared = {"request_id": "r1", "scene_id": "home", "exp_id": "ER1", "request_time": 7, "user_id": "u1"}
    assert first == shared | {
        "item_id": "a", "position": "1", "item_features": '{"algo_score":{"ctr":0.25},"retrieve_id":"hot","score":0.5}',
    }  # fmt: skip
    assert second["position"] == "2"
    assert second["item_features"] == '{"algo_score":null,"retrieve_id":"near","score":2}'


def test_features_are_all_some_or_none():
    first, second = rows(user_features="*", item_features="*")
    assert first["user_features"] == second["user_features"] == '{"age":25,"tags":["x"],"uid":"u1"}'
    assert json.loads(first["item_features"]) == {
        "algo_score": {"ctr": 0.25}, "retrieve_id": "hot", "score": 0.5, "price": 3, "hot": "own",
        "recall_name": "hot", "recall_score": 0.5,
    }  # fmt: skip
    assert '"x":"\\u003cb\\u003e"' in second["item_features"] and '"near":2' in second["item_features"]
    some, _ = rows(user_features="age,none", item_features="price,none")
    assert some["user_features"] == '{"age":25,"none":null}'
    assert json.loads(some["item_features"]) == {
        "algo_score": {"ctr": 0.25}, "retrieve_id": "hot", "score": 0.5, "price": 3, "none": None
    }  # fmt: skip


def test_split_logs_have_the_user_in_a_row_of_its_own():
    user, first, second = rows(user_features="age", split_user_item_logs=True)
    assert user == {
        "request_id": "r1", "scene_id": "home", "request_time": 7, "user_id": "u1", "user_features": '{"age":25}'
    }  # fmt: skip
    assert "user_features" not in first and "user_features" not in second and second["item_id"] == "b"


def test_without_items_nothing_is_logged_and_without_a_json_text_the_features_are_left_out():
    assert rows(items=[], split_user_item_logs=True) == []
    (row,) = rows(items=[ITEMS[0]._replace(score=float("nan"))])
    assert "item_features" not in row and row["item_id"] == "a"


def test_rows_are_ready_for_every_sink():
    texts = feature_log(conf(), REQUEST, USER, ITEMS)
    assert [row.decode() for row in expand(ready("u1", texts))] == texts


@pytest.mark.parametrize(("rate", "share"), [(0, 1.0), (100, 1.0), (30, 0.3), (1, 0.01)])
def test_the_feature_log_has_its_percentage_of_requests(rate, share):
    logged = sum(is_logged(conf(rate=rate), f"r{number}") for number in range(10_000))
    assert logged / 10_000 == pytest.approx(share, abs=0.02)
    assert is_logged(conf(rate=rate), "r7") == is_logged(conf(rate=rate), "r7")


@pytest.mark.parametrize(("rate", "share"), [(0, 0.0), (100, 1.0), (30, 0.3)])
def test_debug_records_are_of_a_percentage_and_of_users_named(rate, share):
    watched = sum(is_watched(conf(rate=rate), f"r{number}", "u2") for number in range(10_000))
    assert watched / 10_000 == pytest.approx(share, abs=0.02)
    assert is_watched(conf(debug_users=["u1"]), "r", "u1")


def ids(rows) -> list[str]:
    return [f"i{row}" for row in rows.tolist()]


def arena() -> Arena:
    arena = Arena(8, items_max=10, algos=2)
    arena.count = 3
    arena.row[:3], arena.source[:3] = [4, 2, 7], [1, 0, 1]
    arena.recall_score[:3], arena.score[:3] = [0.1, 1.5, 1e-7], [3.0, 5.0, 4.0]
    arena.algo_score[0, :3], arena.algo_score[1, :3] = [0.5, np.nan, 1.0], [1.0, 2.0, 3.0]
    return arena


def records(watch: Watch) -> list[tuple[str, str, str]]:
    return [(module, record["retrieveid"], record["items"]) for module, record in watch.rows(REQUEST)]


def test_each_stage_leaves_a_record_a_recall():
    watch, candidates = Watch(["hot", "near", "none"], ["ctr", "cvr"], ids), arena()
    watch.recalled(candidates, "recall")
    watch.recalled(candidates, "filter")
    watch.ranked(candidates, "rank")
    in_order(candidates)
    candidates.order[:3] = [2, 0, 1]
    watch.ordered(candidates, "sort", 10)
    watch.ordered(candidates, "recommend", 2)
    candidates.reset()
    candidates.row[:] = 0  # the next request's
    assert records(watch) == [
        ("recall", "hot", "i2:1.5:"), ("recall", "near", "i4:0.1:,i7:0.0000001:"),
        ("filter", "hot", "i2:1.5"), ("filter", "near", "i4:0.1,i7:0.0000001"),
        ("rank", "hot", "i2:5"), ("rank", "near", 'i4:3:{"ctr":0.5,"cvr":1},i7:4:{"ctr":1,"cvr":3}'),
        ("sort", "hot", "i2:5"), ("sort", "near", 'i7:4:{"ctr":1,"cvr":3},i4:3:{"ctr":0.5,"cvr":1}'),
        ("recommend", "near", 'i7:4:{"ctr":1,"cvr":3},i4:3:{"ctr":0.5,"cvr":1}'),
    ]  # fmt: skip
    _, record = next(iter(watch.rows(REQUEST._replace(exp_id="ER1"))))
    assert list(record) == [
        "request_id", "module", "scene_id", "request_time", "uid", "retrieveid", "items", "exp_id"
    ]  # fmt: skip
    assert (record["request_time"], record["uid"], record["exp_id"]) == (7, "u1", "ER1")


def test_without_algorithms_scores_are_null_and_of_the_answer_empty():
    watch, candidates = Watch(["hot", "near"], [], ids), arena()
    candidates.count = 1
    watch.ranked(candidates, "general_rank")
    in_order(candidates)
    watch.ordered(candidates, "recommend", 1)
    candidates.count = 0
    watch.recalled(candidates, "recall")
    assert records(watch) == [("general_rank", "near", "i4:3:null"), ("recommend", "near", "i4:3:{}")]


# Where debug records are written


def test_a_file_has_records_with_indents_and_in_order(tmp_path):
    files = Files(tmp_path / "new" / "folder", 20)
    files.write({"b": "<é>", "a": 1})
    files.write({"c": 2})
    (path,) = (tmp_path / "new" / "folder").iterdir()
    assert path.read_text() == '{\n\t"a": 1,\n\t"b": "\\u003cé\\u003e"\n}\n{\n\t"c": 2\n}\n'
    assert path.name.startswith("pairec.debug.20") and path.name.endswith(".log") and len(path.name) == 31


def test_a_file_that_is_full_is_followed_by_another_and_the_oldest_go(tmp_path, monkeypatch):
    now = [1_000_000_000]
    monkeypatch.setattr("pairec_fast.sink.file.time.strftime", lambda form: f"{now[0]:014d}")
    files = Files(tmp_path, 3, bytes_max=100)
    (tmp_path / "other.log").write_text("not ours")
    for number in range(30):
        now[0] += 1
        files.write({"number": number, "x": "y" * 40})
    kept = sorted(tmp_path.glob("pairec.debug.*.log"))
    assert len(kept) == 3 and (tmp_path / "other.log").exists()
    assert all(100 < path.stat().st_size < 250 for path in kept[:-1])
    assert '"number": 29' in kept[-1].read_text()


def test_the_console_gets_one_line_a_record(capsys):
    to_console({"b": "x\ny", "a": 1})
    assert capsys.readouterr().out == '{"a":1,"b":"x\\ny"}\n'


def test_what_finds_the_queue_full_is_dropped_and_the_rest_is_written_before_the_end():
    writer, begun, go, done = Writer(), threading.Event(), threading.Event(), []
    assert writer.put(lambda: (begun.set(), go.wait(10)))
    assert begun.wait(10)
    taken = [writer.put(lambda number=number: done.append(number)) for number in range(JOBS_MAX + 50)]
    assert taken == [True] * JOBS_MAX + [False] * 50
    go.set()
    writer.close(10)
    assert done == list(range(sum(taken)))
    assert not writer.put(lambda: None)


def test_a_job_that_fails_is_said_and_the_next_is_done(caplog):
    writer, done = Writer(), []
    writer.put(lambda: 1 / 0)
    writer.put(lambda: done.append(1))
    writer.close(10)
    assert done == [1] and "debug records cannot be written" in caplog.text


def test_a_close_does_not_wait_longer_than_it_may():
    writer, stuck = Writer(), threading.Event()
    writer.put(stuck.wait)
    begin = time.monotonic()
    writer.close(0.2)
    assert time.monotonic() - begin < 2
    stuck.set()
