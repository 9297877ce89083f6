"""PAI-Rec's sections as frozen Structs: attribute `http_port` is the key `HttpPort`. The defaults are PAI-Rec's.

Keys the engine has no use for are listed as `untyped`, so that a misspelt key stands out against them.
Source: the Go structs of `alibaba/pairec` v2, package `recconf`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from pairec_fast.config.loads import FeatureLoadConfig, SceneFeatureConfig
from pairec_fast.config.shapes import (
    AB_TEST,
    CLOUD_SOURCES,
    COLD_START_RANK,
    DAO_KEYS,
    FILTER,
)
from pairec_fast.config.sinks import DatahubConf, DataSource, DiskConf, KafkaConf, LogRingConf
from pairec_fast.config.telling import DebugConfig, FeatureLogConfig, LogConfig, PrometheusConfig
from pairec_fast.limits import LimitConf
from pairec_fast.store.conf import HologresConf, RedisConf

Object = dict[str, Any]
Percent = Annotated[int, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Filled = Annotated[str, Meta(min_length=1)]


class ListenConf(Struct, frozen=True, rename="pascal"):
    """Where the server listens; an empty address is every interface."""

    http_addr: str = ""
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 8000


class FallbackConfig(Struct, frozen=True, rename="pascal"):
    """What is answered when an answer comes late. `timeout` in milliseconds, `cache_time` in seconds.

    Read from category `default` alone.
    """

    timeout: Count = 0
    cache_time: Count = 7200
    cache_config: str = '{"defaultExpiration":1800,"cleanupInterval":1800}'
    complete_items_if_need: bool = False
    raw: Object = field(default_factory=dict)

    zero_is_default: ClassVar[tuple[str, ...]] = ("cache_time", "cache_config")
    untyped: ClassVar[dict[str, Any]] = dict.fromkeys(DAO_KEYS, str)


class CategoryConfig(Struct, frozen=True, rename="pascal"):
    """One category of a scene. `auto_invoke_call_back_rate` is percent; 0 and 100 are always."""

    recall_names: tuple[str, ...] = ()
    fallback_config: FallbackConfig | None = None
    auto_invoke_call_back: bool = False
    auto_invoke_call_back_rate: Percent = 0
    output_fields: tuple[str, ...] = ()
    sub_rank: Object = field(default_factory=dict)

    untyped: ClassVar[dict[str, Any]] = {
        "DebugOutputFields": list[str],
        "LogResponseBody": bool,
        "AIChatConfig": Object,
        "SuggestionConfig": Object,
    }


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


class EasConf(Struct, frozen=True, rename="pascal"):
    """A model server. `timeout` is milliseconds a try; `retry_times` how many tries there are."""

    processor: str = ""
    url: str = ""
    auth: str = ""
    endpoint_type: str = ""
    signature_name: str = ""
    timeout: Count = 100
    retry_times: Count = 2
    response_func_name: str = ""
    outputs: tuple[str, ...] = ()
    model_name: str = ""

    zero_is_default: ClassVar[tuple[str, ...]] = ("timeout", "retry_times")

    def __repr__(self) -> str:
        """Without the token."""
        return f"EasConf({self.processor!r}, {self.url!r}, {self.response_func_name!r})"


class AlgoConfig(Struct, frozen=True, rename="pascal"):
    """A model. `type` stays open: what cannot run it refuses at bind."""

    name: Filled
    type: str = ""
    light_gbm_conf: LightGBMConf | None = field(name="LightGBMConf", default=None)
    eas_conf: EasConf | None = None
    tfserving_conf: Object | None = field(name="TFservingConf", default=None)
    seldon_conf: Object | None = None
    vector_conf: Object | None = None
    milvus_conf: Object | None = None
    lookup_conf: LookupConf | None = None


class CallBackConfig(Struct, frozen=True, rename="pascal"):
    """What is logged of a scene, and where to. Rates are percent; sizes of 0 keep everything.

    durability: ours; what explicit callbacks of this scene wait for, instead of `LogRingConf.Durability`.
    """

    data_source: DataSource = DataSource()
    rank_conf: RankConfig | None = None
    raw_features: bool = False
    raw_features_rate: Percent = 0
    item_size: Count = 0
    item_size_rate: Percent = 0
    use_user_features: bool = False
    durability: Literal["", "process", "synced", "delivered"] = ""


class ActionConfig(Struct, frozen=True, rename="pascal"):
    """A `sort` or a `filter`, by the name of its configuration."""

    action_type: str = ""
    action_name: str = ""


class GeneralRankConfig(Struct, frozen=True, rename="pascal"):
    """A first, coarse rank of all candidates."""

    feature_load_confs: tuple[FeatureLoadConfig, ...] = ()
    rank_conf: RankConfig = RankConfig()
    action_confs: tuple[ActionConfig, ...] = ()


class ColdStartGeneralRankConfig(GeneralRankConfig, frozen=True, rename="pascal"):
    """The same for the candidates of some recalls, which are ranked apart and come behind the others."""

    recall_names: tuple[str, ...] = ()


class EmbeddingConfig(Struct, frozen=True, rename="pascal"):
    """Which model server gives vectors of users and items; what is recorded of them."""

    data_source: DataSource = DataSource()
    rank_conf: RankConfig = RankConfig()


class SnapshotConf(Struct, frozen=True, rename="pascal"):
    """Ours: the snapshot directory, and how often to look for a newer one; 0 is never."""

    directory: Filled
    reload_seconds: Annotated[float, Meta(ge=0)] = 0.0


class ExperimentConf(Struct, frozen=True, rename="pascal"):
    """Ours: the file with the tree of A/B experiments."""

    file: Filled


class PipelineConfig(Struct, frozen=True, rename="pascal"):
    """A line of its own beside the main one of a scene. Experiments override its parts by its name."""

    name: str = ""
    recall_names: tuple[str, ...] = ()
    filter_names: tuple[str, ...] = ()
    general_rank_conf: GeneralRankConfig | None = None
    feature_load_confs: tuple[FeatureLoadConfig, ...] = ()
    rank_conf: RankConfig = RankConfig()
    sort_names: tuple[str, ...] = ()

    untyped: ClassVar[dict[str, Any]] = {"ColdStartRankConf": COLD_START_RANK}


# Sections that are known and typed, and that nothing here reads: said to the user by name.
_UNUSED: dict[str, Any] = {
    "Region": str,
    "ABTestConf": AB_TEST,
    "BeFilterConfs": list[FILTER],  # type: ignore[valid-type]
    "ColdStartRankConfs": dict[str, COLD_START_RANK],  # type: ignore[valid-type]
    **{section: dict[str, kind] for section, kind in CLOUD_SOURCES.items()},  # type: ignore[valid-type]
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
    dpp_conf: tuple[Any, ...] = field(name="DPPConf", default=())
    rank_conf: dict[str, RankConfig] = field(default_factory=dict)
    algo_confs: tuple[AlgoConfig, ...] = ()
    general_rank_confs: dict[str, GeneralRankConfig] = field(default_factory=dict)
    cold_start_general_rank_confs: dict[str, ColdStartGeneralRankConfig] = field(default_factory=dict)
    pipeline_confs: dict[str, tuple[PipelineConfig, ...]] = field(default_factory=dict)
    embedding_confs: dict[str, EmbeddingConfig] = field(default_factory=dict)
    user_feature_confs: dict[str, SceneFeatureConfig] = field(default_factory=dict)
    feature_confs: dict[str, SceneFeatureConfig] = field(default_factory=dict)
    call_back_confs: dict[str, CallBackConfig] = field(default_factory=dict)
    kafka_confs: dict[str, KafkaConf] = field(default_factory=dict)
    datahub_confs: dict[str, DatahubConf] = field(default_factory=dict)
    disk_confs: dict[str, DiskConf] = field(default_factory=dict)
    redis_confs: dict[str, RedisConf] = field(default_factory=dict)
    hologres_confs: dict[str, HologresConf] = field(default_factory=dict)
    user_define_confs: Any = None
    run_mode: str = ""
    log_conf: LogConfig = LogConfig()
    feature_log_confs: dict[str, FeatureLogConfig] = field(default_factory=dict)
    debug_confs: dict[str, DebugConfig] = field(default_factory=dict)
    prometheus_config: PrometheusConfig = PrometheusConfig()
    snapshot_conf: SnapshotConf | None = None
    experiment_conf: ExperimentConf | None = None
    limit_conf: LimitConf = LimitConf()
    log_ring_conf: LogRingConf = LogRingConf()
    raw: Object = field(default_factory=dict)

    untyped: ClassVar[dict[str, Any]] = _UNUSED
