import os
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LENGTH_MAX: float

class SearchScratch:
    count_max: int
    pool_max: int
    dim_max: int
    def __init__(self, count_max: int, pool_max: int, dim_max: int = 1) -> None: ...

class VectorIndex:
    path: str
    count: int
    dim: int
    width: int
    effort: int
    @staticmethod
    def build(
        vectors: NDArray[np.float32],
        path: str | os.PathLike[str],
        metric: Literal["ip", "cosine", "l2"] = "ip",
        kind: Literal["auto", "flat", "hnsw"] = "auto",
        k: int = 500,
        recall: float = 0.95,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> None: ...
    @staticmethod
    def load(path: str | os.PathLike[str], verify: bool = True) -> VectorIndex: ...
    def search(
        self,
        query: NDArray[np.float32],
        k: int = 500,
        effort: int | None = None,
        allow: NDArray[np.bool_] | NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
    def vector(self, row: int) -> NDArray[np.float32]: ...
    def __len__(self) -> int: ...
    @property
    def metric(self) -> Literal["ip", "cosine", "l2"]: ...
    @property
    def kind(self) -> Literal["flat", "hnsw"]: ...
    @property
    def recall_reached(self) -> float: ...

def prepared(vectors: NDArray[np.float32], normalise: bool, width: int) -> NDArray[np.float32]: ...
