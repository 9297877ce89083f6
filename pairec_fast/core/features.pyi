from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena
from pairec_fast.core.recall import Neighbours

class Cross:
    @staticmethod
    def dot(users: NDArray[np.float32], items: NDArray[np.float32]) -> Cross: ...
    @staticmethod
    def cell(
        values: NDArray[np.float32], user_group: NDArray[np.int32] | None, item_group: NDArray[np.int32] | None
    ) -> Cross: ...
    @staticmethod
    def similarity(table: Neighbours, newest: int = 0) -> Cross: ...
    def pairs(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]: ...
    def histories(
        self,
        arena: Arena,
        offset: NDArray[np.int64],
        history: NDArray[np.int32],
        group: NDArray[np.int32],
        items: NDArray[np.int32],
    ) -> NDArray[np.float32]: ...

class Crosses:
    def __init__(self, cross: list[tuple[int, Cross]]) -> None: ...
    def fill(self, arena: Arena, user: int, history: NDArray[np.int32]) -> None: ...
