"""Every field of PAI-Rec's configuration is known with its type, wherever it stands."""

from __future__ import annotations

import json

import pytest

from pairec_fast.config import Config
from pairec_fast.errors import ConfigError
from pairec_fast.scene import KINDS

DAO = """Adapter RedisName RedisPrefix RedisDefaultKey RedisValueDelimeter MysqlName MysqlTable Config TableStoreName
TableStoreTableName HBasePrefix HBaseName HBaseTable ColumnFamily Qualifier ItemIdField ItemScoreField HologresName
HologresTableName ClickHouseName ClickHouseTableName BeName BizName BeRecallName BeTableName BeExposureUserIdName
BeExposureItemIdName FeatureStoreName FeatureStoreModelName FeatureStoreEntityName FeatureStoreViewName GraphName
InstanceId TableName UserNode ItemNode Edge LindormTableName LindormName RecallEngineName RecallEngineTableName"""
LOAD = f"""{DAO} FeatureKey UserFeatureKeyName ItemFeatureKeyName UserSelectFields ItemSelectFields SequenceName
SequenceLength=7 SequenceEvent SequenceDelim SequencePlayTime SequenceOfflineTableName SequenceDimFields
TimestampFeatureKeyName EventFeatureKeyName PlayTimeFeatureKeyName TsFeatureKeyName NoUsePlayTimeField=true
CacheFeaturesName LoadFromCacheFeaturesName CacheSize=7 CacheTime=7 FeatureAppendKey OutEventName
OutHomeRTCntFeaPattern FeatureAsyncLoad=true FeatureStoreOptions={{"DlrmHSTU":true}}"""
SQL = f"{DAO} Limit=7 WhereClause PrimaryKey SelectFields OrderBy"
TRIGGER = f"""{SQL} NoUsePlayTimeField=true ItemCount=7 TriggerCount=7 EventPlayTime EventWeight WeightExpression
WeightMode PropertyFields=["a"] DiversityRules=[{{"Dimensions":["a"],"Size":7}}] ItemIdFieldName TimestampFieldName
EventFieldName PlayTimeFieldName AdditionUid"""
CONDITION = '[{"Name":"a","Domain":"item","Operator":"equal","Type":"int","Value":1,"Configs":[]}]'
SPREAD = """TableName TableSuffixParam TablePKey EmbeddingColumn EmbeddingSeparator CacheTimeInMinutes=7
NormalizeEmb WindowSize=7 AbortRunCount=7 CandidateCount=7 MinScorePercent=0.5 EmbMissedThreshold=0.5
FilterRetrieveIds=["a"] EnsurePositiveSim"""
RANK = """RankAlgoList=[] RankScore Processor ContextFeatures=["a"] ItemFeatures=["a"] BatchCount=7
ScoreRewrite={"a":"${b}"} ASTType="""

