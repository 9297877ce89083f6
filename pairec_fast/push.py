"""Metrics sent to a Prometheus push gateway, by a thread of its own. *Source*: PAIREC 11.5."""

from __future__ import annotations

import logging
import os
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
import weakref
from collections.abc import Callable
from typing import Any

from pairec_fast.metrics import Metrics

log = logging.getLogger("pairec_fast")

SECONDS_MAX = 10.0  # that one push may take
JOB = "recommend"  # PAI-Rec's, where nothing names another


def push_of(conf: dict[str, Any], run_mode: str, metrics: Metrics, text: Callable[[], str]) -> Pusher | None:
    """What pushes as `PrometheusConfig`, the object itself, says; None if it asks for none."""
    url, seconds = conf.get("PushGatewayURL") or "", conf.get("PushIntervalSecs") or 0
    if not conf.get("Enable") or not url or seconds <= 0:
        return None
    job = conf.get("Job") or run_mode or os.environ.get("PAIREC_ENVIRONMENT") or JOB
    return Pusher(url, conf.get("PushGatewayToken") or "", seconds, job, metrics, text)


class Pusher:
    """Sends `text()` every `seconds`, until it is stopped or nobody holds it. What fails is counted and said once.

    The instance is the host's name, and of a server with several workers the worker's slot too: a gateway keeps the
    last that was sent under one name, and who comes in a worker's place counts on under its name.
    """

    def __init__(
        self, url: str, token: str, seconds: float, job: str, metrics: Metrics, text: Callable[[], str]
    ) -> None:
        self.seconds, self._metrics, self._text = seconds, metrics, text
        instance = socket.gethostname()
        if os.environ.get("PAIREC_WORKERS", "1") != "1":
            instance += f"-{metrics.place.index if metrics.place.shared else os.getpid()}"
        parts = "/".join(urllib.parse.quote(part, safe="") for part in ("job", job, "instance", instance))
        self.url = f"{url.rstrip('/')}/metrics/{parts}"
        self._headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.build_opener()
        self._failing = False
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)
        threading.Thread(
            target=_run, args=(weakref.ref(self), self._stop, seconds), name="pairec-push", daemon=True
        ).start()

    def push(self) -> bool:
        """Send once; whether the gateway took it."""
        body = self._text().encode()
        try:
            request = urllib.request.Request(self.url, body, self._headers, method="POST")
            with self._opener.open(request, timeout=SECONDS_MAX):
                pass
        except (OSError, ValueError) as error:  # HTTPError is an OSError; a URL that is none is a ValueError
            self._metrics.count("push_errors_total")
            if not self._failing:
                log.error("metrics do not reach the push gateway %s: %s", self.url, error)
            self._failing = True
            return False
        self._failing = False
        self._metrics.count("push_total")
        return True

    def stop(self) -> None:
        """No push begins after this; one that is under way ends by itself."""
        self._stop.set()


def _run(itself: weakref.ref[Pusher], stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        pusher = itself()
        if pusher is None:
            return
        try:
            pusher.push()
        except Exception:  # of the text; a thread that died would keep silent from then on
            log.exception("metrics cannot be pushed")
        del pusher
