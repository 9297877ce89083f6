"""The thread behind a DataHub log: closed segments -> rows -> tuples -> batches -> acknowledged -> segment removed.

It runs behind the flush thread and never in front of it: whatever happens here, records reach the disk as with a disk
log. What is throttled or cannot be sent stays in its segment and is tried again for ever, in order; what is refused for
good goes to the dead letters, and the rest goes on.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pairec_fast.core import Log, Segment, list_segments, recover
from pairec_fast.sink.entries import Entry, entries_of
from pairec_fast.sink.spill import SINK, Slot
from pairec_fast.sink.topic import Failure, Row, Topic, Trouble
from pairec_fast.sink.tuples import Unfit

_say = logging.getLogger("pairec_fast.sink")


class Pace(NamedTuple):
    """How often and how much. A batch is small because the client holds the interpreter's lock while it encodes one."""

    gather_seconds: float = 1.0  # a segment is closed so often, if there is something in it
    hurry_seconds: float = 0.2  # the same, while somebody waits for the delivery
    poll_seconds: float = 0.1
    throttle_seconds: float = 2.0  # between the first three tries of a throttled batch, as in PAI-Rec
    backoff_seconds: float = 0.2  # doubled up to the next one
    backoff_seconds_max: float = 30.0
    adopt_seconds: float = 10.0
    batch_rows: int = 100
    batch_bytes: int = 256 << 10
    row_bytes_max: int = 4_000_000  # DataHub takes 4 MB a request


