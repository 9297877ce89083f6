"""Which value feeds which model input."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

import msgspec

from pairec_fast.errors import SnapshotError


class Feature(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One input of a model.

    name       what the model calls it: LightGBM's `feature_names`
    source     the column its value comes from
    categories for text: the model's value is the text's index here; null and any other text are NaN
    """

    name: str
    source: str
    categories: list[str] | None = None


class FeatureSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`features.json`: the inputs of a model, in the model's order, and what it was trained for."""

    features: list[Feature]
    label: str = ""
    objective: str = ""
    format: int = 1

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FeatureSchema:
        """Read `features.json`.

        Raises:
            SnapshotError: no such file, not this format, no features, a name or a category twice.
        """
        path = Path(path)
        try:
            schema = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError as error:
            raise SnapshotError(f"{path}: no such file; training writes it beside model.txt") from error
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise SnapshotError(f"{path} is not a feature schema: {error}") from error
        if schema.format != 1:
            raise SnapshotError(f"{path} has format {schema.format}; this version reads format 1")
        if not schema.features:
            raise SnapshotError(f"{path} has no features; at least one would be right")
        _refuse_twice(path, "feature", [feature.name for feature in schema.features])
        for feature in schema.features:
            _refuse_twice(path, f'category of "{feature.name}"', feature.categories or [])
        return schema

    def save(self, path: str | PathLike[str]) -> None:
        """Write `features.json`, whole or not at all.

        Raises:
            SnapshotError: it cannot be written.
        """
        path = Path(path)
        content = {"format": self.format, "label": self.label, "objective": self.objective, "features": self.features}
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
            partial.replace(path)
        except OSError as error:
            raise SnapshotError(f"{path} cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)


def _refuse_twice(path: Path, what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SnapshotError(f'{path}: the {what} "{twice}" stands twice; once would be right')
