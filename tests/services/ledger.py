"""What was pushed, against what a topic holds: the oracle of every test of the Kafka sink.

Each record says who it is in its request id, and everything else in it follows from that, so whatever comes back can
be compared whole. A key (the user) is used by one thread only: its rows must lie in the order of that thread's pushes.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pairec_fast.callback import Record, encode
from pairec_fast.core import expand
from tests.services.kafka import Message

IDENTITY = ("ring_id", "position", "row")  # the headers by which a reader removes repeats
KEYS = 7  # users of each thread
FILLER = "".join(
    random.Random(0).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=1 << 17)
)  # what a compressor leaves as it is

# What must be 0 in the totals of `check`, with faults or without.
FAULTS = (
    "lost", "repeated_after_dedup", "inverted", "altered", "invented", "refused_but_there", "without_identity",
    "misplaced",
)  # fmt: skip


def record(thread: int, number: int, bytes_about: int = 400, items: int = 2) -> bytes:
    """One callback of `items` items and at most 64 KiB; the same arguments give the same bytes."""
    at = (thread * 7919 + number * 31) % (len(FILLER) // 2)
    return encode(
        Record(
            scene="home_feed",
            request_id=f"{thread}-{number}-{bytes_about}-{items}",
            request_time=1_700_000_000 + number,
            uid=f"u{thread}-{number % KEYS}",
            features={"age": number % 90, "filler": FILLER[at : at + bytes_about]},
            request_info={"size": items},
            items=[{"item_id": f"i{number % 1000}-{place}", "score": place / 8} for place in range(items)],
        )
    )


def expected(request_id: str) -> list[dict[str, Any]]:
    """The rows of the record with this id."""
    return list(map(json.loads, expand(record(*map(int, request_id.split("-"))))))


class Ledger:
    """Notes what was pushed and how that was answered; safe for several threads."""

    def __init__(self) -> None:
        self.accepted: dict[str, int] = {}  # request id -> its rows
        self.refused: set[str] = set()
        self._lock = threading.Lock()

    def push(self, log: Any, thread: int, number: int, bytes_about: int = 400, items: int = 2) -> bool:
        """Push one record into anything with `push(bytes) -> bool`, and note the answer."""
        payload = record(thread, number, bytes_about, items)
        accepted = bool(log.push(payload))
        request_id = f"{thread}-{number}-{bytes_about}-{items}"
        with self._lock:
            if accepted:
                self.accepted[request_id] = 1 + items
            else:
                self.refused.add(request_id)
        return accepted

    def check(
        self, messages: Iterable[Message], *, except_for: Iterable[str] = (), perhaps: Iterable[str] = ()
    ) -> Counter[str]:
        """Totals of what is wrong (`FAULTS`), and `rows`, `repeated` for information.

        `messages` come by partition and offset. `except_for` are request ids that must not be there: dead letters.
        `perhaps` are those of which nobody knows whether they were accepted.
        """
        totals: Counter[str] = Counter()
        first_told: dict[tuple[bytes, ...], tuple[bytes | None, bytes]] = {}
        found: dict[str, set[int]] = {}
        newest: dict[bytes, tuple[int, int]] = {}  # key -> number and row of its last message
        home: dict[bytes, int] = {}  # key -> partition
        for message in messages:
            totals["rows"] += 1
            told = tuple(message.headers.get(name, b"") for name in IDENTITY)
            if not all(told):
                totals["without_identity"] += 1
            elif told in first_told:
                totals["repeated"] += 1
                totals["altered"] += first_told[told] != (message.key, message.value)
                continue
            first_told[told] = message.key, message.value
            self._check_row(message, totals, found, newest, home)
        hidden = set(except_for)
        for request_id, count in self.accepted.items():
            there = found.pop(request_id, set())
            totals["lost"] += 0 if request_id in hidden else len(set(range(count)) - there)
            totals["refused_but_there"] += len(there) if request_id in hidden else 0
        for request_id in perhaps:
            found.pop(request_id, None)
        for request_id, there in found.items():
            totals["refused_but_there" if request_id in self.refused else "invented"] += len(there)
        totals["records"] = len(self.accepted)
        return totals

    @staticmethod
    def _check_row(
        message: Message,
        totals: Counter[str],
        found: dict[str, set[int]],
        newest: dict[bytes, tuple[int, int]],
        home: dict[bytes, int],
    ) -> None:
        try:
            row = json.loads(message.value)
            request_id = row["request_id"]
            whole = expected(request_id)
            place = whole.index(row)
        except (ValueError, KeyError, TypeError):
            totals["altered"] += 1
            return
        key = message.key or b""
        totals["altered"] += key != whole[0]["user_id"].encode()
        totals["misplaced"] += home.setdefault(key, message.partition) != message.partition
        there = found.setdefault(request_id, set())
        totals["repeated_after_dedup"] += place in there
        there.add(place)
        number = int(request_id.split("-")[1])
        totals["inverted"] += (number, place) < newest.get(key, (-1, -1))
        newest[key] = max((number, place), newest.get(key, (-1, -1)))


def failed(totals: Counter[str]) -> bool:
    return any(totals[name] for name in FAULTS)
