"""PAI-Rec's sections as frozen Structs: attribute `http_port` is the key `HttpPort`. The defaults are PAI-Rec's.

Keys the engine has no use for are listed as `untyped`, so that a misspelt key stands out against them.
Source: the Go structs of `alibaba/pairec` v2, package `recconf`.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from pairec_fast.errors import ConfigError
from pairec_fast.limits import LimitConf
from pairec_fast.sink.topic import COMPRESSORS
from pairec_fast.sink.tuples import TYPES

Object = dict[str, Any]
Percent = Annotated[int, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Filled = Annotated[str, Meta(min_length=1)]


def _all(names: str, kind: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), kind)


_DAO = _all(
    "Adapter RedisName RedisPrefix RedisDataType RedisFieldType RedisDefaultKey RedisValueDelimeter MysqlName "
    "MysqlTable Config TableStoreName TableStoreTableName HBasePrefix HBaseName HBaseTable ColumnFamily Qualifier "
    "ItemIdField ItemScoreField HologresName HologresTableName ClickHouseName ClickHouseTableName BeName BizName "
    "BeRecallName BeTableName BeExposureUserIdName BeExposureItemIdName FeatureStoreName FeatureStoreModelName "
    "FeatureStoreEntityName FeatureStoreViewName GraphName InstanceId UserNode ItemNode Edge LindormTableName "
    "LindormName RecallEngineName RecallEngineTableName",
    str,
)

_FEATURE_DAO: dict[str, Any] = {
    **_DAO,
    **_all(
        "UserFeatureKeyName ItemFeatureKeyName FeatureType SequenceName SequenceEvent SequenceDelim "
        "SequencePlayTime SequenceOfflineTableName SequenceDimFields TimestampFeatureKeyName EventFeatureKeyName "
        "PlayTimeFeatureKeyName TsFeatureKeyName CacheFeaturesName LoadFromCacheFeaturesName OutEventName "
        "OutHomeRTCntFeaPattern FeatureAppendKey",
        Any,
    ),
    "FeatureAsyncLoad": bool,
    "NoUsePlayTimeField": bool,
    "SequenceLength": int,
    "CacheSize": int,
    "CacheTime": int,
    "FeatureStoreOptions": Object,
}


class ListenConf(Struct, frozen=True, rename="pascal"):
    """Where the server listens; an empty address is every interface."""

    http_addr: str = ""
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 8000


class CategoryConfig(Struct, frozen=True, rename="pascal"):
    """One category of a scene. `auto_invoke_call_back_rate` is percent; 0 and 100 are always."""

    recall_names: tuple[str, ...] = ()
    fallback_config: Object | None = None
    auto_invoke_call_back: bool = False
    auto_invoke_call_back_rate: Percent = 0
    output_fields: tuple[str, ...] = ()
    sub_rank: Object = field(default_factory=dict)


class RankConfig(Struct, frozen=True, rename="pascal"):
    """What scores a scene, and how the scores become one."""

    rank_algo_list: tuple[str, ...] = ()
    rank_score: str = ""
    processor: str = ""
    context_features: tuple[str, ...] = ()
    item_features: tuple[str, ...] = ()
    batch_count: Count = 100
    score_rewrite: dict[str, str] = field(default_factory=dict)
    ast_type: str = field(name="ASTType", default="")

    zero_is_default: ClassVar[tuple[str, ...]] = ("batch_count",)


class LightGBMConf(Struct, frozen=True, rename="pascal"):
    """A forest of the snapshot, by name."""

    model: Filled


class LookupConf(Struct, frozen=True, rename="pascal"):
    """The score is this feature."""

    field_name: str = ""


class AlgoConfig(Struct, frozen=True, rename="pascal"):
    """A model. `type` stays open: what cannot run it refuses at bind."""

    name: Filled
    type: str = ""
    light_gbm_conf: LightGBMConf | None = field(name="LightGBMConf", default=None)
    eas_conf: Object | None = None
    tfserving_conf: Object | None = field(name="TFservingConf", default=None)
    seldon_conf: Object | None = None
    vector_conf: Object | None = None
    milvus_conf: Object | None = None
    lookup_conf: LookupConf | None = None


class FeatureDaoConf(Struct, frozen=True, rename="pascal"):
    """Where features come from. `raw` is the whole object with PAI-Rec's spelling of its keys."""

    adapter_type: str = ""
    feature_store: str = ""
    feature_key: str = ""
    table_name: str = ""
    user_select_fields: str = ""
    item_select_fields: str = ""
    raw: Object = field(default_factory=dict)

    untyped: ClassVar[dict[str, Any]] = _FEATURE_DAO


class FeatureLoadConfig(Struct, frozen=True, rename="pascal"):
    """One load and the transforms that follow it."""

    feature_dao_conf: FeatureDaoConf = FeatureDaoConf()
    features: tuple[Object, ...] = ()


