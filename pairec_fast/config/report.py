"""Errors and warnings, collected with their places, so that one start shows everything that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from pairec_fast.config.positions import Document, Path, quote, render
from pairec_fast.errors import ConfigError

_SUGGESTIONS_MAX = 20  # difflib compares pairs; a file of 100,000 wrong names must not take minutes
_CANDIDATES_MAX = 1_000
_NAME_LENGTH_MAX = 100


def match_key(names: Collection[str], name: str) -> str | None:
    """The spelling among `names` that means `name`: the exact one, else the last that differs only in case.

    Source: Go's `encoding/json` matches keys to fields without regard to case.
    """
    if name in names:
        return name
    folded = name.casefold()
    best = None
    for other in names:
        if isinstance(other, str) and other.casefold() == folded:  # a caller's dict may have keys that are no text
            best = other
    return best


class Report:
    """Collects what is wrong with one document. Paths may spell field names as PAI-Rec does, whatever the file says."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._errors: list[tuple[int, str]] = []
        self._warnings: list[tuple[int, str]] = []
        self._suggestions_left = _SUGGESTIONS_MAX

    @property
    def error_count(self) -> int:
        return len(self._errors)

    def error(self, path: Path, message: str, *, key: bool = False) -> None:
        self._errors.append(self._line(path, message, key))

    def warn(self, path: Path, message: str, *, key: bool = True) -> None:
        self._warnings.append(self._line(path, message, key))

    def line(self, path: Path, message: str) -> str:
        """One line as errors have it, at the key of `path`."""
        return self._line(path, message, key=True)[1]

    def warnings(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(line for _, line in sorted(self._warnings, key=lambda entry: entry[0]))

    def raise_errors(self) -> None:
        """Raise one `ConfigError` with a line per error, in the order of the file; nothing if there is none."""
        if self._errors:
            raise ConfigError("\n".join(line for _, line in sorted(self._errors, key=lambda entry: entry[0])))

    def did_you_mean(self, name: str, candidates: Iterable[str]) -> str:
        """` (did you mean "x"?)` with the nearest candidate, or nothing if none is near."""
        if self._suggestions_left == 0 or len(name) > _NAME_LENGTH_MAX:
            return ""
        self._suggestions_left -= 1
        folded = {candidate.casefold(): candidate for candidate in sorted(candidates)[:_CANDIDATES_MAX]}
        near = difflib.get_close_matches(name.casefold(), folded, n=1)
        return f" (did you mean {quote(folded[near[0]])}?)" if near else ""

    def _line(self, path: Path, message: str, key: bool) -> tuple[int, str]:
        spelled = self._walk(path)[0]
        offsets = self._document.offset_of_key if key and path else self._document.offset_of_value
        offset = offsets.get(spelled)
        while offset is None and spelled:  # what is missing is missing in the object around it
            spelled = spelled[:-1]
            offset = self._document.offset_of_value.get(spelled)
        where = render(path)
        text = f"{where}: {message}" if where else message
        if offset is None:
            return 0, f"{self._document.name}: {text}"
        line, column = self._document.line_and_column(offset)
        return offset, f"{self._document.name}:{line}:{column}: {text}"

    def as_given(self, path: Path) -> Any:
        """The value at `path` before the environment was filled in: errors show `"${PORT}"`, not what it stands for."""
        return self._walk(path)[1]

    def _walk(self, path: Path) -> tuple[Path, Any]:
        """`path` with the field names as the file spells them, and the value there, found by walking down."""
        value: Any = self._document.value
        spelled: list[str | int] = []
        for part in path:
            if isinstance(part, int):
                value = value[part] if isinstance(value, list | tuple) and part < len(value) else None
                spelled.append(part)
                continue
            key = match_key(value, part) if isinstance(value, dict) else None
            spelled.append(part if key is None else key)
            value = None if key is None else value[key]
        return tuple(spelled), value
