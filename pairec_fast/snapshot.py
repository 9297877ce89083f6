"""A snapshot: everything that can be known before a request arrives, in one directory, immutable and memory-mapped.

    snapshots/
      CURRENT                      the name of the directory to use
      2026-11-21T10-00-00/
        manifest.json              shapes, dtypes, checksums, meanings; fingerprint over all of it
        items.price.npy  ...       one array a file
        als.index                  vector indexes
        als.city.places.npy  ...   what an index holds, listed by a column of the items
        ranker.txt  ...            models as trained
        ranker.forest  ...         the same, compiled
        ranker.lines.npy  ...      what they read of each item, as bytes

All workers of a machine share the pages. Nothing is pickled; nothing is repaired.
"""

from __future__ import annotations

import difflib
import io
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import (
    Forest,
    IdMap,
    Lists,
    MappedFile,
    Neighbours,
    Overlay,
    VectorIndex,
    build_slots,
    crc32c,
)
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.manifest import FileInfo, Manifest, TableInfo, read_manifest, resolve

DECODED_MAX = 4096  # texts kept of a vocabulary: about 300 KB, and all of those that say of what kind an item is


class Texts:
    """A vocabulary: texts by code. Decoded one at a time, the first few asked for only once; a large one costs nothing
    until asked."""

    def __init__(self, text: NDArray[np.uint8], offset: NDArray[np.uint64]) -> None:
        self._text, self._offset = text, offset
        self._added: list[str] = []
        self._codes: IdMap | None = None
        self._making = threading.Lock()
        self._decoded: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._offset) - 1 + len(self._added)

    @property
    def stored(self) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """The texts of the snapshot: UTF-8 [bytes] and offsets [texts + 1] into it. Those added later are not there."""
        return self._text, self._offset

    def __getitem__(self, code: int) -> str:
        known = self._decoded.get(code)
        if known is not None:
            return known
        if not 0 <= code < len(self):
            raise IndexError(f"code {code} of {len(self)}")
        if (later := code - len(self._offset) + 1) >= 0:
            return self._added[later]
        text = bytes(self._text[self._offset[code] : self._offset[code + 1]]).decode()
        if len(self._decoded) < DECODED_MAX:
            self._decoded[code] = text
        return text

    @cached_property
    def code(self) -> dict[str, int]:
        """Text -> code, of the texts there are when it is first asked for."""
        return {self[code]: code for code in range(len(self))}

    @property
    def codes(self) -> IdMap:
        """Text -> code, of the texts there are and those that come. Made when it is first asked for."""
        with self._making:
            if self._codes is None:
                self._codes = IdMap(self._text, self._offset, build_slots(self._text, self._offset))
            return self._codes

    def find(self, text: str) -> int:
        """The code of `text`, -1 if it has none. That of the empty text is known without a map of all."""
        if text:
            return self.codes.find(text)
        if self._empty >= 0 or "" not in self._added:
            return self._empty
        return len(self._offset) - 1 + self._added.index("")

    @cached_property
    def _empty(self) -> int:
        places = np.flatnonzero(self._offset[1:] == self._offset[:-1])
        return int(places[0]) if len(places) else -1

    def put(self, text: str) -> int:
        """The code of `text`, a new one if it has none. One thread at a time; others may read."""
        code = self.codes.find(text)
        if code < 0:
            code = len(self)
            self._added.append(text)
            self.codes.put(text, code)
        return code


class Column:
    """`kind` number: `values` [rows] of a native dtype, NaN missing. text: codes int32 [rows], -1 missing, and
    `texts`. vector: float32 [rows, dim].

    In a snapshot that may grow, rows are those of the table and behind them the spare ones, for items added later.
    """

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

    def value_of_each(self, rows: NDArray[np.int32]) -> list[Any]:
        """`value` of each row, in a fraction of the time."""
        values = self.values[rows].tolist()
        if self.kind == "text":
            texts = self.texts
            assert texts is not None
            return [texts[code] if code >= 0 else None for code in values]
        return values if self.kind == "vector" else [None if value != value else value for value in values]


class Table:
    """Rows of items or users. `ids` maps an id to its row, `columns` a name to its column."""

    def __init__(self, name: str, ids: IdMap, columns: Mapping[str, Column]) -> None:
        self.name, self.ids, self.columns = name, ids, columns

    def __len__(self) -> int:
        return len(self.ids)


class Vectors:
    """Vectors of users and items in one space: `users` [users, dim], `items` [items, dim] float32, and the index.

    The index holds the items that have a vector; `rows` [index.count] int32 says which, ascending. `index` None: the
    vectors feed a feature, and nothing is searched in them. `items` and `rows` have spare rows too. `followers` are
    called with (row of the index, row of the item) before a vector that was added later can be found. `lists` are those
    of the index's rows that the snapshot stores, by column of the items.
    """

    def __init__(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        index: VectorIndex | None,
        rows: NDArray[np.int32],
        lists: Mapping[str, Lists],
    ) -> None:
        self.users, self.items, self.index, self.rows, self.lists = users, items, index, rows, lists
        self.followers: list[Callable[[int, int], None]] = []


