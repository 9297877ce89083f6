"""An HTTP/1.1 client for one address: posts bytes, keeps connections open, on one event loop.

By hand, because it is this short: one verb, no redirects, cookies or proxies, and no package more to install. What it
must get right is at the end of a body (a length, chunks, or the connection's end), and which connection may be used
again. *Source*: RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

BODY_BYTES_MAX = 64 << 20  # of an answer: thousands of items with all their features as text
_HEAD_BYTES_MAX = 64 << 10
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s#]*)?(\?[^\s#]*)?")
_SECRET = re.compile(r"//[^/]*@")
_TOKEN = re.compile(r"[\x21-\x7e \t]*")


class HttpError(Exception):
    """No answer, or one that is no success; the message says which."""


class Client:
    """Connections to the address `url`, opened as needed, each used for one request at a time.

    All calls from the event loop it was first used on; `close` there too.

    Raises:
        ValueError: `url` is not http or https with a host, or a header has characters that end one.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        if not _URL.fullmatch(url):
            shown = _SECRET.sub("//...@", url)  # it may hold a password, and errors end up in logs
            raise ValueError(f'expected "http://HOST/PATH" or "https://HOST/PATH", got "{shown:.200}"')
        parts = urlsplit(url)
        try:
            self._host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ValueError(f'"{url:.200}": {error}') from error
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = port or (443 if self._ssl else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc, "Content-Type": "application/octet-stream", **(headers or {})}
        for name, value in lines.items():
            if not _TOKEN.fullmatch(value):
                raise ValueError(f"header {name}: expected printable ASCII in one line")
        self._head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> bytes:
        """The body of the answer, which must have the status 200.

        Raises:
            HttpError: no connection, no answer, another status, or an answer that is no HTTP.
        """
        request = f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        while True:
            used = bool(self._idle)
            reader, writer = self._idle.pop() if used else await self._connect()
            stays = answered = False
            try:
                writer.write(request)
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                answered = True
                status, fields = _head(head)
                while 100 <= status < 200:
                    status, fields = _head(await reader.readuntil(b"\r\n\r\n"))
                answer, stays = await _body(reader, status, fields)
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                # The server may have closed a connection that waited: then a new one decides.
                if used and not answered and not isinstance(error, asyncio.LimitOverrunError):
                    continue
                raise HttpError(_told(error)) from error
            finally:
                if stays:
                    self._idle.append((reader, writer))
                else:
                    writer.close()
            if status != 200:
                raise HttpError(f"status {status}: {answer[:200].decode('utf-8', 'replace')}")
            return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_connection(self._host, self._port, ssl=self._ssl, limit=_HEAD_BYTES_MAX)
        except OSError as error:
            raise HttpError(f"no connection to {self._host}:{self._port}: {_told(error)}") from error

    def close(self) -> None:
        """Close the connections that wait."""
        for _, writer in self._idle:
            with contextlib.suppress(RuntimeError):  # the loop may be gone, and the connection with it
                writer.close()
        self._idle.clear()


def _told(error: Exception) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return f"the connection ended after {len(error.partial)} bytes"
    if isinstance(error, asyncio.LimitOverrunError):
        return f"a head or a line of more than {_HEAD_BYTES_MAX} bytes"
    return str(error) or type(error).__name__


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and header fields, names in small letters; of a field given twice both, with a comma between.

    Raises:
        HttpError: no HTTP/1.
    """
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: .*)?", lines[0])
    if match is None:
        raise HttpError(f"not an answer of HTTP/1: {lines[0][:100]!r}")
    fields: dict[str, str] = {"": match[1]}
    for line in lines[1:-2]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError(f"not a header field: {line[:100]!r}")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return int(match[2]), fields


async def _body(reader: asyncio.StreamReader, status: int, fields: dict[str, str]) -> tuple[bytes, bool]:
    """The body, and whether the connection may be used again."""
    tokens = {token.strip().lower() for token in fields.get("connection", "").split(",")}
    stays = "close" not in tokens if fields[""] == "1" else "keep-alive" in tokens
    coding = fields.get("transfer-encoding", "identity").lower()
    if fields.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(f"content-encoding {fields['content-encoding']}, which was not asked for")
    if status in (204, 304):
        return b"", stays
    if coding == "chunked":
        return await _chunks(reader), stays
    if coding != "identity":
        raise HttpError(f"transfer-encoding {coding[:50]}")
    if "content-length" in fields:
        lengths = {length.strip() for length in fields["content-length"].split(",")}
        length = lengths.pop()
        if lengths or not re.fullmatch("[0-9]{1,15}", length):
            raise HttpError(f"content-length {fields['content-length'][:50]!r}")
        return await reader.readexactly(_bounded(int(length))), stays
    body = bytearray()
    while part := await reader.read(1 << 16):
        body += part
        _bounded(len(body))
    return bytes(body), False


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size, _, _ = (await reader.readuntil(b"\r\n"))[:-2].partition(b";")
        if not re.fullmatch(rb"[0-9a-fA-F]{1,12}", size.strip()):
            raise HttpError(f"a chunk of size {size[:50]!r}")
        length = int(size, 16)
        if length == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                pass
            return bytes(body)
        _bounded(len(body) + length)
        body += await reader.readexactly(length)
        if await reader.readexactly(2) != b"\r\n":
            raise HttpError("a chunk that is longer than it says")


def _bounded(length: int) -> int:
    if length > BODY_BYTES_MAX:
        raise HttpError(f"an answer of more than {BODY_BYTES_MAX} bytes")
    return length
