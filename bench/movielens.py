"""How good the whole line is on MovieLens-100K, through the HTTP service: `python -m bench.movielens`.

Two ways to hold out a fifth. `user`: the last fifth of each user's ratings. `global`: everything after a moment; most
who rate then are new. Ratings of one second stand in random order (seed 0). From the rest a snapshot is built and
served; each user with held-out ratings asks once for 20 films. What they had rated is never shown again.

    NDCG@20      discounted hits over the best possible for as many held-out films, at most 20; mean over users
    HitRate@20   share of users with a hit
    coverage     share of all 1,682 films that were shown to anybody

Baselines are tuned on a validation slice that is cut off the training part in the same way. EASE and ALS know nothing
of new users: those get recent popularity. Intervals: 95 %, paired bootstrap over users, 10,000 draws, seed 0.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pairec_fast.build import build
from pairec_fast.learn.demo import engine_config, world_text
from pairec_fast.learn.measure import auc
from pairec_fast.learn.movielens import movielens_100k

USERS, ITEMS, SIZE, DAY = 943, 1682, 20, 86400.0
HALF_LIVES = [1.5, 3, 5, 7, 10, 14, 30, 60]
EASE_GRID = [100.0, 200.0, 400.0, 800.0]
ALS_GRID = [(16, 1.0, 1.0), (32, 10.0, 1.0), (64, 10.0, 1.0), (64, 30.0, 1.0), (128, 30.0, 1.0)]
DRAWS = 10_000
Floats = NDArray[np.float64]


class Ratings:
    """user, item [ratings] int, counted from 0; time in seconds, ascending; rating."""

    def __init__(self, *columns: NDArray[Any]) -> None:
        self.columns = columns
        self.user, self.item, self.time, self.rating = columns

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: NDArray[np.bool_]) -> Ratings:
        return Ratings(*(column[keep] for column in self.columns))

    def matrix(self) -> Any:
        return csr_matrix((np.ones(len(self)), (self.user, self.item)), shape=(USERS, ITEMS))

    def popularity(self, half_life_days: float = np.inf) -> Floats:
        weight = np.exp2((self.time - self.time.max()) / (half_life_days * DAY))
        return np.bincount(self.item, weight, minlength=ITEMS)


def read(folder: Path) -> Ratings:
    table = pq.read_table(folder / "events.parquet").to_pydict()
    user, item = (np.array([int(id) - 1 for id in table[name]]) for name in ("user_id", "item_id"))
    time, rating = np.array(table["timestamp"], float), np.array(table["rating"])
    order = np.lexsort((np.random.default_rng(0).permutation(len(user)), time))
    return Ratings(*(column[order] for column in (user, item, time, rating)))


def cut(split: str, ratings: Ratings) -> tuple[Ratings, Ratings]:
    """(training part, held out)."""
    if split == "global":
        before = ratings.time <= np.quantile(ratings.time, 0.8)
        return ratings.where(before), ratings.where(~before)
    order = np.argsort(ratings.user, kind="stable")
    user = ratings.user[order]
    count = np.bincount(user, minlength=USERS)[user]
    left = np.searchsorted(user, user) + count - np.arange(len(user))
    held = np.empty(len(user), bool)
    held[order] = left <= np.floor(0.2 * count)
    return ratings.where(~held), ratings.where(held)


class Judge:
    """Who asks, and what would be right."""

    def __init__(self, train: Ratings, held: Ratings) -> None:
        self.users = np.unique(held.user)
        self.seen = train.matrix().toarray()[self.users] > 0
        self.right = held.matrix().toarray()[self.users] > 0
        self.known = self.seen.any(axis=1)

    def top(self, score: Floats) -> NDArray[np.int64]:
        """[users, SIZE] from score [ITEMS] or [USERS, ITEMS], what was seen left out, ties by item."""
        rows = np.broadcast_to(score, (USERS, ITEMS))[self.users]
        return np.argsort(np.where(self.seen, np.inf, -rows), axis=1, kind="stable")[:, :SIZE]

    def figures(self, top: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """NDCG and hit of each user; -1 in `top` is an empty place."""
        hit = np.take_along_axis(self.right, np.maximum(top, 0), axis=1) & (top >= 0)
        discount = 1 / np.log2(np.arange(2, SIZE + 2))
        best = np.cumsum(discount)[np.minimum(self.right.sum(axis=1), SIZE) - 1]
        return (hit * discount).sum(axis=1) / best, hit.any(axis=1).astype(float)


def ease(train: Ratings, strength: float) -> Floats:
    chosen = train.matrix()
    inverse = np.linalg.inv((chosen.T @ chosen).toarray() + strength * np.eye(ITEMS))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    return np.asarray(chosen @ weight)


def als(train: Ratings, factors: int, regularization: float, alpha: float) -> Floats:
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=alpha, iterations=15, random_state=0
    )
    model.fit(train.matrix().astype(np.float32), show_progress=False)
    return np.asarray(model.user_factors @ model.item_factors.T, float)


def baselines(split: str, train: Ratings, held: Ratings) -> dict[str, NDArray[np.int64]]:
    """Name -> what is shown [users, SIZE], each with what was best on the validation slice."""
    slice_, judge = cut(split, train), Judge(train, held)
    check = Judge(*slice_)

    def best(grid: list[Any], score: Callable[[Ratings, Any], Floats]) -> tuple[Any, Floats]:
        found = [float(check.figures(check.top(score(slice_[0], one)))[0].mean()) for one in grid]
        chosen = grid[int(np.argmax(found))]
        return chosen, score(train, chosen)

    half_life, recent = best(HALF_LIVES, lambda part, days: part.popularity(days))

    def personal(make: Callable[..., Floats]) -> Callable[[Ratings, Any], Floats]:
        def score(part: Ratings, value: Any) -> Floats:
            known = np.bincount(part.user, minlength=USERS) > 0
            made = make(part, *value) if isinstance(value, tuple) else make(part, value)
            return np.where(known[:, None], made, part.popularity(half_life))

        return score

    strength, regression = best(EASE_GRID, personal(ease))
    factors, factored = best(ALS_GRID, personal(als))
    return {
        "popularity": judge.top(train.popularity()),
        f"recent popularity, {half_life:g} days": judge.top(recent),
        f"ALS, {factors[0]} factors, {factors[1]:g}": judge.top(factored),
        f"EASE, {strength:g}": judge.top(regression),
    }


def write_world(split: str, source: Path, train: Ratings, folder: Path) -> None:
    """The demo's world over the training part; made-up requests are cut as the split cuts."""
    folder.mkdir()
    for name in ("items", "users"):
        (folder / f"{name}.parquet").write_bytes((source / f"{name}.parquet").read_bytes())
    events = {
        "user_id": [str(user + 1) for user in train.user],
        "item_id": [str(item + 1) for item in train.item],
        "timestamp": train.time.astype(np.int64),
        "rating": train.rating,
    }
    pq.write_table(pa.table(events), folder / "events.parquet")
    text = world_text("ml-100k")
    if split == "user":
        line = next(line for line in text.splitlines() if line.startswith("cutoffs = "))
        text = text.replace(line, "hold_last = 0.2")
    tomllib.loads(text)
    (folder / "world.toml").write_text(text, encoding="utf-8")


