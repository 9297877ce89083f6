"""From the document to the value that is configured: only JSON, and `${NAME}` replaced from the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from pairec_fast.config.positions import DEPTH_MAX, Path, without_surrogates
from pairec_fast.config.report import Report
from pairec_fast.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# PAI-Rec writes its own placeholders the same way: `${ctr} * 0.5` in a score, `${time}` in a where clause.
_EXPRESSIONS = {
    "rankscore",
    "scorerewrite",
    "whereclause",
    "orderby",
    "expression",
    "weightexpression",
    "filterevaluableexpression",
    "generateitemdataexpr",
    "generateuserdataexpr",
}


class Expander:
    """Copies a document, replacing `${NAME}` in text; expressions, which have placeholders of their own, stay.

    `lenient` names the top-level keys where a variable that is not set is a warning, because nothing here uses them.
    """

    def __init__(self, report: Report, environment: Mapping[str, str], lenient: frozenset[str]) -> None:
        self._report = report
        self._environment = environment
        self._lenient = lenient

    def expand(self, value: Any, path: Path = ()) -> Any:
        """`value` as fresh dicts, lists, text, numbers, booleans and None; what is none of these is reported.

        Raises:
            ConfigError: more than `DEPTH_MAX` levels.
        """
        if len(path) > DEPTH_MAX:
            # Raised at once: what contains itself would be walked again and again.
            raise ConfigError(self._report.line(path[:3], f"nested deeper than {DEPTH_MAX} levels"))
        if isinstance(value, str):
            return self._text(str(value), path)
        if isinstance(value, dict):
            return self._object(value, path)
        if isinstance(value, list | tuple):
            return [self.expand(element, (*path, position)) for position, element in enumerate(value)]
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value)  # an IntEnum of the caller's becomes a plain number
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        given = str(value) if isinstance(value, float) else f"a Python {type(value).__name__}"
        self._report.error(path, f"{given} is not JSON")
        return None

    def _object(self, value: dict[Any, Any], path: Path) -> dict[str, Any]:
        found = {}
        for key, element in value.items():
            if isinstance(key, str):
                found[without_surrogates(key)] = self.expand(element, (*path, key))
            else:
                self._report.error(path, f"keys must be text, got a Python {type(key).__name__}")
        return found

    def _text(self, text: str, path: Path) -> str:
        if "${" not in text or any(isinstance(part, str) and part.casefold() in _EXPRESSIONS for part in path):
            return without_surrogates(text)

        def replace(match: re.Match[str]) -> str:
            value = self._environment.get(match[1])
            if value is not None:
                return value
            message = f"the environment variable {match[1]} is not set"
            if isinstance(path[0], str) and path[0].casefold() in self._lenient:
                self._report.warn(path, message, key=False)
            else:
                self._report.error(path, message)
            return match[0]

        return without_surrogates(_VARIABLE.sub(replace, text))
