"""Metrics at a push gateway: where they are sent, with which token, and what becomes of errors."""

from __future__ import annotations

import gc
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pairec_fast import slots
from pairec_fast.metrics import Metrics
from pairec_fast.push import Pusher, push_of
from tests.test_metrics import parsed


class Gateway:
    """Takes what is pushed; answers `code`."""

    def __init__(self) -> None:
        self.code, self.taken, gateway = 200, [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                gateway.taken.append((self.path, self.headers.get("authorization"), body))
                self.send_response(gateway.code)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gateway(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "PAIREC_ENVIRONMENT", "PAIREC_WORKERS"):
        monkeypatch.delenv(name, raising=False)
    gateway = Gateway()
    yield gateway
    gateway.server.shutdown()
    gateway.server.server_close()


def pusher(gateway, metrics, seconds=3600.0, token="", job="daily"):
    return Pusher(gateway.url + "/", token, seconds, job, metrics, metrics.text)


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_metrics_shows_is_sent_every_interval_with_job_instance_and_token(gateway):
    metrics = Metrics("shop")
    metrics.count("n_total", 7)
    pushing = pusher(gateway, metrics, seconds=0.05, token="secret", job="a/b")
    until(lambda: len(gateway.taken) >= 2)
    pushing.stop()
    path, token, body = gateway.taken[0]
    assert path == f"/metrics/job/a%2Fb/instance/{socket.gethostname()}" and token == "Bearer secret"
    assert parsed(body) == {"shop_n_total": 7}
    time.sleep(0.2)
    sent = len(gateway.taken)
    time.sleep(0.2)
    assert len(gateway.taken) == sent, "stopped"


def test_without_a_token_no_header_says_so(gateway):
    assert pusher(gateway, Metrics()).push() and gateway.taken[0][1] is None


def test_a_worker_with_a_slot_pushes_under_its_number_and_only_what_it_counted(gateway, monkeypatch, tmp_path):
    """Who comes in its place goes on under that name, and a gateway adds nothing up twice."""
    monkeypatch.setenv("PAIREC_WORKERS", "2")
    monkeypatch.setattr(slots, "FOLDERS", (str(tmp_path),))
    with slots.created(2):
        one, other = (Metrics("", slots.place()) for _ in range(2))
        one.count("n_total", 3)
        other.count("n_total", 4)
        pushing = Pusher(gateway.url, "", 3600.0, "daily", other, lambda: other.text({"age_seconds": 1}, own=True))
        assert pushing.url.endswith(f"/instance/{socket.gethostname()}-1") and pushing.push()
        assert parsed(gateway.taken[0][2]) == {"n_total": 4, "age_seconds": 1}


def test_workers_of_one_server_push_under_names_of_their_own(gateway, monkeypatch):
    monkeypatch.setenv("PAIREC_WORKERS", "2")
    monkeypatch.setattr("os.getpid", lambda: 42)
    assert pusher(gateway, Metrics()).url.endswith(f"/instance/{socket.gethostname()}-42")


def test_a_gateway_that_refuses_or_is_away_is_said_once_and_counted(gateway, caplog):
    metrics = Metrics()
    pushing = pusher(gateway, metrics)
    gateway.code = 503
    assert not pushing.push() and not pushing.push()
    assert len(caplog.records) == 1 and "503" in caplog.text and pushing.url in caplog.text
    gateway.code = 202
    assert pushing.push()
    assert parsed(metrics.text()) == {"pairec_push_errors_total": 2, "pairec_push_total": 1}
    away = Pusher("http://127.0.0.1:1", "", 3600, "job", metrics, metrics.text)
    nowhere = Pusher("no address", "", 3600, "job", metrics, metrics.text)
    assert not away.push() and not nowhere.push()


def test_a_text_that_fails_does_not_end_the_thread(gateway, caplog):
    texts = iter([ZeroDivisionError, "# fine\n"])

    def text() -> str:
        given = next(texts, "# fine\n")
        if isinstance(given, str):
            return given
        raise given

    pushing = Pusher(gateway.url, "", 0.05, "job", Metrics(), text)
    until(lambda: gateway.taken)
    pushing.stop()
    assert "metrics cannot be pushed" in caplog.text


def test_a_pusher_that_nobody_holds_ends(gateway):
    before = threading.active_count()
    pushing = pusher(gateway, Metrics(), seconds=0.05)
    assert threading.active_count() > before
    del pushing
    gc.collect()
    until(lambda: not any(thread.name == "pairec-push" for thread in threading.enumerate()))


@pytest.mark.parametrize(
    ("conf", "mode", "job"),
    [
        ({"Job": "mine"}, "product", "mine"), ({}, "product", "product"), ({}, "", "recommend"),
        ({"Enable": False}, "", None), ({"PushGatewayURL": ""}, "", None), ({"PushIntervalSecs": 0}, "", None),
    ],
)  # fmt: skip
def test_a_configuration_says_whether_and_under_which_job(gateway, conf, mode, job):
    given = {"Enable": True, "PushGatewayURL": gateway.url, "PushIntervalSecs": 60} | conf
    pushing = push_of(given, mode, Metrics(), str)
    assert (pushing is None) == (job is None)
    if pushing is not None:
        assert f"/job/{job}/" in pushing.url and pushing.seconds == 60
        pushing.stop()


def test_the_environment_names_the_job_where_the_configuration_does_not(gateway, monkeypatch):
    monkeypatch.setenv("PAIREC_ENVIRONMENT", "prepub")
    pushing = push_of({"Enable": True, "PushGatewayURL": gateway.url, "PushIntervalSecs": 60}, "", Metrics(), str)
    assert pushing is not None and "/job/prepub/" in pushing.url
    pushing.stop()
