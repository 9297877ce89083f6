import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

def drop_exposed(arena: Arena, exposed: NDArray[np.int32]) -> int: ...
def keep_allowed(arena: Arena, allowed: NDArray[np.uint8]) -> int: ...
