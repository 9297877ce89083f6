"""The demo world: items, users and a month of impressions with clicks, from a seed.

It looks like a shop: a few items are shown and clicked a lot and most hardly ever, items come and fade, people come in
sessions and like some categories more than others, and what stands high is clicked because it stands high. Why a
click happened is never written: tastes, quality and trend stay here, and a model has to find their traces.

The same arguments give the same data. Memory grows with items and users, not with impressions: those are made a
day's slice at a time, oldest first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from pairec_fast.errors import ConfigError
from pairec_fast.learn.taste import Items, Users, make_items, make_users

END = 1_793_491_200  # 2026-11-01T00:00:00Z: the last impression is of 2026-10-31
SHOWN = 20  # items a request, at most
DRAWN = 40  # candidates drawn for them: the same item is often drawn twice
SLICE = 20_000  # requests made at once: about 100 MB
CLICK_RATE = 0.065
# The share of people who look at a position at all: the position bias a model should not learn as taste.
EXAMINED = 1.0 / (1.0 + 0.11 * np.arange(SHOWN))
SOURCES = (0.45, 0.35, 0.20)  # the logging policy's candidates: what is popular now, the user's categories, anything
DEVICES = ["android", "ios", "web"]
# The share of a day's sessions in each hour: quiet nights, a bump at noon, busiest at nine in the evening.
HOURS = np.array([14, 8, 5, 3, 3, 4, 9, 18, 28, 33, 36, 40, 46, 43, 38, 37, 40, 46, 54, 64, 72, 74, 56, 31], np.float64)


def generate(
    directory: str | PathLike[str],
    *,
    items: int = 20_000,
    users: int = 5_000,
    seed: int = 1,
    days: int = 30,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `items.parquet`, `users.parquet` and `impressions.parquet` into `directory`, each whole or not at all.

    items       item_id, title, category, brand text; price float64; published int64 unix seconds; age_days float64
                at the end of the month; in_stock bool. Row `n` is item "i00000n".
    users       user_id, gender (null: 15 %), city text; age float64 (null: 10 %); member_days int64.
    impressions request_id, user_id, item_id, device text; timestamp int64 unix seconds, ascending; hour (UTC), position
                (from 1), clicked int64. About 190 rows a user, however many days.

    `progress(done, total)` is called with requests after every slice.

    Raises:
        ConfigError: fewer than 100 items, 10 users or 2 days.
    """
    for name, value, least in (("items", items, 100), ("users", users, 10), ("days", days, 2)):
        if value < least:
            raise ConfigError(f"{name} is {value}; at least {least} would be right")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    catalog = make_items(rng, items, days, END)
    people = make_users(rng, users, days, catalog)
    _write(directory / "items.parquet", [catalog.table])
    _write(directory / "users.parquet", [people.table])
    visits = _visits(rng, people.activity, days)
    _write(directory / "impressions.parquet", _impressions(rng, catalog, people, visits, days, progress))


@dataclass(frozen=True, slots=True)
class _Visits:
    """Requests, oldest first: user [count] int32, timestamp [count] int64, device [count] int8."""

    user: npt.NDArray[np.int32]
    timestamp: npt.NDArray[np.int64]
    device: npt.NDArray[np.int8]


def _visits(rng: np.random.Generator, activity: npt.NDArray[np.float64], days: int) -> _Visits:
    """People come in sessions: a few requests, minutes apart, on a device that is mostly theirs."""
    sessions = np.minimum(1 + rng.poisson(activity), 120)
    user = np.repeat(np.arange(len(activity), dtype=np.int32), sessions)
    weekday = 1.0 + 0.25 * np.isin(np.arange(days) % 7, (0, 6))
    day = rng.choice(days, len(user), p=weekday / weekday.sum())
    hour = rng.choice(24, len(user), p=HOURS / HOURS.sum())
    start = END - (days - day) * 86_400 + hour * 3600 + rng.integers(0, 3600, len(user))
    own = rng.choice(3, len(activity), p=(0.5, 0.3, 0.2))
    device = np.where(rng.random(len(user)) < 0.88, own[user], rng.choice(3, len(user)))

    length = np.minimum(rng.geometric(0.45, len(user)), 12)
    session = np.repeat(np.arange(len(user)), length)
    gap = 15.0 + rng.exponential(200.0, len(session))
    first = np.concatenate([[0], np.cumsum(length)[:-1]])
    elapsed = np.cumsum(gap)
    elapsed -= elapsed[first][session]
    timestamp = start[session] + elapsed.astype(np.int64)
    kept = np.flatnonzero(timestamp < END)
    kept = kept[np.argsort(timestamp[kept], kind="stable")]
    session = session[kept]
    return _Visits(user[session], timestamp[kept], device[session].astype(np.int8))


