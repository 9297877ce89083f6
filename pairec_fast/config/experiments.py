"""The file that ExperimentConf names: it parses, and what its parameters override exists.

PAI-Rec skips unknown names that an experiment sets; the experiment then measures something else than its name says.
"""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

from pairec_fast.config.convert import BAD, Converter, describe
from pairec_fast.config.kinds import STAGES
from pairec_fast.config.loads import FeatureLoadConfig
from pairec_fast.config.positions import Path, quote, read
from pairec_fast.config.report import INERT, Report
from pairec_fast.config.sections import GeneralRankConfig, RankConfig, Sections
from pairec_fast.errors import ConfigError
from pairec_fast.experiment import GLOBAL_SCENE, ExperimentError, Experiments
from pairec_fast.expression import compile as compile_formula

_FILE = ("ExperimentConf", "File")
_STAGE_OF = {"RecallNames": "recall", "FilterNames": "filter", "SortNames": "sort"}
_LOADS = {
    "features.scene.name": "FeatureConfs",
    "user_features.scene.name": "UserFeatureConfs",
    **{
        f"user_features.stage.{stage}.scene.name": "UserFeatureConfs"
        for stage in ("base", "recall", "generalrank", "rank")
    },
}
_EXACT = {name.casefold(): name for name in ("filterNames", "rankconf", "rankscore", *_LOADS)}
_ENDINGS = {name.casefold(): name for name in ("RecallNames", "SortNames")}


