import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena
from pairec_fast.core.index import VectorIndex
from pairec_fast.core.index_filter import Filter

def add(
    arena: Arena,
    rows: NDArray[np.int32],
    scores: NDArray[np.float32] | NDArray[np.float64],
    source: int,
    k: int = 0x7FFFFFFF,
) -> int: ...
def merge(
    arena: Arena, rows: NDArray[np.int32], weights: NDArray[np.float64], k: int, *, largest: bool = False
) -> tuple[NDArray[np.int32], NDArray[np.float64]]: ...
def in_turn(arena: Arena, rows: NDArray[np.int32], offset: NDArray[np.int64], k: int) -> NDArray[np.int32]: ...

class Neighbours:
    offset: NDArray[np.int64]
    neighbour: NDArray[np.int32]
    weight: NDArray[np.float32]
    items: int
    def __init__(
        self, offset: NDArray[np.int64], neighbour: NDArray[np.int32], weight: NDArray[np.float32]
    ) -> None: ...
    def add_similar(
        self, arena: Arena, history: NDArray[np.int32], k: int, source: int, *, normalize: bool = False
    ) -> int: ...

def nearest(
    arena: Arena,
    index: VectorIndex,
    rows: NDArray[np.int32],
    query: NDArray[np.float32],
    k: int,
    effort: int,
    source: int,
    *,
    allow: Filter | None = None,
    deny: NDArray[np.int32] | None = None,
    adaptive: bool = False,
) -> int: ...
