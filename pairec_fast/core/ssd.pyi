import numpy as np
from numpy.typing import NDArray

class Ssd:
    normalise: bool
    positive: bool
    star: bool
    def __init__(self, *, normalise: bool = True, positive: bool = True, star: bool = False) -> None: ...
    def choose(
        self,
        vectors: NDArray[np.float32],
        rows: NDArray[np.int32],
        quality: NDArray[np.float64],
        *,
        gamma: float,
        size: int,
        window: int,
        missing_max: float = 0.5,
        seed: int = 0,
    ) -> NDArray[np.int32] | None: ...