class SceneFeatureConfig(Struct, frozen=True, rename="pascal"):
    """The loads of a scene, in order."""

    feature_load_confs: tuple[FeatureLoadConfig, ...] = ()
    asyn_load_feature: bool = False


class DataSource(Struct, frozen=True, rename="pascal"):
    """A sink: `type` is `disk`, `kafka` or `datahub`, `name` one of DiskConfs, KafkaConfs or DatahubConfs."""

    name: str = ""
    type: str = ""


class CallBackConfig(Struct, frozen=True, rename="pascal"):
    """What is logged of a scene, and where to. Rates are percent; sizes of 0 keep everything.

    durability: ours; what explicit callbacks of this scene wait for, instead of `LogRingConf.Durability`.
    """

    data_source: DataSource = DataSource()
    rank_conf: Object = field(default_factory=dict)
    raw_features: bool = False
    raw_features_rate: Percent = 0
    item_size: Count = 0
    item_size_rate: Percent = 0
    use_user_features: bool = False
    durability: Literal["", "process", "synced", "delivered"] = ""


class PrometheusConfig(Struct, frozen=True, rename="pascal"):
    """Metrics. `subsystem` is the prefix of every name; `raw` is the whole object."""

    enable: bool = False
    subsystem: Annotated[str, Meta(pattern="^([a-zA-Z_][a-zA-Z0-9_]*)?$")] = "pairec"
    raw: Object = field(default_factory=dict)

    zero_is_default: ClassVar[tuple[str, ...]] = ("subsystem",)
    untyped: ClassVar[dict[str, Any]] = {
        **_all("PushGatewayURL PushGatewayToken Job", str),
        "PushIntervalSecs": int,
        **_all("ReqDurBuckets ReqSizeBuckets RespSizeBuckets", list[float]),
    }


class SnapshotConf(Struct, frozen=True, rename="pascal"):
    """Ours: the snapshot directory, and how often to look for a newer one; 0 is never."""

    directory: Filled
    reload_seconds: Annotated[float, Meta(ge=0)] = 0.0


class LogRingConf(Struct, frozen=True, rename="pascal"):
    """Ours: the ring that callbacks are written to and the segments it is flushed to.

    explicit_policy: what an explicit callback does when the ring is full: `block` asks again for block_milliseconds
        before it is answered 503, `drop_newest` does not. Of an automatic one the newest is always dropped.
    durability: the promise of an accepted callback, see `pairec_fast.logs`. durability_milliseconds: how long an
        explicit callback waits for it.
    retention_bytes, retention_seconds: closed segments of a sink are removed beyond this size together or this age, the
        oldest first; 0 keeps them.
    free_bytes_min: with less free space on a sink's disk nothing is written, and records wait in the ring; null is
        1 GiB or, of a smaller disk, 5 % of it; 0 is no mark.
    adopt_seconds: what a dead worker left in its ring is written out by another after so long, if none has followed it.
    dropped_seconds: for so long after a callback was dropped the worker is not ready; 0 is never.
    """

    directory: str = ""
    ring_bytes: Positive = 64 << 20
    segment_bytes: Positive = 128 << 20
    segment_seconds: Positive = 60
    sync_milliseconds: Positive = 50
    explicit_policy: Literal["block", "drop_newest"] = "block"
    block_milliseconds: Annotated[float, Meta(ge=0, le=1000)] = 2.0
    durability: Literal["memory", "process", "synced", "delivered"] = "process"
    durability_milliseconds: Positive = 2000
    retention_bytes: Count = 0
    retention_seconds: Count = 0
    free_bytes_min: Count | None = None
    adopt_seconds: Annotated[float, Meta(gt=0)] = 10.0
    dropped_seconds: Annotated[float, Meta(ge=0)] = 10.0


class DiskConf(Struct, frozen=True, rename="pascal"):
    """Ours: a sink that writes files into a directory."""

    directory: Filled

    def folder(self, name: str) -> str:
        """Where the segments of the sink `name` lie."""
        return self.directory


_ENDPOINT = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")


class DatahubField(Struct, frozen=True, rename="pascal"):
    """A field of a topic: `type` is one of DataHub's, in small letters."""

    field: Filled
    type: str

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ConfigError(f"Type: {unknown(self.type, TYPES)}")


