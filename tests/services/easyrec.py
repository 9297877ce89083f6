"""A model server on loopback that speaks EasyRec's protocol, and fails on demand.

    with EasyrecServer() as server:
        Server("ctr", server.url("single"), TOKEN, "easyrecResponseFunc")
        server.fail("status 500", 1)         # the next request is answered so

The score of an item is `score(item_id, output)`, a number made of both names, so that whoever asks can say what must
come back. Messages are read and written here by hand, not by the package, so that one mistake cannot hide on both ends;
tests/test_remote_public.py holds this server and the package to the message definitions that the model service's own
client ships. *Source*: PAIREC 6.4.
"""

from __future__ import annotations

import contextlib
import struct
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

TOKEN = "test-token"
OUTPUTS = ("ctr", "cvr")
CLASSES = 3
DIMENSION = 4


def score(item_id: str, output: str = "") -> float:
    """Between 0 and 1, a multiple of 1/65536: the same as a float32 and as a double."""
    return (zlib.crc32(f"{item_id}/{output}".encode()) & 0xFFFF) / 65536


class Asked(NamedTuple):
    """A request as it came: values as (number of their kind, value)."""

    path: str
    debug_level: int
    user: dict[str, tuple[int, Any]]
    item_ids: list[str]
    context: dict[str, list[tuple[int, Any]]]
    items: dict[str, list[tuple[int, Any]]]
    meta: dict[str, str]


