"""The routes: a body in, an answer out. Who serves them, over ASGI or otherwise, is not their business."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import msgspec

from pairec_fast.core import CallbackBody
from pairec_fast.engine import Engine
from pairec_fast.errors import NotReadyError, OverloadedError, RequestError
from pairec_fast.logs import Waits
from pairec_fast.messages import (
    BareRequest,
    CallbackRequest,
    EmbeddingRequest,
    FeatureReplyRequest,
    RecommendRequest,
    ReplyData,
    answer,
    decode,
    error_answer,
    inner,
)

JSON, TEXT = b"application/json", b"text/plain; charset=utf-8"
METRICS = b"text/plain; version=0.0.4; charset=utf-8"
After = Callable[[], None]
Answer = tuple[int, bytes, bytes, After | None]  # status, content type, body, what to do when it has left
Begun = Answer | Waits[Answer]  # an answer, or what is to be waited for until there is one

log = logging.getLogger("pairec_fast")
_encode = msgspec.json.Encoder().encode


class RecommendItem(msgspec.Struct):
    item_id: str
    item_type: str
    retrieve_id: str


def _feed(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/rec/feed", _fed(engine, decode(body, RecommendRequest)))


def _feed_popular(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/rec/feed", _fed(engine, decode(body, RecommendRequest), popular=True))


def _fed(engine: Engine, request: RecommendRequest, **how: bool) -> Waits[Answer]:
    reply, after = yield from engine.feed_waits(request, **how)
    return 200, JSON, _encode(reply), after


def _recommend(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/recommend", _recommended(engine, _bare(body)))


def _recommend_popular(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/recommend", _recommended(engine, _bare(body), popular=True))


def _recommended(engine: Engine, request: RecommendRequest, **how: bool) -> Waits[Answer]:
    reply, after = yield from engine.feed_waits(request, fallback=False, filtered=False, **how)
    types = engine.item_types
    items = [RecommendItem(item.item_id, types.get(item.retrieve_id, ""), item.retrieve_id) for item in reply.items]
    return 200, JSON, _encode(_without(reply, items)), after


def _recall(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/recall", _recalled(engine, _bare(body)))


def _recalled(engine: Engine, request: RecommendRequest) -> Waits[Answer]:
    reply, after = yield from engine.recall_waits(request)
    items = [{"item_id": item.item_id, "retrieve_id": item.retrieve_id} for item in reply.items]
    return 200, JSON, _encode(_without(reply, items) | {"errors": []}), after


def _callback(engine: Engine, body: bytes) -> Begun:
    read = CallbackBody.read(body)
    if read is not None and engine.callback_at_once(read):
        return _logged(True, read)
    return _begun("/api/callback", _called_back(engine, read or decode(body, CallbackRequest)))


def _called_back(engine: Engine, request: CallbackRequest | CallbackBody) -> Waits[Answer]:
    return _logged((yield from engine.callback_waits(request)), request)


def _begun(path: str, waits: Waits[Answer]) -> Begun:
    """The answer, where nothing is to be waited for."""
    try:
        step = next(waits)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    return _waiting(path, step, waits)


def _waiting(path: str, step: Any, waits: Waits[Answer]) -> Waits[Answer]:
    yield step
    try:
        return (yield from waits)
    except RequestError as error:
        return 200, JSON, error_answer(error), None
    except OverloadedError:
        return OVERLOADED
    except (NotReadyError, CancelledError):  # closed meanwhile
        return 503, TEXT, b"not ready", None
    except Exception:
        log.exception("%s failed while it waited", path)
        return 500, TEXT, b"server error", None


def _logged(logged: bool, request: CallbackRequest | CallbackBody) -> Answer:
    if logged:
        return 200, JSON, answer(200, "success", request.request_id), None
    return 503, JSON, answer(503, "overloaded", request.request_id), None


def _embedding(engine: Engine, body: bytes) -> Begun:
    return _begun("/api/embedding", _embedded(engine, decode(body, EmbeddingRequest)))


def _embedded(engine: Engine, request: EmbeddingRequest) -> Waits[Answer]:
    reply = yield from engine.embedding_waits(request)
    return 200, JSON, _encode(reply), None


def _feature_reply(engine: Engine, body: bytes) -> Answer:
    """Checked as PAI-Rec checks it. What it would do needs the service that asked: the answer says that it did not."""
    data = inner(decode(body, FeatureReplyRequest).items, ReplyData)
    if not data.user_id:
        raise RequestError("user_id not empty")
    if not data.item_ids:
        raise RequestError("item_ids not empty")
    if len(data.item_ids) != len(data.item_features):
        raise RequestError("item_ids length is not equal item_features")
    if not data.request_id:
        raise RequestError("request_id not empty")
    msg = "feature_reply does not act here: there is no feature consistency service to report to"
    return 200, JSON, answer(500, msg, data.request_id), None


def _route_paths(engine: Engine, body: bytes) -> Answer:
    """What a project has registered, as PAI-Rec counts: not its own probes and bare routes."""
    return 200, JSON, _encode(["/api/callback", "/api/embedding", "/api/rec/feed"]), None


def _metrics(engine: Engine, body: bytes) -> Answer:
    return 200, METRICS, engine.metrics_text().encode(), None


def _custom_metrics(engine: Engine, body: bytes) -> Answer:
    """What an embedder has put into `Engine.custom_metrics`; a route of PAI-Rec's only where metrics are enabled."""
    if not engine.config.prometheus_config.enable:
        return NOT_FOUND
    return 200, METRICS, engine.custom_metrics.text().encode(), None


