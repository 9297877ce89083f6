"""The peers' indexes: made by bench.recall, each at the least effort that reaches the recall asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.peers import world
from bench.recall import sets
from bench.recall.contender import Contender, Search
from bench.recall.peers import PEERS
from bench.recall.sets import Set
from bench.recall.sweep import Point, Sweep

NAME = "world"
STACKS = {"a": ["hnswlib"], "b": ["scann", "faiss-ivf", "faiss-hnsw"]}  # whose fastest is taken
EVERY = ["hnswlib", "usearch", "faiss-hnsw", "faiss-ivf", "scann"]
Say = Callable[[str], None]


class Chosen(NamedTuple):
    """An index as it is asked."""

    maker: str  # of bench.recall.peers
    name: str
    setting: str
    effort: int
    recall: float
    p50_us: float


def asked_set(folder: Path, queries: int = 1_000) -> Set:
    """The world's vectors as a set of bench.recall: `queries` users, and what is right for them."""
    cache = folder / "indexes"
    cache.mkdir(exist_ok=True)
    base, users = np.load(folder / "vectors.npy"), np.load(folder / "users.npy")
    asked = users[askers(users, queries)]
    truth = cache / f"{NAME}.truth.npy"
    if not truth.exists():
        sets.keep(truth, sets.exact(base, asked, min(world.CANDIDATES, len(base))))
    return Set(NAME, base, asked, np.load(truth), "ip", cache)


def askers(users: NDArray[np.float32], count: int, seed: int = 0) -> NDArray[np.intp]:
    """Rows of users who have a vector, in an order that no cache knows."""
    known = np.flatnonzero(users.any(axis=1))
    return np.random.default_rng(seed).permutation(known)[:count]


def made(of: Set, makers: Sequence[str], say: Say) -> list[tuple[str, Contender]]:
    """Contenders and their makers; why one is left out is said."""
    found: list[tuple[str, Contender]] = []
    for maker in makers:
        package, make = PEERS[maker]
        try:
            found += [(maker, each) for each in make(of, say)]
        except ImportError:
            say(f"{maker}: left out, {package} is not installed")
        except Exception as error:  # each package fails in its own way
            say(f"{maker}: left out, {type(error).__name__}: {error}")
    return found


def chosen(folder: Path, makers: Sequence[str], say: Say) -> list[Chosen]:
    """Of each name its fastest setting that reaches world.RECALL, fastest first; chosen once, kept in a file."""
    file = folder / "indexes" / f"chosen-{'-'.join(makers)}.json"
    if not file.exists():
        of = asked_set(folder)
        contenders = made(of, makers, say)
        sweep = Sweep([each for _, each in contenders], of.truth, min(world.CANDIDATES, len(of.base)), of.halves())
        points = sweep.table(3, (world.RECALL,))[world.RECALL].values()
        found = []
        for point in points:
            if isinstance(point, Point):
                maker = next(maker for maker, each in contenders if each.name == point.name)
                found.append(Chosen(maker, point.name, point.setting, point.effort, point.recall, point.p50_us))
        file.write_text(json.dumps(sorted(found, key=lambda one: one.p50_us)))
    return [Chosen(*one) for one in json.loads(file.read_text())]


def opened(folder: Path, one: Chosen, say: Say) -> tuple[Search, Sequence[Any]]:
    """A search, and every user's vector in the form it takes one in: a list by user row."""
    users = np.load(folder / "users.npy")
    of = asked_set(folder)._replace(queries=users)
    contender = next(
        each for _, each in made(of, [one.maker], say) if (each.name, each.setting) == (one.name, one.setting)
    )
    return contender.at(min(world.CANDIDATES, len(of.base)), one.effort), contender.queries