def listed(
    index: VectorIndex, items: NDArray[np.int32], column: Column, allowed: NDArray[np.bool_] | None = None
) -> Lists:
    """The rows of an index by what a text or number `column` says of their `items`, where it says something.

    With `allowed` [index.count], of these rows alone.
    """
    values = column.values[items]
    known = values >= 0 if column.kind == "text" else values == values
    rows = np.flatnonzero(known if allowed is None else known & allowed).astype(np.int32)
    return index.grouped(rows, values[rows])


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
    """A directory, mapped. Read-only and safe to share between threads.

    With `spare`, so many rows lie behind those of the item table, in every array that has one an item, for items added
    later: `overlay` says which rows stand for which items now (items/live.py writes both). Behind them `guests` rows
    are for items of which nothing is known but that a request brings them: all is missing there.
    """

    def __init__(self, directory: Path, manifest: Manifest, spare: int = 0, guests: int = 0) -> None:
        self.directory, self.manifest = directory, manifest
        spare += guests
        self.overlay = Overlay(manifest.items.count, spare)
        first = self.overlay.reserve(guests)
        self.guests = range(first, first + guests)
        self.tails: dict[str, NDArray[Any]] = {}  # the spare rows of an array, writable
        self._followers: list[Callable[[NDArray[np.int32]], None]] = []
        self.fingerprint, self.time = manifest.fingerprint, manifest.time
        self.items = self._table("items", manifest.items, spare)
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
        for name, column in self.items.columns.items():
            if guests and (column.kind == "text" or column.values.dtype.kind == "f"):
                self.tails[f"items.{name}"][-guests:] = {"text": -1, "number": np.nan, "vector": 0}[column.kind]

    @classmethod
    def load(cls, directory: str | Path, *, verify: bool = True, spare: int = 0, guests: int = 0) -> Snapshot:
        """Map a snapshot directory, or the one that `CURRENT` in it names, and verify it.

        Checksums are CRC-32C of whole files; `verify=False` leaves them out (a worker whose parent has verified).
        `spare` is how many items may be added later: it costs address space, memory only for those that are. `guests`
        is how many items a request may bring that the snapshot lacks.

        Raises:
            SnapshotError: a file is missing, altered, or of another shape or dtype than the manifest says. The message
                names the file and both values.
        """
        directory = resolve(Path(directory))
        manifest = read_manifest(directory)
        path = directory / "manifest.json"
        if verify:
            for name, info in manifest.files.items():
                _verify(directory / name, info)
        try:
            snapshot = cls(directory, manifest, spare, guests)
        except KeyError as error:
            raise SnapshotError(f"{path}: names no array {error}") from error
        if verify:
            snapshot._verify_lists()
        return snapshot

    def array(self, name: str) -> NDArray[Any]:
        """The mapped array of that name.

        Raises:
            SnapshotError: missing, or not as the manifest says.
        """
        return self._array(name, 0)[0]

    def item_array(self, name: str) -> NDArray[Any]:
        """The mapped array of that name, one row an item, and behind them the spare rows; `tails` has those.

        Raises:
            SnapshotError: as `array`.
        """
        array, self.tails[name] = self._array(name, self.overlay.capacity - self.overlay.base)
        return array

    def follow(self, update: Callable[[NDArray[np.int32]], None]) -> None:
        """Call `update` with the rows of items added later, int32, when their columns are written and before anybody
        finds them; now, too, if there are any, and with those of guests."""
        self._followers.append(update)
        if len(self.guests):
            update(np.arange(self.guests.start, self.guests.stop, dtype=np.int32))
        if self.overlay.count > self.overlay.base:
            update(np.arange(self.overlay.base, self.overlay.count, dtype=np.int32))

    @cached_property
    def base_rows(self) -> NDArray[np.int32]:
        """int32 [capacity]: the row that each had when the snapshot was built; as many as those are, where it had none.
        Made when it is first asked for, at bind."""
        overlay = self.overlay
        bases = np.arange(overlay.capacity, dtype=np.int32)
        bases[overlay.base :] = overlay.base

        def extend(rows: NDArray[np.int32]) -> None:
            known = np.array([overlay.base_of(row) for row in rows.tolist()], np.int32)
            bases[rows] = np.where(known >= 0, known, overlay.base)

        self.follow(extend)
        return bases

    def extend(self, rows: NDArray[np.int32]) -> None:
        """Tell those who follow of `rows`, about to be found."""
        for update in self._followers:
            update(rows)

    def _array(self, name: str, spare: int) -> tuple[NDArray[Any], NDArray[Any]]:
        info = self.manifest.arrays[name]
        path = self.directory / f"{name}.npy"
        try:
            array, tail = _mapped(path, spare)
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path}: {error}") from error
        shape = [len(array) - spare, *array.shape[1:]] if array.ndim else []
        if array.dtype.str != info.dtype or shape != info.shape:
            raise SnapshotError(
                f"{path} is {array.dtype.str} {shape}; manifest.json says {info.dtype} {info.shape}. "
                "The directory was written twice or copied while being written."
            )
        return array, tail

    def _texts(self, name: str) -> Texts:
        return Texts(self.array(f"{name}.text"), self.array(f"{name}.offset"))

    def _table(self, name: str, info: TableInfo, spare: int = 0) -> Table:
        ids = self._checked(
            f"{name}.ids", IdMap, *(self.array(f"{name}.ids.{part}") for part in ("text", "offset", "slots"))
        )
        columns = {}
        for column, kind in info.columns.items():
            key = f"{name}.{column}"
            values = self.item_array(key) if spare else self.array(key)
            if len(values) != info.count + spare or len(ids) != info.count:
                raise SnapshotError(
                    f"{self.directory / key}.npy has {len(values) - spare:,} rows, the ids {len(ids):,}; "
                    f"manifest.json says {info.count:,}"
                )
            columns[column] = Column(kind, values, self._texts(key) if kind == "text" else None)
        return Table(name, ids, columns)

    def _vectors(self, name: str) -> Vectors:
        users = self.array(f"{name}.users")
        items, rows = (self.item_array(f"{name}.{part}") for part in ("items", "rows"))
        spare = self.overlay.capacity - self.overlay.base
        searched = f"{name}.index" in self.manifest.files
        index = VectorIndex.load(self.directory / f"{name}.index", verify=False, spare=spare) if searched else None
        vectors, item_vectors = len(rows) - spare, len(items) - spare
        held = len(index) if index is not None else vectors
        if vectors != held or item_vectors != len(self.items) or len(users) != len(self.users):
            raise SnapshotError(
                f"{self.directory / name}: {held:,} vectors for {vectors:,} rows; {len(users):,} users and "
                f"{item_vectors:,} items where the tables have {len(self.users):,} and {len(self.items):,}"
            )
        lists = {}
        for column, kind in self.manifest.items.columns.items():
            key = f"{name}.{column}"
            if index is not None and kind != "vector" and f"{key}.places" in self.manifest.arrays:
                stored = (self.array(f"{key}.{part}") for part in ("values", "first", "places"))
                lists[column] = self._checked(f"{key}.places.npy", index.lists, *stored)
        return Vectors(users, items, index, rows, lists)

    def _verify_lists(self) -> None:
        """Raises SnapshotError: stored lists are not what the columns say."""
        for name, vectors in self.vectors.items():
            for column, stored in vectors.lists.items():
                assert vectors.index is not None
                made = listed(vectors.index, vectors.rows[: vectors.index.count], self.items.columns[column])
                for part in ("values", "first", "places"):
                    if not np.array_equal(getattr(stored, part), getattr(made, part)):
                        raise SnapshotError(
                            f"{self.directory / name}.{column}.{part}.npy is not what items.{column}.npy says of the "
                            f"items of {name}.index. They are not of one build"
                        )

    def _checked(self, name: str, make: Any, *arrays: NDArray[Any]) -> Any:
        try:
            return make(*arrays)
        except ValueError as error:
            raise SnapshotError(f"{self.directory / name}: {error}") from error


def _mapped(path: Path, spare: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The array of an NPY file, mapped, with `spare` rows of zeros behind it; and these alone, writable.

    Raises ValueError: no NPY file, or one of objects.
    """
    with path.open("rb") as file:
        head = io.BytesIO(file.read(4096))
    version = np.lib.format.read_magic(head)
    if version != (1, 0):
        raise ValueError(f"NPY version {version}; 1.0 would be right")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(head)
    if dtype.hasobject or in_columns:
        raise ValueError(f"{dtype} {'in columns' if in_columns else ''}; plain numbers in rows would be right")
    more = (spare, *shape[1:])
    whole = (shape[0] + spare, *shape[1:]) if spare else shape
    data = MappedFile(path, int(np.prod(more)) * dtype.itemsize if spare else 0)
    if np.prod(whole) == 0:
        return np.empty(whole, dtype), np.empty(more, dtype)
    array: NDArray[Any] = np.frombuffer(memoryview(data), dtype, int(np.prod(whole)), head.tell()).reshape(whole)
    return array, np.frombuffer(data.tail, dtype).reshape(more)


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
