"""Which rows a model is measured on: the last ones, or other people's; never a part of a request it has seen."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.learn.frame import Frame, TextColumn


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """A way to cut rows in two: a key a row, units of equal key stay whole, and the highest keys are held out.

    key  [rows] float64  time, or the place of the row's user in a shuffled order
    what in words, for the report
    """

    key: npt.NDArray[np.float64]
    what: str
    by_time: bool

    def held(self, rows: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
        """Of `rows` [n], those to hold out [n]: about `share`, never none and never all, unless all keys are equal."""
        keys, count = np.unique(self.key[rows], return_counts=True)
        if len(keys) < 2:
            return np.zeros(len(rows), bool)
        after = 1.0 - np.cumsum(count)[:-1] / len(rows)  # the share left after cutting above keys[i]
        threshold = keys[int(np.argmin(np.abs(after - share)))]
        held: npt.NDArray[np.bool_] = self.key[rows] > threshold
        return held


def units(frame: Frame, name: str) -> tuple[npt.NDArray[np.int64], list[str]]:
    """A column as who is who: code [rows] int64, and what each code stands for. Null is somebody of its own.

    Raises:
        SnapshotError: there is no such column, or it holds lists.
    """
    column = frame.column(name)
    if isinstance(column, TextColumn):
        codes = column.codes.astype(np.int64)
        return np.where(codes < 0, len(column.vocabulary), codes), [*column.vocabulary, ""]
    values, codes = np.unique(frame.numbers(name), return_inverse=True)
    return codes.astype(np.int64), [str(value) for value in values.tolist()]


def choose(
    frame: Frame, holdout: str | None, *, time: str | None, user: str, group: str | None, seed: int
) -> tuple[Cut, str]:
    """The cut asked for, or the first that the table allows: by time, user, group, row; and a note if it is poor.

    Raises:
        ConfigError: `holdout` is neither "time" nor "user".
        SnapshotError: the column it needs is missing, empty in places, or the same in all rows.
    """
    if holdout not in (None, "time", "user"):
        raise ConfigError(f'holdout is "{holdout}"; "time" or "user" would be right')
    together = units(frame, group)[0] if group is not None else None
    if holdout == "time" and time is None:
        raise SnapshotError(f"{frame.path} has no time column to hold out by; name it (time=...) or hold out by user")
    if time is not None and holdout != "user":
        key = _whole(_times(frame, time), together)
        if np.ptp(key) > 0:
            return Cut(key, time, by_time=True), ""
        if holdout == "time":
            raise SnapshotError(f"{frame.path}: {time} is the same in all rows; hold out by user instead")
    if holdout == "user":
        frame.require([user])
    for name in (user, group):
        if name is not None and name in frame:
            codes, names = units(frame, name)
            key = _whole(_shuffled(codes, names, seed), together)
            if np.ptp(key) > 0:
                return Cut(key, name, by_time=False), ""
        if holdout == "user":
            raise SnapshotError(f"{frame.path}: {user} is the same in all rows; hold out by time instead")
    if group is not None:
        raise SnapshotError(f"{frame.path}: {group} is the same in all rows; one for each request would be right")
    key = np.random.default_rng(seed).permutation(len(frame)).astype(np.float64)
    note = f"held out by row: there is no time and no {user}, so people it was trained on are in the holdout too"
    return Cut(key, "row", by_time=False), note


def shown_time(seconds: float) -> str:
    """A unix time as people read it, or the bare number when it is none."""
    if 0.0 <= seconds < 4e9:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{seconds:g}"


def _times(frame: Frame, name: str) -> npt.NDArray[np.float64]:
    column = frame.column(name)
    if isinstance(column, TextColumn):
        raise SnapshotError(
            f"{frame.path}: {frame.place(0)}: {name} is {column.value(0)!r}; "
            "unix seconds or times like 2026-10-31 18:00:00 in every row would be right"
        )
    values = np.asarray(frame.numbers(name), np.float64)
    absent = np.flatnonzero(np.isnan(values))
    if len(absent):
        place = frame.place(int(absent[0]))
        raise SnapshotError(f"{frame.path}: {place}: {name} is empty; every row needs a time to be held out by")
    return values


def _shuffled(codes: npt.NDArray[np.int64], names: list[str], seed: int) -> npt.NDArray[np.float64]:
    """Each one's place when all are ordered by hash: the same people are held out of every table they are in."""
    present = np.unique(codes)
    digests = [hashlib.blake2b(f"{seed}:{names[code]}".encode(), digest_size=8).digest() for code in present]
    place = np.zeros(len(names))
    place[present[np.argsort(np.frombuffer(b"".join(digests), ">u8"), kind="stable")]] = np.arange(len(present))
    return place[codes]


def _whole(key: npt.NDArray[np.float64], together: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """One key for all rows of a group, the highest among them, so that no cut runs through it."""
    if together is None:
        return key
    highest = np.full(int(together.max()) + 1, -np.inf)
    np.maximum.at(highest, together, key)
    whole: npt.NDArray[np.float64] = highest[together]
    return whole
