"""HTTP/1.1 by hand: requests as bytes, answers as they come."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Protocol

from tests.worlds import FEED, FIRST

BODY = json.dumps(FIRST).encode()


def head(*lines: bytes, length: int | None = None, path: str = FEED) -> bytes:
    said = (b"Content-Length: %d" % length,) if length is not None else ()
    return b"\r\n".join((b"POST %s HTTP/1.1" % path.encode(), b"Host: x", *said, *lines, b"", b""))


WHOLE = head(length=len(BODY)) + BODY


class HasPort(Protocol):
    port: int


def opened(server: HasPort, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(sent)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """The next answer on it: status, headers, body."""
    got = b""
    while b"\r\n\r\n" not in got:
        part = connection.recv(1 << 16)
        assert part, got
        got += part
    top, _, body = got.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(1 << 16)
    assert len(body) == int(headers["content-length"]), "no more than one answer"
    return int(first.split()[1]), headers, body


def rest(connection: socket.socket) -> bytes:
    """All that is said until the server closes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            got += part
    return got
