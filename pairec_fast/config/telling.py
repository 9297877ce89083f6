"""What the engine tells beside its answers: text log, metrics, debug records, feature log, embedding log.

Source: the Go structs of `alibaba/pairec` v2, package `recconf`; defaults are PAI-Rec's.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from pairec_fast.config.shapes import keys

Percent = Annotated[int, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=0)]


class LogConfig(Struct, frozen=True, rename="pascal"):
    """The text log. `retension_days` is spelled as PAI-Rec spells it; `disk_size` in GiB."""

    retension_days: Count = 0
    disk_size: Count = 0
    log_level: Literal["", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL"] = ""
    output: Literal["", "file", "console"] = ""
    sls_name: str = field(name="SLSName", default="")


class PrometheusConfig(Struct, frozen=True, rename="pascal"):
    """Metrics. `subsystem` is the prefix of every name; `raw` is the whole object."""

    enable: bool = False
    subsystem: Annotated[str, Meta(pattern="^([a-zA-Z_][a-zA-Z0-9_]*)?$")] = "pairec"
    raw: dict[str, Any] = field(default_factory=dict)

    zero_is_default: ClassVar[tuple[str, ...]] = ("subsystem",)
    untyped: ClassVar[dict[str, Any]] = {
        **keys("PushGatewayURL PushGatewayToken PushGatewayUsername PushGatewayPassword Job", str),
        "PushIntervalSecs": int,
        "PushGatewayUseAliyunCredential": bool,
        **keys("ReqDurBuckets ReqSizeBuckets RespSizeBuckets", list[float]),
    }


class DebugConfig(Struct, frozen=True, rename="pascal"):
    """Records of what each stage did, of the users named or of `rate` percent of the requests.

    disk_name: ours; one of DiskConfs, for the output `disk`.
    """

    rate: Percent = 0
    debug_users: tuple[str, ...] = ()
    output_type: Literal["", "console", "datahub", "disk", "file", "kafka"] = ""
    datahub_name: str = ""
    kafka_name: str = field(name="KafKaName", default="")
    disk_name: str = ""
    file_path: str = ""
    max_file_num: Count = 20

    zero_is_default: ClassVar[tuple[str, ...]] = ("max_file_num",)


class FeatureLogConfig(Struct, frozen=True, rename="pascal"):
    """A record of each item that was shown. `rate` is percent; 0 and 100 are always.

    disk_name: ours; one of DiskConfs, for the output `disk`.
    """

    output_type: Literal["", "datahub", "disk", "kafka", "featurestore"] = ""
    rate: Percent = 0
    datahub_name: str = ""
    kafka_name: str = field(name="KafKaName", default="")
    disk_name: str = ""
    user_features: str = ""
    item_features: str = ""
    split_user_item_logs: bool = False

    untyped: ClassVar[dict[str, Any]] = {"FeatureStoreName": str, "FeatureStoreViewName": str, "LogItems": bool}
