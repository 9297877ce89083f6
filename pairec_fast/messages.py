"""The JSON contract: what requests may say, and PAI-Rec's answers to those that cannot be used.

Go's reading rules hold: keys match without regard to case, an exact match preferred; null is the zero value; unknown
keys are ignored; of a key given twice the last counts. A body with exact keys takes one pass.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from pairec_fast.errors import RequestError


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/rec/feed`, `/api/recommend` and `/api/recall`. *Source*: PAI-Rec (PAIREC 1.4, 1.7, 1.8)."""

    uid: str = ""
    scene_id: str = ""
    size: int = 0
    request_id: str = ""
    category: str = ""
    features: dict[str, Any] = {}
    complex_type_features: list[Any] = []
    item_id: str = ""
    item_list: list[dict[str, Any]] = []
    debug: bool = False


class CallbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/callback`. *Source*: PAI-Rec (PAIREC 1.6)."""

    uid: str = ""
    request_id: str = ""
    scene_id: str = ""
    item_list: list[dict[str, Any]] = []
    features: dict[str, Any] = {}
    complex_type_features: list[Any] = []
    request_info: dict[str, Any] = {}
    debug: bool = False


Request = TypeVar("Request", RecommendRequest, CallbackRequest)

_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (RecommendRequest, CallbackRequest)
}
_GO_NAME = {RecommendRequest: "RecommendParam", CallbackRequest: "CallBackParam"}


def decode(body: bytes, kind: type[Request]) -> Request:
    """The request in `body`.

    Raises:
        RequestError: empty, not JSON, not an object, or a field of the wrong type; the message is PAI-Rec's.
    """
    if not body:
        raise RequestError("request body empty")
    try:
        return _DECODERS[kind].decode(body)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _decode_as_go(body, kind)


def request_of(value: Request | dict[str, Any], kind: type[Request]) -> Request:
    """`value` itself, or a request made of a dict.

    Raises:
        RequestError: a field of the wrong type, or an integer beyond 64 bits.
    """
    if isinstance(value, kind):
        return value
    try:
        return decode(msgspec.json.encode(value), kind)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"not a request: {error}") from error


def _decode_as_go(body: bytes, kind: type[Request]) -> Request:
    """The slow way: for keys of another case, nulls, unknown keys, and everything that is wrong."""
    value = _parse(body)
    go = _GO_NAME[kind]
    if value is None:
        return kind()
    if not isinstance(value, dict):
        raise RequestError(f"json: cannot unmarshal {_go_kind(value)} into Go value of type web.{go}")
    types = {field.name: _go_type(field.type) for field in msgspec.structs.fields(kind)}
    fields: dict[str, Any] = {}
    for key, given in value.items():
        name = key if key in types else key.lower()
        if name in types and given is not None and (name not in value or key == name):
            fields[name] = _checked(given, types[name], f"{go}.{name}")
    return kind(**fields)


def _checked(value: Any, go: str, where: str) -> Any:
    fits = {
        "string": isinstance(value, str),
        "int": isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63,
        "bool": isinstance(value, bool),
        "map[string]interface {}": isinstance(value, dict),
        "[]interface {}": isinstance(value, list),
        "[]map[string]interface {}": isinstance(value, list),
    }
    if not fits[go]:
        what = f"number {value}" if go == "int" and _go_kind(value) == "number" else _go_kind(value)
        raise RequestError(f"json: cannot unmarshal {what} into Go struct field {where} of type {go}")
    if go == "[]map[string]interface {}":
        for entry in value:
            if entry is not None and not isinstance(entry, dict):
                raise RequestError(
                    f"json: cannot unmarshal {_go_kind(entry)} into Go struct field {where} of type "
                    "map[string]interface {}"
                )
        return [entry or {} for entry in value]
    return value


def _go_type(kind: Any) -> str:
    simple = {str: "string", int: "int", bool: "bool", list[Any]: "[]interface {}"}
    if kind in simple:
        return simple[kind]
    return "[]map[string]interface {}" if kind == list[dict[str, Any]] else "map[string]interface {}"


def _go_kind(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "bool"), (int, "number"), (float, "number"), (str, "string"), (list, "array"), (dict, "object")
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _parse(body: bytes) -> Any:
    text = body.decode("utf-8", "replace")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise RequestError("exceeded max depth") from None
    except msgspec.MsgspecError as error:
        raise RequestError(_syntax(text, str(error))) from None


def _syntax(text: str, otherwise: str) -> str:
    """Go's words for what is wrong with `text`."""
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        at = error.pos
        if error.msg.startswith("Unterminated string") or not text[at:].strip():
            return "unexpected end of JSON input"
        while text[at].isspace():
            at += 1
        place = "after top-level value" if error.msg == "Extra data" else "looking for beginning of value"
        return f"invalid character '{text[at]}' {place}"
    except (ValueError, RecursionError):
        pass
    return f"invalid JSON: {otherwise}"


def _refuse(constant: str) -> None:
    raise ValueError(f"invalid character '{constant[0]}' looking for beginning of value")


def error_answer(error: RequestError) -> bytes:
    """The body that says so."""
    return msgspec.json.encode({"code": error.code, "msg": str(error), "request_id": error.request_id})


def answer(code: int, msg: str, request_id: str) -> bytes:
    return msgspec.json.encode({"code": code, "msg": msg, "request_id": request_id})


def go_json(value: Any) -> str:
    """`value` as Go's encoder writes it: no blanks, sorted keys, whole doubles without a point, `<>&` escaped.

    "" when a number in it is NaN or infinite. *Source*: PAIREC 0.2.
    """
    try:
        return _go_json(value)
    except OverflowError:
        return ""


_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPE = str.maketrans(_ESCAPES)


def _go_json(value: Any) -> str:
    if isinstance(value, str):
        return msgspec.json.encode(value.encode("utf-8", "replace").decode()).decode().translate(_ESCAPE)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, dict):
        # Go sorts by bytes; UTF-8 keeps code point order, so Python's order is the same.
        return "{" + ",".join(f"{_go_json(str(key))}:{_go_json(value[key])}" for key in sorted(value)) + "}"
    return "[" + ",".join(map(_go_json, value)) + "]"


def go_float(value: float) -> str:
    """Shortest digits that read back the same; plain from 1e-6 to below 1e21, else with an exponent.

    Raises:
        OverflowError: NaN or infinite.
    """
    if value - value != 0:
        raise OverflowError(f"{value} is not a JSON number")
    text = repr(value)
    size = abs(value)
    if size == 0 or 1e-6 <= size < 1e21:
        return format(Decimal(text), "f").removesuffix(".0")
    digits, _, exponent = text.partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"
