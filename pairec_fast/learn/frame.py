"""What a table is once it is read: named columns of equal length, and the place of every row in its file."""

from __future__ import annotations

import csv
import difflib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pairec_fast.errors import SnapshotError

# Spellings of "no value" in a CSV column of numbers. In a column of text only the empty field is null: "NA" is Namibia.
NULLS = ["", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "-nan", "NULL", "null", "None"]


@dataclass(frozen=True, slots=True, eq=False)
class TextColumn:
    """A column of text: `vocabulary[codes[row]]`, or null where the code is -1.

    codes      [rows] int32
    vocabulary distinct strings, in order of first appearance
    """

    codes: npt.NDArray[np.int32]
    vocabulary: list[str]

    def __len__(self) -> int:
        return len(self.codes)

    def values(self) -> list[str | None]:
        """The column as Python strings: for small tables and messages."""
        words: list[str | None] = [*self.vocabulary, None]
        return [words[code] for code in self.codes.tolist()]

    def value(self, row: int) -> str | None:
        code = int(self.codes[row])
        return None if code < 0 else self.vocabulary[code]


@dataclass(frozen=True, slots=True, eq=False)
class TextLists:
    """A column of lists of text: row `r` holds `words.codes[offsets[r] : offsets[r + 1]]`. A null list is empty.

    offsets [rows + 1] int64
    """

    offsets: npt.NDArray[np.int64]
    words: TextColumn

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def values(self) -> list[list[str | None]]:
        words = self.words.values()
        bounds = self.offsets.tolist()
        return [words[start:end] for start, end in itertools.pairwise(bounds)]


Column = npt.NDArray[Any] | TextColumn | TextLists


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Named columns of equal length, in the order of the file, and where they came from.

    A column is one of
        [rows] int64, float64, float32 or bool       numbers; null is NaN, which makes the column floating
        [rows, width] float32                        lists of numbers, all of one length
        TextColumn, TextLists                        text, lists of text
    Dates and times are int64 unix seconds (UTC where the file names no zone).
    """

    path: Path
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def require(self, names: Iterable[str]) -> None:
        """Raises `SnapshotError` naming every one of `names` that is not a column, with the nearest that is."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise SnapshotError(f"{self.path} has no column {suggestions(missing, self.names)}")

    def column(self, name: str) -> Column:
        """The column called `name`; `SnapshotError` if there is none."""
        self.require([name])
        return self.columns[name]

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """The column `name` [rows] int64, float64, float32 or bool; `SnapshotError` if it holds anything else."""
        column = self.column(name)
        if isinstance(column, np.ndarray) and column.ndim == 1:
            return column
        if isinstance(column, TextColumn):
            row = next((row for row in range(len(column)) if not is_number(column.value(row))), 0)
            raise SnapshotError(
                f"{self.path}: {self.place(row)}: {name} is {column.value(row)!r}; a number would be right"
            )
        raise SnapshotError(f"{self.path}: {name} holds lists; one number a row would be right")

    def text(self, name: str) -> TextColumn:
        """The column `name`; `SnapshotError` if it is not text (`read_table(text=...)` reads it as text)."""
        column = self.column(name)
        if isinstance(column, TextColumn):
            return column
        found = f"{column.dtype} {column.shape}" if isinstance(column, np.ndarray) else "lists of text"
        raise SnapshotError(f"{self.path}: {name} holds {found}; one text a row would be right")

    def vectors(self, name: str) -> npt.NDArray[np.float32]:
        """The column `name` [rows, width] float32; `SnapshotError` if it holds anything else."""
        column = self.column(name)
        if isinstance(column, np.ndarray) and column.ndim == 2:
            return column
        raise SnapshotError(f"{self.path}: {name} does not hold lists of numbers, all of one length")

    def place(self, row: int) -> str:
        """Where `row` stands in the file, for messages: the line of a CSV file (1 is the header), else the row."""
        if self.path.suffix.lower() != ".csv":
            return f"row {row}"
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file)
            line, count = 1, -1
            for record in reader:
                count += bool(record)  # pyarrow skips empty lines; the header is record 0
                if count == row + 1:
                    break
                line = reader.line_num + 1
        return f"line {line}"


def id_arrays(ids: Iterable[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """Texts, one after the other: `text` uint8 and `offset` uint64 [count + 1]."""
    encoded = [id.encode() for id in ids]
    offset = np.zeros(len(encoded) + 1, np.uint64)
    np.cumsum([len(id) for id in encoded], out=offset[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offset


def is_number(value: str | None) -> bool:
    """Whether a text could stand in a column of numbers; null could."""
    if value is None:
        return True
    try:
        float(value)
    except ValueError:
        return value in NULLS
    return "_" not in value


def suggestions(missing: list[str], names: list[str]) -> str:
    """`"pric" (did you mean "price"?); it has item_id, price`: how a message names columns that are not there."""
    parts = []
    for name in missing:
        near = difflib.get_close_matches(name, names, 1)
        parts.append(f'"{name}"' + (f' (did you mean "{near[0]}"?)' if near else ""))
    return f"{' nor '.join(parts)}; it has {', '.join(names)}"
