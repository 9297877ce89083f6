"""The ASGI callable: routes, admission, error -> answer. Runs on Granian and on any other ASGI server.

    granian --interface asgi --factory pairec_fast.app:create        with PAIREC_CONFIG=engine.json in the environment

The walk runs inline, GIL released: a hand-over to a thread would cost more than the walk (the limit on requests in
flight, counted before the body is read, decides what happens under overload).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from pairec_fast.compress import COMPRESS_FROM, chosen, decoded, encoded
from pairec_fast.config import Config
from pairec_fast.engine import Engine
from pairec_fast.errors import NotReadyError, OverloadedError, RequestError
from pairec_fast.logs import awaited, finish
from pairec_fast.messages import error_answer
from pairec_fast.reload import Reloader
from pairec_fast.routes import JSON, NOT_FOUND, OVERLOADED, ROUTES, TEXT, After, Answer, Begun
from pairec_fast.scene import KINDS

Scope = dict[str, Any]
PROBES = {"/ping", "/livez", "/readyz", "/metrics", "/custom_metrics", "/route_paths"}

log = logging.getLogger("pairec_fast")


class App:
    """Serve an engine. `App(engine)` can be mounted in another ASGI application."""

    def __init__(self, make: Callable[[], Engine] | Engine) -> None:
        """`make` is an engine, or makes one when the server starts."""
        self._make = make
        self.engine: Engine | None = make if isinstance(make, Engine) else None
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    def handle(self, path: str, body: bytes) -> Answer:
        """(status, content type, body, what to do when the answer has left) for a request to `path`.

        What is to be waited for, is waited for in this thread.
        """
        begun = self._begin(path, body)
        return begun if isinstance(begun, tuple) else finish(begun)

    def _begin(self, path: str, body: bytes) -> Begun:
        """The answer, or what is to be waited for: live stores, or the log of an explicit callback."""
        if path == "/ping":
            return 200, TEXT, b"success", None
        if path == "/livez":
            return 200, TEXT, b"alive", None
        route = ROUTES.get(path)
        if route is None:
            return NOT_FOUND
        if self.engine is None:
            return 503, TEXT, b"not ready", None
        try:
            return route(self.engine, body)
        except RequestError as error:
            return 200, JSON, error_answer(error), None
        except OverloadedError:
            return OVERLOADED
        except NotReadyError:
            return 503, TEXT, b"not ready", None
        except Exception:
            log.exception("%s failed", path)
            return 500, TEXT, b"server error", None

    async def _http(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        path, engine, begin = scope["path"], self.engine, time.perf_counter()
        admitted, body, head = path not in PROBES, b"", _head(scope)
        if engine is None:
            reply = self.handle(path, b"")
        elif admitted and self._in_flight >= engine.limits.in_flight_max:
            reply = OVERLOADED
        else:
            self._in_flight += admitted
            try:
                body = await _body(head, receive, engine.limits.body_bytes_max)
                begun = self._begin(path, body)
            except RequestError as error:
                begun = 200, JSON, error_answer(error), None
            finally:
                self._in_flight -= admitted
            # Whoever waits for the log does no work, and must not keep recommendations out.
            reply = begun if isinstance(begun, tuple) else await awaited(begun)
        sent = 0
        try:
            with contextlib.suppress(OSError):  # the client has left
                sent = await _send(send, reply, head.accept)
        finally:
            _finish(path, reply[3])
            if engine is not None:
                self._told(engine, scope, head, body, reply, sent, time.perf_counter() - begin)

    def _told(
        self, engine: Engine, scope: Scope, head: Head, body: bytes, reply: Answer, sent: int, seconds: float
    ) -> None:
        path, method = scope["path"], scope.get("method", "")
        url = path if path in ROUTES or path in PROBES else "other"
        size = len(path) + len(method) + len(scope.get("http_version", "")) + 5 + head.size + max(head.length, 0)
        engine.requests.answered(reply[0], method, head.host, url, seconds, size, sent)
        if engine.request_log is not None and path.startswith("/api/"):
            uri = path + ("?" + _text(scope["query_string"]) if scope.get("query_string") else "")
            client = scope.get("client") or ("", 0)
            address = f"{client[0]}:{client[1]}"
            engine.request_log.answered(uri, address, body, reply[2], time.time() - seconds, seconds)

    async def _lifespan(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    if self.engine is None:
                        assert not isinstance(self._make, Engine)
                        self.engine = self._make()
                except Exception as error:
                    log.error("%s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self.engine is not None:
                    self.engine.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create() -> App:
    """For a server's `--factory`: the engine of the file that `PAIREC_CONFIG` names, which it then follows.

    `PAIREC_SNAPSHOT`, which `pairec-fast serve` sets, is the snapshot that it verified for all its workers.
    """
    return App(_engine)


def _engine() -> Engine:
    path, verified = Path(os.environ["PAIREC_CONFIG"]), os.environ.get("PAIREC_SNAPSHOT")
    config = Config.load(path, KINDS)
    # Who follows the file may start late, or anew, when it leads to another snapshot than the one verified at first.
    follows = config.snapshot_conf is not None and config.snapshot_conf.reload_seconds > 0
    engine = Engine(config, Path(verified) if verified and not follows else None)
    Reloader(engine, path).follow()
    return engine


def _finish(path: str, after: After | None) -> None:
    """What the answer did not wait for. It has left, so nobody is there to be told of an error."""
    if after is not None:
        try:
            after()
        except Exception:
            log.exception("%s failed after its answer", path)


class Head(NamedTuple):
    """What of a request's headers is read. `size` counts them all, as PAI-Rec does."""

    length: int  # -1 unless it is said
    encoding: str
    accept: str
    host: str
    size: int


def _head(scope: Scope) -> Head:
    length, encoding, accept, host, size = -1, b"", b"", b"", 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"content-length" and value.isdigit():
            length = int(value[:19])  # enough of any length to see that it is too large
        elif name == b"content-encoding":
            encoding = value
        elif name == b"accept-encoding":
            accept = accept + b"," + value if accept else value
        elif name == b"host":
            host = value
    return Head(length, _text(encoding).strip().lower(), _text(accept), _text(host), size)


def _text(value: bytes) -> str:
    return value.decode("latin-1")


async def _body(head: Head, receive: Callable[..., Awaitable[dict[str, Any]]], most: int) -> bytes:
    """The request's body, read up to its content-length and not one `receive()` further: on Granian that saves a lap.

    Raises:
        RequestError: larger than `most` bytes, compressed or not, or it cannot be read.
    """
    length = head.length
    parts, size, more = list[bytes](), 0, length != 0
    while more and size <= most and length <= most:
        message = await receive()
        if message["type"] == "http.disconnect":  # Granian's word for broken chunks too, and there an answer is due
            raise RequestError("read parammeter error")  # PAI-Rec's spelling
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = size != length and message.get("more_body", False)
    if max(length, size) > most:
        raise RequestError(f"request body larger than {most} bytes")
    body = b"".join(parts)
    return decoded(body, head.encoding, most) if head.encoding not in ("", "identity") else body


async def _send(send: Callable[..., Awaitable[None]], reply: Answer, accept: str) -> int:
    """Answers the bytes of the body that was sent."""
    status, kind, body, _ = reply
    headers = [(b"content-type", kind)]
    if len(body) >= COMPRESS_FROM:
        headers.append((b"vary", b"accept-encoding"))
        if encoding := chosen(accept):
            body = encoded(body, encoding)
            headers.append((b"content-encoding", encoding.encode()))
    headers.append((b"content-length", str(len(body)).encode()))
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return len(body)
