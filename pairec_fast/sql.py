"""Pieces of SQL from a configuration: names are checked, the rest is the operator's own."""

from __future__ import annotations

import re

from pairec_fast.errors import ConfigError

_PART = r'(?:"(?:[^"\0]|"")+"|[^\W\d][\w$]*)'
_SQL_NAME = re.compile(rf"{_PART}(?:\.{_PART})*")


def sql_name(text: str, where: str) -> str:
    """`text`, which is a name as SQL has it, parts between dots, bare or in double quotes: it may stand in a statement.

    Raises:
        ConfigError: no name; so nothing but a name ever gets into a statement.
    """
    if not _SQL_NAME.fullmatch(text):
        raise ConfigError(f"{where}: expected a name as in SQL, for example items or public.items, got {text!r:.100}")
    return text.replace("%", "%%")


def sql_text(text: str) -> str:
    """A piece of SQL from the configuration, as it stands in a statement with `%s` for its parameters."""
    return text.replace("%", "%%")