@contextlib.contextmanager
def served(folder: Path) -> Iterator[http.client.HTTPConnection]:
    """The service over `folder/snapshots` in a process of its own, stopped in order afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "engine.json"
    config.write_bytes(msgspec.json.encode(engine_config("ml-100k", port)))
    command = [sys.executable, "-m", "pairec_fast", "serve", "--config", str(config)]
    server = subprocess.Popen(command, start_new_session=True)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        for _ in range(600):
            if server.poll() is not None:
                raise SystemExit(f"the service ended with {server.returncode}")
            with contextlib.suppress(OSError):
                connection.request("GET", "/readyz")
                if connection.getresponse().read() is not None:
                    break
            connection.close()
            time.sleep(0.05)
        yield connection
        connection.close()
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(timeout=30)
    if code:
        raise SystemExit(f"the service ended with {code}")


def ask(connection: http.client.HTTPConnection, user: int, size: int) -> list[tuple[int, float]]:
    """(film, score) as served, best first."""
    body = msgspec.json.encode({"uid": str(user + 1), "scene_id": "home_feed", "size": size})
    connection.request("POST", "/api/rec/feed", body)
    reply = msgspec.json.decode(connection.getresponse().read())
    return [(int(item["item_id"]) - 1, item["score"]) for item in reply["items"]]


def run(split: str, source: Path, say: Callable[[str], None]) -> None:
    train, held = cut(split, read(source))
    judge = Judge(train, held)
    say(
        f"\n{split}: {len(train):,} ratings to learn from, {len(held):,} held out of {len(judge.users)} users, "
        f"{judge.known.sum()} of them known"
    )
    with tempfile.TemporaryDirectory(prefix="pairec-movielens-") as scratch:
        folder = Path(scratch)
        write_world(split, source, train, folder / "world")
        begin = time.perf_counter()
        build(folder / "world" / "world.toml", folder / "snapshots", say=say)
        say(f"built in {time.perf_counter() - begin:.0f} s")
        with served(folder) as connection:
            top = np.full((len(judge.users), SIZE), -1)
            for place, user in enumerate(judge.users.tolist()):
                films = [film for film, _ in ask(connection, user, SIZE)]
                top[place, : len(films)] = films
            candidates = [ask(connection, user, 1000) for user in judge.users.tolist()]
    shown = baselines(split, train, held) | {"full line, served": top}
    figures = {name: judge.figures(films) for name, films in shown.items()}
    groups = {"all": np.ones(len(judge.users), bool)}
    if not judge.known.all():
        groups |= {"known users": judge.known, "new users": ~judge.known}
    for group, who in groups.items():
        say(f"\n{f'{group} ({who.sum()})':32}  NDCG@20  HitRate@20  coverage")
        for name, (ndcg, hit) in figures.items():
            coverage = len(np.unique(shown[name][who])) / ITEMS
            say(f"  {name:30}  {ndcg[who].mean():7.4f}  {hit[who].mean():10.4f}  {coverage:8.3f}")
        for name in list(figures)[:-1]:
            say(f"  full line - {name:30} " + _interval(figures["full line, served"][0][who] - figures[name][0][who]))
    _say_auc(judge, candidates, say)


def _interval(difference: Floats) -> str:
    draws = np.random.default_rng(0).integers(0, len(difference), (DRAWS, len(difference)))
    low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
    return f"NDCG@20 {difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def _say_auc(judge: Judge, candidates: list[list[tuple[int, float]]], say: Callable[[str], None]) -> None:
    each, recalled = [], 0
    for right, found in zip(judge.right, candidates, strict=True):
        films, scores = (np.array(part) for part in zip(*found, strict=True))
        recalled += int(right[films].sum())
        each.append(auc(right[films], scores))
    say(
        f"\n{np.mean([len(found) for found in candidates]):.0f} candidates a user hold "
        f"{recalled / judge.right.sum():.3f} of what was held out. AUC of the ranker over a user's own candidates, a "
        f"held-out film against one that is not, mean over users: {np.nanmean(each):.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.movielens", description=__doc__.split("\n")[0])
    parser.add_argument("--split", choices=["user", "global"], help="one of the two only")
    parser.add_argument("--cache", type=Path, help="where the wheel with the data is kept or fetched to")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="implicit")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="pairec-movielens-") as scratch:
        movielens_100k(scratch, source=options.cache)
        for split in [options.split] if options.split else ["user", "global"]:
            run(split, Path(scratch), lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
