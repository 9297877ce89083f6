from os import PathLike
from typing import Any

def repair_segments(directory: str | PathLike[str], sink: str = "log") -> list[dict[str, Any]]: ...
