"""The logs of one engine: who waits for them and how long, what was counted, whether they keep up.

Durability levels (`LogRingConf.Durability`). The answer to an explicit callback is sent after ..., and the promise is:

memory     a copy in process memory: "Accepted records are lost if the worker dies."
process    the commit in shared memory: "Accepted records survive the death of the worker, SIGKILL and out-of-memory
           kill included, and are written by the next worker to start." Not promised: power loss, kernel crash, or
           removal of the container's shared memory may lose records not yet flushed: normally the last 50 ms, more when
           the disk is slow; see `log_oldest_unsynced_seconds`.
synced     a group fdatasync: "Accepted records are on the disk as far as fdatasync can tell." Not promised: disk loss;
           a device that lies about flush.
delivered  the far end's answer; of Kafka, acks=all: "Accepted records were acknowledged by all in-sync replicas.
           Delivery is at least once; each record carries (ring_id, position) to remove repeats." Not promised: brokers
           that ack before fsync; exactly-once. Of the disk it is the same as `synced`.

A callback that reached the ring but not its level within `DurabilityMilliseconds` is answered 503, and the outcome is
unknown to its sender: the record may well be written later, and a repeat of it too. Automatic callbacks never wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from pairec_fast.callback import REPEATED_BYTES_MAX, Sink, log_directories, open_logs
from pairec_fast.config import CallBackConfig, Config, DataSource
from pairec_fast.core import CallbackBody
from pairec_fast.core.meter import Group
from pairec_fast.errors import RequestError
from pairec_fast.metrics import Metrics
from pairec_fast.sink.disk import Adopter

log = logging.getLogger("pairec_fast")

T = TypeVar("T")
# Yields how many seconds to wait before it is asked again, or what to wait for; its value is the outcome.
Waits = Generator["float | Future[Any]", None, T]

PAUSE = 0.001  # seconds: uvloop's timers count whole milliseconds, and anything less would spin
PAUSE_MAX = 0.05  # of who has waited long
HEARTBEAT_SECONDS = 2.0  # a flush thread that has not moved for longer is stuck
HOLE_SECONDS = 5.0  # a push that has not returned for longer holds up all behind it

# What a log counts -> its metric. What is not named here is `log_` and its name.
_METRICS = {
    "delivered": "log_delivered_total",
    "delivered_records": "log_delivered_total",
    "ring_records": "log_in_ring",
    "spill_records": "log_in_spill",
    "dead_letter": "log_dead_letter_total",
    "dead_records": "log_dead_letter_total",
    "used_bytes": "ring_used_bytes",
    "high_water_bytes": "ring_high_water_bytes",
    "hole_age_seconds": "ring_hole_age_seconds",
    "pushed": "ring_pushed_total",
    "pushed_bytes": "ring_pushed_bytes_total",
    "dropped_full": 'ring_dropped_total{reason="full"}',
    "dropped_too_large": 'ring_dropped_total{reason="too_large"}',
    "dropped_closed": 'ring_dropped_total{reason="closed"}',
    "recovered_records": "recovered_records_total",
    "heartbeat_seconds": "flusher_heartbeat_seconds",
    "fdatasync_count": "fdatasync_seconds_count",
    "fdatasync_seconds_sum": "fdatasync_seconds_sum",
    "fdatasync_seconds_max": "fdatasync_seconds_max",
    "flushed_bytes": "segment_bytes_total",
    "segments_closed": "segments_closed_total",
    "segments_removed": "segments_removed_total",
    "removed_bytes": "segments_removed_bytes_total",
    "free_bytes": "segment_free_bytes",
    "low_water": "segment_low_water",
    "low_water_times": "segment_low_water_total",
}
# What is split by a code or an errno -> its metric and label. Others are `KIND_` and the name, by code.
_SPLIT = {
    "kafka_errors": ("kafka_errors_total", "code"),
    "dead_letters": ("dead_letter_total", "code"),
    "disk_errors": ("segment_errors_total", "errno"),
}
_DISK_ERRORS = {"disk", "kafka"}  # kinds whose `errors` are those of the disk
_SAME = {"accepted", "flushed_records"}  # is log_accepted_total, is log_delivered_total


class Logs:
    """`put` is called on any thread. It counts each callback once, as what became of it."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        """Open the log of each sink in use.

        Raises:
            ConfigError, PairecError, OSError: one cannot be opened; nothing is left open.
        """
        self._conf, self._metrics, self._pid = config.log_ring_conf, metrics, os.getpid()
        self._closed = False
        self._dropped_at = -float("inf")
        self._logs: dict[DataSource, Sink] = open_logs(config)
        self._counters: dict[tuple[str, str, str, str], Group] = {}
        self._adopted, self._stop = 0, threading.Event()
        seconds, itself = self._conf.adopt_seconds, weakref.ref(self)
        adopters = [Adopter(place, rings, seconds, sink) for place, rings, sink in log_directories(config)]
        if adopters:
            arguments = itself, self._stop, adopters, min(seconds / 4, 2.0)
            threading.Thread(target=_adopt, args=arguments, name="pairec-adopt", daemon=True).start()

    def put(self, conf: CallBackConfig, source: str, scene: str, payload: bytes, items: int, kept: int) -> Waits[bool]:
        """Into the log of `conf`; False if it is refused, or its durability is unknown.

        A callback of `source` "explicit" may wait, for space and for its durability level; an "automatic" one never
        does. It had `items`, of which `kept` are in `payload`.

        Raises:
            RequestError: it never fits.
        """
        log = self._logs[conf.data_source]
        if len(payload) > log.record_bytes_max:
            log.push(payload)  # refused, but it leaves a gap
            self.count(source, scene, items, kept, "dropped", "too_large")
            raise RequestError(f"callback of {len(payload)} bytes; the log takes {log.record_bytes_max}")
        explicit = source == "explicit"
        level = conf.durability or self._conf.durability
        dead = log.counters()["dead_letter"] if explicit and level == "delivered" else 0
        if explicit and self._conf.explicit_policy == "block":
            try:
                accepted = yield from self._blocking(log, payload)
            except GeneratorExit:  # the request is over before its wait: it ends here, and is counted all the same
                taken = log.push(payload)
                self.count(source, scene, items, kept, *(("accepted",) if taken else ("dropped", "full")))
                raise
        else:
            accepted = log.push(payload)
        if not accepted:
            open_here = not self._closed and os.getpid() == self._pid
            if open_here:
                self._dropped_at = time.monotonic()
            self.count(source, scene, items, kept, "dropped", "full" if open_here else "closed")
            return False
        self.count(source, scene, items, kept, "accepted")
        if not explicit or level not in ("synced", "delivered"):
            return True
        safe = yield from self._safe(log, level, scene)
        if safe and level == "delivered" and log.counters()["dead_letter"] != dead:
            # The position passes what was refused for good too. Whose it was is not known: unknown, for all who waited.
            self._metrics.count("log_unconfirmed_total", scene=scene)
            return False
        return safe

    def taker(self, conf: CallBackConfig, scene: str, fingerprint: str) -> Callable[[CallbackBody], bool] | None:
        """What takes an explicit callback into the log of `conf` as `put` does, if nothing stands in its way; False if
        something does, and nothing has happened. None where one must wait for the durability level."""
        if (conf.durability or self._conf.durability) not in ("memory", "process"):
            return None
        size, push, now = conf.item_size, self._logs[conf.data_source].try_push, time.time
        add = self._ended("explicit", scene, "accepted").add

        def take(body: CallbackBody) -> bool:
            items = body.items
            if 6 * len(body.body) * (items + 1) > REPEATED_BYTES_MAX:  # its ids might be too long for so many
                return False
            kept = min(items, size) if size else items
            if not push(body.record(int(now()), fingerprint, kept)):
                return False
            add(1, 1, items, items - kept, kept)
            return True

        return take

    def tell(self, source: DataSource, kind: str, scene: str, payload: bytes) -> bool:
        """Into a log, something that is no callback; it never waits. Counted by its `kind` and scene.

        False if it is not taken: the log is full, or is none that the configuration names.
        """
        log = self._logs.get(source)
        taken = log is not None and len(payload) <= log.record_bytes_max and log.push(payload)
        self._metrics.count("records_total" if taken else "records_dropped_total", kind=kind, scene=scene)
        return taken

    def _blocking(self, log: Sink, payload: bytes) -> Waits[bool]:
        if log.try_push(payload):
            return True
        deadline = time.monotonic() + self._conf.block_milliseconds / 1000
        self._hurry(log)
        while deadline - time.monotonic() > PAUSE / 2:
            yield PAUSE
            if log.try_push(payload):
                return True
        return log.push(payload)  # the last time, so that its refusal counts

    def _safe(self, log: Sink, level: str, scene: str) -> Waits[bool]:
        target = log.tail  # at or behind the end of what was pushed just now
        begin = time.monotonic()
        deadline = begin + self._conf.durability_milliseconds / 1000
        self._hurry(log)
        while (log.synced if level == "synced" else log.delivered) < target:
            now = time.monotonic()
            if now >= deadline:
                self._metrics.count("log_unconfirmed_total", scene=scene)
                return False
            # Ever more seldom: while brokers are away hundreds wait, and share the loop with recommendations.
            yield min(max(PAUSE, (now - begin) / 8), PAUSE_MAX, max(PAUSE, deadline - now))
        return True

    def _hurry(self, log: Sink) -> None:
        """Ask for what was pushed to be made safe at once; what comes while that lasts shares the next turn."""
        if not self._closed:
            log.flush(0)

    def count(self, source: str, scene: str, items: int, kept: int, outcome: str, reason: str = "") -> None:
        """Count one callback, offered and at its end: "accepted", "sampled_out", or "dropped" for a reason.

        offered = sampled_out + accepted + dropped{full, too_large, closed, invalid}, in callbacks, and the same of
        their items under `log_items_`; at one moment, so that the law holds whenever it is read.
        """
        counters = self._counters.get((source, scene, outcome, reason)) or self._ended(source, scene, outcome, reason)
        left = 0 if outcome == "sampled_out" else kept
        counters.add(1, 1, items, items - left, left)

    def _ended(self, source: str, scene: str, outcome: str, reason: str = "") -> Group:
        """What `count` counts up: callbacks offered and ended, items offered, sampled out and ended."""
        counter, labels = self._metrics.counter, {"source": source, "scene": scene}
        ended = labels | ({"reason": reason} if reason else {})
        self._counters[source, scene, outcome, reason] = counters = self._metrics.group(
            counter("log_offered_total", **labels), counter(f"log_{outcome}_total", **ended),
            counter("log_items_offered_total", **labels), counter("log_items_sampled_out_total", **labels),
            counter(f"log_items_{outcome}_total", **ended),
        )  # fmt: skip
        return counters

    def gauges(self) -> dict[str, float]:
        """The logs' own figures: summed over the logs, of ages the highest."""
        values: dict[str, float] = {}
        for source, log in self._logs.items():
            for name, value in log.counters().items():
                if name in _SAME:
                    continue
                parts = _metrics(source.type, name, value)
                highest = name.endswith(("_seconds", "_max"))
                for metric, part in parts.items():
                    before = values.get(metric, 0)
                    values[metric] = max(before, part) if highest else before + part
        values["adopted_records_total"] = self._adopted
        return values

    def problems(self) -> tuple[list[str], list[str]]:
        """Why this worker should get no requests; and what is amiss without being a reason for that."""
        failing, degraded = list[str](), list[str]()
        for source, log in self._logs.items():
            counters = log.counters()
            if (age := counters.get("heartbeat_seconds", 0.0)) > HEARTBEAT_SECONDS:
                failing.append(f"log {source.name}: the flush thread has not moved for {age:.1f} s")
            if counters.get("low_water", 0):
                degraded.append(f"log {source.name}: only {counters['free_bytes']} bytes free on its disk")
            if (age := counters.get("hole_age_seconds", 0.0)) > HOLE_SECONDS:
                degraded.append(f"log {source.name}: a push has not returned for {age:.1f} s")
        if time.monotonic() - self._dropped_at < self._conf.dropped_seconds:
            failing.append(f"callbacks were dropped in the last {self._conf.dropped_seconds:g} s")
        return failing, degraded

    def close(self, timeout: float) -> None:
        """Close all at once: `timeout` bounds the whole, however many there are and whichever hangs."""
        self._closed = True
        self._stop.set()
        closing = [threading.Thread(target=log.close, args=(timeout,)) for log in self._logs.values()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()


def _adopt(itself: weakref.ref[Logs], stop: threading.Event, adopters: list[Adopter], pause: float) -> None:
    """The thread that looks after dead workers' rings, until the logs are closed or nobody holds them."""
    while not stop.wait(pause) and itself() is not None:
        for adopter in adopters:
            try:
                records = adopter.look(time.monotonic())
            except OSError as error:
                log.error("a dead worker's ring cannot be written out yet: %s", error)
                continue
            logs = itself()
            if records and logs is not None:
                logs._adopted += records


def _metrics(kind: str, name: str, value: Any) -> dict[str, float]:
    """The metric of a sink's counter; of one that is split by kind, or is a word, one for each with a label."""
    if isinstance(value, str):
        return {f'log_{name}{{{name}="{value}"}}': 1}
    if not isinstance(value, dict):
        return {_METRICS.get(name, f"log_{name}"): value}
    if name == "errors" and kind in _DISK_ERRORS:
        name = "disk_errors"
    metric, label = _SPLIT.get(name, (f"{kind}_{name}_total", "code"))
    return {f'{metric}{{{label}="{code}"}}': count for code, count in value.items()}


def finish(waits: Waits[T]) -> T:
    """Wait in this thread."""
    try:
        while True:
            step = next(waits)
            if isinstance(step, Future):
                wait([step])
            else:
                time.sleep(step)
    except StopIteration as done:
        value: T = done.value
        return value


async def awaited(waits: Waits[T]) -> T:
    """Wait on the event loop, which serves others meanwhile."""
    try:
        while True:
            step = next(waits)
            if isinstance(step, Future):
                await asyncio.wait([asyncio.wrap_future(step)])
            else:
                await asyncio.sleep(step)
    except StopIteration as done:
        value: T = done.value
        return value
    finally:
        waits.close()
