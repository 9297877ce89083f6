"""The peers over HTTP: FastAPI in its shortest form, for `uvicorn --factory bench.peers.app:create`.

The body is read and written by orjson, no model validates it, and the answer is computed on the event loop: a thread
would cost a hand-over and win nothing on one core. PEERS_DATA names the folder of `bench.peers.data`, PEERS_STACK which
stack it is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
from fastapi import FastAPI, Request, Response

from bench.peers.stack import stack_of


def create() -> FastAPI:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    stack = stack_of(os.environ["PEERS_STACK"], Path(os.environ["PEERS_DATA"]), say)
    app = FastAPI(openapi_url=None)

    @app.post("/api/rec/feed")
    async def feed(request: Request) -> Response:
        answer = stack.recommend(orjson.loads(await request.body()))
        return Response(orjson.dumps(answer), media_type="application/json")

    @app.get("/readyz")
    async def ready() -> Response:
        return Response(b"ready")

    return app
