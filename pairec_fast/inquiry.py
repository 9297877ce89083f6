"""What model servers are asked beside the walk: vectors of users and items, and what they make of logged items.

*Source*: PAIREC 1.9 (`/api/embedding`), 9.3 (the callback's model call).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from pairec_fast.callback import Record, draw
from pairec_fast.config import CallBackConfig, Config, RankConfig
from pairec_fast.core.columns import columns_of
from pairec_fast.errors import ConfigError, RequestError
from pairec_fast.messages import EmbeddingRequest
from pairec_fast.metrics import Metrics
from pairec_fast.query import kinds_of, merged_features
from pairec_fast.remote import RemoteError, Scored, Server, easyrec, features
from pairec_fast.score.algorithms import PROCESSOR, Servers, server_of
from pairec_fast.score.easyrec import typed, written
from pairec_fast.warned import Warned

SAMPLED_LEVEL, DEBUG_LEVEL, LEVEL = 1, 2, 3  # EasyRec's debug levels: with raw features, of a debug request, otherwise

VECTOR = "torchrecEmbeddingResponseFunc"


class EmbeddingReply(msgspec.Struct, omit_defaults=True):
    """Of `/api/embedding`. `model_config` is what the server says of itself."""

    code: int
    msg: str
    request_id: str
    embedding: list[float] | None
    model_config: dict[str, str] = {}


class Inquiry:
    """The servers that `EmbeddingConfs` and `CallBackConfs` name.

    Raises:
        ConfigError: one that cannot be asked here, or that has no answer of the kind.
    """

    def __init__(self, config: Config, servers: Servers, metrics: Metrics) -> None:
        self._metrics, self._servers, self._warned = metrics, servers, Warned()
        self._confs = {conf.name: conf for conf in config.algo_confs}
        self._embedding: dict[str, list[Server]] = {}
        self._logged: dict[str, list[tuple[Server, str]]] = {}  # with the function that reads features
        refused: list[ConfigError] = []
        for scene, embedding in config.embedding_confs.items():
            try:
                self._embedding[scene] = self._vectors(embedding.rank_conf, f"EmbeddingConfs.{scene}.RankConf")
            except ConfigError as error:
                refused.append(error)
        for scene, logged in config.call_back_confs.items():
            rank = logged.rank_conf
            try:
                # Of servers with another processor PAI-Rec logs nothing either.
                if rank is not None and rank.rank_algo_list and rank.processor == PROCESSOR:
                    self._logged[scene] = self._features(rank, f"CallBackConfs.{scene}.RankConf")
            except ConfigError as error:
                refused.append(error)
        if refused:
            raise config.report.located(refused)

    def _server(self, name: str, where: str) -> Server:
        return server_of(self._confs, name, f"{where}.RankAlgoList", self._servers)

    def _vectors(self, rank: RankConfig, where: str) -> list[Server]:
        servers = [self._server(name, where) for name in rank.rank_algo_list]
        for server in servers:
            if server.function != VECTOR:
                raise ConfigError(
                    f'{where}.RankAlgoList: {server.name} gives no vectors; "{VECTOR}" reads such answers'
                )
        return servers

    def _features(self, rank: RankConfig, where: str) -> list[tuple[Server, str]]:
        found = []
        for name in rank.rank_algo_list:
            own = f"{name}_callback"
            server = self._server(own if own in self._confs else name, where)
            function = server.function if own in self._confs else server.debug_function
            if not function.endswith("Debug"):
                told = f"{server.name} is read by {server.function}, which has no twin that gives features"
                raise ConfigError(f"{where}.RankAlgoList: {told}")
            found.append((server, function))
        return found

    async def embedding(self, request: EmbeddingRequest, request_id: str) -> EmbeddingReply:
        """The vector of an item, or of a user; with code 500 where no server gave one.

        Raises:
            RequestError: neither is named, or no scene.
        """
        if not request.uid and not request.item_id:
            raise RequestError("uid or item_id not empty", request_id=request_id)
        if not request.scene_id:
            raise RequestError("scene_id not empty", request_id=request_id)
        servers = self._embedding.get(request.scene_id, [])
        ids = [request.item_id] if request.item_id else []
        body = _about_item(request) if request.item_id else _about_user(request)
        try:
            answers = await asyncio.gather(*(server.ask(body, ids) for server in servers))
        except RemoteError as error:
            return EmbeddingReply(500, f"{error.name}: {error}", request_id, None)
        for answer in answers:
            if len(answer.embedding):
                vector = [features.short(value) for value in answer.embedding]
                return EmbeddingReply(200, "success", request_id, vector, dict(answer.model))
        return EmbeddingReply(500, "embeddings is empty", request_id, None)

    def logs(self, scene: str) -> bool:
        """Whether items that are logged of `scene` are shown to a model first."""
        return scene in self._logged

    async def see(self, conf: CallBackConfig, record: Record, kinds: Mapping[str, str], *, debug: bool) -> None:
        """Put `generate_features`, `context_features` and, where the request is drawn, `raw_features` into the items.

        `kinds` are the types that the request gave some features. A server that fails is counted, and what it would
        say is not there.
        """
        scene, items = record.scene, record.items
        rank = conf.rank_conf
        assert rank is not None
        sampled = conf.raw_features and draw(record.request_id, "raw") * 100 < conf.raw_features_rate
        level = DEBUG_LEVEL if debug else SAMPLED_LEVEL if sampled else LEVEL
        ids = [item["item_id"] for item in items]
        properties, _ = columns_of(items)
        del properties["item_id"]
        user = easyrec.user_part(record.features | {"uid": record.uid}, kinds)
        body = easyrec.request(user, ids, *written(properties, rank, len(ids)), debug_level=level)
        asked = (self._seen(scene, server, body, ids, function) for server, function in self._logged[scene])
        for answer in await asyncio.gather(*asked):
            if answer is None or answer.features is None:
                continue
            raw, generated, context = answer.features.raw, answer.features.generate, answer.features.context
            for item, *texts in zip(items, generated, context, raw, strict=False):
                item["generate_features"], item["context_features"] = texts[0], texts[1]
                if sampled:
                    item["raw_features"] = texts[2]

    async def _seen(self, scene: str, server: Server, body: bytes, ids: list[str], function: str) -> Scored | None:
        try:
            return await server.ask(body, ids, function)
        except RemoteError as error:
            self._warned(scene, error.name, f"callback: {error}")
            self._metrics.count("callback_model_failed_total", scene=scene, algo=server.name)
            return None


def refused_servers(config: Config) -> list[ConfigError]:
    """What `Inquiry` would refuse."""
    try:
        Inquiry(config, {}, Metrics())
    except ConfigError as error:
        return [error]
    return []


def _about_user(request: EmbeddingRequest) -> bytes:
    given = merged_features(request.user_features, request.user_complex_type_features)
    values = {name: value for name, value in given.items() if value != ""} | {"uid": request.uid}
    user = easyrec.user_part(*typed(values, given, kinds_of(request.user_complex_type_features)))
    return easyrec.request(user, [], {}, {})


def _about_item(request: EmbeddingRequest) -> bytes:
    """All features of the item are context features."""
    given = merged_features(request.item_features, request.item_complex_type_features)
    values, kinds = typed(given, given, kinds_of(request.item_complex_type_features))
    context = {name: features.of_one(values.get(name), kinds.get(name, "")) for name in given}
    return easyrec.request(b"", [request.item_id], context, {})
