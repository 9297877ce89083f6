"""The forests that `bench_forest` measures, and the rows they score: seeded ones of a shop's kind, or served ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Forest, RequestForest
from pairec_fast.query import Query
from pairec_fast.scene import prepare

Rows = NDArray[np.float64]

# What a ranker reads: of user and context, of the item, of both. Wider tables begin again, narrower ones stop early.
LAYOUT = "u" * 25 + "i" * 25 + "x" * 10
CATEGORIES = {0: 40, 1: 8, 25: 150, 26: 250, 27: 12}  # place in the layout: how many
TRAINING_ROWS, POOL_ROWS = 120_000, 10_000
ITEMS, CANDIDATES, REQUESTS = 1_000_000, 500, 40
PARAMS = {"objective": "binary", "seed": 0, "deterministic": True, "force_row_wise": True, "verbose": -1}
# With LightGBM's defaults more than half of all splits are by category here, with these one in twenty.
SPARING = {"max_cat_threshold": 8, "cat_smooth": 200, "cat_l2": 200, "min_data_per_group": 1000}


class Request(NamedTuple):
    """`score()` scores a request as it is served; `matrix` is what LightGBM would be given for it."""

    score: Callable[[], Rows]
    matrix: Rows


class Case:
    """A model's file, LightGBM and ours of it, and a pool of rows; calls take fresh ones out of it, in turn."""

    def __init__(self, name: str, file: Path, pool: Rows, requests: Sequence[Request] = ()) -> None:
        self.name, self.file, self.pool, self.requests = name, file, pool, requests
        self.booster = lgb.Booster(model_file=file)
        self.forest = Forest.load(file)
        self.compiled = file.with_suffix(".forest")
        self.forest.save(self.compiled)
        self.trees = self.forest.trees
        self.leaves = max(tree["num_leaves"] for tree in self.booster.dump_model()["tree_info"])

    def lightgbm(self, X: Rows) -> Rows:
        return np.asarray(self.booster.predict(X, raw_score=True, num_threads=1))

    def blocks(self, rows: int, dtype: Any = np.float64, order: Any = "C") -> list[NDArray[Any]]:
        """The pool in parts of `rows`, 4,096 at most: more than a branch predictor learns by heart."""
        begins = range(0, len(self.pool) - rows + 1, rows)[:4096]
        return [np.array(self.pool[begin : begin + rows], dtype, order=order) for begin in begins]

    def differing(self) -> tuple[int, int]:
        """How many of our scores are not LightGBM's bit for bit, of how many: in blocks of 1, 50, 500 and all rows."""
        single = self.pool.astype(np.float32)
        differ = of = 0
        for X, ours in ((self.pool, self.pool), (single.astype(np.float64), np.asfortranarray(single))):
            expected = self.lightgbm(X)
            for rows in (1, 50, 500, len(X)):
                scores = np.concatenate(
                    [self.forest.predict(ours[begin : begin + rows]) for begin in range(0, len(X), rows)]
                )
                differ += int(np.count_nonzero(scores.view(np.uint64) != expected.view(np.uint64)))
                of += scores.size
        for request in self.requests:
            expected = self.lightgbm(request.matrix)
            differ += int(np.count_nonzero(request.score().view(np.uint64) != expected.view(np.uint64)))
            of += expected.size
        return differ, of

    def __str__(self) -> str:
        width = self.forest.width
        return f"{self.name}: {self.trees:,} trees of {self.leaves} leaves, {width} features"


def seeded(name: str, trees: int, leaves: int, cache: Path, width: int = 60) -> Case:
    """A case of that size; the model is trained unless `cache` has it."""
    file = cache / f"forest-{trees}x{leaves}x{width}.txt"
    if not file.exists():
        partial = file.with_suffix(".partial")
        train(trees, leaves, width).save_model(partial)
        partial.replace(file)
    return Case(name, file, table(POOL_ROWS, 2, width))


