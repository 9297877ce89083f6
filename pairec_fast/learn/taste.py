"""The demo world's people and things: what is written about them, and what is hidden.

Hidden are the factors (who likes what, low rank), an item's quality, popularity and trend, a user's price level and
how often he comes. Categories, brands, prices, gender and age are loosely linked to them, so that a model that sees
only these finds a part of the signal, and one that knows who clicked what finds more.
"""

# ruff: noqa: SIM905 - forty pairs of quotes say nothing
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

FACTORS = 8
CATEGORIES = (
    "dress shirt sneakers phone lipstick novel lamp headphones jacket toy backpack jeans perfume sofa watch blender "
    "coffee tent bicycle tablet camera rug skirt boots pillow kettle guitar racket serum puzzle drone curtain chair "
    "hat scarf wallet vase yoga_mat speaker mirror"
).split()
MANNERS = "classic urban soft bright little royal plain nordic vintage sunny daily travel pure bold fresh".split()
CITIES = (
    "Shanghai Beijing Shenzhen Guangzhou Chengdu Hangzhou Wuhan Chongqing Nanjing Tianjin Suzhou Xian Changsha "
    "Shenyang Qingdao Zhengzhou Dalian Dongguan Ningbo Xiamen Fuzhou Wuxi Hefei Kunming Harbin Jinan Foshan Changchun "
    "Wenzhou Nanning"
).split()


@dataclass(frozen=True, slots=True)
class Items:
    """What is for sale. `table` is what the world sees; the rest is hidden, all [items].

    popularity  float64  log of how much it is shown, before its trend
    quality     float32  how much anyone would like it
    factor      [items, FACTORS] float32
    price_level float32  dear or cheap for its category, in standard deviations
    category    int8     position in CATEGORIES
    by_category int64    items ordered by category; category_end [categories] int64 is where each ends
    """

    table: pa.Table
    popularity: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]
    price_level: npt.NDArray[np.float32]
    category: npt.NDArray[np.int8]
    by_category: npt.NDArray[np.int64]
    category_end: npt.NDArray[np.int64]
    center: npt.NDArray[np.float32]
    first_day: npt.NDArray[np.float32]
    last_day: npt.NDArray[np.float32]
    peak_day: npt.NDArray[np.float32]
    peak_height: npt.NDArray[np.float32]
    peak_width: npt.NDArray[np.float32]

    def trend(self, day: int) -> npt.NDArray[np.float64]:
        """What the day adds to log popularity, [items] float64: news fades in weeks, a fashion rises and falls."""
        age = np.maximum(day - self.first_day, 0.0)
        distance = (day - self.peak_day) / self.peak_width
        return (1.2 * np.exp(-age / 12.0) + self.peak_height * np.exp(-0.5 * distance * distance)).astype(np.float64)

    def on_sale(self, day: int) -> npt.NDArray[np.bool_]:
        return (self.first_day <= day) & (day < self.last_day)


@dataclass(frozen=True, slots=True)
class Users:
    """Who comes. `table` is what the world sees; the rest is hidden.

    activity    [users] float64                sessions a month
    tastes      [users, categories] float32    cumulative share of each category in what he wants to see
    factor      [users, FACTORS] float32
    price_level [users] float32                dear or cheap, as `Items.price_level`
    mood        [users] float32                clicks easily or hardly
    """

    table: pa.Table
    activity: npt.NDArray[np.float64]
    tastes: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]
    price_level: npt.NDArray[np.float32]
    mood: npt.NDArray[np.float32]

    def attraction(
        self, user: npt.NDArray[np.int32], item: npt.NDArray[np.int64], items: Items
    ) -> npt.NDArray[np.float32]:
        """How much `user` [n] wants each of `item` [n, m], as log odds of a click up to a constant: [n, m] float32."""
        taste = np.einsum("nk,nmk->nm", self.factor[user], items.factor[item])
        apart = items.price_level[item] - self.price_level[user][:, None]
        wanted = 0.9 * taste + 0.7 * items.quality[item] - 0.22 * apart * apart
        return np.asarray(wanted + self.mood[user][:, None], np.float32)


