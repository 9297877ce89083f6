"""New, changed and removed items between snapshots: every worker sees them within a second.

What is said here lies in items.log beside the snapshots (log.py) from when the call returns; engines follow it
(live.py), and the next `build` takes it into its tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pairec_fast.errors import RequestError, SnapshotError
from pairec_fast.items.change import Change, Shape, encoded, lacking, merged, removals
from pairec_fast.items.log import Reader, append, locked
from pairec_fast.manifest import read_manifest, resolve
from pairec_fast.snapshot import Snapshot

__all__ = ["add", "remove"]


def add(
    directory: str | os.PathLike[str], items: Iterable[Any], *, where: Callable[[int], str] = "items[{}]".format
) -> int:
    """Add items to a folder of snapshots, or change those whose id is there; all of them or none.

    Each is {"item_id": "i1", column: value, ..., "vectors": {name: [...]}}. A column that is not named stays as it is,
    and is missing in a new item; None is missing. Returns the sequence number of the record: it is on the disk then.

    Raises:
        RequestError: all that is wrong with `items`; `where(place)` says which one.
        SnapshotError: no snapshot there, or its log is damaged. OSError: the log cannot be written.
    """
    folder, given = _folder(directory), list(items)

    def checked(current: Path) -> list[Change]:
        shape = Shape.of(read_manifest(current))
        changes = shape.checked(given, where)
        if any(name not in change.columns for change in changes for name in shape.needed):
            lacking(changes, shape.needed, _known(folder, current), where)
        return changes

    return _logged(folder, checked)


def remove(
    directory: str | os.PathLike[str], ids: Iterable[Any], *, where: Callable[[int], str] = "ids[{}]".format
) -> int:
    """Remove items from a folder of snapshots, all of them or none; an id that is not there changes nothing.

    Returns and raises as `add`.
    """
    if isinstance(ids, str):
        raise RequestError(f"ids: {ids!r}; a list of texts would be right")
    folder, given = _folder(directory), list(ids)
    return _logged(folder, lambda current: removals(given, where))


def _folder(directory: str | os.PathLike[str]) -> Path:
    folder = Path(directory)
    if not (folder / "CURRENT").exists():
        raise SnapshotError(f"{folder}: no CURRENT; not a folder of snapshots")
    return folder


def _logged(folder: Path, changes_for: Callable[[Path], list[Change]]) -> int:
    with locked(folder) as handle:
        current = resolve(folder)
        changes = changes_for(current)
        if not changes:
            raise RequestError("no items given; at least one would be right")
        return append(folder, handle, encoded(changes), read_manifest(current).items_sequence)


def _known(folder: Path, current: Path) -> Callable[[str], bool]:
    """Whether an id is there, by the snapshot and what was logged since."""
    snapshot = Snapshot.load(current, verify=False)
    later = {
        change.id: not change.removed
        for change in merged(record.payload for record in Reader(folder, snapshot.manifest.items_sequence).read())
    }
    return lambda id: later.get(id, snapshot.items.ids.find(id) >= 0)
