"""What a user would build instead: an index, a feature matrix, a model and a rule, in Python that loops over nothing.

Written as somebody would who knows these libraries well and must be fast on one core:

    recall    one index, at the least effort that reaches the recall asked for; hnswlib over `augmented` vectors, for
              its graph of raw inner products finds too little; users' vectors stand ready as each library takes them
    features  one matrix of float64, made once, which LightGBM reads as it lies; items' values are a row-major table,
              so that a candidate is one run of memory, and what user and category have together is worked out
              beforehand: a request gathers, and computes nothing but the inner products
    forest    `Booster.predict` on one thread; or lleaves, compiled to machine code
    rerank    a stable sort and a walk over the best until twenty stand: Python lists, where NumPy would be slower
    answer    dicts for orjson; item ids are a list of text, and what was loaded is out of the collector's sight

Nothing is told in metrics or logs, nothing is checked, nothing is reloaded.
"""

from __future__ import annotations

import gc
import json
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers import recall, world
from bench.recall.contender import Search
from bench.recall.sets import Say

Predict = Callable[[NDArray[np.float64]], NDArray[np.float64]]
MISSING = float("nan")


class Stack:
    """`recommend` answers as `/api/rec/feed` does. `search` and `queries` are a contender's of bench.recall."""

    def __init__(self, folder: Path, search: Search, queries: Sequence[Any], predict: Predict) -> None:
        self._search, self._queries, self._predict = search, queries, predict
        self.users = {uid: row for row, uid in enumerate(_lines(folder / "users.txt"))}
        self._ids = _lines(folder / "items.txt")
        self._vectors, self._rows = _array(folder, "vectors"), _array(folder, "vectors.rows")
        self._of_user, self._of_item = _array(folder, "user"), _array(folder, "item")
        self._user_vectors, self._by_category = _array(folder, "users"), _array(folder, "by_category")
        self._category, self._brand = _array(folder, "category"), _array(folder, "brand")
        genders = _array(folder, "gender")
        self._gender_brand = _array(folder, "gender_brand")
        self._gender = genders.tolist()
        asked = json.loads((folder / "context.json").read_text())
        self._asked = [
            (name, one["place"], {text: float(code) for code, text in enumerate(one["categories"] or [])})
            for name, one in asked.items()
        ]
        # Places in the matrix: items', then users' around what the request brings, then those of both.
        items, crosses = self._of_item.shape[1], self._by_category.shape[2]
        self._items, width = items, len(world.SOURCES)
        among = {place for _, place, _ in self._asked}
        self._user_places = np.array([at for at in range(items, width - crosses - 2) if at not in among])
        self._crosses = slice(width - crosses - 2, width - 2)
        self._matrix = np.empty((world.CANDIDATES, width))
        gc.collect()
        gc.freeze()  # a million texts need not be walked again and again while people wait

    def recommend(self, request: dict[str, Any]) -> dict[str, Any]:
        user = self.users[request["uid"]]
        found = self._search(self._queries[user])
        rows = self._rows[found]
        score = self._predict(self.features(user, found, rows, request.get("features", {})))
        order = (-score).argsort(kind="stable").tolist()
        chosen = spread(order, self._category[rows].tolist(), request["size"])
        ids = self._ids
        items = [
            {"item_id": ids[row], "score": value, "retrieve_id": "vectors"}
            for row, value in zip(rows[chosen].tolist(), score[chosen].tolist(), strict=True)
        ]
        return {
            "code": 200, "msg": "success", "request_id": request.get("request_id") or str(uuid.uuid4()),
            "size": len(items), "experiment_id": "", "items": items,
        }  # fmt: skip

    def candidates(self, user: int) -> NDArray[np.int32]:
        """Item rows, nearest first."""
        rows: NDArray[np.int32] = self._rows[self._search(self._queries[user])]
        return rows

    def features(
        self, user: int, found: NDArray[Any], rows: NDArray[np.int32], context: dict[str, Any]
    ) -> NDArray[np.float64]:
        """[rows, features] float64: a part of the one matrix, which the next request overwrites.

        `found` are places among the vectors, `rows` those items' rows.
        """
        matrix = self._matrix[: len(rows)]
        matrix[:, : self._items] = self._of_item[rows]
        matrix[:, self._user_places] = self._of_user[user]
        for name, place, codes in self._asked:
            value = context.get(name, MISSING)
            matrix[:, place] = codes.get(value, MISSING) if codes else value
        matrix[:, self._crosses] = self._by_category[user][self._category[rows]]
        matrix[:, -2] = self._gender_brand[self._gender[user]][self._brand[rows]]
        matrix[:, -1] = self._vectors[found] @ self._user_vectors[user]
        return matrix


def spread(order: list[int], category: list[int], size: int) -> list[int]:
    """The first `size` of `order`, the next always the first that is no fourth of its category among five.

    Where none is, the first of those that are left.
    """
    waiting: list[int] = []  # passed over, in order
    placed: list[int] = []
    kinds: list[int] = []
    begin = 0
    while len(placed) < min(size, len(order)):
        near = kinds[-(world.WINDOW - 1) :]
        for place, slot in enumerate(waiting):
            if near.count(category[slot]) < world.WINDOW_MOST:
                slot = waiting.pop(place)
                break
        else:
            while begin < len(order):
                slot = order[begin]
                begin += 1
                if near.count(category[slot]) < world.WINDOW_MOST:
                    break
                waiting.append(slot)
            else:
                slot = waiting.pop(0)
        placed.append(slot)
        kinds.append(category[slot])
    return placed


def lightgbm(folder: Path) -> Predict:
    from lightgbm import Booster

    booster = Booster(model_file=folder / "model.txt")
    return lambda matrix: booster.predict(matrix, raw_score=True, num_threads=1)


def lleaves(folder: Path) -> Predict:
    """Compiled once, for minutes; kept beside the model."""
    import lleaves

    model = lleaves.Model(model_file=str(folder / "model.txt"))
    model.compile(cache=str(folder / "model.lleaves"), raw_score=True)
    return lambda matrix: model.predict(matrix, n_jobs=1)


FORESTS = {"a": lightgbm, "b": lleaves}


def stack_of(name: str, folder: Path, say: Say) -> Stack:
    """One of `recall.STACKS`: the fastest of its indexes, and its forest.

    Raises:
        ImportError: what it is made of is not installed.
    """
    found = recall.chosen(folder, recall.STACKS[name], say)
    if not found:
        raise ImportError(f"none of {', '.join(recall.STACKS[name])} is installed and finds {world.RECALL:.0%}")
    return Stack(folder, *recall.opened(folder, found[0], say), FORESTS[name](folder))


def _array(folder: Path, name: str) -> Any:
    return np.load(folder / f"{name}.npy")


def _lines(file: Path) -> list[str]:
    return file.read_text().split("\n")