# Where a section's keys stand, and the keys: text unless a value says otherwise.
FIELDS = {
    "RunMode Region": ("", "RunMode Region"),
    "ListenConf": ("ListenConf", "HttpAddr HttpPort=80"),
    "CategoryConfig": (
        "SceneConfs.s.c",
        "RecallNames=[] AutoInvokeCallBack=true AutoInvokeCallBackRate=7 OutputFields=[] SubRank={}",
    ),
    "FallbackConfig": (
        "SceneConfs.s.c.FallbackConfig",
        f"Timeout=7 {DAO} CacheTime=7 CacheConfig CompleteItemsIfNeed=true",
    ),
    "RecallConfig": (
        "RecallConfs.0",
        "RecallCount=7 RecallAlgo VectorAlgoType ItemType CacheAdapter CacheConfig CachePrefix CacheTime=7 "
        'Triggers=[{"TriggerKey":"a","DefaultValue":"b","Boundaries":[1]}] EnableMultipleItemId=true '
        f"MultipleItemIdDelimiter FilterParams={CONDITION} BeConf={{}} RecallEngineConf={{}}",
    ),
    "recall DaoConf": ("RecallConfs.0.DaoConf", DAO),
    "UserCollaborativeDaoConf": (
        "RecallConfs.0.UserCollaborativeDaoConf",
        f"{DAO} User2ItemTable Item2ItemTable User2ItemFeatureViewName Item2ItemFeatureViewName Item2XTable "
        "X2ItemTable XKey XDelimiter Normalization",
    ),
    "ItemCollaborativeDaoConf": ("RecallConfs.0.ItemCollaborativeDaoConf", f"{DAO} Item2ItemTable"),
    "User2ItemDaoConf": ("RecallConfs.0.User2ItemDaoConf", f"{DAO} User2ItemTable Item2ItemTable"),
    "UserTopicDaoConf": ("RecallConfs.0.UserTopicDaoConf", f"{DAO} UserTopicTable TopicItemTable IndexName"),
    "VectorDaoConf": (
        "RecallConfs.0.VectorDaoConf",
        f"{DAO} EmbeddingField KeyField PartitionInfoTable PartitionInfoField",
    ),
    "HologresVectorConf": (
        "RecallConfs.0.HologresVectorConf",
        "VectorTable VectorKeyField VectorEmbeddingField WhereClause TimeInterval=7",
    ),
    "ColdStartDaoConf": ("RecallConfs.0.ColdStartDaoConf", f"{SQL} TimeInterval=7"),
    "RealTimeUser2ItemDaoConf": (
        "RecallConfs.0.RealTimeUser2ItemDaoConf",
        "Item2ItemTable SimilarItemIdField SimilarItemScoreField Item2XTable X2ItemTable XKey XDelimiter "
        "Item2ItemFeatureViewName MergeMode I2ICacheSize=7 I2ICacheTime=7",
    ),
    "UserTriggerDaoConf": ("RecallConfs.0.RealTimeUser2ItemDaoConf.UserTriggerDaoConf", TRIGGER),
    "recall UserFeatureConfs": ("RecallConfs.0.UserFeatureConfs.0.FeatureDaoConf", LOAD),
    "cloud recalls": (
        "RecallConfs.0",
        'BeVectorConf={"BizName":"b"} MilvusVectorConf={"SearchParams":{}} GraphConf={"Params":["a"]} '
        'OpenSearchConf={"AppName":"a"}',
    ),
    "FilterConfig": (
        "FilterConfs.0",
        "FilterTypeVersion MaxItems=7 TimeInterval=7 RetainNum=7 ClearLogIfNotEnoughScene Dimension ScoreWeight=0.5 "
        'GroupMinNum=7 GroupMaxNum=7 GroupWeightStrategy GroupWeightDimensionLimit={"a":7} WriteLogExcludeScenes=["a"] '
        "GenerateItemDataFuncName GenerateItemDataExpr GenerateUserDataExpr "
        'AdjustCountConfs=[{"RecallName":"a","Count":7,"Type":"b","Expression":"c","Weight":7}] '
        f"FilterEvaluableExpression FilterParams={CONDITION} DiversityMinCount=7 "
        'FilterVal={"SelectCol":"a","WhereClause":"b"} ItemStateCacheSize=7 ItemStateCacheTime=7 '
        f"Conditions={CONDITION} SnakeType ShuffleItem=true WriteLog=true OnlyLogUserExposeFlag=true "
        'EnsureDiversity=true ConditionFilterConfs={"FilterConfs":[{"Conditions":[],"FilterName":"f"}],'
        '"DefaultFilterName":"f"}',
    ),
    "filter DaoConf": ("FilterConfs.0.DaoConf", DAO),
    "ItemStateDaoConf": (
        "FilterConfs.0.ItemStateDaoConf",
        f'{DAO} ItemFieldName WhereClause SelectFields DefaultFieldValues={{"a":1}}',
    ),
    "DiversityDaoConf": (
        "FilterConfs.0.DiversityDaoConf",
        f'{DAO} ItemKeyField DistinctFields=["a"] CacheTimeInMinutes=7',
    ),
    "filter Features": (
        "FilterConfs.0.Features.0",
        "FeatureType FeatureName FeatureSource FeatureValue FeatureStore RemoveFeatureSource=true Normalizer "
        "Expression",
    ),
    "SortConfig": (
        "SortConfs.0",
        "SortByField SortOrder SwitchThreshold=0.5 DiversitySize=7 ExploreItemSize=7 Size=7 "
        'MixSortRules=[{"MixStrategy":"a","Positions":[1],"PositionField":"b","Number":7,"NumberRate":0.5,'
        '"RecallNames":["a"],"Conditions":[]}] BoostScoreConditions=[{"Expression":"a","Conditions":[]}] '
        'DistinctIdConditions=[{"DistinctId":7,"Conditions":[],"DistinctIdName":"a"}] '
        f'Conditions={CONDITION} ExcludeRecalls=["a"] '
        'DiversityRules=[{"Dimensions":["a"],"IntervalSize":7,"WindowSize":7,"FrequencySize":7,"Weight":7}] '
        'ExclusionRules=[{"Positions":[1],"Conditions":[]}] TimeInterval=7 '
        'MultiValueDimensionConf=[{"DimensionName":"a","Delimiter":"b"}] Debug=true RemainItem=true '
        'BoostScoreConditionsFilterAll=true ConditionSortConfs={"SortConfs":[{"Conditions":[],"SortName":"o"}],'
        '"DefaultSortName":"o"}',
    ),
    "BoostScoreByWeightDao": ("SortConfs.0.BoostScoreByWeightDao", f"{DAO} ItemFieldName WeightFieldName"),
    "sort DPPConf": ("SortConfs.0.DPPConf", f'Name {SPREAD} Alpha=0.5 EmbeddingHookNames=["a"]'),
    "SSDConf": (
        "SortConfs.0.SSDConf",
        f'Name {SPREAD} Gamma=0.5 UseSSDStar=true Condition={{"Expression":"a","Conditions":[]}}',
    ),
    "PIDConf": (
        "SortConfs.0.PIDConf",
        "AllocateExperimentWise=true DefaultKp=0.5 DefaultKi=0.5 DefaultKd=0.5 AheadMinutes=7 "
        "MembershipCacheSeconds=7 IntegralMin=0.5 IntegralMax=0.5 IntegralThreshold=0.5 ErrThreshold=0.5 "
        "ErrDiscount=0.5 MinExpTraffic=0.5 FreezeMinutes=7",
    ),
    "RankConfig": ("RankConf.s", RANK),
    "FeatureDaoConf": ("FeatureConfs.s.FeatureLoadConfs.0.FeatureDaoConf", f"{LOAD} FeatureStore"),
    "SceneFeatureConfig": ("FeatureConfs.s", "AsynLoadFeature=true"),
    "FeatureConfig": (
        "FeatureConfs.s.FeatureLoadConfs.0.Features.0",
        "FeatureName FeatureSource FeatureValue FeatureStore RemoveFeatureSource=true Normalizer=random Expression",
    ),
    "CallBackConfig": (
        "CallBackConfs.s",
        "RawFeatures=true RawFeaturesRate=7 ItemSize=7 ItemSizeRate=7 UseUserFeatures=true",
    ),
    "callback RankConf": ("CallBackConfs.s.RankConf", RANK),
    "EmbeddingConfig": ("EmbeddingConfs.s", 'DataSource={"Name":"a","Type":"b"} RankConf={}'),
    "DebugConfig": (
        "DebugConfs.s",
        'Rate=7 DebugUsers=["a"] OutputType=console DatahubName KafKaName FilePath MaxFileNum=7',
    ),
    "FeatureLogConfig": (
        "FeatureLogConfs.s",
        "OutputType=datahub Rate=7 DatahubName KafKaName UserFeatures ItemFeatures SplitUserItemLogs=true",
    ),
    "LogConfig": ("LogConf", "RetensionDays=7 DiskSize=7 LogLevel=INFO Output=file SLSName"),
    "PrometheusConfig": (
        "PrometheusConfig",
        "Enable=true Subsystem=shop PushGatewayURL PushGatewayToken PushIntervalSecs=7 Job ReqDurBuckets=[0.5] "
        "ReqSizeBuckets=[0.5] RespSizeBuckets=[0.5]",
    ),
    "RedisConfig": (
        "RedisConfs.r",
        "Host Port=7 Password DbNum=7 MaxIdle=7 ConnectTimeout=7 ReadTimeout=7 WriteTimeout=7",
    ),
    "MysqlConfig": ("MysqlConfs.m", "DSN"),
    "ClickHouseConfig": ("ClickHouseConfs.m", "DSN"),
    "HologresConfig": ("HologresConfs.m", "DSN"),
    "KafkaConfig": ("KafkaConfs.k", "BootstrapServers Topic"),
    "FeatureStoreConfig": (
        "FeatureStoreConfs.f",
        "AccessId AccessKey RegionId ProjectName FeatureDBUsername FeatureDBPassword HologresPort=7 HologresUsername "
        "HologresPassword",
    ),
    "BEConfig": ("BEConfs.b", "Username Password Endpoint ReleaseType"),
    "REConfig": ("RecallEngineConfs.r", "Username Password Endpoint Authorization InstanceId"),
    "OpenSearchConfig": ("OpenSearchConfs.o", "EndPoint AccessKeyId AccessKeySecret"),
    "HBaseConfig": ("HBaseConfs.h", "ZKQuorum"),
    "HBaseThriftConfig": ("HBaseThriftConfs.h", "Host User Password"),
    "TableStoreConfig": ("TableStoreConfs.t", "EndPoint InstanceName AccessKeyId AccessKeySecret RoleArn"),
    "SlsConfig": ("SlsConfs.s", "EndPoint AccessKeyId AccessKeySecret ProjectName LogstoreName"),
    "LindormConfig": ("LindormConfs.l", "Url User Password Database"),
    "GraphConfig": ("GraphConfs.g", "Host UserName Passwd"),
    "ABTestConf": ("ABTestConf", "Host Token"),
    "DPPConf": ("DPPConf.0", f"Name {SPREAD} Alpha=0.5"),
    "GeneralRankConfig": (
        "GeneralRankConfs.s",
        'FeatureLoadConfs=[] RankConf={} ActionConfs=[{"ActionType":"sort","ActionName":"ItemRankScore"}]',
    ),
    "ColdStartGeneralRankConfig": ("ColdStartGeneralRankConfs.s", "RankConf={} RecallNames=[]"),
    "ColdStartRankConfig": ("ColdStartRankConfs.s", "RecallName AlgoName OnlyEmbeddingFeature=true"),
    "PipelineConfig": (
        "PipelineConfs.s.0",
        "Name RecallNames=[] FilterNames=[] GeneralRankConf={} FeatureLoadConfs=[] RankConf={} ColdStartRankConf={} "
        "SortNames=[]",
    ),
}
# What an object needs to be one, beside the key that is tried.
NEEDED = {
    "RecallConfs.0": {"Name": "r", "RecallType": "ContextItemRecall"},
    "FilterConfs.0": {"Name": "f", "FilterType": "UniqueFilter"},
    "SortConfs.0": {"Name": "o", "SortType": "ItemRankScore"},
    "DPPConf.0": {"Name": "d"},
    "FeatureConfs.s.FeatureLoadConfs.0.Features.0": {"FeatureType": "raw_feature"},
    "CallBackConfs.s": {"DataSource": {"Name": "log", "Type": "disk"}},
    "DiskConfs.log": {"Directory": "log"},
}
CASES = [
    (place, *(entry.split("=", 1) if "=" in entry else (entry, None)))
    for place, keys in FIELDS.values()
    for entry in keys.split()
]


