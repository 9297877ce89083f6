"""What stores hold under keys, read: a user's as values, candidates' as columns. Source: PAIREC.md 8.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from pairec_fast.core.columns import columns_of, read_objects, read_pairs
from pairec_fast.expression import Column

Values = Mapping[str, Any]

EXACT = 2**53  # beyond it not every integer is a double


class Read(NamedTuple):
    """Columns [n] of what stands under n keys, of so many `names`; of a key, by its place, why it cannot be read."""

    columns: dict[str, Column]
    names: int
    unsure: dict[int, str]


class Reader(Protocol):
    """Reads what a store's client gives."""

    def values(self, raw: Any) -> Values:
        """What stands under the key of a user. Raises ValueError: it cannot be read."""
        ...

    def columns(self, raws: list[Any], most: int) -> Read:
        """What stands under the keys of candidates, None where nothing does: of the first `most` names."""
        ...


class Texts:
    """Reads texts: JSON objects, or pairs with `delimiter` between, a comma if it is empty."""

    def __init__(self, *, is_json: bool, delimiter: str) -> None:
        self._json, self._delimiter = is_json, delimiter or ","

    def values(self, raw: Any) -> Values:
        try:
            return from_json(raw) if self._json else user_csv(raw, self._delimiter)
        except OverflowError as error:
            raise ValueError(str(error)) from None

    def columns(self, raws: list[Any], most: int) -> Read:
        if not self._json:
            return Read(*read_pairs(raws, self._delimiter, most), {})
        columns, names, odd = read_objects(raws, most)
        unsure: dict[int, str] = {}
        for row in odd:
            try:
                self.values(raws[row])
            except ValueError as error:
                unsure[row] = str(error)
        if len(unsure) < len(odd):  # one is not ordinary, but right: all of them the long way
            known = [dict(self.values(text)) if text and at not in unsure else None for at, text in enumerate(raws)]
            columns, names = columns_of(known, most)
        return Read(columns, names, unsure)


class Rows:
    """Reads what comes as values by name; with `null_deletes` None is no value."""

    def __init__(self, *, null_deletes: bool = False) -> None:
        self._nulls = not null_deletes

    def values(self, raw: Any) -> Values:
        values: Values = raw
        return values

    def columns(self, raws: list[Any], most: int) -> Read:
        return Read(*columns_of(raws, most, nulls=self._nulls), {})


def user_csv(text: str, delimiter: str) -> dict[str, Any]:
    """`a:1,b:x`, each pair parted at its first colon, and a name before it; all values stay text."""
    pairs = (pair.partition(":") for pair in text.split(delimiter))
    return {name: value for name, colon, value in pairs if name and colon}


def from_json(text: str) -> dict[str, Any]:
    """A JSON object, `null` as an empty one. Numbers are doubles, but integers that no double holds stay themselves.

    Raises:
        ValueError: anything else.
    """
    try:
        value = msgspec.json.decode(text)
        if value is None:
            return {}
        if isinstance(value, dict):
            for name, part in value.items():
                if type(part) is not float and type(part) is not str:
                    value[name] = _doubles(part)
            return value
    except RecursionError:
        raise ValueError("nested too deep") from None
    raise ValueError(f"expected a JSON object, got {text!r:.40}")


def _doubles(value: Any) -> Any:
    if type(value) is int:
        return float(value) if -EXACT <= value <= EXACT else value
    if isinstance(value, list):
        return [_doubles(part) for part in value]
    return {name: _doubles(part) for name, part in value.items()} if isinstance(value, dict) else value
