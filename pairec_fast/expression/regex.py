"""Go's regular expressions (RE2) as Python's: what both have, with Go's meaning; the rest is refused."""

from __future__ import annotations

import re
from functools import lru_cache

from pairec_fast.expression.value import Failure

# RE2's classes are ASCII; Python's are Unicode.
CLASSES = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t\n\v\f\r ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
OUTSIDE = {"z": r"\Z", "A": r"\A", "b": r"(?a:\b)", "B": r"(?a:\B)"}
GROUP = re.compile(r"\(\?(?:P<[A-Za-z_]\w*>|<[A-Za-z_]\w*>|[imsU]*(?:-[imsU]+)?[:)])")


def search(pattern: str, text: str) -> bool:
    """Whether `pattern` is found anywhere in `text`.

    Raises:
        Failure: it is no pattern of RE2, or uses a part of it that is not available here.
    """
    return compiled(pattern).search(text) is not None


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern for Python.

    Raises:
        Failure: as `search`.
    """
    try:
        return re.compile(translated(pattern))
    except re.error as error:
        raise Failure(f"{pattern!r} is not a regular expression: {error}") from None


def translated(pattern: str) -> str:
    out: list[str] = []
    multiline = False
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            piece, at = _escape(pattern, at, OUTSIDE)
            out.append(piece)
        elif character == "[":
            piece, at = _class(pattern, at)
            out.append(piece)
        elif pattern.startswith("(?", at):
            match = GROUP.match(pattern, at)
            if match is None:
                raise Failure(f"{pattern!r}: Go's regular expressions have no {pattern[at : at + 3]!r}")
            flags = match[0][2:-1].partition("-")[0] if match[0][2] not in "P<" else ""
            if "U" in match[0][2:] and match[0][2] not in "P<":
                raise Failure(f"{pattern!r}: the flag U is not available here")
            if flags and match[0].endswith(")") and at > 0:
                raise Failure(f"{pattern!r}: write the flags {match[0]!r} at the beginning")
            multiline = multiline or "m" in flags
            out.append(match[0].replace("(?<", "(?P<"))
            at = match.end()
        elif character == "$":
            out.append("$" if multiline else r"\Z")  # Python's $ also stands before a last newline
            at += 1
        else:
            if character in "*+?}" and pattern[at + 1 : at + 2] == "+":
                raise Failure(f"{pattern!r}: Go's regular expressions have no {character + '+'!r}")
            out.append(character)
            at += 1
    return "".join(out)


def _escape(pattern: str, at: int, others: dict[str, str]) -> tuple[str, int]:
    """What a backslash and what follows it become, and where the pattern goes on."""
    letter = pattern[at + 1 : at + 2]
    if letter in CLASSES:
        return f"[{CLASSES[letter]}]" if others else CLASSES[letter], at + 2
    if letter and letter.lower() in CLASSES:
        if not others:
            raise Failure(f"{pattern!r}: \\{letter} inside [] is not available here")
        return f"[^{CLASSES[letter.lower()]}]", at + 2
    if letter in others:
        return others[letter], at + 2
    if letter == "Q":
        end = pattern.find("\\E", at)
        quoted = pattern[at + 2 :] if end < 0 else pattern[at + 2 : end]
        return re.escape(quoted), len(pattern) if end < 0 else end + 2
    if letter == "x" and pattern[at + 2 : at + 3] == "{":
        end = pattern.find("}", at)
        try:
            return re.escape(chr(int(pattern[at + 3 : end], 16))), end + 1
        except (ValueError, OverflowError):
            raise Failure(f"{pattern!r}: \\x{{}} needs a hexadecimal number") from None
    if letter.isdigit() or (letter.isalpha() and letter not in "afnrtvx"):
        raise Failure(f"{pattern!r}: \\{letter} is not available here")
    return pattern[at : at + 2], at + 2


def _class(pattern: str, at: int) -> tuple[str, int]:
    """A class in brackets."""
    start = at
    out = ["["]
    at += 1
    if pattern[at : at + 1] == "^":
        out.append("^")
        at += 1
    first = True
    while at < len(pattern) and (first or pattern[at] != "]"):
        first = False
        if pattern.startswith("[:", at):
            end = pattern.find(":]", at)
            name = pattern[at + 2 : end] if end > 0 else ""
            if name not in POSIX:
                raise Failure(f"{pattern!r}: the class [:{name}:] is not available here")
            out.append(POSIX[name])
            at = end + 2
        elif pattern[at] == "\\":
            piece, at = _escape(pattern, at, {})
            out.append(piece)
        else:
            out.append("\\" + pattern[at] if pattern[at] in "[]&~|" else pattern[at])
            at += 1
    if at >= len(pattern):
        raise Failure(f"{pattern!r}: the class from character {start + 1} on is not closed")
    return "".join(out) + "]", at + 1
