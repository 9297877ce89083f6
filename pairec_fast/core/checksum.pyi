from typing import Any

from numpy.typing import NDArray

def crc32c(data: bytes | bytearray | memoryview | NDArray[Any], seed: int = 0) -> int: ...
