"""Plug-ins in the configuration: the tag of an entry (`RecallType`, ...) says which Struct the entry is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from pairec_fast.config.convert import BAD, Converter, describe
from pairec_fast.config.positions import Path, quote
from pairec_fast.config.report import Report, match_key


class Kinds(Protocol):
    """The registry of plug-ins: PAI-Rec's type name to the frozen Struct that holds such an entry's fields."""

    @property
    def recall(self) -> Mapping[str, type[Struct]]: ...

    @property
    def filter(self) -> Mapping[str, type[Struct]]: ...

    @property
    def sort(self) -> Mapping[str, type[Struct]]: ...


class Stage:
    """One of the three stages that plug-ins serve.

    `section` and `tag` are keys; `built_in` is usable without an entry; `known` are PAI-Rec's type names, and `fields`
    its keys of an entry of any type.
    """

    def __init__(self, section: str, tag: str, built_in: str, known: str, fields: str) -> None:
        self.section = section
        self.tag = tag
        self.built_in = built_in
        self.known = frozenset(known.split())
        self.fields = frozenset(fields.split())

    def take(self, entry: Any, kinds: Mapping[str, type[Struct]], at: int, to: Converter, report: Report) -> Any:
        """The Struct of the entry at index `at` of the section, or `BAD` after reporting."""
        path = (self.section, at)
        if not isinstance(entry, dict):
            report.error(path, f"expected an object, got {describe(entry)}")
            return BAD
        tag = match_key(entry, self.tag)
        kind = None if tag is None else entry[tag]
        if not isinstance(kind, str):
            given = "is missing" if kind is None else f"must be text, got {describe(kind)}"
            report.error(path if kind is None else (*path, self.tag), f"{self.tag} {given}")
            return BAD
        if kind not in kinds:
            self._refuse(kind, kinds, (*path, self.tag), report)
            return BAD
        cls = kinds[kind]
        cls_names = {name.casefold() for name in cls.__struct_encode_fields__}
        unused = [name for name in self.fields if name.casefold() not in cls_names]
        for key in entry:
            if match_key(unused, key):
                report.warn((*path, key), f"{kind} does not use it here")
        return to.struct(entry, cls, path, skip=[self.tag, *unused])

    def _refuse(self, kind: str, kinds: Mapping[str, type[Struct]], path: Path, report: Report) -> None:
        if kind in self.known:
            report.error(path, f"{self.tag} {quote(kind)} is not available in this version")
        else:
            hint = report.did_you_mean(kind, self.known | set(kinds))
            report.error(path, f"unknown {self.tag} {quote(kind)}{hint}")


STAGES: dict[str, Stage] = {
    "recall": Stage(
        "RecallConfs",
        "RecallType",
        "ContextItemRecall",
        known="UserCollaborativeFilterRecall RealTimeU2IRecall UserGroupHotRecall UserGlobalHotRecall "
        "UserCustomRecall ItemCollaborativeFilterRecall ContextItemRecall MockRecall UserTopicRecall VectorRecall "
        "HologresVectorRecall HologresVectorRecallV2 I2IVectorRecall OnlineHologresVectorRecall OnlineVectorRecall "
        "ColdStartRecall GraphRecall OpenSearchRecall BeRecall RecallEngineRecall MilvusVectorRecall",
        fields="Name RecallCount RecallAlgo VectorAlgoType ItemType CacheAdapter CacheConfig CachePrefix CacheTime "
        "Triggers DaoConf UserCollaborativeDaoConf ItemCollaborativeDaoConf EnableMultipleItemId "
        "MultipleItemIdDelimiter User2ItemDaoConf UserTopicDaoConf VectorDaoConf HologresVectorConf ColdStartDaoConf "
        "RealTimeUser2ItemDaoConf UserFeatureConfs FilterParams BeConf BeVectorConf MilvusVectorConf GraphConf "
        "OpenSearchConf RecallEngineConf",
    ),
    "filter": Stage(
        "FilterConfs",
        "FilterType",
        "UniqueFilter",
        known="UniqueFilter AdjustCountFilter CompletelyFairFilter PriorityAdjustCountFilter "
        "PriorityAdjustCountFilterV2 SnakeFilter GroupWeightCountFilter DiversityAdjustCountFilter "
        "DimensionFieldUniqueFilter ItemStateFilter ItemCustomFilter User2ItemCustomFilter User2ItemExposureFilter "
        "User2ItemExposureWithConditionFilter ConditionFilter",
        fields="Name FilterTypeVersion DaoConf MaxItems TimeInterval RetainNum ClearLogIfNotEnoughScene Dimension "
        "ScoreWeight GroupMinNum GroupMaxNum GroupWeightStrategy GroupWeightDimensionLimit WriteLogExcludeScenes "
        "GenerateItemDataFuncName GenerateItemDataExpr GenerateUserDataExpr AdjustCountConfs ItemStateDaoConf "
        "FilterEvaluableExpression FilterParams DiversityDaoConf DiversityMinCount FilterVal ItemStateCacheSize "
        "ItemStateCacheTime Conditions SnakeType ConditionFilterConfs Features ShuffleItem WriteLog "
        "OnlyLogUserExposeFlag EnsureDiversity",
    ),
    "sort": Stage(
        "SortConfs",
        "SortType",
        "ItemRankScore",
        known="ItemRankScore AlgoScoreSort CustomFieldSort BoostScoreSort BoostScoreByWeight DistinctIdSort "
        "ConditionSort DiversityRuleSort MultiRecallMixSort DPPSort SSDSort TrafficControlSort",
        fields="Name SortByField SortOrder SwitchThreshold DiversitySize ExploreItemSize Size DPPConf SSDConf PIDConf "
        "MixSortRules BoostScoreConditions DistinctIdConditions Conditions ExcludeRecalls DiversityRules "
        "ExclusionRules TimeInterval BoostScoreByWeightDao MultiValueDimensionConf Debug RemainItem "
        "BoostScoreConditionsFilterAll ConditionSortConfs",
    ),
}
