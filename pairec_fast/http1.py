"""HTTP/1.1 on the thread that walks: from the socket to its answer a request crosses no other.

What has come whole waits in a queue of the worker. Between two walks all sockets are read, so that admission counts who
waits, and who is refused is told before the next walk. Bytes are parsed by httptools.
"""

from __future__ import annotations

import asyncio
import logging
import logging.config
import multiprocessing
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import uvloop
from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from pairec_fast.app import App
from pairec_fast.errors import RequestError
from pairec_fast.logs import Waits, awaited
from pairec_fast.messages import error_answer
from pairec_fast.routes import CALLBACKS, JSON, OVERLOADED, PROBES, ROUTES, TEXT, Answer
from pairec_fast.shell import BODY_SECONDS, READERS_MAX, TOO_SLOW, Headers, Shell, Visit, packed, too_large

HEAD_SECONDS = 5.0  # for a request's head to come whole
HEAD_BYTES, HEADERS_MAX = 32 << 10, 100
IDLE_SECONDS = 75.0  # without a request, until a connection is closed
LINGER_SECONDS = 1.0  # for a client to read an answer that ends the connection while it still sends
LOOK_SECONDS = 0.25  # between two looks at connections that may have to end
# Open at once on one worker; whoever comes later is turned away, so this is no limit of requests.
CONNECTIONS, BACKLOG = 4096, 1024
STOP_SECONDS = 7.0  # for requests that have begun to end

BAD_REQUEST: Answer = (400, TEXT, b"bad request", None)
HEAD_TOO_LARGE: Answer = (431, TEXT, b"the head is too large", None)

log = logging.getLogger("pairec_fast")

_PATHS = {path.encode(): path for path in ROUTES.keys() | PROBES}
_ENDING = {kind: Headers([("content-type", kind.decode())]) for kind in (JSON, TEXT)}
_heads: dict[tuple[int, Headers, bytes], bytes] = {}  # what an answer begins with


class Http1Visit(Visit):
    """As it came over a connection. `keep`: it stays open, `old`: which the client, of HTTP/1.0, wants to be told."""

    def __init__(self, connection: Connection, headers: dict[bytes, bytes], sized: bool) -> None:
        self.begin = time.perf_counter()
        parser, url = connection.parser, connection.url
        self._connection, self._headers, self._url = connection, headers, url
        self.path = _PATHS.get(url) or _path(url)
        self.method, self.host = parser.get_method().decode("latin-1"), headers.get(b"host", b"").decode("latin-1")
        length = headers.get(b"content-length")
        self.length = int(length) if length is not None else -1 if b"transfer-encoding" in headers else 0
        if b"content-encoding" in headers:
            self.encoding = headers[b"content-encoding"].decode("latin-1").strip().lower()
        if b"x-timeout-ms" in headers:
            self.timeout = headers[b"x-timeout-ms"].decode("latin-1")
        self.old = b"connection" in headers and parser.get_http_version() == "1.0"
        self.keep = True
        if sized:
            self.size = sum(len(name) + len(value) for name, value in headers.items())
            self.size += len(self.path) + len(self.method) + len(parser.get_http_version()) + 5

    def accept(self) -> str:
        return self._headers.get(b"accept-encoding", b"").decode("latin-1")

    def line(self) -> tuple[str, str]:
        host, port = self._connection.peer[:2]
        return self._url.decode("latin-1"), f"{host}:{port}"


