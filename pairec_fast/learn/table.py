"""Reads a table from disk into NumPy columns: what training, building and the tests start from.

Numbers stay numbers. Text becomes codes and a vocabulary, so that ten million rows of forty categories cost forty
strings. Everything that is wrong with a file is said once, with file, place, what was found and what would be right.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.frame import NULLS, Column, Frame, TextColumn, TextLists, suggestions

__all__ = ["Column", "Frame", "TextColumn", "TextLists", "read_array", "read_table"]


def read_table(path: str | PathLike[str], *, columns: Sequence[str] | None = None, text: Iterable[str] = ()) -> Frame:
    """Read a `.csv` (comma-separated, UTF-8, first line names the columns) or `.parquet` file.

    `columns` are the only ones read, in that order; `text` names columns that are text whatever they look like (ids
    such as 007); names in it that the file lacks are passed over. Types in CSV are inferred from all rows.

    Raises:
        SnapshotError: no such file, neither suffix, empty, no rows, a line with too many or too few fields, two
            columns of one name, a column without a name, a wanted column missing, a type that is none of `Frame`'s.
    """
    path = _existing(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        table = _read_csv(path, columns, set(text))
    elif suffix == ".parquet":
        table = _read_parquet(path, columns)
    else:
        raise SnapshotError(f"{path} ends in {suffix or 'nothing'!r}; .csv or .parquet would be right")
    if table.num_rows == 0:
        raise SnapshotError(f"{path} has columns but no rows: {', '.join(table.column_names)}")
    forced = set(text)
    frame = Frame(path, {})
    for name in table.column_names:
        frame.columns[name] = _column(frame, name, table.column(name), name in forced)
    return frame


def read_array(path: str | PathLike[str]) -> npt.NDArray[Any]:
    """Map a `.npy` file, read-only; whatever shape and dtype it has, but not empty and no Python objects.

    Raises:
        SnapshotError: no such file, another suffix, not a NumPy array, or no elements.
    """
    path = _existing(path)
    if path.suffix.lower() != ".npy":
        raise SnapshotError(f"{path} ends in {path.suffix or 'nothing'!r}; .npy would be right")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SnapshotError(f"{path} is not a NumPy array of numbers (as numpy.save writes it): {error}") from error
    if array.size == 0:
        raise SnapshotError(f"{path} has shape {array.shape}: no elements")
    return array


def _existing(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        raise SnapshotError(f"{path} is a directory; a file would be right")
    if not path.exists():
        near = difflib.get_close_matches(path.name, _siblings(path), 1)
        hint = f" (did you mean {path.parent / near[0]}?)" if near else ""
        raise SnapshotError(f"{path}: no such file{hint}")
    if path.stat().st_size == 0:
        raise SnapshotError(f"{path} is empty (0 bytes)")
    return path


def _siblings(path: Path) -> list[str]:
    return sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []


def _check_names(path: Path, names: list[str], columns: Sequence[str] | None) -> None:
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise SnapshotError(f"{path}: column {position} has no name (an index written by pandas? use index=False)")
        if names.index(name) != position - 1:
            raise SnapshotError(f'{path}: columns {names.index(name) + 1} and {position} are both called "{name}"')
    missing = [name for name in columns or () if name not in names]
    if missing:
        raise SnapshotError(f"{path} has no column {suggestions(missing, names)}")


def _read_csv(path: Path, columns: Sequence[str] | None, text: set[str]) -> pa.Table:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next((record for record in csv.reader(file) if record), [])
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise SnapshotError(f"{path}: line 1 is {names[0]!r}; commas between the columns would be right")
    _check_names(path, names, columns)
    convert = pa.csv.ConvertOptions(
        null_values=NULLS,
        column_types={name: pa.string() for name in text if name in names},
        include_columns=list(columns) if columns is not None else None,
    )
    try:
        # Quoted fields may hold line breaks: without the option a block boundary inside one breaks the row.
        table = pa.csv.read_csv(
            path, parse_options=pa.csv.ParseOptions(newlines_in_values=True), convert_options=convert
        )
    except (pa.ArrowException, OSError) as error:
        raise SnapshotError(_why_not_csv(path, len(names), error)) from error
    last = table.slice(max(0, table.num_rows - 1)).to_pylist()
    if any(isinstance(value, str) and "\n" in value for row in last for value in row.values()):
        _refuse_open_quote(path)
    return table


def _why_not_csv(path: Path, width: int, error: Exception) -> str:
    """Pyarrow says what but not on which line, once it reads blocks in parallel; so read again, slowly."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        before = 0
        for record in reader:
            if record and len(record) != width:
                shown = ",".join(record)
                shown = shown if len(shown) <= 80 else shown[:77] + "..."
                return f"{path}: line {before + 1} has {len(record)} fields, the header {width}: {shown}"
            before = reader.line_num
    return f"{path} cannot be read as CSV: {error}"


