from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.idmap import IdMap

class Entries:
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    def __init__(
        self,
        text: str,
        *,
        separator: str = ",",
        most: int = 1 << 20,
        colons: int = -1,
        skip_null: bool = False,
        number: Callable[[str], float] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...
    def id(self, at: int) -> str: ...
    def rows(self, ids: IdMap) -> NDArray[np.int32]: ...
    def labels(self, most: int = 255) -> tuple[NDArray[np.int32], list[str]]: ...