class Connection(asyncio.Protocol):
    """One client. Its requests are answered in their order, one after the other."""

    transport: asyncio.Transport

    def __init__(self, server: Http1) -> None:
        self._server = server
        self.parser = HttpRequestParser(self)
        self.url, self._headers, self._parts, self._size = b"", dict[bytes, bytes](), list[bytes](), 0
        self._visit: Http1Visit | None = None  # whose body is to come
        self._heads, self._room = 0, HEAD_BYTES  # how many heads came whole, and bytes left to the next
        self._pending = deque[Http1Visit]()  # behind the one that is worked on
        self._last: Answer | None = None  # to what cannot be read, behind them
        self.busy = self.receiving = self.lost = False
        self._waits = False  # with the next request, for the client to read
        self._ended = False  # whatever comes is not read any more
        self._stuffed = False  # the client does not read: nothing more is answered, and so nothing read
        self._offered = False  # another protocol, with a body in this one
        self._expects = False  # to be told to go on with the body
        self.since = server.now  # when what is under way began: idleness, a request's coming, or its end

    # What the loop calls

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if not self._server.joined(self):
            transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = self._ended = True
        self._pending.clear()
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._visit is None and len(data) > self._room:
            first, data = data[: self._room], data[self._room :]
            if not self._fed(first):
                return
        self._fed(data)

    def pause_writing(self) -> None:
        self._stuffed = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._stuffed, self.since = False, self._server.now
        if not self.busy or self._waits:
            self._go_on()

    # What the parser calls

    def on_message_begin(self) -> None:
        self.receiving, self.since = True, self._server.now
        self.url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._visit is not None:
            return  # behind chunks: nobody wants to know
        headers, name = self._headers, name.lower()
        headers[name] = value if name not in headers else headers[name] + b"," + value

    def on_headers_complete(self) -> None:
        self._heads += 1
        self._size = 0
        if self._ended:
            return
        if len(self._headers) > HEADERS_MAX:
            self._end(HEAD_TOO_LARGE)
            return
        if b"upgrade" in self._headers and self.parser.should_upgrade():
            self._offered = b"content-length" in self._headers or b"transfer-encoding" in self._headers
            if self._offered:
                return
        self._visit = visit = Http1Visit(self, self._headers, self._server.sized())
        if visit.length > self._server.shell.most():
            self._end(_too_large(self._server.shell), visit)
        elif b"expect" in self._headers:
            told = self._headers[b"expect"].lower() == b"100-continue"
            self._expects = told and self.parser.get_http_version() != "1.0"
            if not self.busy:
                self._tell_to_go_on()

    def on_body(self, part: bytes) -> None:
        if self._ended:
            return
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._server.shell.most():
            self._end(_too_large(self._server.shell), self._visit)

    def on_message_complete(self) -> None:
        visit, self._visit = self._visit, None
        if self._ended or visit is None:
            return
        self.receiving = False
        visit.keep = self.parser.should_keep_alive()
        parts, self._parts = self._parts, []
        visit.body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self.busy:
            self._pending.append(visit)
            self.transport.pause_reading()
        else:
            self.busy = True
            self._server.take(self, visit)

    # And others

    def answer(self, visit: Http1Visit, reply: Answer) -> None:
        """Send it, do what it does not wait for, and go on to the next request."""
        server, sent = self._server, 0
        body, headers = packed(reply, visit)
        keep = visit.keep and not server.shell.draining and headers.closing is not headers
        if not self.lost:
            told = b"" if visit.method == "HEAD" else body
            self.transport.write(server.head(reply[0], headers, keep, visit.old) + b"%d\r\n\r\n%s" % (len(body), told))
            sent = len(told)
        if reply[3] is None:
            server.shell.left(visit, reply, sent)
        else:  # it leaves when the loop is through with what it has to call
            server.loop.call_soon(server.shell.left, visit, reply, sent)
        if self.lost:
            return
        self.since = server.now
        if not keep:
            self._ended, self.busy, self._last = True, False, None
            self._pending.clear()
            self.transport.close()
        elif self._stuffed:
            self._waits = True
        else:
            self._go_on()

    def look(self, now: float) -> bool:
        """Whether a body is coming; what has taken too long ends."""
        waited = now - self.since
        if self._ended:
            patience = IDLE_SECONDS if self.transport.get_write_buffer_size() else LINGER_SECONDS
            if (not self.busy or self._waits) and waited > patience:
                self.transport.abort()
        elif self._waits:  # what it sends meanwhile is not read, and may take as long as it likes
            if waited > IDLE_SECONDS:
                self.transport.abort()
        elif self._visit is not None:
            if waited > BODY_SECONDS:
                self.give_up()
            return not self._ended
        elif self.receiving:
            if waited > HEAD_SECONDS:
                self._ended = True
                self.transport.close()
        elif not self.busy and waited > IDLE_SECONDS:
            self.transport.abort()
        return False

    def give_up(self) -> None:
        """The body does not come."""
        self._end(TOO_SLOW, self._visit)

    @property
    def peer(self) -> tuple[Any, ...]:
        known: tuple[Any, ...] = self.transport.get_extra_info("peername") or ("", 0)
        return known

    def _go_on(self) -> None:
        """To the next request, once the one before it is answered and the client reads."""
        self._waits = False
        following = self._pending.popleft() if self._pending else None
        if not self._pending and not self._ended:
            self.transport.resume_reading()
        if following is not None:
            self._server.loop.call_soon(self._server.take, self, following)
            return
        self.busy = False
        if self._last is not None:
            self._close_with(self._last)
        elif self._expects and self._visit is not None:
            self._tell_to_go_on()

    def _tell_to_go_on(self) -> None:
        if self._expects:
            self._expects = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _fed(self, data: bytes) -> bool:
        """Whether more may be parsed."""
        heads, size = self._heads, self._size
        while data:
            try:
                self.parser.feed_data(data)
                break
            except HttpParserUpgrade as upgrade:  # to what is not spoken here: the request is served as it is
                data = data[upgrade.args[0] :]
                if self._offered:  # a body follows, which the parser takes for the other protocol
                    data, self._offered = self._head_without_upgrade() + data, False
                self.parser = HttpRequestParser(self)
            except HttpParserCallbackError as error:
                log.error("a request failed", exc_info=error)
                self._ended = True
                self.transport.abort()
                break
            except HttpParserError:
                if not self._ended:
                    self._end(BAD_REQUEST, self._visit)
                break
        if self._ended:
            return False
        if self._size != size or self._heads != heads:
            self._room = HEAD_BYTES  # as much for what stands around chunks and behind them
        else:
            self._room -= len(data)
            if self._room <= 0:
                self._end(HEAD_TOO_LARGE)
        return not self._ended

    def _head_without_upgrade(self) -> bytes:
        headers = {name: value for name, value in self._headers.items() if name != b"upgrade"}
        tokens = [token.strip() for token in headers.pop(b"connection", b"").split(b",")]
        headers[b"connection"] = b", ".join(token for token in tokens if token.lower() != b"upgrade")
        lines = b"".join(b"%s: %s\r\n" % line for line in headers.items())
        first = self.parser.get_method(), self.url, self.parser.get_http_version().encode()
        return b"%s %s HTTP/%s\r\n" % first + lines + b"\r\n"

    def _end(self, reply: Answer, visit: Visit | None = None) -> None:
        """Answer what cannot be read, behind all that came before, and read no more."""
        self._ended, self.since, self._parts = True, self._server.now, []
        if visit is not None:
            self._server.shell.left(visit, reply, len(reply[2]))
        if self.busy:
            self._last = reply
        else:
            self._close_with(reply)

    def _close_with(self, reply: Answer) -> None:
        """The client may still send: were the connection closed at once, it might lose the answer over that."""
        status, kind, body, _ = reply
        head = self._server.head(status, _ENDING[kind], False, False)
        self.transport.write(head + b"%d\r\n\r\n%s" % (len(body), body))
        self.transport.write_eof()


