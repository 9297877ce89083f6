import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

def join(into: Arena, other: Arena) -> NDArray[np.int32]: ...
