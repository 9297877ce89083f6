"""Compressed bodies: what was sent comes out, within the limit, and what is damaged is refused."""

from __future__ import annotations

import gzip
import random
import sys

import pytest

from pairec_fast import compress
from pairec_fast.compress import available, chosen, decoded, encoded
from pairec_fast.errors import RequestError

CODECS = ("zstd", "lz4", "gzip")


@pytest.fixture(autouse=True)
def _with_the_packages():
    pytest.importorskip("zstandard")
    pytest.importorskip("lz4.frame")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 17])
def test_what_was_compressed_comes_out_again(codec, size):
    plain = random.Random(size).randbytes(size // 2) + b"a" * (size - size // 2)
    assert decoded(encoded(plain, codec), codec, len(plain)) == plain


@pytest.mark.parametrize("codec", CODECS)
def test_the_limit_is_of_what_comes_out(codec):
    body = encoded(b"a" * 1000, codec)
    assert len(decoded(body, codec, 1000)) == 1000
    with pytest.raises(RequestError, match="request body larger than 999 bytes"):
        decoded(body, codec, 999)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_is_refused_before_it_fills_the_memory(codec):
    """256 MB of one letter in some kilobytes: a peak near it would show as an allocation far above the limit."""
    import tracemalloc

    bomb = encoded(b"a" * (1 << 28), codec)
    assert len(bomb) < 1 << 21
    tracemalloc.start()
    with pytest.raises(RequestError, match="larger than"):
        decoded(bomb, codec, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23


@pytest.mark.parametrize("codec", CODECS)
def test_every_cut_and_every_trailing_byte_is_refused(codec):
    body = encoded(b"hello world" * 20, codec)
    for cut in range(1, len(body)):
        with pytest.raises(RequestError, match="read parammeter error"):
            decoded(body[:cut], codec, 1 << 16)
    with pytest.raises(RequestError, match="read parammeter error"):
        decoded(body + b"x", codec, 1 << 16)


@pytest.mark.parametrize("codec", CODECS)
def test_damage_is_refused_or_gives_what_fits_and_never_anything_else(codec):
    body, dice = encoded(b"hello world" * 200, codec), random.Random(7)
    for _ in range(300):
        damaged = bytearray(body)
        damaged[dice.randrange(len(body))] ^= 1 << dice.randrange(8)
        try:
            assert len(decoded(bytes(damaged), codec, 5000)) <= 5000
        except RequestError as error:
            assert str(error) in ("read parammeter error", "request body larger than 5000 bytes")


def test_a_body_of_several_zstd_frames_is_all_of_them():
    assert decoded(encoded(b"a", "zstd") + encoded(b"b", "zstd"), "zstd", 2) == b"ab"


def test_other_tools_read_and_write_the_same_formats():
    assert gzip.decompress(encoded(b"hello world", "gzip")) == b"hello world"
    assert decoded(gzip.compress(b"hello world"), "x-gzip", 11) == b"hello world"
    with pytest.raises(RequestError, match="read parammeter error"):
        decoded(b"", "br", 10)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", ""), ("zstd", "zstd"), ("lz4", "lz4"), ("gzip", "gzip"), ("GZIP", "gzip"), ("x-gzip", "gzip"), ("br", ""),
        ("gzip, deflate", "gzip"), ("gzip, deflate, br, zstd", "zstd"), ("gzip;q=0.8, zstd;q=0.5", "gzip"),
        ("gzip; q=1.000, zstd ;q=0.999", "gzip"), ("*", "zstd"), ("*;q=0.1, gzip;q=0.2", "gzip"), ("zstd;q=0", ""),
        ("zstd;q=0, *", "lz4"), ("identity", ""), ("identity;q=0.5, gzip;q=0.4", ""), ("identity, gzip", "gzip"),
        ("gzip;q=2", ""), ("gzip;q=x", ""), ("gzip;q=", ""), ("gzip;q=0.0001", ""), (";;,,", ""),
        ("gzip;level=9", "gzip"),
        ("*;q=0", ""), ("identity;q=0", ""), ("gzip;q=nan", ""), ("gzip;q=-1", ""),
    ],
)  # fmt: skip
def test_an_answer_is_compressed_as_the_header_likes_best(accept, expected):
    assert chosen(accept) == expected


def test_no_number_of_different_headers_fills_the_memory():
    for number in range(1000):
        assert chosen(f"gzip, x{number}") == "gzip"
    assert len(compress._wishes) <= compress._WISHES_MAX


@pytest.mark.parametrize(
    ("codec", "package", "module"), [("zstd", "zstandard", "zstandard"), ("lz4", "lz4", "lz4.frame")]
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, codec, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        RequestError, match=rf"Content-Encoding {codec} needs the package {package}.*pairec_fast\[compress\]"
    ):
        decoded(b"x", codec, 10)


def test_what_has_no_package_here_is_not_offered(monkeypatch):
    monkeypatch.setattr(compress.importlib.util, "find_spec", lambda name: None)
    available.cache_clear()
    try:
        assert available() == ("gzip",)
        assert compress._best("zstd, gzip;q=0.1") == "gzip" and compress._best("zstd, lz4") == ""
    finally:
        monkeypatch.undo()
        available.cache_clear()
