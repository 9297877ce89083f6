"""The JSON contract: what requests may say, and PAI-Rec's answers to those that cannot be used.

Go's reading rules hold: keys match without regard to case, an exact match preferred; null is the zero value; unknown
keys are ignored; of a key given twice the last counts. A body with exact keys takes one pass.
"""

from __future__ import annotations

import contextlib
import json
import re
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec

from pairec_fast.errors import RequestError

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/rec/feed`, `/api/recommend` and `/api/recall`. *Source*: PAI-Rec (PAIREC 1.4, 1.7, 1.8)."""

    uid: str = ""
    scene_id: str = ""
    size: Int64 = 0
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


class BareRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/recommend` and `/api/recall`. *Source*: PAI-Rec (PAIREC 1.7, 1.8)."""

    uid: str = ""
    scene_id: str = ""
    size: Int64 = 0
    category: str = ""
    features: dict[str, Any] = {}
    debug: bool = False


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/embedding`. *Source*: PAI-Rec (PAIREC 1.9)."""

    uid: str = ""
    scene_id: str = ""
    request_id: str = ""
    item_id: str = ""
    debug: bool = False
    user_features: dict[str, Any] = {}
    user_complex_type_features: list[Any] = []
    item_features: dict[str, Any] = {}
    item_complex_type_features: list[Any] = []


class FeatureReplyRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Of `/api/feature_reply`: `items` is to be read as a `ReplyData`. *Source*: PAI-Rec (PAIREC 1.10)."""

    datasource: dict[str, Any] = {}
    items: dict[str, Any] = {}


class ReplyData(msgspec.Struct, forbid_unknown_fields=True):
    """A logged request, to be replayed."""

    scene: str = ""
    request_id: str = ""
    user_id: str = ""
    user_features: str = ""
    item_ids: list[str] = []
    item_features: list[str] = []


Request = TypeVar(
    "Request", RecommendRequest, CallbackRequest, BareRequest, EmbeddingRequest, FeatureReplyRequest, ReplyData
)

_GO_NAME = {
    RecommendRequest: "RecommendParam",
    BareRequest: "RecommendParam",
    CallbackRequest: "CallBackParam",
    EmbeddingRequest: "EmbeddingParam",
    FeatureReplyRequest: "FeatureReplyParam",
    ReplyData: "FeatureReplyData",
}
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in _GO_NAME}


def decode(body: bytes, kind: type[Request]) -> Request:
    """The request in `body`.

    Raises:
        RequestError: empty, not JSON, not an object, or a field of the wrong type; the message is PAI-Rec's.
    """
    if not body:
        raise RequestError("request body empty")
    try:
        request: Request = _DECODERS[kind].decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        request = _decode_as_go(body, kind)
    # Beyond a double Go refuses a number. With a point or an exponent msgspec does so too; an integer may be any size.
    if len(body) >= _DIGITS_MAX and b"0" * _DIGITS_MAX in body.translate(_DIGITS):
        try:
            _refuse_beyond_double(msgspec.structs.asdict(request))
        except OverflowError:
            raise RequestError("invalid JSON: number out of range") from None
        except RecursionError:
            raise RequestError("exceeded max depth") from None
    if isinstance(request, CallbackRequest):
        request.features = with_texts(_as_written(body, request.features))
    return request


_DIGITS_MAX = 309  # of the largest double
_DIGITS = bytes(ord("0") if 48 <= byte < 58 else 32 for byte in range(256))


def _refuse_beyond_double(value: Any) -> None:
    """Raises OverflowError."""
    if isinstance(value, int):
        float(value)  # rounded as Go rounds it: the largest double is not the largest integer that has one
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_beyond_double(part)


def with_texts(features: dict[str, Any]) -> dict[str, Any]:
    """Features of an explicit callback as PAI-Rec keeps them: what lists and flat objects hold is text.

    A list in which a bool, null or object, or a scalar after a list is found stays as it is. *Source*: PAIREC 1.6.

    Raises:
        RequestError: nested too deep.
    """
    try:
        return {name: _with_texts(value) for name, value in features.items()}
    except RecursionError:
        raise RequestError("exceeded max depth") from None


class _Number(str):
    """A number as its sender wrote it: `1.50` in a list stays that text."""


def _as_written(body: bytes, features: dict[str, Any]) -> dict[str, Any]:
    """`features`, in which lists and objects hold their numbers as `body` spells them."""
    if not any(isinstance(value, list | dict) for value in features.values()):
        return features
    try:
        fields = _RAW.decode(body)
        place = (
            "features" if "features" in fields else next(key for key in reversed(fields) if key.lower() == "features")
        )
        raw = _RAW.decode(fields[place])
        return {
            name: json.loads(bytes(raw[name]), parse_int=_Number, parse_float=_Number)
            if isinstance(value, list | dict) and name in raw
            else value
            for name, value in features.items()
        }
    except (msgspec.MsgspecError, ValueError, StopIteration):  # half a surrogate pair, that Go reads as U+FFFD
        return features
    except RecursionError:
        raise RequestError("exceeded max depth") from None


_encode = msgspec.json.Encoder().encode
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _with_texts(value: Any) -> Any:
    if isinstance(value, list):
        return _list_with_texts(value)
    if not isinstance(value, dict):
        return _plain(value)
    if any(isinstance(part, dict) for part in value.values()):
        return with_texts(value)
    if any(isinstance(part, list) for part in value.values()):
        return {name: _as_list(part) for name, part in value.items()}
    return {name: _text(part) for name, part in value.items()}


def _list_with_texts(value: list[Any]) -> list[Any]:
    kind = _kind_of(value)
    if kind == "lists":  # scalars in front of the first list are lost, as in PAI-Rec
        return [[_text(inner) for inner in part] for part in value if isinstance(part, list)]
    return [_text(part) for part in value] if kind == "scalars" else _plain(value)


def _kind_of(value: list[Any]) -> str:
    nested = False
    for part in value:
        if isinstance(part, list):
            nested = True
        elif nested or isinstance(part, bool) or not isinstance(part, str | int | float):
            return "mixed"
    return "lists" if nested else "scalars"


def _as_list(value: Any) -> list[str]:
    """An entry of an object that has lists: a list of texts, whatever it is."""
    if isinstance(value, list) and _kind_of(value) != "lists":
        return [_text(part) for part in value]
    return [_text(value)]


def _text(value: Any) -> str:
    """As Go's `%v` prints it, but numbers as they were written."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return "[" + " ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(value[key])}" for key in sorted(value)) + "]"
    return "<nil>" if value is None else go_json(value)


