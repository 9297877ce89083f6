"""Records to a DataHub topic, by way of the disk: a disk log, and a thread that delivers its segments behind it.

What `push` promises is what a disk log promises. Delivery is at least once; the rows of one user go to one shard, in
the order pushed. `ring_id`, `ring_position` and `ring_row`, attributes of each tuple and values of fields of these
names, tell repeats.
"""

from __future__ import annotations

import time
import weakref
from pathlib import Path
from typing import Any

from pairec_fast.core import Log
from pairec_fast.sink.delivery import Delivery, Pace
from pairec_fast.sink.disk import on_free_ring
from pairec_fast.sink.spill import SINK
from pairec_fast.sink.topic import Target, Topic, require_client


class DatahubLog:
    """What `open_log` opens. `push` is the disk log's own: nothing of DataHub lies on its path."""

    def __init__(self, log: Log, directory: Path, rings: Path, slot: int, topic: Topic, pace: Pace) -> None:
        self._log = log
        self._recovered = dict(log.recovered)
        self._pushed_before = int(log.counters()["pushed"])
        self._topic = topic
        self._delivery = Delivery(log, directory, rings, slot, topic, pace)
        self._end = weakref.finalize(self, self._delivery.drain, 0.0)  # a log that nobody holds any more can go
        self.push, self.try_push = log.push, log.try_push

    @property
    def recovered(self) -> dict[str, Any]:
        """What a dead owner of the ring had left; it is in the spill now."""
        return self._recovered

    @property
    def record_bytes_max(self) -> int:
        """The largest payload that is accepted."""
        return self._log.record_bytes_max

    @property
    def ring_id(self) -> int:
        return self._log.ring_id

    @property
    def tail(self) -> int:
        """Position: the end of all that has been pushed."""
        return self._log.tail

    @property
    def synced(self) -> int:
        """Position: fdatasync has answered 0 for all before it."""
        return self._log.synced

    @property
    def delivered(self) -> int:
        """Position: DataHub has acknowledged all before it, or refused it for good. Never falls."""
        return self._delivery.delivered_position

    @property
    def trouble(self) -> str:
        """Why nothing is delivered at the moment; "" while all is well."""
        return self._delivery.trouble

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all pushed before is on the disk; False after `timeout` seconds. Delivery is hurried, not awaited:
        that is when `delivered` has reached what `tail` is now."""
        self._delivery.hurry()
        return self._log.flush(timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Refuse further pushes, bring all to the disk, deliver what can be delivered at once. Idempotent.

        False if not all is on the disk after `timeout` seconds. What is on the disk and not delivered stays there for
        the next who opens the log.
        """
        began = time.monotonic()
        done = self._log.close(timeout)
        self._delivery.drain(max(0.0, timeout - (time.monotonic() - began)))
        return done

    def __enter__(self) -> DatahubLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def counters(self) -> dict[str, Any]:
        """Those of the disk log, and of the delivery, since this log was opened.

        Records are callbacks: `accepted` were pushed, `found` waited at the opening, `adopted` were dead workers', and
        `accepted + found + adopted = delivered + dead_letter + in_spill + in_ring`, to within what happens while it is
        read. A record counts as dead letter if one of its rows was refused; `delivered_rows` and `dead_letter_rows` (by
        code) count rows. `errors` counts failed requests by code, `disk_errors` the disk log's by errno;
        `failing_seconds` is for how long nothing has been delivered though something waits (0.0: all is well).
        """
        delivery, counts = self._delivery, self._log.counters()
        pushed = counts["pushed"] - self._pushed_before
        own = delivery.records + delivery.dead_records - delivery.adopted
        return counts | {
            "accepted": pushed,
            "found": delivery.found,
            "adopted": delivery.adopted,
            "delivered": delivery.records,
            "dead_letter": delivery.dead_records,
            "in_ring": max(0, pushed - counts["flushed_records"]),
            "in_spill": max(0, delivery.found + counts["flushed_records"] - own),
            "delivered_rows": delivery.rows,
            "dead_letter_rows": dict(delivery.dead_rows),
            "batches": delivery.batches,
            "damaged_segments": delivery.damaged_segments,
            "gaps": delivery.gaps,
            "disk_errors": counts["errors"],
            "errors": dict(delivery.errors),
            "failing_seconds": time.monotonic() - delivery.failing_since if delivery.failing_since else 0.0,
        }


def open_log(
    directory: Path, rings: Path, target: Target, *, ring_bytes: int, segment_bytes: int,
    segment_seconds: float, sync_seconds: float, free_bytes_min: int | None = None, pace: Pace | None = None,
) -> DatahubLog:  # fmt: skip
    """A log on the first ring that no living worker owns. Asks nothing of the network; a server may be down.

    `directory` holds the spill.

    Raises:
        ConfigError: the client is not installed.
        PairecError: no ring is free.
        OSError: a file or directory cannot be made.
    """
    require_client()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    topic, slots = Topic(target), list[int]()

    def log(ring: Path, slot: int) -> Log:
        slots.append(slot)
        return Log(
            directory, ring, capacity=ring_bytes, slot=slot, sink=SINK, rotate_bytes=segment_bytes,
            rotate_seconds=segment_seconds, sync_seconds=sync_seconds, free_bytes_min=free_bytes_min,
        )  # fmt: skip

    return DatahubLog(on_free_ring(rings, log), directory, rings, slots[-1], topic, pace or Pace())
