"""The PAI-Rec JSON file, checked: from here on every name resolves and every value has its type."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from pairec_fast.config.check import check
from pairec_fast.config.convert import BAD, Converter, describe
from pairec_fast.config.environment import Expander
from pairec_fast.config.kinds import STAGES, Kinds
from pairec_fast.config.loads import FeatureConfig, FeatureDaoConf, FeatureLoadConfig, SceneFeatureConfig
from pairec_fast.config.positions import Document, quote, read
from pairec_fast.config.report import INERT, Report
from pairec_fast.config.sections import (
    AlgoConfig,
    CallBackConfig,
    CategoryConfig,
    FallbackConfig,
    LightGBMConf,
    ListenConf,
    LookupConf,
    RankConfig,
    Sections,
    SnapshotConf,
)
from pairec_fast.config.sinks import DatahubConf, DataSource, DiskConf, KafkaConf, LogRingConf
from pairec_fast.config.telling import DebugConfig, FeatureLogConfig, LogConfig, PrometheusConfig
from pairec_fast.errors import ConfigError, Problem
from pairec_fast.limits import LimitConf

__all__ = [
    "AlgoConfig",
    "CallBackConfig",
    "CategoryConfig",
    "Config",
    "DataSource",
    "DatahubConf",
    "DebugConfig",
    "DiskConf",
    "FallbackConfig",
    "FeatureConfig",
    "FeatureDaoConf",
    "FeatureLoadConfig",
    "FeatureLogConfig",
    "KafkaConf",
    "Kinds",
    "LightGBMConf",
    "LimitConf",
    "ListenConf",
    "LogConfig",
    "LogRingConf",
    "LookupConf",
    "PrometheusConfig",
    "RankConfig",
    "SceneFeatureConfig",
    "SnapshotConf",
]


class Config(Sections, frozen=True, kw_only=True, rename="pascal"):
    """A configuration without errors.

    `problems` are warnings, with their places if the configuration came from a file: `warnings` those about what is
    accepted but probably not meant (unknown keys, definitions without use), `unused` those about parts of PAI-Rec's
    that do not act here.
    """

    directory: Path
    report: Report

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.report.problems() if problem.severity == "warning")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(str(problem) for problem in self.problems if not problem.message.startswith(INERT))

    @property
    def unused(self) -> tuple[str, ...]:
        return tuple(str(problem) for problem in self.problems if problem.message.startswith(INERT))

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
        name = os.fspath(path)
        try:
            data = Path(name).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{name}: cannot read the configuration: {reason}") from error
        return _checked(read(data, name), kinds, Path(name).absolute().parent)

    @classmethod
    def parse(cls, value: dict[str, Any], kinds: Kinds, directory: str | os.PathLike[str] = ".") -> Config:
        """Check a configuration that is already a dict; it is copied. Errors name the path, without a place.

        Raises:
            ConfigError: as `load`; also for values that JSON does not have.
        """
        document = Document("configuration")
        document.value = value
        return _checked(document, kinds, Path(directory).absolute())

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


def _checked(document: Document, kinds: Kinds, directory: Path) -> Config:
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
    check(sections, sections.raw, report, directory)
    for name in sections.raw:
        if name in Sections.untyped:
            report.warn((name,), INERT)
    report.raise_errors()
    return Config(**fields, directory=directory, report=report)
