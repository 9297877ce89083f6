"""What the features of a request become: suites callback_features and complex_type_features."""

from __future__ import annotations

from typing import Any

from pairec_fast.messages import CallbackRequest, decode
from pairec_fast.query import feature_type, merged_features


def run_callback_features(given: dict[str, Any]) -> dict[str, Any]:
    """Through the decoder of `/api/callback`."""
    body = '{"uid":"u","request_id":"r","scene_id":"s","item_list":[{"item_id":"a"}],"features":%s}'
    features = decode((body % given["features_json"]).encode(), CallbackRequest).features
    value = features[given["key"]]
    return {"type": type_of(value), "value": value}


def type_of(value: Any) -> str:
    """PAI-Rec's type of a feature of a callback; the kinds of lists and objects it makes differ in what they hold."""
    if isinstance(value, list):
        if value and all(isinstance(part, str) for part in value):
            return "list<string>"
        return "list<list<string>>" if value and all(isinstance(part, list) for part in value) else "list<any>"
    if isinstance(value, dict):
        if any(isinstance(part, dict) for part in value.values()):
            return "map<string,any>"
        lists = any(isinstance(part, list) for part in value.values())
        return "map<string,list<string>>" if lists else "map<string,string>"
    return {str: "string", bool: "bool", int: "int", float: "float64"}.get(type(value), "nil")


def run_complex_type_features(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The feature asked for, or which are there and which are not."""
    typed = given["complex_type_features"]
    merged = merged_features(given.get("features", {}), typed)
    if "feature" in expected:
        kind = next(entry["type"] for entry in reversed(typed) if entry["name"] == expected["feature"])
        value = merged[expected["feature"]]
        if isinstance(value, dict):  # JSON has no other keys than texts
            value = {str(key): part for key, part in value.items()}
        return {"feature": expected["feature"], "type": feature_type(kind) or type_of(value), "value": value}
    shown = {}
    if "absent" in expected:
        shown["absent"] = [name for name in expected["absent"] if name not in merged]
    if "present" in expected:
        shown["present"] = merged
    return shown
