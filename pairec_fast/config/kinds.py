"""Plug-ins in the configuration: the tag of an entry (`RecallType`, ...) says which Struct the entry is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from pairec_fast.config.convert import BAD, Converter, describe
from pairec_fast.config.positions import Path, quote
from pairec_fast.config.report import INERT, Report, match_key
from pairec_fast.config.shapes import FILTER, RECALL, SORT, Shape


class Kinds(Protocol):
    """The registry of plug-ins: PAI-Rec's type name to the frozen Struct that holds such an entry's fields."""

    @property
    def recall(self) -> Mapping[str, type[Struct]]: ...

    @property
    def filter(self) -> Mapping[str, type[Struct]]: ...

    @property
    def sort(self) -> Mapping[str, type[Struct]]: ...


class Inert(Struct, frozen=True):
    """An entry of a kind that exists in the cloud alone: accepted, brings nothing and changes nothing."""

    name: str

    def bind(self, *binding: Any, **more: Any) -> Callable[[Any, Any], None]:
        return lambda query, arena: None


class Stage:
    """One of the three stages that plug-ins serve.

    `section` and `tag` are keys; `built_in` is usable without an entry; `known` are PAI-Rec's type names, of which
    those in `cloud` need a service of the cloud; `shape` has PAI-Rec's keys of an entry of any type.
    """

    def __init__(self, section: str, tag: str, built_in: str, shape: Shape, known: str, cloud: str) -> None:
        self.section = section
        self.tag = tag
        self.built_in = built_in
        self.shape = shape
        self.cloud = frozenset(cloud.split())
        self.known = frozenset(known.split()) | self.cloud

    def take(self, entry: Any, kinds: Mapping[str, type[Struct]], at: int | Path, to: Converter, report: Report) -> Any:
        """The Struct of the entry at index `at` of the section, or at another path; `BAD` after reporting."""
        path: Path = at if isinstance(at, tuple) else (self.section, at)
        if not isinstance(entry, dict):
            report.error(path, f"expected an object, got {describe(entry)}")
            return BAD
        tag = match_key(entry, self.tag)
        kind = None if tag is None else entry[tag]
        if not isinstance(kind, str):
            given = "is missing" if kind is None else f"must be text, got {describe(kind)}"
            report.error(path if kind is None else (*path, self.tag), f"{self.tag} {given}")
            return BAD
        if kind in kinds:
            return to.struct(entry, kinds[kind], path, skip=[self.tag], like=self.shape)
        shape = to.struct(entry, self.shape, path)
        if kind not in self.cloud:
            self._refuse(kind, kinds, (*path, self.tag), report)
            return BAD
        report.warn((*path, self.tag), f"{INERT}: {kind} needs a service of the cloud", key=False)
        key = match_key(entry, "Name")
        return BAD if shape is BAD or key is None else Inert(entry[key])

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
        RECALL,
        known="UserCollaborativeFilterRecall RealTimeU2IRecall UserGroupHotRecall UserGlobalHotRecall "
        "UserCustomRecall ItemCollaborativeFilterRecall ContextItemRecall MockRecall UserTopicRecall "
        "HologresVectorRecall HologresVectorRecallV2 I2IVectorRecall ColdStartRecall",
        cloud="VectorRecall OnlineHologresVectorRecall OnlineVectorRecall GraphRecall OpenSearchRecall BeRecall "
        "RecallEngineRecall MilvusVectorRecall",
    ),
    "filter": Stage(
        "FilterConfs",
        "FilterType",
        "UniqueFilter",
        FILTER,
        known="UniqueFilter AdjustCountFilter CompletelyFairFilter PriorityAdjustCountFilter "
        "PriorityAdjustCountFilterV2 SnakeFilter GroupWeightCountFilter DiversityAdjustCountFilter "
        "DimensionFieldUniqueFilter ItemStateFilter ItemCustomFilter User2ItemCustomFilter User2ItemExposureFilter "
        "User2ItemExposureWithConditionFilter ConditionFilter",
        cloud="",
    ),
    "sort": Stage(
        "SortConfs",
        "SortType",
        "ItemRankScore",
        SORT,
        known="ItemRankScore AlgoScoreSort CustomFieldSort BoostScoreSort BoostScoreByWeight DistinctIdSort "
        "ConditionSort DiversityRuleSort MultiRecallMixSort DPPSort SSDSort",
        cloud="TrafficControlSort",
    ),
}
