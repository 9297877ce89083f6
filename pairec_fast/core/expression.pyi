from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

STACK_MAX: int
INPUTS_MAX: int

class Program:
    columns: tuple[NDArray[Any], ...]
    def __init__(
        self,
        ops: Sequence[tuple[str, int]],
        constants: Sequence[float] = (),
        columns: Sequence[NDArray[Any]] = (),
    ) -> None: ...
    def evaluate(self, arena: Arena) -> None: ...
    def evaluate_columns(self, columns: Sequence[NDArray[np.float64]], out: NDArray[np.float64]) -> None: ...
