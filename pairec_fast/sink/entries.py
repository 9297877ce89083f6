"""The rows of a record on their way to DataHub."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from pairec_fast.core import expand
from pairec_fast.sink.spill import Waiting

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Entry(NamedTuple):
    """A row on its way. `row` counts the rows of its record; `data` is None if the record has none."""

    record: Waiting
    row: int
    is_last: bool
    data: dict[str, Any] | None
    reason: str = ""  # why there is no data

    @property
    def is_gap(self) -> bool:
        return self.data is not None and self.data.get("module") == "gap"


def entries_of(record: Waiting) -> list[Entry]:
    """What of a record is to be delivered; one entry without data if it is no record at all."""
    try:
        rows = list(map(_decode, expand(record.payload)))
    except ValueError as error:
        return [Entry(record, 0, True, None, str(error))]
    last = len(rows) - 1
    return [Entry(record, at, at == last, row) for at, row in enumerate(rows) if at >= record.first_row]
