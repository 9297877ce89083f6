from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena
from pairec_fast.core.forest import Forest

SIDES: tuple[str, ...]
NEVER: int

class RequestForest:
    forest: Forest
    sides: tuple[str, ...]
    fold_from: int
    def __init__(self, forest: Forest, sides: Sequence[str]) -> None: ...
    @property
    def line_bytes(self) -> int: ...
    def lines(self, values: NDArray[np.float32]) -> NDArray[np.uint8]: ...
    def score(
        self,
        arena: Arena,
        shared: NDArray[np.float32],
        lines: NDArray[np.uint8] | None,
        place: NDArray[np.int32],
        algo: int = 0,
        fold: bool | None = None,
    ) -> None: ...
    def measure(
        self,
        arena: Arena,
        shared: NDArray[np.float32],
        lines: NDArray[np.uint8] | None,
        place: NDArray[np.int32],
        rounds: int = 5,
    ) -> None: ...
