"""Model servers: what their answers say of items, and how they are asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest

from pairec_fast.remote import AnswerError, RemoteError, Server, easyrec, features, wire
from pairec_fast.remote.answers import FUNCTIONS, read
from pairec_fast.remote.http import Client, HttpError
from tests.contract.rank import run_rank_response
from tests.services.easyrec import CLASSES, OUTPUTS, TOKEN, EasyrecServer, array, doubles, entry, put, score
from tests.worlds import suite

IDS = ["i1", "i2", "i3"]


# ---- the wire


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1, 2**31, 2**63 - 1, -1, -(2**31), -(2**63)])
def test_an_integer_comes_back_alone_and_in_a_column(value):
    body = wire.number(1, value)
    ((field, kind, read_back),) = wire.fields(body)
    assert (field, kind, wire.signed(read_back)) == (1, wire.VARINT, value)
    digits, lengths = wire.packed_varints(np.array([value], np.int64))
    assert digits[0, : lengths[0]].tobytes() == wire.varint(value)


def test_negative_one_is_ten_bytes_of_ones():
    assert wire.varint(-1) == b"\xff" * 9 + b"\x01"
    assert wire.varint(300) == b"\xac\x02"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x0a\x05abc", "a field of 5 bytes at byte 2; 3 are left"),
        (b"\x08", "cut off at byte 1"),
        (b"\x08" + b"\xff" * 10, "more than ten bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x09\x00\x00", "a field of 8 bytes"),
        (b"<html>Bad Gateway</html>", "wire type 4"),
    ],
)
def test_what_is_no_message_is_refused_and_said_where(body, message):
    with pytest.raises(wire.WireError, match=message):
        list(wire.fields(body))


@pytest.mark.parametrize("seed", range(4))
def test_no_damage_to_an_answer_is_anything_but_an_error_or_an_answer(seed):
    """Bytes flipped, cut and repeated: never another exception, never more values than items."""
    rng = np.random.default_rng(seed)
    with_all = b"".join(
        entry(1, one, put(1, doubles([score(one)]))) + entry(9, one, "raw") + entry(4, one, put(1, put(3, "x")))
        for one in IDS
    ) + entry(10, "probs", array([3, 2], [0.5] * 6)) + put(8, "ctr")  # fmt: skip
    for _ in range(100):
        body = bytearray(with_all)
        for at in rng.integers(0, len(body), rng.integers(1, 4)):
            body[at] = rng.integers(0, 256)
        damaged = bytes(body[: rng.integers(0, len(body) + 1)])
        for function in FUNCTIONS:
            with contextlib.suppress(AnswerError):
                scored = read(function, damaged, IDS)
                assert all(column.shape == (3,) for column in scored.scores.values())


# ---- response functions


@pytest.mark.parametrize("case", suite("rank_response"), ids=lambda case: case["id"])
def test_answers_say_what_pairec_says_they_do(case):
    given = run_rank_response(case["input"])
    assert len(given["items"]) == len(case["expected"]["items"])
    for ours, theirs in zip(given["items"], case["expected"]["items"], strict=True):
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, atol=1e-6)


def results(scores):
    return b"".join(entry(1, one, put(1, doubles(values))) for one, values in scores.items())


def test_a_single_score_is_the_first_of_the_item_and_0_for_one_that_is_not_there():
    body = results({"i3": [0.3, 9.0], "i1": [0.1], "other": [0.9]})
    assert read("easyrecResponseFunc", body, IDS).scores[""].tolist() == [0.1, 0.0, 0.3]


def test_an_entry_without_scores_is_an_error():
    with pytest.raises(AnswerError, match="item 'i2' has 0 scores; expected one"):
        read("easyrecResponseFunc", results({"i1": [0.1], "i2": []}), IDS)


def test_several_outputs_are_named_and_a_missing_item_has_0_of_each():
    body = results({"i3": [0.3, 0.4], "i1": [0.1, 0.2]}) + put(8, "ctr") + put(8, "cvr")
    scored = read("easyrecMutValResponseFunc", body, IDS)
    assert {name: column.tolist() for name, column in scored.scores.items()} == {
        "_ctr": [0.1, 0.0, 0.3], "_cvr": [0.2, 0.0, 0.4]
    }  # fmt: skip


def test_another_number_of_scores_than_of_outputs_is_an_error_of_the_whole_answer():
    body = results({"i1": [0.1, 0.2], "i2": [0.3]}) + put(8, "ctr") + put(8, "cvr")
    with pytest.raises(AnswerError, match="item 'i2' has 1 scores; expected 2, one for each"):
        read("easyrecMutValResponseFunc", body, IDS)


def test_the_debug_twin_of_several_outputs_has_features_and_zeros():
    body = results({"i1": [0.1]}) + put(8, "ctr") + entry(3, "i1", "g") + entry(9, "i2", "r")
    body += entry(4, "i3", put(1, put(3, "x")))
    scored = read("easyrecMutValResponseFuncDebug", body, IDS)
    assert scored.scores["_ctr"].tolist() == [0.0, 0.0, 0.0]
    assert scored.features.generate == ["g", "", ""] and scored.features.raw == ["", "r", ""]
    assert scored.features.context == ["", "", '[{"Value":{"StringFeature":"x"}}]']


@pytest.mark.parametrize(("function", "field"), [("easyrec", 10), ("torchrec", 1)])
def test_classes_are_matched_by_position_and_other_ranks_say_nothing(function, field):
    body = entry(field, "watch", array([3], [0.1, 0.2, 0.3]))
    body += entry(field, "label", array([1, 2], [1, 2, 3, 4, 5, 6]))  # the first number of a shape does not matter
    body += entry(field, "one", array([3, 1], [7, 8, 9]))
    body += entry(field, "none", array([3, 0], []))
    body += entry(field, "cube", array([1, 1, 1], [5])) + entry(field, "scalar", array([], [5]))
    for debug in ("", "Debug"):
        scored = read(f"{function}MutClassificationResponseFunc{debug}", body, IDS)
        assert sorted(scored.scores) == ["_label_0", "_label_1", "_one", "_watch"]
        np.testing.assert_allclose(scored.scores["_watch"], [0.1, 0.2, 0.3], atol=1e-7)
        assert scored.scores["_label_1"].tolist() == [2, 4, 6] and scored.scores["_one"].tolist() == [7, 8, 9]
        assert scored.lists.keys() == {"_label"} and scored.lists["_label"].tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("shape", [[2], [1, 3]])
def test_an_array_too_short_for_the_items_is_an_error(shape):
    body = entry(10, "watch", array(shape, [0.1, 0.2]))
    with pytest.raises(AnswerError, match=r"output 'watch' of shape .* has 2 values; 3 items were asked about"):
        read("easyrecMutClassificationResponseFunc", body, IDS)


def test_torchrec_outputs_are_floats_or_doubles_and_others_are_left_out():
    body = entry(1, "ctr", array([3, 1], [0.5, 0.25, 0.125])) + entry(1, "cvr", array([3], [0.1, 0.2, 0.3], 2))
    body += entry(1, "count", put(1, 3) + put(2, put(1, b"\x03")) + put(5, b"\x01\x02\x03"))
    scored = read("torchrecMutValResponseFunc", body, IDS)
    assert {name: column.tolist() for name, column in scored.scores.items()} == {
        "_ctr": [0.5, 0.25, 0.125], "_cvr": [0.1, 0.2, 0.3]
    }  # fmt: skip
    with pytest.raises(AnswerError, match="'ctr' of shape"):
        read("torchrecMutValResponseFunc", body, [*IDS, "i4"])


def test_vectors_of_users_and_items_are_read_by_their_own_functions():
    vector = entry(1, "emb", array([1, 3], [0.5, 0.25, 1])) + entry(5, "model_version", "v7")
    scored = read("torchrecEmbeddingResponseFunc", vector, [])
    assert list(scored.embedding) == [0.5, 0.25, 1.0] and scored.model == {"model_version": "v7"}

    found = entry(1, "match_item_scores", array([1, 2], [0.5, 0.25])) + put(4, "i7") + put(4, "i9")
    assert list(read("torchrecEmbeddingItemsResponseFunc", found, ["u1"]).nearest) == [("i7", 0.5), ("i9", 0.25)]
    debug = read("torchrecEmbeddingItemsResponseFuncDebug", found + entry(2, "u1", "g") + entry(3, "u1", "r"), ["u1"])
    assert debug.features.generate == ["g"] and debug.features.raw == ["r"]

    text = entry(10, "user_emb", put(1, 7) + put(6, "0.1,0.2"))
    assert read("easyrecUserEmbResponseFunc", text, []).user_embedding == "0.1,0.2"

    realtime = entry(10, "emb", array([1, 2], [0.5, 20])) + results({"i7": [0.5]}) + entry(3, "u1", "g")
    scored = read("easyrecUserRealtimeEmbeddingResponseFunc", realtime, [])
    assert scored.user_embedding == "0.5,20" and list(scored.nearest) == [("i7", 0.5)]
    assert scored.features.generate == ["g"]

    mind = entry(10, "user_interests", array([1, 2, 2], [0.5, 1, 2, 3]))
    mind += entry(10, "match_item_ids", put(1, 7) + put(2, put(1, b"\x01\x02")) + put(6, "i7") + put(6, "i9"))
    mind += entry(10, "match_item_scores", array([1, 2], [0.5, 0.25]))
    scored = read("easyrecUserRealtimeEmbeddingMindResponseFunc", mind, [])
    assert scored.user_embedding == "0.5,1|2,3" and list(scored.nearest) == [("i7", 0.5), ("i9", 0.25)]


# ---- over HTTP


@pytest.fixture(scope="module")
def loop():
    """One event loop in a thread, as an engine has."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine, seconds=10: asyncio.run_coroutine_threadsafe(coroutine, loop).result(seconds)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.fixture
