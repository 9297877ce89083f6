import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.index_filter import Filter, Lists

LENGTH_MAX: float

Mode = Literal["budget", "recall"]
Mask = NDArray[np.bool_] | NDArray[np.uint8]

class VectorIndex:
    path: str
    metric: Literal["ip", "cosine", "l2"]
    kind: Literal["flat", "hnsw", "partition"]
    recall_reached: float
    count: int
    dim: int
    width: int
    effort: int
    @staticmethod
    def build(
        vectors: NDArray[np.float32],
        path: str | os.PathLike[str],
        metric: Literal["ip", "cosine", "l2"] = "ip",
        kind: Literal["auto", "flat", "hnsw", "partition"] = "auto",
        k: int = 500,
        recall: float = 0.95,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
        *,
        progress: Callable[[int, int], object] | None = None,
        graph: str | os.PathLike[str] | None = None,
    ) -> dict[str, float]: ...
    @staticmethod
    def load(path: str | os.PathLike[str], verify: bool = True, *, spare: int = 0) -> VectorIndex: ...
    def search(
        self,
        query: NDArray[np.float32],
        k: int = 500,
        effort: int | None = None,
        allow: Mask | NDArray[np.int32] | Filter | None = None,
        deny: NDArray[np.int32] | None = None,
        mode: Mode = "budget",
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def strategy(
        self,
        query: NDArray[np.float32],
        k: int = 500,
        effort: int | None = None,
        allow: Mask | NDArray[np.int32] | Filter | None = None,
        deny: NDArray[np.int32] | None = None,
        mode: Mode = "budget",
    ) -> Literal["none", "scan", "list", "partitions", "walk", "excerpt"]: ...
    def _search(
        self,
        query: NDArray[np.float32],
        k: int,
        effort: int | None,
        allow: Mask | NDArray[np.int32] | Filter | None,
        deny: NDArray[np.int32] | None,
        mode: str = "budget",
        **knobs: float,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], str]: ...
    def filter(self, allow: Mask | NDArray[np.int32]) -> Filter: ...
    def lists(self, values: NDArray[Any], first: NDArray[np.int64], places: NDArray[np.int32]) -> Lists: ...
    def grouped(self, rows: NDArray[np.int32], values: NDArray[Any]) -> Lists: ...
    def append(self, vector: NDArray[np.float32]) -> int: ...
    def remove(self, row: int) -> None: ...
    def vector(self, row: int) -> NDArray[np.float32]: ...
    def __len__(self) -> int: ...

def prepared(vectors: NDArray[np.float32], normalise: bool, width: int) -> NDArray[np.float32]: ...
