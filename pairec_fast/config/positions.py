"""Strict JSON with the place of everything: the value as Python has it, and where each part of it was written.

The standard library's reader forgets where things stood, and an error at three in the morning needs line and column.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from typing import Any, NoReturn

from pairec_fast.errors import ConfigError, Problem

Path = tuple[str | int, ...]
"""Keys and indices from the top of the document to a value; `()` is the document itself."""

DEPTH_MAX = 100  # real files stay under 15; far below Python's own limit of 1000 frames

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NAME = re.compile(r"[\w-]+")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}
_DIGITS_MAX = 309  # a float64 has no more digits before the point; also keeps int() off its quadratic path


class Document:
    """A JSON document: `name` of its source, `value`, and the offset of each value and key by path.

    `duplicates` holds the paths of keys that were written more than once in one object: the last one counts.
    A document made from Python objects has no places.
    """

    def __init__(self, name: str, text: str | None = None) -> None:
        self.name = name
        self.value: Any = None
        self.duplicates: list[Path] = []
        self.offset_of_value: dict[Path, int] = {}
        self.offset_of_key: dict[Path, int] = {}
        self._lines = [0] if text is None else [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, path: Path, *, key: bool = False) -> tuple[int, int] | None:
        """Line and column, from 1, of the value at `path`, or of its key. None if it was not read from text.

        Columns count characters, a tab as one; the byte order mark is not counted.
        """
        offset = (self.offset_of_key if key else self.offset_of_value).get(path)
        return None if offset is None else self.line_and_column(offset)

    def line_and_column(self, offset: int) -> tuple[int, int]:
        line = bisect_right(self._lines, offset)
        return line, offset - self._lines[line - 1] + 1


def read(data: bytes, name: str) -> Document:
    """Read strict JSON (no comments, no trailing commas) in UTF-8, with or without a byte order mark.

    Lone surrogates (`"\\ud800"`) become U+FFFD.

    Raises:
        ConfigError: `name:line:column: what is wrong`: bad UTF-8, bad syntax, a number beyond float64, or more than
            `DEPTH_MAX` levels.

    Source: PAI-Rec reads with Go's `encoding/json` (last of duplicate keys wins, U+FFFD); it has no places.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        byte = data[error.start]
        message = f"not UTF-8: byte 0x{byte:02x} at offset {error.start}"
        raise ConfigError.of([Problem(name, line, column, "", message, "error")]) from None
    return _Reader(text, name).document()


