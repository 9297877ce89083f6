"""A snapshot: everything that can be known before a request arrives, in one directory, immutable and memory-mapped.

    snapshots/
      CURRENT                      the name of the directory to use
      2026-11-21T10-00-00/
        manifest.json              shapes, dtypes, checksums, meanings; fingerprint over all of it
        items.price.npy  ...       one array a file
        als.index                  vector indexes
        ranker.txt  ...            models as trained
        ranker.forest  ...         the same, compiled
        ranker.lines.npy  ...      what they read of each item, as bytes

All workers of a machine share the pages. Nothing is pickled; nothing is repaired.
"""

from __future__ import annotations

import difflib
import hashlib
import io
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Forest, IdMap, MappedFile, Neighbours, VectorIndex, crc32c
from pairec_fast.errors import ConfigError, SnapshotError

FORMAT = 2


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


def fingerprint(manifest: Manifest) -> str:
    """16 hexadecimal digits over everything the manifest says, checksums of all files included."""
    bare = msgspec.structs.replace(manifest, fingerprint="")
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()[:16]


class Texts:
    """A vocabulary: texts by code. Decoded one at a time; a large one costs nothing until asked."""

    def __init__(self, text: NDArray[np.uint8], offset: NDArray[np.uint64]) -> None:
        self._text, self._offset = text, offset

    def __len__(self) -> int:
        return len(self._offset) - 1

    def __getitem__(self, code: int) -> str:
        if not 0 <= code < len(self):
            raise IndexError(f"code {code} of {len(self)}")
        return bytes(self._text[self._offset[code] : self._offset[code + 1]]).decode()

    @cached_property
    def code(self) -> dict[str, int]:
        """Text -> code."""
        return {self[code]: code for code in range(len(self))}


class Column:
    """`kind` number: `values` [count] of a native dtype, NaN missing. text: codes int32 [count], -1 missing, and
    `texts`. vector: float32 [count, dim]."""

    def __init__(self, kind: str, values: NDArray[Any], texts: Texts | None) -> None:
        self.kind, self.values, self.texts = kind, values, texts

    def value(self, row: int) -> Any:
        """What a person would write: a number, a text, None when missing, or a list."""
        value = self.values[row]
        if self.kind == "text":
            assert self.texts is not None
            return self.texts[int(value)] if value >= 0 else None
        if self.kind == "vector":
            return value.tolist()
        plain = value.item()
        return None if plain != plain else plain


class Table:
    """Rows of items or users. `ids` maps an id to its row, `columns` a name to its column."""

    def __init__(self, name: str, ids: IdMap, columns: Mapping[str, Column]) -> None:
        self.name, self.ids, self.columns = name, ids, columns

    def __len__(self) -> int:
        return len(self.ids)


class Vectors:
    """Vectors of users and items in one space: `users` [users, dim], `items` [items, dim] float32, and the index.

    The index holds the items that have a vector; `rows` [index.count] int32 says which, ascending. `index` None: the
    vectors feed a feature, and nothing is searched in them.
    """

    def __init__(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        index: VectorIndex | None,
        rows: NDArray[np.int32],
    ) -> None:
        self.users, self.items, self.index, self.rows = users, items, index, rows


