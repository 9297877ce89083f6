"""The slow twin of `core.expand`: the rows of a record in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pairec_fast.expression.convert import to_float
from pairec_fast.messages import go_json

TEXTS = ("raw_features", "generate_features", "context_features")
DEPTH_MAX = 1000


class Record(msgspec.Struct, array_like=True):
    """The fields of `callback.Record` that rows are made of."""

    scene: str
    request_id: str
    request_time: int
    uid: str
    features: dict[str, Any]
    request_info: dict[str, Any]
    items: list[dict[str, Any]]
    experiment_id: str = ""
    fingerprint: str = ""
    positions: list[int] = []


_decode = msgspec.msgpack.Decoder(Record).decode
_encode = msgspec.json.Encoder().encode


def expand(payload: bytes) -> list[bytes]:
    """Raises ValueError for what is no record."""
    try:
        gap = payload[:1] >= b"\x80" and payload[:1] < b"\x90"
        if isinstance(values := None if gap else msgspec.msgpack.decode(payload, type=list), list) and len(values) == 2:
            return ready_rows(payload)
        return [_encode(row) for row in ([gap_row(payload)] if gap else rows(payload))]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def ready_rows(payload: bytes) -> list[bytes]:
    _, rows = msgspec.msgpack.decode(payload, type=tuple[str, list[str]])
    if not rows or not all(len(row) > 1 and row[0] == "{" and row[-1] == "}" for row in rows):
        raise ValueError("no rows")
    return [row.encode() for row in rows]


def gap_row(payload: bytes) -> dict[str, Any]:
    gap = msgspec.msgpack.decode(payload, type=dict[str, int | str])
    if not gap:
        raise ValueError("empty")
    return {"module": "gap", **gap}


def rows(payload: bytes) -> Iterator[dict[str, Any]]:
    record = _decode(payload)
    shared = {
        "request_id": record.request_id,
        "scene": record.scene,
        "request_time": record.request_time,
        "user_id": record.uid,
    }
    given = {name: value for name, value in record.features.items() if value != ""} | {"uid": record.uid}
    features = {
        name: to_float(value, value) if isinstance(value, str) else value
        for name, value in given.items()
        if name != "type"
    }
    yield {
        **shared,
        "user_features": text(features),
        "request_info": text(record.request_info),
        "module": "user",
        **{name: value for name in ("experiment_id", "fingerprint") if (value := getattr(record, name))},
    }
    for place, item in enumerate(record.items):
        properties = {key: value for key, value in item.items() if key != "item_id"}
        texts = {name: properties.pop(name, "") for name in TEXTS}
        if not isinstance(item["item_id"], str):
            raise TypeError("item_id")
        yield {
            **shared,
            "module": "item",
            "item_id": item["item_id"],
            **{name: value if isinstance(value, str) else "" for name, value in texts.items()},
            "item_features": text(properties),
            **({"position": record.positions[place]} if place < len(record.positions) else {}),
        }


def text(value: Any) -> str:
    return go_json(value) if is_json(value) else ""


def is_json(value: Any, depth: int = DEPTH_MAX) -> bool:
    """Whether JSON has all of it; of NaN and infinities `go_json` takes care."""
    if isinstance(value, dict):
        inner = all(isinstance(key, str) and is_json(part, depth - 1) for key, part in value.items())
        return depth > 0 and inner
    if isinstance(value, list):
        return depth > 0 and all(is_json(part, depth - 1) for part in value)
    return value is None or isinstance(value, bool | int | float | str)
