"""Errors and warnings, collected with their places, so that one start shows everything that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

from pairec_fast.config.positions import Document, Path, quote, render
from pairec_fast.errors import ConfigError, Problem

INERT = "accepted, does not act here"

_SUGGESTIONS_MAX = 20  # difflib compares pairs; a file of 100,000 wrong names must not take minutes
_CANDIDATES_MAX = 1_000
_NAME_LENGTH_MAX = 100
_STEPS = r"(?:\.[\w-]+|\[\d+\])*"
_REST = re.compile(_STEPS + r"(?=:|\s|$)")  # of a path, beyond what the document holds
_NUMBER = re.compile(r"\[(\d+)\]")
_PARTS = re.compile(r"([A-Za-z_][\w-]*)|(\d+)")
_FIELD = re.compile(rf"[A-Z]\w*{_STEPS}(?=: )")  # what the document does not hold at all


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
        self._found: list[tuple[int, Problem]] = []
        self._suggestions_left = _SUGGESTIONS_MAX
        self.error_paths: list[Path] = []

    def anew(self) -> Report:
        """An empty one of the same document."""
        return Report(self._document)

    @property
    def error_count(self) -> int:
        return len(self.error_paths)

    def error(self, path: Path, message: str, *, key: bool = False) -> None:
        self._add(path, message, "error", key)
        self.error_paths.append(path)

    def warn(self, path: Path, message: str, *, key: bool = True) -> None:
        self._add(path, message, "warning", key)

    def refused(self, path: Path, error: Exception) -> None:
        """The object at `path` was refused: at the field that the message begins with, if it begins with one."""
        text = str(error) if isinstance(error, ConfigError) else " ".join(str(error).split())
        self.error(*split(text, self.as_given(path), path))

    def line(self, path: Path, message: str) -> str:
        """One line as errors have it, at the key of `path`."""
        return str(self._problem(path, message, "error", key=True)[1])

    def problems(self) -> tuple[Problem, ...]:
        """Errors and warnings, in the order of the file."""
        return tuple(problem for _, problem in sorted(self._found, key=lambda entry: entry[0]))

    def raise_errors(self) -> None:
        """Raise one `ConfigError` with a line per error, in the order of the file; nothing if there is none."""
        if self.error_paths:
            raise ConfigError.of(problem for problem in self.problems() if problem.severity == "error")

    def located(self, errors: Iterable[ConfigError]) -> ConfigError:
        """One error of all `errors`, whose messages begin with a path as `RecallConfs.hot.DaoConf.TableName`: each at
        its place in the document. An entry of a list may be named by its number or by its `Name`.
        """
        found: list[tuple[int, Problem]] = []
        for error in errors:
            if error.problems:
                found += [(0, problem) for problem in error.problems]
                continue
            text = str(error)
            path, message = split(text, self._document.value)
            offset, problem = self._problem(path, message, "error", key=False)
            said = text.removesuffix(message).rstrip(": ")  # a name says more than its number in a list
            found.append((offset, problem._replace(path=said)))
        found.sort(key=lambda entry: entry[0])
        return ConfigError.of(dict.fromkeys(problem for _, problem in found))  # scenes share parts, and their errors

    def did_you_mean(self, name: str, candidates: Iterable[str]) -> str:
        """` (did you mean "x"?)` with the nearest candidate, or nothing if none is near."""
        if self._suggestions_left == 0 or len(name) > _NAME_LENGTH_MAX:
            return ""
        self._suggestions_left -= 1
        folded = {candidate.casefold(): candidate for candidate in sorted(candidates)[:_CANDIDATES_MAX]}
        near = difflib.get_close_matches(name.casefold(), folded, n=1)
        return f" (did you mean {quote(folded[near[0]])}?)" if near else ""

    def _add(self, path: Path, message: str, severity: str, key: bool) -> None:
        self._found.append(self._problem(path, message, severity, key))

    def _problem(self, path: Path, message: str, severity: str, key: bool) -> tuple[int, Problem]:
        """The problem, and where it stands in the document, for sorting."""
        spelled = self._walk(path)[0]
        offsets = self._document.offset_of_key if key and path else self._document.offset_of_value
        offset = offsets.get(spelled)
        while offset is None and spelled:  # what is missing is missing in the object around it
            spelled = spelled[:-1]
            offset = self._document.offset_of_value.get(spelled)
        line, column = (0, 0) if offset is None else self._document.line_and_column(offset)
        return offset or 0, Problem(self._document.name, line, column, render(path), message, severity)

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


def split(text: str, value: Any, begin: Path = ()) -> tuple[Path, str]:
    """The path that `text` begins with, down from `value`, which is found at `begin`; and the message behind it.

    An entry of a list may be named by its number or by its `Name`. Names may hold anything, dots and colons too: of
    those that fit the longest counts.
    """
    path, at = begin, 0
    while (found := _step(text, at, value)) is not None:
        step, at = found
        path, value = (*path, step), value[step]
    rest = (_REST if at else _FIELD).match(text, at)
    if rest is not None:
        at = rest.end()
        path = (*path, *(int(number) if number else name for name, number in _PARTS.findall(rest[0])))
    return path, text[at:].lstrip(": ") if at else text


def _step(text: str, at: int, value: Any) -> tuple[Any, int] | None:
    """The key or index of `value` that is named at `at`, and where that name ends."""
    if isinstance(value, list | tuple):
        number = _NUMBER.match(text, at)
        if number and int(number[1]) < len(value):
            return int(number[1]), number.end()
        names = {_name(entry): place for place, entry in reversed(list(enumerate(value)))}
    elif isinstance(value, dict):
        names = {key: key for key in value if isinstance(key, str)}
    else:
        return None
    if at and text[at : at + 1] != ".":
        return None
    begin = at + 1 if at else 0
    rest = text[begin:].casefold()
    fit = [name for name in names if name and rest.startswith(name.casefold()) and _ends(rest, len(name))]
    if not fit:
        return None
    name = max(fit, key=lambda one: (len(one), text.startswith(one, begin)))
    return names[name], begin + len(name)


def _ends(text: str, at: int) -> bool:
    """Whether a name may end at `at`."""
    return text[at : at + 1] in ("", ".", "[", ":", " ")


def _name(entry: Any) -> str:
    """The `Name` of an entry of a list."""
    key = match_key(entry, "Name") if isinstance(entry, dict) else None
    name = entry[key] if key is not None else ""
    return name if isinstance(name, str) else ""