def made_up(forest: Forest, table: Rows, items: int = ITEMS) -> list[Request]:
    """Requests of another user and CANDIDATES of `items` each, at random; all values are those of the pool."""
    rng, pool = np.random.default_rng(3), table.astype(np.float32)
    sides = [{"u": "shared", "i": "item", "x": "cross"}[name[0]] for name in forest.feature_names]
    item, cross = ([place for place, side in enumerate(sides) if side == one] for one in ("item", "cross"))
    request = RequestForest(forest, sides)
    row_of = rng.integers(0, len(pool), items)
    lines = request.lines(pool[:, item])[row_of]
    place = np.arange(forest.width, dtype=np.int32)
    requests = []
    for _ in range(REQUESTS):
        shared, rows = pool[rng.integers(len(pool))], rng.integers(0, items, CANDIDATES).astype(np.int32)
        matrix = np.tile(shared, (CANDIDATES, 1))
        matrix[:, item] = pool[row_of[rows]][:, item]
        matrix[:, cross] = pool[rng.integers(0, len(pool), CANDIDATES)][:, cross]
        arena = Arena(CANDIDATES, items_max=items, width=forest.width)
        arena.count = CANDIDATES
        arena.row[:] = rows
        arena.features[:, cross] = matrix[:, cross]

        def score(arena: Arena = arena, shared: Any = shared) -> Rows:
            request.score(arena, shared, lines, place)
            return arena.algo_score[0]

        requests.append(Request(score, matrix.astype(np.float64)))
    request.measure(arena, shared, lines, place)
    return requests


def served(config: str | Path, scratch: Path) -> Case:
    """The first model of an engine's snapshot, copied to `scratch`, and the candidates the line would have it score."""
    configured, live, scenes = prepare(config)
    snapshot = live.snapshot
    limits = configured.limit_conf
    scene = next(iter(scenes.values()))
    model = scene.score.models[0].model
    users, requests, missing = snapshot.users.ids, [], POOL_ROWS
    for user in np.random.default_rng(0).permutation(len(users)).tolist():
        if missing <= 0:
            break
        arena = Arena(
            limits.candidates_max, items_max=len(snapshot.items), width=scene.score.width,
            algos=len(scene.score.outputs),
        )  # fmt: skip
        query = Query(snapshot, users.id(user), 20, {}, history_max=limits.history_max)
        for stage in [*scene.recalls, *scene.filters, scene.score.features]:
            stage(query, arena)

        def score(query: Query = query, arena: Arena = arena) -> Rows:
            scene.score.features(query, arena)
            scene.score.score(query, arena)
            return arena.algo_score[0, : arena.count]

        if arena.count:
            requests.append(Request(score, next(scene.score.matrices(query, arena))[1].astype(np.float64)))
        missing -= arena.count
    file = shutil.copy(snapshot.directory / f"{model}.txt", scratch)  # peers leave files beside it
    return Case(model, Path(file), np.concatenate([request.matrix for request in requests]), requests)


def names(width: int = 60) -> list[str]:
    """u0, u1, ... i0, ... x0, ...: a feature's side, and its number there."""
    sides = [LAYOUT[column % 60] for column in range(width)]
    return [f"{side}{sides[:column].count(side)}" for column, side in enumerate(sides)]


def categorical(width: int = 60) -> list[int]:
    return [column for column in range(width) if column % 60 in CATEGORIES]


def table(rows: int, seed: int, width: int = 60) -> Rows:
    """A quarter of the columns lack a third of their values, a quarter are mostly zero, a few hold categories."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, width))
    for column in range(width):
        if column % 60 in CATEGORIES:  # some are frequent, most are not
            X[:, column] = np.floor(CATEGORIES[column % 60] * rng.random(rows) ** 2)
        elif column % 4 == 2:
            X[rng.random(rows) < 0.3, column] = np.nan
        elif column % 4 == 3:
            X[rng.random(rows) < 0.7, column] = 0
    return X


def label(X: Rows) -> NDArray[np.bool_]:
    """Chosen or not: by every column, by pairs of them, by category. Deep enough for a thousand trees to learn on."""
    rng = np.random.default_rng(1)
    rows, width = X.shape
    liking, numbers = rng.normal(size=rows), np.nan_to_num(X, nan=-0.5)
    for column in categorical(width):
        liking += 0.3 * rng.normal(size=250)[X[:, column].astype(int)]
        numbers[:, column] = 0
    one, other = rng.permutation(width), rng.permutation(width)
    for effect in (numbers, numbers[:, one] * numbers[:, other], np.sin(3 * numbers)):
        liking += effect @ (0.3 * rng.normal(size=width))
    return np.asarray(liking > np.quantile(liking, 0.7))


def train(
    trees: int, leaves: int, width: int = 60, *, rows: int = TRAINING_ROWS, by_category: dict[str, Any] | None = SPARING
) -> lgb.Booster:
    """`by_category`: LightGBM's parameters of such splits; None: every feature is a number."""
    X = table(rows, 0, width)
    columns = [] if by_category is None else categorical(width)
    data = lgb.Dataset(X, label(X), feature_name=names(width), categorical_feature=columns)
    return lgb.train(PARAMS | {"num_leaves": leaves} | (by_category or {}), data, trees)
