"""The operator's own SQL with PAI-Rec's placeholders, which become parameters: what a user sends is never SQL.

*Source*: PAIREC.md 4.5: `${time}`, `${user.x}`, `${context.features.x}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_string

_TEXT = re.compile(r"'(?:[^']|'')*'")
_PLACE = re.compile(r"\$\{([^}]*)\}")


class Clause:
    """`sql` with `%s` where a placeholder is, also inside of quotes; `names` of these in order.

    Raises:
        ConfigError: a placeholder that PAI-Rec does not have.
    """

    def __init__(self, text: str, where: str) -> None:
        self.names: list[str] = []
        pieces, at = [], 0
        for quoted in _TEXT.finditer(text):
            pieces += [self._plain(text[at : quoted.start()]), self._quoted(quoted[0])]
            at = quoted.end()
        self.sql = "".join([*pieces, self._plain(text[at:])])
        for name in self.names:
            if name != "time" and not name.startswith(("user.", "context.features.")):
                known = "${time}, ${user.NAME} and ${context.features.NAME}"
                raise ConfigError(f'{where}: unknown placeholder "${{{name:.100}}}"; known are {known}')

    @property
    def asks_user(self) -> bool:
        """Whether what it says depends on who asks."""
        return any(name != "time" for name in self.names)

    def args(self, time: Any, user: Mapping[str, Any], context: Mapping[str, Any]) -> Sequence[Any]:
        """A value for each `%s`; a feature that is missing or no text is an empty text."""
        return [time if name == "time" else _value(name, user, context) for name in self.names]

    def _plain(self, text: str) -> str:
        pieces = _PLACE.split(text)
        self.names += pieces[1::2]
        return "%s".join(piece.replace("%", "%%") for piece in pieces[::2])

    def _quoted(self, text: str) -> str:
        """A text in quotes as a parameter, or as texts and parameters one behind the other."""
        pieces = _PLACE.split(text[1:-1])
        if len(pieces) == 1:
            return text.replace("%", "%%")
        self.names += pieces[1::2]
        if len(pieces) == 3 and not pieces[0] and not pieces[2]:
            return "%s"
        fixed = [f"'{piece}'".replace("%", "%%") for piece in pieces[::2]]
        return "(" + " || %s::text || ".join(fixed) + ")"


def _value(name: str, user: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    if name.startswith("user."):
        return to_string(user.get(name.removeprefix("user.")), "")
    return to_string(context.get(name.removeprefix("context.features.")), "")
