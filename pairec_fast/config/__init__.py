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
from pairec_fast.config.positions import Document, read
from pairec_fast.config.report import Report
from pairec_fast.config.sections import (
    AlgoConfig,
    CallBackConfig,
    CategoryConfig,
    DatahubConf,
    DataSource,
    DiskConf,
    FeatureDaoConf,
    FeatureLoadConfig,
    KafkaConf,
    LightGBMConf,
    ListenConf,
    LogRingConf,
    LookupConf,
    PrometheusConfig,
    RankConfig,
    SceneFeatureConfig,
    Sections,
    SnapshotConf,
)
from pairec_fast.errors import ConfigError
from pairec_fast.limits import LimitConf

__all__ = [
    "AlgoConfig",
    "CallBackConfig",
    "CategoryConfig",
    "Config",
    "DataSource",
    "DatahubConf",
    "DiskConf",
    "FeatureDaoConf",
    "FeatureLoadConfig",
    "KafkaConf",
    "Kinds",
    "LightGBMConf",
    "LimitConf",
    "ListenConf",
    "LogRingConf",
    "LookupConf",
    "PrometheusConfig",
    "RankConfig",
    "SceneFeatureConfig",
    "SnapshotConf",
]


class Config(Sections, frozen=True, kw_only=True, rename="pascal"):
    """A configuration without errors.

    `warnings` are lines about what is accepted but probably not meant (unknown keys, definitions without use);
    `unused` are lines about sections of PAI-Rec's that nothing here uses; both start with `file:line:column` if the
    configuration came from a file.
    """

    directory: Path
    warnings: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

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
    report.raise_errors()
    unused = tuple(report.line((name,), "unused here") for name in sections.raw if name in Sections.untyped)
    return Config(**fields, directory=directory, warnings=report.warnings(), unused=unused)