def server():
    with EasyrecServer() as server:
        yield server


def request_about(ids):
    return easyrec.request(easyrec.user_part({"uid": "u1"}), ids, {}, {})


def model(server, name="single", function="easyrecResponseFunc", **settings):
    return Server("ctr", server.url(name), TOKEN, function, **{"milliseconds": 2000, **settings})


def test_scores_come_back_in_the_order_of_the_request(server, loop):
    scored = loop(model(server).ask(request_about(IDS), IDS))
    assert scored.scores[""].tolist() == [score(one) for one in IDS]
    assert server.requests[0].user == {"uid": (3, "u1")} and server.requests[0].item_ids == IDS


def test_one_connection_serves_requests_that_follow_each_other(server, loop):
    asked = model(server)
    for _ in range(5):
        loop(asked.ask(request_about(IDS), IDS))
    assert server.connections == 1
    loop(asked.close())


def test_requests_at_once_do_not_mix_their_answers(server, loop):
    asked = model(server, "multiple", "easyrecMutValResponseFunc", milliseconds=10_000)
    groups = [[f"g{group}i{place}" for place in range(group % 7 + 1)] for group in range(100)]

    async def all_at_once():
        return await asyncio.gather(*(asked.ask(request_about(ids), ids) for ids in groups))

    for ids, scored in zip(groups, loop(all_at_once(), 60), strict=True):
        for name in OUTPUTS:
            assert scored.scores[f"_{name}"].tolist() == [score(one, name) for one in ids]


