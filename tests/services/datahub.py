"""A server on loopback that speaks DataHub's REST protocol, for the official client and for the sink alike.

    with DatahubServer() as server:
        client = server.client()           # the official one, where it is installed
        server.fail("LimitExceeded", 2)    # the next two writes are throttled

It checks every request's signature by itself (HMAC-SHA1 of method, content type, date, `x-datahub-` headers and path),
the checksum of protobuf frames, field counts, types and shards, and answers errors in DataHub's form. Protobuf is read
and written here, not by the client's library, so that one mistake cannot hide on both ends.
*Source*: what `pydatahub` 2.29 sends and accepts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import struct
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pairec_fast.core.checksum import crc32c

ACCESS_ID, ACCESS_KEY = "test-access-id", "test-access-key-0123456789"
PROJECT = "project_1"
REQUEST_BYTES_MAX = 4 << 20

_BITS = {"tinyint": 8, "smallint": 16, "integer": 32, "bigint": 64, "timestamp": 64}


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


# ---- protobuf, as much as there is


def fields_of(data: bytes) -> list[tuple[int, Any]]:
    """(number, value) of each field: integers and byte strings."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        if key & 7 == 0:
            value, at = _varint(data, at)
        elif key & 7 == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise Refusal(400, "MalformedRecord", "a field reaches beyond the message")
            value, at = data[at : at + size], at + size
        else:
            raise Refusal(400, "MalformedRecord", f"wire type {key & 7}")
        found.append((key >> 3, value))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at == len(data) or shift > 63:
            raise Refusal(400, "MalformedRecord", "a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _put_varint(number << 3) + _put_varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _put_varint(number << 3 | 2) + _put_varint(len(data)) + data


def _put_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def framed(message: bytes) -> bytes:
    return b"DHUB" + struct.pack(">II", crc32c(message, 0), len(message)) + message


def unframed(data: bytes) -> bytes:
    magic, crc, size = struct.unpack(">4sII", data[:12])
    if magic != b"DHUB" or size != len(data) - 12 or crc != crc32c(data[12:], 0):
        raise Refusal(400, "MalformedRecord", "frame, length or checksum is wrong")
    return data[12:]


# ---- the world of projects, topics and shards


class Topic:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body, self.kind = body, body["RecordType"]
        self.fields = [
            (entry["name"], entry["type"].lower(), not entry.get("notnull", False))
            for entry in (json.loads(body["RecordSchema"])["fields"] if self.kind == "TUPLE" else [])
        ]
        self.shards: dict[str, str] = {str(shard): "ACTIVE" for shard in range(body["ShardCount"])}
        self.records: dict[str, list[dict[str, Any]]] = {shard: [] for shard in self.shards}

    def checked(self, values: list[bytes | None]) -> list[bytes | None]:
        if len(values) != len(self.fields):
            raise Refusal(400, "MalformedRecord", f"{len(values)} fields, the schema has {len(self.fields)}")
        for value, (name, kind, allow_null) in zip(values, self.fields, strict=True):
            if value is None:
                if not allow_null:
                    raise Refusal(400, "MalformedRecord", f"field {name} must not be null")
                continue
            text = value.decode("utf-8")
            try:
                if kind in _BITS and not -(1 << (_BITS[kind] - 1)) <= int(text) < 1 << (_BITS[kind] - 1):
                    raise ValueError
                if kind in ("double", "float", "decimal"):
                    float(text)
                if kind == "boolean" and text not in ("true", "false"):
                    raise ValueError
            except ValueError:
                raise Refusal(400, "MalformedRecord", f"field {name} is no {kind}: {text[:50]}") from None
            if b"POISON" in value:
                raise Refusal(400, "InvalidParameter", f"field {name} has a value that this server refuses")
        return values


class DatahubServer:
    """Listens on a port of its own as soon as it is entered. `stop` and `start` keep port and data: an outage."""

    def __init__(self, certificate: Path | None = None) -> None:
        """`certificate`, a file with key and certificate, makes it speak TLS."""
        self._certificate = certificate
        self.projects: dict[str, dict[str, Topic]] = {PROJECT: {}}
        self.lock = threading.RLock()
        self.requests = Counter[str]()
        self.seen_errors = Counter[str]()
        self.delay_seconds = 0.0
        self._failures: list[str] = []
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"world": self})
        self._server = _Listener(("127.0.0.1", self._port), handler)
        self._port = self._server.server_address[1]
        if self._certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No longer listen, and break what connections there are."""
        if self._server is not None:
            self._server.shutdown()
            self._server.break_connections()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> DatahubServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def client(self, key: str = ACCESS_KEY, *, json_protocol: bool = False) -> Any:
        """The official client."""
        from datahub import DataHub
        from datahub.core import DatahubProtocolType

        protocol = DatahubProtocolType.JSON if json_protocol else DatahubProtocolType.PB
        return DataHub(ACCESS_ID, key, self.endpoint, protocol_type=protocol, user_agent="test", retry_times=0)

    def fail(self, how: str, times: int = 1) -> None:
        """The next writes are refused with this code; "drop" takes them and breaks the connection without an answer;
        "partly CODE" refuses the records of every second shard and takes the others; "html" answers as a proxy."""
        with self.lock:
            self._failures += [how] * times

    def next_failure(self) -> str:
        with self.lock:
            return self._failures.pop(0) if self._failures else ""

    def topic(self, project: str, name: str) -> Topic:
        if project not in self.projects:
            raise Refusal(404, "NoSuchProject", f"The specified project does not exist: {project}")
        if name not in self.projects[project]:
            raise Refusal(404, "NoSuchTopic", f"The specified topic does not exist: {name}")
        return self.projects[project][name]

    def rows(self, topic: str, project: str = PROJECT) -> list[dict[str, str | None]]:
        """What was written, as texts: by shard, then as it came. `@` keys are attributes."""
        with self.lock:
            found = self.topic(project, topic)
            return [
                {
                    name: None if value is None else value.decode()
                    for (name, *_), value in zip(found.fields, record["data"], strict=True)
                }
                | {f"@{key}": value for key, value in record["attributes"].items()}
                for shard in found.shards
                for record in found.records[shard]
            ]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self.connections: set[Any] = set()
        super().__init__(*arguments)

    def get_request(self) -> Any:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the other end broke is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together
    world: DatahubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if len(body) > REQUEST_BYTES_MAX:
                raise Refusal(413, "RequestTooLarge", "a request may have 4 MB")
            self._check_signature()
            answer = self._answer(self._decompressed(body))
            status = 200
        except Refusal as refusal:
            with self.world.lock:
                self.world.seen_errors[refusal.code] += 1
            status = refusal.status
            page = b"<html>Bad Gateway</html>"
            answer = (
                page
                if refusal.code == "html"
                else json.dumps({"ErrorCode": refusal.code, "ErrorMessage": refusal.message, "RequestId": "r"}).encode()
            )
        if answer is None:  # break the connection
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("x-datahub-request-id", "r")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    def _check_signature(self) -> None:
        ours = sorted(
            (key.lower(), value) for key, value in self.headers.items() if key.lower().startswith("x-datahub-")
        )
        lines = [self.command, self.headers.get("Content-Type", ""), self.headers.get("Date", "")]
        text = "\n".join([*lines, *(f"{key}:{value}" for key, value in ours), self.path])
        digest = hmac.new(ACCESS_KEY.encode(), text.encode(), hashlib.sha1).digest()
        given = self.headers.get("Authorization", "")
        if not given.startswith(f"DATAHUB {ACCESS_ID}:"):
            raise Refusal(401, "Unauthorized", f"unknown access id in {given.split(':')[0]}")
        if not hmac.compare_digest(given.split(":", 1)[1], base64.b64encode(digest).decode()):
            raise Refusal(401, "Unauthorized", f"The request signature of {ACCESS_ID} does not match")

    def _decompressed(self, body: bytes) -> bytes:
        coding = self.headers.get("Content-Encoding", "")
        if not coding:
            return body
        size = int(self.headers["x-datahub-content-raw-size"])
        if coding == "lz4":
            import lz4.block

            data = lz4.block.decompress(body, uncompressed_size=size)
        elif coding in ("zlib", "deflate"):
            data = zlib.decompress(body)
        else:
            raise Refusal(400, "InvalidParameter", f"unknown coding {coding}")
        if len(data) != size:
            raise Refusal(400, "InvalidParameter", f"{len(data)} bytes, the header says {size}")
        return data

    def _answer(self, body: bytes) -> bytes | None:
        parts = self.path.strip("/").split("/")
        names, kinds = parts[1::2], parts[0::2]
        with self.world.lock:
            self.world.requests[f"{self.command} {'/'.join(kinds)}"] += 1
        if kinds == ["projects"] and len(names) == 1:
            return self._project(names[0], body)
        if kinds == ["projects", "topics"] and len(names) == 2:
            return self._topic(*names, body)
        if kinds == ["projects", "topics", "shards"]:
            return self._shards(names[0], names[1], names[2] if len(names) == 3 else None, body)
        raise Refusal(400, "InvalidUriSpec", self.path)

    def _project(self, name: str, body: bytes) -> bytes:
        with self.world.lock:
            if self.command == "POST":
                if name in self.world.projects:
                    raise Refusal(409, "ProjectAlreadyExist", name)
                self.world.projects[name] = {}
            elif name not in self.world.projects:
                raise Refusal(404, "NoSuchProject", name)
        return json.dumps({"Comment": "", "CreateTime": 0, "LastModifyTime": 0, "Creator": ""}).encode()

    def _topic(self, project: str, name: str, body: bytes) -> bytes:
        with self.world.lock:
            if self.command == "POST":
                topics = self.world.projects.get(project)
                if topics is None:
                    raise Refusal(404, "NoSuchProject", project)
                if name in topics:
                    raise Refusal(409, "TopicAlreadyExist", name)
                topics[name] = Topic(json.loads(body))
                return b"{}"
            topic = self.world.topic(project, name)
            if self.command == "DELETE":
                del self.world.projects[project][name]
                return b"{}"
            return json.dumps({**topic.body, "CreateTime": 0, "LastModifyTime": 0}).encode()

    def _shards(self, project: str, name: str, shard: str | None, body: bytes) -> bytes | None:
        action = self.headers.get("x-datahub-request-action", "")
        pb = self.headers.get("Content-Type") == "application/x-protobuf"
        if self.command == "GET":
            with self.world.lock:
                shards = self.world.topic(project, name).shards
                return json.dumps({"Protocol": "http1.1", "Interval": 1, "Shards": [
                    {"ShardId": key, "State": state, "BeginHashKey": "0", "EndHashKey": "F", "ClosedTime": "",
                     "ParentShardIds": [], "LeftShardId": "", "RightShardId": ""}
                    for key, state in shards.items()
                ]}).encode()  # fmt: skip
        given = {} if pb else json.loads(body)
        action = action or given.get("Action", "")
        if action == "pub":
            return self._put(project, name, shard, body, given, pb)
        with self.world.lock:
            records = self.world.topic(project, name).records[shard or ""]
            if action == "cursor":
                at = {"OLDEST": 0, "LATEST": len(records), "SEQUENCE": given.get("Sequence", 0)}[given["Type"]]
                return json.dumps({"Cursor": f"c{at}", "RecordTime": 0, "Sequence": at}).encode()
            if action == "sub":
                return _get_pb(records, body) if pb else _get_json(records, given)
        raise Refusal(400, "InvalidParameter", f"unknown action {action}")

    def _put(self, project: str, name: str, shard: str | None, body: bytes, given: Any, pb: bool) -> bytes | None:
        time.sleep(self.world.delay_seconds)
        failure = self.world.next_failure()
        if failure in ("500", "html"):
            raise Refusal(502, "html" if failure == "html" else "InternalServerError", "something broke")
        if failure and failure != "drop" and not failure.startswith("partly "):
            status = {"LimitExceeded": 430, "Unauthorized": 401, "NoSuchTopic": 404}.get(failure, 400)
            raise Refusal(status, failure, f"told to fail with {failure}")
        entries = (
            [_entry(value) for _, value in fields_of(unframed(body))]
            if pb
            else list(map(_json_entry, given["Records"]))
        )
        if not entries:
            raise Refusal(400, "InvalidParameter", "no records")
        with self.world.lock:
            topic = self.world.topic(project, name)
            for entry in entries:  # a record that is malformed refuses the request
                topic.checked(entry["data"])
            failed = []
            for at, entry in enumerate(entries):
                place = entry["shard"] or shard or ""
                if failure.startswith("partly ") and int(place) % 2:
                    failed.append((at, failure.removeprefix("partly "), "told to fail"))
                elif topic.shards.get(place) != "ACTIVE":
                    failed.append((at, "InvalidShardOperation", f"shard {place} is not active"))
                else:
                    topic.records[place].append(entry | {"time": int(time.time() * 1000)})
        if failure == "drop":
            return None
        if not pb:
            return json.dumps({"FailedRecordCount": len(failed), "FailedRecords": [
                {"Index": at, "ErrorCode": code, "ErrorMessage": text} for at, code, text in failed
            ]}).encode()  # fmt: skip
        return framed(field(1, len(failed)) + b"".join(
            field(2, field(1, at) + field(2, code) + field(3, text)) for at, code, text in failed
        ))  # fmt: skip


def _entry(data: bytes) -> dict[str, Any]:
    """A RecordEntry: shard 1, attributes 8, data 9; a value that is not there is null."""
    shard, attributes, values = "", {}, []
    for number, value in fields_of(data):
        if number == 1:
            shard = value.decode()
        elif number == 8:
            for _, pair in fields_of(value):
                named = dict(fields_of(pair))
                attributes[named[1].decode()] = named[2].decode()
        elif number == 9:
            values = [dict(fields_of(cell)).get(1) for _, cell in fields_of(value)]
    return {"shard": shard, "attributes": attributes, "data": values}


def _json_entry(record: dict[str, Any]) -> dict[str, Any]:
    values = [None if value is None else str(value).encode() for value in record["Data"]]
    return {"shard": record.get("ShardId", ""), "attributes": record.get("Attributes", {}), "data": values}


def _get_pb(records: list[dict[str, Any]], body: bytes) -> bytes:
    wanted = dict(fields_of(unframed(body)))
    start = int(wanted[1].decode()[1:])
    part = records[start : start + wanted[2]]
    message = field(1, f"c{start + len(part)}") + field(2, len(part)) + field(3, start)
    for sequence, record in enumerate(part, start):
        pairs = b"".join(field(1, field(1, key) + field(2, value)) for key, value in record["attributes"].items())
        cells = b"".join(field(1, b"" if value is None else field(1, value)) for value in record["data"])
        message += field(4, field(6, sequence) + field(7, record["time"]) + field(8, pairs) + field(9, cells))
    return framed(message)


def _get_json(records: list[dict[str, Any]], given: dict[str, Any]) -> bytes:
    start = int(given["Cursor"][1:])
    part = records[start : start + given["Limit"]]
    return json.dumps({"NextCursor": f"c{start + len(part)}", "RecordCount": len(part), "StartSeq": start, "Records": [
        {"Data": [None if value is None else value.decode() for value in record["data"]], "Sequence": at,
         "SystemTime": record["time"], "Attributes": record["attributes"]}
        for at, record in enumerate(part, start)
    ]}).encode()  # fmt: skip
