from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena
from pairec_fast.core.idmap import IdMap

Vocabulary = tuple[NDArray[np.uint8], NDArray[np.uint64]]

class Shown:
    scene: str
    fingerprint: str
    outputs: int
    def __init__(
        self,
        scene: str,
        fingerprint: str,
        ids: IdMap,
        columns: dict[str, tuple[NDArray[Any], Vocabulary | None]],
        outputs: Sequence[str],
    ) -> None: ...
    def items(self, arena: Arena, positions: Sequence[int]) -> ShownItems: ...

class ShownItems:
    rows: NDArray[np.int32]
    algo_scores: NDArray[np.float64]
    def record(self, request_id: str, uid: str, features: bytes, experiment_id: str, time: int) -> bytes | None: ...
