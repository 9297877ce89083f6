"""A loaded snapshot, kept up with items.log: rows behind its tables, and an overlay that says which rows count.

A new or changed item gets the next spare row, written whole before anything leads to it; what it does not say is copied
from the row it had. So a request that is under way sees each item as it was or as it is, and nobody waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.errors import PairecError
from pairec_fast.items.change import Change, Shape, merged, values_of
from pairec_fast.items.log import Reader
from pairec_fast.snapshot import Snapshot, Vectors

FOLLOW_SECONDS = 0.2  # between two looks at the log
AT_ONCE = 64  # items between two pauses: who waits for the interpreter waits about a millisecond
PAUSE_SECONDS = 0.0005

log = logging.getLogger("pairec_fast")


class Live:
    """Applies the log beside a snapshot to it. `update` may be called from any thread.

    Attributes:
        count: items that can be found now.
        removed: ids that are gone since the snapshot was built, or since they were added.
        refused: changes that could not be taken, for want of spare rows or of a value.
        failed: why the log cannot be followed; "" while it can.
        sequence: the last record whose changes are all applied.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot, self.overlay = snapshot, snapshot.overlay
        self.count = len(snapshot.items)
        self.removed: set[str] = set()
        self._first: dict[str, int] = {}  # the first row of an id here
        self.refused = 0
        self.failed = ""
        self.sequence = snapshot.manifest.items_sequence
        self._shape = Shape.of(snapshot.manifest)
        self._reader = Reader(snapshot.directory.parent, snapshot.manifest.items_sequence)
        self._lock = threading.Lock()
        self._searched = [_Searched(snapshot, name) for name in snapshot.vectors]

    @property
    def added(self) -> int:
        """Spare rows taken, by new items and by changes of old ones."""
        return self.overlay.count - self.overlay.base

    def gauges(self) -> dict[str, float]:
        """What `/metrics` shows."""
        return {
            "items_live": self.count,
            "items_added": self.added,
            "items_removed": len(self.removed),
            "items_refused": self.refused,
            "items_log_failed": float(bool(self.failed)),
        }

    def update(self) -> None:
        """Apply what the log got since the last time.

        Raises:
            SnapshotError, OSError: the log cannot be followed; the items stay as they are.
        """
        with self._lock:
            changes = merged(record.payload for record in self._reader.read())
            for begin in range(0, len(changes), AT_ONCE):
                if begin:
                    time.sleep(PAUSE_SECONDS)
                part = [self._shape.fitting(change) for change in changes[begin : begin + AT_ONCE]]
                for change in part:
                    if change.removed or change.anew:
                        self._remove(change.id)
                self._add([change for change in part if not change.removed])
            self.sequence = self._reader.sequence

    def follow(self) -> None:
        """As `update`; what fails is logged once, and told by `failed`."""
        try:
            self.update()
            self.failed = ""
        except (PairecError, OSError) as error:
            if str(error) != self.failed:
                log.error("items: %s", error)
            self.failed = str(error)

    def _remove(self, id: str) -> None:
        ids = self.snapshot.items.ids
        row = ids.find(id)
        if row < 0:
            return
        ids.put(id, -1)
        for one in {row, ids.base(id)} - {-1}:
            self.overlay.move(one, -1)
        for searched in self._searched:
            searched.remove(id, ids.base(id))
        self.removed.add(id)
        self.count -= 1

    def _add(self, changes: list[Change]) -> None:
        """Rows for `changes`, each of another item: written, told to who follows, then found."""
        ids, overlay = self.snapshot.items.ids, self.overlay
        taken = [change for change in changes if self._complete(change)]
        room = overlay.end - overlay.count
        if len(taken) > room:
            most = overlay.end - overlay.base
            self._refuse(len(taken) - room, f"LimitConf.NewItemsMax is {most}; build a snapshot")
            taken = taken[:room]
        if not taken:
            return
        before = np.array([ids.find(change.id) for change in taken], np.int32)
        bases = [ids.base(change.id) for change in taken]
        spare = slice(overlay.count - overlay.base, overlay.count - overlay.base + len(taken))
        for name, column in self.snapshot.items.columns.items():
            given = {place: one.columns[name] for place, one in enumerate(taken) if name in one.columns}
            self.snapshot.tails[f"items.{name}"][spare] = values_of(column, given, before)
        for searched in self._searched:
            searched.write(taken, before, spare)
        firsts = (base if base >= 0 else self._first.get(one.id, -1) for one, base in zip(taken, bases, strict=True))
        rows = np.array([overlay.add(first) for first in firsts], np.int32)
        self.snapshot.extend(rows)
        for change, row, old, base in zip(taken, rows.tolist(), before.tolist(), bases, strict=True):
            ids.put(change.id, row)
            self._first.setdefault(change.id, row)
            for one in {old, base} - {-1}:
                overlay.move(one, row)
            for searched in self._searched:
                searched.publish(change, row, base)
            self.removed.discard(change.id)
            self.count += old < 0

    def _complete(self, change: Change) -> bool:
        if self.snapshot.items.ids.find(change.id) >= 0 or all(name in change.columns for name in self._shape.needed):
            return True
        self._refuse(1, f"item {change.id!r} lacks one of {', '.join(self._shape.needed)}")
        return False

    def _refuse(self, count: int, why: str) -> None:
        if not self.refused:
            log.error("items: %d not taken: %s", count, why)
        self.refused += count


