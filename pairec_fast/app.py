"""The ASGI callable: routes, admission, error -> answer. Runs on Granian and on any other ASGI server.

    granian --interface asgi --factory pairec_fast.app:create        with PAIREC_CONFIG=engine.json in the environment

The walk runs inline, GIL released: a hand-over to a thread would cost more than the walk (the limit on requests in
flight, counted before the body is read, decides what happens under overload).
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from pairec_fast.core import CallbackBody
from pairec_fast.engine import Engine
from pairec_fast.errors import NotReadyError, RequestError
from pairec_fast.logs import Waits, awaited, finish
from pairec_fast.messages import CallbackRequest, RecommendRequest, answer, decode, error_answer
from pairec_fast.reload import Reloader

JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"
METRICS = b"text/plain; version=0.0.4; charset=utf-8"
Scope = dict[str, Any]
After = Callable[[], None]
Answer = tuple[int, bytes, bytes, After | None]
Begun = Answer | Waits[Answer]  # an answer, or what is to be waited for until there is one
OVERLOADED: Answer = (503, JSON, answer(503, "overloaded", ""), None)
PROBES = {"/ping", "/livez", "/readyz", "/metrics"}

log = logging.getLogger("pairec_fast")
_encode = msgspec.json.Encoder().encode


class RecommendItem(msgspec.Struct):
    item_id: str
    item_type: str
    retrieve_id: str


class App:
    """Serve an engine. `App(engine)` can be mounted in another ASGI application."""

    def __init__(self, make: Callable[[], Engine] | Engine) -> None:
        """`make` is an engine, or makes one when the server starts."""
        self._make = make
        self.engine: Engine | None = make if isinstance(make, Engine) else None
        self._in_flight = 0
        self._routes: dict[str, Callable[[Engine, bytes], Begun]] = {
            "/api/rec/feed": _feed,
            "/api/recommend": _recommend,
            "/api/recall": _recall,
            "/api/callback": _callback,
            "/metrics": _metrics,
            "/readyz": _readyz,
        }

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
        route = self._routes.get(path)
        if route is None:
            return 404, TEXT, b"url not found route info", None
        if self.engine is None:
            return 503, TEXT, b"not ready", None
        try:
            return route(self.engine, body)
        except RequestError as error:
            return 200, JSON, error_answer(error), None
        except NotReadyError:
            return 503, TEXT, b"not ready", None
        except Exception:
            log.exception("%s failed", path)
            return 500, TEXT, b"server error", None

    async def _http(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        path, engine = scope["path"], self.engine
        admitted = path not in PROBES
        if engine is None:
            reply = self.handle(path, b"")
        elif admitted and self._in_flight >= engine.limits.in_flight_max:
            reply = OVERLOADED
        else:
            self._in_flight += admitted
            try:
                begun = self._begin(path, await _body(scope, receive, engine.limits.body_bytes_max))
            except RequestError as error:
                begun = 200, JSON, error_answer(error), None
            finally:
                self._in_flight -= admitted
            # Whoever waits for the log does no work, and must not keep recommendations out.
            reply = begun if isinstance(begun, tuple) else await awaited(begun)
        if engine is not None:
            known = path in self._routes or path in PROBES
            engine.metrics.count("requests_total", path=path if known else "other", code=str(reply[0]))
        try:
            with contextlib.suppress(OSError):  # the client has left
                await _send(send, reply)
        finally:
            _finish(path, reply[3])

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
    engine = Engine.from_config(path, Path(verified) if verified else None)
    Reloader(engine, path).follow()
    return engine


def _feed(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/rec/feed", _fed(engine, decode(body, RecommendRequest)))


def _fed(engine: Engine, request: RecommendRequest) -> Waits[Answer]:
    reply, after = yield from engine.feed_waits(request)
    return 200, JSON, _encode(reply), after


def _recommend(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/recommend", _recommended(engine, _bare(body)))


def _recommended(engine: Engine, request: RecommendRequest) -> Waits[Answer]:
    reply, after = yield from engine.feed_waits(request)
    items = [RecommendItem(item.item_id, "", item.retrieve_id) for item in reply.items]
    return 200, JSON, _encode(_without(reply, items)), after


def _recall(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/recall", _recalled(engine, _bare(body)))


def _recalled(engine: Engine, request: RecommendRequest) -> Waits[Answer]:
    reply, after = yield from engine.recall_waits(request)
    items = [{"item_id": item.item_id, "retrieve_id": item.retrieve_id} for item in reply.items]
    return 200, JSON, _encode(_without(reply, items) | {"errors": []}), after


def _callback(engine: Engine, body: bytes) -> Begun:
    request = CallbackBody.read(body) or decode(body, CallbackRequest)
    return _begun("/api/callback", _called_back(engine, request))


def _called_back(engine: Engine, request: CallbackRequest | CallbackBody) -> Waits[Answer]:
    return _logged((yield from engine.callback_waits(request)), request)


def _begun(path: str, waits: Waits[Answer]) -> Begun:
    """The answer, where nothing is to be waited for."""
    try:
        step = next(waits)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    return _waiting(path, step, waits)


def _waiting(path: str, step: Any, waits: Waits[Answer]) -> Waits[Answer]:
    yield step
    try:
        return (yield from waits)
    except RequestError as error:
        return 200, JSON, error_answer(error), None
    except Exception:
        log.exception("%s failed while it waited", path)
        return 500, TEXT, b"server error", None


def _logged(logged: bool, request: CallbackRequest | CallbackBody) -> Answer:
    if logged:
        return 200, JSON, answer(200, "success", request.request_id), None
    return 503, JSON, answer(503, "overloaded", request.request_id), None


def _metrics(engine: Engine, body: bytes) -> Answer:
    return 200, METRICS, engine.metrics.text(engine.gauges()).encode(), None


def _readyz(engine: Engine, body: bytes) -> Answer:
    if engine.closed:
        raise NotReadyError
    failing, degraded = engine.logs.problems()
    if failing:
        return 503, TEXT, ("not ready: " + "; ".join(failing + degraded)).encode(), None
    return 200, TEXT, ("degraded: " + "; ".join(degraded)).encode() if degraded else b"ready", None


def _bare(body: bytes) -> RecommendRequest:
    """A request of the two built-in routes: the id is always new, made before anything is checked (PAIREC 1.7)."""
    request_id = str(uuid.uuid4()) if body else ""
    try:
        request = decode(body, RecommendRequest)
    except RequestError as error:
        raise RequestError(str(error), request_id=request_id) from None
    return RecommendRequest(
        uid=request.uid, scene_id=request.scene_id, size=request.size, request_id=request_id,
        category=request.category, features=request.features, debug=request.debug,
    )  # fmt: skip


def _without(reply: Any, items: list[Any]) -> dict[str, Any]:
    return {"code": reply.code, "msg": reply.msg, "request_id": reply.request_id, "size": reply.size, "items": items}


def _finish(path: str, after: After | None) -> None:
    """What the answer did not wait for. It has left, so nobody is there to be told of an error."""
    if after is not None:
        try:
            after()
        except Exception:
            log.exception("%s failed after its answer", path)


async def _body(scope: Scope, receive: Callable[..., Awaitable[dict[str, Any]]], most: int) -> bytes:
    """The request's body, read up to its content-length and not one `receive()` further: on Granian that saves a lap.

    Raises:
        RequestError: larger than `most` bytes, or it cannot be read.
    """
    length, encoding = -1, b""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            length = int(value[:19])  # enough of any length to see that it is too large
        elif name == b"content-encoding":
            encoding = value.strip().lower()
    parts, size, more = list[bytes](), 0, length != 0
    while more and size <= most and length <= most:
        message = await receive()
        if message["type"] == "http.disconnect":  # Granian's word for broken chunks too, and there an answer is due
            _unreadable()
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = size != length and message.get("more_body", False)
    if max(length, size) > most:
        raise RequestError(f"request body larger than {most} bytes")
    body = b"".join(parts)
    if not encoding or encoding == b"identity":
        return body
    if encoding != b"gzip":
        _unreadable()
    return _inflated(body, most)


def _inflated(body: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        _unreadable()
    if len(plain) > most:
        raise RequestError(f"request body larger than {most} bytes")
    if not inflater.eof or inflater.unused_data:
        _unreadable()
    return plain


def _unreadable() -> NoReturn:
    raise RequestError("read parammeter error")  # PAI-Rec's spelling


async def _send(send: Callable[..., Awaitable[None]], reply: Answer) -> None:
    status, kind, body, _ = reply
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