def test_a_connection_that_the_server_closed_meanwhile_costs_no_try(server, loop):
    asked = model(server, tries=1)
    loop(asked.ask(request_about(IDS), IDS))
    server.break_connections()
    time.sleep(0.05)
    assert loop(asked.ask(request_about(IDS), IDS)).scores[""].tolist() == [score(one) for one in IDS]
    assert server.connections == 2


@pytest.mark.parametrize("failure", ["status 500", "status 404", "drop"])
def test_a_failed_try_is_made_again(server, loop, failure):
    server.fail(failure)
    assert loop(model(server, tries=2).ask(request_about(IDS), IDS)).scores[""][0] == score("i1")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("failure", "message"),
    [("status 500", "ctr: status 500: out of order"), ("drop", "ctr: the connection ended after 0 bytes")],
)
def test_the_last_try_says_what_went_wrong(server, loop, failure, message):
    server.fail(failure, 3)
    with pytest.raises(RemoteError, match=message):
        loop(model(server, tries=3).ask(request_about(IDS), IDS))
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("failure", "message"),
    [("garbage", "wire type 4"), ("exception", "status 2: no such model")],
)
def test_what_the_server_says_is_not_asked_again(server, loop, failure, message):
    server.fail(failure, 1)
    with pytest.raises(RemoteError, match=message):
        loop(model(server, tries=2).ask(request_about(IDS), IDS))
    assert len(server.requests) == 1