def _plain(value: Any) -> Any:
    """A value that is no text: an integer of 64 bits or a double."""
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, _Number):
        value = float(value) if any(letter in value for letter in ".eE") else int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        with contextlib.suppress(OverflowError):  # no JSON has it; what cannot be logged is refused there
            return float(value)
    return value


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
    return inner(value, kind)


def inner(value: dict[str, Any], kind: type[Request]) -> Request:
    """An object of a body as a `kind`, by Go's rules.

    Raises:
        RequestError: a field of the wrong type.
    """
    go = _GO_NAME[kind]
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
        "[]string": isinstance(value, list),
    }
    if not fits[go]:
        what = f"number {value}" if go == "int" and _go_kind(value) == "number" else _go_kind(value)
        raise RequestError(f"json: cannot unmarshal {what} into Go struct field {where} of type {go}")
    if go == "[]string":
        for entry in value:
            if entry is not None and not isinstance(entry, str):
                raise RequestError(
                    f"json: cannot unmarshal {_go_kind(entry)} into Go struct field {where} of type string"
                )
        return [entry or "" for entry in value]
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
    simple = {str: "string", Int64: "int", bool: "bool", list[Any]: "[]interface {}", list[str]: "[]string"}
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
    if "\\u" in text:
        text = _ESCAPED.sub(_paired, text)
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise RequestError("exceeded max depth") from None
    except msgspec.MsgspecError as error:
        raise RequestError(_syntax(text, str(error))) from None


# One escape of a JSON text; of a surrogate, its pair.
_ESCAPED = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2}\\ud[c-f])?(d[89a-f][0-9a-f]{2})?|.)", re.IGNORECASE | re.DOTALL)


def _paired(escape: re.Match[str]) -> str:
    """The escape as it is, but a lone half of a surrogate pair as U+FFFD: what Go reads."""
    return "\\ufffd" if escape[2] and not escape[1] else escape[0]


_PLACES = {  # the JSON library's words, and Go's
    "Extra data": "after top-level value",
    "Expecting property name": "looking for beginning of object key string",
    "Expecting ':'": "after object key",
    "Expecting ','": "after a value",
    "Invalid control character": "in string literal",
    "Invalid \\": "in string escape code",
}


def _syntax(text: str, otherwise: str) -> str:
    """Go's words for what is wrong with `text`."""
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        at = error.pos
        if error.msg.startswith("Unterminated string") or not text[at:].strip():
            return "unexpected end of JSON input"
        while text[at].isspace() and not error.msg.startswith("Invalid"):
            at += 1
        places = (place for words, place in _PLACES.items() if error.msg.startswith(words))
        return f"invalid character '{_quoted(text[at])}' {next(places, 'looking for beginning of value')}"
    except (ValueError, RecursionError):
        pass
    return f"invalid JSON: {otherwise}"


def _quoted(character: str) -> str:
    if character == "'" or not character.isprintable():
        return "\\'" if character == "'" else character.encode("unicode_escape").decode()
    return character


def _refuse(constant: str) -> None:
    raise RequestError(f"invalid character '{constant.lstrip('-')[0]}' looking for beginning of value")


def error_answer(error: RequestError) -> bytes:
    """The body that says so."""
    return msgspec.json.encode({"code": error.code, "msg": str(error), "request_id": error.request_id})


def answer(code: int, msg: str, request_id: str) -> bytes:
    return _encode({"code": code, "msg": msg, "request_id": request_id})


def go_json(value: Any) -> str:
    """`value` as Go's encoder writes it: no blanks, sorted keys, whole doubles without a point, `<>&` escaped.

    "" when a number in it is NaN or infinite, or when it is nested too deep. *Source*: PAIREC 0.2.
    """
    try:
        return _go_json(value)
    except (OverflowError, RecursionError):
        return ""


_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPE = str.maketrans(_ESCAPES)


def _go_json(value: Any) -> str:
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().translate(_ESCAPE)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return go_float(value)
    if isinstance(value, dict):
        # Go sorts texts by bytes; UTF-8 keeps code point order, so Python's order is the same.
        texts = {str(key): part for key, part in value.items()}
        return "{" + ",".join(f"{_go_json(key)}:{_go_json(texts[key])}" for key in sorted(texts)) + "}"
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