def check_experiments(
    sections: Sections, defined: dict[str, set[str]], report: Report, directory: FilePath
) -> dict[str, set[str]]:
    """Report what is wrong with the file and with the parameters in it. Answers the names that these use, by section.

    `defined` are the names of each section's entries.
    """
    name = getattr(sections.experiment_conf, "file", None)
    if not isinstance(name, str):
        return {}
    try:
        document = read((directory / name).read_bytes(), name)
        experiments = Experiments.parse(document.value, name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        report.error(_FILE, f"cannot read {quote(name)}: {reason}")
        return {}
    except ExperimentError as error:
        inside = Report(document)
        for path, what in error.places:
            inside.error(path, what)
        _pass_on(inside, report)
        return {}
    except ConfigError as error:
        report.error(_FILE, str(error))
        return {}
    inside = Report(document)
    for path, what in experiments.notes:
        inside.warn(path, what)
    overrides = _Overrides(sections, defined, inside)
    for path, scene, params in experiments.settings():
        overrides.check(path, scene, params)
    known = {*_keys(sections.scene_confs), GLOBAL_SCENE}
    for scene in experiments.scenes:
        if scene.removesuffix("_callback") not in known:
            hint = inside.did_you_mean(scene, known)
            inside.warn(experiments.plan(scene).scene.path, f"SceneConfs has no scene {quote(scene)}{hint}")
    _pass_on(inside, report)
    return overrides.used


def _pass_on(inside: Report, report: Report) -> None:
    """What was found inside the file, told where the configuration names it: each line has its own place in it."""
    for problem in inside.problems():
        if problem.severity == "warning":
            report.warn(_FILE, str(problem), key=False)
        else:
            report.error(_FILE, str(problem))


class _Overrides:
    """Parameters against the configuration they override. Source: PAIREC.md 2.12."""

    def __init__(self, sections: Sections, defined: dict[str, set[str]], inside: Report) -> None:
        self._sections = sections
        self._inside = inside
        self._known = {stage: defined[STAGES[stage].section] | {STAGES[stage].built_in} for stage in STAGES}
        self._algos = defined["AlgoConfs"]
        self.used: dict[str, set[str]] = {}

    def check(self, path: Path, scene: str, params: dict[str, Any]) -> None:
        """The parameters that a group or an experiment, whose settings are at `path`, gives to requests of `scene`."""
        for name, value in params.items():
            of, own = scene, name
            if scene == GLOBAL_SCENE:
                for other in _keys(self._sections.scene_confs):
                    if name.startswith(other + "."):
                        of, own = other, name.removeprefix(other + ".")
            self._one(of, own, value, (*path, name))

    def _one(self, scene: str, name: str, value: Any, path: Path) -> None:
        before, _, ending = name.rpartition(".")
        if name == "filterNames":
            self._names("filter", value, path)
        elif name.startswith("pipelines."):
            self._pipeline(scene, before.partition(".")[2], ending, value, path)
        elif before and ending in ("RecallNames", "SortNames"):
            self._names(_STAGE_OF[ending], value, path)
            self._category(scene, before, path)
        elif name == "rankconf":
            self._rank(value, path)
        elif name == "rankscore":
            rank = self._sections.rank_conf.get(scene) if isinstance(self._sections.rank_conf, dict) else None
            self._formula(value, getattr(rank, "ast_type", ""), path)
        elif name in _LOADS:
            confs = (
                self._sections.feature_confs if _LOADS[name] == "FeatureConfs" else self._sections.user_feature_confs
            )
            known = _keys(confs)
            if isinstance(value, str) and value and value not in known:
                hint = self._inside.did_you_mean(value, known)
                self._inside.error(path, f"{_LOADS[name]} has no scene {quote(value)}{hint}")
        elif isinstance(value, dict) and name.partition(".")[0] in STAGES and name.partition(".")[2]:
            stage, _, entry = name.partition(".")
            self._entry(stage, entry, path)
        else:
            self._slip(name, path)

    def _names(self, stage: str, value: Any, path: Path) -> None:
        if not isinstance(value, list):
            self._inside.error(path, f"expected a list of names, got {describe(value)}")
            return
        for at, name in enumerate(value):
            if not isinstance(name, str):
                self._inside.error((*path, at), f"expected a name, got {describe(name)}")
            elif name not in self._known[stage]:
                hint = self._inside.did_you_mean(name, self._known[stage])
                self._inside.error((*path, at), f"unknown {stage} {quote(name)}{hint}")
            else:
                self.used.setdefault(STAGES[stage].section, set()).add(name)

    def _category(self, scene: str, category: str, path: Path) -> None:
        """A category that no scene configures gets its recalls from here alone; mostly it is a slip of the pen."""
        confs = self._sections.scene_confs if isinstance(self._sections.scene_confs, dict) else {}
        ours = confs.values() if scene == GLOBAL_SCENE else [confs[scene]] if scene in confs else []
        known = {name for categories in ours for name in _keys(categories)}
        if known and category not in known:
            hint = self._inside.did_you_mean(category, known)
            self._inside.warn(path, f"the scene has no category {quote(category)}{hint}")

    def _rank(self, value: Any, path: Path) -> None:
        if not isinstance(value, dict):
            self._inside.error(path, f"expected an object, got {describe(value)}")
            return
        rank = Converter(self._inside).struct(value, RankConfig, path)
        if rank is not BAD:
            self._ranked(rank, path)

    def _ranked(self, rank: Any, path: Path) -> None:
        for at, name in enumerate(rank.rank_algo_list if isinstance(rank.rank_algo_list, tuple) else ()):
            if isinstance(name, str) and name not in self._algos:
                hint = self._inside.did_you_mean(name, self._algos)
                self._inside.error((*path, "RankAlgoList", at), f"unknown algorithm {quote(name)}{hint}")
            elif isinstance(name, str):
                self.used.setdefault("AlgoConfs", set()).add(name)
        self._formula(rank.rank_score, rank.ast_type, (*path, "RankScore"))

    def _pipeline(self, scene: str, name: str, ending: str, value: Any, path: Path) -> None:
        """One part of a side pipeline."""
        if ending in _STAGE_OF:
            self._names(_STAGE_OF[ending], value, path)
        elif ending == "RankConf":
            self._rank(value, path)
        elif ending == "GeneralRankConf":
            general = Converter(self._inside).take(value, GeneralRankConfig, path)
            if general is not BAD and general.rank_conf is not BAD:
                self._ranked(general.rank_conf, (*path, "RankConf"))
        elif ending == "FeatureLoadConfs":
            Converter(self._inside).take(value, tuple[FeatureLoadConfig, ...], path)
        elif ending == "ColdStartRankConf":
            self._inside.warn(path, INERT)
        else:
            known = {*_STAGE_OF, "RankConf", "GeneralRankConf", "FeatureLoadConfs"}
            self._inside.warn(path, f"overrides nothing{self._inside.did_you_mean(ending, known)}")
        confs = self._sections.pipeline_confs if isinstance(self._sections.pipeline_confs, dict) else {}
        ours = confs.values() if scene == GLOBAL_SCENE else [confs.get(scene, ())]
        names = {getattr(conf, "name", "") for some in ours if isinstance(some, tuple) for conf in some}
        if name not in names:
            hint = self._inside.did_you_mean(name, [one for one in names if isinstance(one, str)])
            self._inside.warn(path, f"overrides nothing: the scene has no pipeline {quote(name)}{hint}")

    def _formula(self, text: Any, kind: Any, path: Path) -> None:
        if isinstance(text, str) and isinstance(kind, str) and (text or kind):
            try:
                compile_formula(text or "0", kind)
            except ConfigError as error:
                self._inside.error(path, str(error))

    def _entry(self, stage: str, name: str, path: Path) -> None:
        if name not in self._known[stage]:
            hint = self._inside.did_you_mean(name, self._known[stage])
            self._inside.warn(path, f"overrides nothing: unknown {stage} {quote(name)}{hint}")

    def _slip(self, name: str, path: Path) -> None:
        """PAI-Rec minds the case of parameters, unlike that of its configuration."""
        before, dot, ending = name.rpartition(".")
        right = _EXACT.get(name.casefold(), name)
        if right == name and dot:
            right = before + dot + _ENDINGS.get(ending.casefold(), ending)
        if right != name:
            self._inside.warn(path, f"overrides nothing; did you mean {quote(right)}?")


def _keys(value: Any) -> set[str]:
    """The keys of a map, none of a map that was reported as wrong."""
    return set(value) if isinstance(value, dict) else set()
