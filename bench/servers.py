"""Servers to be measured, each a child on a core of its own: ours on its fronts, handlers that do next to nothing, a
protocol written by hand.

    python -m bench.servers SERVER APPLICATION PORT CPU        what `Served` starts

SERVER is http1 (as `pairec-fast serve` starts it), rsgi or asgi (Granian), uvicorn, or protocol. APPLICATION is `ours`,
of the configuration that PAIREC_CONFIG names; `ours-pooled`, with walks on threads; `ours-stood`, where a
recommendation is made beforehand, so that all that is left is what is around a walk; `json`, which decodes a body and
encodes as many items; or `empty`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast.app import App, create
from pairec_fast.callbacks import nothing
from pairec_fast.engine import Engine
from pairec_fast.errors import OverloadedError
from pairec_fast.logs import Waits, finish
from pairec_fast.messages import RecommendRequest
from pairec_fast.reply import Item, Reply
from pairec_fast.serve import granian

ROOT = Path(__file__).resolve().parent.parent
ITEMS = 20
REPLY = Reply(
    200, "success", "0" * 36, ITEMS, "", [Item(f"i{n:06d}", 0.1234567 / (n + 1), "vectors") for n in range(ITEMS)]
)
ANSWER = msgspec.json.encode(REPLY)


class Request(msgspec.Struct):
    uid: str
    scene_id: str
    size: int = 10


def decode_encode(body: bytes) -> bytes:
    """The least work with the same bytes."""
    _decode(body)
    return _encode(REPLY)


_decode, _encode = msgspec.json.Decoder(Request).decode, msgspec.json.Encoder().encode


class Bare:
    """A handler written with care: it reads a body to its length, and sends headers made beforehand."""

    def __init__(self, work: Any, answer: bytes = ANSWER) -> None:
        self.work, self.answer = work, answer
        self.text = [("content-type", "application/json")]
        self.start = {
            "type": "http.response.start", "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))],
        }  # fmt: skip

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        length = 0
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value)
        body = b""
        while len(body) < length:
            body += (await receive())["body"]
        out = self.work(body) if body else self.answer
        await send(self.start)
        await send({"type": "http.response.body", "body": out})

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        body = await protocol()
        protocol.response_bytes(200, self.text, self.work(body) if body else self.answer)


def create_json() -> Any:
    return Bare(decode_encode)


def create_empty() -> Any:
    return Bare(lambda body: ANSWER)


def create_stood() -> App:
    """The application, with a walk that takes no time."""
    app = create()
    serve = app.serve

    def stood(engine: Engine) -> None:
        def feed_waits(request: RecommendRequest, **how: bool) -> Generator[Any, None, Any]:
            return REPLY, nothing
            yield

        engine.feed_waits = feed_waits  # type: ignore[method-assign]
        serve(engine)

    app.serve = stood  # type: ignore[method-assign]
    return app


def create_pooled() -> App:
    """The application, with walks on `BENCH_THREADS` threads of their own, eight for each under way or waiting."""
    app = create()
    serve, threads = app.serve, int(os.environ["BENCH_THREADS"])
    pool, under_way = ThreadPoolExecutor(threads), set[Future[Any]]()

    def pooled(engine: Engine) -> None:
        walked = engine.feed_waits

        def feed_waits(request: RecommendRequest, **how: bool) -> Waits[Any]:
            if len(under_way) >= 8 * threads:
                raise OverloadedError("as many walks as the threads can do in time")
            walk = pool.submit(lambda: finish(walked(request, **how)))
            under_way.add(walk)
            walk.add_done_callback(under_way.discard)
            yield walk
            return walk.result()

        engine.feed_waits = feed_waits  # type: ignore[method-assign]
        serve(engine)

    app.serve = pooled  # type: ignore[method-assign]
    return app


FACTORIES = {
    "ours": "pairec_fast.app:create", "ours-stood": "bench.servers:create_stood", "json": "bench.servers:create_json",
    "empty": "bench.servers:create_empty", "ours-pooled": "bench.servers:create_pooled",
}  # fmt: skip


class Protocol(asyncio.Protocol):
    """What Python can do at the least: one write an answer, no tasks."""

    def connection_made(self, transport: Any) -> None:
        import httptools  # type: ignore[import-untyped]  # a peer of this benchmark alone

        self.transport, self.parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        out = decode_encode(self.body) if self.body else ANSWER
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(out), out)
        )


async def protocol(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port)
    await server.serve_forever()


def configured(config: Path, folder: Path, limits: dict[str, Any]) -> Path:
    """The configuration with logs and a ring of its own, and these limits."""
    conf = json.loads(config.read_text())
    conf["SnapshotConf"]["Directory"] = str(config.parent / conf["SnapshotConf"]["Directory"])
    for name, disk in conf.get("DiskConfs", {}).items():
        disk["Directory"] = str(folder / f"log-{name}")
    conf["LogRingConf"] = {"Directory": str(folder / "ring")}
    conf["LimitConf"] = conf.get("LimitConf", {}) | limits
    path = folder / "served.json"
    path.write_text(json.dumps(conf))
    return path


class Served:
    """A server that answers; leave it to end it. `pids` are its worker's, or workers'."""

    def __init__(
        self, server: str, application: str, config: Path | None = None, *, cpu: int | None = None, workers: int = 1,
        environment: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        line = [sys.executable, "-m", "bench.servers", server, application, str(self.port)]
        line += [str(-1 if cpu is None else cpu), str(workers)]
        given = os.environ | (environment or {}) | ({"PAIREC_CONFIG": str(config)} if config else {})
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(line, cwd=ROOT, env=given, start_new_session=True, stderr=self._said)
        self._wait()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        spawned = [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        self.pids = spawned or [self.process.pid]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self._said.close()

    def cpu_ns(self) -> int:
        """Processor time of all threads that live."""
        return sum(cpu_ns(pid) for pid in self.pids)

    def ask(self, path: str, body: bytes = b"{}") -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.port}{path}", body, timeout=2) as answer:
            said: bytes = answer.read()
            return said

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.ask("/readyz", b"")
                return
            except OSError:
                time.sleep(0.02)
        self._said.seek(0)
        raise RuntimeError(f"the server did not start:\n{self._said.read().decode()}")


def cpu_ns(pid: int) -> int:
    """Nanoseconds, from the scheduler's own account: /proc/PID/stat counts in ticks."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread has just ended
            continue
    return total


def memory(pid: int) -> dict[str, int]:
    """Bytes of a process by the names of /proc/PID/smaps_rollup: Rss, Pss, Private_Dirty and others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}


def asked(users: list[str], count: int = 1_000) -> list[bytes]:
    """Bodies of `/api/rec/feed`."""
    chosen = random.Random(1)
    return [
        msgspec.json.encode({"uid": chosen.choice(users), "scene_id": "home_feed", "size": ITEMS}) for _ in range(count)
    ]


def main() -> int:
    server, application, port, cpu, workers = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    if cpu >= 0:
        os.sched_setaffinity(0, {cpu})
    if server == "uvicorn":
        import uvicorn  # a peer, or a server of the user's own: not what `serve` installs

        # A line for each request is what its users switch off first.
        uvicorn.run(FACTORIES[application], factory=True, port=port, log_level="warning", access_log=False)
    elif server == "protocol":
        import uvloop

        uvloop.run(protocol(port))
    else:
        granian(FACTORIES[application], "127.0.0.1", port, workers, front=server).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
