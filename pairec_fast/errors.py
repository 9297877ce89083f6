"""Everything that can go wrong, as a caller sees it. Messages name the field, the value and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong with a configuration, and where. `line` and `column` count from 1; 0 is no place.

    `severity`: "error", or "warning".
    """

    file: str
    line: int
    column: int
    path: str
    message: str
    severity: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.message) if part)


class PairecError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(PairecError):
    """The configuration cannot be used. The engine does not start; a running one keeps what it has.

    `problems` are the errors one by one, where they are known by place; the message has a line of each.
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> ConfigError:
        problems = tuple(problems)
        return cls("\n".join(map(str, problems)), problems)


class SnapshotError(PairecError):
    """A snapshot, table, index or model file is missing, altered or does not fit. As fatal as `ConfigError`."""


class RequestError(PairecError):
    """The client's fault. `code` is PAI-Rec's body code, `request_id` what the answer carries."""

    def __init__(self, message: str, *, code: int = 400, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id


class NotReadyError(PairecError):
    """The engine has no snapshot yet, or is closed."""


class OverloadedError(PairecError):
    """So many requests wait for live stores already that one more would only wait longer."""


class StoreError(PairecError):
    """A live store was late, is down, or answered with an error. A request goes on without what it asked for."""


class StoreLate(StoreError):
    """A live store did not answer within its limit."""