class Delivery:
    """Delivers the segments of one slot, and of slots whose owner has died. Counts as it goes."""

    def __init__(self, log: Log, directory: Path, rings: Path, slot: int, topic: Topic, pace: Pace) -> None:
        self._log, self._directory, self._rings, self._slot = log, directory, rings, Slot(directory, slot)
        self._topic, self._pace = topic, pace
        self._wake, self._ending = threading.Event(), threading.Event()
        self._draining = self._quit = self._hurried = False
        self._rotated = self._adopted_at = float("-inf")
        self._listed = -1  # how many segments had been closed when all were delivered
        self._dead: set[tuple[int, int]] = set()  # records under way of which a row was refused
        self.found = self._slot.count()  # records that waited when this log was opened
        self.delivered_position = 0
        self.records = self.rows = self.dead_records = self.batches = self.adopted = self.gaps = 0
        self.dead_rows, self.errors = Counter[str](), Counter[str]()
        self.trouble, self.failing_since, self._tries = "", 0.0, 0
        self._thread = threading.Thread(target=self._run, name="pairec-datahub", daemon=True)
        self._thread.start()

    @property
    def damaged_segments(self) -> int:
        return self._slot.damaged_segments

    def hurry(self) -> None:
        """Somebody waits for what was pushed: close its segment sooner than it would be."""
        self._hurried = True
        self._wake.set()

    def drain(self, timeout: float) -> bool:
        """Deliver what there is, then end; the first trouble or the timeout ends it at once. True if all arrived."""
        self._draining = True
        self._ending.set()
        self._wake.set()
        self._thread.join(timeout)
        self._quit = True
        return not self._thread.is_alive() and self.delivered_position >= self._log.tail

    def _run(self) -> None:
        broken = False
        while not self._quit:
            last = self._draining  # read first: what was pushed before `drain` was called gets its round
            try:
                if self._slot.lock() and self._round(self._slot):
                    if broken:
                        self._well()
                    broken = False
                    if not self._draining:
                        self._adopt()
            except Exception as error:  # a disk that fails, or a defect: it must not end the delivery
                broken = True
                self._note(Trouble("retry", type(error).__name__, str(error)))
                self._pause(self._backoff())
            if last:
                break
            if self._wake.wait(self._pace.poll_seconds):
                self._wake.clear()
        self._slot.unlock()
        self._topic.close()

    def _round(self, slot: Slot) -> bool:
        """Deliver all of our slot that is worth closing a segment for. False if it stopped before the end."""
        mark, turned = self._log.tail, False
        if mark > self.delivered_position:
            now = time.monotonic()
            rest = self._pace.hurry_seconds if self._hurried else self._pace.gather_seconds
            if now - self._rotated >= rest or self._draining:
                self._rotated, self._hurried = now, False
                turned = self._log.rotate(self._pace.gather_seconds)
        closed = self._log.counters()["segments_closed"]
        if turned or closed != self._listed:  # listing opens every file there is
            for segment in slot.segments():
                if not self._deliver(slot, segment, waits=True):
                    return False
            self._listed = closed
        if turned:  # pads and refused pushes lie between records, so the last record need not end at the tail
            self.delivered_position = max(self.delivered_position, mark)
        return True

    def _adopt(self) -> None:
        """Deliver what dead workers left: their rings and segments. One living worker delivers a slot, or none."""
        now = time.monotonic()
        if now - self._adopted_at < self._pace.adopt_seconds:
            return
        self._adopted_at, self._listed = now, -1  # and look for segments of ours that nobody counted
        slots = {segment.slot for segment in list_segments(self._directory, SINK)}
        slots |= {int(path.stem) for path in self._rings.glob("*.ring") if path.stem.isdecimal()}
        for number in sorted(slots - {self._slot.number}):
            slot = Slot(self._directory, number)
            if not slot.lock():
                continue
            try:
                ring = self._rings / f"{number}.ring"
                if recover(self._directory, ring, sink=SINK, slot=number)["state"] == "locked":
                    continue  # its owner lives, and takes the slot in a moment
                for segment in slot.segments():
                    before = self.records + self.dead_records
                    whole = self._deliver(slot, segment, waits=False)
                    self.adopted += self.records + self.dead_records - before
                    if not whole:
                        return
            finally:
                self._slot.damaged_segments += slot.damaged_segments
                slot.unlock()

    def _deliver(self, slot: Slot, segment: Segment, waits: bool) -> bool:
        """All of a segment, then the segment is removed. False if it was given up before."""
        batch: list[Entry] = []
        size = count = 0
        for record in slot.records(segment):
            entries = entries_of(record)
            count += not any(entry.is_gap for entry in entries)
            for entry in entries:
                bytes_ = sum(len(value) if isinstance(value, str) else 8 for value in (entry.data or {}).values())
                if batch and (len(batch) >= self._pace.batch_rows or size + bytes_ > self._pace.batch_bytes):
                    if not self._send(slot, batch, waits):
                        return False
                    slot.save(segment, entry.record.position, entry.row)
                    batch, size = [], 0
                batch.append(entry)
                size += bytes_
            time.sleep(0)  # requests are served on other threads of this interpreter
        if batch and not self._send(slot, batch, waits):
            return False
        if slot is self._slot and segment.ring_id != self._log.ring_id:
            with contextlib.suppress(FileNotFoundError):
                self.found += count - segment.record_count()  # some may have been delivered before, or be damaged
        slot.remove(segment)
        return True

    def _send(self, slot: Slot, batch: list[Entry], waits: bool) -> bool:
        """A batch, until each row is taken or refused for good. False if it was given up before."""
        parts = [batch]  # a stack: what is to be sent first is at its end
        looked_again = False
        while parts:
            if self._quit:
                return False
            trouble = None
            try:
                if self._topic.tuples is None:
                    self._connect()
                kept, rows = self._typed(slot, parts[-1])
                parts[-1] = kept
                failures = self._topic.put(rows) if rows else []
                parts.pop()
                trouble, again = self._failed(slot, kept, failures)
                if again:
                    parts.append(again)
            except Trouble as error:
                trouble = error
                if error.kind in ("refused", "too large"):
                    if not looked_again:  # the topic may have got another schema
                        looked_again, self._topic.tuples, trouble = True, None, None
                    else:
                        trouble = None
                        self._split(slot, parts, error)
            if trouble is None:
                continue
            self._note(trouble)
            if trouble.kind == "moved":
                self._topic.tuples = None
            if not waits or not self._pause(self._backoff(trouble)):
                return False
        self._well()
        self.batches += 1
        self._acknowledge(slot, batch)
        return True

    def _connect(self) -> None:
        try:
            self._topic.connect()
        except Trouble as error:
            # No row is at fault when the topic itself is refused.
            kind = "denied" if error.kind in ("refused", "too large") else error.kind
            raise Trouble(kind, error.code, error.reason) from None
        if self._topic.differs:
            _say.warning("topic %s differs from Schemas: %s", self._topic.target.topic, self._topic.differs)

    def _typed(self, slot: Slot, entries: list[Entry]) -> tuple[list[Entry], list[Row]]:
        """The entries that fit the schema and their tuples; the others are buried."""
        tuples = self._topic.tuples
        assert tuples is not None
        kept, rows = list[Entry](), list[Row]()
        for entry in entries:
            record = entry.record
            # These three name a row for ever, so that a reader can drop repeats.
            name = {
                "ring_id": f"{record.ring_id:016x}",
                "ring_position": str(record.position),
                "ring_row": str(entry.row),
            }
            if entry.data is None:
                self._bury(slot, entry, "NotARecord", entry.reason)
                continue
            try:
                values = tuples.values({**name, **entry.data})
            except Unfit as reason:
                self._bury(slot, entry, "Unfit", str(reason))
                continue
            if sum(len(value.encode()) for value in values if isinstance(value, str)) > self._pace.row_bytes_max:
                self._bury(slot, entry, "RowTooLarge", f"a row may have {self._pace.row_bytes_max} bytes")
                continue
            kept.append(entry)
            rows.append(Row(values, str(entry.data.get("user_id", "")), name))
        return kept, rows

    def _failed(self, slot: Slot, sent: list[Entry], failures: list[Failure]) -> tuple[Trouble | None, list[Entry]]:
        """Sorts the rows of a batch that the server did not take. Answers why to wait, and what to send again."""
        again, trouble = list[Entry](), None
        for failure in sorted(failures):
            if failure.kind in ("refused", "too large"):
                self._bury(slot, sent[failure.place], failure.code, failure.reason)
            else:
                again.append(sent[failure.place])
                trouble = trouble or Trouble(failure.kind, failure.code, failure.reason)
        self.rows += len(sent) - len(failures)
        return trouble, again

    def _split(self, slot: Slot, parts: list[list[Entry]], error: Trouble) -> None:
        """Halves a part that was refused as a whole; a single row is buried."""
        part = parts.pop()
        if len(part) == 1:
            self._bury(slot, part[0], error.code, error.reason)
        else:
            half = len(part) // 2
            parts += [part[half:], part[:half]]

    def _bury(self, slot: Slot, entry: Entry, code: str, reason: str) -> None:
        record = entry.record
        data = {"payload": base64.b64encode(record.payload).decode()} if entry.data is None else entry.data
        slot.bury(
            {"time": int(time.time()), "code": code, "reason": reason, "ring_id": f"{record.ring_id:016x}",
             "ring_position": record.position, "ring_row": entry.row, "data": data}
        )  # fmt: skip
        if not self.dead_rows[code]:
            _say.warning("a row was refused for good: %s: %s", code, reason)
        self.dead_rows[code] += 1
        self._dead.add((record.ring_id, record.position))

    def _acknowledge(self, slot: Slot, batch: list[Entry]) -> None:
        for entry in batch:
            if not entry.is_last:
                continue
            record = entry.record
            slot.acknowledge(record)
            name = (record.ring_id, record.position)
            if entry.is_gap:
                self.gaps += 1
            else:
                self.dead_records += name in self._dead
                self.records += name not in self._dead
            self._dead.discard(name)
            if record.ring_id == self._log.ring_id:
                self.delivered_position = max(self.delivered_position, record.end)

    def _note(self, trouble: Trouble) -> None:
        self.errors[trouble.code] += 1
        if not self.failing_since:
            self.failing_since = time.monotonic()
        if not self.trouble.startswith(f"{trouble.code}:"):
            _say.warning("%s: not delivered, will be tried again: %s", self._topic.target, trouble)
        self.trouble = str(trouble)
        self._tries += 1

    def _well(self) -> None:
        if self.failing_since:
            _say.warning("%s: delivered again", self._topic.target)
        self.trouble, self.failing_since, self._tries = "", 0.0, 0

    def _backoff(self, trouble: Trouble | None = None) -> float:
        first, pace = self._pace.backoff_seconds, self._pace
        tries = self._tries
        if trouble is not None and trouble.kind == "throttled":
            first = pace.throttle_seconds
            tries = max(1, tries - 2)  # three tries at the same distance
        elif trouble is not None and trouble.kind == "denied":
            first = min(5.0, pace.backoff_seconds_max)
        return float(min(pace.backoff_seconds_max, first * 2 ** min(tries - 1, 20)))

    def _pause(self, seconds: float) -> bool:
        """Wait. False when it is time to end."""
        self._ending.wait(seconds)
        return not (self._draining or self._quit)