def make_items(rng: np.random.Generator, count: int, days: int, end: int) -> Items:
    """Draw `count` items that are for sale in the `days` days before `end` (unix seconds)."""
    kinds = len(CATEGORIES)
    share = 1.0 / (np.arange(kinds) + 3.0)
    category = np.sort(rng.choice(kinds, count, p=share / share.sum()))
    category[:kinds] = np.arange(kinds)  # none is empty
    rng.shuffle(category)
    by_category = np.argsort(category, kind="stable")
    category_end = np.cumsum(np.bincount(category, minlength=kinds))

    # Every category has brands of its own, about one per fifty items, the first ones far larger (log-uniform: Zipf).
    brands = np.maximum(2, np.bincount(category, minlength=kinds) // 50)
    nth = np.minimum(brands[category] ** rng.random(count), brands[category] - 1).astype(np.int64)
    brand = (np.cumsum(brands) - brands)[category] + nth

    center = rng.normal(0.0, 0.62, (kinds, FACTORS)).astype(np.float32)
    house = rng.normal(0.0, 0.30, (int(brands.sum()), FACTORS)).astype(np.float32)
    factor = center[category] + house[brand] + rng.normal(0.0, 0.35, (count, FACTORS)).astype(np.float32)
    price_level = (0.6 * rng.normal(0.0, 1.0, len(house))[brand] + 0.8 * rng.normal(0.0, 1.0, count)).astype(np.float32)
    price = np.exp(rng.normal(3.6, 0.9, kinds)[category] + 0.55 * price_level)
    quality = (0.4 * rng.normal(0.0, 1.0, len(house))[brand] + 0.9 * rng.normal(0.0, 1.0, count)).astype(np.float32)

    # Zipf with an exponential tail, as MovieLens; good items are more often popular, not always.
    rank = np.empty(count)
    rank[np.argsort(-(0.6 * quality + 0.8 * rng.normal(0.0, 1.0, count)), kind="stable")] = np.arange(count)
    popularity = -0.85 * np.log(rank + 10.0) - 4.0 * rank / count

    started = -rng.exponential(220.0, count)  # days before the month began; a tenth comes during the month
    new = rng.random(count) < 0.10
    started[new] = rng.uniform(0.0, days - 1, int(new.sum()))
    gone = rng.random(count) < 0.05
    last_day = np.where(gone, rng.uniform(1.0, days, count), np.inf)
    fashion = rng.random(count) < 0.12
    table = pa.table(
        {
            "item_id": ids("i", count, 6),
            "title": _titles(rng, category, count),
            "category": pa.array(CATEGORIES).take(pa.array(category)),
            "brand": pa.compute.binary_join_element_wise(
                pa.array(CATEGORIES).take(pa.array(category)), pa.array(nth + 1).cast(pa.string()), "_"
            ),
            "price": np.round(price, 2),
            "published": (end - (days - started) * 86_400).astype(np.int64),
            "age_days": np.round(days - started, 2),
            "in_stock": ~gone,
        }
    )
    return Items(
        table=table,
        popularity=popularity,
        quality=quality,
        factor=factor,
        price_level=price_level,
        category=category.astype(np.int8),
        by_category=by_category,
        category_end=category_end,
        center=center,
        first_day=np.where(new, np.ceil(started), started).astype(np.float32),
        last_day=np.floor(last_day).astype(np.float32),
        peak_day=rng.uniform(-3.0, days + 3.0, count).astype(np.float32),
        peak_height=np.where(fashion, rng.gamma(4.0, 0.5, count), 0.0).astype(np.float32),
        peak_width=rng.uniform(1.5, 4.0, count).astype(np.float32),
    )


def make_users(rng: np.random.Generator, count: int, days: int, items: Items) -> Users:
    """Draw `count` users, whose tastes lean on gender, age and city, and are mostly their own."""
    gender = rng.choice(2, count, p=(0.54, 0.46))
    age = np.clip(np.round(16.0 + rng.gamma(3.2, 6.0, count)), 16, 80).astype(np.int64)
    share = 1.0 / (np.arange(len(CITIES)) + 4.0)
    city = rng.choice(len(CITIES), count, p=share / share.sum())

    by_gender = rng.normal(0.0, 0.50, (2, FACTORS))
    by_age = rng.normal(0.0, 0.45, (2, FACTORS))
    by_city = rng.normal(0.0, 0.12, (len(CITIES), FACTORS))
    youth = 1.0 / (1.0 + np.exp((age - 33.0) / 6.0))
    factor = by_gender[gender] + youth[:, None] * by_age[0] + (1.0 - youth[:, None]) * by_age[1] + by_city[city]
    factor = (factor + rng.normal(0.0, 0.55, (count, FACTORS))).astype(np.float32)
    price_level = (0.7 - 1.4 * youth + rng.normal(0.0, 0.7, count)).astype(np.float32)

    size = np.diff(items.category_end, prepend=0)
    wanted = np.sqrt(size)[None, :] * np.exp(1.1 * (factor @ items.center.T))
    tastes = np.cumsum(wanted, axis=1)
    tastes /= tastes[:, -1:]
    male_or_female = pa.array(["female", "male"]).take(pa.array(gender))
    table = pa.table(
        {
            "user_id": ids("u", count, 5),
            "gender": pa.compute.if_else(pa.array(rng.random(count) < 0.15), None, male_or_female),
            "age": pa.array(age, mask=rng.random(count) < 0.10),
            "city": pa.array(CITIES).take(pa.array(city)),
            "member_days": (days + rng.exponential(400.0, count)).astype(np.int64),
        }
    )
    return Users(
        table=table,
        # Log-normal: the busiest hundredth makes a tenth of the requests. Mean 3.3 and one more: see `_visits`.
        activity=np.exp(rng.normal(np.log(3.3) - 0.5, 1.0, count)),
        tastes=tastes.astype(np.float32),
        factor=factor,
        price_level=price_level,
        mood=rng.normal(0.0, 0.35, count).astype(np.float32),
    )


def ids(prefix: str, count: int, digits: int) -> pa.Array:
    """`prefix` and a number with leading zeros, at least `digits` wide, for 0 .. count - 1."""
    numbers = pa.array(np.arange(count)).cast(pa.string())
    padded = pa.compute.utf8_lpad(numbers, max(digits, len(str(count - 1))), "0")
    return pa.compute.binary_join_element_wise(prefix, padded, "")


def _titles(rng: np.random.Generator, category: npt.NDArray[np.int64], count: int) -> pa.Array:
    titles = pa.array([f"{manner} {name.replace('_', ' ')}" for manner in MANNERS for name in CATEGORIES])
    return titles.take(pa.array(rng.integers(0, len(MANNERS), count) * len(CATEGORIES) + category))
