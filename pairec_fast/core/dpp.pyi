import numpy as np
from numpy.typing import NDArray

class Dpp:
    normalise: bool
    positive: bool
    def __init__(self, *, normalise: bool = True, positive: bool = True) -> None: ...
    def choose(
        self,
        vectors: NDArray[np.float32],
        rows: NDArray[np.int32],
        relevance: NDArray[np.float64],
        *,
        alpha: float,
        size: int,
        window: int,
        missing_max: float = 0.5,
        seed: int = 0,
    ) -> NDArray[np.int32] | None: ...
