import os

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

class Forest:
    feature_names: list[str]
    categorical: list[bool]
    objective: str
    @staticmethod
    def load(path: str | os.PathLike[str]) -> Forest: ...
    @staticmethod
    def parse(text: str | bytes) -> Forest: ...
    @property
    def width(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def trees(self) -> int: ...
    @property
    def average(self) -> bool: ...
    def predict(
        self, X: NDArray[np.float64] | NDArray[np.float32], out: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]: ...
    def score(self, arena: Arena, algo: int = 0) -> None: ...