def keep_up(current: Callable[[], Live | None]) -> None:
    """Follow the log for whatever is current, five times a second, until that is None."""
    while (live := current()) is not None:
        try:
            live.follow()
        except Exception:
            log.exception("items cannot be followed")
        del live
        time.sleep(FOLLOW_SECONDS)


class _Searched:
    """Vectors of one name: those of the rows, and which of them the index holds where."""

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self.name = name
        self.vectors: Vectors = snapshot.vectors[name]
        self._tail, self._rows = snapshot.tails[f"{name}.items"], snapshot.tails[f"{name}.rows"]
        self._base = len(self.vectors.rows) - len(self._rows)  # vectors the index was built with
        self._next = self._base  # where the index puts the next one
        self._place: dict[str, int] = {}  # where the index holds an item's vector, -1 nowhere; if not as it was built

    def write(self, changes: list[Change], before: NDArray[np.int32], spare: slice) -> None:
        """The vectors of new rows: given, else those of the rows before, else zero."""
        vectors = self.vectors.items[np.maximum(before, 0)]
        vectors[before < 0] = 0
        for place, change in enumerate(changes):
            if self.name in change.vectors:
                vectors[place] = np.frombuffer(change.vectors[self.name], np.float32)
        self._tail[spare] = vectors

    def publish(self, change: Change, row: int, base: int) -> None:
        """Let searches find the new row by its vector, and no longer the one before: filters go by columns, and those
        may have changed though the vector did not."""
        self.remove(change.id, base)
        vector = self.vectors.items[row]
        if self.vectors.index is not None and vector.any():
            self._place[change.id] = self._append(vector, row)

    def remove(self, id: str, base: int) -> None:
        """Let no search find the vector of an item any more."""
        place = self._place.get(id)
        if place is None:
            place = int(np.searchsorted(self.vectors.rows[: self._base], base)) if base >= 0 else -1
            if place == self._base or (place >= 0 and self.vectors.rows[place] != base):
                place = -1
        self._place[id] = -1
        if self.vectors.index is not None and place >= 0:
            self.vectors.index.remove(place)

    def _append(self, vector: NDArray[np.float32], row: int) -> int:
        """Where the index holds the vector of `row`, once it is found there."""
        index = self.vectors.index
        assert index is not None
        place, self._next = self._next, self._next + 1
        self._rows[place - self._base] = row  # before a search can find it
        for tell in self.vectors.followers:
            tell(place, row)
        given = index.append(vector)
        assert given == place, "places of an index run on"
        return place
