"""What callbacks leave: suites callback, callback_sampling, callback_record, json_encoding and datahub."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from pairec_fast.callback import Record, encode, item_features, kept_of
from pairec_fast.core import read_segments
from pairec_fast.errors import RequestError
from pairec_fast.messages import go_json
from pairec_fast.sink.disk import open_log
from tests.contract.engines import fresh_world
from tests.worlds import LOGGED

UID = "uid of no properties"


def run_callback(given: dict[str, Any]) -> dict[str, Any]:
    """Whether a callback without items, or without anything, comes into the log, and whether a model is asked."""
    asked: list[bytes] = []

    class Model(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_error(500)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    request = given.get("param")
    scene = given.get("scene") or (request or {}).get("scene_id", "test_scene")
    if "items" in given:
        request = {"uid": "u", "request_id": "r", "scene_id": scene, "item_list": given["items"]}
    try:
        with fresh_world() as world:
            world.conf["CallBackConfs"] = {scene: world.callback | given.get("CallBackConfs", {}).get(scene, {})}
            served = {
                "Url": f"http://127.0.0.1:{server.server_port}", "Processor": "EasyRec",
                "ResponseFuncName": "easyrecMutClassificationResponseFunc",
            }  # fmt: skip
            for conf in world.conf["CallBackConfs"].values():
                if "RankConf" in conf:  # what the case leaves out and a start wants
                    conf["RankConf"] = {"Processor": "EasyRec"} | conf["RankConf"]
            names = [name for conf in world.conf["CallBackConfs"].values() for name in _algorithms(conf)]
            world.conf["AlgoConfs"] += [{"Name": name, "Type": "EAS", "EasConf": served} for name in names]
            # Refused is not a crash: whoever sent it is told.
            with world.engine() as engine, contextlib.suppress(RequestError):
                engine.callback(request)  # type: ignore[arg-type]  # None is what a case sends
            return {"no_crash": True, "enqueued": bool(world.records()), "algo_called": bool(asked)}
    finally:
        server.shutdown()
        server.server_close()


def _algorithms(conf: dict[str, Any]) -> list[str]:
    return list(conf.get("RankConf", {}).get("RankAlgoList", []))


def run_sampling(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """How many are kept, and the rule if it holds for each of some requests, whose starts differ."""
    size, rate = given.get("ItemSize", 0), given.get("ItemSizeRate", 0)
    count = min(given["items"], size or given["items"])
    kept = [kept_of(given["items"], size, rate, f"request {number}") for number in range(200)]
    if len(set(map(len, kept))) != 1 or not all(_evenly_spaced(places, count) for places in kept):
        return {"kept": kept}
    thinned = 0 < rate < 100 and 1 < len(kept[0]) < count
    if thinned and len({places[0] for places in kept}) != math.ceil(count / len(kept[0])):
        return {"starts": sorted({places[0] for places in kept})}
    return {"kept": len(kept[0]), "rule": expected.get("rule")}


def _evenly_spaced(places: list[int], count: int) -> bool:
    """Is there a start in [0, step) so that place k is floor(start + k * step)?"""
    if not places:
        return count == 0
    step = count / len(places)
    low = max(place - at * step for at, place in enumerate(places))
    high = min(place + 1 - at * step for at, place in enumerate(places))
    return max(low, 0.0) < min(high, step) + 1e-9


def run_record(given: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The rows that the log holds of an explicit callback."""
    if "features" in expected:
        item = given["item"]
        entry = item_features(item.get("properties", {}), item.get("retrieve_id", ""), item.get("score", 0.0))
        _, row = _rows({"item_list": [{"item_id": item["id"]} | entry]})
        return {"features": json.loads(row["item_features"])}
    if "properties" in given:
        features = given["properties"]
        user, *_ = _rows({"features": features, "uid": features.get("uid", UID)})
        text = user["user_features"]
        if "uid" not in features:  # the record's own
            own = f'"uid":"{UID}"'
            text = text.replace(f",{own}", "").replace(f"{own},", "").replace(own, "")
        return {"user_features_text": text}
    if "item" in given:
        _, row = _rows({"item_list": [given["item"]]})
        return {"item_id": row["item_id"]}
    user, *items = _rows(given.get("request", given))
    return {"user": user, "items": items, "records": [user, *items]}


def _rows(request: dict[str, Any]) -> list[dict[str, Any]]:
    with fresh_world() as world:
        with world.engine() as engine:
            engine.callback(LOGGED | request)
        (rows,) = world.records()
        return rows


def run_json(given: dict[str, Any]) -> str:
    doubles = {key: float(given["object"][key]) for key in given.get("float_keys", [])}
    return go_json(given["object"] | doubles)


def run_round_trip(given: dict[str, Any]) -> dict[str, Any]:
    """A record through the log on disk: written, closed and read back."""
    record = Record("s", "r", 1, "u", {}, {}, [given["record"]])
    with TemporaryDirectory(prefix="contract-") as folder:
        log = open_log(
            Path(folder) / "log", Path(folder) / "ring", ring_bytes=1 << 20, segment_bytes=1 << 20, segment_seconds=60,
            sync_seconds=0.05,
        )  # fmt: skip
        taken = log.push(encode(record))
        log.close()
        (payload, *_), *others = read_segments(Path(folder) / "log")
    read = msgspec.msgpack.decode(payload, type=Record)
    return {"round_trip_equal": taken and not others and read.items == [given["record"]]}
