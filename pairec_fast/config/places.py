"""Where loads and scenes lead: data sources that are named exist, loads are of a known kind, scenes are served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pairec_fast.config.loads import FeatureDaoConf
from pairec_fast.config.positions import Path, quote
from pairec_fast.config.report import INERT, Report, match_key
from pairec_fast.config.sections import Sections
from pairec_fast.expression.normalizer import KNOWN

# AdapterType -> the key that names a data source, and the section that has it.
SOURCES = {
    "redis": ("RedisName", "RedisConfs"),
    "hologres": ("HologresName", "HologresConfs"),
    "mysql": ("MysqlName", "MysqlConfs"),
    "clickhouse": ("ClickHouseName", "ClickHouseConfs"),
    "lindorm": ("LindormName", "LindormConfs"),
    "hbase": ("HBaseName", "HBaseConfs"),
    "hbase_thrift": ("HBaseName", "HBaseThriftConfs"),
    "tablestore": ("TableStoreName", "TableStoreConfs"),
    "be": ("BeName", "BEConfs"),
    "featurestore": ("FeatureStoreName", "FeatureStoreConfs"),
    "recallengine": ("RecallEngineName", "RecallEngineConfs"),
    "graph": ("GraphName", "GraphConfs"),
}
ADAPTERS = (*SOURCES, "local", "lmdb")


def check_sources(document: dict[str, Any], report: Report) -> None:
    """Report data sources that are named and not configured. PAI-Rec does not start with one either."""
    for section, part in document.items():
        if section in ("UserDefineConfs", "ExperimentConf"):
            continue
        for path, found in _objects(part, (section,)):
            adapter = found.get(match_key(found, "AdapterType") or "")
            if isinstance(adapter, str) and adapter in SOURCES:
                _named(found, path, *SOURCES[adapter], document, report)
            elif path[-1] == "HologresVectorConf":
                _named(found, path, *SOURCES["hologres"], document, report)


_FILTERS, _SORTS = {"FilterConfs"}, {"SortConfs"}
_GENERAL = {"PipelineConfs"}
# Where an entry names others, beside the scenes: in which sections, under which key, what.
_NESTED: tuple[tuple[set[str], str, str], ...] = (
    (_FILTERS, "FilterName", "filter"),
    (_FILTERS, "DefaultFilterName", "filter"),
    (_FILTERS, "RecallName", "recall"),
    (_SORTS, "SortName", "sort"),
    (_SORTS, "DefaultSortName", "sort"),
    (_SORTS, "RecallNames", "recall"),
    (_SORTS, "ExcludeRecalls", "recall"),
    (_GENERAL, "RecallNames", "recall"),
    (_GENERAL, "FilterNames", "filter"),
    (_GENERAL, "SortNames", "sort"),
    (_GENERAL, "RankAlgoList", "algorithm"),
)
_LENIENT = {"RecallName", "ExcludeRecalls"}  # that nothing comes from such a recall is no reason not to start


def check_nested(document: dict[str, Any], known: dict[str, set[str]], report: Report) -> None:
    """Report names inside of entries that nothing defines. `known` are names by what they are of: filter, sort, ..."""
    for sections, key, noun in _NESTED:
        for section in sections & set(document):
            for path, found in _objects(document[section], (section,)):
                given = found.get(match_key(found, key) or "")
                one = isinstance(given, str)
                for at, name in enumerate([given] if one else given if isinstance(given, list) else []):
                    place = (*path, key) if one else (*path, key, at)
                    _nested(name, noun, known[noun], place, key in _LENIENT or section == "SortConfs", report)
    for section in _GENERAL & set(document):
        for path, found in _objects(document[section], (section,)):
            kind, name = (found.get(match_key(found, key) or "") for key in ("ActionType", "ActionName"))
            if kind in ("filter", "sort"):
                _nested(name, kind, known[kind], (*path, "ActionName"), False, report)


def _nested(name: Any, noun: str, known: set[str], path: Path, lenient: bool, report: Report) -> None:
    if not isinstance(name, str) or not name or name in known:
        return
    message = f"unknown {noun} {quote(name)}{report.did_you_mean(name, known)}"
    if lenient and noun == "recall":
        report.warn(path, message, key=False)
    else:
        report.error(path, message)


def _named(found: dict[str, Any], path: Path, key: str, section: str, document: dict[str, Any], report: Report) -> None:
    name, known = found.get(match_key(found, key) or ""), document.get(section)
    names = set(known) if isinstance(known, dict) else set()
    if isinstance(name, str) and name and name not in names:
        report.error((*path, key), f"unknown name {quote(name)} in {section}{report.did_you_mean(name, names)}")


def _objects(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object at `path` and below it."""
    if isinstance(value, dict):
        yield path, value
        for key, part in value.items():
            yield from _objects(part, (*path, key))
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from _objects(part, (*path, at))