class _Reader:
    """Reads one text. `_at` is the offset of the next character."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._at = 0
        self._into = Document(name, text)

    def document(self) -> Document:
        self._skip_blank()
        if self._at == len(self._text):
            self._fail("the file is empty; expected a JSON object", at=0)
        self._into.value = self._value(())
        self._skip_blank()
        if self._at < len(self._text):
            self._fail(f"expected the end of the file, got {self._seen()}")
        return self._into

    def _value(self, path: Path) -> Any:
        if len(path) > DEPTH_MAX:
            self._fail(f"nested deeper than {DEPTH_MAX} levels")
        self._into.offset_of_value[path] = self._at
        first = self._text[self._at : self._at + 1]
        if first == "{":
            return self._object(path)
        if first == "[":
            return self._list(path)
        if first == '"':
            return self._string()
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        if number := _NUMBER.match(self._text, self._at):
            return self._number(number)
        self._fail(f"expected a value, got {self._seen()}")

    def _object(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._opened_and_closed("}"):
            return found
        while True:
            if self._text[self._at : self._at + 1] != '"':
                self._fail(f"expected a key in double quotes, got {self._seen()}")
            key_at = self._at
            key = self._string()
            here = (*path, key)
            if key in found:
                self._into.duplicates.append(here)
            self._into.offset_of_key[here] = key_at
            self._skip_blank()
            if self._text[self._at : self._at + 1] != ":":
                self._fail(f"expected ':' after the key, got {self._seen()}")
            self._at += 1
            self._skip_blank()
            found[key] = self._value(here)
            if self._closed("}"):
                return found

    def _list(self, path: Path) -> list[Any]:
        found: list[Any] = []
        if self._opened_and_closed("]"):
            return found
        while True:
            found.append(self._value((*path, len(found))))
            if self._closed("]"):
                return found

    def _opened_and_closed(self, end: str) -> bool:
        self._at += 1
        self._skip_blank()
        if self._text[self._at : self._at + 1] != end:
            return False
        self._at += 1
        return True

    def _closed(self, end: str) -> bool:
        """Step over `end` (True) or over a comma to the next entry (False)."""
        self._skip_blank()
        got = self._text[self._at : self._at + 1]
        if got not in (",", end):
            self._fail(f"expected ',' or '{end}', got {self._seen()}")
        comma_at = self._at
        self._at += 1
        if got == end:
            return True
        self._skip_blank()
        if self._text[self._at : self._at + 1] in ("}", "]"):
            self._fail("a comma before the closing bracket is not JSON", at=comma_at)
        return False

    def _number(self, match: re.Match[str]) -> int | float:
        text = match[0]
        whole = match[1] is None and match[2] is None
        if (whole and len(text) > _DIGITS_MAX + 1) or math.isinf(number := float(text)):
            self._fail("the number is too large for float64")
        self._at = match.end()
        return int(text) if whole else number

    def _string(self) -> str:
        opened_at = self._at
        self._at += 1
        parts: list[str] = []
        while True:
            plain = _PLAIN.match(self._text, self._at)
            assert plain is not None  # the pattern matches the empty text
            parts.append(plain[0])
            self._at = plain.end()
            stop = self._text[self._at : self._at + 1]
            if stop == '"':
                self._at += 1
                return without_surrogates("".join(parts))
            if stop == "\\":
                parts.append(self._escape())
            elif stop == "" or stop == "\n":
                self._fail("the text that starts here has no closing quote", at=opened_at)
            else:
                self._fail(f"a control character (0x{ord(stop):02x}) inside text; write \\u{ord(stop):04x}")

    def _escape(self) -> str:
        letter = self._text[self._at + 1 : self._at + 2]
        if letter == "u" and (digits := _HEX.match(self._text, self._at + 2)):
            self._at += 6
            return chr(int(digits[0], 16))
        if letter not in _ESCAPES:
            self._fail(f"unknown escape {quote(self._text[self._at : self._at + 2])}; write \\\\ for a backslash")
        self._at += 2
        return _ESCAPES[letter]

    def _skip_blank(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None  # the pattern matches the empty text
        self._at = blank.end()

    def _seen(self) -> str:
        if self._text.startswith(("//", "/*", "#"), self._at):
            return "a comment, which JSON does not have"
        return quote(self._text[self._at]) if self._at < len(self._text) else "the end of the file"

    def _fail(self, message: str, at: int | None = None) -> NoReturn:
        line, column = self._into.line_and_column(self._at if at is None else at)
        raise ConfigError.of([Problem(self._into.name, line, column, "", message, "error")])


def without_surrogates(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD: everything can be written as UTF-8."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def quote(text: str) -> str:
    """`text` in double quotes on one line, at most 60 characters of it: what an error may show."""
    shown = text if len(text) <= 60 else text[:57] + "..."
    escaped = (c if c.isprintable() and c not in '"\\' else _escaped(c) for c in shown)
    return f'"{"".join(escaped)}"'


def _escaped(char: str) -> str:
    return "\\" + char if char in '"\\' else ascii(char)[1:-1]


def render(path: Path) -> str:
    """`SceneConfs.home_feed.default.RecallNames[1]`; keys that are no plain name as `["a.b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _NAME.fullmatch(part) and len(part) <= 60:
            text += f".{part}" if text else part
        else:
            text += f"[{quote(part)}]"
    return text
