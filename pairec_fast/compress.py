"""Compressed bodies: zstd, lz4 (frames) and gzip, decoded within a limit, and chosen as `Accept-Encoding` asks.

gzip is Python's own; the others come with the extra `compress`. *Source*: PAIREC 1.4 (PAI-Rec reads a list in
`Accept-Encoding` as no wish at all; here it is read as RFC 9110 has it).
"""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

from pairec_fast.errors import RequestError

COMPRESS_FROM = 1024  # bytes of an answer: a smaller one fits a packet as it is, or nearly so
WINDOW_MAX = 1 << 23  # bytes that a zstd frame may ask us to hold; the format's own recommendation

_MODULES = {"zstd": "zstandard", "lz4": "lz4.frame"}  # what is missing here is Python's own
_PACKAGES = {"zstd": "zstandard", "lz4": "lz4"}


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """`body` as it was before its sender compressed it.

    Raises:
        RequestError: an unknown encoding, one whose package is missing, a damaged or cut body, or one that holds more
            than `most` bytes.
    """
    decode = _DECODERS.get(encoding)
    if decode is None:
        raise _unreadable()
    return decode(body, most)


def encoded(body: bytes, encoding: str) -> bytes:
    """`body` compressed as one of `chosen`'s answers, quickly rather than well."""
    if encoding == "zstd":
        return bytes(_library("zstd").ZstdCompressor(level=1).compress(body))
    if encoding == "lz4":
        return bytes(_library("lz4").compress(body))
    gzip = zlib.compressobj(level=1, wbits=31)
    return gzip.compress(body) + gzip.flush()


def chosen(accept: str) -> str:
    """The encoding of an answer by an `Accept-Encoding` header: the one liked best of those that can be made here.

    "" is none: nothing is asked for, or the answer as it is is liked better. Of equals the first of zstd, lz4, gzip.
    """
    return _chosen(accept) if accept else ""


@cache
def available() -> tuple[str, ...]:
    """The encodings that can be made here, the fastest first."""
    return (*(name for name, package in _PACKAGES.items() if importlib.util.find_spec(package)), "gzip")


# Clients send few different headers; who sends many is answered all the same.
_WISHES_MAX = 256
_wishes: dict[str, str] = {}


def _chosen(accept: str) -> str:
    found = _wishes.get(accept)
    if found is None:
        found = _best(accept)
        if len(_wishes) < _WISHES_MAX:
            _wishes[accept] = found
    return found


def _best(accept: str) -> str:
    liked: dict[str, float] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value.strip())
        if name:
            liked["gzip" if name == "x-gzip" else name] = quality
    others = liked.get("*", 0.0)
    best, most = "", 0.0
    for name in available():
        quality = liked.get(name, others)
        if quality > most:
            best, most = name, quality
    # What is not named is fine as it is, but the least of all wishes.
    return best if most >= liked.get("identity", 0.0) else ""


def _quality(text: str) -> float:
    """A weight of 0 to 1; one that is none counts as 0: its entry is no wish that could be trusted."""
    whole, _, digits = text.partition(".")
    if whole not in ("0", "1") or len(digits) > 3 or not (digits or "0").isdecimal():
        return 0.0
    return min(float(text), 1.0)


def _gzip(body: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        raise _unreadable() from None
    if len(plain) > most:
        _too_large(most)
    if not inflater.eof or inflater.unused_data:
        raise _unreadable()
    return plain


def _lz4(body: bytes, most: int) -> bytes:
    inflater = _library("lz4").LZ4FrameDecompressor()
    try:
        plain = bytes(inflater.decompress(body, max_length=most + 1))
    except (RuntimeError, EOFError, ValueError, MemoryError):
        raise _unreadable() from None
    if len(plain) > most:
        _too_large(most)
    if not inflater.eof or inflater.unused_data:
        raise _unreadable()
    return plain


def _zstd(body: bytes, most: int) -> bytes:
    library = _library("zstd")
    inflater = library.ZstdDecompressor(max_window_size=WINDOW_MAX)
    try:
        # The call that says whether a frame is whole has no limit, so what it will give is counted first.
        size, reader = 0, inflater.stream_reader(body, read_across_frames=True)
        while size <= most and (part := reader.read(1 << 16)):
            size += len(part)
        if size > most:
            _too_large(most)
        parts, rest = list[bytes](), body
        while rest:
            frame = inflater.decompressobj()
            parts.append(frame.decompress(rest))
            if not frame.eof:
                raise _unreadable()
            rest = frame.unused_data
    except library.ZstdError:
        raise _unreadable() from None
    return b"".join(parts)


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {"zstd": _zstd, "lz4": _lz4, "gzip": _gzip, "x-gzip": _gzip}


def _library(encoding: str) -> Any:
    try:
        return importlib.import_module(_MODULES[encoding])
    except ImportError:
        raise RequestError(
            f"Content-Encoding {encoding} needs the package {_PACKAGES[encoding]} where this server runs: "
            "pip install 'pairec_fast[compress]'"
        ) from None


def _unreadable() -> RequestError:
    return RequestError("read parammeter error")  # PAI-Rec's spelling


def _too_large(most: int) -> NoReturn:
    raise RequestError(f"request body larger than {most} bytes")
