"""Which group a user belongs to, as text: what hot lists by group are found by.

*Source*: PAIREC.md 4.3.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pairec_fast.expression.convert import to_int, to_string, to_string_array

SEVERAL = "\x1e"  # between the values of a list
LOOKUPS_MAX = 1000  # combinations that are looked up: lists come with the request, and their lengths multiply


class Trigger(msgspec.Struct, frozen=True, rename="pascal"):
    """A feature of the user. `default_value` stands for one that is missing or no text, `NULL` if it is empty.

    `boundaries`, ascending: the feature counts as an integer, and the text says between which two it lies.
    """

    trigger_key: str
    default_value: str = ""
    boundaries: tuple[int, ...] = ()

    def text(self, features: Mapping[str, Any]) -> str:
        """The group of a user of these `features` by this one; several with U+001E between them for a list."""
        return self.text_of(features.get(self.trigger_key))

    def text_of(self, value: Any) -> str:
        """As `text`, of the value of the feature."""
        missing = self.default_value or "NULL"
        if value is None:
            return missing
        if self.boundaries:
            return self._between(to_int(value, 0))
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            return SEVERAL.join(to_string_array(value)) or missing
        return to_string(value, missing)

    def _between(self, value: int) -> str:
        if value <= self.boundaries[0]:
            return f"<={self.boundaries[0]}"
        for low, high in itertools.pairwise(self.boundaries):
            if value <= high:
                return f"{low}-{high}"
        return f">{self.boundaries[-1]}"


def trigger_id(triggers: Iterable[Trigger], features: Mapping[str, Any]) -> str:
    """The texts of all triggers with `_` between them."""
    return "_".join(trigger.text(features) for trigger in triggers)


def lookup_ids(trigger: str) -> list[str]:
    """The groups to look up: where lists are in `trigger`, each combination of their values, the first slowest.

    As in PAI-Rec, values that hold a `_` come apart at it when there is a list. At most `LOOKUPS_MAX`.
    """
    if SEVERAL not in trigger:
        return [trigger]
    parts = (part.split(SEVERAL) for part in trigger.split("_"))
    return ["_".join(values) for values in itertools.islice(itertools.product(*parts), LOOKUPS_MAX)]