def test_a_slow_server_is_left_after_its_time_and_asked_once_more(server, loop):
    server.fail("hang", 2)
    begin = time.monotonic()
    with pytest.raises(RemoteError, match="ctr: no answer within 100 ms"):
        loop(model(server, milliseconds=100, tries=2).ask(request_about(IDS), IDS))
    assert 0.19 < time.monotonic() - begin < 0.9
    assert len(server.requests) == 2


def test_an_answer_that_comes_late_is_not_taken_for_that_to_the_next_request(server, loop):
    """The connection of a request that was given up is not used again."""
    asked = model(server, milliseconds=300, tries=1)
    server.fail("hang")
    with pytest.raises(RemoteError):
        loop(asked.ask(request_about(["late"]), ["late"]))
    for _ in range(6):
        assert loop(asked.ask(request_about(IDS), IDS)).scores[""].tolist() == [score(one) for one in IDS]
        time.sleep(0.2)


@pytest.mark.parametrize("how", ["chunked", "close"])
def test_bodies_end_where_http_says(server, loop, how):
    ids = [f"i{place}" for place in range(200)]
    server.fail(how)
    asked = model(server, "torch_classes", "torchrecMutClassificationResponseFunc")
    scored = loop(asked.ask(request_about(ids), ids))
    assert scored.lists["_label"].shape == (200, CLASSES)
    assert loop(asked.ask(request_about(ids), ids)).scores["_watch"][0] == score("i0", "watch")


def test_a_wrong_token_is_refused_by_the_server(server, loop):
    asked = Server("ctr", server.url(), "other", "easyrecResponseFunc", milliseconds=2000)
    with pytest.raises(RemoteError, match="status 401: wrong token"):
        loop(asked.ask(request_about(IDS), IDS))


def test_nobody_listening_is_said_with_the_address(loop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        asked = Server("ctr", f"http://127.0.0.1:{port}/x", "", "easyrecResponseFunc", milliseconds=2000)
        with pytest.raises(RemoteError, match=f"ctr: no connection to 127.0.0.1:{port}"):
            loop(asked.ask(b"", []))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.0\r\n\r\n", "not an answer of HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcde", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "content-length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "more than 67108864 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "the connection ended after 3 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk of size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", "longer than it says"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer-encoding gzip"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", "content-encoding gzip"),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "not a header field"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, "a head or a line of more than"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status 302"),
    ],
)
def test_a_peer_that_is_no_sound_http_server_is_refused(loop, answer, message):
    assert _from(loop, answer) == message or message in _from(loop, answer)


def _from(loop, answer):
    """What a client says of a peer that sends `answer` and ends the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)

        threading.Thread(target=speak, daemon=True).start()
        try:
            return loop(Client(f"http://127.0.0.1:{listening.getsockname()[1]}/").post(b"x"))
        except HttpError as error:
            return str(error)


def test_an_interim_answer_and_no_content_are_read_past(loop):
    assert _from(loop, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == b"ok"
    assert _from(loop, b"HTTP/1.0 200 OK\r\n\r\nto the end") == b"to the end"
    assert "status 204" in _from(loop, b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "model.example",
        "ftp://model.example/x",
        "http://",
        "http://key@model.example/",
        "http://a b/",
        "http://a:b/x",
        "http://a/\r\nX: y",
        "http://a/#f",
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(url):
    with pytest.raises(ValueError, match="http"):
        Client(url)


def test_a_token_cannot_end_its_header():
    with pytest.raises(ValueError, match="header Authorization"):
        Client("http://a/", {"Authorization": "x\r\nY: z"})


def test_go_prints_no_number_that_json_lacks():
    assert features.go_text([features.feature(float("nan"))]) == ""
    assert json.loads(features.go_text([features.feature(1e-7)])) == [{"Value": {"DoubleFeature": 1e-7}}]