class DatahubConf(Struct, frozen=True, rename="pascal"):
    """A topic of DataHub. No `schemas`: the public set of PAI-Rec's log. `directory` is ours: where records wait for
    delivery, `tmp/PROJECT/TOPIC/NAME` unless given."""

    access_id: Filled
    access_key: Filled
    endpoint: str
    project_name: str
    topic_name: str
    compressor_type: str = ""
    schemas: tuple[DatahubField, ...] = ()
    directory: str = ""

    def __post_init__(self) -> None:
        if "@" in self.endpoint:
            raise ConfigError("Endpoint: expected an address alone; keys belong in AccessId and AccessKey")
        if not _ENDPOINT.fullmatch(self.endpoint):
            raise ConfigError(f'Endpoint: expected "http://HOST" or "https://HOST", got "{self.endpoint:.200}"')
        for key, name, least, most in (
            ("ProjectName", self.project_name, 3, 32),
            ("TopicName", self.topic_name, 1, 128),
        ):
            if not (_NAME.fullmatch(name) and least <= len(name) <= most):
                rule = f"{least} to {most} letters, digits and underscores, a letter first"
                raise ConfigError(f'{key}: expected {rule}, got "{name:.200}"')
        if self.compressor_type.lower() not in COMPRESSORS:
            raise ConfigError(f"CompressorType: {unknown(self.compressor_type, COMPRESSORS)}")
        repeated = [name for name, count in Counter(entry.field for entry in self.schemas).items() if count > 1]
        if repeated:
            raise ConfigError(f'Schemas: "{repeated[0]}" is given more than once')

    def folder(self, name: str) -> str:
        """Where records of the sink `name` wait."""
        return self.directory or f"tmp/{self.project_name}/{self.topic_name}/{name}"

    def __repr__(self) -> str:
        """Without the keys."""
        return f"DatahubConf({self.endpoint!r}, {self.project_name!r}, {self.topic_name!r})"


def unknown(word: str, words: Iterable[str]) -> str:
    """Says that `word` is none of `words`, and which is near."""
    known = [known for known in words if known]
    near = difflib.get_close_matches(word.casefold(), known, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f'unknown "{word:.100}"{hint}; known are {", ".join(known)}'


class KafkaConf(Struct, frozen=True, rename="pascal"):
    """A topic that records are sent to, one message per row.

    directory: ours; where records wait while brokers are away, and where those go that brokers refuse for good. Unless
        set, `spill/` and the sink's name, beside the configuration.
    properties: ours; settings of librdkafka by its names, for example `security.protocol`. Batches keep to the topic's
        `max.message.bytes` if the user may describe its configuration. If not, and it is below 1,000,000, set
        `batch.size` to it: otherwise brokers refuse batches for their size, and the order of a user's rows is not kept
        around them.
    library: ours; a path of librdkafka, instead of the system's or the confluent-kafka package's.
    """

    bootstrap_servers: str = ""
    topic: str = ""
    directory: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    library: str = ""

    def folder(self, name: str) -> str:
        """Where records of the sink `name` wait."""
        return self.directory or f"spill/{name}"


_UNUSED: dict[str, Any] = {
    **_all("RunMode Region", str),
    **_all("LogConf ABTestConf ExperimentConf", Object),
    **_all("DPPConf BeFilterConfs", list[Object]),
    "PipelineConfs": dict[str, list[Object]],
    **_all(
        "GeneralRankConfs ColdStartGeneralRankConfs ColdStartRankConfs EmbeddingConfs DebugConfs FeatureLogConfs "
        "RedisConfs MysqlConfs ClickHouseConfs HologresConfs LindormConfs HBaseConfs HBaseThriftConfs "
        "TableStoreConfs GraphConfs FeatureStoreConfs SlsConfs BEConfs RecallEngineConfs Ha3EngineConfs "
        "OpenSearchConfs",
        dict[str, Object],
    ),
}


class Sections(Struct, frozen=True, rename="pascal"):
    """The top level. The elements of RecallConfs, FilterConfs and SortConfs are the plug-ins' own Structs.

    `raw` is the whole document with PAI-Rec's spelling of the top-level keys and the environment filled in.
    """

    listen_conf: ListenConf = ListenConf()
    scene_confs: dict[str, dict[str, CategoryConfig]] = field(default_factory=dict)
    recall_confs: tuple[Any, ...] = ()
    filter_confs: tuple[Any, ...] = ()
    filter_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sort_confs: tuple[Any, ...] = ()
    sort_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rank_conf: dict[str, RankConfig] = field(default_factory=dict)
    algo_confs: tuple[AlgoConfig, ...] = ()
    user_feature_confs: dict[str, SceneFeatureConfig] = field(default_factory=dict)
    feature_confs: dict[str, SceneFeatureConfig] = field(default_factory=dict)
    call_back_confs: dict[str, CallBackConfig] = field(default_factory=dict)
    kafka_confs: dict[str, KafkaConf] = field(default_factory=dict)
    datahub_confs: dict[str, DatahubConf] = field(default_factory=dict)
    disk_confs: dict[str, DiskConf] = field(default_factory=dict)
    user_define_confs: Any = None
    prometheus_config: PrometheusConfig = PrometheusConfig()
    snapshot_conf: SnapshotConf | None = None
    limit_conf: LimitConf = LimitConf()
    log_ring_conf: LogRingConf = LogRingConf()
    raw: Object = field(default_factory=dict)

    untyped: ClassVar[dict[str, Any]] = _UNUSED
