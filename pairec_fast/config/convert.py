"""JSON to frozen Structs by PAI-Rec's rules, collecting every error instead of stopping at the first.

msgspec's own `convert` stops at the first error, knows no places, and minds the case of keys.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from pairec_fast.config.positions import Path, quote
from pairec_fast.config.report import Report
from pairec_fast.errors import ConfigError

BAD: Any = type("Bad", (), {"__repr__": lambda self: "BAD"})()
"""Stands for a value that was reported as an error; lists keep it so that later places stay right."""

_EXPECTED = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
_OURS = {"str": "text", "int": "an integer", "float": "a number", "array": "a list", "object": "an object"}
_INT64 = range(-(2**63), 2**63)


class Converter:
    """Converts values to annotated types. A Struct class may carry these class variables:

    `untyped`: names that are PAI-Rec's but have no attribute, and their types; with a field `raw`, the whole object,
        names spelled as PAI-Rec does, is found there.
    `zero_is_default`: attributes where an explicit 0 or "" means the default, as a missing key does.
    """

    def __init__(self, report: Report) -> None:
        self._report = report

    def take(self, value: Any, kind: Any, path: Path, like: Any = None) -> Any:
        """`value` as `kind`, or `BAD` after reporting. A null list, object or Struct is an empty one, as in Go.

        What only `like` knows, the same as PAI-Rec has it, is checked against that and said not to be used here.
        """
        if get_origin(kind) is Annotated:
            bare, *rules = get_args(kind)
            return self._ruled(self.take(value, bare, path, like), bare, rules, path)
        origin = get_origin(kind) or kind
        if origin is Any or origin is object:
            return value
        if origin is Union or origin is types.UnionType:
            return self._union(value, kind, path, like)
        if _is_struct(origin):
            return self.struct(value, origin, path, like=like if _is_struct(like) else None)
        if origin is dict:
            return self._dict(value, kind, path)
        if origin in (list, tuple):
            return self._list(value, origin, kind, path, (*get_args(like), None)[0])
        if origin is Literal:
            words = [quote(word) if isinstance(word, str) else str(word) for word in get_args(kind)]
            is_one = any(value == word and type(value) is type(word) for word in get_args(kind))
            if is_one:
                return value
            hint = self._report.did_you_mean(value, filter(None, get_args(kind))) if isinstance(value, str) else ""
            return self._wrong(value, f"one of {', '.join(words)}", path, hint)
        if origin in _EXPECTED:
            return self._scalar(value, origin, path)
        return self._other(value, kind, path)

    def struct(
        self, value: Any, cls: type[msgspec.Struct], path: Path, skip: Iterable[str] = (),
        like: type[msgspec.Struct] | None = None,
    ) -> Any:  # fmt: skip
        """`value` as a `cls`. Keys in `skip` belong to the caller, though they are no fields; `like` as in `take`.

        Unknown keys are warnings, missing ones take the default. If the class refuses (`__post_init__`), its message is
        an error at the object, or at the field that it begins with.
        """
        value = {} if value is None else value
        if not isinstance(value, dict):
            return self._wrong(value, "an object", path)
        errors_before = self._report.error_count
        fields = _fields(cls)
        untyped = getattr(cls, "untyped", {})
        folded = {name.casefold() for name in (*fields, *untyped, *skip)}
        known = {} if like is None else {name: field.type for name, field in _fields(like).items()}
        others = {name: kind for name, kind in known.items() if name.casefold() not in folded}
        named = self.by_field(value, [*fields, *untyped, *skip, *others], path)
        attributes: dict[str, Any] = {}
        for name, entry in named.items():
            if name in others:
                self.take(entry, others[name], (*path, name))
                self._report.warn((*path, name), "not used here")
            elif name in untyped and entry is not None:
                self.take(entry, untyped[name], (*path, name))
            elif name in fields and not (entry is None and not _accepts_none(fields[name].type)):
                attributes[fields[name].name] = self.take(entry, fields[name].type, (*path, name), known.get(name))
        for attribute in getattr(cls, "zero_is_default", ()):
            if attribute in attributes and attributes[attribute] in (0, ""):
                del attributes[attribute]
        missing = [name for name, field in fields.items() if field.required and field.name not in attributes]
        for name in missing:
            self._report.error(path, f"{name} is missing")
        if untyped and "raw" in cls.__struct_fields__:
            attributes["raw"] = named
        if missing or (self._report.error_count > errors_before and hasattr(cls, "__post_init__")):
            return BAD
        try:
            return cls(**attributes)
        except (ValueError, TypeError, ConfigError) as error:
            self._report.refused(path, error)
            return BAD

    def by_field(self, value: dict[str, Any], names: list[str], path: Path) -> dict[str, Any]:
        """`value` with its keys spelled as in `names`; keys that match none are warned about and left out.

        Matched without regard to case. If several keys mean one field, the exact spelling counts, else the last.
        """
        folded = {name.casefold(): name for name in names}
        exact = set(names)
        spelled: dict[str, str] = {}
        for key in value:
            name = key if key in exact else folded.get(key.casefold())
            if name is None:
                hint = self._report.did_you_mean(key, names)
                self._report.warn((*path, key), f"unknown key, ignored{hint}")
                continue
            before = spelled.setdefault(name, key)
            if before != key:
                ignored = key if before == name else before
                self._report.warn((*path, ignored), f"means {name}, which is given twice; this one is ignored")
                spelled[name] = before if ignored == key else key
        return {name: value[key] for name, key in spelled.items()}

    def _dict(self, value: Any, kind: Any, path: Path) -> Any:
        value = {} if value is None else value
        if not isinstance(value, dict):
            return self._wrong(value, "an object", path)
        _, of = get_args(kind) or (str, Any)
        return {key: self.take(element, of, (*path, key)) for key, element in value.items()}

    def _list(self, value: Any, origin: type, kind: Any, path: Path, like: Any) -> Any:
        value = [] if value is None else value
        if not isinstance(value, list):
            return self._wrong(value, "a list", path)
        of = (*get_args(kind), Any)[0]
        return origin(self.take(element, of, (*path, at), like) for at, element in enumerate(value))

    def _scalar(self, value: Any, kind: type, path: Path) -> Any:
        if kind is float and type(value) is int:
            return self._in_float64(value, path)
        if type(value) is not kind:
            return self._wrong(value, _EXPECTED[kind], path)
        if kind is int and value not in _INT64:
            return self._wrong(value, "an integer of 64 bits", path)
        return value

    def _in_float64(self, value: int, path: Path) -> Any:
        try:
            return float(value)
        except OverflowError:
            self._report.error(path, "the number is too large for float64")
            return BAD

    def _union(self, value: Any, kind: Any, path: Path, like: Any) -> Any:
        others = [other for other in get_args(kind) if other is not type(None)]
        if value is None and _accepts_none(kind):
            return None
        return self.take(value, others[0], path, like) if len(others) == 1 else self._other(value, kind, path)

    def _ruled(self, value: Any, bare: Any, rules: list[Any], path: Path) -> Any:
        """`value` if it keeps the `msgspec.Meta` rules of its annotation."""
        if value is BAD:
            return BAD
        metas = tuple(rule for rule in rules if isinstance(rule, msgspec.Meta))
        try:
            for meta in metas:
                msgspec.convert(value, Annotated[type(value), meta])
        except msgspec.ValidationError as error:
            return self._wrong(value, _rule(error), path)
        except TypeError:  # the rule is for another type than the value's: `int | str` with `ge`
            pass
        return value

    def _other(self, value: Any, kind: Any, path: Path) -> Any:
        """Enumerations, unions and the rest: msgspec knows them, and they have no insides that need a place."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            return self._wrong(value, _rule(error), path)

    def _wrong(self, value: Any, expected: str, path: Path, hint: str = "") -> Any:
        given = self._report.as_given(path)
        shown = given if isinstance(value, str) and isinstance(given, str) else value
        self._report.error(path, f"expected {expected}, got {describe(shown)}{hint}")
        return BAD


def describe(value: Any) -> str:
    """A JSON value as an error shows it: scalars as written, containers by kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f"text {quote(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value not in _INT64:
        return "a larger one"
    return repr(value)


def _rule(error: msgspec.ValidationError) -> str:
    """`an integer >= 1` out of msgspec's ``Expected `int` >= 1 - at `$.x` ``; `int | str` is `an integer or text`."""
    text = str(error).split(" - at `$")[0].removeprefix("Expected ").split(", got `")[0]

    def ours(kinds: re.Match[str]) -> str:
        return " or ".join(_OURS.get(kind, kind) for kind in kinds[1].split(" | "))

    return re.sub(r"`([\w| ]+)`", ours, text, count=1)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _accepts_none(kind: Any) -> bool:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind is Any or kind is None or type(None) in get_args(kind)


@functools.cache
def _fields(cls: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """Fields by the name they have in JSON, without `raw`, which no key sets where `untyped` fills it."""
    fields = msgspec.structs.fields(cls)
    return {field.encode_name: field for field in fields if not (field.name == "raw" and hasattr(cls, "untyped"))}
