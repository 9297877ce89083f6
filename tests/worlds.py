"""The demo world as tests see it: made once, read by all; whoever wants another configuration copies it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast import Engine
from pairec_fast.app import App
from pairec_fast.build import build
from pairec_fast.core import expand, read_segments
from pairec_fast.learn.demo import Demo
from pairec_fast.manifest import FORMAT, Manifest, TableInfo, fingerprint

ROOT = Path(__file__).resolve().parent.parent
FEED, RECOMMEND, RECALL, CALLBACK = "/api/rec/feed", "/api/recommend", "/api/recall", "/api/callback"
FIRST = {"uid": "u00042", "scene_id": "home_feed", "size": 3}
RERANK = {"uid": "u00042", "scene_id": "home_feed", "category": "rerank", "size": 2}
LOGGED = {"uid": "u00042", "scene_id": "home_feed", "request_id": "r1", "item_list": [{"item_id": "i000012"}]}

CASES = json.loads((ROOT / "tests" / "contract" / "pairec-cases.json").read_text())["cases"]


def suite(name: str) -> list[Any]:
    return [case for case in CASES if case["suite"] == name]


def make_world(directory: Path, items: int = 600) -> Path:
    """A demo world with 200 users and a model. Answers its engine.json."""
    demo = Demo("world", directory, items=items, users=200, seed=1, port=0)
    demo.make(build, lambda line: None, lambda step, done, total: None)
    return demo.config


class World:
    """A configuration of the test's own on the shared snapshot; logs and rings go into `folder`."""

    def __init__(self, engine_json: Path, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.conf: dict[str, Any] = json.loads(engine_json.read_text())
        self.conf["SnapshotConf"]["Directory"] = str(engine_json.parent / "snapshots")
        self.conf["DiskConfs"]["log"]["Directory"] = str(self.log)
        self.conf["LogRingConf"] = {"Directory": str(folder / "ring"), "RingBytes": 1 << 22}
        self.scene = self.conf["SceneConfs"]["home_feed"]
        self.scene["default"] |= {"AutoInvokeCallBack": False, "AutoInvokeCallBackRate": 0}
        self.callback = self.conf["CallBackConfs"]["home_feed"]

    def engine(self) -> Engine:
        return Engine.from_config(self.conf)

    @contextlib.contextmanager
    def no_disk(self) -> Iterator[None]:
        """The directory of segments is gone: accepted records wait in the ring. Before the first one is written."""
        aside = self.log.with_suffix(".aside")
        self.log.rename(aside)
        try:
            yield
        finally:
            if aside.exists():
                aside.rename(self.log)

    def write(self) -> Path:
        path = self.folder / "engine.json"
        path.write_text(json.dumps(self.conf))
        return path

    def records(self) -> list[list[dict[str, Any]]]:
        """What `log dump` shows, callback by callback. Close the engine first."""
        return [[json.loads(row) for row in expand(payload)] for payload, _, _ in read_segments(self.log)]


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    app: App, path: str, body: bytes | str | dict[str, Any] | list[bytes] = b"", *, method: str = "POST",
    headers: dict[str, str] | None = None, length: int | None = None, leave: bool = False, query: str = "",
) -> Answer:  # fmt: skip
    """One request as an ASGI server passes it on: a list of bytes comes in chunks, `leave` disconnects after them."""
    chunks = [body] if isinstance(body, bytes) else body
    if isinstance(chunks, str | dict):
        chunks = [(chunks if isinstance(chunks, str) else json.dumps(chunks)).encode()]
    messages = deque(
        {"type": "http.request", "body": chunk, "more_body": leave or place + 1 < len(chunks)}
        for place, chunk in enumerate(chunks)
    )
    messages.append({"type": "http.disconnect"})
    pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    if length is not None:
        pairs.append((b"content-length", str(length).encode()))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.popleft()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    asyncio.run(app(scope, receive, send))
    start, content = sent
    assert start["type"] == "http.response.start" and content["type"] == "http.response.body"
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    assert int(names["content-length"]) == len(content["body"])
    return Answer(start["status"], names, content["body"])


def environment() -> dict[str, str]:
    """For a child that must run this checkout's package."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def own_snapshots(world: World, shared: Path) -> Path:
    """Let a configuration use a copy of the shared snapshots, so that its items can change."""
    folder = world.folder / "snapshots"
    shutil.copytree(shared.parent / "snapshots", folder)
    world.conf["SnapshotConf"]["Directory"] = str(folder)
    return folder


def bare_snapshots(folder: Path, sequence: int = 0) -> Path:
    """A folder of snapshots that has a manifest and nothing else: enough for items without columns to be logged."""
    table = TableInfo(1, {})
    bare = Manifest(FORMAT, "", 0.0, {}, {}, table, table, items_sequence=sequence)
    (folder / f"s{sequence}").mkdir(parents=True)
    manifest = msgspec.structs.replace(bare, fingerprint=fingerprint(bare))
    (folder / f"s{sequence}" / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    (folder / "CURRENT").write_text(f"s{sequence}\n")
    return folder
