"""The fronts of the shell: ASGI for uvicorn and for mounting, RSGI for Granian, where it costs less.

granian --interface rsgi --factory pairec_fast.app:create        with PAIREC_CONFIG=engine.json in the environment
uvicorn --factory pairec_fast.app:create                         likewise
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from pairec_fast.config import Config
from pairec_fast.engine import Engine
from pairec_fast.errors import RequestError
from pairec_fast.reload import Reloader
from pairec_fast.routes import Answer
from pairec_fast.scene import KINDS
from pairec_fast.shell import DRAIN, Shell, Visit, packed

Scope = dict[str, Any]
UNREADABLE = "read parammeter error"  # PAI-Rec's spelling

log = logging.getLogger("pairec_fast")


class App(Shell):
    """Serve an engine. `App(engine)` can be mounted in another ASGI application."""

    def __init__(self, make: Callable[[], Engine] | Engine, *, owner: bool = False) -> None:
        """`make` is an engine, or makes one when the server starts. `owner`: the process has no other application."""
        super().__init__(make if isinstance(make, Engine) else None)
        self._make, self._owner = make, owner

    # ASGI

    async def __call__(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        engine = self.engine
        visit = _visit(scope, engine is not None and engine.requests.enable)

        async def read(visit: Visit, most: int) -> bytes:
            body = await _body(visit.length, receive, most)
            if isinstance(receive, MethodType | FunctionType):
                # A server in Python hands out a body without a pause, one request from socket to answer after the
                # other: then none would ever be counted in flight beside another. The loop reads the others here.
                await asyncio.sleep(0)
            return body

        reply = await self.answered(visit, read)
        sent = 0
        try:
            with contextlib.suppress(OSError):  # the client has left
                sent = await self._send(send, visit, reply)
        finally:
            self._told(visit, reply, sent, lambda: _asgi_line(scope))

    async def _send(self, send: Callable[..., Awaitable[None]], visit: Visit, reply: Answer) -> int:
        """Answers the bytes of the body that was sent."""
        body, headers = packed(reply, visit.accept)
        raw = [*(headers.closing if self.draining else headers).raw, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": reply[0], "headers": raw})
        await send({"type": "http.response.body", "body": body})
        return len(body)

    async def _lifespan(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    self._start(asyncio.get_running_loop())
                except Exception as error:
                    log.error("%s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # RSGI

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        engine = self.engine
        visit = _rsgi_visit(scope, engine is not None and engine.requests.enable)

        async def read(visit: Visit, most: int) -> bytes:
            return await _rsgi_body(visit.length, protocol, most)

        reply = await self.answered(visit, read)
        body, headers = packed(reply, visit.accept)
        sent = 0
        try:
            with contextlib.suppress(RuntimeError):  # the client has left
                protocol.response_bytes(reply[0], (headers.closing if self.draining else headers).text, body)
                sent = len(body)
        finally:
            self._told(visit, reply, sent, lambda: _rsgi_line(scope))

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._start(loop)
        except Exception as error:
            log.error("%s", error)
            sys.exit(1)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop()

    # Both

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.engine is None:
            assert not isinstance(self._make, Engine)
            self.serve(self._make())
        if self._owner:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread's loop
                loop.add_signal_handler(DRAIN, self.drain)

    def _stop(self) -> None:
        if self.engine is not None:
            self.engine.close()

    def _told(self, visit: Visit, reply: Answer, sent: int, uri: Callable[[], tuple[str, str]]) -> None:
        self.left(visit, reply, sent)
        engine = self.engine
        if engine is not None and engine.request_log is not None and visit.path.startswith("/api/"):
            seconds = time.perf_counter() - visit.begin
            engine.request_log.answered(*uri(), visit.body, reply[2], time.time() - seconds, seconds)


def create() -> App:
    """For a server's `--factory`: the engine of the file that `PAIREC_CONFIG` names, which it then follows.

    `PAIREC_SNAPSHOT`, which `pairec-fast serve` sets, is the snapshot that it verified for all its workers.
    """
    return App(_engine, owner=True)


def _engine() -> Engine:
    path, verified = Path(os.environ["PAIREC_CONFIG"]), os.environ.get("PAIREC_SNAPSHOT")
    config = Config.load(path, KINDS)
    # Who follows the file may start late, or anew, when it leads to another snapshot than the one verified at first.
    follows = config.snapshot_conf is not None and config.snapshot_conf.reload_seconds > 0
    engine = Engine(config, Path(verified) if verified and not follows else None)
    Reloader(engine, path).follow()
    return engine


def _visit(scope: Scope, sized: bool) -> Visit:
    """`sized`: somebody wants to know how large the head was."""
    length, encoding, accept, host, timeout, size = -1, b"", b"", b"", b"", 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = _length(value)
        elif name == b"accept-encoding":
            accept = accept + b"," + value if accept else value
        elif name == b"host":
            host = value
        elif name == b"content-encoding":
            encoding = value
        elif name == b"x-timeout-ms":
            timeout = value
    path, method = scope["path"], scope.get("method", "")
    if sized:
        size = sum(len(name) + len(value) for name, value in scope["headers"])
        size += len(path) + len(method) + len(scope.get("http_version", "")) + 5
    return Visit(
        path, method, length, _text(encoding).strip().lower(), _text(accept), _text(host), _text(timeout), size
    )


def _rsgi_visit(scope: Any, sized: bool) -> Visit:
    """As `_visit`."""
    headers, path, method, size = scope.headers, scope.path, scope.method, 0
    get = headers.get
    said = get("content-length")
    length = _length(said) if said is not None else -1 if "transfer-encoding" in headers else 0
    if sized:
        size = sum(len(name) + len(value) for name, value in headers.items())
        size += len(path) + len(method) + len(scope.http_version) + 5
    encoding = get("content-encoding", "")
    return Visit(
        path, method, length, encoding.strip().lower() if encoding else "", get("accept-encoding", ""),
        get("host", ""), get("x-timeout-ms", ""), size,
    )  # fmt: skip


def _asgi_line(scope: Scope) -> tuple[str, str]:
    """URI and address of who asks, for the log of requests."""
    query, client = scope.get("query_string"), scope.get("client") or ("", 0)
    return scope["path"] + ("?" + _text(query) if query else ""), f"{client[0]}:{client[1]}"


def _rsgi_line(scope: Any) -> tuple[str, str]:
    """As `_asgi_line`."""
    return scope.path + ("?" + scope.query_string if scope.query_string else ""), scope.client


def _text(value: bytes) -> str:
    return value.decode("latin-1") if value else ""


def _length(value: bytes | str) -> int:
    """-1 unless it is one. Its first digits are enough to see of any length that it is too large."""
    return int(value[:19]) if value.isdigit() else -1


async def _body(length: int, receive: Callable[..., Awaitable[dict[str, Any]]], most: int) -> bytes:
    """The request's body, read up to its content-length and not one `receive()` further: on Granian that saves a lap.

    Raises:
        RequestError: larger than `most` bytes, or it cannot be read.
    """
    parts, size, more = list[bytes](), 0, True
    while more and size <= most and length <= most:
        message = await receive()
        if message["type"] == "http.disconnect":  # Granian's word for broken chunks too, and there an answer is due
            raise RequestError(UNREADABLE)
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = size != length and message.get("more_body", False)
    if max(length, size) > most:
        raise RequestError(f"request body larger than {most} bytes")
    return b"".join(parts)


async def _rsgi_body(length: int, protocol: Any, most: int) -> bytes:
    """As `_body`."""
    if length > most:
        raise RequestError(f"request body larger than {most} bytes")
    try:
        if length >= 0:
            body: bytes = await protocol()
            return body
        parts, size = list[bytes](), 0
        async for part in protocol:
            parts.append(part)
            size += len(part)
            if size > most:
                raise RequestError(f"request body larger than {most} bytes")
    except RuntimeError:  # Granian's errors are: the client has left, or its chunks are broken
        raise RequestError(UNREADABLE) from None
    return b"".join(parts)
