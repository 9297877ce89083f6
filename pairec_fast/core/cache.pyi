from collections.abc import Callable, Container, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

class Cache(Generic[T]):
    seconds: float
    entries_max: int
    def __init__(self, seconds: float, entries_max: int = ..., clock: Callable[[], float] = ...) -> None: ...
    def __len__(self) -> int: ...
    def get(self, key: str) -> T | None: ...
    def put(self, key: str, value: T, seconds: float | None = None) -> None: ...
    def forget(self, key: str) -> None: ...
    def get_many(self, keys: Iterable[str]) -> tuple[list[Any], list[int], list[str]]: ...
    def fill(
        self,
        values: list[Any],
        places: list[int],
        keys: Iterable[str],
        came: Iterable[T],
        *,
        but: Container[int] = (),
        nothing: bool = True,
    ) -> None: ...
