"""The keys of PAI-Rec that the engine reads nowhere itself, with their types: so that a slip is told from a use.

A shape is a Struct whose attributes are spelled as the keys are. It is converted to for its errors alone.
Source: the Go structs of `alibaba/pairec` v2, package `recconf`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

Shape = type[Struct]
Object = dict[str, Any]


def keys(names: str, kind: Any) -> dict[str, Any]:
    """Keys of one type, as `untyped` of a Struct wants them."""
    return dict.fromkeys(names.split(), kind)


def shape(
    name: str, base: Shape | None = None, *, text: str = "", whole: str = "", number: str = "", flag: str = "",
    texts: str = "", **others: Any,
) -> Shape:  # fmt: skip
    """A Struct of these keys, each optional: words of `text` are keys whose value is text, and so on."""
    kinds = {str: text, int: whole, float: number, bool: flag, list[str]: texts}
    fields = [(key, kind, None) for kind, keys in kinds.items() for key in keys.split()]
    fields += [(key, kind, None) for key, kind in others.items()]
    return msgspec.defstruct(name, fields, bases=None if base is None else (base,), frozen=True)


class Condition(Struct, frozen=True, rename="pascal"):
    """A condition as filters and sorts have it, or several."""

    name: str = ""
    domain: str = ""
    operator: str = ""
    type: str = ""
    value: Any = None
    configs: tuple[Condition, ...] = ()


DAO = shape(
    "DaoConfig",
    text="Adapter AdapterType RedisName RedisPrefix RedisDataType RedisFieldType RedisDefaultKey RedisValueDelimeter "
    "MysqlName MysqlTable Config TableStoreName TableStoreTableName HBasePrefix HBaseName HBaseTable ColumnFamily "
    "Qualifier ItemIdField ItemScoreField HologresName HologresTableName ClickHouseName ClickHouseTableName BeName "
    "BizName BeRecallName BeTableName BeExposureUserIdName BeExposureItemIdName FeatureStoreName "
    "FeatureStoreModelName FeatureStoreEntityName FeatureStoreViewName GraphName InstanceId TableName UserNode "
    "ItemNode Edge LindormTableName LindormName RecallEngineName RecallEngineTableName",
)
DAO_KEYS = DAO.__struct_encode_fields__
_SQL = shape("SqlDaoConfig", DAO, text="WhereClause PrimaryKey SelectFields OrderBy", whole="Limit")

_FEATURE = shape(
    "FeatureConfig",
    text="FeatureType FeatureName FeatureSource FeatureValue FeatureStore Normalizer Expression",
    flag="RemoveFeatureSource",
)
# What a load has besides what `sections.FeatureDaoConf` names.
CLOUD_LOAD: dict[str, Any] = {
    **keys(
        "FeatureAppendKey BeItemFeatureKeyName BeTimestampFeatureKeyName BeEventFeatureKeyName "
        "BePlayTimeFeatureKeyName BeIsHomeField BeRTCntFields BeRTTable RTCntWins OutRTCntFeaPattern "
        "OutHomeRTCntFeaPattern OutRTCntFieldAlias OutRTCntWinNames OutEventName",
        str,
    ),
    "BeRTCntFieldInfo": list[shape("BeRTCntFieldConfig", text="Alias", texts="FieldNames Delims")],  # type: ignore[misc]
    "RTCntMaxKey": int,
    "RTCntWinDelay": int,
    "FeatureStoreOptions": shape("FeatureStoreOptionsConfig", flag="DlrmHSTU"),
}
_FEATURE_DAO = shape(
    "FeatureDaoConfig",
    DAO,
    text="FeatureKey FeatureStore UserFeatureKeyName ItemFeatureKeyName TimestampFeatureKeyName EventFeatureKeyName "
    "PlayTimeFeatureKeyName TsFeatureKeyName UserSelectFields ItemSelectFields FeatureType SequenceName SequenceEvent "
    "SequenceDelim SequencePlayTime SequenceOfflineTableName SequenceDimFields CacheFeaturesName "
    "LoadFromCacheFeaturesName",
    whole="SequenceLength CacheSize CacheTime",
    flag="NoUsePlayTimeField FeatureAsyncLoad",
    **CLOUD_LOAD,
)
_LOAD = shape("FeatureLoadConfig", FeatureDaoConf=_FEATURE_DAO, Features=list[_FEATURE])  # type: ignore[valid-type]

_TRIGGER = shape("TriggerConfig", text="TriggerKey DefaultValue", Boundaries=list[int])
_USER_TRIGGER = shape(
    "UserTriggerDaoConfig",
    _SQL,
    text="EventPlayTime EventWeight WeightExpression WeightMode BeItemFeatureKeyName BeTimestampFeatureKeyName "
    "BeEventFeatureKeyName BePlayTimeFeatureKeyName ItemIdFieldName TimestampFieldName EventFieldName "
    "PlayTimeFieldName AdditionUid",
    whole="ItemCount TriggerCount TriggerTimeWindow",
    flag="NoUsePlayTimeField",
    texts="PropertyFields",
    DiversityRules=list[shape("TriggerDiversityRuleConfig", whole="Size", texts="Dimensions")],  # type: ignore[misc]
)

RECALL = shape(
    "RecallConfig",
    text="Name RecallType RecallAlgo VectorAlgoType ItemType CacheAdapter CacheConfig CachePrefix "
    "MultipleItemIdDelimiter",
    whole="RecallCount CacheTime",
    flag="EnableMultipleItemId",
    Triggers=list[_TRIGGER],  # type: ignore[valid-type]
    DaoConf=DAO,
    UserCollaborativeDaoConf=shape(
        "UserCollaborativeDaoConfig",
        DAO,
        text="User2ItemTable Item2ItemTable User2ItemFeatureViewName Item2ItemFeatureViewName Item2XTable "
        "X2ItemTable XKey XDelimiter Normalization",
    ),
    ItemCollaborativeDaoConf=shape("ItemCollaborativeDaoConfig", DAO, text="Item2ItemTable"),
    User2ItemDaoConf=shape("User2ItemDaoConfig", DAO, text="User2ItemTable Item2ItemTable"),
    UserTopicDaoConf=shape("UserTopicDaoConfig", DAO, text="UserTopicTable TopicItemTable IndexName"),
    VectorDaoConf=shape("VectorDaoConfig", DAO, text="EmbeddingField KeyField PartitionInfoTable PartitionInfoField"),
    HologresVectorConf=shape(
        "HologresVectorConfig",
        text="HologresName VectorTable VectorKeyField VectorEmbeddingField WhereClause",
        whole="TimeInterval",
    ),
    ColdStartDaoConf=shape("ColdStartDaoConfig", _SQL, whole="TimeInterval"),
    RealTimeUser2ItemDaoConf=shape(
        "RealTimeUser2ItemDaoConfig",
        text="Item2ItemTable SimilarItemIdField SimilarItemScoreField Item2XTable X2ItemTable XKey XDelimiter "
        "Item2ItemFeatureViewName MergeMode",
        whole="I2ICacheSize I2ICacheTime",
        UserTriggerDaoConf=_USER_TRIGGER,
    ),
    UserFeatureConfs=list[_LOAD],  # type: ignore[valid-type]
    FilterParams=list[Condition],
    ItemFilterParams=list[Condition],
    BeConf=Object,
    BeVectorConf=shape("BeVectorConfig", text="BizName VectorKeyField VectorEmbeddingField"),
    MilvusVectorConf=shape(
        "MilvusVectorConfig",
        text="VectorKeyField VectorEmbeddingField CollectionName MetricType",
        SearchParams=Object,
    ),
    GraphConf=shape("GraphConf", text="GraphName ItemId QueryString", texts="Params"),
    OpenSearchConf=shape("OpenSearchConf", text="OpenSearchName AppName ItemId", texts="Params", RequestParams=Object),
    RecallEngineConf=Object,
    Ha3ChatRecallConf=Object,
    Ha3KnowledgeVectorConf=Object,
)

FILTER = shape(
    "FilterConfig",
    text="Name FilterType FilterTypeVersion ClearLogIfNotEnoughScene Dimension GroupWeightStrategy "
    "GenerateItemDataFuncName GenerateItemDataExpr GenerateUserDataExpr FilterEvaluableExpression SnakeType",
    whole="MaxItems TimeInterval RetainNum GroupMinNum GroupMaxNum DiversityMinCount ItemStateCacheSize "
    "ItemStateCacheTime",
    number="ScoreWeight",
    flag="ShuffleItem WriteLog OnlyLogUserExposeFlag EnsureDiversity",
    texts="WriteLogExcludeScenes",
    DaoConf=DAO,
    GroupWeightDimensionLimit=dict[str, int],
    AdjustCountConfs=list[shape("AdjustCountConfig", text="RecallName Type Expression", whole="Count Weight")],  # type: ignore[misc]
    ItemStateDaoConf=shape(
        "ItemStateDaoConfig", DAO, text="ItemFieldName WhereClause SelectFields", DefaultFieldValues=Object
    ),
    FilterParams=list[Condition],
    DiversityDaoConf=shape(
        "DiversityDaoConfig", DAO, text="ItemKeyField", whole="CacheTimeInMinutes CacheSize", texts="DistinctFields"
    ),
    FilterVal=shape("FilterValue", text="SelectCol WhereClause"),
    Conditions=list[Condition],
    ConditionFilterConfs=shape(
        "ConditionFilterConfs",
        text="DefaultFilterName",
        FilterConfs=list[shape("ConditionFilterConf", text="FilterName", Conditions=list[Condition])],  # type: ignore[misc]
    ),
    Features=list[_FEATURE],  # type: ignore[valid-type]
)

_BOOST = shape("BoostScoreCondition", text="Expression", Conditions=list[Condition])
_SPREAD: dict[str, str] = {
    "text": "Name TableName TableSuffixParam TablePKey EmbeddingColumn EmbeddingSeparator NormalizeEmb "
    "EnsurePositiveSim",
    "whole": "CacheTimeInMinutes CacheSize WindowSize AbortRunCount CandidateCount",
    "number": "MinScorePercent EmbMissedThreshold",
    "texts": "FilterRetrieveIds",
}
_SPREADS = shape("SpreadConfig", **_SPREAD, DaoConf=DAO)  # type: ignore[arg-type]
DPP = shape("DPPSortConfig", _SPREADS, number="Alpha", texts="EmbeddingHookNames")
SORT = shape(
    "SortConfig",
    text="Name SortType SortByField SortOrder",
    whole="DiversitySize ExploreItemSize Size TimeInterval",
    number="SwitchThreshold",
    flag="Debug RemainItem BoostScoreConditionsFilterAll",
    texts="ExcludeRecalls",
    DPPConf=DPP,
    SSDConf=shape("SSDSortConfig", _SPREADS, number="Gamma", flag="UseSSDStar", Condition=_BOOST),
    PIDConf=shape(
        "PIDControllerConfig",
        whole="AheadMinutes MembershipCacheSeconds FreezeMinutes",
        number="DefaultKp DefaultKi DefaultKd IntegralMin IntegralMax IntegralThreshold ErrThreshold ErrDiscount "
        "MinExpTraffic",
        flag="AllocateExperimentWise",
    ),
    MixSortRules=list[  # type: ignore[misc]
        shape(
            "MixSortConfig",
            text="MixStrategy PositionField",
            whole="Number",
            number="NumberRate",
            texts="RecallNames",
            Positions=list[int],
            Conditions=list[Condition],
        )
    ],
    BoostScoreConditions=list[_BOOST],  # type: ignore[valid-type]
    DistinctIdConditions=list[  # type: ignore[misc]
        shape("DistinctIdCondition", text="DistinctIdName", whole="DistinctId", Conditions=list[Condition])
    ],
    Conditions=list[Condition],
    DiversityRules=list[  # type: ignore[misc]
        shape(
            "DiversityRuleConfig",
            whole="IntervalSize WindowSize FrequencySize",
            number="Weight",
            texts="Dimensions",
        )
    ],
    ExclusionRules=list[shape("ExclusionRuleConfig", Positions=list[int], Conditions=list[Condition])],  # type: ignore[misc]
    BoostScoreByWeightDao=shape("BoostScoreByWeightDaoConfig", DAO, text="ItemFieldName WeightFieldName"),
    MultiValueDimensionConf=list[shape("MultiValueDimensionConfig", text="DimensionName Delimiter")],  # type: ignore[misc]
    CrossPageDiversity=Object,
    ConditionSortConfs=shape(
        "ConditionSortConfs",
        text="DefaultSortName",
        SortConfs=list[shape("ConditionSortConf", text="SortName", Conditions=list[Condition])],  # type: ignore[misc]
    ),
)


_DSN = shape("DSN", text="DSN")

# Data sources of the cloud: named by loads and recalls that nothing runs here.
CLOUD_SOURCES: dict[str, Shape] = {
    "ClickHouseConfs": _DSN,
    "MysqlConfs": _DSN,
    "LindormConfs": shape("LindormConfig", text="Url User Password Database"),
    "HBaseConfs": shape("HBaseConfig", text="ZKQuorum"),
    "HBaseThriftConfs": shape("HBaseThriftConfig", text="Host User Password"),
    "TableStoreConfs": shape("TableStoreConfig", text="EndPoint InstanceName AccessKeyId AccessKeySecret RoleArn"),
    "GraphConfs": shape("GraphConfig", text="Host UserName Passwd"),
    "FeatureStoreConfs": shape(
        "FeatureStoreConfig",
        text="AccessId AccessKey RegionId Domain ProjectName FeatureDBUsername FeatureDBPassword HologresUsername "
        "HologresPassword",
        whole="HologresPort",
        flag="TestMode",
    ),
    "SlsConfs": shape("SlsConfig", text="EndPoint AccessKeyId AccessKeySecret ProjectName LogstoreName"),
    "BEConfs": shape("BEConfig", text="Username Password Endpoint ReleaseType"),
    "RecallEngineConfs": shape("REConfig", text="Username Password Endpoint Authorization InstanceId"),
    "Ha3EngineConfs": shape("Ha3EngineConfig", text="Username Password Endpoint InstanceId", whole="Timeout"),
    "OpenSearchConfs": shape("OpenSearchConfig", text="EndPoint AccessKeyId AccessKeySecret"),
}


ACTION = shape("ActionConfig", text="ActionType ActionName")
COLD_START_RANK = shape("ColdStartRankConfig", text="RecallName AlgoName", flag="OnlyEmbeddingFeature")
AB_TEST = shape("ABTestConfig", text="Host Token")
