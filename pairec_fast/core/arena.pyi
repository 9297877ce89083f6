import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.overlay import Overlay

class Arena:
    row: NDArray[np.int32]
    source: NDArray[np.uint8]
    place: NDArray[np.int32]
    recall_score: NDArray[np.float64]
    keep: NDArray[np.uint8]
    features: NDArray[np.float32]
    algo_score: NDArray[np.float64]
    score: NDArray[np.float64]
    order: NDArray[np.int32]
    bytes: int
    count: int
    scored: bool
    def __init__(self, candidates_max: int, *, items_max: int = 1, width: int = 1, algos: int = 1) -> None: ...
    @property
    def repeats(self) -> bool: ...
    @property
    def candidates_max(self) -> int: ...
    @property
    def items_max(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def algos(self) -> int: ...
    @property
    def order_count(self) -> int: ...
    def reset(self, repeats: bool = False) -> None: ...
    def begin_scores(self) -> None: ...
    def follow(self, overlay: Overlay) -> None: ...