# ---- messages, as much as there is


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 128:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def parts(data: bytes) -> list[tuple[int, Any]]:
    """(number, value) of each field: integers, bytes, and floats for the two fixed widths."""
    found: list[tuple[int, Any]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
            found.append((key >> 3, value - (1 << 64) if value >> 63 else value))
        elif key & 7 == 1:
            found.append((key >> 3, struct.unpack_from("<d", data, at)[0]))
            at += 8
        elif key & 7 == 5:
            found.append((key >> 3, struct.unpack_from("<f", data, at)[0]))
            at += 4
        elif key & 7 == 2:
            size, at = _varint(data, at)
            assert at + size <= len(data), "a field beyond the message"
            found.append((key >> 3, data[at : at + size]))
            at += size
        else:
            raise AssertionError(f"wire type {key & 7}")
    return found


def put(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _put(number << 3) + _put(value)
    data = value.encode() if isinstance(value, str) else value
    return _put(number << 3 | 2) + _put(len(data)) + data


def _put(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def doubles(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def array(shape: list[int], values: list[float], dtype: int = 1) -> bytes:
    """An ArrayProto of floats, or of doubles with dtype 2."""
    packed = put(3, struct.pack(f"<{len(values)}f", *values)) if dtype == 1 else put(4, doubles(values))
    return put(1, dtype) + put(2, put(1, b"".join(map(_put, shape)))) + packed


def entry(number: int, key: str, value: str | bytes) -> bytes:
    return put(number, put(1, key) + put(2, value))


def _pair(body: bytes) -> tuple[Any, Any]:
    found = dict(parts(body))
    return found.get(1, b"").decode(), found.get(2, b"")


def _value(body: bytes) -> tuple[int, Any]:
    ((number, value),) = parts(body)
    return number, value.decode() if number == 3 else value


def asked(path: str, body: bytes) -> Asked:
    level, user, ids, context, items, meta = 0, {}, [], {}, {}, {}
    for number, value in parts(body):
        if number == 1:
            level = value
        elif number == 2:
            name, feature = _pair(value)
            user[name] = _value(feature)
        elif number == 3:
            ids.append(value.decode())
        elif number in (4, 6):
            name, column = _pair(value)
            (context if number == 4 else items)[name] = [_value(one) for _, one in parts(column)]
        elif number == 7:
            name, text = _pair(value)
            meta[name] = text.decode()
    return Asked(path, level, user, ids, context, items, meta)


class EasyrecServer:
    """Listens on a port of its own once entered. `requests` has what was asked, oldest first; `delay_seconds` holds
    every answer back."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.connections = 0
        self.delay_seconds = 0.0
        self.lock = threading.Lock()
        self._failures: list[str] = []
        self._open: set[Any] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def url(self, model: str = "single") -> str:
        """Models: `single`, `multiple`, `classes`, `torch`, `torch_classes`, `embedding`."""
        return f"http://127.0.0.1:{self._port}/api/predict/{model}"

    def fail(self, how: str, times: int = 1) -> None:
        """The next answers: `status 500`, `drop` (the connection breaks), `garbage`, `exception` (a status in the
        answer), `short` (an item or a value too few), `hang` (nothing for a second), `chunked` and `close` (sound, but
        sent so)."""
        with self.lock:
            self._failures += [how] * times

    def break_connections(self) -> None:
        """What a server does to connections that waited too long."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def __enter__(self) -> Self:
        world = self

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def get_request(self) -> Any:
                connection, address = super().get_request()
                world._open.add(connection)
                world.connections += 1
                return connection, address

            def shutdown_request(self, request: Any) -> None:
                world._open.discard(request)
                super().shutdown_request(request)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A connection that the other end broke is no news."""

        class Handler(_Handler):
            server_of_models = world

        self._server = Listener(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.shutdown()
            self.break_connections()
            self._server.server_close()
            self._server = None

    def answer(self, request: Asked, short: bool) -> bytes:
        model = request.path.rpartition("/")[2]
        ids = request.item_ids[: len(request.item_ids) - short]
        debug = b""
        if request.debug_level:
            torch = model.startswith("torch")
            for one in ids:
                debug += entry(2 if torch else 3, one, f"generated {one}")
                if request.debug_level in (1, 2):
                    debug += entry(3 if torch else 9, one, f"raw {one}")
                if not torch:
                    debug += entry(4, one, put(1, put(3, f"context {one}")))
        if model == "single":
            return b"".join(entry(1, one, put(1, doubles([score(one)]))) for one in ids) + debug
        if model == "multiple":
            names = OUTPUTS[: len(OUTPUTS) - short]
            body = b"".join(put(8, name) for name in names)
            for one in request.item_ids:
                body += entry(1, one, put(1, doubles([score(one, output) for output in OUTPUTS])))
            return body + debug
        if model in ("classes", "torch_classes"):
            number = 1 if model == "torch_classes" else 10
            wide = [score(one, f"label{place}") for one in ids for place in range(CLASSES)]
            flat = [score(one, "watch") for one in ids]
            return (
                entry(number, "watch", array([len(ids)], flat))
                + entry(number, "label", array([len(ids), CLASSES], wide))
                + debug
            )
        if model == "torch":
            return (
                b"".join(
                    entry(1, name, array([len(ids), 1], [score(one, name) for one in ids], dtype))
                    for dtype, name in enumerate(OUTPUTS, 1)
                )
                + debug
            )
        assert model == "embedding", model
        who = (ids or [request.user["uid"][1]])[0]
        vector = [score(who, str(place)) for place in range(DIMENSION)]
        return entry(1, "embedding", array([1, DIMENSION], vector)) + entry(5, "model_version", "v7")

    def next_failure(self) -> str:
        with self.lock:
            return self._failures.pop(0) if self._failures else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    server_of_models: EasyrecServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        world = self.server_of_models
        request = asked(self.path, self.rfile.read(int(self.headers["Content-Length"])))
        with world.lock:
            world.requests.append(request)
        failure = world.next_failure()
        if world.delay_seconds or failure == "hang":
            time.sleep(max(world.delay_seconds, float(failure == "hang")))
        if failure == "drop":
            self.close_connection = True
            return
        status, body = 200, world.answer(request, failure == "short")
        if self.headers.get("Authorization") != TOKEN:
            status, body = 401, b"wrong token"
        elif failure.startswith("status"):
            status, body = int(failure.split()[1]), b"out of order"
        elif failure == "garbage":
            body = b"<html>Bad Gateway</html>"
        elif failure == "exception":
            body = put(5, "no such model") + put(6, 2)
        self.send_response(status)
        if failure == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 100):
                chunk = body[at : at + 100]
                self.wfile.write(f"{len(chunk):x};note=x\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\nTrailer: x\r\n\r\n")
        elif failure == "close":
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        self.wfile.flush()
