"""The PAI-Rec JSON file, checked: from here on every name resolves and every value has its type."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from pairec_fast.config.check import check
from pairec_fast.config.convert import BAD, Converter, describe
from pairec_fast.config.environment import Expander
from pairec_fast.config.kinds import STAGES, Kinds
from pairec_fast.config.loads import FeatureDaoConf, FeatureLoadConfig, SceneFeatureConfig
from pairec_fast.config.positions import Document, quote, read
from pairec_fast.config.report import INERT, Report
from pairec_fast.config.sections import (
    AlgoConfig,
    CallBackConfig,
    CategoryConfig,
    ColdStartGeneralRankConfig,
    EasConf,
    EmbeddingConfig,
    ExperimentConf,
    FallbackConfig,
    GeneralRankConfig,
    LightGBMConf,
    ListenConf,
    LookupConf,
    PipelineConfig,
    RankConfig,
    Sections,
    SnapshotConf,
)
from pairec_fast.config.shapes import DPP
from pairec_fast.config.sinks import DatahubConf, DataSource, DiskConf, KafkaConf, LogRingConf
from pairec_fast.config.telling import DebugConfig, FeatureLogConfig, LogConfig, PrometheusConfig
from pairec_fast.errors import ConfigError, Problem
from pairec_fast.limits import LimitConf
from pairec_fast.transform import FeatureConfig

__all__ = [
    "AlgoConfig",
    "CallBackConfig",
    "CategoryConfig",
    "ColdStartGeneralRankConfig",
    "Config",
    "DataSource",
    "DatahubConf",
    "DebugConfig",
    "DiskConf",
    "EasConf",
    "EmbeddingConfig",
    "ExperimentConf",
    "FallbackConfig",
    "FeatureConfig",
    "FeatureDaoConf",
    "FeatureLoadConfig",
    "FeatureLogConfig",
    "GeneralRankConfig",
    "KafkaConf",
    "Kinds",
    "LightGBMConf",
    "LimitConf",
    "ListenConf",
    "LogConfig",
    "LogRingConf",
    "LookupConf",
    "PipelineConfig",
    "PrometheusConfig",
    "RankConfig",
    "SceneFeatureConfig",
    "SnapshotConf",
    "digest",
]


class Config(Sections, frozen=True, kw_only=True, rename="pascal"):
    """A configuration without errors.

    `problems` have their places if the configuration came from a file: `warnings` are those about what is accepted but
    probably not meant (unknown keys, definitions without use), `unused` those about parts of PAI-Rec's that do not act
    here. `fingerprint` tells contents apart.
    """

    directory: Path
    report: Report
    fingerprint: str

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.report.problems()

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(line for problem, line in self._warnings() if not problem.message.startswith(INERT))

    @property
    def unused(self) -> tuple[str, ...]:
        return tuple(line for problem, line in self._warnings() if problem.message.startswith(INERT))

    def _warnings(self) -> list[tuple[Problem, str]]:
        return [(problem, str(problem)) for problem in self.problems if problem.severity == "warning"]

    @property
    def experiments_path(self) -> Path | None:
        """The file that `ExperimentConf` names."""
        return None if self.experiment_conf is None else self.path(self.experiment_conf.file)

    def __repr__(self) -> str:
        """Without the values: the environment may have put secrets into them."""
        return f"Config({str(self.directory)!r}, scenes={sorted(self.scene_confs)})"

    @classmethod
    def load(cls, path: str | os.PathLike[str], kinds: Kinds) -> Config:
        """Read and check a file. Relative paths in it are relative to its folder.

        Raises:
            ConfigError: a line per error, each as `file:line:column: path: what is wrong`; all errors at once, except
                that bad syntax is reported alone.
        """
        config = cls.examine(path, kinds)
        config.report.raise_errors()
        return config

    @classmethod
    def examine(cls, path: str | os.PathLike[str], kinds: Kinds) -> Config:
        """As `load`, but what is wrong is in `problems`, and left out of the configuration: to look at the rest of it.

        Raises:
            ConfigError: it cannot be read, or is no JSON object.
        """
        name = os.fspath(path)
        try:
            data = Path(name).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problem = Problem(name, 0, 0, "", f"cannot read the configuration: {reason}", "error")
            raise ConfigError.of([problem]) from error
        return _checked(read(data, name), kinds, Path(name).absolute().parent, data)

    @classmethod
    def parse(cls, value: dict[str, Any], kinds: Kinds, directory: str | os.PathLike[str] = ".") -> Config:
        """Check a configuration that is already a dict; it is copied. Errors name the path, without a place.

        Raises:
            ConfigError: as `load`; also for values that JSON does not have.
        """
        document = Document("configuration")
        document.value = value
        config = _checked(document, kinds, Path(directory).absolute(), None)
        config.report.raise_errors()
        return config

    def path(self, text: str) -> Path:
        """`text` as a path, relative to the folder of the configuration file."""
        return self.directory / text

    def user_defined(self, key: str | None = None, kind: Any = Any) -> Any:
        """The free section `UserDefineConfs`, or what it has under `key`, as `kind`: a Struct, or any type.

        Raises:
            ConfigError: no such key, or something else than `kind`; with its place.
        """
        value: Any = self.user_define_confs
        path: tuple[str, ...] = ("UserDefineConfs",)
        if key is not None:
            known = value if isinstance(value, dict) else {}
            if key not in known:
                raise ConfigError(f"UserDefineConfs: no {quote(key)}{self.report.did_you_mean(key, known)}")
            value, path = known[key], (*path, key)
        report = self.report.anew()
        converted = Converter(report).take(value, kind, path)
        report.raise_errors()
        return converted

    def recalls(self, scene: str, category: str) -> list[str] | None:
        """Names of the recalls to run; None if the scene is unknown.

        An unknown category means category `default_category`; without that one, no recall. Source: PAIREC.md 2.3.
        """
        if scene not in self.scene_confs:
            return None
        categories = self.scene_confs[scene]
        conf = categories.get(category, categories.get("default_category"))
        return [] if conf is None else list(conf.recall_names)

    def filters(self, scene: str) -> list[str]:
        """Names of the filters of a scene, else of scene `default`, else none. Source: PAIREC.md 2.3."""
        return list(self.filter_names.get(scene, self.filter_names.get("default", ())))

    def sorts(self, scene: str, category: str) -> list[str]:
        """Names of the sorts of a scene, else those under the category's name, else `ItemRankScore`.

        The category is usually `default`, which is how a key `default` serves all scenes. Source: PAIREC.md 2.3.
        """
        names = self.sort_names.get(scene, self.sort_names.get(category))
        return [STAGES["sort"].built_in] if names is None else list(names)


def _checked(document: Document, kinds: Kinds, directory: Path, data: bytes | None) -> Config:
    """The configuration without what is wrong in it; its report says what that is."""
    report = Report(document)
    if not isinstance(document.value, dict):
        report.error((), f"expected an object at the top, got {describe(document.value)}")
        report.raise_errors()
    for path in dict.fromkeys(document.duplicates):
        report.warn(path, "given more than once; the last one counts")
    lenient = frozenset(name.casefold() for name in Sections.untyped)
    value = Expander(report, os.environ, lenient).expand(document.value)
    converter = Converter(report)
    sections = converter.struct(value, Sections, ())
    fields = asdict(sections)
    for stage, registry in (("recall", kinds.recall), ("filter", kinds.filter), ("sort", kinds.sort)):
        entries = fields[f"{stage}_confs"]
        fields[f"{stage}_confs"] = tuple(
            STAGES[stage].take(entry, registry, at, converter, report)
            for at, entry in enumerate(entries if entries is not BAD else ())
        )
    fields["sort_confs"] += _dpp_sorts(sections.dpp_conf, kinds.sort, converter, report)
    check(sections, sections.raw, report, directory)
    for name in sections.raw:
        if name in Sections.untyped:
            report.warn((name,), INERT)
    if report.error_count:
        keys = {field.name: field.encode_name for field in msgspec.structs.fields(Sections)}
        wrong = {path[:2] for path in report.error_paths if path[:1] not in _NAMES}
        fields = {name: sound for name, part in fields.items() if (sound := _sound(part, keys[name], wrong)) is not BAD}
    return Config(**fields, directory=directory, report=report, fingerprint=_fingerprint(sections.raw, data))


def _dpp_sorts(
    entries: Any, sorts: Mapping[str, type[msgspec.Struct]], to: Converter, report: Report
) -> tuple[Any, ...]:
    """The sorts that the section DPPConf defines: each entry is what an entry of SortConfs has as its DPPConf."""
    kind = sorts.get("DPPSort")
    own = {} if kind is None else {one.encode_name: one for one in msgspec.structs.fields(kind)}
    made = []
    for at, entry in enumerate(entries if entries is not BAD else ()):
        conf = to.take(entry, own["DPPConf"].type if own else DPP, ("DPPConf", at), DPP)
        if kind is None or conf is BAD:
            continue
        if not conf.name:
            report.error(("DPPConf", at), "Name is missing")
        made.append(kind(**{"name": conf.name, own["DPPConf"].name: conf}))
    return tuple(made)


def _fingerprint(raw: dict[str, Any], data: bytes | None) -> str:
    """Of the file as it was written, or of a dict; one with numbers too long to print has none."""
    try:
        content = msgspec.json.encode(raw, order="sorted") if data is None else data
    except ValueError:
        return ""
    return digest(content)


def digest(content: bytes) -> str:
    """Tells contents apart."""
    return hashlib.sha256(content).hexdigest()[:16]


# Sections of names: one that is unknown leaves the others to be looked at.
_NAMES = {("SceneConfs",), ("FilterNames",), ("SortNames",)}


def _sound(part: Any, section: str, wrong: set[tuple[str | int, ...]]) -> Any:
    """A section without its entries that have an error in them; `BAD` if it has one that is in no entry."""
    if isinstance(part, dict):
        return {key: one for key, one in part.items() if not _holds_bad(one) and (section, key) not in wrong}
    if isinstance(part, tuple):
        kept = (one for at, one in enumerate(part) if not _holds_bad(one) and (section, at) not in wrong)
        return tuple(kept)
    return BAD if _holds_bad(part) else part


def _holds_bad(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return any(_holds_bad(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return any(map(_holds_bad, value.values()))
    if isinstance(value, list | tuple | frozenset | set):
        return any(map(_holds_bad, value))
    return value is BAD