def _refuse_open_quote(path: Path) -> None:
    """Pyarrow takes a quote that nobody closes for a field up to the end of the file: rows would vanish silently."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, strict=True)
        before = 0
        try:
            for _ in reader:
                before = reader.line_num
        except csv.Error as error:
            raise SnapshotError(f"{path}: line {before + 1} opens a quote that is never closed ({error})") from error


def _read_parquet(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        file = pa.parquet.ParquetFile(path)
        _check_names(path, file.schema_arrow.names, columns)
        return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError) as error:
        raise SnapshotError(f"{path} is not a readable Parquet file: {error}") from error


def _column(frame: Frame, name: str, array: pa.ChunkedArray, text: bool) -> Column:
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
        kind = array.type
    try:
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return _lists(frame, name, array)
        if text or _is_text(kind):
            return _text(array, blank_is_null=frame.path.suffix.lower() == ".csv")
        if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
            if not pa.types.is_time(kind):
                array = array.cast(pa.timestamp("s"), safe=False)
            else:
                array = array.cast(pa.time32("s"), safe=False).cast(pa.int32())
            return _numbers(array.cast(pa.int64()))
        if pa.types.is_integer(kind):
            return _numbers(array.cast(pa.int64()))
        if pa.types.is_boolean(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind):
            return _numbers(array)
        if pa.types.is_float16(kind):
            return _numbers(array.cast(pa.float32()))
        if pa.types.is_decimal(kind) or pa.types.is_null(kind):
            return _numbers(array.cast(pa.float64()))
    except pa.ArrowException as error:
        raise SnapshotError(f"{frame.path}: {name} ({kind}) cannot be read: {error}") from error
    raise SnapshotError(f"{frame.path}: {name} holds {kind}; numbers, text, times or lists of numbers or text are read")


def _is_text(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)  # Spark's old files: text without the mark
    return bool(binary or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _numbers(array: pa.ChunkedArray) -> npt.NDArray[Any]:
    if array.null_count:
        kind = array.type if pa.types.is_floating(array.type) else pa.float64()
        array = pc.fill_null(array.cast(kind, safe=False), float("nan"))
    values: npt.NDArray[Any] = array.to_numpy()
    return values


def _text(array: pa.ChunkedArray, *, blank_is_null: bool = False) -> TextColumn:
    encoded = array.cast(pa.large_string()).dictionary_encode().unify_dictionaries()
    encoded = encoded.combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows: no chunks to combine
        encoded = encoded.chunk(0) if encoded.num_chunks else pa.array([], pa.large_string()).dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, -1)).astype(np.int32)
    vocabulary: list[str] = encoded.dictionary.to_pylist()
    if blank_is_null and "" in vocabulary:
        blank = vocabulary.index("")
        codes = np.where(codes == blank, -1, codes - (codes > blank)).astype(np.int32)
        del vocabulary[blank]
    return TextColumn(codes, vocabulary)


def _lists(frame: Frame, name: str, array: pa.ChunkedArray) -> Column:
    inner = array.type.value_type
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0)).astype(np.int64)
    if _is_text(inner) or pa.types.is_dictionary(inner):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = pc.list_flatten(array)
        return TextLists(offsets, _text(flat.cast(inner.value_type) if pa.types.is_dictionary(inner) else flat))
    if not (pa.types.is_floating(inner) or pa.types.is_integer(inner)):
        raise SnapshotError(f"{frame.path}: {name} holds lists of {inner}; lists of numbers or of text are read")
    other = np.flatnonzero(lengths != lengths[0]) if lengths[0] else np.array([0])
    if len(other):
        row, right = int(other[0]), int(lengths[0]) or int(lengths.max())
        raise SnapshotError(
            f"{frame.path}: {frame.place(row)}: {name} has {lengths[row]} numbers where others have {right}; "
            "every row needs as many"
        )
    flat = pc.fill_null(pc.list_flatten(array).cast(pa.float32(), safe=False), float("nan"))
    vectors: npt.NDArray[np.float32] = flat.to_numpy().reshape(len(lengths), int(lengths[0]))
    return vectors
