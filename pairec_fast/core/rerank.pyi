from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

def top_k(arena: Arena, size: int) -> None: ...
def in_order(arena: Arena) -> None: ...

class DiversityRules:
    def __init__(
        self,
        rules: list[tuple[NDArray[np.int32], int, int, int, float]],
        apart: Iterable[int] = (),
        explore: int = 0,
    ) -> None: ...
    def apply(self, arena: Arena, size: int) -> None: ...
