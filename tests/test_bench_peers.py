"""The peers of the whole line are asked what we are asked and answer what we answer; the client counts what it says."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
import time

import numpy as np
import pytest

pytest.importorskip("lightgbm")
pytest.importorskip("pyarrow")
pytest.importorskip("implicit")

from bench.peers import answers, data, offered, recall, world
from bench.peers.offered import Load
from bench.peers.servers import Client
from bench.peers.stack import Stack, lightgbm, spread
from pairec_fast import Engine
from pairec_fast.app import App
from pairec_fast.features import FeaturePlan
from tests import reference_rerank

TREES = 40


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return world.made(tmp_path_factory.mktemp("peers"), 3_000, 300, lambda line: None, trees=TREES)


@pytest.fixture(scope="module")
def folder(config):
    return data.exported(config)


@pytest.fixture(scope="module")
def engine(config):
    with Engine.from_config(config) as engine:
        yield engine


@pytest.fixture(scope="module")
def stack(engine, folder):
    """With our own search, so that it has our candidates in our order."""
    index = engine.snapshot.vectors[world.VECTORS].index
    return Stack(folder, lambda query: index.search(query, 500)[0], np.load(folder / "users.npy"), lightgbm(folder))


def test_a_peer_that_has_our_candidates_answers_as_we_do(engine, stack, folder):
    """A column in the wrong place, another missing value or another rule, and it would not."""
    asked = answers.requests(folder, 150)
    asked[0]["features"] = {}
    asked[1]["features"] = {"hour": 3, "device": "no such device"}
    same = of = 0
    for request in asked:
        ours = [(item.item_id, item.score) for item in engine.recommend(request).items]
        theirs = [(item["item_id"], item["score"]) for item in stack.recommend(request)["items"]]
        assert len(ours) == len(theirs) == world.SIZE
        same += sum(a == b for a, b in zip(ours, theirs, strict=True))
        of += len(ours)
    # An inner product may differ in its last bit, and a split may notice.
    assert same >= 0.99 * of, f"{same} of {of} places have the same item with the same score"


def test_a_peer_with_another_index_answers_nearly_as_we_do(engine, folder):
    pytest.importorskip("hnswlib")
    said = []
    found = recall.chosen(folder, ["hnswlib"], said.append)
    assert found and found[0].recall >= world.RECALL - 0.02, said
    stack = Stack(folder, *recall.opened(folder, found[0], said.append), lightgbm(folder))
    one = answers.agreement(engine, stack, answers.requests(folder), recall.asked_set(folder))
    assert one.recall >= world.RECALL - 0.02 and one.ours >= world.RECALL - 0.02
    assert one.overlap >= 0.75 and one.same_bits >= 0.99
    assert recall.chosen(folder, ["hnswlib"], said.append) == found, "chosen once"


def test_an_index_that_is_not_there_is_left_out_with_a_reason(folder, monkeypatch):
    def absent(of, say):
        raise ImportError("No module named 'usearch'")

    monkeypatch.setitem(recall.PEERS, "usearch", ("usearch", absent))
    said = []
    assert recall.made(recall.asked_set(folder), ["usearch"], said.append) == []
    assert said == ["usearch: left out, usearch is not installed"]


def test_the_model_is_as_described(engine, folder):
    model = engine.snapshot.models[world.MODEL]
    assert 0 < model.trees <= TREES and model.width == 60
    sides = FeaturePlan.of_model(engine.snapshot, world.MODEL).sides
    assert [sides.count(side) for side in ("shared", "item", "cross")] == [25, 25, 10]


def test_answers_have_one_shape(engine, stack, folder):
    request = answers.requests(folder, 1)[0]
    ours = json.loads(App(engine).handle("/api/rec/feed", json.dumps(request).encode())[2])
    theirs = stack.recommend(request)
    assert ours.keys() == theirs.keys() and ours["items"][0].keys() == theirs["items"][0].keys()
    assert [ours[name] for name in ("code", "msg", "size", "experiment_id")] == [
        theirs[name] for name in ("code", "msg", "size", "experiment_id")
    ]


def test_spread_lets_three_of_a_kind_stand_among_five():
    assert spread([0, 1, 2, 3, 4, 5], [7, 7, 7, 7, 8, 9], 6) == [0, 1, 2, 4, 5, 3]
    assert spread([3, 2, 1, 0], [7, 7, 7, 7], 4) == [3, 2, 1, 0], "where none may, the first does"
    assert spread([1, 0], [7, 8], 20) == [1, 0]
    assert spread([], [], 20) == []


@pytest.mark.parametrize("kinds", [1, 2, 3, 10])
def test_spread_agrees_with_the_slow_twin(kinds):
    rng = np.random.default_rng(kinds)
    rule = {"WindowSize": world.WINDOW, "FrequencySize": world.WINDOW_MOST}
    for count in (1, 4, 5, 6, 60):
        order, category = rng.permutation(count).tolist(), rng.integers(0, kinds, count).tolist()
        expected = reference_rerank.diversity_sort([(slot, "", [category[slot]]) for slot in order], [rule], 20)[:20]
        assert spread(order, category, 20) == expected


def load(offered_rate, rate, p99):
    return Load(offered_rate, rate, p99 / 2, p99, 100.0, 0.0)


def test_requests_a_second_are_compared_at_no_higher_p99():
    theirs = [load(50, 50, 5_000), load(100, 99, 20_000), load(200, 110, 900_000)]
    assert offered.sustained(theirs) == theirs[1], "with 200 it does not keep up"
    ours = [load(1_000, 1_000, 300), load(2_000, 1_990, 19_000), load(2_500, 2_490, 21_000), load(3_000, 2_600, 1_000)]
    assert offered.ahead(ours, theirs) == 1_990 / 99
    assert offered.ahead(ours[2:], theirs) == 0.0, "never at no higher p99"


class Slow(http.server.BaseHTTPRequestHandler):
    """Every answer takes 5 ms; every fourth is a 503."""

    protocol_version = "HTTP/1.1"
    turn = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.005)
        type(self).turn += 1
        self.send_response(503 if self.turn % 4 == 0 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *told):
        pass


class Loopback:
    """What `Client.load` needs of a server."""

    name = "slow"

    def __init__(self, port):
        self.port = port

    def cpu_seconds(self):
        return time.process_time()


@pytest.fixture
def slow():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Loopback(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client():
    if shutil.which("g++") is None:
        pytest.skip("the client is C++")
    return Client([b"{}", b'{"longer": 1}'])


def test_client_counts_latency_from_when_a_request_was_due(client, slow):
    """400 a second are due and at most 200 can be answered: most of the time is spent waiting to be sent."""
    found = client.load(slow, 0.5, 400.0, 1, connections=1)
    assert found["rate"] < 200 and found["p50"] > 50_000, "a closed loop would say 5 ms"
    assert 100 < found["due"] < 320, "Poisson arrivals: about 200"


def test_client_counts_refusals_apart(client, slow):
    found = client.load(slow, 0.5, 0.0, 1, connections=2)
    assert found["answered"] + found["refused"] >= found["due"] - 2
    assert found["refused"] == pytest.approx(found["answered"] / 3, abs=3)
    assert found["p50"] >= 5_000
