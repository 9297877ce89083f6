from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

def top_k(arena: Arena, size: int) -> None: ...
def in_order(arena: Arena) -> None: ...
def order_by(arena: Arena, key: NDArray[np.float64], *, descending: bool = True, size: int = 0x7FFFFFFF) -> None: ...
def order_by_score(arena: Arena, size: int = 0x7FFFFFFF) -> None: ...
def set_order(arena: Arena, slots: NDArray[np.int32]) -> None: ...

class ValueLists:
    count: int
    def __init__(self, offset: NDArray[np.int32], value: NDArray[np.int32]) -> None: ...

class DiversityRules:
    def __init__(
        self,
        rules: list[tuple[int, int, int, float]],
        apart: Iterable[int] = (),
        explore: int = 0,
        by_row: Iterable[NDArray[np.int32]] | None = None,
    ) -> None: ...
    def apply(
        self,
        arena: Arena,
        size: int,
        values: list[tuple[NDArray[np.int32] | None, list[tuple[NDArray[np.int32], ValueLists]]]] | None = None,
        exclusions: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] | None = None,
    ) -> None: ...

def mix(
    arena: Arena,
    rules: list[tuple[NDArray[np.uint8], int, bool, NDArray[np.int32], NDArray[np.int32] | None]],
    size: int,
    *,
    remain: bool = False,
    seed: int = 0,
) -> None: ...