def check_loads(sections: Sections, report: Report) -> None:
    """Report loads for the wrong side, and adapters and normalizers that nobody knows: those do nothing in PAI-Rec."""
    confs: list[tuple[Path, Any]] = []
    for section, by_scene in (
        ("UserFeatureConfs", sections.user_feature_confs), ("FeatureConfs", sections.feature_confs)
    ):  # fmt: skip
        confs += [((section, scene), conf) for scene, conf in _items(by_scene)]
    confs += pipelines(sections)
    for where, conf in confs:
        for place, load in enumerate(_list(getattr(conf, "feature_load_confs", ()))):
            path = (*where, "FeatureLoadConfs", place)
            dao = getattr(load, "feature_dao_conf", None)
            if isinstance(dao, FeatureDaoConf):
                _load(dao, str(where[0]), (*path, "FeatureDaoConf"), report)
            for at, feature in enumerate(_list(getattr(load, "features", ()))):
                normalizer = getattr(feature, "normalizer", "")
                if isinstance(normalizer, str) and normalizer and normalizer not in KNOWN:
                    hint = report.did_you_mean(normalizer, KNOWN)
                    told = f"unknown Normalizer {quote(normalizer)}{hint}: none is applied"
                    report.warn((*path, "Features", at, "Normalizer"), told, key=False)


def _load(dao: FeatureDaoConf, section: str, path: Path, report: Report) -> None:
    if section == "UserFeatureConfs" and dao.feature_store != "user" and isinstance(dao.feature_store, str):
        report.error((*path, "FeatureStore"), f'expected "user" here, got {quote(dao.feature_store)}')
    adapter = dao.adapter_type
    if isinstance(adapter, str) and adapter and adapter not in ADAPTERS:
        hint = report.did_you_mean(adapter, ADAPTERS)
        told = f"unknown AdapterType {quote(adapter)}{hint}: nothing is loaded, Features alone act"
        report.warn((*path, "AdapterType"), told, key=False)


def pipelines(sections: Sections) -> list[tuple[Path, Any]]:
    """Every side pipeline and where it stands."""
    return [
        (("PipelineConfs", scene, at), conf)
        for scene, confs in _items(sections.pipeline_confs)
        for at, conf in enumerate(_list(confs))
    ]


def check_pipelines(sections: Sections, document: dict[str, Any], report: Report) -> None:
    """Warn about names that experiments cannot tell apart, pipelines that bring nothing, and what does not act."""
    first: dict[tuple[Any, Any], Path] = {}
    for path, conf in pipelines(sections):
        name = getattr(conf, "name", "")
        if isinstance(name, str) and name and (other := first.setdefault((path[1], name), path)) != path:
            told = f"{quote(name)} is already the name of {other[0]}.{other[1]}[{other[2]}]; experiments change both"
            report.warn((*path, "Name"), told, key=False)
        if getattr(conf, "recall_names", None) == ():
            report.warn(path, "RecallNames is missing or empty: it brings nothing")
    for scene, entries in _items(document.get("PipelineConfs")):
        for at, entry in enumerate(entries if isinstance(entries, list) else ()):
            key = match_key(entry, "ColdStartRankConf") if isinstance(entry, dict) else None
            if key is not None and entry[key]:
                report.warn(("PipelineConfs", scene, at, key), INERT)


def check_scenes(sections: Sections, document: dict[str, Any], report: Report) -> None:
    """Warn about what is configured for a scene that is not served: mostly a slip of the pen.

    Parameters of experiments may name other feature scenes, so with them nothing is said of those.
    """
    scenes = {scene for scene, _ in _items(sections.scene_confs)}
    if not scenes:
        return
    categories = {category for _, conf in _items(sections.scene_confs) for category, _ in _items(conf)}
    logged = {scene for scene, _ in _items(sections.call_back_confs)}
    known = scenes | {"default"}
    loads = scenes | {f"{scene}_callback" for scene in scenes | logged}
    sides: list[tuple[str, set[str]]] = [
        ("FilterNames", known), ("SortNames", known | categories), ("RankConf", scenes), ("GeneralRankConfs", scenes),
        ("ColdStartGeneralRankConfs", scenes), ("ColdStartRankConfs", scenes), ("PipelineConfs", scenes),
        ("DebugConfs", scenes), ("FeatureLogConfs", scenes),
    ]  # fmt: skip
    if "ExperimentConf" not in document:
        sides += [("FeatureConfs", loads), ("UserFeatureConfs", loads)]
    for section, names in sides:
        for scene, _ in _items(document.get(section)):
            if scene not in names:
                report.warn((section, scene), f"no scene of this name{report.did_you_mean(scene, names)}")


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    """The entries of a map, none of a map that was reported as wrong."""
    return value.items() if isinstance(value, dict) else ()


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple) else ()