class Ranked:
    """A list of items for each group: `rows[offset[group]:offset[group + 1]]` best first, with `scores`.

    `by` is the user column whose texts are the groups, or "" for one list for all.
    """

    def __init__(
        self, by: str, offset: NDArray[np.int64], rows: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> None:
        self.by, self.offset, self.rows, self.scores = by, offset, rows, scores

    def of(self, group: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        begin, end = self.offset[group], self.offset[group + 1]
        return self.rows[begin:end], self.scores[begin:end]


class History:
    """Rows of the items each user chose, oldest first: `rows[offset[user]:offset[user + 1]]`."""

    def __init__(self, offset: NDArray[np.int64], rows: NDArray[np.int32]) -> None:
        self.offset, self.rows = offset, rows

    def of(self, user: int) -> NDArray[np.int32]:
        return self.rows[self.offset[user] : self.offset[user + 1]]


class Golden:
    """Questions with known answers: feature rows of (user, items), and the scores the trainer's own library gave."""

    def __init__(self, users: NDArray[np.int32], items: NDArray[np.int32], scores: NDArray[np.float64]) -> None:
        self.users, self.items, self.scores = users, items, scores


class Snapshot:
    """A directory, mapped. Read-only and safe to share between threads."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory, self.manifest = directory, manifest
        self.fingerprint, self.time = manifest.fingerprint, manifest.time
        self.items = self._table("items", manifest.items)
        self.users = self._table("users", manifest.users)
        self.history = History(self.array("history.offset"), self.array("history.rows"))
        self.lists = {
            name: Ranked(by, *(self.array(f"{name}.{part}") for part in ("offset", "rows", "scores")))
            for name, by in manifest.lists.items()
        }
        self.vectors = {name: self._vectors(name) for name in manifest.vectors}
        self.neighbours = {
            name: self._checked(
                f"{name}.neighbour",
                Neighbours,
                *(self.array(f"{name}.{part}") for part in ("offset", "neighbour", "weight")),
            )
            for name in manifest.neighbours
        }
        self.models = {name: Forest.load(directory / f"{name}.forest") for name in manifest.models}
        self.golden = {
            name: Golden(*(self.array(f"{name}.golden.{part}") for part in ("users", "items", "scores")))
            for name in manifest.golden
        }

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = True) -> Snapshot:
        """Map a snapshot directory, or the one that `CURRENT` in it names, and verify it.

        Checksums are CRC-32C of whole files; `verify=False` leaves them out (a worker whose parent has verified).

        Raises:
            SnapshotError: a file is missing, altered, or of another shape or dtype than the manifest says. The message
                names the file and both values.
        """
        directory = resolve(Path(directory))
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
        if verify:
            for name, info in manifest.files.items():
                _verify(directory / name, info)
        try:
            return cls(directory, manifest)
        except KeyError as error:
            raise SnapshotError(f"{path}: names no array {error}") from error

    def array(self, name: str) -> NDArray[Any]:
        """The mapped array of that name.

        Raises:
            SnapshotError: missing, or not as the manifest says.
        """
        info = self.manifest.arrays[name]
        path = self.directory / f"{name}.npy"
        try:
            array = _mapped(path)
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path}: {error}") from error
        if array.dtype.str != info.dtype or list(array.shape) != info.shape:
            raise SnapshotError(
                f"{path} is {array.dtype.str} {list(array.shape)}; manifest.json says {info.dtype} {info.shape}. "
                "The directory was written twice or copied while being written."
            )
        return array

    def _texts(self, name: str) -> Texts:
        return Texts(self.array(f"{name}.text"), self.array(f"{name}.offset"))

    def _table(self, name: str, info: TableInfo) -> Table:
        ids = self._checked(
            f"{name}.ids", IdMap, *(self.array(f"{name}.ids.{part}") for part in ("text", "offset", "slots"))
        )
        columns = {}
        for column, kind in info.columns.items():
            key = f"{name}.{column}"
            values = self.array(key)
            if len(values) != info.count or len(ids) != info.count:
                raise SnapshotError(
                    f"{self.directory / key}.npy has {len(values):,} rows, the ids {len(ids):,}; "
                    f"manifest.json says {info.count:,}"
                )
            columns[column] = Column(kind, values, self._texts(key) if kind == "text" else None)
        return Table(name, ids, columns)

    def _vectors(self, name: str) -> Vectors:
        users, items, rows = (self.array(f"{name}.{part}") for part in ("users", "items", "rows"))
        searched = f"{name}.index" in self.manifest.files
        index = VectorIndex.load(self.directory / f"{name}.index", verify=False) if searched else None
        held = len(index) if index is not None else len(rows)
        if len(rows) != held or len(items) != len(self.items) or len(users) != len(self.users):
            raise SnapshotError(
                f"{self.directory / name}: {held:,} vectors for {len(rows):,} rows; {len(users):,} users and "
                f"{len(items):,} items where the tables have {len(self.users):,} and {len(self.items):,}"
            )
        return Vectors(users, items, index, rows)

    def _checked(self, name: str, make: Any, *arrays: NDArray[Any]) -> Any:
        try:
            return make(*arrays)
        except ValueError as error:
            raise SnapshotError(f"{self.directory / name}: {error}") from error


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


def _mapped(path: Path) -> NDArray[Any]:
    """The array of an NPY file, mapped. Raises ValueError: no NPY file, or one of objects."""
    data = MappedFile(path)
    head = io.BytesIO(memoryview(data)[:4096])
    version = np.lib.format.read_magic(head)
    if version != (1, 0):
        raise ValueError(f"NPY version {version}; 1.0 would be right")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(head)
    if dtype.hasobject or in_columns:
        raise ValueError(f"{dtype} {'in columns' if in_columns else ''}; plain numbers in rows would be right")
    count = int(np.prod(shape))
    if count == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(memoryview(data), dtype, count, head.tell()).reshape(shape)


def _verify(path: Path, info: FileInfo) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}; manifest.json lists it") from error
    if size != info.bytes:
        raise SnapshotError(f"{path} has {size:,} bytes; manifest.json says {info.bytes:,}")
    found = crc32c(memoryview(MappedFile(path)))
    if found != info.crc32c:
        raise SnapshotError(
            f"{path} has CRC-32C {found:08x}; manifest.json says {info.crc32c:08x}. The file was altered"
        )


def pick(known: Mapping[str, Any], name: str, where: str) -> Any:
    """`known[name]`.

    Raises:
        ConfigError: not there; the message says `where` it was asked for, what is known, and what was probably meant.
    """
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, 1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    have = ", ".join(f'"{other}"' for other in sorted(known)) or "none"
    raise ConfigError(f'{where}: the snapshot has no "{name}"{hint}; it has {have}')