class Http1:
    """Serves a shell to connections of one loop."""

    def __init__(self, shell: Shell, loop: asyncio.AbstractEventLoop) -> None:
        self.shell, self.loop, self.now = shell, loop, time.perf_counter()
        self._connections = set[Connection]()
        self._recommends = deque[tuple[Connection, Http1Visit]]()  # let in, and to be worked on
        self._callbacks = deque[tuple[Connection, Http1Visit]]()  # behind them
        self._works = False
        self._waiting = set[asyncio.Task[None]]()
        self._gone: asyncio.Future[None] | None = None
        self._date = b""
        self._look()

    def connect(self) -> Connection:
        return Connection(self)

    def joined(self, connection: Connection) -> bool:
        """False if there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= CONNECTIONS

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._gone is not None and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def sized(self) -> bool:
        """Somebody wants to know how large heads are."""
        engine = self.shell.engine
        return engine is not None and engine.requests.enable

    def take(self, connection: Connection, visit: Http1Visit) -> None:
        """A request has come whole."""
        shell = self.shell
        reply = shell.met(visit)
        if reply is not None:
            if reply is OVERLOADED and visit.path in CALLBACKS:
                self.loop.call_later(shell.brake(), connection.answer, visit, reply)
            else:
                connection.answer(visit, reply)
        elif visit.kind is shell.admission.recommend:
            self._recommends.append((connection, visit))
            self._go_on()
        elif self._recommends:
            self._callbacks.append((connection, visit))
        else:
            self._serve(connection, visit)

    def head(self, status: int, headers: Headers, keep: bool, old: bool) -> bytes:
        """What an answer begins with, up to its length."""
        said = b"" if keep and not old else b"connection: keep-alive\r\n" if keep else b"connection: close\r\n"
        if headers.closing is headers:
            said = b""
        known = _heads.get((status, headers, said))
        if known is None:
            lines = b"".join(b"%s: %s\r\n" % line for line in headers.raw)
            first = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())
            known = _heads[status, headers, said] = first + lines + said
        return known + self._date

    async def stop(self, seconds: float) -> None:
        """Answer what has begun; whoever has not ended after so many seconds is cut off."""
        self.shell.drain()
        self._gone = self.loop.create_future()
        for connection in list(self._connections):
            if not connection.busy and not connection.receiving:
                connection.transport.close()
        if self._connections:
            await asyncio.wait([self._gone], timeout=seconds)
        for connection in list(self._connections):
            connection.transport.abort()

    def _go_on(self) -> None:
        if not self._works:
            self._works = True
            self.loop.call_soon(self._work)

    def _work(self) -> None:
        """One request of those that wait; then the sockets are read."""
        connection, visit = (self._recommends or self._callbacks).popleft()
        self._works = False
        if self._recommends or self._callbacks:
            self._go_on()
        if connection.lost and visit.kind is self.shell.admission.recommend:
            self.shell.done(visit)
        else:
            self._serve(connection, visit)

    def _serve(self, connection: Connection, visit: Http1Visit) -> None:
        shell = self.shell
        try:
            if visit.body:
                visit.body = shell.whole(visit, visit.body)
            begun = shell.work(visit)
        except RequestError as error:
            begun = 200, JSON, error_answer(error), None
        finally:
            shell.done(visit)
        if isinstance(begun, tuple):
            connection.answer(visit, begun)
            return
        task = self.loop.create_task(self._wait(connection, visit, begun))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _wait(self, connection: Connection, visit: Http1Visit, begun: Waits[Answer]) -> None:
        connection.answer(visit, await awaited(begun))

    def _look(self) -> None:
        """After connections that may have to end; at the clock, too, which is enough for them."""
        self.loop.call_later(LOOK_SECONDS, self._look)
        self.now = now = time.perf_counter()
        self._date = b"date: %s\r\ncontent-length: " % formatdate(usegmt=True).encode()
        coming = [connection for connection in list(self._connections) if connection.look(now)]
        if len(coming) > READERS_MAX:
            coming.sort(key=lambda connection: connection.since)
            for connection in coming[:-READERS_MAX]:
                connection.give_up()


def _path(url: bytes) -> str:
    """Of a request's target in any of its forms, without the query."""
    if not url.startswith(b"/") and b"://" in url:
        url = b"/" + url.split(b"://", 1)[1].partition(b"/")[2]
    return unquote(url.partition(b"?")[0].decode("latin-1"))


def _too_large(shell: Shell) -> Answer:
    return 200, JSON, error_answer(too_large(shell.most())), None


def work(
    address: str, port: int, logs: dict[str, Any], index: int, name: str, load: Callable[[], App], *rest: Any
) -> None:  # fmt: skip
    """A worker, until it is told to stop. What Granian starts as one, in place of its own."""
    logging.config.dictConfig(logs)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if parent := multiprocessing.parent_process():  # without it nobody would stop this one, and the port stay taken
        loop.add_reader(parent.sentinel, stopped.set)
    app = load()
    app.start(loop)
    front = Http1(app, loop)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # every worker has a socket of its own
        listener.bind((address, port))
        server = loop.run_until_complete(loop.create_server(front.connect, sock=listener, backlog=BACKLOG))
        loop.run_until_complete(stopped.wait())
        server.close()
        loop.run_until_complete(front.stop(STOP_SECONDS))
    app.stop()
    sys.exit(0)
