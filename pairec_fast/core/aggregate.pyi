from typing import Any

import numpy as np
from numpy.typing import NDArray

def aggregate(
    keys: NDArray[Any],
    times: NDArray[Any],
    values: NDArray[Any],
    at_keys: NDArray[Any],
    at_times: NDArray[Any],
    *,
    window: float = 0.0,
    half_life: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
