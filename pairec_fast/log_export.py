"""Rows of the feature log as a Parquet file, in the columns that PAI-Rec's sinks have. *Source*: PAIREC 9.4."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

ROWS_MAX = 50_000  # of a row group, and
BYTES_MAX = 32 << 20  # of their JSON: a few times as much is held in memory


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """The union of a user's row and an item's. Each field is a column, of the type it has here."""

    request_id: str
    scene: str
    request_time: int
    user_id: str
    module: str
    user_features: str | None = None
    request_info: str | None = None
    item_id: str | None = None
    raw_features: str | None = None
    generate_features: str | None = None
    context_features: str | None = None
    item_features: str | None = None
    experiment_id: str | None = None
    fingerprint: str | None = None
    position: int | None = None  # of the item, where it was shown


def export(records: Iterable[tuple[list[bytes], int, int]], output: Path) -> int:
    """Write `(rows, ring_id, position)` of records to `output`, which appears whole or not at all. Answers the rows.

    Beside the fields of a row: `ring_id` (text), `ring_position` and `row` (of the record, from 0) name it for ever, as
    the headers `ring_id`, `position` and `row` of a Kafka message do.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    types = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    columns = [(field.name, types[_kind(field.type)]) for field in msgspec.structs.fields(Row)]
    schema = pyarrow.schema([*columns, ("ring_id", types[str]), ("ring_position", types[int]), ("row", types[int])])
    decode = msgspec.json.Decoder(Row).decode
    held: list[tuple[Any, ...]] = []
    written = size = 0

    def write_group() -> None:
        arrays = [
            pyarrow.array(values, kind.type) for values, kind in zip(zip(*held, strict=True), schema, strict=True)
        ]
        writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
        held.clear()

    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            with parquet.ParquetWriter(file, schema) as writer:
                for rows, ring_id, position in records:
                    for number, row in enumerate(rows):
                        held.append((*msgspec.structs.astuple(decode(row)), str(ring_id), position, number))
                        size += len(row)
                        written += 1
                        if len(held) >= ROWS_MAX or size >= BYTES_MAX:
                            write_group()
                            size = 0
                if held:
                    write_group()
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, output)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return written


def _kind(annotation: Any) -> Any:
    """`str` of `str` and of `str | None`."""
    return next((part for part in getattr(annotation, "__args__", ()) if part is not type(None)), annotation)