def _impressions(
    rng: np.random.Generator,
    items: Items,
    users: Users,
    visits: _Visits,
    days: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[pa.Table]:
    item_ids, user_ids = items.table.column("item_id"), users.table.column("user_id")
    devices = pa.array(DEVICES)
    total = len(visits.user)
    day = (visits.timestamp - (END - days * 86_400)) // 86_400
    width = max(8, len(str(total)))
    base: float | None = None
    for today in range(days):
        trend = items.trend(today)
        bounds = np.searchsorted(day, [today, today + 1])
        on_sale = items.on_sale(today)
        weight = np.cumsum((np.exp(items.popularity + trend) * on_sale)[items.by_category])
        for start in range(int(bounds[0]), int(bounds[1]), SLICE):
            requests = np.arange(start, min(start + SLICE, bounds[1]))
            user = visits.user[requests]
            item, shown = _shown(rng, items, users.tastes[user], weight, trend, on_sale)
            logit = users.attraction(user, item, items) + 0.45 * trend[item] + rng.normal(0.0, 0.3, item.shape)
            if base is None:
                base = _calibrated(logit, shown)
            click = rng.random(item.shape) < EXAMINED / (1.0 + np.exp(-(logit + base)))
            rows, position = np.nonzero(shown)
            request = requests[rows]
            timestamp = visits.timestamp[request]
            numbers = pa.array(np.char.zfill(requests.astype(np.str_), width)).cast(pa.string())
            yield pa.table(
                {
                    "request_id": pa.compute.binary_join_element_wise("r", numbers, "").take(pa.array(rows)),
                    "user_id": user_ids.take(pa.array(user[rows])).combine_chunks(),
                    "item_id": item_ids.take(pa.array(item[rows, position])).combine_chunks(),
                    "timestamp": timestamp,
                    "hour": timestamp // 3600 % 24,
                    "device": devices.take(pa.array(visits.device[request])),
                    "position": position + 1,
                    "clicked": click[rows, position].astype(np.int64),
                }
            )
            if progress is not None:
                progress(int(requests[-1]) + 1, total)


def _shown(
    rng: np.random.Generator,
    items: Items,
    tastes: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float64],
    trend: npt.NDArray[np.float64],
    on_sale: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What the logging policy shows: item [requests, SHOWN], and which of its cells are filled, always the first ones.

    tastes [requests, categories] float32   cumulative: a category is drawn by inverting it
    weight [items] float64                  cumulative popularity of today, in the order of `items.by_category`
    """
    count = len(tastes)
    source = rng.choice(3, (count, DRAWN), p=SOURCES)
    uniform = rng.random((count, DRAWN))
    # The edges of each category on the cumulative weight: one draw serves "anywhere" and "in this category".
    edges = np.concatenate([[0.0], weight[items.category_end - 1]])
    picked = (rng.random((count, DRAWN))[:, :, None] > tastes[:, None, :-1]).sum(axis=2)
    low, high = edges[picked], edges[picked + 1]
    at = np.where(source == 1, low + uniform * (high - low), uniform * weight[-1])
    place = np.searchsorted(weight, at, side="right")
    place = np.where(source == 2, (uniform * len(weight)).astype(np.int64), np.minimum(place, len(weight) - 1))
    item = items.by_category[place]
    sold = on_sale[item]  # exploration ignores popularity, not the stock

    # Keep the first SHOWN different ones of each row, in drawn order.
    column = np.arange(DRAWN)
    key = np.sort(item * DRAWN + column, axis=1)
    repeated = np.zeros((count, DRAWN), bool)
    repeated[:, 1:] = key[:, 1:] // DRAWN == key[:, :-1] // DRAWN
    usable = sold.copy()
    np.put_along_axis(usable, key % DRAWN, ~repeated & np.take_along_axis(sold, key % DRAWN, axis=1), axis=1)
    rank = np.where(usable, column, DRAWN)
    first = np.argsort(rank, axis=1, kind="stable")[:, :SHOWN]
    shown = np.take_along_axis(usable, first, axis=1)
    item = np.take_along_axis(item, first, axis=1)

    # The policy puts what is popular and of a liked category first, and is often wrong.
    liking = np.diff(tastes, axis=1, prepend=np.float32(0.0))
    score = 0.35 * (items.popularity[item] + trend[item]) + rng.gumbel(size=item.shape)
    score += 0.4 * np.log(np.take_along_axis(liking, items.category[item].astype(np.int64), axis=1) + 1e-3)
    order = np.argsort(np.where(shown, -score, np.inf), axis=1, kind="stable")
    return np.take_along_axis(item, order, axis=1), np.take_along_axis(shown, order, axis=1)


def _calibrated(logit: npt.NDArray[Any], shown: npt.NDArray[np.bool_]) -> float:
    """The constant that makes the expected share of clicks `CLICK_RATE`, by bisection."""
    low, high = -15.0, 15.0
    for _ in range(40):
        middle = (low + high) / 2
        rate = (EXAMINED / (1.0 + np.exp(-(logit + middle))))[shown].mean()
        low, high = (middle, high) if rate < CLICK_RATE else (low, middle)
    return (low + high) / 2


def _write(path: Path, tables: Iterator[pa.Table] | list[pa.Table]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    writer: Any = None
    try:
        for table in tables:
            if writer is None:
                writer = pa.parquet.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
        writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
