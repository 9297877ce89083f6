"""Where features come from and what is made of them: PAI-Rec's FeatureLoadConfs.

Source: the Go structs of `alibaba/pairec` v2, package `recconf`; defaults are PAI-Rec's.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from pairec_fast.config.shapes import CLOUD_LOAD, DAO_KEYS, keys
from pairec_fast.transform import FeatureConfig

Count = Annotated[int, Meta(ge=0)]

_TYPED = keys(
    "AdapterType RedisName RedisPrefix RedisDataType RedisFieldType RedisDefaultKey RedisValueDelimeter HologresName "
    "HologresTableName ItemIdField ItemScoreField TableName",
    str,
)


class FeatureDaoConf(Struct, frozen=True, kw_only=True, rename="pascal"):
    """One load: for whom (`feature_store`), by what key, from where. `raw` is the whole object.

    adapter_type: an unknown one loads nothing, and only the transforms act.
    feature_store: `item`; anything else acts on the user.
    feature_key: `user:uid`, `item:id`, `user:NAME` or `item:NAME`.
    cache_size: entries of the process's cache of this load; 0 is none. cache_time: seconds an entry counts.
    """

    adapter_type: str = ""
    table_name: str = ""
    redis_name: str = ""
    redis_prefix: str = ""
    redis_data_type: Literal["", "string", "hash"] = ""
    redis_field_type: Literal["", "csv", "json"] = ""
    redis_default_key: str = ""
    redis_value_delimeter: str = ","
    hologres_name: str = ""
    hologres_table_name: str = ""
    item_id_field: str = ""
    item_score_field: str = ""

    feature_store: str = ""
    feature_key: str = ""
    feature_async_load: bool = False
    user_feature_key_name: str = ""
    item_feature_key_name: str = ""
    user_select_fields: str = ""
    item_select_fields: str = ""

    feature_type: Literal["", "sequence_feature", "be_rt_cnt_feature"] = ""
    sequence_name: str = ""
    sequence_length: Count = 0
    sequence_event: str = ""
    sequence_delim: str = ";"
    sequence_play_time: str = ""
    sequence_offline_table_name: str = ""
    sequence_dim_fields: str = ""
    timestamp_feature_key_name: str = "timestamp"
    event_feature_key_name: str = "event"
    play_time_feature_key_name: str = "play_time"
    ts_feature_key_name: str = "ts"
    no_use_play_time_field: bool = False

    cache_features_name: str = ""
    load_from_cache_features_name: str = ""
    cache_size: Count = 0
    cache_time: Count = 3600
    raw: dict[str, Any] = field(default_factory=dict)

    zero_is_default: ClassVar[tuple[str, ...]] = (
        "redis_value_delimeter",
        "sequence_delim",
        "timestamp_feature_key_name",
        "event_feature_key_name",
        "play_time_feature_key_name",
        "ts_feature_key_name",
        "cache_time",
    )
    untyped: ClassVar[dict[str, Any]] = {**{key: str for key in DAO_KEYS if key not in _TYPED}, **CLOUD_LOAD}


class FeatureLoadConfig(Struct, frozen=True, rename="pascal"):
    """One load and the transforms that follow it."""

    feature_dao_conf: FeatureDaoConf = FeatureDaoConf()
    features: tuple[FeatureConfig, ...] = ()


class SceneFeatureConfig(Struct, frozen=True, rename="pascal"):
    """The loads of a scene, in order."""

    feature_load_confs: tuple[FeatureLoadConfig, ...] = ()
    asyn_load_feature: bool = False
