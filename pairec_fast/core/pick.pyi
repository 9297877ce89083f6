from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.arena import Arena

Int32 = NDArray[np.int32]
UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

class Merged:
    def scores(self, place: int) -> list[tuple[int, float]]: ...

class Shares:
    def __init__(self, shares: Iterable[tuple[int, int, int, bool]]) -> None: ...
    def __len__(self) -> int: ...

def item_numbers(arena: Arena) -> Int32: ...
def exposed_slots(arena: Arena, exposed: Int32) -> Int32: ...
def merge(item: Int32, place: Int32, source: UInt8, score: Float64) -> tuple[Int32, Merged]: ...
def adjust_count(count: int, retain: int, *, shuffled: bool = False, seed: int = 0) -> Int32: ...
def completely_fair(source: UInt8, score: Float64, retain: int) -> Int32: ...
def priority(
    source: UInt8, score: Float64, shares: Shares, *, seed: int = 0, codes: Int32 | None = None, least: int = 0
) -> Int32: ...
def priority_of_many(
    source: UInt8,
    score: Float64,
    shares: Shares,
    *,
    seed: int = 0,
    place: Int32 | None = None,
    merged: Merged | None = None,
) -> tuple[Int32, UInt8, Float64]: ...
def snake(
    item: Int32,
    source: UInt8,
    score: Float64,
    shares: Shares,
    retain: int,
    *,
    skips: bool = False,
    place: Int32 | None = None,
    merged: Merged | None = None,
) -> tuple[Int32, UInt8, Float64, Int32, UInt8, Int32, Float64]: ...
def group_weight(
    code: Int32,
    score: Float64,
    retain: int,
    *,
    weight: float,
    least: int = 0,
    most: int = 0,
    softmax: bool = True,
    limits: Iterable[tuple[Int32, int]] = (),
) -> Int32: ...
def diversity_adjust(matches: UInt8, score: Float64, shares: Shares, *, seed: int = 0) -> Int32: ...
def unique_codes(code: Int32) -> Int32: ...
