import numpy as np
from numpy.typing import NDArray

def map_of_doubles(
    message: bytes, field: int
) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.int64], bytes] | None: ...
