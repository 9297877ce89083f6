"""The fronts of the shell: ASGI for uvicorn and for mounting, RSGI for Granian, where it costs less.

granian --interface rsgi --factory pairec_fast.app:create        with PAIREC_CONFIG=engine.json in the environment
uvicorn --factory pairec_fast.app:create                         likewise
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
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
        visit = AsgiVisit(scope, receive, engine is not None and engine.requests.enable)
        reply = await self.answered(visit)
        sent = 0
        try:
            with contextlib.suppress(OSError):  # the client has left
                sent = await self._send(send, visit, reply)
        finally:
            self.left(visit, reply, sent)

    async def _send(self, send: Callable[..., Awaitable[None]], visit: Visit, reply: Answer) -> int:
        """Answers the bytes of the body that was sent."""
        body, headers = packed(reply, visit)
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
                self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # RSGI

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        engine = self.engine
        visit = RsgiVisit(scope, protocol, engine is not None and engine.requests.enable)
        reply = await self.answered(visit)
        body, headers = packed(reply, visit)
        sent = 0
        try:
            protocol.response_bytes(reply[0], (headers.closing if self.draining else headers).text, body)
            sent = len(body)
        except RuntimeError:  # the client has left
            pass
        finally:
            self.left(visit, reply, sent)

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.start(loop)

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop()

    # All

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a worker of its own: without an engine there is none."""
        try:
            self._start(loop)
        except Exception as error:
            log.error("%s", error)
            sys.exit(1)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.engine is None:
            assert not isinstance(self._make, Engine)
            self.serve(self._make())
        if self._owner:
            gc.collect()
            gc.freeze()  # what is there by now stays, and need not be looked at again by every collection
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread's loop
                loop.add_signal_handler(DRAIN, self.drain)

    def stop(self) -> None:
        if self.engine is not None:
            self.engine.close()


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


class AsgiVisit(Visit):
    """`sized`: somebody wants to know how large the head was."""

    def __init__(self, scope: Scope, receive: Callable[..., Awaitable[dict[str, Any]]], sized: bool) -> None:
        self.begin = time.perf_counter()
        self._scope, self._receive = scope, receive
        self.path, self.method, self.host, self.length = scope["path"], scope.get("method", ""), "", -1
        for name, value in scope["headers"]:
            if name == b"content-length":
                self.length = _length(value)
            elif name == b"host":
                self.host = value.decode("latin-1")
            elif name == b"content-encoding":
                self.encoding = value.decode("latin-1").strip().lower()
            elif name == b"x-timeout-ms":
                self.timeout = value.decode("latin-1")
        if sized:
            self.size = sum(len(name) + len(value) for name, value in scope["headers"])
            self.size += len(self.path) + len(self.method) + len(scope.get("http_version", "")) + 5

    def accept(self) -> str:
        return ",".join(value.decode("latin-1") for name, value in self._scope["headers"] if name == b"accept-encoding")

    async def read(self, most: int) -> bytes:
        """Up to the content-length and not one `receive()` further: on Granian that saves a lap."""
        receive, length = self._receive, self.length
        parts, size, more = list[bytes](), 0, True
        while more and size <= most:
            message = await receive()
            if message["type"] == "http.disconnect":  # Granian's word for broken chunks too: an answer is due
                raise RequestError("disconnected")
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            more = size != length and message.get("more_body", False)
        if isinstance(receive, MethodType | FunctionType):
            # A server in Python hands out a body without a pause, one request from socket to answer after the other:
            # then none would ever be counted in flight beside another. The loop reads the others here.
            await asyncio.sleep(0)
        return b"".join(parts)

    def line(self) -> tuple[str, str]:
        scope = self._scope
        query, client = scope.get("query_string"), scope.get("client") or ("", 0)
        return scope["path"] + ("?" + query.decode("latin-1") if query else ""), f"{client[0]}:{client[1]}"


class RsgiVisit(Visit):
    """As `AsgiVisit`."""

    broken = RuntimeError  # Granian's errors are: the client has left, or its chunks are broken

    def __init__(self, scope: Any, protocol: Any, sized: bool) -> None:
        self.begin = time.perf_counter()
        self._scope, self._protocol = scope, protocol
        headers = self._headers = scope.headers  # made anew whenever it is asked for
        get = headers.get
        self.path, self.method, self.host = scope.path, scope.method, get("host", "")
        said = get("content-length")
        self.length = _length(said) if said is not None else -1 if "transfer-encoding" in headers else 0
        if encoding := get("content-encoding"):
            self.encoding = encoding.strip().lower()
        if timeout := get("x-timeout-ms"):
            self.timeout = timeout
        if sized:
            self.size = len("".join(headers.keys())) + len("".join(headers.values()))
            self.size += len(self.path) + len(self.method) + len(scope.http_version) + 5

    def accept(self) -> str:
        value: str = self._headers.get("accept-encoding", "")
        return value

    def read(self, most: int) -> Awaitable[bytes]:
        whole: Awaitable[bytes] = self._protocol() if self.length >= 0 else self._chunks(most)
        return whole

    async def _chunks(self, most: int) -> bytes:
        parts, size = list[bytes](), 0
        async for part in self._protocol:
            parts.append(part)
            size += len(part)
            if size > most:
                break
        return b"".join(parts)

    def line(self) -> tuple[str, str]:
        scope = self._scope
        return scope.path + ("?" + scope.query_string if scope.query_string else ""), scope.client


def _length(value: bytes | str) -> int:
    """-1 unless it is one. Its first digits are enough to see of any length that it is too large."""
    return int(value[:19]) if value.isdigit() else -1
