"""The parameters that experiments set: what PAI-Rec calls the merged layer params, with its typed reads."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pairec_fast.expression import convert


class Params(Mapping[str, Any]):
    """Parameters by name, never changed; requests of one variant share one object, so what it holds is read only.

    A missing name and a value of the wrong type give the caller's default. Numbers in text are converted.
    Source: PAIREC.md 10.4.
    """

    __slots__ = ("__dict__", "_values")

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Params({self._values!r})"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, Params) else self._values == other

    def __hash__(self) -> int:
        return hash(self.key)

    @functools.cached_property
    def key(self) -> str:
        """The parameters as JSON with sorted keys: equal for equal parameters, so a scene is bound once for each."""
        return msgspec.json.encode(self._values, order="deterministic").decode()

    def get_string(self, name: str, default: str = "") -> str:
        """Text as it is, a number truncated to an integer."""
        value = self._values.get(name)
        if isinstance(value, str):
            return value
        return str(convert.to_int(value, 0)) if _is_number(value) else default

    def get_int(self, name: str, default: int = 0) -> int:
        """A number truncated toward zero, or text that is a plain signed decimal."""
        return convert.to_int(self._values.get(name), default)

    def get_float(self, name: str, default: float = 0.0) -> float:
        """A number, or text of Go's grammar of floats."""
        return convert.to_float(self._values.get(name), default)

    def get_bool(self, name: str, default: bool = False) -> bool:
        """A boolean; of texts `true`, `t` and `on` in any case are true, all others false. Numbers are no booleans:
        all of JSON's are doubles in PAI-Rec, which converts integers alone."""
        value = self._values.get(name)
        if isinstance(value, str):
            return value.lower() in ("true", "t", "on")
        return value if isinstance(value, bool) else default

    def get_list(self, name: str, default: list[Any] | None = None) -> list[Any] | None:
        value = self._values.get(name)
        return value if isinstance(value, list) else default

    def get_object(self, name: str, default: dict[str, Any] | None = None) -> dict[str, Any] | None:
        value = self._values.get(name)
        return value if isinstance(value, dict) else default

    def get_names(self, name: str) -> list[str] | None:
        """The texts of a list, other elements left out; None if there is no list. For RecallNames and the like."""
        value = self._values.get(name)
        return [one for one in value if isinstance(one, str)] if isinstance(value, list) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> int | float:
    """A number with a point or an exponent: whole ones become integers, as they do on PAI-Rec's way through JSON."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large for float64")
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


_decoder = msgspec.json.Decoder(float_hook=_number)


def read_object(text: str) -> dict[str, Any]:
    """A configuration text: a JSON object; blank text and null are none. Raises ValueError: anything else."""
    if not text.strip():
        return {}
    try:
        value = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"expected a JSON object as text, got {text[:60]!r}: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object as text, got {text[:60]!r}")
    return value
