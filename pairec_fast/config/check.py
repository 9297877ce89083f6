"""What no single section can know: every name that is used is defined, and what is defined is used.

PAI-Rec logs and skips unknown names in RecallNames, FilterNames and SortNames; here they are errors.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path as FilePath
from typing import Any

from pairec_fast.config.experiments import check_experiments
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.places import check_loads, check_nested, check_pipelines, check_scenes, check_sources, pipelines
from pairec_fast.config.positions import Path, quote
from pairec_fast.config.report import INERT, Report, match_key
from pairec_fast.config.sections import Sections
from pairec_fast.config.sinks import DatahubConf, DiskConf, KafkaConf
from pairec_fast.errors import ConfigError
from pairec_fast.expression import score_expression
from pairec_fast.limits import STAGES as STAGES_TIMED
from pairec_fast.limits import TOTAL

_TOPIC = re.compile("[a-zA-Z0-9._-]{1,249}")  # a broker refuses others, and all that is sent to them

_SINKS = {"disk": "DiskConfs", "kafka": "KafkaConfs", "datahub": "DatahubConfs"}

# Where names of a section are used: keys whose text, or texts, are names; and in which sections they count, or all.
_USES: dict[str, tuple[set[str], set[str] | None]] = {
    "RecallConfs": (
        {"recallnames", "recallname"},
        {"SceneConfs", "PipelineConfs", "ColdStartGeneralRankConfs", "ColdStartRankConfs"},
    ),
    "FilterConfs": ({"filternames", "filtername", "defaultfiltername", "actionname"}, None),
    "SortConfs": ({"sortnames", "sortname", "defaultsortname", "actionname"}, None),
    "AlgoConfs": ({"rankalgolist", "algoname", "recallalgo"}, None),
    "DiskConfs": ({"datasource"}, {"CallBackConfs"}),
    "KafkaConfs": ({"datasource", "kafkaname"}, None),
    "DatahubConfs": ({"datasource", "datahubname"}, None),
    "RedisConfs": ({"redisname"}, None),
    "HologresConfs": ({"hologresname"}, None),
}


def check(sections: Sections, document: dict[str, Any], report: Report, directory: FilePath) -> None:
    """Report names that do not resolve, names defined twice and definitions without use.

    Relative paths start at `directory`.

    Names are read from `document` (top-level keys spelled as PAI-Rec does), not from the Structs: an entry that has an
    error in it still defines its name.
    """
    defined = {section: _defined(document, section) for section in _USES}
    defined["SortConfs"] += _defined(document, "DPPConf")
    for section in ("RecallConfs", "FilterConfs", "SortConfs", "AlgoConfs"):
        _names_are_distinct(defined[section], report)
    names = {section: _distinct(places) for section, places in defined.items()}
    _scene_names_resolve(sections, names, report)
    used_by_experiments = check_experiments(sections, names, report, directory)
    _sinks_resolve(sections, document, report, directory)
    check_sources(document, report)
    nouns = {noun: names[stage.section] | {stage.built_in} for noun, stage in STAGES.items()}
    check_nested(document, nouns | {"algorithm": names["AlgoConfs"]}, report)
    check_loads(sections, report)
    check_scenes(sections, document, report)
    check_pipelines(sections, document, report)
    _expressions_parse(sections, report)
    for scene, categories in _items(sections.scene_confs):
        for category, conf in _items(categories):
            if category != "default" and getattr(conf, "fallback_config", None) is not None:
                inert = ("SceneConfs", scene, category, "FallbackConfig")
                report.warn(inert, f"{INERT}: it is read from category default alone")
    for scene, embedding in _items(sections.embedding_confs):
        if getattr(getattr(embedding, "data_source", None), "name", ""):
            report.warn(("EmbeddingConfs", scene, "DataSource"), f"{INERT}: vectors are not recorded")
    for scene, logged in _items(sections.call_back_confs):
        rank = getattr(logged, "rank_conf", None)
        if getattr(rank, "rank_algo_list", ()) and getattr(rank, "processor", "EasyRec") != "EasyRec":
            told = f'{INERT}: only of models with the processor "EasyRec" features are logged'
            report.warn(("CallBackConfs", scene, "RankConf"), told)
    ring_bytes = getattr(sections.log_ring_conf, "ring_bytes", None)
    if isinstance(ring_bytes, int) and ring_bytes & (ring_bytes - 1):
        report.error(("LogRingConf", "RingBytes"), f"expected a power of two, got {ring_bytes}")
    _durabilities_agree(sections, report)
    _budgets_resolve(sections, report)
    kept, one = (getattr(sections.log_ring_conf, name, None) for name in ("retention_bytes", "segment_bytes"))
    if isinstance(kept, int) and isinstance(one, int) and 0 < kept < one:
        told = f"{kept} is less than SegmentBytes, {one}: segments would go as soon as closed"
        report.error(("LogRingConf", "RetentionBytes"), told)
    for section, places in defined.items():
        keys, within = _USES[section]
        used = set(used_by_experiments.get(section, ()))
        for name, part in document.items():
            if within is None or name in within:
                used |= set(_texts_under({name: part}, keys))
        for name, path in places:
            if name not in used and name.removesuffix("_callback") not in used:
                report.warn(path, "defined but no scene uses it", key=False)


def _defined(document: dict[str, Any], section: str) -> list[tuple[str, Path]]:
    """The names a section defines and where, in its order; what is malformed was reported when it was converted."""
    entries = document.get(section)
    if isinstance(entries, dict):
        return [(name, (section, name)) for name in entries]
    found: list[tuple[str, Path]] = []
    for at, entry in enumerate(entries if isinstance(entries, list) else ()):
        key = match_key(entry, "Name") if isinstance(entry, dict) else None
        if key is not None and isinstance(entry[key], str):
            found.append((entry[key], (section, at, "Name")))
    return found


def _distinct(places: Iterable[tuple[str, Path]]) -> set[str]:
    return {name for name, _ in places}


def _names_are_distinct(places: list[tuple[str, Path]], report: Report) -> None:
    first: dict[str, Path] = {}
    for name, path in places:
        if name in first:
            report.error(path, f"{quote(name)} is already the name of {first[name][0]}[{first[name][1]}]")
        elif not name and path[0] != "AlgoConfs":  # AlgoConfig itself refuses an empty name
            report.error(path, "a name must not be empty")
        first.setdefault(name, path)


def _scene_names_resolve(sections: Sections, defined: dict[str, set[str]], report: Report) -> None:
    recalls = defined["RecallConfs"] | {STAGES["recall"].built_in}
    for scene, categories in _items(sections.scene_confs):
        for category, conf in _items(categories):
            path = ("SceneConfs", scene, category, "RecallNames")
            names = getattr(conf, "recall_names", ())
            _resolve(names, recalls, "recall", path, report)
            _warn_repeated(names, path, report)
    for section, by_scene, stage in (
        ("FilterNames", sections.filter_names, "filter"),
        ("SortNames", sections.sort_names, "sort"),
    ):
        known = defined[STAGES[stage].section] | {STAGES[stage].built_in}
        for scene, names in _items(by_scene):
            _resolve(names, known, stage, (section, scene), report)
    for where, rank in _ranks(sections):
        if where[0] not in ("CallBackConfs", "PipelineConfs"):  # those are looked at with what pipelines name else
            names = getattr(rank, "rank_algo_list", ())
            _resolve(names, defined["AlgoConfs"], "algorithm", (*where, "RankAlgoList"), report)
    for section, ranks in (
        ("GeneralRankConfs", sections.general_rank_confs),
        ("ColdStartGeneralRankConfs", sections.cold_start_general_rank_confs),
    ):
        for scene, conf in _items(ranks):
            _resolve(getattr(conf, "recall_names", ()), recalls, "recall", (section, scene, "RecallNames"), report)
            _actions_resolve(getattr(conf, "action_confs", ()), defined, (section, scene, "ActionConfs"), report)
    logged = defined["AlgoConfs"] | {name.removesuffix("_callback") for name in defined["AlgoConfs"]}
    for scene, conf in _items(sections.call_back_confs):
        names = getattr(getattr(conf, "rank_conf", None), "rank_algo_list", ())
        _resolve(names, logged, "algorithm", ("CallBackConfs", scene, "RankConf", "RankAlgoList"), report)


def _actions_resolve(actions: Any, defined: dict[str, set[str]], path: Path, report: Report) -> None:
    for at, action in enumerate(actions if isinstance(actions, tuple) else ()):
        kind, name = getattr(action, "action_type", None), getattr(action, "action_name", None)
        if not isinstance(kind, str) or not isinstance(name, str):
            continue
        if kind not in ("sort", "filter"):
            report.error((*path, at, "ActionType"), f'expected "sort" or "filter", got {quote(kind)}')
            continue
        known = defined[STAGES[kind].section] | {STAGES[kind].built_in}
        if name not in known:
            told = f"unknown {kind} {quote(name)}{report.did_you_mean(name, known)}"
            report.error((*path, at, "ActionName"), told)


def _ranks(sections: Sections) -> Iterator[tuple[Path, Any]]:
    """Every rank configuration and where it stands."""
    for scene, rank in _items(sections.rank_conf):
        yield ("RankConf", scene), rank
    for section, by_scene in (
        ("GeneralRankConfs", sections.general_rank_confs),
        ("ColdStartGeneralRankConfs", sections.cold_start_general_rank_confs),
        ("CallBackConfs", sections.call_back_confs),
        ("EmbeddingConfs", sections.embedding_confs),
    ):
        for scene, conf in _items(by_scene):
            rank = getattr(conf, "rank_conf", None)
            if rank is not None:
                yield (section, scene, "RankConf"), rank
    for path, pipeline in pipelines(sections):
        general = getattr(pipeline, "general_rank_conf", None)
        for where, conf in ((path, pipeline), ((*path, "GeneralRankConf"), general)):
            if (rank := getattr(conf, "rank_conf", None)) is not None:
                yield (*where, "RankConf"), rank


def _expressions_parse(sections: Sections, report: Report) -> None:
    for path, rank in _ranks(sections):
        text, kind = getattr(rank, "rank_score", ""), getattr(rank, "ast_type", "")
        if not isinstance(text, str) or not isinstance(kind, str):
            continue
        rewrites = dict(_items(getattr(rank, "score_rewrite", None)))
        algos = getattr(rank, "rank_algo_list", ())
        known = {"current_score", *rewrites, *(algos if isinstance(algos, tuple) else ())}
        if text or kind:
            _parses(text or "0", kind, known, (*path, "RankScore" if text else "ASTType"), report)
        for name, rewrite in rewrites.items():
            if isinstance(rewrite, str):
                _parses(rewrite, kind, known, (*path, "ScoreRewrite", name), report)


def _parses(text: str, kind: str, known: set[str], path: Path, report: Report) -> None:
    """A name may be any property, and counts 0 where an item has none: one that is nearly a `known` one is told."""
    try:
        names = score_expression.compile(text, kind).names
    except ConfigError as error:
        report.error(path, str(error))
        return
    for name in names:
        near = [] if name in known else difflib.get_close_matches(name, known, 1, 0.85)
        if near and not name.startswith(f"{near[0]}_"):
            told = f"{quote(name)} is no score here (did you mean {quote(near[0])}?); an item without it counts 0"
            report.warn(path, told, key=False)


def _resolve(names: Any, known: set[str], noun: str, path: Path, report: Report) -> None:
    for at, name in enumerate(names if isinstance(names, tuple) else ()):
        if isinstance(name, str) and name not in known:
            report.error((*path, at), f"unknown {noun} {quote(name)}{report.did_you_mean(name, known)}")


def _warn_repeated(names: Any, path: Path, report: Report) -> None:
    seen: set[str] = set()
    for at, name in enumerate(names if isinstance(names, tuple) else ()):
        if isinstance(name, str) and name in seen:
            report.warn((*path, at), f"{quote(name)} is listed twice", key=False)
        elif isinstance(name, str):
            seen.add(name)


def _sinks_resolve(sections: Sections, document: dict[str, Any], report: Report, directory: FilePath) -> None:
    used = set[tuple[str, str]]()  # sections and names
    for scene, conf in _items(sections.call_back_confs):
        source = getattr(conf, "data_source", None)
        path = ("CallBackConfs", scene, "DataSource")
        _sink_resolves(getattr(source, "name", None), getattr(source, "type", None), path, document, report, used)
    for section, confs_of in (("FeatureLogConfs", sections.feature_log_confs), ("DebugConfs", sections.debug_confs)):
        for scene, conf in _items(confs_of):
            kind = getattr(conf, "output_type", None)
            if kind in _SINKS:
                key = {"disk": "DiskName", "kafka": "KafKaName", "datahub": "DatahubName"}[kind]
                path = (section, scene, key)
                if getattr(conf, f"{kind}_name") == "":
                    report.warn((section, scene), f"{key} is missing: nothing is written")
                    continue
                _sink_resolves(getattr(conf, f"{kind}_name"), kind, path, document, report, used)
    confs = {
        "DiskConfs": sections.disk_confs, "KafkaConfs": sections.kafka_confs, "DatahubConfs": sections.datahub_confs
    }  # fmt: skip
    named = {(section, name): conf for section in confs for name, conf in _items(confs[section])}
    in_use = {path: conf for path, conf in named.items() if path in used}
    _sinks_are_apart(in_use, report, directory)
    _topics_are_whole({path[1]: conf for path, conf in in_use.items() if path[0] == "KafkaConfs"}, report)


def _sink_resolves(
    name: Any, kind: Any, path: Path, document: dict[str, Any], report: Report, used: set[tuple[str, str]]
) -> None:
    """`path` is that of the name, or of the DataSource that has it."""
    if not isinstance(name, str) or not isinstance(kind, str):
        return
    is_source = path[-1] == "DataSource"
    if kind not in _SINKS:
        report.error((*path, "Type"), f'expected "disk", "kafka" or "datahub", got {quote(kind)}')
        return
    entries = document.get(_SINKS[kind])
    known = set(entries) if isinstance(entries, dict) else set()
    if name in known:
        used.add((_SINKS[kind], name))
    else:
        hint = report.did_you_mean(name, known)
        report.error((*path, "Name") if is_source else path, f"unknown name {quote(name)} in {_SINKS[kind]}{hint}")


def _sinks_are_apart(confs: dict[tuple[str, str], Any], report: Report, directory: FilePath) -> None:
    """No two sinks share a folder: one would deliver, and then remove, what another has written there."""
    places: dict[str, tuple[str, str]] = {}
    for path, conf in confs.items():
        if not isinstance(conf, DiskConf | KafkaConf | DatahubConf) or not isinstance(conf.directory, str):
            continue
        folder = conf.folder(path[1])
        if (other := places.setdefault(os.path.realpath(directory / folder), path)) != path:
            told = f"Directory {quote(folder)} is that of {'.'.join(other)} too; each needs its own"
            report.error(path, told)


def _topics_are_whole(confs: dict[str, Any], report: Report) -> None:
    for name, conf in confs.items():
        path = ("KafkaConfs", name)
        for attribute, key in (("bootstrap_servers", "BootstrapServers"), ("topic", "Topic")):
            if getattr(conf, attribute, None) == "":
                report.error(path, f"{key} is missing")
        topic = getattr(conf, "topic", None)
        if isinstance(topic, str) and topic and (topic in (".", "..") or not _TOPIC.fullmatch(topic)):
            told = "expected 1 to 249 letters, digits, dots, underscores and hyphens"
            report.error((*path, "Topic"), f'{told}, got "{topic:.200}"')
        servers = getattr(conf, "bootstrap_servers", "")
        if isinstance(servers, str) and not _on_loopback(servers) and "security.protocol" not in _properties(conf):
            report.warn(
                path, "brokers on other machines, and no security.protocol in Properties: all goes in the clear"
            )


def _properties(conf: Any) -> dict[str, Any]:
    properties = getattr(conf, "properties", None)
    return properties if isinstance(properties, dict) else {}


def _on_loopback(servers: str) -> bool:
    places = [server.rpartition("://")[2].strip() for server in servers.split(",") if server]
    hosts = [(place.rpartition(":")[0] or place).strip("[]") for place in places]
    return all(host in ("localhost", "::1") or host.startswith("127.") for host in hosts)


def _durabilities_agree(sections: Sections, report: Report) -> None:
    if getattr(sections.log_ring_conf, "durability", None) != "memory":
        return
    for scene, conf in _items(sections.call_back_confs):
        if getattr(conf, "durability", "") == "process":
            told = 'LogRingConf.Durability is "memory", and rings without files do not outlive their process'
            report.error(("CallBackConfs", scene, "Durability"), told)


def _budgets_resolve(sections: Sections, report: Report) -> None:
    scenes, stages = {"*", *dict(_items(sections.scene_confs))}, {*STAGES_TIMED, TOTAL}
    for scene, budgets in _items(getattr(sections.limit_conf, "budget_microseconds", None)):
        path = ("LimitConf", "BudgetMicroseconds", scene)
        if scene not in scenes:
            report.error(path, f"unknown scene {quote(scene)}{report.did_you_mean(scene, scenes)}", key=True)
        for stage, _ in _items(budgets):
            if stage not in stages:
                hint = report.did_you_mean(stage, stages) or f"; there are {', '.join((*STAGES_TIMED, TOTAL))}"
                report.error((*path, stage), f"unknown stage {quote(stage)}{hint}", key=True)


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    """The entries of a map, none of a map that was reported as wrong."""
    return value.items() if isinstance(value, dict) else ()


def _texts_under(value: Any, keys: set[str], inside: bool = False) -> Iterator[str]:
    """Every text below any of `keys` (in lower case), however deep."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _texts_under(part, keys, inside or key.casefold() in keys)
    elif isinstance(value, list):
        for part in value:
            yield from _texts_under(part, keys, inside)
    elif inside and isinstance(value, str):
        yield value
