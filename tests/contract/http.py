"""Requests and answers on the demo world: suites http and http_encoding."""

from __future__ import annotations

import uuid
from typing import Any

from pairec_fast.app import App
from pairec_fast.compress import decoded, encoded
from tests.contract.engines import fresh_world
from tests.worlds import ask


def run_http(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The answer, in the words of what is expected."""
    with fresh_world() as world, world.engine() as engine:
        headers = given.get("headers") or {}
        answer = ask(App(engine), given["path"], given["body"].encode(), method=given["method"], headers=headers)
    said: dict[str, Any] = {"status": answer.status, "text": answer.body.decode()}
    if "json" in expected:
        said["json"] = answer.json
        del said["text"]
    if "msg_prefix" in expected:
        said["msg_prefix"] = answer.json["msg"][: len(expected["msg_prefix"])]
    if "request_id" in expected:
        said["request_id"] = expected["request_id"] if _is_uuid(answer.json["request_id"]) else "none"
    return said


def run_encoding(given: dict[str, Any]) -> dict[str, Any]:
    """A text through the codec, as a request's body is read and an answer's is written."""
    codec, plain = given["codec"].split()[0].lower(), given["text"].encode()
    return {"round_trip_equal": decoded(encoded(plain, codec), codec, len(plain)) == plain}


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4
    except ValueError:
        return False