def _readyz(engine: Engine, body: bytes) -> Answer:
    if engine.closed:
        raise NotReadyError
    failing, degraded = engine.logs.problems()
    if failing:
        return 503, TEXT, ("not ready: " + "; ".join(failing + degraded)).encode(), None
    return 200, TEXT, ("degraded: " + "; ".join(degraded)).encode() if degraded else b"ready", None


def _bare(body: bytes) -> RecommendRequest:
    """A request of the two built-in routes: the id is always new, made before anything is checked (PAIREC 1.7)."""
    request_id = str(uuid.uuid4()) if body else ""
    try:
        request = decode(body, BareRequest)
    except RequestError as error:
        raise RequestError(str(error), request_id=request_id) from None
    return RecommendRequest(
        uid=request.uid, scene_id=request.scene_id, size=request.size, request_id=request_id,
        category=request.category, features=request.features, debug=request.debug,
    )  # fmt: skip


def _without(reply: Any, items: list[Any]) -> dict[str, Any]:
    return {"code": reply.code, "msg": reply.msg, "request_id": reply.request_id, "size": reply.size, "items": items}


OVERLOADED: Answer = (503, JSON, answer(503, "overloaded", ""), None)
NOT_FOUND: Answer = (404, TEXT, b"url not found route info", None)
Route = Callable[[Engine, bytes], Begun]
ROUTES: dict[str, Route] = {
    "/api/rec/feed": _feed,
    "/api/recommend": _recommend,
    "/api/recall": _recall,
    "/api/callback": _callback,
    "/api/embedding": _embedding,
    "/api/feature_reply": _feature_reply,
    "/route_paths": _route_paths,
    "/metrics": _metrics,
    "/custom_metrics": _custom_metrics,
    "/readyz": _readyz,
}
# Of these nobody reads a body, and they are answered however many others are under way.
PROBES = {"/ping", "/livez", "/readyz", "/metrics", "/custom_metrics", "/route_paths"}
# What is answered between full service and none.
POPULAR: dict[str, Route] = {"/api/rec/feed": _feed_popular, "/api/recommend": _recommend_popular}
CALLBACKS = {"/api/callback", "/api/feature_reply"}  # nobody waits for them on a page
