"""manifest.json: what a snapshot directory holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from pairec_fast.errors import SnapshotError

FORMAT = 3


class ArrayInfo(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]


class FileInfo(msgspec.Struct, frozen=True):
    bytes: int
    crc32c: int


class TableInfo(msgspec.Struct, frozen=True):
    """`columns`: name -> number, text or vector."""

    count: int
    columns: dict[str, str]


class AggregateInfo(msgspec.Struct, frozen=True):
    """`user` and `item` are what the value is grouped by on either side: null, "" for the row, or a text column."""

    user: str | None
    item: str | None


class Feature(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One model input. `source` is written kind:name; a categorical's code is its place in `categories`."""

    name: str
    source: str
    categories: list[str] | None = None


class ModelInfo(msgspec.Struct, frozen=True):
    """`features` in the order of the model's columns."""

    features: list[Feature]
    objective: str


class Manifest(msgspec.Struct, frozen=True):
    """manifest.json. `items_sequence` is the last record of items.log that is in the tables."""

    format: int
    fingerprint: str
    time: float
    arrays: dict[str, ArrayInfo]
    files: dict[str, FileInfo]
    items: TableInfo
    users: TableInfo
    vectors: list[str] = []
    lists: dict[str, str] = {}
    neighbours: list[str] = []
    aggregates: dict[str, AggregateInfo] = {}
    models: dict[str, ModelInfo] = {}
    golden: list[str] = []
    items_sequence: int = 0


def fingerprint(manifest: Manifest) -> str:
    """16 hexadecimal digits over everything the manifest says, checksums of all files included."""
    bare = msgspec.structs.replace(manifest, fingerprint="")
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()[:16]


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a snapshot directory.

    Raises:
        SnapshotError: none that this version reads, or one that was edited.
    """
    path = directory / "manifest.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{path}: not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise SnapshotError(f"{path}: format {manifest.format}; this version reads {FORMAT}. Build it again")
    if fingerprint(manifest) != manifest.fingerprint:
        raise SnapshotError(f"{path}: the fingerprint does not fit the content; the manifest was edited")
    return manifest


def resolve(directory: Path) -> Path:
    """`directory` itself when it is a snapshot, else the one its `CURRENT` names."""
    current = directory / "CURRENT"
    if (directory / "manifest.json").exists() or not current.exists():
        if not (directory / "manifest.json").exists():
            raise SnapshotError(f"{directory}: neither manifest.json nor CURRENT; not a snapshot, nor a folder of them")
        return directory
    name = current.read_text().strip()
    if not name or "/" in name or name.startswith(".") or not (directory / name / "manifest.json").exists():
        raise SnapshotError(f"{current}: names {name!r}, which is not a snapshot in {directory}")
    return directory / name