def document(place: str, key: str, value: object) -> dict:
    """A configuration in which `key` at `place` is `value`."""
    needed = dict(NEEDED) if place.startswith("CallBackConfs") else {
        path: fields for path, fields in NEEDED.items() if f"{place}.".startswith(f"{path}.")
    }  # fmt: skip
    top: dict = {}
    for path, fields in (*needed.items(), (place, {key: value})):
        at: object = top
        steps = [int(step) if step.isdigit() else step for step in path.split(".") if step]
        for step, following in zip(steps, [*steps[1:], ""], strict=False):
            empty: object = [] if isinstance(following, int) else {}
            if isinstance(at, list):
                if len(at) <= step:
                    at.append(empty)
                at = at[step]
            else:
                at = at.setdefault(step, empty)
        at.update(fields)
    return top


def value_of(key: str, given: str | None) -> object:
    """What a case of `CASES` gives a key."""
    if key in ("RankScore", "ASTType"):
        return ""
    if given is None:
        return "text"
    return json.loads(given) if given[0].isdigit() or given[0] in "[{" or given == "true" else given


def wrong_for(value: object) -> object:
    return 5 if isinstance(value, str | list | dict) else "wrong"


@pytest.mark.parametrize(("place", "key", "given"), CASES, ids=lambda part: str(part)[:40])
def test_a_field_is_known_and_another_type_than_its_own_is_an_error(place, key, given):
    value = value_of(key, given)
    config = Config.parse(document(place, key, value), KINDS)
    assert [line for line in config.warnings if "unknown key" in line] == []
    with pytest.raises(ConfigError, match=f"{key}.*: expected "):
        Config.parse(document(place, key, wrong_for(value)), KINDS)


@pytest.mark.parametrize("place", sorted({place for place, _, _ in CASES}))
def test_a_slip_of_the_pen_stands_out_at_each_of_them(place):
    given = document(place, "Nonsens", 1)
    if place == "HologresConfs.m":
        given["HologresConfs"]["m"]["DSN"] = "postgresql://localhost/x"
    config = Config.parse(given, KINDS)
    assert [line for line in config.warnings if line.endswith("Nonsens: unknown key, ignored")]
